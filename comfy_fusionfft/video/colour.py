"""Colour tags of a clip, and the YUV ↔ RGB arithmetic for more than 8 bits.

Tags are the code points of ITU-T H.273, as every container stores them: 1 = BT.709, 2 = unspecified,
5 and 6 = BT.601, 9 = BT.2020, matrix 0 = the picture is RGB already. 8-bit pictures are converted by
FFmpeg's scaler, exact to ±1; its deep path maps white to 943 instead of 940, so 10 bits and more are
converted here, in float32, from the definition (H.273 section 8.3).
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    import numpy as np

UNSPECIFIED = 2
RGB = 0
BT709 = 1
BT601 = 6

# matrix code -> luma weights of red and blue
LUMA_WEIGHTS = {
    1: (0.2126, 0.0722),
    4: (0.30, 0.11),
    5: (0.299, 0.114),
    6: (0.299, 0.114),
    7: (0.212, 0.087),
    9: (0.2627, 0.0593),
    10: (0.2627, 0.0593),
}


@dataclass(frozen=True, slots=True)
class Colour:
    """What a stream says about its colours.

    primaries, transfer, matrix: H.273 code points. range: ``limited`` (16..235), ``full`` (0..255),
    None when the stream does not say.
    """

    primaries: int = UNSPECIFIED
    transfer: int = UNSPECIFIED
    matrix: int = UNSPECIFIED
    range: Literal["limited", "full"] | None = None

    def as_yuv(self, height: int) -> Colour:
        """The same with matrix and range decided, as players do: an unknown matrix is BT.709 from 720 lines on
        and BT.601 below; an unknown range is limited."""
        matrix = self.matrix if self.matrix in LUMA_WEIGHTS else (BT709 if height >= 720 else BT601)
        return replace(self, matrix=matrix, range=self.range or "limited")


def yuv_to_rgb(planes: list[np.ndarray], bits: int, colour: Colour) -> np.ndarray:
    """Three ``(H, W)`` integer planes of ``bits`` -> ``(H, W, 3)`` uint16 full scale; ``colour`` decided."""
    import numpy as np

    red, blue = LUMA_WEIGHTS[colour.matrix]
    green = 1 - red - blue
    floor, luma_span, chroma_span = _levels(bits, colour)
    y = (planes[0].astype(np.float32) - np.float32(floor)) * np.float32(65535 / luma_span)
    y += np.float32(0.5)  # rounds below, where the sums are cut to integers
    centre, chroma_gain = np.float32(1 << (bits - 1)), np.float32(2 * 65535 / chroma_span)
    u, v = ((plane.astype(np.float32) - centre) * chroma_gain for plane in planes[1:3])
    channels = (
        y + np.float32(1 - red) * v,
        y - np.float32((1 - blue) * blue / green) * u - np.float32((1 - red) * red / green) * v,
        y + np.float32(1 - blue) * u,
    )
    return np.stack([channel.clip(0, 65535, out=channel).astype(np.uint16) for channel in channels], axis=-1)


def rgb_to_yuv(rgb: np.ndarray, bits: int, colour: Colour) -> list[np.ndarray]:
    """``(H, W, 3)`` uint16 full scale -> three ``(H, W)`` uint16 planes of ``bits``; ``colour`` decided."""
    import numpy as np

    red, blue = LUMA_WEIGHTS[colour.matrix]
    floor, luma_span, chroma_span = _levels(bits, colour)
    r, g, b = (rgb[..., channel].astype(np.float32) / np.float32(65535) for channel in range(3))
    luma = np.float32(red) * r + np.float32(1 - red - blue) * g + np.float32(blue) * b
    centre = 1 << (bits - 1)
    planes = [
        luma * np.float32(luma_span) + floor,
        (b - luma) * np.float32(chroma_span / (2 * (1 - blue))) + centre,
        (r - luma) * np.float32(chroma_span / (2 * (1 - red))) + centre,
    ]
    top = (1 << bits) - 1
    return [(plane.clip(0, top, out=plane) + np.float32(0.5)).astype(np.uint16) for plane in planes]


def levels_to_full(grey: np.ndarray, bits: int, colour: Colour) -> np.ndarray:
    """Integer levels of ``bits``, of any shape -> uint8 (8 bits) or uint16 on the full scale of that type."""
    import numpy as np

    floor, span, _ = _levels(bits, colour)
    dtype, top = (np.uint16, 65535) if bits > 8 else (np.uint8, 255)
    if (floor, span) == (0, top):
        return grey
    levels = (grey.astype(np.float32) - floor) * np.float32(top / span)
    return (levels.clip(0, top) + np.float32(0.5)).astype(dtype)


def _levels(bits: int, colour: Colour) -> tuple[int, int, int]:
    """Black level, luma span and chroma span of integers of ``bits``."""
    if colour.range == "full":
        return 0, (1 << bits) - 1, (1 << bits) - 1
    return 16 << (bits - 8), 219 << (bits - 8), 224 << (bits - 8)
