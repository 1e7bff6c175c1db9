"""PyramidCrossAttention: what the nearest anchor can learn from every anchor, at one scale.

A query at each place of the nearest anchor's features looks at a few places of every valid anchor's
features around the same point (anchors are aligned already, by warping). Where it looks is learnt, starts
as a small ring, and stays within ``REACH`` cells; how much each place counts follows from query · key.
Deformable attention as in "Deformable DETR", Zhu et al., ICLR 2021, but with real keys.
"""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from .blocks import conv

REACH = 1.5
"""Cells: bounded, so that a tile needs to know only so much of its surroundings."""
RING = 0.75
KEY, VALUE = 8, 16
"""Channels of each head."""


class PyramidCrossAttention(nn.Module):
    """One scale: features of N anchors ``(B, N, C, H, W)`` -> the nearest one's, enriched, ``(B, C, H, W)``."""

    def __init__(self, width: int, heads: int, points: int) -> None:
        super().__init__()
        self.heads, self.points = heads, points
        self.query = conv(width, heads * KEY, size=1)
        self.key_value = conv(width, heads * (KEY + VALUE), size=1)
        self.offsets = nn.Conv2d(width, heads * points * 2, 1)
        self.out = conv(heads * VALUE, width, size=1)
        nn.init.normal_(self.offsets.weight, std=1e-3)
        with torch.no_grad():
            angle = 2 * math.pi * torch.arange(heads * points) / points
            angle = angle + math.pi / points * (torch.arange(heads * points) // points)  # heads turn by half a step
            ring = torch.stack((angle.cos(), angle.sin()), dim=1) * (RING / REACH)
            self.offsets.bias.copy_(torch.atanh(ring).flatten())

    def forward(self, features: Tensor, prior: Tensor) -> Tensor:
        """prior: ``(B, N)`` logits over anchors, -inf where an anchor is invalid."""
        batch, anchors, _, height, breadth = features.shape
        heads, points = self.heads, self.points
        near, every = features[:, 0], features.flatten(0, 1)
        query = self.query(near).float().reshape(batch, heads, 1, KEY, 1, height, breadth)
        table = self.key_value(every).float().reshape(batch * anchors * heads, KEY + VALUE, height, breadth)
        # Where to look depends on what the anchor shows there, beside what the nearest one does.
        offset = self.offsets(every + near.repeat_interleave(anchors, 0)).float().tanh() * REACH
        offset = offset.reshape(batch * anchors * heads, points, 2, height, breadth)

        seen = F.grid_sample(table, _grid(offset), padding_mode="border", align_corners=True)
        seen = seen.view(batch, anchors, heads, KEY + VALUE, points, height, breadth).transpose(1, 2)
        key, value = seen.split((KEY, VALUE), dim=3)  # (B, heads, N, channels, points, H, W)
        score = (query * key).sum(3) / math.sqrt(KEY) + prior[:, None, :, None, None, None]
        weight = score.flatten(2, 3).softmax(2).view_as(score)  # over anchors and points
        mixed = (value * weight.unsqueeze(3)).sum((2, 4))  # (B, heads, VALUE, H, W)
        mixed = mixed.reshape(batch, heads * VALUE, height, breadth).to(near.dtype)
        return near + self.out(mixed)


def _grid(offset: Tensor) -> Tensor:
    """Offsets ``(B, points, 2, H, W)`` in cells -> sampling grid ``(B, points * H, W, 2)``."""
    height, width = offset.shape[-2:]
    x = torch.linspace(-1, 1, width, device=offset.device) + offset[:, :, 0] * (2 / max(width - 1, 1))
    y = torch.linspace(-1, 1, height, device=offset.device)[:, None] + offset[:, :, 1] * (2 / max(height - 1, 1))
    return torch.stack((x, y), dim=-1).flatten(1, 2)
