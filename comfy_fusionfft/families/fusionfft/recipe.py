"""How the fusion network learns: its losses, and how it is watched.

In: batches of ``train.chain_data``. Out: a scalar to minimise, and its terms for the log.

Grain that was added to the frames is wanted back in strength, not pixel by pixel: the distances look at the
truth without it, the spectrum at the truth with grain of its own.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from ...train.chains import FOUND
from ...train.losses import distance_loss, edge_loss, spectrum_loss
from .config import MAX_ANCHORS, FusionConfig, describe
from .fuse import plain_answer
from .net import FusionNet

if TYPE_CHECKING:
    from ...train.chain_data import ChainBatch, ChainSampler
    from ...train.chain_validate import ChainValidation


@dataclass(frozen=True, slots=True)
class Stage:
    """One part of the training. Weights of the losses: ``distance``, ``edge``, ``spectrum``, ``perceptual``
    (only with the weights it needs), ``prior`` (nearness to the plain blend; off: it holds back what is learnt).

    share: of the whole time. batch, crop, anchors: see ``train.chain_data.ChainDraw``; of ``anchors`` only
    the first ``num_anchors`` are drawn. rate: peak of the learning rate. found: share of batches with the motion of
    the source it shall work with, where the packs have it; the others have DIS: one network shall serve any source.
    """

    name: str = "fuse"
    share: float = 1.0
    batch: int = 4
    crop: int = 192
    rate: float = 1e-3
    num_anchors: int = MAX_ANCHORS
    distance: float = 1.0
    edge: float = 0.1
    spectrum: float = 0.1
    perceptual: float = 0.15
    prior: float = 0.0
    found: float = 0.7


STAGES = (Stage(),)


class FusionRecipe(nn.Module):
    """The network with its losses: ``forward(batch, stage)`` is one training step's loss."""

    family = "fusionfft"

    def __init__(
        self,
        config: FusionConfig | None = None,
        stages: tuple[Stage, ...] = STAGES,
        perceptual: nn.Module | None = None,
    ):
        """perceptual: ``(made, truth) -> scalar``, such as train.perceptual.Perceptual; None: off."""
        super().__init__()
        self.perceptual = perceptual
        self.config = config or FusionConfig()
        self.stages = stages
        self.net = FusionNet(self.config)
        # A residual learnt at the full rate would tremble by several per cent of the brightness.
        self.gentle = {self.net.decoder.gates: 0.05, self.net.trajectory.correct: 0.3, self.net.decoder.score: 0.5}

    def metadata(self) -> dict[str, str]:
        """What a reader of the weights cannot tell from their shapes."""
        return describe(self.config)

    def learns(self, stage: Stage) -> list[nn.Module]:
        """The modules whose parameters a stage changes: all."""
        return [self.net]

    def sampler(self, packs_dir: Path, device: torch.device, seed: int) -> ChainSampler:
        from ...train.chain_data import Chains, ChainSampler

        found = any((packs_dir / FOUND).glob("*.safetensors"))
        return ChainSampler(Chains(packs_dir, found=found), device=device, seed=seed)

    def draw(self, sampler: ChainSampler, stage: Stage, grow: int = 1) -> ChainBatch:
        from ...train.chain_data import ANCHORS, ChainDraw

        anchors = ANCHORS[: stage.num_anchors]
        how = ChainDraw(batch=stage.batch * grow, crop=stage.crop, anchors=anchors, found=stage.found)
        return sampler.draw(how)

    def validation(self, packs_dir: Path, device: torch.device) -> ChainValidation | None:
        from ...train.chain_validate import ChainValidation

        return ChainValidation.load(packs_dir, device)

    def validate(self, kept: ChainValidation | None, stage: Stage) -> tuple[dict[str, float], list]:
        if kept is None:
            return {"psnr": 0.0}, []
        return kept.check(self.net)

    def forward(self, batch: ChainBatch, stage: Stage) -> tuple[Tensor, dict[str, Tensor]]:
        """-> loss, and its terms without gradients."""
        made = self.net(batch.x).float()
        with torch.autocast(made.device.type, enabled=False):
            distance = distance_loss(made, batch.truth, batch.weight)
            edge = edge_loss(made, batch.truth, batch.weight)
            spectrum = spectrum_loss(made, batch.grainy)
            loss = stage.distance * distance + stage.edge * edge + stage.spectrum * spectrum
            if stage.prior:
                plain = plain_answer(batch.x, quadratic=False)[0]
                loss = loss + stage.prior * distance_loss(made, plain.detach(), batch.weight)
            if self.perceptual is not None:
                loss = loss + stage.perceptual * self.perceptual(made, batch.truth)
        with torch.no_grad():
            squares = ((made - batch.truth).square() * batch.weight).mean((1, 2, 3)) / batch.weight.mean()
            terms = {
                "loss": loss.detach(),
                "distance": distance.detach(),
                "edge": edge.detach(),
                "spectrum": spectrum.detach(),
                "psnr": -10 * squares.clamp(min=1e-8).log10().mean(),
            }
        return loss, terms
