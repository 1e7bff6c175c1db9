"""Samples of joint restoration: frames blurred by motion and reduced four times, and the sharp ones.

In: runs of sharp frames (``train.restoration_clips``). Out: ``Restorations``.

**Blur.** A shutter that stays open gathers light: what it records at an instant is the mean, in linear light, of the
frames around it. (Where a bright edge passes a dark ground, the mean of the stored values would be too dark.) The clips
do not say how their cameras bent the light; ``GAMMA`` stands for all of them, as in the GoPro set.

**No ghosts.** A mean of frames that lie far apart shows the same edge several times. So a window is blurred only when
next to nothing in it moves more than ``BlurDraw.step`` pixels of the reduced picture from frame to frame: the reduction
smooths such steps away. Faster windows are taken reduced, or with a shutter of one frame, that is, as they are. Long
blur needs long windows: ``fusionfft pack --frames 21``. To use fast clips of few frames, interpolate them first
(``fusionfft interpolate``) and pack the result.

**Reduction.** Bicubic with antialiasing on the stored values, then rounded to bytes, as the REDS set was made.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from ..errors import InputError
from .data import Packs
from .restoration_clips import PackedClips, RunSampler

SCALE = 4
GAMMA = 2.2
INSTANTS = 3
FRAMES = 21
"""A window of so many has room for a shutter of 7 frames at each of the instants."""

_SHARES = (0.6, 0.8, 1.0, 1.0, 1.0)
"""How often blur of below ½, 1, 2, 4, and of more pixels is drawn, where there is all of it."""


class Restorations(NamedTuple):
    """Training samples on one device, float32, RGB 0..1, T instants each.

    x: ``(B, 3, T, h, w)`` blurred and reduced: the input. small: ``(B, 3, T, h, w)`` reduced alone.
    y: ``(B, 3, T, 4h, 4w)`` the truth.
    """

    x: Tensor
    small: Tensor
    y: Tensor


@dataclass(frozen=True, slots=True)
class BlurDraw:
    """How batches look.

    batch: samples. patch: side of the input in pixels; that of the truth is four times as long.
    taps: for how many frames the shutter is open, odd numbers; those a window has room for are drawn.
    shrinks: pictures are first reduced by one of these, as far as they are large enough.
    step: largest motion between averaged frames, in pixels of the input.
    linear: average light, not stored values.
    """

    batch: int = 8
    patch: int = 64
    taps: tuple[int, ...] = (1, 3, 5, 7)
    shrinks: tuple[float, ...] = (1.0, 1.4, 2.0)
    step: float = 2.0
    linear: bool = True


class _Plan(NamedTuple):
    clip: int
    taps: int
    shrink: float


class BlurSampler(RunSampler):
    """Draws ``Restorations`` from packs; the same seed over the same packs draws the same ones."""

    clips: PackedClips

    def __init__(self, packs: Packs, *, seed: int = 0):
        super().__init__(PackedClips(packs), seed=seed)
        self._plans: dict[BlurDraw, tuple[list[_Plan], Tensor]] = {}

    def draw(self, how: BlurDraw) -> Restorations:
        """A batch on the device of the packs. Raises InputError where the packs are too small, short or fast."""
        if how not in self._plans:
            self._plans[how] = plans(self.clips, how)
        found, weights = self._plans[how]
        samples = [self._sample(found[at], how) for at in self.pick(weights, how.batch)]
        runs = [torch.stack(each).transpose(1, 2) for each in zip(*samples, strict=True)]
        return Restorations(*(run.contiguous() for run in self.turn(runs)))

    def _sample(self, plan: _Plan, how: BlurDraw) -> tuple[Tensor, Tensor, Tensor]:
        """-> x, small, y, frames first."""
        count = self.clips.sizes[plan.clip].count
        longest = (count - plan.taps) // (INSTANTS - 1)  # frames from one instant to the next
        stride = plan.taps + self.below(min(2 * plan.taps, longest) - plan.taps + 1)
        first = self.below(count - (INSTANTS - 1) * stride - plan.taps + 1)
        frames = [first + n * stride + k for n in range(INSTANTS) for k in range(plan.taps)]
        run = self.cut(plan.clip, frames, SCALE * how.patch, plan.shrink)
        return spoilt(run, plan.taps, linear=how.linear)


def plans(clips: PackedClips, how: BlurDraw) -> tuple[list[_Plan], Tensor]:
    """Every way to make a sample, and weights that favour no length of blur over another."""
    crop = SCALE * how.patch
    sides = [min(size.height, size.width) for size in clips.sizes]
    if max(sides) < crop:
        raise InputError(
            f"Patches of {how.patch} need sharp pictures of {crop} pixels, and the packed ones have {max(sides)} at"
            " most; choose smaller patches or pack with a larger height"
        )
    longest = max(size.count for size in clips.sizes)
    blurring = [taps for taps in how.taps if taps > 1]
    if blurring and longest < INSTANTS * min(blurring):
        raise InputError(
            f"The packed windows have {longest} frames at most; blur over {min(blurring)} frames at {INSTANTS} instants"
            f" needs {INSTANTS * min(blurring)}: pack with --frames {FRAMES}"
        )
    found, lengths = [], []
    for n, size in enumerate(clips.sizes):
        for shrink in how.shrinks:
            step = clips.motion[n] / shrink / SCALE
            for taps in how.taps:
                if (
                    sides[n] >= round(crop * shrink)
                    and size.count >= INSTANTS * taps
                    and (taps == 1 or step <= how.step)
                ):
                    found.append(_Plan(n, taps, shrink))
                    lengths.append(step * (taps - 1))
    if blurring and not any(plan.taps > 1 for plan in found):
        raise InputError(
            f"Everything in the packed windows moves more than {how.step * SCALE:g} pixels a frame, which would blur"
            " into ghosts: pack with a smaller height, or clips of a higher frame rate"
        )
    octave = torch.tensor(lengths).clamp(0.25, 7.9).log2().floor().long() + 2
    population = torch.bincount(octave, minlength=len(_SHARES)).double()
    return found, (torch.tensor(_SHARES, dtype=torch.double) / population.clamp(min=1))[octave]


def spoilt(run: Tensor, taps: int, *, linear: bool = True) -> tuple[Tensor, Tensor, Tensor]:
    """Sharp frames ``(T · taps, 3, H, W)``, as many around each instant -> x, small ``(T, 3, H/4, W/4)`` and y.

    y is the middle one of each instant's frames, ``(T, 3, H, W)``.
    """
    y = run[taps // 2 :: taps]
    x = torch.stack([reduced(exposed(frames, linear=linear)) for frames in run.split(taps)])
    return x, torch.stack([reduced(frame) for frame in y]), y


def exposed(frames: Tensor, *, linear: bool = True) -> Tensor:
    """What a shutter records that is open for these frames: ``(N, 3, H, W)`` -> ``(3, H, W)``."""
    if len(frames) == 1:
        return frames[0]
    return frames.pow(GAMMA).mean(0).pow_(1 / GAMMA) if linear else frames.mean(0)


def reduced(picture: Tensor) -> Tensor:
    """``(3, H, W)`` 0..1 -> ``(3, H/4, W/4)``, bicubic, as a file with 8 bits would hold it."""
    size = [length // SCALE for length in picture.shape[-2:]]
    small = F.interpolate(picture[None], size, mode="bicubic", antialias=True)[0]
    return small.clamp_(0, 1).mul_(255).round_().div_(255)
