"""How FMA-Net learns: its losses, and how it is watched.

In: blurred and reduced frames with the sharp ones (``train.restoration_blur.Restorations``). Out: a scalar to minimise,
and its terms for the log.

Stage ``degradation``: that half alone learns which motion and which kernels make the blurred frame out of the sharp
ones. Stage ``restoration``: both halves learn, the first one still held to what it has learnt.

The published training script has faults that are not copied. It steps the first half's schedule twice and the second
half's never in the second stage, and goes on there with the rate that the first stage has decayed to: here the loop's
one schedule rises to each stage's own rate and falls again, for both halves alike. It files the PSNR of the restored
picture in the wrong list, so that no best one is ever known: here ``psnr`` is that of the restored picture in both
stages, and each entry of the history names its stage.

Fine-tuning at the full rate can collapse: the command line starts from given weights at a tenth of it, and the loop
bounds the gradient's norm.

Source: G. Youk et al., "FMA-Net: Flow-Guided Dynamic Filtering and Iterative Feature Refinement with Multi-Attention
for Joint Video Super-Resolution and Deblurring", CVPR 2024.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from ...errors import InputError
from ...ops.precision import exactly
from ...train.restoration_blur import INSTANTS, BlurDraw, BlurSampler, Restorations
from ...train.restoration_labels import Motion, labels
from ...train.restoration_reds import RedsSampler, find_reds, is_reds
from ...train.restoration_validate import Made, RestorationValidation, validate
from .config import FMANetConfig
from .net import Degradation, FMANet

if TYPE_CHECKING:
    from ...train.restoration_clips import RunSampler

FINE_TUNING = 0.1
"""Share of the rate that weights which have learnt already can bear."""


@dataclass(frozen=True, slots=True)
class Stage:
    """One part of the training. ``restores``: both halves learn; else the degradation net alone.

    share: of the whole time. batch, patch: samples and the side of their input in pixels. rate: peak.
    Weights, beside the main terms': ``warped``, of the sharp frames brought to the middle one, and of the blurred ones;
    ``flow``, of that motion against what was found elsewhere; ``anchor``, of the small sharp frames that the features
    shall know; ``degradation``, of the first half's whole loss while both learn.
    """

    name: str
    share: float
    restores: bool
    batch: int = 8
    patch: int = 64
    rate: float = 2e-4
    warped: float = 0.1
    flow: float = 1e-4
    anchor: float = 0.1
    degradation: float = 0.1


STAGES = (Stage("degradation", 0.4, restores=False), Stage("restoration", 0.6, restores=True))


class FMANetRecipe(nn.Module):
    """The network with its losses: ``forward(batch, stage)`` is one training step's loss."""

    family = "fmanet"

    def __init__(
        self,
        config: FMANetConfig | None = None,
        stages: tuple[Stage, ...] = STAGES,
        motion: Motion | None = None,
    ):
        """motion: what the flow is compared with, see ``train.restoration_labels``; None: nothing."""
        super().__init__()
        self.config = config or FMANetConfig()
        if self.config.frames != INSTANTS:
            raise InputError(f"This network sees {self.config.frames} frames; the samples have {INSTANTS}")
        if not self.config.training_heads:
            raise InputError(
                "These weights lack what only training needs (a_conv, f_conv): start from a file that was converted"
                " with it"
            )
        self.stages = stages
        self.motion = motion
        self.net = FMANet(self.config)

    def metadata(self) -> dict[str, str]:
        """What a weights file must say beside its shapes: nothing."""
        return {}

    def learns(self, stage: Stage) -> list[nn.Module]:
        """The modules whose parameters a stage changes."""
        return [self.net] if stage.restores else [self.net.degradation_learning_network]

    def material(self, folder: Path) -> str | None:
        """What the weights learnt from, where it is no packs."""
        return f"clips {folder.name}, {len(find_reds(folder))} of them, REDS4 left out" if is_reds(folder) else None

    def sampler(self, folder: Path, device: torch.device, seed: int) -> RunSampler:
        """folder: packs, or clips laid out as those of REDS."""
        from ...train.data import Packs

        if is_reds(folder):
            return RedsSampler(find_reds(folder), device, seed=seed)
        return BlurSampler(Packs(folder, device=device), seed=seed)

    def draw(self, sampler: RunSampler, stage: Stage, grow: int = 1) -> Restorations:
        if isinstance(sampler, RedsSampler):
            return sampler.draw(stage.batch * grow, stage.patch)
        return sampler.draw(BlurDraw(stage.batch * grow, stage.patch))

    def validation(self, folder: Path, device: torch.device) -> RestorationValidation | None:
        load = RestorationValidation.of_reds if is_reds(folder) else RestorationValidation.of_packs
        return load(folder, device)

    def validate(self, kept: RestorationValidation | None, stage: Stage) -> tuple[dict[str, float], list]:
        return validate(lambda sample: self.predict(sample, stage), kept, degradation=not stage.restores)

    def forward(self, batch: Restorations, stage: Stage) -> tuple[Tensor, dict[str, Tensor]]:
        """-> loss, and its terms without gradients."""
        x, small, y = (pictures.flip(1) for pictures in batch)  # the network's colours are BGR
        middle = INSTANTS // 2
        degradation = self.net.degradation(x, y)
        loss, terms = self.degradation_loss(degradation, x, small, y, stage)
        if stage.restores:
            made = self.net.restoration(x, degradation)
            parts = {
                "restored": absolute(made.picture, y[:, :, middle]),
                "drawn together": absolute(made.warped, x[:, :, middle, None]),
                "restoration anchor": absolute(made.anchor, small),
            }
            weights = (1.0, stage.warped, stage.anchor)
            loss = stage.degradation * loss + sum(
                weight * part for weight, part in zip(weights, parts.values(), strict=True)
            )
            error = (made.picture.detach().float().clamp(0, 1) - y[:, :, middle]).square()
            terms |= parts | {"psnr": -10 * error.mean((1, 2, 3)).clamp(min=1e-8).log10().mean()}
        terms["loss"] = loss
        return loss, {name: term.detach() for name, term in terms.items()}

    def degradation_loss(
        self, made: Degradation, x: Tensor, small: Tensor, y: Tensor, stage: Stage
    ) -> tuple[Tensor, dict[str, Tensor]]:
        """-> the first half's loss and its terms. All BGR, as ``Restorations``."""
        middle = INSTANTS // 2
        terms = {
            "blurred": absolute(made.recon, x[:, :, middle]),
            "warped": absolute(made.sharp_warped, y[:, :, middle, None]),
            "anchor": absolute(made.anchor, small),
        }
        loss = terms["blurred"] + stage.warped * terms["warped"] + stage.anchor * terms["anchor"]
        if self.motion is not None and stage.flow:
            with exactly(x.device):
                found = labels(self.motion, small.flip(1))
            terms["flow"] = absolute(made.image_flow[:, :2], found)
            loss = loss + stage.flow * terms["flow"]
        return loss, terms

    @torch.no_grad()
    def predict(self, sample: Restorations, stage: Stage) -> Made:
        """What the two halves make of a batch of one, RGB."""
        x, _, y = (pictures.flip(1) for pictures in sample)
        degradation = self.net.degradation(x, y)
        made = self.net.restoration(x, degradation)
        flow = made.flow if stage.restores else degradation.image_flow
        return Made(made.picture.flip(1), degradation.recon.flip(1), flow[0, :, -1])


def absolute(made: Tensor, truth: Tensor) -> Tensor:
    """Mean absolute difference; the shapes broadcast."""
    return (made.float() - truth).abs().mean()
