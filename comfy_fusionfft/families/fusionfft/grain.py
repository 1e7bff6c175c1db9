"""What keeps texture alive: grain from one warped view, and the best single view itself.

Mixing views averages their grain away, and every bilinear warp dulls it. So grain is taken from a single
view, the sharper of the nearest two at each place, and never from a mixture.
"""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ...ops.box import sums_along

FINE, COARSE = 0.6, 1.6
"""Grain is what lies between blurs of these standard deviations, in pixels."""
RADIUS = 5
NEIGHBOURHOOD = 9
"""Pixels across, over which views are compared for sharpness."""
GRAIN_REACH = RADIUS + NEIGHBOURHOOD // 2
"""Pixels beyond a place that its grain depends on."""


class NoiseInject(nn.Module):
    """The grain of the sharper one of two views, as brightness."""

    def band(self, grey: Tensor) -> Tensor:
        """``(..., H, W)`` float32 -> the same shape: blurred finely, less blurred coarsely. A flat picture gives 0."""
        shape = grey.shape
        padded = F.pad(grey.reshape(-1, 1, *shape[-2:]), (RADIUS,) * 4, mode="replicate")
        fine, coarse = (_along(_along(padded, sigma, -2), sigma, -1) for sigma in (FINE, COARSE))
        return (fine - coarse).view(shape)

    def forward(self, grey: Tensor) -> Tensor:
        """Brightness of two warped views ``(B, 2, H, W)`` float32 -> grain ``(B, 1, H, W)``."""
        grain = self.band(grey)
        energy = F.pad(grain.detach().square(), (NEIGHBOURHOOD // 2,) * 4)
        energy = sums_along(sums_along(energy, NEIGHBOURHOOD, -2), NEIGHBOURHOOD, -1)
        return torch.where(energy[:, :1] >= energy[:, 1:], grain[:, :1], grain[:, 1:])


class ContentSkip(nn.Module):
    """From the mixture of all views towards the single one that weighs most.

    The choice is a softmax so steep that a lead of 0.4 in score is 25 : 1; where it changes from one view to
    another it does so without a seam, and without a jump from frame to frame. A softmax of ``2**n`` times the
    scores is the softmax of the scores squared n times.
    """

    SQUARINGS = 3

    def forward(self, weight: Tensor, gate: Tensor) -> Tensor:
        """The views' weights in the mixture ``(B, V, H, W)`` and a gate ``(B, 1, H, W)`` -> what is added to them."""
        choice = weight
        for _ in range(self.SQUARINGS):
            choice = choice.square()
        choice = choice / choice.sum(1, keepdim=True)
        return (choice - weight) * gate


def _along(x: Tensor, sigma: float, dim: int) -> Tensor:
    """Gaussian blur along one dimension, shorter by ``2 · RADIUS``. Sums of shifted pictures: as a convolution of
    single channels it takes three times as long on a CPU."""
    taps = [math.exp(-0.5 * (i / sigma) ** 2) for i in range(RADIUS + 1)]
    total = taps[0] + 2 * sum(taps[1:])
    size = x.shape[dim] - 2 * RADIUS
    made = x.narrow(dim, RADIUS, size) * (taps[0] / total)
    for i, tap in enumerate(taps[1:], 1):
        if tap / total > 1e-8:
            both = x.narrow(dim, RADIUS - i, size) + x.narrow(dim, RADIUS + i, size)
            made = made.add_(both, alpha=tap / total)
    return made
