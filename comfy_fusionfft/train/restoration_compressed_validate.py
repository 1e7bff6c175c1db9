"""How far restoring compressed video has come, on clips it never trained on, all compressed alike: squares around their
middles, against plain enlarging."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from ..quality import psnr
from .restoration_blur import SCALE
from .restoration_clips import Clips
from .restoration_compressed import Compressed, Place, Reduction, sample

CRF = 25
FRAMES = 7
"""Watched of a clip, at most: those in its middle."""
SIDE, STEP = 256, 64
"""Largest side of what is watched, and what it is a multiple of, in pixels of the truth."""


class Made(NamedTuple):
    """A network's answer. pictures: ``(1, 3, T, 4h, 4w)``. flow: ``(2, h, w)`` pixels, to be looked at."""

    pictures: Tensor
    flow: Tensor


@dataclass(frozen=True, slots=True)
class CompressedValidation:
    """Samples: batches of one."""

    samples: tuple[Compressed, ...]

    @classmethod
    def of(cls, clips: Clips, reduction: Reduction, limit: int = 12) -> CompressedValidation | None:
        """None where no clip is large enough."""
        large = [n for n, size in enumerate(clips.sizes) if min(size.height, size.width) >= STEP]
        samples = []
        for n in large[:: max(1, -(-len(large) // limit))]:
            size = clips.sizes[n]
            seen = min(size.count, FRAMES)
            first = (size.count - seen) // 2
            side = min(size.height, size.width, SIDE) // STEP * STEP
            y, x = ((length - side) // 2 // SCALE * SCALE for length in (size.height, size.width))
            parts = sample(clips, Place(n, range(first, first + seen), y, x, side, CRF), reduction)
            samples.append(Compressed(*(part.transpose(0, 1)[None] for part in parts)))
        return cls(tuple(samples)) if samples else None


@torch.no_grad()
def validate(
    predict: Callable[[Compressed], Made], validation: CompressedValidation | None
) -> tuple[dict[str, float], list[tuple[Tensor, Tensor, Tensor]]]:
    """-> mean PSNR in dB of all frames, made (``psnr``) and plainly enlarged (``bicubic``), both limited to 0..1 and
    not rounded; and rows for a sample sheet.
    """
    table, rows = [], []
    for number, one in enumerate(validation.samples if validation else ()):
        made = predict(one)
        truth = one.y[0].unbind(1)
        shown = made.pictures[0].float().clamp(0, 1).unbind(1)
        larger = F.interpolate(one.x[0].transpose(0, 1), scale_factor=SCALE, mode="bicubic").clamp(0, 1)
        for pictures in zip(shown, larger, truth, strict=True):
            own, plain, right = (picture[None].cpu() for picture in pictures)
            table.append((psnr(own, right), psnr(plain, right)))
        if number % 2 == 0 and len(rows) < 6:
            middle = len(truth) // 2
            rows.append((truth[middle], shown[middle], made.flow))
    means = [sum(column) / len(table) for column in zip(*table, strict=True)] or [0.0] * 2
    return dict(zip(("psnr", "bicubic"), means, strict=True)), rows
