"""Samples of one type as samples of another: rounded, clipped, and untouched when the type is right."""

from __future__ import annotations

import numpy as np
import torch

from ..contract import Frame


def samples_of(frame: Frame) -> np.ndarray:
    """The frame's ``(H, W, C)`` pixels; bfloat16, which NumPy does not know, as float32."""
    pixels = frame.pixels.detach()
    return (pixels.float() if pixels.dtype == torch.bfloat16 else pixels).numpy()


def to_type(pixels: np.ndarray, dtype: np.dtype | type) -> np.ndarray:
    """uint8, uint16 or float samples -> ``dtype``, one of the same, full scale to full scale (floats 0..1).

    NaN becomes 0 in integers. Wider integers hold narrower ones exactly, and give them back exactly.
    """
    dtype = np.dtype(dtype)
    if pixels.dtype == dtype:
        return pixels
    if dtype.kind == "f":
        wide = pixels.astype(dtype)
        return wide if pixels.dtype.kind == "f" else wide / dtype.type(np.iinfo(pixels.dtype).max)
    if pixels.dtype.kind == "f":
        top = np.iinfo(dtype).max
        levels = np.nan_to_num(pixels.astype(np.float32), nan=0.0, posinf=1.0, neginf=0.0).clip(0, 1)
        return (levels * np.float32(top) + np.float32(0.5)).astype(dtype)
    if dtype == np.uint16:
        return pixels.astype(np.uint16) * np.uint16(257)
    return ((pixels.astype(np.uint32) + 128) // 257).astype(np.uint8)
