"""Keeping made pictures within what pictures may hold.

Sharp filters overshoot at edges. Normal pictures lie in 0..1; those with highlights beyond keep them. Where there is
alpha, colour is premultiplied: it may be as large as its alpha lets a colour within the limits be, or soft edges would
shine once it is divided out.
"""

from __future__ import annotations

from functools import reduce

import torch
from torch import Tensor

TINY = 1e-6
"""Alpha below which colour is as good as gone."""


def limits(picture: Tensor) -> tuple[Tensor, Tensor]:
    """Lowest and highest value allowed beside ``picture (B, C, H, W)``: 0 and 1, or its own extremes beyond (0-dim)."""
    low, high = _straight(picture).aminmax()
    return low.clamp_max(0), high.clamp_min(1)


def limited(made: Tensor, *allowed: tuple[Tensor, Tensor]) -> Tensor:
    """``made (B, C, H, W)`` clamped to the widest of the ``limits`` given, on the device and without waiting for it."""
    return limit_(made.clone(), *allowed)


def limit_(made: Tensor, *allowed: tuple[Tensor, Tensor]) -> Tensor:
    """The same in place."""
    lows, highs = zip(*allowed, strict=True)
    low, high = reduce(torch.minimum, lows), reduce(torch.maximum, highs)
    if made.shape[1] < 4:
        return made.clamp_(low, high)
    colour, alpha = made[:, :3], made[:, 3:].clamp_(0, 1)
    torch.minimum(colour, alpha * high, out=colour)
    torch.maximum(colour, alpha * low, out=colour)
    return made


def _straight(picture: Tensor) -> Tensor:
    """Colours as they are once alpha is divided out."""
    return picture if picture.shape[1] < 4 else picture[:, :3] / picture[:, 3:].clamp_min(TINY)
