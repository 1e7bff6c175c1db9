"""Backward warping that stays sharp: a bicubic look-up over 4×4 pixels instead of 2×2.

A bilinear look-up half-way between pixels averages them, which removes fine detail and grain for good.
Conventions are those of ``ops.warp``: corner-aligned, pixels, x before y, the border continued outwards.
"""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor

from .warp import backward_warp, sampling_grid


def bicubic_warp(image: Tensor, flow: Tensor) -> Tensor:
    """Sample ``image`` at ``(x, y) + flow(x, y)`` -> ``(B, C, H, W)`` in the image's dtype.

    image: ``(B, C, H, W)``, or ``(1, C, H, W)`` for one picture and B flows. flow: ``(B, 2, H, W)`` pixels.
    Next to hard edges values may overshoot the image's range a little. Devices that cannot look up
    bicubically (Apple's) do so bilinearly.
    """
    if image.device.type == "mps":
        return backward_warp(image, flow)
    source = image.float().expand(flow.shape[0], -1, -1, -1)
    return F.grid_sample(source, sampling_grid(flow), mode="bicubic", padding_mode="border", align_corners=True).to(
        image.dtype
    )
