"""How the fusion network learns: its losses, and how it is watched.

In: batches of ``train.chain_data``. Out: a scalar to minimise, and its terms for the log.

Distances enter by their logarithm, sample by sample: a clip that is easy counts as much as one that is
hard, which is what a mean PSNR asks for, and what being better on every clip needs. Grain that was added
to the frames is wanted back in strength, not pixel by pixel: the distances look at the truth without it,
the spectrum at the truth with grain of its own.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import torch
import torch.nn.functional as F
from torch import Tensor, nn

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
    the first ``num_anchors`` are drawn. rate: peak of the learning rate.
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

        return ChainSampler(Chains(packs_dir), device=device, seed=seed)

    def draw(self, sampler: ChainSampler, stage: Stage, grow: int = 1) -> ChainBatch:
        from ...train.chain_data import ANCHORS, ChainDraw

        anchors = ANCHORS[: stage.num_anchors]
        return sampler.draw(ChainDraw(batch=stage.batch * grow, crop=stage.crop, anchors=anchors))

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


def distance_loss(made: Tensor, truth: Tensor, weight: Tensor, octaves: int = 3) -> Tensor:
    """Mean over samples of log(squares) and log(Laplacian pyramid's absolute values), halved.

    The constants are errors that nobody sees: below them a sample no longer counts for more.
    """
    difference = made - truth
    squares = (difference.square() * weight).mean((1, 2, 3))
    pyramid, finer, share = torch.zeros_like(squares), difference, weight
    for octave in range(octaves):
        coarser = F.avg_pool2d(finer, 2)
        detail = finer - F.interpolate(coarser, scale_factor=2, mode="bilinear")
        pyramid = pyramid + (_absolute(detail) * share).mean((1, 2, 3)) * 2**octave
        finer, share = coarser, F.avg_pool2d(share, 2)
    pyramid = pyramid + (_absolute(finer) * share).mean((1, 2, 3)) * 2**octaves
    return 0.5 * (squares + 2e-5).log().mean() + 0.5 * (pyramid + 4e-3).log().mean()


def edge_loss(made: Tensor, truth: Tensor, weight: Tensor) -> Tensor:
    """Mean over samples of the log of the distance of Sobel gradients of brightness."""
    difference = (made - truth).mean(1, keepdim=True)
    smooth = difference.new_tensor([1.0, 2.0, 1.0]) / 4
    slope = difference.new_tensor([-1.0, 0.0, 1.0]) / 2
    kernels = torch.stack((smooth[:, None] * slope, slope[:, None] * smooth))[:, None]
    gradient = F.conv2d(difference, kernels)
    return ((_absolute(gradient) * weight[..., 1:-1, 1:-1]).mean((1, 2, 3)) + 2e-3).log().mean()


def spectrum_loss(made: Tensor, truth: Tensor, tile: int = 32) -> Tensor:
    """Distance of log-magnitudes of the spectra of tapered tiles, weighted by (r / r_max)^1.5.

    Magnitudes are averaged over all tiles of a sample first: texture shall be as strong, not in place.
    """
    window = torch.hann_window(tile, periodic=False, device=made.device)
    window = window[:, None] * window
    radius = torch.fft.fftfreq(tile, device=made.device)[:, None].hypot(torch.fft.rfftfreq(tile, device=made.device))
    rising = (radius / radius.max()) ** 1.5
    logs = []
    for picture in (made, truth):
        tiles = picture.mean(1).unfold(1, tile, tile // 2).unfold(2, tile, tile // 2)  # (B, n, n, tile, tile)
        power = torch.fft.rfft2((tiles - tiles.mean((-1, -2), keepdim=True)) * window).abs().square().mean((1, 2))
        logs.append((power + 1e-4).log() / 2)
    return ((logs[0] - logs[1]).abs() * rising).mean() / rising.mean()


def _absolute(x: Tensor) -> Tensor:
    return (x.square() + 1e-6).sqrt()
