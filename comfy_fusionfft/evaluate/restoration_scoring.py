"""How restored pictures are compared with true ones: what differs from one set's publications to another's."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np

from ..quality import psnr, ssim

_LUMA = np.array([65.481, 128.553, 24.966]) / 255
_BLACK = 16 / 255


@dataclass(frozen=True, slots=True)
class Scoring:
    """colour: ``rgb``, or ``y``, its luma alone. border: pixels at each side that PSNR and SSIM leave out.
    ends: whether the first and the last frame of a clip are scored."""

    colour: Literal["rgb", "y"] = "rgb"
    border: int = 0
    ends: bool = True

    def scores(self, picture: np.ndarray, truth: np.ndarray) -> tuple[float, float]:
        """PSNR and SSIM of ``(H, W, 3)`` RGB pictures in 0..1; SSIM over windows that lie within what is compared."""
        compared = [self._compared(each) for each in (picture, truth)]
        return psnr(*compared), ssim(*compared, borders=False)

    def _compared(self, picture: np.ndarray) -> np.ndarray:
        height, width = picture.shape[:2]
        inner = picture[self.border : height - self.border, self.border : width - self.border]
        return luma(inner) if self.colour == "y" else inner


def luma(picture: np.ndarray) -> np.ndarray:
    """RGB ``(H, W, 3)`` in 0..1 -> ``(H, W)``: BT.601's Y in studio range, 16/255 to 235/255, not rounded.

    PSNR is taken with peak 1 all the same, as the publications do: 1.3 dB more than with the peak that Y can reach.
    """
    return picture @ _LUMA + _BLACK


JOINT = Scoring(border=4, ends=False)
"""Restoration with deblurring, as FMA-Net was judged."""
SHARP = Scoring()
"""Super-resolution of REDS."""
LUMA = Scoring(colour="y")
"""Super-resolution of Vid4."""
