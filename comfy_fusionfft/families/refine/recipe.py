"""How the refining network learns, starting at the flow it is given.

In: batches of ``train.chain_data`` with one anchor. Out: a scalar to minimise, and its terms for the log.

First it learns to change the given flow into a teacher's, at every level; pictures alone move it little, for
their gradient sees one pixel around where flow points. Then pictures take over: the blend of both warped ones
shall be the true one, and each alone where the mask takes it, so that flow is right and not merely hidden.
Distances enter by their logarithm, as for fusion.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ...contract import Flow
from ...ops.pad import crop, pad_to
from ...ops.warp import backward_warp
from ...train.chains import TAUGHT
from ...train.losses import distance_loss
from .config import RefineConfig, describe
from .net import RefineNet

if TYPE_CHECKING:
    from ...families.fusionfft.inputs import FusionInput
    from ...train.chain_data import ChainBatch, ChainSampler
    from ...train.chain_validate import ChainValidation


@dataclass(frozen=True, slots=True)
class Stage:
    """One part of the training. Weights of the losses: ``picture``, the blend; ``views``, each picture alone;
    ``taught``, the teacher's flow, where the batch has it. See fusionfft.recipe.Stage for the others."""

    name: str = "taught"
    share: float = 0.7
    batch: int = 8
    crop: int = 192
    rate: float = 1e-3
    picture: float = 0.2
    views: float = 0.0
    taught: float = 1.0
    spoilt: float = 0.15


STAGES = (Stage(), Stage("pictures", 0.3, rate=5e-4, picture=1.0, views=0.2, taught=0.2))


class RefineRecipe(nn.Module):
    """The network with its losses: ``forward(batch, stage)`` is one training step's loss."""

    family = "refine"

    def __init__(self, config: RefineConfig | None = None, stages: tuple[Stage, ...] = STAGES):
        super().__init__()
        self.config = config or RefineConfig()
        self.stages = stages
        self.net = RefineNet(self.config)
        self.gentle = {self.net.estimator.correct: 0.2, self.net.fine.correct: 0.2}

    def metadata(self) -> dict[str, str]:
        return describe(self.config)

    def learns(self, stage: Stage) -> list[nn.Module]:
        return [self.net]

    def sampler(self, packs_dir: Path, device: torch.device, seed: int) -> ChainSampler:
        from ...train.chain_data import Chains, ChainSampler

        taught = any((packs_dir / TAUGHT).glob("*.safetensors"))
        return ChainSampler(Chains(packs_dir, taught=taught), device=device, seed=seed)

    def draw(self, sampler: ChainSampler, stage: Stage, grow: int = 1) -> ChainBatch:
        from ...train.chain_data import ChainDraw

        how = ChainDraw(batch=stage.batch * grow, crop=stage.crop, anchors=(1.0,), lone=0.0, spoilt=stage.spoilt)
        return sampler.draw(how)

    def validation(self, packs_dir: Path, device: torch.device) -> ChainValidation | None:
        from ...train.chain_validate import ChainValidation

        return ChainValidation.load(packs_dir, device, anchors=1)

    def validate(self, kept: ChainValidation | None, stage: Stage) -> tuple[dict[str, float], list]:
        if kept is None:
            return {"psnr": 0.0}, []
        return kept.check(self.picture)

    def picture(self, x: FusionInput) -> Tensor:
        """The plain blend along the corrected flow, for pictures of any size."""
        planes = (*x.frames[:, 0, :, :3].unbind(1), x.motion[:, 0].flatten(1, 2), x.mask)
        left, right, flow, mask = (pad_to(each, self.config.modulus)[0] for each in planes)
        found = self.net(left, right, Flow(flow, mask), x.time)
        return crop(blended(left, right, found)[0], x.mask.shape[-2:])

    def forward(self, batch: ChainBatch, stage: Stage) -> tuple[Tensor, dict[str, Tensor]]:
        """-> loss, and its terms without gradients."""
        x = batch.x
        left, right = x.frames[:, 0].unbind(1)
        given = Flow(x.motion[:, 0].flatten(1, 2), x.mask)
        changes = self.net.changes(left, right, given, x.time)
        with torch.autocast(left.device.type, enabled=False):
            whole = F.interpolate(changes[-1], x.mask.shape[-2:], mode="bilinear")
            found = Flow(given.flow + whole[:, :4], given.mask + whole[:, 4:])
            made, views, share = blended(left, right, found)
            distance = distance_loss(made, batch.truth, batch.weight)
            taken = (share.detach(), 1 - share.detach())
            alone = [distance_loss(v, batch.truth, batch.weight * s) for v, s in zip(views, taken, strict=True)]
            loss = stage.views * (alone[0] + alone[1]) / 2
            lesson = distance.new_zeros(())
            if batch.taught is None:  # pictures are all there is to learn from
                loss = loss + distance
            else:
                wanted, trust = batch.taught
                lesson = lesson_loss(changes, wanted.flow - given.flow, trust * batch.weight)
                loss = loss + stage.picture * distance + stage.taught * lesson
        with torch.no_grad():
            squares = ((made - batch.truth).square() * batch.weight).mean((1, 2, 3)) / batch.weight.mean()
            terms = {
                "loss": loss.detach(),
                "distance": distance.detach(),
                "alone": sum(alone).detach() / 2,
                "lesson": lesson.detach(),
                "psnr": -10 * squares.clamp(min=1e-8).log10().mean(),
            }
        return loss, terms


def lesson_loss(changes: list[Tensor], wanted: Tensor, trust: Tensor) -> Tensor:
    """Mean over samples and parts of the log of how far changes of flow are from the wanted ones, in pixels.

    wanted: ``(B, 4, H, W)``. trust: ``(B, 2, H, W)``, weights for its two halves.
    """
    losses = []
    for change in changes:
        cell = wanted.shape[-1] // change.shape[-1]
        share = F.avg_pool2d(trust, cell)
        gap = change[:, :4] - F.avg_pool2d(wanted, cell)
        length = (gap.unflatten(1, (2, 2)).square().sum(2) + 1e-4).sqrt()  # (B, 2, h, w)
        losses.append(((length * share).sum((1, 2, 3)) / share.sum((1, 2, 3)).clamp_min(1) + 0.05).log().mean())
    return torch.stack(losses).mean()


def blended(left: Tensor, right: Tensor, motion: Flow) -> tuple[Tensor, tuple[Tensor, Tensor], Tensor]:
    """-> the blend, both warped pictures, and the left one's share."""
    views = backward_warp(left.float(), motion.flow[:, :2]), backward_warp(right.float(), motion.flow[:, 2:])
    share = motion.mask.sigmoid()
    return torch.lerp(views[1], views[0], share), views, share
