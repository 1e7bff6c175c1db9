"""Whole files: a video or image folder in, one out, in bounded memory; what was done survives a crash.

``interpolate_file``, ``restore_file`` and ``inspect_file`` are what the commands of these names run.
"""

from __future__ import annotations

import json
from array import array
from bisect import bisect_left
from collections.abc import Callable, Collection, Mapping, Sequence
from contextlib import nullcontext
from dataclasses import replace
from fractions import Fraction
from math import isnan, nan
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, get_args

from torch import nn

from . import __version__
from .api import load_flow, load_method, load_restorer, needs_flow, split_pace
from .checkpoints import find
from .confidence_plot import draw_confidence
from .contract import Frame, Host
from .drawing import save_png
from .engine import AtCut, Room, Tile, room_for
from .engine import restore as restore_frames
from .errors import InputError
from .fingerprint import fingerprint
from .host import PlainHost
from .interpolation import Interpolation, prepare
from .look import Cuts, Look, look_through, needs_look
from .pace import Pace, exact_rate
from .retime import REAL_TIME
from .side_files import check_places, write_whole
from .timeline import At, Rate

if TYPE_CHECKING:
    from .video import Clip, ClipInfo, Sound, Work, Written

Audio = Literal["auto", "keep", "stretch", "tape", "drop"]
AUDIO: tuple[Audio, ...] = get_args(Audio)


def interpolate_file(
    source: str | Path | Clip,
    target: str | Path,
    *,
    overwrite: bool = False,
    rate: Fraction | float | str | None = None,
    codec: str | None = None,
    quality: int | None = None,
    audio: Audio = "auto",
    metadata: Mapping[str, str] | None = None,
    resume: bool = True,
    timeline: str | Path | None = None,
    report: str | Path | None = None,
    plot: str | Path | None = None,
    method: str = "auto",
    flow: str | Path | nn.Module = "auto",
    scale: float = 1.0,
    uhd: bool = False,
    ensemble: bool = False,
    cuts: Cuts = "auto",
    at_cut: AtCut = "hold",
    dedupe: bool = False,
    hold_below: float | None = None,
    host: Host | None = None,
    **settings: Any,
) -> Written:
    """A video or image folder in, a video or image folder out.

    source: also an open clip. target: with a suffix a video in that container; without, a folder of ``0000000.png`` ….
    rate: frame rate of an image folder (default 24). codec, quality, metadata: see video.write_clip.
    audio: the sound is ``keep`` (as it is), ``stretch`` (fitted to the picture's speed, its pitch kept), ``tape``
        (fitted, and its pitch follows the speed) or ``drop``; ``auto`` keeps it where the speed stays and stretches it
        where not.
    resume: finished parts are kept beside the target until all is done; the same call goes on from what is there.
    timeline, report, plot: files for a picture of what was found in the clip, for the same as JSON, and for a picture
        of how sure the made frames are.
    flow: as for api.load_flow. method, scale, uhd, ensemble, cuts, at_cut, dedupe, hold_below, host, settings: see
        api.interpolate.

    The target appears under its name only when it is complete. Raises errors.InputError and MediaError
    for input that cannot be used, OutputExistsError without ``overwrite``, Cancelled after a stop (the
    message names the playable partial output).
    """
    from .video import check_target, open_work, write_clip

    if audio not in AUDIO:
        raise InputError(f"audio {audio!r} is not known: use {', '.join(AUDIO)}")
    check_places(timeline, report, plot)
    host = host or PlainHost()
    pace, settings = split_pace(settings)
    clip = _opened(source, rate)
    check_target(target, clip.info, overwrite)
    how = {"cuts": cuts, "at_cut": at_cut, "dedupe": dedupe, "hold_below": hold_below}
    motion = {"scale": scale, "uhd": uhd, "ensemble": ensemble}
    explain = hold_below is not None or plot is not None
    work = None
    if resume:
        chosen = {"flow": flow, "fusion": settings.get("fusion"), "interpolation": settings.get("weights")}
        networks = [_identity(name, kind) for kind, name in chosen.items()]
        made_by = (__version__, clip.info, host.device, host.dtype, networks, method, settings, motion)
        work = open_work(target, fingerprint(made_by, pace, how, codec, quality, audio))
    with work or nullcontext():
        found = load_flow(flow, host=host, **motion) if needs_flow(method) else None
        model = load_method(method, found, host=host, explain=explain, **settings)
        look = _look(clip, pace, how, host, work, wanted=timeline is not None or report is not None)
        expected = _expected(clip.info, pace)
        ready = prepare(clip, pace, model, host, rate=clip.info.rate, look=look, total=expected, **how)
        told = _Told()
        after, done = (None, 0) if work is None else (work.last, work.done)
        written = write_clip(
            target,
            ready.frames(after, done),
            like=clip.info,
            rate=_rate(ready, clip.info),
            codec=codec,
            quality=quality,
            overwrite=overwrite,
            sound=_sound(clip.info, ready, audio),
            metadata=metadata,
            work=work,
            on_frame=told.add if explain else None,
        )
    if look is not None:
        _put_out(clip, look, timeline, report, told.sure())
    if plot is not None:
        told.draw(plot, hold_below, ready.manner.cuts)
    notes = [*_notes(written, look), *clip.notes]
    if plot is not None and done:
        notes.append(f"the plot begins at frame {done}: what an earlier run made is not in it")
    return replace(written, notes=(*written.notes, *notes))


