"""Means over square surroundings, and sums over neighbours."""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor


def box_mean(planes: Tensor, window: int) -> Tensor:
    """Mean of the ``window``×``window`` places around each one that lie within the planes.

    planes: ``(B, C, H, W)`` float32. window: one more than a power of two.
    """
    half = window // 2
    if planes.device.type != "cpu":
        return F.avg_pool2d(planes, window, 1, half, count_include_pad=False)
    # Sums of 2, 4, 8 neighbours, each of two of the ones before: half a dozen sweeps instead of window² visits.
    sums = sums_along(sums_along(F.pad(planes, (half, half, half, half)), window, -1), window, -2)
    rows, columns = (sums_along(F.pad(planes.new_ones(side), (half, half)), window, 0) for side in planes.shape[-2:])
    return sums / (rows[:, None] * columns)


def sums_along(x: Tensor, window: int, dim: int) -> Tensor:
    """Sums of ``window`` neighbours along ``dim``, for each place that has them all. window: as of ``box_mean``."""
    length = x.shape[dim]
    part, reach = x, 1
    while 2 * reach < window:
        count = part.shape[dim] - reach
        part = part.narrow(dim, 0, count) + part.narrow(dim, reach, count)
        reach *= 2
    count = length - window + 1
    return part.narrow(dim, 0, count) + x.narrow(dim, window - 1, count)
