"""One FFmpeg picture ↔ one ``(H, W, C)`` array, with the clip's matrix and range honoured.

8-bit pictures become uint8, deeper ones uint16 on the full 0..65535 scale, grey ones keep one
channel, alpha is straight. Chroma is resampled with a bicubic, the scaler told to round accurately.
Scaling goes through a filter graph, because its options mean the same in every FFmpeg from 5 on.
"""

from __future__ import annotations

from dataclasses import dataclass
from fractions import Fraction
from itertools import pairwise
from typing import Literal

import av
import av.filter
import numpy as np

from .colour import LUMA_WEIGHTS, RGB, UNSPECIFIED, Colour, levels_to_full, rgb_to_yuv, yuv_to_rgb
from .samples import to_type

_FLAGS = "bicubic+accurate_rnd+full_chroma_int+full_chroma_inp+bitexact"
_SMALL_FLAGS = "area+bitexact"
_MATRIX_NAMES = {1: "bt709", 4: "fcc", 5: "bt601", 6: "bt601", 7: "smpte240m", 9: "bt2020", 10: "bt2020"}
_FULL = Colour(range="full")
_LITTLE_GREYS = {"gray", "gray9le", "gray10le", "gray12le", "gray14le", "gray16le"}


@dataclass(frozen=True, slots=True)
class Layout:
    """What a pixel format holds. bits: of the deepest channel. kind: how colour is stored."""

    channels: int
    bits: int
    kind: Literal["grey", "rgb", "yuv"]

    @classmethod
    def of(cls, name: str) -> Layout:
        pixel_format = av.VideoFormat(name, 16, 16)
        parts = pixel_format.components
        bits = max(part.bits for part in parts)
        if name.startswith(("gray", "mono")):
            return cls(1, max(bits, 8), "grey")
        alpha = pixel_format.has_palette or any(part.is_alpha for part in parts)
        is_yuv = len(parts) >= 3 and not pixel_format.is_rgb and "xyz" not in name and "bayer" not in name
        return cls(4 if alpha else 3, bits, "yuv" if is_yuv else "rgb")


class Converter:
    """Pictures of one stream -> arrays. ``colour`` has its matrix and range decided.

    A picture of another size, depth or number of channels than was given (a stream may change them) is brought to it.
    small: pictures are scaled, by area, to 8 bits in one go, which is quick and as exact as FFmpeg's scaler.
    channels, bits: those that come out, bits rounded up to 8 or 16; None: each picture's own.
    """

    def __init__(
        self,
        width: int,
        height: int,
        colour: Colour,
        small: bool = False,
        channels: int | None = None,
        bits: int | None = None,
    ) -> None:
        self._width, self._height = width, height
        self._colour = colour
        self._small = small
        self._channels = channels
        self._dtype = None if bits is None else np.uint16 if bits > 8 and not small else np.uint8
        self._scaler = _Scaler(_SMALL_FLAGS if small else _FLAGS)

    def __call__(self, picture: av.VideoFrame) -> np.ndarray:
        pixels = self._own(picture)
        if self._dtype is not None:
            pixels = to_type(pixels, self._dtype)
        return pixels if self._channels in (None, pixels.shape[2]) else self._with_channels(pixels, self._channels)

    def _with_channels(self, pixels: np.ndarray, channels: int) -> np.ndarray:
        colours, alpha = (pixels[..., :3], pixels[..., 3:]) if pixels.shape[2] >= 3 else (pixels, pixels[..., 1:])
        if channels == 1 and colours.shape[2] == 3:
            red, blue = LUMA_WEIGHTS[self._colour.matrix]
            colours = np.rint(colours @ np.array([[red], [1 - red - blue], [blue]])).astype(pixels.dtype)
        elif channels >= 3 and colours.shape[2] == 1:
            colours = np.repeat(colours, 3, axis=2)
        if channels != 4:
            return colours
        opaque = np.full_like(colours[..., :1], np.iinfo(pixels.dtype).max)
        return np.concatenate([colours, alpha if alpha.shape[2] else opaque], axis=2)

    def _own(self, picture: av.VideoFrame) -> np.ndarray:
        """With the channels and the depth that the picture has."""
        name = picture.format.name
        layout = Layout.of(name)
        # The yuvj formats are full range by name, whatever the tag says.
        colour = Colour(matrix=self._colour.matrix, range="full") if name.startswith("yuvj") else self._colour
        deep = layout.bits > 8 and not self._small
        if layout.kind == "grey" and self._small:
            return levels_to_full(_plane(self._scale(picture, "gray", colour, "pc", "pc"), 0, 1), 8, colour)
        if layout.kind == "grey":
            target = name if name in _LITTLE_GREYS else ("gray16le" if deep else "gray")
            bits = layout.bits if target == name else (16 if deep else 8)
            plane = _plane(self._scale(picture, target, colour, "pc", "pc"), 0, 1)
            return levels_to_full(plane, bits, colour)
        source_range = "pc" if layout.kind == "rgb" or colour.range == "full" else "tv"
        if not deep:
            target = "rgba" if layout.channels == 4 else "rgb24"
            return _plane(self._scale(picture, target, colour, source_range, "pc"), 0, layout.channels)
        bits = next(width for width in (10, 12, 16) if layout.bits <= width)
        family = ("yuva444p" if layout.channels == 4 else "yuv444p") if layout.kind == "yuv" else ""
        family = family or ("gbrap" if layout.channels == 4 else "gbrp")
        scaled = self._scale(picture, f"{family}{bits}le", colour, source_range, source_range)
        planes = [_plane(scaled, index, 1)[..., 0] for index in range(layout.channels)]
        if layout.kind == "yuv":
            colours = yuv_to_rgb(planes[:3], bits, colour)
        else:
            colours = levels_to_full(np.stack([planes[2], planes[0], planes[1]], axis=-1), bits, _FULL)
        if layout.channels == 3:
            return colours
        return np.concatenate([colours, levels_to_full(planes[3], bits, _FULL)[..., None]], axis=2)

    def _scale(self, picture: av.VideoFrame, target: str, colour: Colour, here: str, there: str) -> av.VideoFrame:
        same_size = (picture.width, picture.height) == (self._width, self._height)
        if same_size and picture.format.name == target and here == there:
            return picture
        matrix = _MATRIX_NAMES[colour.matrix]
        settings = f"in_color_matrix={matrix}:in_range={here}:out_color_matrix={matrix}:out_range={there}"
        return self._scaler(picture, self._width, self._height, target, settings)


