"""Frames of any kind -> small pictures that are compared: what a survey looks at instead of the frames.

In: ``contract.Frame.pixels``, ``(H, W, C)`` of any dtype and size. Out: ``Thumbnail``, levels 0..255 in float32
whatever the frame's dtype, so that one set of thresholds serves all. Colour behind alpha counts as much as it shows.
"""

from __future__ import annotations

from typing import NamedTuple

import cv2
import numpy as np
import torch
from torch import Tensor

from ..errors import InputError

SIDE = 160
"""Longer side of a thumbnail, pixels; smaller frames stay as they are."""

_CELL = 4
_LUMA = np.float32((0.299, 0.587, 0.114))
_PEAK = {torch.uint8: 255, torch.uint16: 65535}


class Thumbnail(NamedTuple):
    """grey: ``(h, w)`` float32 brightness. cells: ``(h / 4, w / 4, 3)`` float32 RGB, averages over 4 × 4 pixels, in
    which grain is gone. coarse: averages over 16 × 16. Levels are 0..255."""

    grey: np.ndarray
    cells: np.ndarray
    coarse: np.ndarray

    @property
    def light(self) -> float:
        """Mean brightness."""
        return float(self.grey.mean())


def thumbnail(pixels: Tensor, number: int = 0) -> Thumbnail:
    """Shrink a frame, the ``number``-th of its clip. Raises InputError for pixels that are no picture or not finite."""
    colour = small_picture(pixels, SIDE, number)
    high, wide = colour.shape[:2]
    cells = _averaged(colour, (max(1, wide // _CELL), max(1, high // _CELL)))
    coarse = _averaged(cells, (max(1, cells.shape[1] // _CELL), max(1, cells.shape[0] // _CELL)))
    return Thumbnail(colour @ _LUMA, cells, coarse)


def small_picture(pixels: Tensor, side: int, number: int = 0) -> np.ndarray:
    """``(h, w, 3)`` float32 levels 0..255, the longer side at most ``side``, averaged down."""
    if pixels.ndim != 3 or pixels.shape[2] not in (1, 3, 4) or 0 in pixels.shape:
        raise InputError(
            f"frame {number} of shape {tuple(pixels.shape)}: need (height, width, channels) with 1, 3 or 4 channels"
        )
    high, wide = pixels.shape[:2]
    factor = min(1.0, side / max(high, wide))
    size = (max(1, round(wide * factor)), max(1, round(high * factor)))
    small = _averaged(_as_array(pixels, side), size).astype(np.float32, copy=False)
    # Averages of what is not finite are not finite: asking the small picture is asking every pixel.
    if not np.isfinite(small).all():
        raise InputError(
            f"frame {number} holds NaN or infinite values: repair the clip or the node that made it, then run again"
        )
    small = (small * (255 / _PEAK.get(pixels.dtype, 1))).clip(0, 255).reshape(size[1], size[0], -1)
    if small.shape[2] == 4:
        small = small[..., :3] * (small[..., 3:] / 255)
    return np.ascontiguousarray(np.broadcast_to(small, (*small.shape[:2], 3)))


def _as_array(pixels: Tensor, side: int) -> np.ndarray:
    """The pixels in a type that OpenCV averages. Halves are turned into floats strip by strip, and reduced on the way:
    whole 4K frames of floats would be most of the work."""
    if pixels.dtype in (torch.uint8, torch.uint16, torch.float32):
        return np.ascontiguousarray(pixels.numpy())
    high, wide = pixels.shape[:2]
    every = max(1, max(high, wide) // (2 * side))
    rows = every * max(1, 64 // every)
    strips = (pixels[top : top + rows].float().numpy() for top in range(0, high, rows))
    size = -(-wide // every)
    parts = [_averaged(strip, (size, -(-strip.shape[0] // every))) for strip in strips]
    return np.concatenate([part.reshape(*part.shape[:2], -1) for part in parts])


def _averaged(picture: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    if (picture.shape[1], picture.shape[0]) == size:
        return picture
    return cv2.resize(picture, size, interpolation=cv2.INTER_AREA)
