"""A stream of Frames -> a video file or a folder of images, all of it or nothing.

Everything goes to a hidden name beside the target, which gets its real name when it is complete.
When the user stops half-way, what is done becomes ``<name>.partial``, playable; after any other
failure nothing is left behind. An existing output stays untouched until its successor is complete.
"""

from __future__ import annotations

import errno
import os
import secrets
import shutil
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Protocol

from ..contract import Frame
from ..errors import Cancelled, FusionFFTError, MediaError, OutputExistsError
from .clip import DEFAULT_IMAGE_RATE, ClipInfo
from .codecs import CONTAINERS


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

    def finish(self) -> None: ...

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
    audio_from: Path | None = None,
    on_frame: Callable[[int, Frame], None] | None = None,
) -> Written:
    """Pull ``frames`` and write them.

    path: a video file (.mp4, .mkv, .mov, .webm, .avi), or a folder of images when it has no suffix or
        ends in a slash.
    like: the source; its depth, colour tags and sample aspect are carried over.
    rate: constant frame rate; None keeps every frame's own time. Folders have no clock.
    codec: h264, hevc, av1, vp9, prores or ffv1; for folders png, tiff, jpg, webp, exr or bmp.
    quality: the codec's own scale (CRF for video, 1..100 for jpg and webp); None: visually lossless.
    audio_from: file whose sound is copied, packet by packet, where the container takes it.
    on_frame: called with the number of frames written and the frame, after each of them.

    Raises, before the first frame is pulled: OutputExistsError, and MediaError for a codec or container
    that cannot be. Later: MediaError when writing fails, and Cancelled, which says what was kept, when
    ``frames`` or ``on_frame`` raises Cancelled or KeyboardInterrupt.
    """
    target = _Target.of(path, like, audio_from, overwrite)
    with _explained(target.path):
        writer = target.writer(like, rate, codec, quality, audio_from)
    count, first, last, step = 0, None, None, None
    try:
        for frame in frames:
            with _explained(target.path):
                writer.add(frame)
            count += 1
            first, step, last = first or frame, frame.seconds - (last or frame).seconds, frame
            if on_frame is not None:
                on_frame(count, frame)
        if last is None:
            raise MediaError(f"there are no frames to write to {target.path}: give a clip with at least one")
        with _explained(target.path):
            writer.finish()
            target.publish()
    except (Cancelled, KeyboardInterrupt) as stop:
        kept = _keep_partial(target, writer) if last is not None else None
        if kept is None:
            _abort(target, writer)
            raise
        raise Cancelled(f"stopped after {count} frames: they are in {kept}") from stop
    except BaseException:
        _abort(target, writer)
        raise
    interval = 1 / (rate or like.rate or DEFAULT_IMAGE_RATE)
    seconds = count / rate if rate else last.seconds - first.seconds + (step or interval)
    return Written(target.path, count, seconds, True, writer.notes)


@dataclass(frozen=True, slots=True)
class _Target:
    path: Path
    is_folder: bool
    temporary: Path
    overwrite: bool

    @classmethod
    def of(cls, path: str | Path, like: ClipInfo, audio_from: Path | None, overwrite: bool) -> _Target:
        """Decide what ``path`` means; raise when it cannot or must not be written."""
        text, path = os.fspath(path), Path(path)
        suffix = path.suffix.lower()
        is_folder = not suffix or text.endswith(("/", os.sep)) or path.is_dir()
        if not is_folder and suffix not in CONTAINERS:
            raise MediaError(
                f"{path} has the suffix {suffix}, which is no video this can write: use {', '.join(CONTAINERS)}, "
                "or a name without a suffix for a folder of images"
            )
        if audio_from is not None and not Path(audio_from).is_file():
            raise MediaError(f"no sound can be copied from {audio_from}: give an existing video or audio file")
        for source in (like.path, audio_from):
            if source is not None and path.exists() and Path(source).exists() and path.samefile(source):
                raise MediaError(f"{path} is both input and output: give the output another name")
        name = f".{path.name if is_folder else path.stem}.{secrets.token_hex(4)}.part"
        target = cls(path, is_folder, path.with_name(name if is_folder else name + path.suffix), overwrite)
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
        self, like: ClipInfo, rate: Fraction | None, codec: str | None, quality: int | None, audio_from: Path | None
    ) -> _Writer:
        if self.is_folder:
            from .write_images import ImageWriter

            return ImageWriter(self.temporary, like, codec, quality)
        from .write_video import VideoWriter

        return VideoWriter(self.temporary, like, rate, codec, quality, audio_from)

    def publish(self) -> None:
        """Give the finished work its name."""
        self.check_free()
        if self.is_folder and self.path.exists():
            old = self.temporary.with_suffix(".old")
            self.path.rename(old)
            try:
                self.temporary.rename(self.path)
            except OSError:
                old.rename(self.path)
                raise
            shutil.rmtree(old, ignore_errors=True)
        else:
            self.temporary.replace(self.path)

    def publish_partial(self) -> Path:
        """Give unfinished work a name of its own, never one that is taken."""
        number = ""
        while True:
            stem = f"{self.path.name if self.is_folder else self.path.stem}.partial{number}"
            path = self.path.with_name(stem if self.is_folder else stem + self.path.suffix)
            if not path.exists():
                self.temporary.rename(path)
                return path
            number = int(number or 1) + 1

    def discard(self) -> None:
        if self.is_folder:
            shutil.rmtree(self.temporary, ignore_errors=True)
        else:
            with suppress(OSError):
                self.temporary.unlink(missing_ok=True)


def _is_numbered_image(entry: Path) -> bool:
    from .read_images import SUFFIXES

    return entry.is_file() and entry.stem.isdigit() and entry.suffix.lower() in SUFFIXES


def _keep_partial(target: _Target, writer: _Writer) -> Path | None:
    """Finish what is there; None when even that fails."""
    try:
        writer.finish()
        return target.publish_partial()
    except Exception:
        return None
    except BaseException:  # a second Ctrl-C: the user does not want to wait even for this
        _abort(target, writer)
        raise


def _abort(target: _Target, writer: _Writer) -> None:
    with suppress(Exception):
        writer.abort()
    target.discard()


@contextmanager
def _explained(path: Path) -> Iterator[None]:
    """Turn what the system and the encoders raise into errors that say what to do."""
    try:
        yield
    except FusionFFTError:
        raise
    except OSError as error:
        raise _media_error(path, error) from error
    except Exception as error:
        # PyAV's errors are OSErrors only for some codes; anything else is a bug and shows itself.
        if type(error).__module__.startswith("av."):
            raise _media_error(path, error) from error
        raise


def _media_error(path: Path, error: Exception) -> MediaError:
    if getattr(error, "errno", None) in (errno.ENOSPC, errno.EDQUOT):
        return MediaError(
            f"disk full while writing {path}: free space or choose another folder; nothing was left behind"
        )
    reason = getattr(error, "strerror", None) or error
    return MediaError(f"{path} cannot be written ({reason}): choose another place or another codec")
