"""The ``fusionfft`` command line: parse, call one library function, report.

Errors are one line on stderr and an exit status: 1 for anything that went wrong, 2 for wrong usage,
130 after Ctrl-C. ``--debug`` shows the traceback instead.
"""

from __future__ import annotations

import argparse
import inspect
import signal
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from fractions import Fraction
from typing import Any

from . import __version__
from .errors import Cancelled, FusionFFTError


def main(arguments: list[str] | None = None) -> int:
    parser = build_parser()
    options = parser.parse_args(arguments)
    try:
        return options.command(options) or 0
    except (Cancelled, KeyboardInterrupt) as stop:
        if options.debug:
            raise
        _say(f"stopped: {stop}" if str(stop) else "stopped")
        return 130
    except (FusionFFTError, OSError) as error:
        if options.debug:
            raise
        _say(f"error: {' '.join(str(error).split())}")
        return 1
    except Exception as error:
        if options.debug:
            raise
        _say(f"error: {type(error).__name__}: {' '.join(str(error).split())} (unexpected: --debug shows where)")
        return 1


def build_parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="fusionfft", description="Frame interpolation that keeps the grain.")
    parser.add_argument("--version", action="version", version=f"fusionfft {__version__}")
    commands = parser.add_subparsers(title="commands", required=True, metavar="COMMAND")
    for add in (_add_interpolate, _add_convert, _add_weights):
        add(commands)
    return parser


# ---- interpolate -------------------------------------------------------------------------------------


def _add_interpolate(commands: Any) -> None:
    from . import api

    default = _defaults(api.interpolate)
    parser = _command(commands, "interpolate", _interpolate, "make a clip smoother or slower")
    parser.add_argument("input", metavar="IN", help="video file, image folder or single image")
    parser.add_argument("output", metavar="OUT", help="video file; without a suffix a folder of 0000000.png …")
    pace = parser.add_mutually_exclusive_group()
    pace.add_argument("--multi", type=int, metavar="N", help="N-1 new frames between each pair (default: 2)")
    pace.add_argument("--fps", metavar="R", help="output rate instead, such as 60 or 60000/1001")
    pace.add_argument("--times", metavar="T,…", type=_times, help="these instants only, in source frames: 0.5,3/4,7")
    parser.add_argument("--flow", default=default["flow"], help="auto, dis, rife or a safetensors file (default: auto)")
    parser.add_argument("--method", default=default["method"], choices=api.METHODS, help="(default: auto)")
    _flow_options(parser, default)
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
    _device_options(parser)


def _interpolate(options: argparse.Namespace) -> int:
    from . import api

    names = ("multi", "fps", "times", "flow", "method", "scale", "uhd", "ensemble", "history", "decay")
    names += ("rate", "codec", "quality", "overwrite")
    start = time.monotonic()
    with _host(options) as host:
        written = api.interpolate_file(
            options.input, options.output, host=host, **{name: getattr(options, name) for name in names}
        )
    for note in written.notes:
        _say(f"note: {note}")
    took = time.monotonic() - start
    _say(f"wrote {written.path}: {written.frames} frames in {took:.1f} s ({written.frames / max(took, 1e-9):.2f} fps)")
    return 0


def _times(text: str) -> list[Fraction]:
    try:
        return [Fraction(part.strip()) for part in text.split(",")]
    except (ValueError, ZeroDivisionError):
        raise argparse.ArgumentTypeError(f"{text!r} is not a list of numbers such as 0.5,3/4,7") from None


# ---- convert, weights ------------------------------------------------------------------------------------


def _add_convert(commands: Any) -> None:
    parser = _command(
        commands, "convert", _convert, "turn a .pkl/.pth/.pt checkpoint into safetensors, executing nothing in it"
    )
    parser.add_argument("input", metavar="IN", help=".pkl, .pth, .pt, .bin or .safetensors")
    parser.add_argument("output", metavar="OUT", help=".safetensors")
    parser.add_argument(
        "--half", action="store_true", help="store float16: half the size, the same pictures to the eye"
    )
    parser.add_argument(
        "--version", dest="rife_version", metavar="V", help="RIFE version to note in the file, such as 4.25"
    )
    parser.add_argument("--overwrite", action="store_true", help="replace OUT if it exists")


def _convert(options: argparse.Namespace) -> int:
    import torch

    from . import checkpoints

    written = checkpoints.convert(
        options.input,
        options.output,
        overwrite=options.overwrite,
        dtype=torch.float16 if options.half else None,
        metadata={"rife.version": options.rife_version} if options.rife_version else None,
    )
    family, config = checkpoints.identify(written)
    _say(f"wrote {written}: {family.title}, {config}")
    return 0


