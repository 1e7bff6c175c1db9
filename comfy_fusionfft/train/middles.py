"""Batches for networks that make middles: two frames and the one half-way between them.

Samples are turned in two ways beside those of ``data``, as in the published training of such networks: some are
enlarged, which shows the same motion two and four times as large on pictures without fine detail, and half of them have
red and blue exchanged.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from .data import Draw, Sampler

ENLARGED = {1: 0.7, 2: 0.15, 4: 0.15}
"""Factor -> share of the batches."""


class Middles(NamedTuple):
    """``(B, 3, H, W)`` float32 each, RGB 0..1."""

    img0: Tensor
    gt: Tensor
    img1: Tensor


class MiddleSampler(Sampler):
    """A Sampler that draws middles alone; the same seed over the same packs draws the same ones."""

    def draw_middles(self, batch: int, crop: int) -> Middles:
        """crop: side of the samples, in pixels, a multiple of 32."""
        pick = torch.multinomial(torch.tensor(list(ENLARGED.values())), 1, generator=self._choice)
        factor = list(ENLARGED)[int(pick)]
        drawn = self.draw(Draw(batch, crop // factor, noise=0.0))
        (exchanged,) = self._flags(batch, 1)
        pictures = [_enlarge(picture, factor) for picture in (drawn.img0, drawn.gt, drawn.img1)]
        return Middles(*(torch.where(exchanged, picture.flip(1), picture) for picture in pictures))

    def _candidates(self) -> tuple[list[tuple], Tensor]:
        triples, weights = super()._candidates()
        middles = [i for i, (_, first, between, last, *_) in enumerate(triples) if 2 * between == first + last]
        return [triples[i] for i in middles], weights[middles]


def _enlarge(picture: Tensor, factor: int) -> Tensor:
    return F.interpolate(picture, scale_factor=factor, mode="bilinear") if factor > 1 else picture
