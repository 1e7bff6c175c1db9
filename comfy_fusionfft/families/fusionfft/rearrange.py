"""Pixels of 2×2 cells to channels and back, as ``F.pixel_unshuffle`` and ``F.pixel_shuffle`` with factor 2 have it.

On a CPU torch moves these pixels one by one, which takes longer than the convolutions between. The two pixels of a
cell's row lie side by side on either side of the rearrangement, so here they move as one, and with channels last.
Where a gradient is wanted torch's own functions run.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

_PAIR = {2: torch.int32, 4: torch.int64}
"""Bytes of a value -> a type of twice as many."""


def unshuffle(x: Tensor) -> Tensor:
    """``(B, C, 2H, 2W)`` -> ``(B, 4C, H, W)``, channels last."""
    if torch.is_grad_enabled():
        return F.pixel_unshuffle(x, 2)
    batch, channels, height, width = x.shape
    cells = x.new_empty(batch, height // 2, width // 2, 4 * channels)
    unshuffle_into(cells, x)
    return cells.permute(0, 3, 1, 2)


def unshuffle_into(cells: Tensor, x: Tensor) -> None:
    """The same, written into ``cells (B, H, W, 4C)``, whose last dimension has stride 1 and starts at an even place."""
    pair = _PAIR[x.element_size()]
    rows = x.contiguous().view(pair).unflatten(2, (-1, 2))  # (B, C, H, 2, W)
    target = cells.view(pair).unflatten(3, (-1, 2))  # (B, H, W, C, 2)
    for row in (0, 1):
        target[..., row] = rows[:, :, :, row].permute(0, 2, 3, 1)


def shuffle(x: Tensor) -> Tensor:
    """``(B, 4C, H, W)`` -> ``(B, C, 2H, 2W)``, contiguous."""
    if torch.is_grad_enabled():
        return F.pixel_shuffle(x, 2)
    batch, channels, height, width = x.shape
    pairs = x.permute(0, 2, 3, 1).contiguous().view(_PAIR[x.element_size()]).unflatten(3, (-1, 2))  # (B, H, W, C, 2)
    return pairs.permute(0, 3, 1, 4, 2).contiguous().view(x.dtype).view(batch, channels // 4, 2 * height, 2 * width)


def halved(x: Tensor) -> Tensor:
    """Mean of 2×2 pixels: ``(..., 2H, 2W)`` -> ``(..., H, W)``; five times as fast as pooling on a CPU."""
    rows = x[..., ::2, :] + x[..., 1::2, :]
    return (rows[..., ::2] + rows[..., 1::2]) * 0.25
