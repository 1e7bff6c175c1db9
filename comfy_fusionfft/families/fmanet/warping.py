"""Bringing frames to the instant of the one in the middle, each channel group by a flow and a mask of its own.

Flow planes come in triples: x and y in pixels of the blurred frames, corner-aligned, and the logit of a mask that says
how much of what is found there counts. Places outside a frame are zero.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from ...ops.grid import pixel_places, sampling_grid
from .config import FLOW_PLANES


def warp_groups(features: Tensor, flow: Tensor, corner: tuple[int, int] = (0, 0)) -> Tensor:
    """features: ``(…, C, H, W)``, as many groups of channels as triples in ``flow (…, 3·pairs, h, w)`` float32.

    corner: row and column of a frame where flow begins, of which it may be a part. -> ``(…, C, h, w)`` float32.
    """
    pairs = flow.shape[-3] // FLOW_PLANES
    before, channels = features.shape[:-3], features.shape[-3]
    groups = features.reshape(-1, channels // pairs, *features.shape[-2:])  # …·pairs C/pairs H W
    warped = warp_masked(groups, flow.reshape(-1, FLOW_PLANES, *flow.shape[-2:]), corner)
    return warped.reshape(*before, channels, *flow.shape[-2:])


def warp_masked(image: Tensor, flow: Tensor, corner: tuple[int, int] = (0, 0)) -> Tensor:
    """image: ``(B, C, H, W)``. flow: a triple for each, ``(B, 3, h, w)`` float32, from ``corner`` on. -> what it leads
    to, times the mask: ``(B, C, h, w)`` float32."""
    return _look_up(image, flow[:, :2], corner) * flow[:, 2:].sigmoid()


def warp_frames(frames: Tensor, flow: Tensor, scale: int = 1) -> tuple[Tensor, Tensor]:
    """frames: ``(B, T, C, s·H, s·W)``. flow: one triple, ``(B, T, 3, H, W)`` float32; scale: s.

    -> the frames at their new places times the mask, and the mask where there is something to find:
    ``(B, T, C, s·H, s·W)`` and ``(B, T, 1, s·H, s·W)`` float32.
    """
    flow = flow.flatten(0, 1)
    ways, mask = flow[:, :2], flow[:, 2:].sigmoid()
    if scale != 1:
        ways, mask = (F.interpolate(each, scale_factor=scale, mode="bilinear") for each in (ways * scale, mask))
    seen = torch.cat((frames.flatten(0, 1).float(), torch.ones_like(mask)), 1)
    warped = (_look_up(seen, ways) * mask).unflatten(0, frames.shape[:2])
    return warped[:, :, :-1], warped[:, :, -1:]


def _look_up(image: Tensor, flow: Tensor, corner: tuple[int, int] = (0, 0)) -> Tensor:
    """Bilinear; coordinates and weights float32 in any case."""
    x, y = pixel_places(flow)
    grid = sampling_grid(flow, x + corner[1], y + corner[0], image.shape[-2:])
    return F.grid_sample(image.float(), grid, padding_mode="zeros", align_corners=True)
