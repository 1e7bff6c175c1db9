"""A stream of Frames -> a video file or a folder of images, all of it or nothing.

Everything goes to a hidden folder beside the target (``work``); the target gets its name when it is complete.
When the user stops half-way, what is done becomes ``<name>.partial``, playable. With a ``Work`` of the caller's,
finished pieces stay after a stop and after any failure, and the next run goes on behind them; otherwise nothing is
left behind. An existing output stays untouched until its successor is complete.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Protocol

from ..contract import Frame
from ..errors import Cancelled, FusionFFTError, MediaError, OutputExistsError
from .clip import DEFAULT_IMAGE_RATE, ClipInfo
from .codecs import CONTAINERS
from .explain import explained
from .sound import Sound
from .work import Span, Work, private_work


@dataclass(frozen=True, slots=True)
class Written:
    """frames: how many. seconds: how long they play. complete: False for what a stopped run left.
    notes: what the format could not keep, in plain words."""

    path: Path
    frames: int
    seconds: Fraction
    complete: bool = True
    notes: tuple[str, ...] = ()


class _Writer(Protocol):
    notes: tuple[str, ...]

    def add(self, frame: Frame) -> None: ...

    def finish(self) -> Path: ...

    def finish_partial(self) -> Path: ...

    def abort(self) -> None: ...


def write_clip(
    path: str | Path,
    frames: Iterable[Frame],
    *,
    like: ClipInfo,
    rate: Fraction | None = None,
    codec: str | None = None,
    quality: int | None = None,
    overwrite: bool = False,
    sound: Sound | None = None,
    metadata: Mapping[str, str] | None = None,
    work: Work | None = None,
    on_frame: Callable[[int, Frame], None] | None = None,
) -> Written:
    """Pull ``frames`` and write them.

    path: a video file (.mp4, .mkv, .mov, .webm, .avi), or a folder of images when it has no suffix or
        ends in a slash.
    like: the source; its depth, colour tags, sample aspect, light and container tags are carried over.
    rate: constant frame rate; None keeps every frame's own time. Folders have no clock.
    codec: h264, hevc, av1, vp9, prores or ffv1; for folders png, tiff, jpg, webp, exr or bmp.
    quality: the codec's own scale (CRF for video, 1..100 for jpg and webp); None: visually lossless.
    sound: what is heard with it, where the container takes it.
    metadata: container tags beside the source's, or instead of those with the same name.
    work: from ``open_work(path, ...)``: ``frames`` begin with output frame number ``work.done``, and what is finished
        stays when the run fails. Closed at the end.
    on_frame: called with the number of frames written, earlier runs' included, and the frame, after each of them.

    Raises, before the first frame is pulled: OutputExistsError, and MediaError for a codec or container
    that cannot be. Later: MediaError when writing fails, and Cancelled, which says what was kept, when
    ``frames`` or ``on_frame`` raises Cancelled or KeyboardInterrupt.
    """
    try:
        target = _Target.of(path, like, sound, overwrite)
        with explained(target.path):
            work = work or private_work(target.path)
            writer = target.writer(work, like, rate, codec, quality, sound, metadata)
    except BaseException:
        if work is not None:
            work.close()
        raise
    earlier, span = work.done, Span(work.last)
    try:
        for frame in frames:
            with explained(target.path):
                writer.add(frame)
            span.add(frame)
            if on_frame is not None:
                on_frame(earlier + span.frames, frame)
        count = earlier + span.frames
        if not count:
            raise MediaError(f"there are no frames to write to {target.path}: give a clip with at least one")
        with explained(target.path):
            made = writer.finish()
            begins = work.pieces[0].begins
            target.publish(made)
    except (Cancelled, KeyboardInterrupt) as stop:
        count = earlier + span.frames
        kept = _keep_partial(target, writer, work) if count else None
        note = _leave(writer, work)
        if kept is None and note is None:
            raise
        parts = (f"stopped after {count} frames" + (f": they are in {kept}" if kept else ""), note)
        raise Cancelled("; ".join(part for part in parts if part)) from stop
    except BaseException as error:
        if (note := _leave(writer, work)) is None:
            raise
        if isinstance(error, FusionFFTError):
            raise type(error)(f"{error}; {note}") from error
        if hasattr(error, "add_note"):  # Python 3.11
            error.add_note(note)
        raise
    work.discard()
    interval = 1 / (rate or like.rate or DEFAULT_IMAGE_RATE)
    seconds = count / rate if rate else span.last.seconds - begins + (span.last.step or interval)
    return Written(target.path, count, seconds, True, writer.notes)


def check_target(path: str | Path, like: ClipInfo, overwrite: bool = False) -> None:
    """Raise now what ``write_clip`` would raise about the name, for callers that have much to do before."""
    _Target.of(path, like, None, overwrite)


@dataclass(frozen=True, slots=True)
class _Target:
    path: Path
    is_folder: bool
    overwrite: bool

    @classmethod
    def of(cls, path: str | Path, like: ClipInfo, sound: Sound | None, overwrite: bool) -> _Target:
        """Decide what ``path`` means; raise when it cannot or must not be written."""
        text, path = os.fspath(path), Path(path)
        suffix = path.suffix.lower()
        is_folder = not suffix or text.endswith(("/", os.sep)) or path.is_dir()
        if not is_folder and suffix not in CONTAINERS:
            raise MediaError(
                f"{path} has the suffix {suffix}, which is no video this can write: use {', '.join(CONTAINERS)}, "
                "or a name without a suffix for a folder of images"
            )
        for source in (like.path, sound and sound.path):
            if source is not None and path.exists() and Path(source).exists() and path.samefile(source):
                raise MediaError(f"{path} is both input and output: give the output another name")
        target = cls(path, is_folder, overwrite)
        target.check_free()
        return target

    def check_free(self) -> None:
        if self.is_folder and self.path.is_dir():
            strangers = [entry.name for entry in self.path.iterdir() if not _is_numbered_image(entry)]
            if strangers:
                # Replacing a folder deletes it: only ever one that holds nothing but numbered images.
                raise OutputExistsError(
                    f"the folder {self.path} holds other things than numbered images ({strangers[0]}, ...): "
                    "give the name of a new folder"
                )
            if self.overwrite or not any(self.path.iterdir()):
                return
        elif not self.path.exists() or (self.overwrite and self.path.is_file()):
            return
        raise OutputExistsError(f"{self.path} exists already: pass --overwrite to replace it, or give another name")

    def writer(
        self,
        work: Work,
        like: ClipInfo,
        rate: Fraction | None,
        codec: str | None,
        quality: int | None,
        sound: Sound | None,
        metadata: Mapping[str, str] | None,
    ) -> _Writer:
        if self.is_folder:
            from .write_images import ImageWriter

            return ImageWriter(work, like, codec, quality)
        from .write_video import VideoWriter

        return VideoWriter(work, self.path.suffix.lower(), like, rate, codec, quality, sound, metadata)

    def publish(self, made: Path) -> None:
        """Give the finished work its name."""
        self.check_free()
        if self.is_folder and self.path.exists():
            # Beside the work folder, not in it: nothing that clears that one up may take the old output along.
            old = made.parent.with_suffix(".old")
            self.path.rename(old)
            try:
                made.rename(self.path)
            except OSError:
                old.rename(self.path)
                raise
            shutil.rmtree(old, ignore_errors=True)
        else:
            made.replace(self.path)

    def publish_partial(self, made: Path, keep: bool) -> Path:
        """Give unfinished work a name of its own, never one that is taken. keep: images stay where they are, too."""
        number = ""
        while True:
            stem = f"{self.path.name if self.is_folder else self.path.stem}.partial{number}"
            path = self.path.with_name(stem if self.is_folder else stem + self.path.suffix)
            if not path.exists():
                if self.is_folder and keep:
                    shutil.copytree(made, path, copy_function=_link)
                else:
                    made.rename(path)
                return path
            number = int(number or 1) + 1


def _link(source: str, target: str) -> None:
    """A second name where the file system has such, else a copy."""
    try:
        os.link(source, target)
    except OSError:
        shutil.copy2(source, target)


def _is_numbered_image(entry: Path) -> bool:
    from .read_images import SUFFIXES

    return entry.is_file() and entry.stem.isdigit() and entry.suffix.lower() in SUFFIXES


def _keep_partial(target: _Target, writer: _Writer, work: Work) -> Path | None:
    """Finish what is there; None when even that fails."""
    try:
        return target.publish_partial(writer.finish_partial(), work.keep)
    except Exception:
        return None
    except BaseException:  # a second Ctrl-C: the user does not want to wait even for this
        _leave(writer, work)
        raise


def _leave(writer: _Writer, work: Work) -> str | None:
    """Let go of everything -> what people should know of the pieces that stay, None when none do."""
    with suppress(Exception):
        writer.abort()
    if not work.close():
        return None
    return f"{work.done} finished frames are kept: run the same command again to go on"
