"""How WaveletVFI learns: its losses, and how it is watched.

In: middles (``train.middles``). Out: a scalar to minimise, and its terms for the log.

Stage ``static``: every place computed. Stage ``dynamic``: all four thresholds are decoded, and the classifier weighs
their losses by a soft draw among them, whose *temperature* falls as the stage goes on, so that it decides for one in
the end. What an answer costs counts with how wrong it is, and teaches the classifier alone.

Source: L. Kong et al., "Dynamic Frame Interpolation in Wavelet Domain", IEEE TIP 2023.
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
from ...ops.wavelet import analyse
from .config import LEVELS, RATIOS, WaveletVFIConfig
from .net import Synthesis, WaveletVFI

if TYPE_CHECKING:
    from ...train.middles import Middles, MiddleSampler
    from ...train.validate import Validation

COOLEST = 0.4
"""The temperature falls to this."""


@dataclass(frozen=True, slots=True)
class Stage:
    """One part of the training. ``dynamic``: the classifier chooses thresholds and learns to; else all is computed.

    share: of the whole time. batch, crop: samples and their side in pixels. rate: peak. wavelet, cost: weights of the
    distance of coefficients and of the multiplications spent.
    """

    name: str
    share: float
    dynamic: bool
    batch: int = 6
    crop: int = 256
    rate: float = 1e-4
    wavelet: float = 0.01
    cost: float = 3.0


STAGES = (Stage("static", 0.75, dynamic=False), Stage("dynamic", 0.25, dynamic=True))


class WaveletVFIRecipe(nn.Module):
    """The network with its losses: ``forward(batch, stage)`` is one training step's loss.

    ``part``, set by the loop before each step, is how far the stage has come, 0..1.
    """

    family = "waveletvfi"

    def __init__(self, config: WaveletVFIConfig | None = None, stages: tuple[Stage, ...] = STAGES):
        super().__init__()
        self.config = config or WaveletVFIConfig()
        self.stages = stages
        self.part = 0.0
        self.net = WaveletVFI(self.config)
        start_quiet(self.net)

    @property
    def temperature(self) -> float:
        """Of the draw: 1 at the beginning of a stage, ``COOLEST`` from three tenths on."""
        return max(1 - 2 * self.part, COOLEST)

    def metadata(self) -> dict[str, str]:
        """What a weights file must say beside its shapes: nothing."""
        return {}

    def learns(self, stage: Stage) -> list[nn.Module]:
        """The modules whose parameters a stage changes: all, but for the classifier in the static one."""
        return [self.net]

    def sampler(self, packs_dir: Path, device: torch.device, seed: int) -> MiddleSampler:
        from ...train.data import Packs
        from ...train.middles import MiddleSampler

        return MiddleSampler(Packs(packs_dir, device=device), seed=seed)

    def draw(self, sampler: MiddleSampler, stage: Stage, grow: int = 1) -> Middles:
        return sampler.draw_middles(stage.batch * grow, stage.crop)

    def validation(self, packs_dir: Path, device: torch.device) -> Validation | None:
        from ...train.validate import Validation

        kept = Validation.load(packs_dir, device)
        return kept and Validation(tuple(sample for sample in kept.samples if sample[1] == 0.5))

    def validate(self, kept: Validation | None, stage: Stage) -> tuple[dict[str, float], list]:
        from ...train.validate import validate

        costs: list[Tensor] = []
        scores, rows = validate(lambda img0, img1, t: self.predict(img0, img1, t, stage, costs), kept)
        if costs:
            scores["cost"] = float(torch.cat(costs).mean())
        return scores, rows

    def forward(self, batch: Middles, stage: Stage) -> tuple[Tensor, dict[str, Tensor]]:
        """-> loss, and its terms without gradients."""
        motion = self.net.ifnet(batch.img0, batch.img1)
        context = self.net.contextnet(batch.img0, batch.img1, motion)
        truth = bands(batch.gt)
        count = len(batch.gt)
        if stage.dynamic:
            drawn = F.gumbel_softmax(motion.logits, tau=self.temperature)  # (B, 4)
            ratios: tuple[float, ...] = RATIOS
        else:
            drawn, ratios = motion.logits.new_ones(count, 1), (0.0,)
        picture = wavelet = costly = cost = squares = motion.logits.new_zeros(count)
        for share, ratio in zip(drawn.unbind(1), ratios, strict=True):
            made = self.net.synthesis(context, motion.logits.new_full((count,), ratio))
            missed = charbonnier(made.picture, batch.gt) + census(made.picture, batch.gt)
            picture = picture + share * missed
            wavelet = wavelet + share * wavelet_distance(made, truth)
            costly = costly + share * missed.detach() * made.cost
            with torch.no_grad():
                cost = cost + share * made.cost
                squares = squares + share * (made.picture.clamp(0, 1) - batch.gt).square().mean((1, 2, 3))
        loss = picture.mean() + stage.wavelet * wavelet.mean()
        terms = {"picture": picture.mean(), "wavelet": wavelet.mean(), "cost": cost.mean()}
        if stage.dynamic:
            loss = loss + stage.cost * costly.mean()
        terms |= {
            "loss": loss,
            "psnr": -10 * squares.clamp(min=1e-8).log10().mean(),
            "temperature": torch.tensor(self.temperature),
        }
        return loss, {name: term.detach() for name, term in terms.items()}

    @torch.no_grad()
    def predict(
        self, img0: Tensor, img1: Tensor, t: Tensor, stage: Stage, costs: list[Tensor] | None = None
    ) -> tuple[Tensor, Flow]:
        """The middle, whatever ``t``, and the motion behind it: ``(B, 3, H, W)`` of any size. What it took is added to
        ``costs``."""
        (left, size), (right, _) = (pad_to(image, self.config.modulus) for image in (img0, img1))
        made, motion = self.net(left, right, None if stage.dynamic else 0.0)
        if costs is not None:
            costs.append(made.cost)
        return crop(made.picture, size), Flow(crop(motion.flow, size), crop(motion.mask, size))


@torch.no_grad()
def start_quiet(net: WaveletVFI) -> None:
    """Begin with motion and details near nothing: what random layers say would be amplified by their gains, and by
    every level of the pyramid."""
    for level in range(1, LEVELS + 1):
        for layer in (net.get_submodule(f"conv{level}_h"), net.ifnet.get_submodule(f"decoder{level}.conv6")):
            layer.weight.mul_(0.05)
            layer.bias.zero_()
    net.conv4_l.bias.fill_(0.5)


def bands(picture: Tensor) -> tuple[Tensor, list[Tensor]]:
    """The coarsest low band, and details from half the size down."""
    low, details = picture, []
    for _ in range(LEVELS):
        low, found = analyse(low)
        details.append(found)
    return low, details


def wavelet_distance(made: Synthesis, truth: tuple[Tensor, list[Tensor]]) -> Tensor:
    """``(B,)``: of the coarsest band and of every level's details."""
    low, details = truth
    return charbonnier(made.low, low) + sum(charbonnier(*pair) for pair in zip(made.details, details, strict=True))


def charbonnier(made: Tensor, truth: Tensor) -> Tensor:
    """A rounded absolute difference, ``(B,)``."""
    return ((made - truth).square() + 1e-6).sqrt().flatten(1).mean(1)


def census(made: Tensor, truth: Tensor) -> Tensor:
    """How differently brightness lies around each pixel, in 7×7, whatever its level and contrast: ``(B,)``.

    Source: S. Meister et al., "UnFlow", AAAI 2018 (the soft ternary census).
    """
    signs = []
    for picture in (made, truth):
        grey = picture.mean(1, keepdim=True)
        around = F.unfold(grey, 7, padding=3).unflatten(2, grey.shape[-2:]) - grey  # B 49 H W
        signs.append(around / (0.81 + around.square()).sqrt())
    squares = (signs[0] - signs[1]).square()
    distance = (squares / (0.1 + squares)).mean(1)
    inner = torch.zeros_like(distance)
    inner[:, 3:-3, 3:-3] = 1
    return (distance * inner).flatten(1).mean(1)
