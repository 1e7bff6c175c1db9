"""Keeping made pictures within what pictures may hold.

Sharp filters overshoot at edges. Normal pictures lie in 0..1; those with highlights beyond keep them.
"""

from __future__ import annotations

from functools import reduce

import torch
from torch import Tensor


def limits(picture: Tensor) -> tuple[Tensor, Tensor]:
    """Lowest and highest value allowed beside ``picture``: 0 and 1, or its own extremes beyond them (0-dim)."""
    low, high = picture.aminmax()
    return low.clamp_max(0), high.clamp_min(1)


def limited(made: Tensor, *allowed: tuple[Tensor, Tensor]) -> Tensor:
    """``made`` clamped to the widest of the ``limits`` given, on the device and without waiting for it."""
    return limit_(made.clone(), *allowed)


def limit_(made: Tensor, *allowed: tuple[Tensor, Tensor]) -> Tensor:
    """The same in place."""
    lows, highs = zip(*allowed, strict=True)
    return made.clamp_(reduce(torch.minimum, lows), reduce(torch.maximum, highs))
