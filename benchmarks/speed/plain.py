"""The spectral swap as one writes it down: whole complex spectra, everything anew for each picture.

Same definition as ours, so the outputs can be compared: for a picture with spectrum X between two frames with
spectra P and Q, half-way, X·(1 + m·α·max(0, (|P|+|Q|)/2|X| - 1)), with m a cosine ramp over the band, on pictures
continued beyond their edges until they wrap around without a step.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import TYPE_CHECKING

import torch

from .clip import clip_of, pictures_between
from .contender import Contender

if TYPE_CHECKING:
    from torch import Tensor

    from .job import Job

ALPHA, LO, HI, MARGIN = 0.4, 0.25, 0.40, 16


class Plain(Contender):
    def prepare(self, job: Job) -> Callable[[], Tensor]:
        if job.path != "spectral":
            raise ValueError(f"there is no plain {job.path}")
        source, pictures = clip_of(job), pictures_between(job)

        def run() -> Tensor:
            output = torch.empty_like(pictures)
            for number, picture in enumerate(pictures):
                around = [source[i].to(job.device) for i in (number, number + 1)]
                output[number] = swap(picture.to(job.device), *around)
            return output

        return run


def swap(picture: Tensor, left: Tensor, right: Tensor) -> Tensor:
    """``(H, W, 3)`` three times -> ``(H, W, 3)`` within the range of what took part."""
    height, width, _ = picture.shape
    spectrum, *others = (torch.fft.fft2(_wrapping(each.permute(2, 0, 1))) for each in (picture, left, right))
    strength = spectrum.abs()
    wanted = sum(other.abs() for other in others) / len(others)
    gain = (wanted / strength.clamp_min(1e-9) - 1).clamp_min(0)
    changed = spectrum * (1 + ALPHA * _band(spectrum) * gain)
    back = torch.fft.ifft2(changed).real[:, :height, :width].permute(1, 2, 0)
    low = min(0.0, *(float(each.min()) for each in (picture, left, right)))
    high = max(1.0, *(float(each.max()) for each in (picture, left, right)))
    return back.clamp(low, high)


def _band(spectrum: Tensor) -> Tensor:
    """Weight of every frequency: none below LO cycles per pixel, all above HI."""
    fy, fx = (torch.fft.fftfreq(side, device=spectrum.device) for side in spectrum.shape[-2:])
    share = ((torch.hypot(fy[:, None], fx) - LO) / (HI - LO)).clamp(0, 1)
    return (1 - torch.cos(math.pi * share)) / 2


def _wrapping(planes: Tensor) -> Tensor:
    for axis in (-2, -1):
        side = planes.shape[axis]
        extra = MARGIN + -(side + MARGIN) % 16 if side > 64 else min(MARGIN, side - 1)
        after = planes.narrow(axis, side - extra, extra).flip(axis)
        before = planes.narrow(axis, 0, extra).flip(axis)
        ramp = torch.arange(1, extra + 1, device=planes.device) / (extra + 1)
        ramp = ramp if axis == -1 else ramp[:, None]
        planes = torch.cat((planes, after + (before - after) * ramp), axis)
    return planes
