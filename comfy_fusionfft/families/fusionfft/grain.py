"""What keeps texture alive: grain from one warped view, and the best single view itself.

Mixing views averages their grain away, and every bilinear warp dulls it. So grain is taken from a single
view, the sharper of the nearest two at each place, and never from a mixture.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

FINE, COARSE = 0.6, 1.6
"""Grain is what lies between blurs of these standard deviations, in pixels."""
RADIUS = 5
NEIGHBOURHOOD = 9
"""Pixels across, over which views are compared for sharpness."""


class NoiseInject(nn.Module):
    """The grain of the sharper one of two views, as brightness."""

    def band(self, grey: Tensor) -> Tensor:
        """``(B, 1, H, W)`` float32 -> the same shape: blurred finely, less blurred coarsely. A flat picture gives 0."""
        # Made afresh: a buffer would be rounded with the weights, and then a flat picture would not give 0.
        x = torch.arange(-RADIUS, RADIUS + 1.0, device=grey.device)
        taps = torch.stack((x / FINE, x / COARSE)).square().mul(-0.5).softmax(1)
        padded = F.pad(grey, (RADIUS,) * 4, mode="replicate")
        with torch.autocast(grey.device.type, enabled=False):  # grain is smaller than a step of half precision
            rows = F.conv2d(padded, taps[:, None, None, :])  # (B, 2, H + 2R, W)
            both = F.conv2d(rows, taps[:, None, :, None], groups=2)
        return both[:, :1] - both[:, 1:]

    def forward(self, views: Tensor) -> Tensor:
        """Warped views ``(B, 2, 3, H, W)`` -> grain ``(B, 1, H, W)``."""
        grain = self.band(views.mean(2).flatten(0, 1).unsqueeze(1))
        energy = F.avg_pool2d(grain.detach().square(), NEIGHBOURHOOD, 1, NEIGHBOURHOOD // 2)
        grain, energy = (each.unflatten(0, (-1, 2)) for each in (grain, energy))
        return torch.where(energy[:, 0] >= energy[:, 1], grain[:, 0], grain[:, 1])


class ContentSkip(nn.Module):
    """From the mixture of all views towards the single one that weighs most.

    The choice is a softmax so steep that a lead of 0.4 in score is 25 : 1; where it changes from one view to
    another it does so without a seam, and without a jump from frame to frame.
    """

    STEEPNESS = 8.0

    def forward(self, mixed: Tensor, views: Tensor, logits: Tensor, gate: Tensor) -> Tensor:
        """mixed ``(B, C, H, W)``; views ``(B, V, C, H, W)``; logits ``(B, V, H, W)``; gate ``(B, 1, H, W)``."""
        choice = (self.STEEPNESS * logits).softmax(1)
        return gate * ((views * choice[:, :, None]).sum(1) - mixed)
