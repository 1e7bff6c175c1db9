"""Backward warping that stays sharp: a bicubic look-up over 4×4 pixels instead of 2×2.

A bilinear look-up half-way between pixels averages them, which removes fine detail and grain for good.
Conventions are those of ``ops.warp``: corner-aligned, pixels, x before y, the border continued outwards.
"""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor

from .grid import pixel_places, sampling_grid
from .warp import look_up


def bicubic_warp(image: Tensor, flow: Tensor) -> Tensor:
    """Sample ``image`` at ``(x, y) + flow(x, y)`` -> ``(B, C, H, W)`` in the image's dtype.

    image: ``(B, C, H, W)``, or ``(1, C, H, W)`` for one picture and B flows. flow: ``(B, 2, H, W)`` pixels.
    Next to hard edges values may overshoot the image's range a little. Devices that cannot look up
    bicubically (Apple's) do so bilinearly.
    """
    return bicubic_look_up(image.float(), flow.float(), *pixel_places(flow)).to(image.dtype)


def bicubic_look_up(image: Tensor, flow: Tensor, x: Tensor, y: Tensor) -> Tensor:
    """Sample ``image`` as ``bicubic_warp`` does, at some places only: at ``(x[j], y[i]) + flow[..., i, j]``.

    image: ``(B or 1, C, H, W)`` float32. flow: ``(B, 2, h, w)`` float32 pixels. x: ``(w,)``, y: ``(h,)`` pixels.
    Returns ``(B, C, h, w)``.
    """
    if image.device.type == "mps":
        return look_up(image, flow, x, y)
    source = image.expand(flow.shape[0], -1, -1, -1)
    # Bicubic "border" bounds each pixel that is read, but not the place between them.
    grid = sampling_grid(flow, x, y, image.shape[-2:]).clamp(-1, 1)
    return F.grid_sample(source, grid, mode="bicubic", padding_mode="border", align_corners=True)
