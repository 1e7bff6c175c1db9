"""Frames -> a folder of numbered images, ``0000000.png`` first.

Integers are written as they are, bit for bit, in types that hold them; floats are rounded to the
source's depth. PNG is the default; a source of floats goes to OpenEXR where OpenCV has it, else to
float TIFF. Alpha is stored straight, in every type. Images are written once, in the work folder, and
become safe in runs of ``IMAGES_PER_PIECE``.
"""

from __future__ import annotations

import zlib
from pathlib import Path

import cv2
import numpy as np

from ..contract import Frame
from ..errors import MediaError
from .clip import ClipInfo
from .samples import samples_of, to_type
from .work import Piece, Span, Work

IMAGES_PER_PIECE = 16
"""Images that a crash costs at most."""

_LZW = 5  # as TIFF numbers its compressions; lossless
IMAGE_CODECS = ("png", "tiff", "jpg", "webp", "exr", "bmp")
_ALSO_KNOWN_AS = {"jpeg": "jpg", "tif": "tiff"}
_EIGHT_BIT = ("jpg", "webp", "bmp")


class ImageWriter:
    """Writes a folder of images. notes: what could not be kept."""

    def __init__(self, work: Work, like: ClipInfo, codec: str | None, quality: int | None) -> None:
        self._work = work
        self._folder = work.folder / "images"
        self._codec = _choose(codec, like)
        self._options = _options(self._codec, quality)
        self._float_type = np.float32 if like.floating else (np.uint16 if like.bit_depth > 8 else np.uint8)
        self.notes: tuple[str, ...] = ()
        self._next_piece()

    def add(self, frame: Frame) -> None:
        self._folder.mkdir(exist_ok=True)
        pixels = self._storable(samples_of(frame))
        good, encoded = cv2.imencode(f".{self._codec}", _to_bgr(pixels), self._options)
        if not good:
            raise MediaError(f"OpenCV cannot encode {pixels.dtype} images as {self._codec}: choose png or tiff")
        file = self._folder / f"{self._work.done + self._span.frames:07d}.{self._codec}"
        data = encoded.tobytes()
        try:
            file.write_bytes(data)
        except BaseException:
            file.unlink(missing_ok=True)  # never half an image, not even when interrupted
            raise
        self._size += len(data)
        self._checksum = zlib.crc32(data, self._checksum)
        self._span.add(frame)
        if self._span.frames == IMAGES_PER_PIECE:
            self._end_piece()

    def finish(self) -> Path:
        """-> the folder of all images, in the work folder."""
        if self._span.frames:
            self._end_piece()
        return self._folder

    def finish_partial(self) -> Path:
        """The same: images do not depend on where a run was stopped, so that all of them are safe."""
        return self.finish()

    def abort(self) -> None:
        if self._work.keep and self._span.frames:
            self._end_piece()

    def _end_piece(self) -> None:
        piece = Piece(
            frames=self._span.frames,
            begins=self._span.begins,
            last=self._span.last,
            pattern=f"images/{{:07d}}.{self._codec}",
            first=self._work.done,
            count=self._span.frames,
            size=self._size,
            checksum=self._checksum,
        )
        self._work.add(piece)
        self._next_piece()

    def _next_piece(self) -> None:
        self._span, self._size, self._checksum = Span(self._work.last), 0, 0

    def _storable(self, pixels: np.ndarray) -> np.ndarray:
        if self._codec in _EIGHT_BIT:
            if pixels.shape[2] == 4 and self._codec == "jpg":
                self._note("alpha dropped: jpg cannot hold it (png, tiff, webp and exr can)")
                pixels = pixels[..., :3]
            if pixels.dtype == np.uint16 or (pixels.dtype.kind == "f" and self._float_type is not np.uint8):
                self._note(f"reduced to 8 bits: {self._codec} holds no more (png and tiff do)")
            return to_type(pixels, np.uint8)
        if self._codec == "exr":
            return to_type(pixels, np.float32)
        if pixels.dtype.kind != "f":
            return pixels
        if self._float_type is not np.float32:
            return to_type(pixels, self._float_type)
        if self._codec == "png":
            self._note("floats rounded to 16 bits: png holds integers (exr and tiff hold floats)")
            return to_type(pixels, np.uint16)
        return pixels if pixels.dtype == np.float64 else to_type(pixels, np.float32)

    def _note(self, text: str) -> None:
        if text not in self.notes:
            self.notes = (*self.notes, text)


def _choose(codec: str | None, like: ClipInfo) -> str:
    if codec is None:
        if not like.floating:
            return "png"
        return "exr" if cv2.haveImageWriter("a.exr") else "tiff"
    name = _ALSO_KNOWN_AS.get(codec.lower(), codec.lower())
    if name not in IMAGE_CODECS:
        raise MediaError(
            f"{codec!r} is not an image type, and an output without a suffix is a folder of images: "
            f"choose {', '.join(IMAGE_CODECS)}, or name a video file such as out.mp4"
        )
    if not cv2.haveImageWriter(f"a.{name}"):
        raise MediaError(f"this OpenCV build cannot write {name}: choose png, or tiff for floats")
    return name


def _options(codec: str, quality: int | None) -> list[int]:
    if codec not in ("jpg", "webp"):
        if quality is not None:
            raise MediaError(f"{codec} is lossless, quality {quality} was given: leave it out, or choose jpg or webp")
        # Before 4.13 OpenCV's own choice for RGB floats is LogLuv, which rounds and holds nothing below 0.
        return {"png": [cv2.IMWRITE_PNG_COMPRESSION, 3], "tiff": [cv2.IMWRITE_TIFF_COMPRESSION, _LZW]}.get(codec, [])
    if quality is not None and not 1 <= quality <= 100:
        raise MediaError(f"quality {quality} does not exist in {codec}: give 1 (worst) to 100 (best)")
    if codec == "jpg":
        return [cv2.IMWRITE_JPEG_QUALITY, quality or 95]
    return [cv2.IMWRITE_WEBP_QUALITY, quality or 101]  # above 100 is lossless


def _to_bgr(pixels: np.ndarray) -> np.ndarray:
    if pixels.shape[2] == 1:
        return np.ascontiguousarray(pixels[..., 0])
    return np.ascontiguousarray(pixels[..., [2, 1, 0, 3][: pixels.shape[2]]])
