"""What a network that sees two frames is trained on, and how far it has come.

The latter on windows it never trained on: held-out clips of the packs, whole frames.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from ..errors import InputError
from ..quality import psnr
from .data import Batch, Draw, Packs, Sampler

Predict = Callable[[Tensor, Tensor, Tensor], tuple[Tensor, Tensor]]
"""img0, img1 ``(1, 3, H, W)``, t ``(1,)`` -> picture ``(1, 3, H, W)`` and a Flow."""


@dataclass(frozen=True, slots=True)
class Validation:
    """Samples (first, truth, last): uint8 ``(3, 3, H, W)``, and t. At 2 and 4 frames apart."""

    samples: tuple[tuple[Tensor, float], ...]

    @classmethod
    def load(cls, packs_dir: Path, device: torch.device | str, limit: int = 24) -> Validation | None:
        """None when no clip is held out."""
        try:
            packs = Packs(packs_dir, device=device, held_out=True)
        except InputError:
            return None
        step = max(1, len(packs.frames) * 2 // limit)
        samples = []
        for frames in packs.frames[::step]:
            middle = len(frames) // 2
            if middle >= 2:
                samples.append((frames[[middle - 1, middle, middle + 1]], 0.5))
                samples.append((frames[[middle - 2, middle - 1, middle + 2]], 0.25))
        return cls(tuple(samples))


@torch.no_grad()
def validate(
    predict: Predict, validation: Validation | None
) -> tuple[dict[str, float], list[tuple[Tensor, Tensor, Tensor]]]:
    """-> mean PSNR of the prediction and of frame averaging, in dB, and rows for a sample sheet."""
    scores, plain, rows = [], [], []
    for number, (frames, t) in enumerate(validation.samples if validation else ()):
        img0, truth, img1 = frames.float().div(255).split(1)
        made, flow = predict(img0, img1, torch.tensor([t], device=frames.device))
        made = made.clamp(0, 1)
        scores.append(psnr(made.float().cpu(), truth.cpu()))
        plain.append(psnr(((1 - t) * img0 + t * img1).cpu(), truth.cpu()))
        if number % 4 == 1 and len(rows) < 6:
            rows.append((truth[0], made[0], flow.flow[0]))
    if not scores:
        return {"psnr": 0.0, "averaging": 0.0}, []
    return {"psnr": sum(scores) / len(scores), "averaging": sum(plain) / len(plain)}, rows


class Triples:
    """What is drawn and watched for a network that sees two frames: first, truth, last.

    ``sampler`` opens the packs, ``draw`` makes a batch for ``forward``, ``validation`` opens what was held out,
    and ``validate`` returns scores, among them ``psnr``, and rows for ``sheets.sheet``.
    """

    def __init__(self, recipe) -> None:
        self.recipe = recipe

    def sampler(self, packs_dir: Path, device: torch.device, seed: int) -> Sampler:
        return Sampler(Packs(packs_dir, device=device), seed=seed)

    def draw(self, sampler: Sampler, stage, grow: int = 1) -> Batch:
        how = Draw(stage.batch * grow, stage.crop, stage.shrinks, stage.synthetic, stage.motion)
        return sampler.draw(how)

    def validation(self, packs_dir: Path, device: torch.device) -> Validation | None:
        return Validation.load(packs_dir, device)

    def validate(self, kept: Validation | None, stage) -> tuple[dict[str, float], list]:
        return validate(lambda *args: self.recipe.predict(*args, stage), kept)
