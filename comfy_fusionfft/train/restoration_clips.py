"""Runs of sharp frames, cut out of clips: what restoration learns to get back, whatever spoils the pictures.

In: clips, packed (``train.pack``) or as pictures (``train.restoration_reds``). Out: squares of consecutive frames,
``(N, 3, S, S)`` float32, RGB 0..1, on the device that the clips are on. How they are then spoilt is said elsewhere:
``train.restoration_blur``.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple, Protocol

import torch
import torch.nn.functional as F
from torch import Tensor

from .data import Packs


class Size(NamedTuple):
    """Of a clip: its frames, and their pixels."""

    count: int
    height: int
    width: int


class Clips(Protocol):
    """Where runs are cut from. device: where they are put. sizes: one for each clip."""

    device: torch.device
    sizes: Sequence[Size]

    def cut(self, clip: int, frames: Sequence[int], y: int, x: int, side: int) -> Tensor:
        """-> ``(N, 3, side, side)`` uint8."""


class PackedClips:
    """The windows of packs as clips. motion: of each, how far nearly all of its picture (99 %) moves at most from one
    frame to the next, in pixels; or half of it, in packs that say no more."""

    def __init__(self, packs: Packs):
        self.packs, self.device = packs, packs.device
        self.sizes = [Size(window.count, window.height, window.width) for window in packs.windows]
        self.motion = [window.motion if window.motion_99 is None else window.motion_99 for window in packs.windows]

    def cut(self, clip: int, frames: Sequence[int], y: int, x: int, side: int) -> Tensor:
        return self.packs.frames[clip][list(frames), :, y : y + side, x : x + side]


class RunSampler:
    """Choices and cuts; two samplers with the same seed over the same clips make the same ones."""

    def __init__(self, clips: Clips, *, seed: int = 0):
        self.clips = clips
        self._choice = torch.Generator().manual_seed(seed)
        self._noise = torch.Generator().manual_seed(seed + 1)

    def state(self) -> dict[str, Tensor]:
        return {"choice": self._choice.get_state(), "noise": self._noise.get_state()}

    def restore(self, state: dict[str, Tensor]) -> None:
        self._choice.set_state(state["choice"].cpu())
        self._noise.set_state(state["noise"].cpu())

    def pick(self, weights: Tensor, count: int) -> list[int]:
        """Places in ``weights``, each as often as it says."""
        return torch.multinomial(weights, count, replacement=True, generator=self._choice).tolist()

    def below(self, bound: int) -> int:
        """One of 0 … bound - 1."""
        return int(torch.randint(bound, (), generator=self._choice))

    def place(self, clip: int, side: int, step: int = 1) -> tuple[int, int]:
        """Where a square of ``side`` pixels is cut: its first row and column, multiples of ``step``."""
        size = self.clips.sizes[clip]
        y, x = (step * self.below((length - side) // step + 1) for length in (size.height, size.width))
        return y, x

    def cut(self, clip: int, frames: Sequence[int], crop: int, shrink: float = 1.0) -> Tensor:
        """-> ``(N, 3, crop, crop)`` from a random place of pictures that are first reduced by ``shrink``."""
        side = round(crop * shrink)
        pictures = self.clips.cut(clip, frames, *self.place(clip, side), side)
        # Reduced one by one: whole runs in float32 do not fit in a processor's cache.
        return torch.stack([_reduced(picture.float().div_(255), crop) for picture in pictures])

    def turn(self, runs: Sequence[Tensor]) -> list[Tensor]:
        """Each sample mirrored, flipped, transposed and played backwards, or not, all its ``runs`` alike.

        runs: ``(B, 3, T, h, w)`` each, of any square size.
        """
        batch = len(runs[0])
        flags = torch.randint(2, (4, batch, 1, 1, 1, 1), generator=self._noise, dtype=torch.bool)
        mirror, flip, transpose, reverse = flags.to(self.clips.device, non_blocking=True)
        turned = []
        for run in runs:
            run = torch.where(mirror, run.flip(-1), run)
            run = torch.where(flip, run.flip(-2), run)
            run = torch.where(transpose, run.mT, run)
            turned.append(torch.where(reverse, run.flip(2), run))
        return turned


def _reduced(picture: Tensor, side: int) -> Tensor:
    if picture.shape[-1] == side:
        return picture
    return F.interpolate(picture[None], (side, side), mode="bilinear", antialias=True)[0]
