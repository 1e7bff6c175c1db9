"""``fusionfft interpolate`` and ``fusionfft evaluate``."""

from __future__ import annotations

import argparse
import time
from fractions import Fraction
from pathlib import Path

from .. import api
from ..errors import InputError
from ..evaluate import evaluate
from .shared import (
    defaults,
    device_options,
    flow_options,
    fusion_options,
    fusion_settings,
    integers,
    output_options,
    pace_options,
    plain_host,
    say,
    words,
)


def add_interpolate(parser: argparse.ArgumentParser) -> None:
    parser.set_defaults(run=_interpolate)
    default = defaults(api.load_method) | defaults(api.interpolate)
    # --img, --output, --model, --recursive and --UHD are the spellings of the RIFE scripts people come from
    parser.add_argument("input", metavar="IN", nargs="?", help="video file, image folder or single image")
    parser.add_argument(
        "output", metavar="OUT", nargs="?", help="video file; without a suffix a folder of 0000000.png …"
    )
    parser.add_argument("--img", "--video", dest="input_option", metavar="IN", help=argparse.SUPPRESS)
    parser.add_argument("--output", dest="output_option", metavar="OUT", help=argparse.SUPPRESS)
    pace = pace_options(parser)
    pace.add_argument("--times", metavar="T,…", type=_times, help="these instants only, in source frames: 0.5,3/4,7")
    parser.add_argument(
        "--flow",
        "--model",
        default=default["flow"],
        help="auto, dis, rife, a safetensors file, or a folder that `fusionfft flow` made (default: auto)",
    )
    parser.add_argument("--method", default=default["method"], choices=api.METHODS, help="(default: auto)")
    parser.add_argument("--recursive", dest="method", action="store_const", const="recursive", help=argparse.SUPPRESS)
    flow_options(parser, default)
    fusion_options(parser)
    parser.add_argument("--history", type=int, default=default["history"], help="recursive: enclosing pairs averaged")
    parser.add_argument("--decay", type=float, default=default["decay"], help="recursive: weight exp(-decay) per level")
    parser.add_argument(
        "--cuts", type=integers, default=default["cuts"], metavar="I,…", help="frames that begin a new shot: 120,345"
    )
    output_options(parser)
    device_options(parser)


def _interpolate(options: argparse.Namespace) -> int:
    source, target = options.input or options.input_option, options.output or options.output_option
    if not source or not target:
        raise InputError("interpolate needs IN and OUT: fusionfft interpolate in.mp4 out.mp4")
    names = ("multi", "fps", "times", "flow", "method", "scale", "uhd", "ensemble", "history", "decay")
    names += ("cuts", "rate", "codec", "quality", "overwrite")
    settings = {name: getattr(options, name) for name in names} | fusion_settings(options)
    start = time.monotonic()
    with plain_host(options) as host:
        written = api.interpolate_file(source, target, host=host, **settings)
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
    what = parser.add_mutually_exclusive_group(required=True)
    what.add_argument("--clips", metavar="DIR", help="videos and frame folders")
    what.add_argument(
        "--benchmarks", metavar="DIR", help="middlebury_other, xtest_small, … instead, with published figures beside"
    )
    parser.add_argument(
        "--drops", type=integers, default=default["drops"], help="keep one of so many frames (default: 2,4,8)"
    )
    parser.add_argument(
        "--instants", type=int, default=default["instants"], help="frames scored per clip, 0 = all (default: 6)"
    )
    parser.add_argument(
        "--longest-side", type=int, default=default["longest_side"], help="pixels frames are reduced to (default: 720)"
    )
    parser.add_argument("--flows", type=words, default=default["flows"], help="flow sources, by comma (default: auto)")
    parser.add_argument(
        "--methods", type=words, default=default["methods"], help="by comma, with settings: rife,fusion:num_anchors=1"
    )
    parser.add_argument(
        "--teacher", metavar="FILE", help="weights of the teacher network, measured with plain splatting"
    )
    parser.add_argument("--json", metavar="FILE", help="write all rows here")
    parser.add_argument(
        "--sheets", metavar="DIR", help="write a PNG per clip and worst.png: truth, ours, rival, errors"
    )
    device_options(parser)


def _evaluate(options: argparse.Namespace) -> int:
    names = ("benchmarks", "drops", "instants", "longest_side", "flows", "methods", "teacher", "sheets")

    def show(done: int, total: int, clip: str) -> None:
        if clip and not options.quiet:
            say(f"clip {done + 1} of {total}: {clip}")

    with plain_host(options, bar=False) as host:
        report = evaluate(options.clips, host=host, progress=show, **{name: getattr(options, name) for name in names})
    print(report)
    if options.json:
        Path(options.json).write_text(report.to_json(), encoding="utf-8")
    return 0
