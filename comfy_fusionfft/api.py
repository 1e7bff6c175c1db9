"""The library's front door: wires readers, flow sources, methods, engine and writers.

    from comfy_fusionfft.api import interpolate, interpolate_file

    interpolate_file("in.mp4", "out.mp4", multi=2)          # file or image folder to file or folder
    for frame in interpolate(frames, multi=4, flow="dis"):  # any iterable of contract.Frame, streaming
        ...

Each command of the ``fusionfft`` command line calls one function of this module or of its neighbours
with the same names and the same defaults.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from fractions import Fraction
from pathlib import Path
from typing import TYPE_CHECKING

from .contract import FlowSource, Frame, Host, Model
from .engine import run
from .errors import InputError
from .host import PlainHost
from .methods import DECAY, HISTORY, Blend, RecursiveBlend
from .timeline import At, Multiply, Rate, Timing

if TYPE_CHECKING:
    from .video import ClipInfo, Written

DEFAULT_FLOW = "dis"
"""What ``flow="auto"`` means: the source that measured better on the development clips (README, table)."""
EMBEDDED_RIFE = "rife-v0"
"""The file in ``weights/`` that ``flow="rife"`` means."""
DEFAULT_METHOD = "rife"
"""What ``method="auto"`` means."""
METHODS = ("auto", "rife", "recursive")
SCALES = (0.25, 0.5, 1.0, 2.0, 4.0)


def timing_for(
    multi: int | None = None, fps: Fraction | float | str | None = None, times: Sequence[Fraction] | None = None
) -> Timing:
    """The timing that ``interpolate``'s arguments mean; at most one of them may be given (default ×2)."""
    if sum(choice is not None for choice in (multi, fps, times)) > 1:
        raise InputError("multi, fps and times exclude one another: give one of them")
    if times is not None:
        return At(tuple(times))
    if fps is not None:
        return Rate(exact_rate(fps))
    return Multiply(2 if multi is None else multi)


def exact_rate(value: Fraction | float | str) -> Fraction:
    """``60``, ``"24000/1001"`` or ``23.976`` -> exact rate; the NTSC decimals mean their n·1000/1001."""
    try:
        rate = Fraction(value) if not isinstance(value, float) else Fraction(str(value))
    except (ValueError, ZeroDivisionError):
        raise InputError(f"frame rate {value!r} is not a number: use 60, 59.94 or 60000/1001") from None
    ntsc = Fraction(round(rate * 1001 / 1000) * 1000, 1001)
    return ntsc if rate.denominator > 1 and abs(rate - ntsc) < Fraction(1, 200) else rate


def load_flow(
    flow: str | Path = "auto", *, host: Host, scale: float = 1.0, uhd: bool = False, ensemble: bool = False
) -> FlowSource:
    """The flow source called ``flow``, placed on the host's device.

    flow: ``auto``, ``dis`` (classical, no weights), ``rife`` (the embedded network), or a safetensors file
        or the name of one in the searched folders.
    scale: 0.25, 0.5, 1, 2 or 4; below 1 flow is searched on a smaller picture (large motion, 4K).
    uhd: scale 1 becomes 0.5.
    ensemble: run RIFE in both directions and average, for networks that have it.
    """
    if scale not in SCALES:
        raise InputError(f"scale {scale} is not one of {', '.join(f'{s:g}' for s in SCALES)}: choose the nearest")
    scale = 0.5 if uhd and scale == 1.0 else scale
    name = DEFAULT_FLOW if flow == "auto" else flow
    if name == "dis":
        from .families.dis import DISFlow

        return DISFlow(scale=scale)
    from .checkpoints import find, load
    from .families.rife import RIFEFlow

    loaded = load(find(EMBEDDED_RIFE if name == "rife" else name))
    if loaded.family.kind != "flow":
        raise InputError(
            f"{name} is a {loaded.family.title} model, which does not make flow: choose a RIFE file or dis"
        )
    return RIFEFlow(host.place(loaded.module), scale=scale, ensemble=ensemble)


