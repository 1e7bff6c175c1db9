"""How the choosing network learns: its losses, and how it is watched.

Each sample counts by how much better it becomes than the first search alone makes it, so that a quiet picture and a
wild one weigh the same, as in a mean of PSNR.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ...contract import Flow
from ...ops.dis import brightness
from ...ops.warp import backward_warp
from . import candidates
from .config import MultiFlowConfig, describe
from .net import MultiFlowNet, attempt, enlarged, first_search

if TYPE_CHECKING:
    from ...train.guess_data import Batch, CandidateSampler
    from ...train.guess_validate import Validation

EASY = 0.004
"""Added to distances before they are compared: differences below this are noise."""
SMALL = 1e-5
"""The same for squares: 50 dB."""


@dataclass(frozen=True, slots=True)
class Stage:
    """One part of the training. ``picture``: weight of the distance of the blend. ``decibels``: of its PSNR, since a
    few places that are quite wrong weigh more in it. ``views``: of both views alone.
    ``guess``: of the distance that a guess drawn by the weights would have, on average: it tells all guesses at once,
    also those that are not followed yet, what they are worth.

    share: of the whole time. batch: samples. crop: their side, in pixels, a multiple of 32. rate: peak.
    """

    name: str = "choose"
    share: float = 1.0
    batch: int = 8
    crop: int = 224
    rate: float = 2e-3
    picture: float = 0.5
    decibels: float = 0.1
    views: float = 0.3
    guess: float = 0.5


STAGES = (Stage(),)


class MultiFlowRecipe(nn.Module):
    """The network with its losses: ``forward(batch, stage)`` is one training step's loss."""

    family = "multiflow"

    def __init__(self, config: MultiFlowConfig | None = None, stages: tuple[Stage, ...] = STAGES):
        super().__init__()
        self.config = config or MultiFlowConfig()
        self.stages = stages
        self.net = MultiFlowNet(self.config)
        self.gentle = {self.net.choose.last: 1.0}

    def metadata(self) -> dict[str, str]:
        return describe(self.config)

    def learns(self, stage: Stage) -> list[nn.Module]:
        return [self.net]

    def sampler(self, packs_dir: Path, device: torch.device, seed: int) -> CandidateSampler:
        from ...train.guess_data import CandidateSampler

        return CandidateSampler(packs_dir, device=device, seed=seed)

    def draw(self, sampler: CandidateSampler, stage: Stage, grow: int = 1) -> Batch:
        return sampler.draw(stage.batch * grow, stage.crop)

    def validation(self, packs_dir: Path, device: torch.device) -> Validation | None:
        from ...train.guess_validate import Validation

        return Validation.load(packs_dir, device)

    def validate(self, kept: Validation | None, stage: Stage) -> tuple[dict[str, float], list]:
        return kept.check(self.net) if kept is not None else ({"psnr": 0.0}, [])

    def forward(self, batch: Batch, stage: Stage) -> tuple[Tensor, dict[str, Tensor]]:
        """-> loss, and its terms without gradients."""
        with torch.no_grad():
            guesses = candidates.at_times(batch.found, batch.time)
            trial = attempt(batch.left, batch.right, *guesses, batch.time)
            seen = seen_along(batch.left, batch.right, trial.velocity, batch.time)
        choice = self.net.choice(trial, batch.time)
        with torch.autocast(batch.left.device.type, enabled=False):
            made, views, share = blended(batch.left, batch.right, enlarged(choice.flow, choice.mask))
            plain = first_search(trial.velocity, trial.mask, batch.time)
            given = blended(batch.left, batch.right, plain)[0]
            usual = _distances(given, batch).detach() + EASY
            picture = (_distances(made, batch) / usual).mean()
            squares = [_squares(each, batch) for each in (made, given)]
            decibels = [-10 * (each + SMALL).log10().mean() for each in squares]
            taken = torch.cat((share, 1 - share), 1).detach()
            alone = sum((_distances(view, batch, taken[:, i : i + 1]) / usual).mean() for i, view in enumerate(views))
            guess = (self._expected(choice.weights, seen, batch, taken) / usual).mean()
            loss = stage.picture * picture - stage.decibels * decibels[0]
            loss = loss + stage.views * alone / 2 + stage.guess * guess
        with torch.no_grad():
            terms = {
                "loss": loss.detach(),
                "picture": picture.detach(),
                "alone": alone.detach() / 2,
                "guess": guess.detach(),
                "psnr": decibels[0].detach(),
                "gain": (decibels[0] - decibels[1]).detach(),
            }
        return loss, terms

    @staticmethod
    def _expected(weights: Tensor, views: Tensor, batch: Batch, taken: Tensor) -> Tensor:
        """Mean distance of guesses drawn by ``weights``, of each view where it is taken: ``(B,)``."""
        grey = F.avg_pool2d(brightness(batch.truth), candidates.SHRINK)
        gaps = (views - grey[:, None]).abs()  # (B, 2, COUNT, h, w)
        gaps = F.avg_pool2d(gaps.flatten(1, 2), 3, 1, 1).view_as(gaps)
        where = F.avg_pool2d(taken * batch.weight, candidates.SHRINK)
        return ((weights * gaps).sum(2) * where).sum((1, 2, 3)) / where.sum((1, 2, 3))


def seen_along(left: Tensor, right: Tensor, velocity: Tensor, time: Tensor) -> Tensor:
    """The brightness that each guess brings from the left and the right picture, ``(B, 2, COUNT, h, w)``."""
    t = time.view(-1, 1, 1, 1, 1)
    views = []
    for picture, share in ((left, -t), (right, 1 - t)):
        grey = F.avg_pool2d(brightness(picture), candidates.SHRINK).repeat_interleave(velocity.shape[1], 0)
        views.append(backward_warp(grey, (share * velocity).flatten(0, 1)).view(velocity[:, :, 0].shape))
    return torch.stack(views, 1)


def blended(left: Tensor, right: Tensor, motion: Flow) -> tuple[Tensor, tuple[Tensor, Tensor], Tensor]:
    """-> the blend, both warped pictures, and the left one's share."""
    views = backward_warp(left.float(), motion.flow[:, :2]), backward_warp(right.float(), motion.flow[:, 2:])
    share = motion.mask.sigmoid()
    return torch.lerp(views[1], views[0], share), views, share


def _distances(made: Tensor, batch: Batch, share: Tensor | float = 1.0) -> Tensor:
    """Mean of a rounded absolute difference of each sample, ``(B,)``."""
    weight = (batch.weight * share).expand(len(made), 1, -1, -1)
    gaps = ((made - batch.truth).square() + 1e-6).sqrt().mean(1, keepdim=True)
    return (gaps * weight).sum((1, 2, 3)) / weight.sum((1, 2, 3))


def _squares(made: Tensor, batch: Batch) -> Tensor:
    """Mean square difference of each sample, ``(B,)``."""
    return ((made - batch.truth).square() * batch.weight).mean((1, 2, 3)) / batch.weight.mean()
