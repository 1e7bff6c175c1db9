"""``fusionfft interpolate`` and ``fusionfft evaluate``."""

from __future__ import annotations

import argparse
import time
from fractions import Fraction
from pathlib import Path

from .. import api
from ..evaluate import evaluate
from .shared import defaults, device_options, flow_options, integers, plain_host, say, words


def add_interpolate(parser: argparse.ArgumentParser) -> None:
    parser.set_defaults(run=_interpolate)
    default = defaults(api.interpolate)
    parser.add_argument("input", metavar="IN", help="video file, image folder or single image")
    parser.add_argument("output", metavar="OUT", help="video file; without a suffix a folder of 0000000.png …")
    pace = parser.add_mutually_exclusive_group()
    pace.add_argument("--multi", type=int, metavar="N", help="N-1 new frames between each pair (default: 2)")
    pace.add_argument("--fps", metavar="R", help="output rate instead, such as 60 or 60000/1001")
    pace.add_argument("--times", metavar="T,…", type=_times, help="these instants only, in source frames: 0.5,3/4,7")
    parser.add_argument("--flow", default=default["flow"], help="auto, dis, rife or a safetensors file (default: auto)")
    parser.add_argument("--method", default=default["method"], choices=api.METHODS, help="(default: auto)")
    flow_options(parser, default)
    parser.add_argument("--history", type=int, default=default["history"], help="recursive: enclosing pairs averaged")
    parser.add_argument("--decay", type=float, default=default["decay"], help="recursive: weight exp(-decay) per level")
    parser.add_argument("--rate", metavar="R", help="frame rate of an image folder (default: 24)")
    parser.add_argument("--codec", help="h264, hevc, av1, vp9, prores, ffv1; for folders png, tiff, jpg, webp, exr")
    parser.add_argument(
        "--quality", type=int, help="the codec's own scale: CRF for h264, hevc, av1, vp9; 0-100 for jpg, webp"
    )
    parser.add_argument(
        "--overwrite", action="store_true", help="replace OUT if it exists, once the new one is complete"
    )
    device_options(parser)


def _interpolate(options: argparse.Namespace) -> int:
    names = ("multi", "fps", "times", "flow", "method", "scale", "uhd", "ensemble", "history", "decay")
    names += ("rate", "codec", "quality", "overwrite")
    start = time.monotonic()
    with plain_host(options) as host:
        written = api.interpolate_file(
            options.input, options.output, host=host, **{name: getattr(options, name) for name in names}
        )
    for note in written.notes:
        say(f"note: {note}")
    took = time.monotonic() - start
    say(f"wrote {written.path}: {written.frames} frames in {took:.1f} s ({written.frames / max(took, 1e-9):.2f} fps)")
    return 0


def _times(text: str) -> list[Fraction]:
    try:
        return [Fraction(part.strip()) for part in text.split(",")]
    except (ValueError, ZeroDivisionError):
        raise argparse.ArgumentTypeError(f"{text!r} is not a list of numbers such as 0.5,3/4,7") from None


def add_evaluate(parser: argparse.ArgumentParser) -> None:
    parser.set_defaults(run=_evaluate)
    default = defaults(evaluate)
    parser.add_argument("--clips", required=True, metavar="DIR", help="videos and frame folders")
    parser.add_argument(
        "--drops", type=integers, default=default["drops"], help="keep one of so many frames (default: 2,4)"
    )
    parser.add_argument(
        "--instants", type=int, default=default["instants"], help="frames scored per clip, 0 = all (default: 6)"
    )
    parser.add_argument(
        "--longest-side", type=int, default=default["longest_side"], help="pixels frames are reduced to (default: 720)"
    )
    parser.add_argument("--flows", type=words, default=default["flows"], help="flow sources, by comma (default: auto)")
    parser.add_argument("--methods", type=words, default=default["methods"], help=f"by comma: {', '.join(api.METHODS)}")
    parser.add_argument(
        "--teacher", metavar="FILE", help="weights of the teacher network, measured with plain splatting"
    )
    parser.add_argument("--json", metavar="FILE", help="write all rows here")
    parser.add_argument("--sheets", metavar="DIR", help="write a PNG per clip: truth, ours, baseline, errors")
    device_options(parser)


def _evaluate(options: argparse.Namespace) -> int:
    names = ("drops", "instants", "longest_side", "flows", "methods", "teacher", "sheets")

    def show(done: int, total: int, clip: str) -> None:
        if clip and not options.quiet:
            say(f"clip {done + 1} of {total}: {clip}")

    with plain_host(options, bar=False) as host:
        report = evaluate(options.clips, host=host, progress=show, **{name: getattr(options, name) for name in names})
    print(report)
    if options.json:
        Path(options.json).write_text(report.to_json(), encoding="utf-8")
    return 0