def _add_weights(commands: Any) -> None:
    parser = _command(commands, "weights", _list_weights, "list, download and verify weights")
    parser.set_defaults(name=None)
    actions = parser.add_subparsers(metavar="ACTION")
    _command(actions, "list", _list_weights, "show what is here and what can be downloaded")
    get = _command(actions, "get", _get_weights, "download a file, verify it, convert it where needed")
    get.add_argument("name", metavar="NAME", help="a name that `fusionfft weights list` shows")
    get.add_argument("--folder", help="where to put it (default: the user's cache, which every command searches)")
    get.add_argument("--quiet", action="store_true", help="no progress")
    verify = _command(actions, "verify", _verify_weights, "compare files with their published or recorded hashes")
    verify.add_argument("name", metavar="FILE", nargs="?", help="a file or a name (default: everything in reach)")


def _list_weights(options: argparse.Namespace) -> int:
    from . import checkpoints, downloads

    here = checkpoints.available()
    print("here:")
    for file in here:
        what = file.family.title if file.family else f"unusable: {file.problem}"
        print(f"  {file.name:<28} {what:<10} {file.path}")
    print("to download with `fusionfft weights get NAME`:")
    for entry in downloads.catalogue():
        if entry.name not in {file.name for file in here}:
            size = f"{entry.size / 1e6:.1f} MB" if entry.size else "size unknown"
            print(f"  {entry.name:<28} RIFE {entry.version:<11} {size:<13} {entry.url}")
    return 0


def _get_weights(options: argparse.Namespace) -> int:
    from . import downloads

    with _progress(options.quiet, unit="B") as update:
        path = downloads.get(options.name, options.folder, progress=update)
    _say(f"{path} is verified; use it with --flow {path.stem}")
    return 0


def _verify_weights(options: argparse.Namespace) -> int:
    from . import checkpoints, downloads

    one = options.name and [downloads.verify(checkpoints.find(options.name, kind=None))]
    verdicts = one or downloads.verify_all()
    for verdict in verdicts:
        print(f"{verdict.state:<8} {verdict.path}: {verdict.why}")
    return 1 if any(verdict.state == "damaged" for verdict in verdicts) else 0


# ---- shared ------------------------------------------------------------------------------------------


def _command(commands: Any, name: str, run: Callable[[argparse.Namespace], int], text: str) -> argparse.ArgumentParser:
    parser = commands.add_parser(name, help=text, description=text[0].upper() + text[1:] + ".")
    parser.add_argument("--debug", action="store_true", help="show the traceback of an error")
    parser.set_defaults(command=run)
    return parser


def _flow_options(parser: argparse.ArgumentParser, default: dict[str, Any]) -> None:
    parser.add_argument(
        "--scale", type=float, default=default["scale"], help="picture size flow is searched on: 0.25 … 4"
    )
    parser.add_argument("--uhd", action="store_true", help="for 4K and large motion: scale 1 becomes 0.5")
    parser.add_argument(
        "--ensemble", action="store_true", help="RIFE 4.0-4.20, 4.24: average both directions, twice the time"
    )


def _device_options(parser: argparse.ArgumentParser) -> None:
    from .host import PlainHost

    default = _defaults(PlainHost)
    parser.add_argument("--device", default=default["device"], help="auto, cuda, cuda:1, xpu, mps, cpu (default: auto)")
    parser.add_argument("--dtype", default=default["dtype"], help="auto, float32, float16, bfloat16 (default: auto)")
    parser.add_argument("--quiet", action="store_true", help="no progress")


def _defaults(function: Callable[..., Any]) -> dict[str, Any]:
    """Defaults live in the library's signatures alone."""
    return {name: p.default for name, p in inspect.signature(function).parameters.items() if p.default is not p.empty}


@contextmanager
def _host(options: argparse.Namespace) -> Iterator[Any]:
    """A PlainHost with a progress bar, whose cancel switch is Ctrl-C."""
    from .host import PlainHost

    with _progress(options.quiet) as update:
        host = PlainHost(options.device, options.dtype, on_progress=update)

        def stop(number: int, frame: object) -> None:
            host.cancel()
            signal.signal(number, signal.default_int_handler)  # a second Ctrl-C stops at once

        before = {number: signal.signal(number, stop) for number in (signal.SIGINT, signal.SIGTERM)}
        try:
            yield host
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)


@contextmanager
def _progress(quiet: bool, unit: str = "frame") -> Iterator[Callable[[int, int | None], None] | None]:
    """tqdm's bar where tqdm is installed, nothing elsewhere or when quiet."""
    try:
        from tqdm import tqdm
    except ImportError:
        quiet = True
    if quiet:
        yield None
        return
    with tqdm(unit=unit, dynamic_ncols=True, leave=False, mininterval=0.5) as bar:

        def update(done: int, total: int | None) -> None:
            bar.total = total
            bar.update(done - bar.n)

        yield update


def _say(line: str) -> None:
    print(f"fusionfft: {line}", file=sys.stderr)
