"""How far restoration has come, on clips it never trained on: squares around their middles, against plain enlarging."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from ..errors import InputError
from ..quality import psnr
from .data import Packs
from .restoration_blur import INSTANTS, SCALE, BlurDraw, Restorations, spoilt
from .restoration_clips import PackedClips
from .restoration_reds import RedsClips, find_reds

SIDE = 256
"""Largest, of what is watched: pixels of the truth."""


class Made(NamedTuple):
    """A network's answer. picture: ``(1, 3, 4h, 4w)``, sharp. blurred: ``(1, 3, h, w)``, what it takes the input's
    middle to be made as. flow: ``(2 or more, h, w)`` pixels, to be looked at."""

    picture: Tensor
    blurred: Tensor
    flow: Tensor


@dataclass(frozen=True, slots=True)
class RestorationValidation:
    """Samples: batches of one."""

    samples: tuple[Restorations, ...]

    @classmethod
    def of_packs(cls, folder: Path, device: torch.device | str, limit: int = 12) -> RestorationValidation | None:
        """Windows blurred as much as is clean. None when no clip is held out, or none of them can be blurred."""
        try:
            clips = PackedClips(Packs(folder, device=device, held_out=True))
        except InputError:
            return None
        how, found = BlurDraw(), []
        for n, size in enumerate(clips.sizes):
            fitting = [taps for taps in how.taps if taps > 1 and INSTANTS * taps <= size.count]
            if not fitting or clips.motion[n] / SCALE > how.step:
                continue
            frames = INSTANTS * max(fitting)
            first = (size.count - frames) // 2
            run = clips.cut(n, range(first, first + frames), *_middle(size.height, size.width))
            found.append((run, max(fitting)))
        chosen = found[:: max(1, -(-len(found) // limit))]
        made = (spoilt(run.float().div_(255), taps) for run, taps in chosen)
        return cls(tuple(_batched(parts) for parts in made)) if chosen else None

    @classmethod
    def of_reds(cls, folder: Path, device: torch.device | str, limit: int = 12) -> RestorationValidation | None:
        """None when no clip is held out."""
        held = find_reds(folder, held_out=True)
        clips = RedsClips(held[:: max(1, -(-len(held) // limit))], device)
        samples = []
        for n, size in enumerate(clips.sizes):
            first = (size.count - INSTANTS) // 2
            parts = clips.pair(n, range(first, first + INSTANTS), *_middle(size.height, size.width))
            samples.append(_batched(parts))
        return cls(tuple(samples)) if samples else None


@torch.no_grad()
def validate(
    predict: Callable[[Restorations], Made], validation: RestorationValidation | None, *, degradation: bool = False
) -> tuple[dict[str, float], list[tuple[Tensor, Tensor, Tensor]]]:
    """-> mean PSNR in dB, and rows for a sample sheet.

    psnr, bicubic: of the sharp picture, made and plainly enlarged, against the truth. blurred, reduced: of the blurred
    picture, made from the sharp ones and plainly reduced, against the input. The rows show the former, or the latter
    where ``degradation`` is what is learnt.
    """
    table, rows = [], []
    for number, sample in enumerate(validation.samples if validation else ()):
        made = predict(sample)
        middle = INSTANTS // 2
        seen, plain, truth = (part[:, :, middle] for part in sample)
        larger = F.interpolate(seen, scale_factor=SCALE, mode="bicubic").clamp(0, 1)
        pairs = ((made.picture, truth), (larger, truth), (made.blurred, seen), (plain, seen))
        table.append([psnr(one.float().clamp(0, 1).cpu(), other.cpu()) for one, other in pairs])
        if number % 2 == 0 and len(rows) < 6:
            one, other = pairs[2 if degradation else 0]
            rows.append((other[0], one[0].float().clamp(0, 1), made.flow))
    means = [sum(column) / len(table) for column in zip(*table, strict=True)] or [0.0] * 4
    return dict(zip(("psnr", "bicubic", "blurred", "reduced"), means, strict=True)), rows


def _batched(parts: tuple[Tensor, Tensor, Tensor]) -> Restorations:
    return Restorations(*(part.transpose(0, 1)[None] for part in parts))


def _middle(height: int, width: int) -> tuple[int, int, int]:
    """First row and column, and side, of a square that the input's pixels fit in."""
    side = min(height, width, SIDE) // SCALE * SCALE
    return (height - side) // 2 // SCALE * SCALE, (width - side) // 2 // SCALE * SCALE, side
