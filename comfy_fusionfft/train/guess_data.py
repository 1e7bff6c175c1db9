"""Batches for the choosing network: crops of two frames, the guesses between them, and the true picture.

From packs (``train.pack``) with stored guesses (``train.guesses``). Batches are varied as those of
``train.chain_data``: mirrored, turned, played backwards, brighter or darker, grainy.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from ..families.multiflow.candidates import SHRINK
from .chain_data import Chains, ChainSampler
from .guesses import FOLDER


@dataclass(frozen=True, slots=True)
class Batch:
    """left, right, truth: ``(B, 3, S, S)`` 0..1. found: ``(B, K, 2, 2, S/2, S/2)``, see ``candidates.search``.
    time: ``(B,)``. weight: ``(1, 1, S, S)``: the border counts less, since motion leads out of the crop."""

    left: Tensor
    right: Tensor
    truth: Tensor
    found: Tensor
    time: Tensor
    weight: Tensor


class CandidateSampler(ChainSampler):
    """Draws batches; the same seed over the same packs draws the same ones."""

    def __init__(self, packs_dir: Path, *, device: torch.device | str = "cpu", seed: int = 0):
        super().__init__(Chains(packs_dir, stored=FOLDER, unit=SHRINK), device=device, seed=seed)

    def draw(self, batch: int, crop: int, *, border: int = 24, grain: float = 0.2) -> Batch:
        weights = self.fitting(crop)
        picks = torch.multinomial(weights, batch, replacement=True, generator=self._choice).tolist()
        parts = [self._part(self._instants[pick], crop) for pick in picks]
        frames, found, time = (torch.stack(each).to(self.device) for each in zip(*parts, strict=True))
        frames, found, time = self._varied(frames.float() / 255, found.float(), time)
        pair, truth, _ = self._shade(frames[:, :2], frames[:, 2], grain)
        return Batch(pair[:, 0], pair[:, 1], truth, found, time, self.border_weight(crop, border))

    def _part(self, instant: tuple[int, int, int, int], crop: int) -> tuple[Tensor, Tensor, Tensor]:
        n, d, a, k = instant
        window, frames = self.chains.windows[n], self.chains.frames[n]
        at, half = self.place(window, crop)
        pictures = frames[[a, a + d, k]][at]
        found = self.chains.flow[n][self.chains.known(n)[a, a + d]][half]
        return pictures, found, torch.tensor((k - a) / d)

    def _varied(self, frames: Tensor, found: Tensor, time: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """The whole batch mirrored, flipped, transposed; single samples played backwards."""
        mirror, flip, transpose = self._flags(3, 0.5).tolist()
        sign = torch.ones(2, 1, 1, device=found.device)
        for axis, chosen in ((-1, mirror), (-2, flip)):
            if chosen:
                frames, found = frames.flip(axis), found.flip(axis)
                sign[-1 - axis] = -1
        found = found * sign
        if transpose:
            frames, found = frames.mT, found.mT.flip(-3)
        back = self._flags(len(time), 0.5)
        frames = torch.where(back.view(-1, 1, 1, 1, 1), frames[:, [1, 0, 2]], frames)
        found = torch.where(back.view(-1, 1, 1, 1, 1, 1), found.flip(2), found)
        return frames, found, torch.where(back, 1 - time, time)
