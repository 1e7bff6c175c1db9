"""A clip: what a video file or an image folder says about itself, and its frames, streamed.

``open_clip`` looks once (header and first picture); iterating the clip reads it from the start, one
frame at a time, as often as wanted. Nothing but the frame being handed out is kept in memory.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Literal

from ..contract import Frame
from ..errors import MediaError
from .colour import Colour


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


@dataclass(frozen=True, slots=True)
class Clip:
    """``info`` and, by iteration, the Frames in presentation order; each iteration is a fresh pass.

    Raises MediaError while iterating when the file turns out to be damaged.
    """

    info: ClipInfo
    read: Callable[[], Iterator[Frame]]

    def __iter__(self) -> Iterator[Frame]:
        return self.read()


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
    if not path.exists():
        raise MediaError(f"{path} does not exist: give a video file or a folder of images")

    from .read_images import SUFFIXES, open_images

    if path.is_dir() or path.suffix.lower() in SUFFIXES:
        return open_images(path, rate or DEFAULT_IMAGE_RATE)
    if path.is_file() and path.stat().st_size == 0:
        raise MediaError(f"{path} is empty (0 bytes): copy or download it again")

    from .read_video import open_video

    return open_video(path, rate)
