"""``fusionfft evaluate-restore``."""

from __future__ import annotations

import argparse
from pathlib import Path

from ..evaluate.restoration import evaluate_restoration
from .restoring import network_options, network_settings
from .shared import defaults, device_options, plain_host, say, tile_side, words


def add_evaluate_restore(parser: argparse.ArgumentParser) -> None:
    parser.set_defaults(run=_evaluate)
    default = defaults(evaluate_restoration)
    what = parser.add_mutually_exclusive_group(required=True)
    what.add_argument(
        "--sets",
        metavar="DIR",
        help="REDS4 (train_sharp, train_blur_bicubic/X4, train_sharp_bicubic/X4), GoPro (test/…) and Vid4 (GT, BDx4)",
    )
    what.add_argument("--clips", metavar="DIR", help="videos and frame folders instead, blurred and reduced here")
    parser.add_argument(
        "--only", type=words, default=default["only"], metavar="SET,…", help="reds4, reds4-sharp, gopro, vid4"
    )
    parser.add_argument(
        "--weights", type=words, default=default["weights"], metavar="FILE,…", help="of restoring networks, by comma"
    )
    parser.add_argument(
        "--baselines", type=_baselines, default=default["baselines"], help="by comma, or none (default: all)"
    )
    parser.add_argument("--frames", type=int, default=default["frames"], help="scored per clip, 0 = all (default: 0)")
    parser.add_argument(
        "--blur",
        type=int,
        default=default["blur"],
        help="of clips: frames the shutter is open for, 1 = no blur (default: 5)",
    )
    parser.add_argument(
        "--every", type=int, default=default["every"], help="frames from one opening to the next (default: as --blur)"
    )
    parser.add_argument(
        "--stored-values",
        dest="linear",
        action="store_false",
        help="average the values of the frames as they are, not the light that they stand for",
    )
    parser.add_argument(
        "--crf",
        type=_rates,
        default=default["crf"],
        metavar="N,…",
        help="compress the small pictures with H.264 first; none, 15, 25, 35, by comma (default: none)",
    )
    parser.add_argument(
        "--longest-side", type=int, default=default["longest_side"], help="pixels clips are reduced to (default: 720)"
    )
    network_options(parser)
    parser.add_argument(
        "--tile", type=tile_side, default=default["tile"], metavar="PX", help="auto (default), none, or pixels"
    )
    parser.add_argument("--json", metavar="FILE", help="write all scores here")
    device_options(parser)


def _baselines(text: str) -> tuple[str, ...]:
    return () if text == "none" else words(text)


def _rates(text: str) -> tuple[int | None, ...]:
    try:
        return tuple(None if word == "none" else int(word) for word in words(text))
    except ValueError:
        raise argparse.ArgumentTypeError(f"{text!r} is no list of rates: write none, 15 or none,15,25,35") from None


def _evaluate(options: argparse.Namespace) -> int:
    settings = {name: getattr(options, name) for name in defaults(evaluate_restoration) if hasattr(options, name)}
    settings |= network_settings(options)

    def show(done: int, total: int, clip: str) -> None:
        if clip and not options.quiet:
            say(f"clip {done + 1} of {total}: {clip}")

    with plain_host(options, bar=False) as host:
        report = evaluate_restoration(host=host, progress=show, **settings)
    print(report)
    if options.json:
        Path(options.json).write_text(report.to_json(), encoding="utf-8")
    return 0