class Drawer:
    """Arrays -> pictures of ``pixel_format``; RGB formats have ``colour.matrix`` 0.

    uint8 goes to 8-bit formats, uint16 to deeper ones; grey is widened unless the format is grey.
    """

    def __init__(self, pixel_format: str, colour: Colour) -> None:
        self.layout = Layout.of(pixel_format)
        self._format = pixel_format
        self._colour = colour
        self._scaler = _Scaler()

    @property
    def dtype(self) -> type:
        return np.uint16 if self.layout.bits > 8 else np.uint8

    def __call__(self, pixels: np.ndarray) -> av.VideoFrame:
        height, width, _ = pixels.shape
        deep = self.layout.bits > 8
        if self.layout.kind == "grey":
            return _draw(self._format, [pixels])
        if pixels.shape[2] == 1:
            pixels = np.repeat(pixels, 3, axis=2)
        if self.layout.channels == 3:
            pixels = pixels[..., :3]
        elif pixels.shape[2] == 3:
            pixels = np.concatenate([pixels, np.full_like(pixels[..., :1], np.iinfo(pixels.dtype).max)], axis=2)
        if self.layout.kind == "rgb" or not deep:
            packed = {(3, False): "rgb24", (4, False): "rgba", (3, True): "rgb48le", (4, True): "rgba64le"}
            picture = _draw(packed[pixels.shape[2], deep], [pixels])
            target_range = "pc" if self.layout.kind == "rgb" else self._range
            matrix = "" if self._colour.matrix == RGB else f":out_color_matrix={_MATRIX_NAMES[self._colour.matrix]}"
            return self._scaler(picture, width, height, self._format, f"in_range=pc:out_range={target_range}{matrix}")
        bits = self.layout.bits
        planes = rgb_to_yuv(pixels, bits, self._colour)
        full = f"yuv444p{bits}le"
        if self.layout.channels == 4:
            full = f"yuva444p{bits}le"
            alpha = pixels[..., 3].astype(np.float32) * np.float32(((1 << bits) - 1) / 65535)
            planes.append((alpha + np.float32(0.5)).astype(np.uint16))
        picture = _draw(full, [plane[..., None] for plane in planes])
        if full == self._format:
            return picture
        matrix = _MATRIX_NAMES[self._colour.matrix]
        settings = f"in_color_matrix={matrix}:in_range={self._range}:out_color_matrix={matrix}:out_range={self._range}"
        return self._scaler(picture, width, height, self._format, settings)

    @property
    def _range(self) -> str:
        return "pc" if self._colour.range == "full" else "tv"


class _Scaler:
    """FFmpeg's scale filter, rebuilt only when something about the pictures changes."""

    def __init__(self, flags: str = _FLAGS) -> None:
        self._flags = flags
        self._key: tuple | None = None
        self._graph: av.filter.Graph | None = None

    def __call__(self, picture: av.VideoFrame, width: int, height: int, target: str, settings: str) -> av.VideoFrame:
        key = (picture.width, picture.height, picture.format.name, width, height, target, settings)
        if key != self._key:
            graph = av.filter.Graph()
            source = graph.add_buffer(
                width=picture.width, height=picture.height, format=picture.format, time_base=Fraction(1, 1000)
            )
            scale = graph.add("scale", f"w={width}:h={height}:flags={self._flags}:{settings}")
            pin = graph.add("format", f"pix_fmts={target}")
            for node, following in pairwise((source, scale, pin, graph.add("buffersink"))):
                node.link_to(following)
            graph.configure()
            self._key, self._graph = key, graph
        # Only matrix and range are wanted; newer scalers refuse transfers and primaries they do not know.
        for tag in ("color_trc", "color_primaries"):
            if hasattr(picture, tag):
                setattr(picture, tag, UNSPECIFIED)
        self._graph.push(picture)
        return self._graph.pull()


def _plane(picture: av.VideoFrame, index: int, channels: int) -> np.ndarray:
    """Copy of one plane, ``(H, W, channels)`` uint8 or uint16, without the padding at the ends of its lines."""
    plane = picture.planes[index]
    dtype = np.uint16 if Layout.of(picture.format.name).bits > 8 else np.uint8
    lines = np.frombuffer(plane, np.uint8, count=plane.line_size * plane.height).reshape(plane.height, -1)
    used = lines[:, : plane.width * channels * np.dtype(dtype).itemsize]
    return np.ascontiguousarray(used).view(dtype).reshape(plane.height, plane.width, channels).copy()


def _draw(pixel_format: str, planes: list[np.ndarray]) -> av.VideoFrame:
    height, width, _ = planes[0].shape
    picture = av.VideoFrame(width, height, pixel_format)
    for plane, pixels in zip(picture.planes, planes, strict=True):
        lines = np.frombuffer(plane, np.uint8, count=plane.line_size * height).reshape(height, -1)
        packed = np.ascontiguousarray(pixels).view(np.uint8).reshape(height, -1)
        lines[:, : packed.shape[1]] = packed
    return picture
