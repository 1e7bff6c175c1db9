"""Backward warping: look up, for every output pixel, the place in a source picture that a flow points to.

Coordinates are corner-aligned: pixel centres lie at 0 .. size-1, x along the width. Flow is in pixels.
Places outside the picture take the nearest border pixel.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from ..contract import Flow


def backward_warp(image: Tensor, flow: Tensor) -> Tensor:
    """Sample ``image`` at ``(x, y) + flow(x, y)``, bilinearly, with the border continued outwards.

    image: ``(B, C, H, W)``, or ``(1, C, H, W)`` to warp one picture by B flows without copying it.
    flow: ``(B, 2, H, W)`` pixels, x before y.
    Returns ``(B, C, H, W)`` in the image's dtype; coordinates and weights are float32 in any case, because
    half-precision coordinates are off by whole pixels beyond a width of 2048.
    """
    grid = sampling_grid(flow)
    source = image.float().expand(flow.shape[0], -1, -1, -1)
    return F.grid_sample(source, grid, mode="bilinear", padding_mode="zeros", align_corners=True).to(image.dtype)


def blend(left: Tensor, right: Tensor, motion: Flow) -> Tensor:
    """Both images warped to the T instants of ``motion`` and mixed by its mask.

    left, right: ``(T or 1, C, H, W)``. Returns ``(T, C, H, W)`` in their dtype.
    """
    left_view = backward_warp(left, motion.flow[:, :2]).float()
    right_view = backward_warp(right, motion.flow[:, 2:]).float()
    return torch.lerp(right_view, left_view, motion.mask.sigmoid()).to(left.dtype)


def sampling_grid(flow: Tensor) -> Tensor:
    """``(B, 2, H, W)`` pixels -> ``(B, H, W, 2)`` float32 places for ``grid_sample`` with aligned corners."""
    height, width = flow.shape[-2:]
    flow = flow.float()
    # A single row or column has no extent; any finite step will do, for its only coordinate is clamped.
    x = torch.linspace(-1, 1, width, device=flow.device) + flow[:, 0] * (2 / max(width - 1, 1))
    y = torch.linspace(-1, 1, height, device=flow.device)[:, None] + flow[:, 1] * (2 / max(height - 1, 1))
    # Clamping is exactly grid_sample's "border" mode, which MPS lacks.
    return torch.stack((x, y), dim=-1).clamp(-1, 1)
