"""A folder of images, or one image -> Frames with the file's own integers or floats.

Files are taken in natural order (``2.png`` before ``10.png``); suffixes in any case; other files and
hidden ones are ignored. Bytes are read by Python and decoded by OpenCV, so that any path works.
The first image decides size and channels: later grey or RGB images are widened to it without loss,
anything that would lose something is an error that names both files. Alpha is handed out as stored.
"""

from __future__ import annotations

import io
import os
import re
from collections.abc import Iterator
from contextlib import suppress
from fractions import Fraction
from pathlib import Path

import numpy as np
import torch

# OpenCV reads this once, when it is first imported.
os.environ.setdefault("OPENCV_IO_ENABLE_OPENEXR", "1")
import cv2

from ..contract import Frame
from ..errors import MediaError
from .clip import Clip, ClipInfo, reduced_size
from .colour import RGB, Colour
from .samples import to_type
from .size import check_size, declared_size

_LOG = getattr(cv2.utils, "logging", cv2)
"""Where OpenCV has its ``setLogLevel``: 4.8 in the module itself."""
SUFFIXES = {
    ".png": "png",
    ".tif": "tiff",
    ".tiff": "tiff",
    ".jpg": "jpg",
    ".jpeg": "jpg",
    ".bmp": "bmp",
    ".webp": "webp",
    ".exr": "exr",
}
_NAMES = {1: "grey", 3: "rgb", 4: "rgba"}


def open_images(path: Path, rate: Fraction) -> Clip:
    """Frame k is shown at k / ``rate`` seconds. Raises MediaError when the first image cannot be read."""
    files = list_images(path) if path.is_dir() else [path]
    first = read_image(files[0])
    height, width, channels = first.shape
    depth = first.dtype.itemsize * 8
    floating = first.dtype.kind == "f"
    info = ClipInfo(
        path=path,
        kind="images",
        width=width,
        height=height,
        rate=rate,
        frames=len(files),
        bit_depth=depth,
        channels=channels,
        codec=SUFFIXES[files[0].suffix.lower()],
        pixel_format=f"{_NAMES[channels]}{'f' if floating else ''}{depth}",
        colour=Colour(matrix=RGB, range="full"),
        floating=floating,
    )
    return Clip(info, lambda start, longest_side: _frames(files, info, start, longest_side))


def read_image(path: Path) -> np.ndarray:
    """-> ``(H, W, C)`` uint8, uint16 or float, RGB order, JPEG orientation applied. Raises MediaError."""
    try:
        data = path.read_bytes()
    except OSError as error:
        raise MediaError(f"{path} cannot be read ({error.strerror}): check the file and its permissions") from error
    if not data:
        raise MediaError(f"{path} is empty (0 bytes): remove it or copy it again")
    # What it can write it can read; whether it reads a type, OpenCV 4 tells of files alone, not of names.
    if (kind := SUFFIXES[path.suffix.lower()]) == "exr" and not cv2.haveImageWriter("a.exr"):
        raise MediaError(f"{path} is OpenEXR, which this OpenCV build cannot read: convert it to float TIFF")
    # IMREAD_UNCHANGED keeps alpha but ignores the orientation tag, which only JPEG files carry in practice.
    flags = cv2.IMREAD_ANYCOLOR | cv2.IMREAD_ANYDEPTH if kind == "jpg" else cv2.IMREAD_UNCHANGED
    size = declared_size(data)
    if size is None:
        raise MediaError(f"{path} is not a readable image (damaged, or not {kind}): remove it or copy it again")
    check_size(path, *size)
    level = _LOG.getLogLevel()
    _LOG.setLogLevel(0)  # its warnings would reach stderr; what matters is raised below
    try:
        image = cv2.imdecode(np.frombuffer(data, np.uint8), flags)
    except cv2.error as error:
        raise MediaError(f"{path} is not an image OpenCV can read ({error.err}): remove or convert it") from error
    finally:
        _LOG.setLogLevel(level)
    if image is None:
        raise MediaError(f"{path} is not a readable image (damaged, or not {kind}): remove it or copy it again")
    if image.dtype not in (np.uint8, np.uint16, np.float16, np.float32, np.float64):
        raise MediaError(f"{path} has {image.dtype} samples: convert it to 8 or 16 bit integers or to floats")
    if kind == "tiff" and image.dtype == np.uint8 and image.ndim == 3 and image.shape[2] == 4:
        return _straight_tiff(data, image)
    if image.ndim == 2:
        return image[..., None]
    if image.shape[2] == 3:
        return np.ascontiguousarray(image[..., ::-1])
    if image.shape[2] == 4:
        return np.ascontiguousarray(image[..., [2, 1, 0, 3]])
    if image.shape[2] == 1:
        return image
    raise MediaError(f"{path} has {image.shape[2]} channels: give grey, RGB or RGBA images")


