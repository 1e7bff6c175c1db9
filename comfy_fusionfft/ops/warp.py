"""Backward warping: look up, for every output pixel, the place in a source picture that a flow points to.

Coordinates are corner-aligned: pixel centres lie at 0 .. size-1, x along the width. Flow is in pixels.
Places outside the picture take the nearest border pixel.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from ..contract import Flow
from .grid import pixel_places, sampling_grid
from .strips import in_bands, strip_rows, strips


def backward_warp(image: Tensor, flow: Tensor) -> Tensor:
    """Sample ``image`` at ``(x, y) + flow(x, y)``, bilinearly, with the border continued outwards.

    image: ``(B, C, H, W)``, or ``(1, C, H, W)`` to warp one picture by B flows without copying it.
    flow: ``(B, 2, H, W)`` pixels, x before y.
    Returns ``(B, C, H, W)`` in the image's dtype; coordinates and weights are float32 in any case, because
    half-precision coordinates are off by whole pixels beyond a width of 2048.
    """
    x, y = pixel_places(flow)
    return look_up(image.float(), flow.float(), x, y).to(image.dtype)


def look_up(image: Tensor, flow: Tensor, x: Tensor, y: Tensor) -> Tensor:
    """Sample ``image`` as ``backward_warp`` does, at some places only: at ``(x[j], y[i]) + flow[..., i, j]``.

    image: ``(B or 1, C, H, W)`` float32. flow: ``(B, 2, h, w)`` float32 pixels. x: ``(w,)``, y: ``(h,)`` pixels.
    Returns ``(B, C, h, w)``.
    """
    made = look_up_bands(image, flow, x, y)
    return made if len(made) == len(flow) else made.transpose(0, 1).reshape(1, made.shape[1], -1, made.shape[3])


def look_up_bands(image: Tensor, flow: Tensor, x: Tensor, y: Tensor) -> Tensor:
    """``strips.in_bands(look_up(…))``, without ever putting the bands together."""
    flow = in_bands(flow)
    y = y.view(-1, flow.shape[2])  # of each band, or of all pictures
    grid = sampling_grid(flow, x, y, image.shape[-2:])
    if image.device.type == "mps":  # has no "border" mode, which clamping is
        grid, outside = grid.clamp(-1, 1), "zeros"
    else:
        outside = "border"
    return F.grid_sample(image.expand(len(grid), -1, -1, -1), grid, padding_mode=outside, align_corners=True)


def blend(left: Tensor, right: Tensor, motion: Flow) -> Tensor:
    """Both images warped to the T instants of ``motion`` and mixed by its mask.

    left, right: ``(T or 1, C, H, W)``. Returns ``(T, C, H, W)`` in their dtype.
    """
    flow, mask = motion
    x, y = pixel_places(flow)
    made = torch.empty(len(flow), *left.shape[1:], dtype=left.dtype, device=left.device)
    left, right = left.float(), right.float()
    for rows in strips(len(y), strip_rows(len(y), len(flow) * len(x), flow.device)):
        part = flow[:, :, rows].float()
        views = [look_up_bands(left, part[:, :2], x, y[rows]), look_up_bands(right, part[:, 2:], x, y[rows])]
        in_bands(made[:, :, rows]).copy_(torch.lerp(views[1], views[0], in_bands(mask[:, :, rows]).float().sigmoid()))
    return made
