"""What several commands share: options, defaults, progress, Ctrl-C, and the one voice on stderr."""

from __future__ import annotations

import argparse
import inspect
import signal
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from torch import Tensor


def flow_options(parser: argparse.ArgumentParser, default: dict[str, Any]) -> None:
    parser.add_argument(
        "--scale", type=float, default=default["scale"], help="picture size flow is searched on: 0.25 … 4"
    )
    parser.add_argument("--uhd", "--UHD", action="store_true", help="for 4K and large motion: scale 1 becomes 0.5")
    parser.add_argument(
        "--ensemble", action="store_true", help="RIFE 4.0-4.20, 4.24: average both directions, twice the time"
    )


def pace_options(parser: argparse.ArgumentParser) -> argparse._MutuallyExclusiveGroup:
    pace = parser.add_mutually_exclusive_group()
    pace.add_argument("--multi", metavar="N", help="so many frames for each one, 2.5 too (default: 2)")
    pace.add_argument("--fps", metavar="R", help="output rate instead, such as 60 or 60000/1001")
    return pace


def fusion_options(parser: argparse.ArgumentParser) -> None:
    from ..api import load_method

    default = defaults(load_method)
    group = parser.add_argument_group("fusion")
    group.add_argument("--fusion", default=default["fusion"], help="weights: auto, none (bent motion alone) or a file")
    group.add_argument("--num-anchors", type=int, default=default["num_anchors"], help="frame pairs looked at, 1 to 5")
    group.add_argument("--anchor-flow", default=default["anchor_flow"], choices=("chained", "nested"))
    group.add_argument("--spectral-alpha", type=float, default=default["spectral_alpha"], help="grain lent, 0 to 1")
    group.add_argument("--spectral-lo", type=float, default=default["spectral_lo"], help="band begins (cycles/px)")
    group.add_argument("--spectral-hi", type=float, default=default["spectral_hi"], help="band is full (cycles/px)")
    group.add_argument("--spectral-prior", default=default["spectral_prior"], choices=("neighbours", "warped"))
    group.add_argument("--tile", type=int, metavar="N", default=default["tile"], help="strips of N×N pixels, 0 = one")


FUSION_SETTINGS = (
    *("fusion", "num_anchors", "anchor_flow", "spectral_alpha"),
    *("spectral_lo", "spectral_hi", "spectral_prior", "tile"),
)


def fusion_settings(options: argparse.Namespace) -> dict[str, Any]:
    return {name: getattr(options, name) for name in FUSION_SETTINGS}


def output_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--rate", metavar="R", help="frame rate of an image folder (default: 24)")
    parser.add_argument("--codec", help="h264, hevc, av1, vp9, prores, ffv1; for folders png, tiff, jpg, webp, exr")
    parser.add_argument("--quality", type=int, help="CRF for h264, hevc, av1, vp9; 1-100 for jpg, webp")
    parser.add_argument(
        "--overwrite", action="store_true", help="replace OUT if it exists, once the new one is complete"
    )


def resume_option(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--no-resume",
        dest="resume",
        action="store_false",
        help="start afresh and keep nothing of a run that fails; otherwise the same command goes on where it stopped",
    )


def device_options(parser: argparse.ArgumentParser) -> None:
    from ..host import PlainHost

    default = defaults(PlainHost)
    parser.add_argument("--device", default=default["device"], help="auto, cuda, cuda:1, xpu, mps, cpu (default: auto)")
    parser.add_argument("--dtype", default=default["dtype"], help="auto, float32, float16, bfloat16 (default: auto)")
    parser.add_argument("--quiet", action="store_true", help="no progress")
    parser.add_argument(
        "--preview", metavar="FILE.jpg", help="keep the newest frame there, small, for a viewer that reloads"
    )


def defaults(function: Callable[..., Any]) -> dict[str, Any]:
    """Defaults live in the library's signatures alone."""
    return {name: p.default for name, p in inspect.signature(function).parameters.items() if p.default is not p.empty}


@contextmanager
def plain_host(options: argparse.Namespace, *, bar: bool = True) -> Iterator[Any]:
    """A PlainHost with a progress bar, whose cancel switch is Ctrl-C."""
    from ..host import PlainHost

    with progress(options.quiet or not bar) as update:
        preview = Preview(Path(options.preview)) if options.preview else None
        host = PlainHost(options.device, options.dtype, on_progress=update, on_preview=preview)

        def stop(number: int, frame: object) -> None:
            host.cancel()
            signal.signal(number, signal.default_int_handler)  # a second Ctrl-C stops at once

        before = {number: signal.signal(number, stop) for number in (signal.SIGINT, signal.SIGTERM)}
        try:
            yield host
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)


class Preview:
    """Keeps the newest frame in an image file, replaced whole, every other second at most."""

    SIDE, SECONDS = 960, 2.0

    def __init__(self, path: Path) -> None:
        self._path, self._shown = path, -self.SECONDS

    def __call__(self, pixels: Tensor) -> None:
        now = time.monotonic()
        if now - self._shown < self.SECONDS:
            return
        import cv2

        from ..video.samples import to_type

        self._shown = now
        step = -(-max(pixels.shape[:2]) // self.SIDE)
        small = pixels[::step, ::step, :3]
        levels = to_type((small.float() if small.is_floating_point() else small).numpy(), "uint8")
        part = self._path.with_name(f".{self._path.stem}.part{self._path.suffix}")
        if cv2.imwrite(str(part), levels[..., ::-1]):
            part.replace(self._path)


@contextmanager
def progress(quiet: bool, unit: str = "frame") -> Iterator[Callable[[int, int | None], None] | None]:
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


def say(line: str) -> None:
    print(f"fusionfft: {line}", file=sys.stderr)


def tile_side(text: str) -> int | str:
    """What ``--tile`` takes."""
    return text if text in ("auto", "none") else int(text)


def integers(text: str) -> tuple[int, ...]:
    try:
        return tuple(int(part) for part in text.split(","))
    except ValueError:
        raise argparse.ArgumentTypeError(f"{text!r} is not a list of whole numbers such as 2,4") from None


def words(text: str) -> tuple[str, ...]:
    return tuple(part.strip() for part in text.split(","))
