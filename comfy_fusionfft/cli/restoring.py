"""``fusionfft restore``."""

from __future__ import annotations

import argparse
import time
from typing import Any

from ..contract import Ends
from ..engine import Room
from ..families.ftvsr.model import BLEND, CHUNK, CONTEXT
from ..files import restore_file
from .clips import cut_numbers
from .shared import defaults, device_options, output_options, plain_host, resume_option, say, tile_side


def add_restore(parser: argparse.ArgumentParser) -> None:
    parser.set_defaults(run=_restore)
    default = defaults(restore_file)
    parser.add_argument("source", metavar="IN", help="video file, image folder or single image")
    parser.add_argument("target", metavar="OUT", help="video file; without a suffix a folder of 0000000.png …")
    parser.add_argument(
        "--weights", required=True, metavar="FILE", help="of a restoring network (`fusionfft weights list`)"
    )
    parser.add_argument(
        "--tile",
        type=tile_side,
        default=default["tile"],
        metavar="PX",
        help="work on overlapping squares of this side; none: on whole pictures (default: auto, as memory demands)",
    )
    network_options(parser)
    parser.add_argument(
        "--cuts",
        type=cut_numbers,
        default=default["cuts"],
        metavar="I,…",
        help="auto (default), none, or frames that begin a new shot: 120,345; nothing is looked up across them",
    )
    output_options(parser)
    parser.add_argument("--audio", choices=("keep", "drop"), default=default["audio"], help="(default: keep)")
    resume_option(parser)
    device_options(parser)


ENDS: tuple[Ends, ...] = ("replicate", "reflect")
OWN = ("ends", "chunk", "context", "blend", "padding")
"""Settings that only some networks have."""


def network_options(parser: argparse.ArgumentParser) -> None:
    """``OWN``."""
    parser.add_argument(
        "--ends",
        choices=ENDS,
        help="what is seen beyond the ends of a shot: the frame there again (default), or the frames mirrored there",
    )
    group = parser.add_argument_group("ftvsr")
    group.add_argument("--chunk", type=int, metavar="N", help=f"frames that help each other (default: {CHUNK})")
    group.add_argument(
        "--context", type=int, metavar="N", help=f"further ones on each side, not shown (default: {CONTEXT})"
    )
    group.add_argument(
        "--blend", type=int, metavar="N", help=f"frames mixed with those of the next chunk (default: {BLEND})"
    )
    group.add_argument(
        "--padding", choices=("replicate", "reference"), help="to whole patches (default), or as published"
    )


def network_settings(options: argparse.Namespace) -> dict[str, Any]:
    """Those of ``OWN`` that were given."""
    return {name: getattr(options, name) for name in OWN if getattr(options, name) is not None}


def _restore(options: argparse.Namespace) -> int:
    settings = {name: getattr(options, name) for name in defaults(restore_file) if hasattr(options, name)}
    settings |= {"weights": options.weights, **network_settings(options)}
    start = time.monotonic()
    with plain_host(options) as host:
        written = restore_file(options.source, options.target, host=host, on_room=_say_room, **settings)
    for note in written.notes:
        say(f"note: {note}")
    took = time.monotonic() - start
    say(f"wrote {written.path}: {written.frames} frames in {took:.1f} s ({written.frames / max(took, 1e-9):.2f} fps)")
    return 0


def _say_room(room: Room) -> None:
    say(f"working on {room}")
