"""How large pictures may be, and the size that an image file declares, read before anything is decoded.

A few bytes can declare any size, and a decoder takes the memory for all of it first. Types of images are told by
their content. Specifications: PNG 11.2.2, JPEG (ITU-T T.81) B.2.2, TIFF 6 section 2 and BigTIFF, WebP container,
BMP's info headers, OpenEXR file layout.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from pathlib import Path

from ..errors import MediaError

MOST_PIXELS = 1 << 27
"""Of one picture: 16384x8192."""

_JPEG_FRAMES = {*range(0xC0, 0xD0)} - {0xC4, 0xC8, 0xCC}
_TIFF_TYPES = {3: "H", 4: "I", 16: "Q"}
_TIFF_SIZES = ((256, 257), (322, 323))  # of the picture, of one tile


def check_size(path: Path, width: int, height: int) -> None:
    """Raise MediaError for pictures that are larger than any that can be worked on."""
    if width * height > MOST_PIXELS:
        raise MediaError(
            f"{path} declares pictures of {width}x{height}, at most {MOST_PIXELS} pixels are read: "
            "make them smaller, or copy the file again if they are not so large"
        )


def declared_size(data: bytes) -> tuple[int, int] | None:
    """Width and height, the greatest where a header has several; None when the type is not known or is torn."""
    try:
        for magic, read in _READERS:
            if data.startswith(magic):
                return max(read(data), key=lambda size: size[0] * size[1], default=None)
    except struct.error:
        pass
    return None


def _png(data: bytes) -> Iterator[tuple[int, int]]:
    yield struct.unpack_from(">II", data, 16)


def _jpeg(data: bytes) -> Iterator[tuple[int, int]]:
    at = 2
    while True:
        marker, length = struct.unpack_from(">xBH", data, at)
        if marker == 0xFF:  # fill bytes may stand before a marker
            at += 1
            continue
        if marker in _JPEG_FRAMES:
            height, width = struct.unpack_from(">HH", data, at + 5)
            yield width, height
            return
        at += 2 + (0 if 0xD0 <= marker <= 0xD9 or marker == 0x01 else length)


def _bmp(data: bytes) -> Iterator[tuple[int, int]]:
    (header,) = struct.unpack_from("<I", data, 14)
    width, height = struct.unpack_from("<HH" if header == 12 else "<ii", data, 18)
    yield abs(width), abs(height)


def _webp(data: bytes) -> Iterator[tuple[int, int]]:
    kind = data[12:16]
    if kind == b"VP8X":
        low_w, high_w, low_h, high_h = struct.unpack_from("<HBHB", data, 24)
        yield (low_w | high_w << 16) + 1, (low_h | high_h << 16) + 1
    elif kind == b"VP8L":
        (bits,) = struct.unpack_from("<I", data, 21)
        yield (bits & 0x3FFF) + 1, (bits >> 14 & 0x3FFF) + 1
    elif kind == b"VP8 ":
        width, height = struct.unpack_from("<HH", data, 26)
        yield width & 0x3FFF, height & 0x3FFF


def _tiff(data: bytes) -> Iterator[tuple[int, int]]:
    order = "<" if data[:2] == b"I" * 2 else ">"
    big = struct.unpack_from(f"{order}H", data, 2) == (43,)
    (at,) = struct.unpack_from(f"{order}{'Q' if big else 'I'}", data, 8 if big else 4)
    (entries,) = struct.unpack_from(f"{order}{'Q' if big else 'H'}", data, at)
    values = {}
    for number in range(min(entries, 4096)):
        entry = at + (8 + 20 * number if big else 2 + 12 * number)
        tag, kind = struct.unpack_from(f"{order}HH", data, entry)
        if kind in _TIFF_TYPES and any(tag in pair for pair in _TIFF_SIZES):
            (values[tag],) = struct.unpack_from(order + _TIFF_TYPES[kind], data, entry + (12 if big else 8))
    for width, height in _TIFF_SIZES:
        if width in values and height in values:
            yield values[width], values[height]


def _exr(data: bytes) -> Iterator[tuple[int, int]]:
    at = 8
    while (end := data.find(b"\0", at)) > at:
        name, after = data[at:end], data.find(b"\0", end + 1) + 1
        if not after:
            return
        (length,) = struct.unpack_from("<I", data, after)
        if name in (b"dataWindow", b"displayWindow"):
            left, top, right, bottom = struct.unpack_from("<4i", data, after + 4)
            yield abs(right - left) + 1, abs(bottom - top) + 1
        at = after + 4 + length


_READERS = (
    (b"\x89PNG\r\n\x1a\n", _png),
    (b"\xff\xd8\xff", _jpeg),
    (b"BM", _bmp),
    (b"RIFF", _webp),
    (b"II*\0", _tiff),
    (b"MM\0*", _tiff),
    (b"II+\0", _tiff),
    (b"MM\0+", _tiff),
    (b"v/1\x01", _exr),
)
