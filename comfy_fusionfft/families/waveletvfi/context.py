"""What the synthesis knows about the instant: features of both frames moved there, and of their blend."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ...contract import Flow
from ...ops.warp import backward_warp, blend
from .config import LEVELS, MOTION_PLANES, WaveletVFIConfig
from .layers import Step
from .motion import Motion

FLOW_UNIT = 20
"""Pixels of motion that the network sees as 1."""


class ContextNet(nn.Module):
    def __init__(self, config: WaveletVFIConfig) -> None:
        super().__init__()
        for branch, planes in ((1, 3), (2, 3 + MOTION_PLANES)):
            widths = (planes, *config.context)
            for level in range(1, LEVELS + 1):
                self.add_module(f"pconv{branch}_{level}", Step(widths[level - 1], widths[level], 2))

    def forward(self, left: Tensor, right: Tensor, motion: Motion) -> list[tuple[Tensor, Tensor, Tensor]]:
        """left, right: ``(B, 3, H, W)`` -> from half the size down, of the left frame, the right one and the instant:
        ``(B, context[k], H/2ᵏ, W/2ᵏ)``."""
        flow, mask, _ = motion
        merged = _blend(left, right, flow, mask) if flow.requires_grad else blend(left, right, Flow(flow, mask))
        frames = [left, right]
        instant = torch.cat((merged, flow / FLOW_UNIT, mask.sigmoid()), 1)
        levels = []
        for level in range(1, LEVELS + 1):
            near, far = (self.get_submodule(f"pconv{branch}_{level}") for branch in (1, 2))
            frames, instant = [near(frame) for frame in frames], far(instant)
            flow = F.avg_pool2d(flow, 2) / 2
            views = [backward_warp(frame, flow[:, 2 * i : 2 * i + 2]) for i, frame in enumerate(frames)]
            levels.append((*views, instant))
        return levels


def _blend(left: Tensor, right: Tensor, flow: Tensor, mask: Tensor) -> Tensor:
    """``ops.warp.blend`` for gradients, which its reused memory does not carry."""
    return torch.lerp(backward_warp(right, flow[:, 2:]), backward_warp(left, flow[:, :2]), mask.sigmoid())