def load_method(method: str, source: FlowSource, *, history: int = HISTORY, decay: float = DECAY) -> Model:
    """The model called ``method`` on a flow source: ``rife`` (plain blend) or ``recursive`` (peeling)."""
    if method not in METHODS:
        raise InputError(f"method {method!r} is not known: use {', '.join(METHODS)}")
    if (DEFAULT_METHOD if method == "auto" else method) == "recursive":
        if history < 1:
            raise InputError(f"history {history} is below 1: 1 peels without memory, {HISTORY} is the default")
        return RecursiveBlend(source, history=history, decay=decay)
    return Blend(source)


def interpolate(
    frames: Iterable[Frame],
    *,
    multi: int | None = None,
    fps: Fraction | float | str | None = None,
    times: Sequence[Fraction] | None = None,
    method: str = "auto",
    flow: str | Path | FlowSource = "auto",
    scale: float = 1.0,
    uhd: bool = False,
    ensemble: bool = False,
    history: int = HISTORY,
    decay: float = DECAY,
    host: Host | None = None,
    total: int | None = None,
) -> Iterator[Frame]:
    """Frames in, smoother frames out; originals that fall on an output instant pass untouched.

    multi: whole-number multiplier, N - 1 new frames per pair (default 2). fps: output rate instead.
    times: explicit positions in source frames instead.
    method: ``rife`` or ``recursive`` (``auto``: the better one). flow, scale, uhd, ensemble: see load_flow;
        a ready FlowSource is accepted as well.
    history, decay: of the recursive method (methods.RecursiveBlend).
    host: device, precision, progress and cancel; a PlainHost when not given.
    total: expected number of output frames, for progress only.

    Weights are loaded at the call; no frame is read before the first output is asked for.
    """
    host = host or PlainHost()
    timing = timing_for(multi, fps, times)
    source = (
        load_flow(flow, host=host, scale=scale, uhd=uhd, ensemble=ensemble) if isinstance(flow, (str, Path)) else flow
    )
    return run(frames, load_method(method, source, history=history, decay=decay), timing, host, total=total)


def interpolate_file(
    source: str | Path,
    target: str | Path,
    *,
    overwrite: bool = False,
    rate: Fraction | float | str | None = None,
    codec: str | None = None,
    quality: int | None = None,
    multi: int | None = None,
    fps: Fraction | float | str | None = None,
    times: Sequence[Fraction] | None = None,
    host: Host | None = None,
    **settings: object,
) -> Written:
    """A video or image folder in, a video or image folder out, in bounded memory.

    target: with a suffix a video in that container; without, a folder of ``0000000.png`` ….
    rate: frame rate of an image folder (default 24). codec, quality: see video.write_clip.
    settings: as for ``interpolate``.

    The target appears under its name only when it is complete. Raises errors.InputError and MediaError
    for input that cannot be used, OutputExistsError without ``overwrite``, Cancelled after a stop (the
    message names the playable partial output).
    """
    from .video import open_clip, write_clip

    clip = open_clip(source, rate=None if rate is None else exact_rate(rate))
    timing = timing_for(multi, fps, times)
    made = interpolate(
        clip, multi=multi, fps=fps, times=times, host=host, total=_expected(clip.info, timing), **settings
    )
    keeps_duration = not isinstance(timing, At)
    # A video's own clock is kept frame by frame, so that variable rates survive; images have only a rate.
    steady = clip.info.rate if clip.info.kind == "images" else None
    written = write_clip(
        target,
        made,
        like=clip.info,
        rate=timing.rate(steady),
        codec=codec,
        quality=quality,
        overwrite=overwrite,
        audio_from=Path(source) if clip.info.has_audio and keeps_duration else None,
    )
    if written.frames == 1:
        note = "the clip has a single frame, which was copied: nothing lies between one frame"
        written = replace(written, notes=(*written.notes, note))
    return written


def _expected(info: ClipInfo, timing: Timing) -> int | None:
    if not info.frames or not info.rate:
        return None
    return timing.count(info.frames, Fraction(0), (info.frames - 1) / info.rate)
