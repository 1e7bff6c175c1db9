"""The cosine transform of pictures in blocks: how much of each of 64 patterns an 8×8 block holds, and back.

Both ways are orthonormal, so they keep the sum of squares, and each undoes the other up to rounding. Patterns are
numbered row by row, from flat to fine: ``u·8 + v`` for u half-waves down and v across. A constant picture x has 8x in
pattern 0 and nothing in the others.
"""

from __future__ import annotations

from math import pi

import torch
import torch.nn.functional as F
from torch import Tensor

from ..errors import InputError

SIDE = 8
"""Of a block, pixels."""
PATTERNS = SIDE * SIDE


def patterns(channels: int = 1) -> Tensor:
    """``(channels · 64, 1, 8, 8)`` float32: the patterns, once for each channel, as a grouped convolution has them."""
    steps = torch.arange(SIDE, dtype=torch.float64)
    waves = torch.cos(pi / SIDE * steps[:, None] * (steps + 0.5)) * (2 / SIDE) ** 0.5  # frequency, place
    waves[0] /= 2**0.5
    made = torch.einsum("ui,vj->uvij", waves, waves).reshape(PATTERNS, 1, SIDE, SIDE)
    return made.float().repeat(channels, 1, 1, 1)


def analyse(picture: Tensor, basis: Tensor | None = None) -> Tensor:
    """``(B, C, H, W)``, sides multiples of 8 -> ``(B, C · 64, H/8, W/8)``, a channel's patterns next to each other.

    basis: as ``patterns(C)``; another one may be a little off, as a learnt one is.
    """
    height, width = picture.shape[-2:]
    if height % SIDE or width % SIDE:
        raise InputError(f"a {width}×{height} picture; the transform of {SIDE}×{SIDE} blocks needs multiples: pad it")
    channels = picture.shape[1]
    basis = patterns(channels).to(picture) if basis is None else basis
    return F.conv2d(picture, basis, stride=SIDE, groups=channels)


def synthesise(coefficients: Tensor, basis: Tensor | None = None) -> Tensor:
    """``analyse`` undone: ``(B, C · 64, h, w)`` -> ``(B, C, 8h, 8w)``."""
    channels = coefficients.shape[1] // PATTERNS
    basis = patterns(channels).to(coefficients) if basis is None else basis
    return F.conv_transpose2d(coefficients, basis, stride=SIDE, groups=channels)