def restore_file(
    source: str | Path | Clip,
    target: str | Path,
    *,
    weights: str | Path | nn.Module,
    overwrite: bool = False,
    rate: Fraction | float | str | None = None,
    codec: str | None = None,
    quality: int | None = None,
    audio: Literal["keep", "drop"] = "keep",
    metadata: Mapping[str, str] | None = None,
    resume: bool = True,
    cuts: Cuts = "auto",
    tile: Tile = "auto",
    host: Host | None = None,
    on_room: Callable[[Room], None] | None = None,
    **settings: Any,
) -> Written:
    """A video or image folder in; the same, frame by frame larger and better, out.

    weights, settings: see api.load_restorer. cuts, tile: see api.restore. on_room: told, before the first frame, how
    the pictures will fit into memory. The rest is as for interpolate_file, and so are the errors.
    """
    from .video import Sound, check_target, open_work, write_clip

    if audio not in ("keep", "drop"):
        raise InputError(f"audio {audio!r} is not known: use keep or drop")
    host = host or PlainHost()
    clip = _opened(source, rate)
    info = clip.info
    check_target(target, info, overwrite)
    work = None
    if resume:
        made_by = (__version__, info, host.device, host.dtype, _identity(weights, "restore"), settings)
        work = open_work(target, fingerprint("restore", made_by, cuts, tile, codec, quality, audio))
    with work or nullcontext():
        restorer = load_restorer(weights, host=host, **settings)
        look = _look(clip, Pace(), {"cuts": cuts, "dedupe": False}, host, work, wanted=False)
        earlier = None if work is None else work.recall("tile")
        room = room_for(restorer, host, info.height, info.width, tile if earlier is None else _tile(earlier))
        if work is not None and earlier is None:  # what memory there is may have changed when this run is resumed
            work.remember("tile", str(room.tile or "none"))
        if on_room is not None:
            on_room(room)
        made = restore_frames(
            clip,
            restorer,
            host,
            cuts=cuts if look is None else look.edit.cuts,
            tile=room.tile or "none",
            done=0 if work is None else work.done,
            total=info.frames if look is None else look.length.frames,
        )
        written = write_clip(
            target,
            made,
            like=info,
            rate=info.rate if info.kind == "images" else None,
            codec=codec,
            quality=quality,
            overwrite=overwrite,
            sound=Sound(info.path) if audio == "keep" and info.has_audio else None,
            metadata=metadata,
            work=work,
        )
    notes = [] if look is None or look.seen is None else look.lines()
    return replace(written, notes=(*written.notes, *notes, *clip.notes))


def _tile(text: str) -> Tile:
    return int(text) if text.isdigit() else text


def inspect_file(
    source: str | Path,
    *,
    rate: Fraction | float | str | None = None,
    dedupe: bool = True,
    timeline: str | Path | None = None,
    report: str | Path | None = None,
    host: Host | None = None,
) -> list[str]:
    """What there is to know about a clip before it is interpolated: its cuts and repeated frames, in plain lines.

    timeline, report: see interpolate_file. dedupe: what repeats would become if they were left out.
    """
    check_places(timeline, report)
    clip = _opened(source, rate)
    look = look_through(clip, cuts="auto", dedupe=dedupe, rate=clip.info.rate, host=host)
    _put_out(clip, look, timeline, report)
    return [*look.lines(), *clip.notes]


