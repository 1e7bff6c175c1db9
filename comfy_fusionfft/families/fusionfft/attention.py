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

from ...ops.strips import strip_rows, strips
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
        if features.device.type == "cpu" and len(features) == 1 and not torch.is_grad_enabled():
            return self._by_rows(features[0], prior[0])
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

    def _by_rows(self, features: Tensor, prior: Tensor) -> Tensor:
        """The same for one picture on a CPU, which sums up rows of a table faster than it samples planes.

        The table has a row for each anchor, cell and head. A key is the sum of the four rows around its place; what is
        mixed is the sum of the rows around all places, so that no value is ever sampled alone.
        """
        anchors, _, height, width = features.shape
        heads, points = self.heads, self.points
        near = features[:1]
        query = self.query(near).float().permute(0, 2, 3, 1).reshape(height, width * heads, KEY, 1)
        parts = (p.unflatten(0, (heads, -1)).split((KEY, VALUE), dim=1) for p in self.key_value.parameters())
        keys, values = (
            F.conv2d(features, weight.flatten(0, 1), bias.flatten())
            .float()
            .permute(0, 2, 3, 1)
            .reshape(-1, weight.shape[1])
            for weight, bias in zip(*parts, strict=True)
        )
        cells = features.permute(0, 2, 3, 1)
        offset = self.offsets((cells + cells[:1]).permute(0, 3, 1, 2))
        offset = offset.permute(0, 2, 3, 1).unflatten(3, (heads, points, 2))
        number = heads * torch.arange(anchors, dtype=torch.int32)[:, None] * (height * width)
        number = number + torch.arange(heads, dtype=torch.int32)[:, None, None]  # of the first row: (heads, N, 1)
        corners = heads * torch.tensor((0, min(width - 1, 1), 0, min(width - 1, 1)), dtype=torch.int32)
        corners[2:] += heads * width * min(height - 1, 1)
        prior = prior[:, None].expand(-1, points).flatten()
        mixed = []
        for rows in strips(height, strip_rows(height, width * heads * anchors * points, features.device)):
            there = offset[:, rows].permute(5, 1, 2, 3, 0, 4).float().contiguous()  # (2, rows, W, heads, N, points)
            there = there.tanh_().mul_(REACH)
            first_x, share_x = _cell(there[0] + torch.arange(width)[:, None, None, None], width)
            first_y, share_y = _cell(there[1] + torch.arange(height)[rows, None, None, None, None], height)
            which = (first_y * width + first_x) * heads + number
            which = which[..., None] + corners  # (rows, W, heads, N, points, 4)
            share = torch.stack(
                ((1 - share_y) * (1 - share_x), (1 - share_y) * share_x, share_y * (1 - share_x), share_y * share_x), -1
            )
            key = F.embedding_bag(which.view(-1, 4), keys, mode="sum", per_sample_weights=share.view(-1, 4))
            score = torch.bmm(key.view(-1, anchors * points, KEY), query[rows].flatten(0, 1)).squeeze(2)
            score = torch.addcmul(prior[:, None], score.t(), score.new_tensor(KEY**-0.5))
            weight = score.softmax(0).t()  # over anchors and points, the slow way round for a CPU if they were last
            share = share.view(*weight.shape, 4) * weight[..., None]
            mixed.append(
                F.embedding_bag(which.view(len(weight), -1), values, mode="sum", per_sample_weights=share.flatten(1))
            )
        whole = torch.cat(mixed).view(1, height, width, heads * VALUE).permute(0, 3, 1, 2)
        return near + self.out(whole.to(near.dtype))


def _cell(place: Tensor, size: int) -> tuple[Tensor, Tensor]:
    """Places along a side -> number (int32) of the first of the two cells around each, and the second one's share."""
    place = place.clamp(0, size - 1)
    first = place.floor().clamp_max(max(size - 2, 0))
    return first.to(torch.int32), place - first


def _grid(offset: Tensor) -> Tensor:
    """Offsets ``(B, points, 2, H, W)`` in cells -> sampling grid ``(B, points * H, W, 2)``."""
    height, width = offset.shape[-2:]
    x = torch.linspace(-1, 1, width, device=offset.device) + offset[:, :, 0] * (2 / max(width - 1, 1))
    y = torch.linspace(-1, 1, height, device=offset.device)[:, None] + offset[:, :, 1] * (2 / max(height - 1, 1))
    return torch.stack((x, y), dim=-1).flatten(1, 2)