def _straight_tiff(data: bytes, image: np.ndarray) -> np.ndarray:
    """RGBA of an 8-bit TIFF. OpenCV multiplies colour by alpha there, which loses bits; FFmpeg does not."""
    import av

    with (
        suppress(av.error.FFmpegError, StopIteration, IndexError),
        av.open(io.BytesIO(data), format="tiff_pipe") as container,
    ):
        picture = next(container.decode(video=0))
        if picture.format.name == "rgba":
            return picture.to_ndarray()
    return np.ascontiguousarray(image[..., [2, 1, 0, 3]])


def list_images(folder: Path) -> list[Path]:
    try:
        entries = list(folder.iterdir())
    except OSError as error:
        raise MediaError(f"{folder} cannot be read ({error.strerror}): check its permissions") from error
    files = [
        entry
        for entry in entries
        if entry.suffix.lower() in SUFFIXES and not entry.name.startswith(".") and entry.is_file()
    ]
    if not files:
        kinds = ", ".join(suffix[1:] for suffix in SUFFIXES)
        raise MediaError(f"{folder} holds no images: put {kinds} files into it or give another folder")
    return sorted(files, key=_natural)


def _natural(path: Path) -> tuple[list[tuple[int, int, str]], str]:
    parts = re.split(r"([0-9]+)", path.name.lower())
    return [(0, int(part), "") if part.isdecimal() else (1, 0, part) for part in parts], path.name


def _frames(files: list[Path], info: ClipInfo, start: int, longest_side: int | None) -> Iterator[Frame]:
    size = reduced_size(info.width, info.height, longest_side)
    for index, file in enumerate(files[start:], start):
        pixels = _widen(read_image(file), file, files[0], info)
        if longest_side is not None:
            pixels = to_type(cv2.resize(pixels, size, interpolation=cv2.INTER_AREA).reshape(*size[::-1], -1), np.uint8)
        yield Frame(torch.from_numpy(pixels), Fraction(index) / info.rate)


def _widen(pixels: np.ndarray, file: Path, first: Path, info: ClipInfo) -> np.ndarray:
    """Bring ``pixels`` to the channels of the clip, or say why that cannot be done."""
    height, width, channels = pixels.shape
    if (width, height) != (info.width, info.height):
        raise MediaError(
            f"images of one folder must have one size: {first} is {info.width}x{info.height}, "
            f"{file.name} is {width}x{height}: resize it or move it out"
        )
    if channels > info.channels:
        raise MediaError(
            f"images of one folder must have the same channels: {first} is {_NAMES[info.channels]}, "
            f"{file.name} is {_NAMES[channels]}: convert one of them"
        )
    if channels == 1 < info.channels:
        pixels = np.repeat(pixels, 3, axis=2)
    if pixels.shape[2] < info.channels:
        opaque = 1 if pixels.dtype.kind == "f" else np.iinfo(pixels.dtype).max
        pixels = np.concatenate([pixels, np.full_like(pixels[..., :1], opaque)], axis=2)
    return pixels
