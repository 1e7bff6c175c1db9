"""How far the choosing network has come, on held-out clips: whole frames, against the first search alone."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
import torch
from torch import Tensor, nn

from ..families.multiflow import candidates
from ..families.multiflow.net import first_search
from ..ops.pad import crop
from ..ops.warp import blend
from ..quality import psnr
from .data import is_held_out
from .pack import decode, read_index


@dataclass(frozen=True, slots=True)
class Validation:
    """Whole frames of held-out clips: left, right, truth ``(1, 3, H, W)`` bytes, guesses, time, spacing."""

    samples: tuple[tuple[Tensor, Tensor, Tensor, tuple[Tensor, ...], Tensor, int], ...]

    @classmethod
    def load(cls, packs_dir: Path, device: torch.device | str, limit: int = 24) -> Validation | None:
        """None when no clip is held out."""
        held = [window for window in read_index(packs_dir) if is_held_out(window.clip)]
        samples = []
        for number, (window, stack) in enumerate(decode(packs_dir, held[:: max(1, len(held) * 2 // limit)])):
            middle = window.count // 2
            for d, step in ((2, 1), (4, 1 + number % 3)):
                left = middle - step
                pictures = torch.from_numpy(stack[[left, left + d, middle]]).permute(0, 3, 1, 2).contiguous()
                pictures = crop(pictures, [side // 32 * 32 for side in pictures.shape[-2:]])
                greys = [
                    candidates.prepare(cv2.cvtColor(picture.permute(1, 2, 0).numpy(), cv2.COLOR_RGB2GRAY))
                    for picture in pictures[:2]
                ]
                found = torch.from_numpy(np.moveaxis(candidates.search(*greys), -1, 2)[None].copy())
                time = torch.tensor([step / d])
                guesses = tuple(each.to(device) for each in candidates.at_times(found, time))
                left_, right_, truth = (each[None].to(device) for each in pictures)
                samples.append((left_, right_, truth, guesses, time.to(device), d))
        return cls(tuple(samples)) if samples else None

    @torch.no_grad()
    def check(self, net: nn.Module) -> tuple[dict[str, float], list[tuple[Tensor, Tensor, Tensor]]]:
        """-> means of PSNR in dB for each spacing, with the gains over the first search; rows for a sample sheet."""
        table, rows = [], []
        for number, (*pictures, guesses, time, d) in enumerate(self.samples):
            left, right, truth = (picture.float() / 255 for picture in pictures)
            motion = net(left, right, *guesses, time)
            made = blend(left, right, motion)
            given = blend(left, right, first_search(guesses[0], guesses[2], time))
            table.append((d, *(psnr(each.clamp(0, 1).cpu(), truth.cpu()) for each in (made, given))))
            if number % 4 == 1 and len(rows) < 6:
                rows.append((truth[0], made[0], motion.flow[0]))
        result = {"psnr": float(np.mean([row[1] for row in table]))}
        for d in sorted({row[0] for row in table}):
            of = np.array([row[1:] for row in table if row[0] == d])
            gain = of[:, 0] - of[:, 1]
            result |= {f"psnr{d}": of[:, 0].mean(), f"gain{d}": gain.mean(), f"worst{d}": gain.min()}
        return {k: float(v) for k, v in result.items()}, rows
