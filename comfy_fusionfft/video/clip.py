"""A clip: what a video file or an image folder says about itself, and its frames, streamed.

``open_clip`` looks once (header and first picture); ``clip.frames()``, or iterating the clip, reads it, one
frame at a time, as often as wanted. Nothing but the frame being handed out is kept in memory.
"""

from __future__ import annotations

import stat
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from fractions import Fraction
from pathlib import Path
from typing import Literal

from ..contract import Frame
from ..errors import MediaError
from .colour import Colour
from .light import Light


@dataclass(frozen=True, slots=True)
class ClipInfo:
    """What is known of a clip before it is read.

    width, height: of the frames handed out, display rotation applied.
    rate: average frames per second, from the header; None when the header does not say.
    frames: count from the header, which may be wrong, or None; exact for images.
    bit_depth: per channel in the file. floating: samples are floats (``bit_depth`` 16, 32 or 64).
    channels: 1 grey, 3 RGB, 4 RGBA with straight alpha.
    codec, pixel_format: FFmpeg's names; for images the file type and ``rgb8``, ``grey16``, ``rgbaf32``.
    sample_aspect: width over height of one sample, None when unknown.
    rotation: degrees counter-clockwise that were applied for display.
    metadata: the container's tags, such as title and comment, without those about the file itself (``tags``).
    light: of an HDR clip, what it says about brightness.
    """

    path: Path
    kind: Literal["video", "images"]
    width: int
    height: int
    rate: Fraction | None
    frames: int | None
    bit_depth: int
    channels: int
    codec: str
    pixel_format: str
    colour: Colour = Colour()
    sample_aspect: Fraction | None = None
    rotation: int = 0
    has_audio: bool = False
    floating: bool = False
    metadata: Mapping[str, str] = field(default_factory=dict, hash=False)
    light: Light | None = None


@dataclass(frozen=True, slots=True)
class Clip:
    """``info``, and the Frames in presentation order; each pass is a fresh one.

    damage: number of the frame that would have come next -> pieces of the file that did not decode there, which were
        passed over, as far as passes have come.
    Raises MediaError while reading when the file turns out to be damaged to its end.
    """

    info: ClipInfo
    read: Callable[[int, int | None], Iterator[Frame]]
    damage: dict[int, int] = field(default_factory=dict, hash=False, compare=False)

    @property
    def notes(self) -> tuple[str, ...]:
        """What people should know about the damage, in plain words."""
        if not self.damage:
            return ()
        count, first = sum(self.damage.values()), min(self.damage)
        pictures = "1 damaged picture was" if count == 1 else f"{count} damaged pictures were"
        return (
            f"{pictures} left out of {self.info.path.name}, the first before frame {first} of those that are whole",
        )

    def frames(self, start: int = 0, longest_side: int | None = None) -> Iterator[Frame]:
        """The frames from number ``start`` on, at the times they have when all are read.

        longest_side: larger pictures are reduced to it, by area, to 8 bits per channel, while they are converted:
            a fraction of the work, for looking at many of them.
        Raises MediaError for numbers that cannot be.
        """
        if start < 0:
            raise MediaError(f"reading was to start at frame {start}: give 0 for the first")
        if longest_side is not None and longest_side < 1:
            raise MediaError(f"pictures with a longest side of {longest_side} were wanted: give at least 1")
        return self.read(start, longest_side)

    def __iter__(self) -> Iterator[Frame]:
        return self.frames()


DEFAULT_IMAGE_RATE = Fraction(24)


def open_clip(path: str | Path, *, rate: Fraction | int | None = None) -> Clip:
    """Open a video file, a folder of images, or one image.

    rate: frames per second of images (default 24), and of a video whose header does not say; other
        videos keep their own clock.
    Raises MediaError when there is nothing readable at ``path``.
    """
    path = Path(path)
    if rate is not None and rate <= 0:
        raise MediaError(f"a frame rate of {rate} was given: give one above 0")
    rate = None if rate is None else Fraction(rate)
    try:
        kind = path.stat()
    except (FileNotFoundError, NotADirectoryError, ValueError) as error:  # a name with a NUL in it
        raise MediaError(f"{path} does not exist: give a video file or a folder of images") from error
    except OSError as error:
        raise MediaError(f"{path} cannot be read ({error.strerror}): check the name and its permissions") from error
    if not (stat.S_ISREG(kind.st_mode) or stat.S_ISDIR(kind.st_mode)):  # a pipe would be waited for without end
        raise MediaError(f"{path} is neither a file nor a folder: give a video file or a folder of images")

    from .read_images import SUFFIXES, open_images

    if stat.S_ISDIR(kind.st_mode) or path.suffix.lower() in SUFFIXES:
        return open_images(path, rate or DEFAULT_IMAGE_RATE)
    if kind.st_size == 0:
        raise MediaError(f"{path} is empty (0 bytes): copy or download it again")

    from .read_video import open_video

    return open_video(path, rate)


def reduced_size(width: int, height: int, longest_side: int | None) -> tuple[int, int]:
    """The size of a ``width`` x ``height`` picture with its longest side at most ``longest_side``."""
    if longest_side is None or max(width, height) <= longest_side:
        return width, height
    scale = Fraction(longest_side, max(width, height))
    return max(1, round(width * scale)), max(1, round(height * scale))