def _opened(source: str | Path | Clip, rate: Fraction | float | str | None) -> Clip:
    from .video import open_clip

    if not isinstance(source, (str, Path)):
        return source
    return open_clip(source, rate=None if rate is None else exact_rate(rate))


def _put_out(
    clip: Clip,
    look: Look,
    timeline: str | Path | None,
    report: str | Path | None,
    confidence: Sequence[tuple[float, float]] | None = None,
) -> None:
    if timeline is not None:
        write_whole(timeline, lambda part: save_png(part, look.picture(clip, confidence).numpy()))
    if report is not None:
        write_whole(report, lambda part: part.write_text(json.dumps(look.facts(), indent=1) + "\n", encoding="utf-8"))


class _Told:
    """Remembers when each frame is shown, which instant it shows, and how sure it is. Some bytes a frame."""

    def __init__(self) -> None:
        self._seconds, self._positions, self._values = array("d"), array("d"), array("d")

    def add(self, number: int, frame: Frame) -> None:
        self._seconds.append(float(frame.seconds))
        self._positions.append(float(frame.position))
        self._values.append(nan if frame.confidence is None else frame.confidence)

    def sure(self) -> list[tuple[float, float]] | None:
        """Position and predicted PSNR of the made frames; None where nobody asked."""
        made = [(at, value) for at, value in zip(self._positions, self._values, strict=True) if not isnan(value)]
        return made or None

    def draw(self, path: str | Path, threshold: float | None, cuts: Collection[int]) -> None:
        """Nothing is drawn where this run had nothing left to make."""
        if not self._values:
            return
        values = [None if isnan(value) else value for value in self._values]
        begins = [bisect_left(self._positions, cut - 0.5) for cut in cuts]
        shots = [self._seconds[first] for first in begins if first < len(values)]
        write_whole(path, lambda part: save_png(part, draw_confidence(values, self._seconds, threshold, cuts=shots)))


def _identity(name: Any, kind: str) -> Any:
    """What a choice of weights or of stored flow stands for: the file or folder where there is one."""
    if not isinstance(name, (str, Path)) or name in _BUILT_IN:
        return name
    return Path(name) if Path(name).is_dir() else Path(find(name, kind=kind))


_BUILT_IN = ("auto", "dis", "rife", "none")  # they change with the version alone


def _look(clip: Clip, pace: Pace, how: dict[str, Any], host: Host, work: Work | None, *, wanted: bool) -> Look | None:
    """What an earlier run of the same work has found, else what looking through shows, where that is needed."""
    found = None if work is None else work.recall("look")
    if found is not None and not wanted:
        return Look.from_json(found)
    if not (wanted or needs_look(pace, how["cuts"], how["dedupe"])):
        return None
    look = look_through(clip, cuts=how["cuts"], dedupe=how["dedupe"], rate=clip.info.rate, host=host)
    if work is not None and found is None:
        work.remember("look", look.to_json())
    return look


def _expected(info: ClipInfo, pace: Pace) -> int | None:
    """Output frames as far as the header tells."""
    if not info.frames or not info.rate or pace.needs_length:
        return None
    return pace.timing(info.rate).count(info.frames, Fraction(0), (info.frames - 1) / info.rate)


def _rate(ready: Interpolation, info: ClipInfo) -> Fraction | None:
    """The output's constant rate; None keeps every frame's own time."""
    if ready.manner.at_cut == "skip" and ready.manner.cuts:
        return None
    # A video's own clock is kept frame by frame, so that variable rates survive; images have only a rate.
    return ready.timing.rate(info.rate if info.kind == "images" else None)


def _sound(info: ClipInfo, ready: Interpolation, audio: Audio) -> Sound | None:
    from .video import Sound

    if audio == "drop" or not info.has_audio or isinstance(ready.timing, At):
        return None
    speed = ready.timing.speed if isinstance(ready.timing, Rate) else REAL_TIME
    tempo = speed.constant
    if audio == "auto":
        audio = "keep" if tempo == 1 else "stretch"
    if tempo is not None:
        return Sound(info.path, audio, tempo=tempo)
    return Sound(info.path, audio, source_seconds=speed.source_seconds)


def _notes(written: Written, look: Look | None) -> list[str]:
    # what an earlier run has found was told then
    notes = [] if look is None or look.seen is None else look.lines()
    if written.frames == 1:
        notes.append("the clip has a single frame, which was copied: nothing lies between one frame")
    return notes
