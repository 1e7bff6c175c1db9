"""``fusionfft interpolate``, ``fusionfft inspect`` and ``fusionfft evaluate``."""

from __future__ import annotations

import argparse
import time
from fractions import Fraction
from pathlib import Path
from typing import Any, get_args

from .. import api
from ..engine import AtCut
from ..errors import InputError
from ..evaluate import evaluate
from ..files import AUDIO, inspect_file, interpolate_file
from ..look import Cuts
from ..pace import Pace, exact
from .shared import (
    defaults,
    device_options,
    flow_options,
    fusion_options,
    fusion_settings,
    integers,
    output_options,
    plain_host,
    resume_option,
    say,
    words,
)


def add_interpolate(parser: argparse.ArgumentParser) -> None:
    parser.set_defaults(run=_interpolate)
    default = defaults(api.load_method) | defaults(interpolate_file) | defaults(Pace)
    # --img, --output, --model, --recursive and --UHD are the spellings of the RIFE scripts people come from
    parser.add_argument("input", metavar="IN", nargs="?", help="video file, image folder or single image")
    parser.add_argument(
        "output", metavar="OUT", nargs="?", help="video file; without a suffix a folder of 0000000.png …"
    )
    parser.add_argument("--img", "--video", dest="input_option", metavar="IN", help=argparse.SUPPRESS)
    parser.add_argument("--output", dest="output_option", metavar="OUT", help=argparse.SUPPRESS)
    _time_options(parser, default)
    _shot_options(parser, default)
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
    group = parser.add_argument_group("waveletvfi")
    group.add_argument("--weights", metavar="FILE", help="its converted checkpoint (`fusionfft weights list`)")
    group.add_argument(
        "--threshold",
        type=_threshold,
        default=default["threshold"],
        metavar="T",
        help="auto (default), or leave out details weaker than this share of the range of brightness: 0, 0.005, 0.015",
    )
    output_options(parser)
    parser.add_argument(
        "--audio",
        default=default["audio"],
        choices=AUDIO,
        help="sound: as it is, fitted to the speed with its pitch kept or like a tape, or none (default: auto: keep "
        "where the speed stays, else stretch)",
    )
    resume_option(parser)
    parser.add_argument("--plot", metavar="FILE.png", help="draw how sure the made frames are")
    device_options(parser)


def _time_options(parser: argparse.ArgumentParser, default: dict[str, Any]) -> None:
    group = parser.add_argument_group("time")
    pace = group.add_mutually_exclusive_group()
    pace.add_argument("--multi", metavar="N", help="so many frames for each one, 2.5 too (default: 2)")
    pace.add_argument("--count", type=int, metavar="N", help="exactly so many frames, from the first to the last")
    pace.add_argument("--times", metavar="T,…", type=_times, help="these instants only, in source frames: 0.5,3/4,7")
    group.add_argument(
        "--fps", metavar="R", help="output rate, such as 60 or 60000/1001; with --count it sets the speed"
    )
    group.add_argument(
        "--slow", metavar="K", help="K times slower, at the source's rate unless --multi or --fps say more"
    )
    group.add_argument(
        "--speed",
        metavar="CURVE",
        help="a factor, or WHEN:SPEED keys in seconds, %% or frames: '0:1, 2:1, 2.5:0.25, 90%%:0.25, 120f:1'",
    )
    group.add_argument(
        "--loop", action="store_true", help="the clip goes round: also make what leads back to its start"
    )
    group.add_argument(
        "--shutter", metavar="S", default=default["shutter"], help="motion blur: exposure as a share of a frame, 0 to 1"
    )
    group.add_argument("--samples", type=int, default=default["samples"], help="instants in an exposure, an odd number")


def _shot_options(parser: argparse.ArgumentParser, default: dict[str, Any]) -> None:
    group = parser.add_argument_group("cuts, repeats and hopeless frames")
    group.add_argument(
        "--cuts",
        type=cut_numbers,
        default=default["cuts"],
        metavar="I,…",
        help="auto (default), none, or frames that begin a new shot: 120,345; nothing is blended across them",
    )
    group.add_argument(
        "--at-cut",
        default=default["at_cut"],
        choices=get_args(AtCut),
        help="between the two frames of a cut: hold the nearer one (default), or make nothing",
    )
    group.add_argument(
        "--dedupe", action="store_true", help="leave out repeated frames and even the motion (animation, captures)"
    )
    group.add_argument(
        "--hold-below", type=float, metavar="DB", help="hold a real frame where less than so many dB are predicted"
    )
    group.add_argument("--timeline", metavar="FILE.png", help="draw the cuts and repeats that were found")
    group.add_argument("--report", metavar="FILE.json", help="write them")


def _interpolate(options: argparse.Namespace) -> int:
    source, target = options.input or options.input_option, options.output or options.output_option
    if not source or not target:
        raise InputError("interpolate needs IN and OUT: fusionfft interpolate in.mp4 out.mp4")
    names = (*defaults(Pace), *defaults(interpolate_file), "history", "decay", "weights", "threshold")
    settings = {name: getattr(options, name) for name in names if hasattr(options, name)} | fusion_settings(options)
    start = time.monotonic()
    with plain_host(options) as host:
        written = interpolate_file(source, target, host=host, **settings)
    for note in written.notes:
        say(f"note: {note}")
    took = time.monotonic() - start
    say(f"wrote {written.path}: {written.frames} frames in {took:.1f} s ({written.frames / max(took, 1e-9):.2f} fps)")
    return 0


def cut_numbers(text: str) -> Cuts:
    """What ``--cuts`` takes."""
    return {"auto": "auto", "none": ()}.get(text) if text in ("auto", "none") else integers(text)


def _threshold(text: str) -> float | str:
    return text if text == "auto" else float(text)


def _times(text: str) -> list[Fraction]:
    try:
        return [exact(part.strip(), "time") for part in text.split(",")]
    except InputError:
        raise argparse.ArgumentTypeError(f"{text!r} is not a list of numbers such as 0.5,3/4,7") from None


def add_inspect(parser: argparse.ArgumentParser) -> None:
    parser.set_defaults(run=_inspect)
    parser.add_argument("input", metavar="IN", help="video file or image folder")
    parser.add_argument("--timeline", metavar="FILE.png", help="draw it")
    parser.add_argument("--report", metavar="FILE.json", help="write it")
    parser.add_argument("--rate", metavar="R", help="frame rate of an image folder (default: 24)")
    parser.add_argument("--quiet", action="store_true", help="no progress")
    parser.set_defaults(device="cpu", dtype="float32", preview=None)


def _inspect(options: argparse.Namespace) -> int:
    names = ("rate", "timeline", "report")
    with plain_host(options) as host:
        lines = inspect_file(options.input, host=host, **{name: getattr(options, name) for name in names})
    print("\n".join(lines))
    return 0


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
