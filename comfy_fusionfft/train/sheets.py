"""Sample sheets: rows of truth, prediction, error and flow, to be looked at while a network learns."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import cv2
import numpy as np
import torch
from torch import Tensor

ERROR_GAIN = 4


def sheet(rows: Sequence[tuple[Tensor, Tensor, Tensor]], path: Path, *, height: int = 180) -> np.ndarray:
    """Write a PNG with one row for each (truth, made ``(3, H, W)``, flow ``(4, H, W)`` pixels).

    Columns: truth, made, error (times ``ERROR_GAIN``), flow t→0. Returns the picture, ``(h, w, 3)`` RGB bytes.
    """
    strips = []
    for truth, made, flow in rows:
        error = (made - truth).abs() * ERROR_GAIN
        cells = [_bytes(cell) for cell in (truth, made, error)] + [colour_flow(flow[:2])]
        width = round(truth.shape[-1] * height / truth.shape[-2])
        strips.append(np.hstack([cv2.resize(cell, (width, height), interpolation=cv2.INTER_AREA) for cell in cells]))
    widest = max(strip.shape[1] for strip in strips)
    picture = np.vstack([np.pad(s, ((0, 4), (0, widest - s.shape[1]), (0, 0))) for s in strips])
    path.parent.mkdir(parents=True, exist_ok=True)
    ok, data = cv2.imencode(".png", cv2.cvtColor(picture, cv2.COLOR_RGB2BGR))
    if ok:
        path.write_bytes(data.tobytes())
    return picture


def colour_flow(flow: Tensor) -> np.ndarray:
    """``(2, H, W)`` pixels -> ``(H, W, 3)`` RGB bytes: hue is direction, brightness length against the longest 2 %."""
    x, y = flow.detach().float().cpu().numpy()
    length, angle = cv2.cartToPolar(x, y, angleInDegrees=True)
    top = max(float(np.quantile(length, 0.98)), 1.0)
    hsv = np.stack([angle / 2, np.full_like(angle, 255), np.minimum(length / top, 1) * 255], -1)
    return cv2.cvtColor(hsv.astype(np.uint8), cv2.COLOR_HSV2RGB)


def _bytes(image: Tensor) -> np.ndarray:
    pixels = image.detach().float().clamp(0, 1).mul(255).round().to(torch.uint8)
    return pixels.permute(1, 2, 0).cpu().contiguous().numpy()
