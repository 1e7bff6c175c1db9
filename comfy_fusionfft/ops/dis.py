"""Dense inverse search (DIS): fast classical motion between two grey pictures, on the CPU.

"Fast Optical Flow using Dense Inverse Search", Kroeger et al., ECCV 2016; the search itself is OpenCV's.
"""

from __future__ import annotations

from typing import Literal, get_args

import cv2
import numpy as np
import torch
from torch import Tensor

from ..errors import InputError

SMALLEST_SIDE = 48
"""Below this OpenCV's choice of pyramid levels fails, or crashes: such pictures are extended first."""

Preset = Literal["ultrafast", "fast", "medium"]


class DenseInverseSearch:
    """``search(source, target)``: motion from each pixel of ``source (H, W)`` uint8 to ``target``, ``(H, W, 2)``
    float32 pixels, pictures of any size. Deterministic, whatever the number of threads."""

    def __init__(self, preset: Preset = "medium") -> None:
        if preset not in get_args(Preset):
            raise InputError(f"DIS preset {preset!r} is not known: use {', '.join(get_args(Preset))}")
        self._finder = cv2.DISOpticalFlow.create(getattr(cv2, f"DISOPTICAL_FLOW_PRESET_{preset.upper()}"))

    def __call__(self, source: np.ndarray, target: np.ndarray) -> np.ndarray:
        height, width = source.shape
        missing = (0, max(0, SMALLEST_SIDE - height), 0, max(0, SMALLEST_SIDE - width))
        if any(missing):
            source, target = (cv2.copyMakeBorder(x, *missing, cv2.BORDER_REPLICATE) for x in (source, target))
        return np.ascontiguousarray(self._finder.calc(source, target, None)[:height, :width])


def grey_bytes(image: Tensor) -> np.ndarray:
    """``(1, 3, H, W)`` RGB in 0..1, on any device -> brightness ``(H, W)`` uint8, what is searched."""
    weights = image.new_tensor((0.299, 0.587, 0.114), dtype=torch.float32).view(3, 1, 1)
    return (image[0].float() * weights).sum(0).clamp(0, 1).mul(255).round().to(torch.uint8).cpu().numpy()
