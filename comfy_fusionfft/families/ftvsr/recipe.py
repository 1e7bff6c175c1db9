"""How FTVSR learns: its loss, what learns when, and how it is watched.

In: reduced and compressed clips with the sharp ones (``train.restoration_compressed``). Out: a scalar to minimise, and
its terms for the log. The loss is the mean of √(d² + 10⁻¹²) over what the second network makes; nothing in between is
asked for anything.

``RECIPES`` are the two published ones. ``reds``: 40 frames, key frames 3 apart, the frequency transformer alone for the
first 2.5 % (10,000 steps of 400,000; the motion network, which would be kept for 0.5 %, is kept by that), cosine
transforms never. ``vimeo``: 28 frames, every frame a key frame, Gaussian reduction, weights decay by 0.05, the motion
network is kept for the first 1.25 % and cosine transforms learn too. In both the motion network learns at an eighth of
the rate.

Where this differs from what was published:

- One stage, so that the rate is one cosine over the whole, as published; but it rises first, over 2 % of the time, and
  ends at 0.3 % of its peak of 2·10⁻⁴, where the published one ends at 0.05 %.
- The optimiser is the loop's: convolutions of 16 channels and more follow orthogonalised momentum, everything else, and
  the motion network, Adam with the published (0.9, 0.99). The motion network and biases do not decay in ``vimeo``.
- The loop bounds the gradient's norm, and what is kept is a running average of the weights.
- Which clips are compressed, and that one draw holds for a whole clip: ``train.restoration_compressed``.
- The motion network starts at random, not from published weights, which are not for everybody's use; ``--from``
  starts from a file that has been converted. Keeping a random one for a while means that others begin without it.
- A batch is what one process draws: 1, in eight processes, as published.

Source: Z. Qiu et al., "Learning Spatiotemporal Frequency-Transformer for Compressed Video Super-Resolution", ECCV 2022.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from types import MappingProxyType

import torch
from torch import Tensor, nn

from ...errors import InputError
from ...train.restoration_clips import Clips, PackedClips
from ...train.restoration_compressed import Compressed, CompressedSampler, CompressionDraw, Reduction
from ...train.restoration_compressed_validate import CompressedValidation, Made, validate
from ...train.restoration_reds import RedsClips, find_reds, is_reds
from ...train.restoration_septuplets import Septuplets, is_septuplets
from .config import FTVSRConfig, describe
from .net import FTVSR

FINE_TUNING = 0.1
"""Share of the rate that weights which have learnt already can bear."""
MOTION_SHARE = 0.125
"""Of the rate, for the motion network."""
SMALLEST = 16
"""Side of a patch: one whole patch of the frequency transformer's attention, of the small picture."""
_DIFFERENCE = 1e-12
_WATCHED = 12


@dataclass(frozen=True, slots=True)
class Stage:
    """The whole of the training. share: of the time. batch: samples. patch: side of their input in pixels, a multiple
    of 16. frames: of a sample. rate: peak.

    alone: until that part of the time only the frequency transformer learns. still: until that part the motion network
    does not. drifts: whether the cosine transforms learn.
    """

    name: str
    frames: int
    reduction: Reduction
    alone: float = 0.0
    still: float = 0.0
    drifts: bool = False
    share: float = 1.0
    batch: int = 1
    patch: int = 64
    rate: float = 2e-4


@dataclass(frozen=True, slots=True)
class Setting:
    """A published recipe. decay: of weights, for the loop. keyframe_step: of a new network."""

    stage: Stage
    keyframe_step: int
    decay: float = 0.0


RECIPES = MappingProxyType(
    {
        "reds": Setting(Stage("reds", 40, "bicubic", alone=0.025, still=0.005), keyframe_step=3),
        "vimeo": Setting(Stage("vimeo", 28, "gaussian", still=0.0125, drifts=True), keyframe_step=1, decay=0.05),
    }
)


class FTVSRRecipe(nn.Module):
    """The network with its loss: ``forward(batch, stage)`` is one training step's loss."""

    family = "ftvsr"
    part = 0.0
    """How far the training has come, 0..1; set by the loop before each step."""

    def __init__(self, config: FTVSRConfig, stages: tuple[Stage, ...]):
        """Raises InputError for patches that the network does not cover."""
        super().__init__()
        for stage in stages:
            if stage.patch < SMALLEST or stage.patch % SMALLEST:
                raise InputError(f"patches of {stage.patch} pixels: use a multiple of {SMALLEST} (default 64)")
            if stage.frames < 2:
                raise InputError(f"samples of {stage.frames} frames: use 2 or more (40 in reds, 28 in vimeo)")
        self.config, self.stages = config, stages
        self.net = FTVSR(config)
        self.gentle = {layer: MOTION_SHARE for layer in self.net.spynet.modules() if isinstance(layer, nn.Conv2d)}

    def metadata(self) -> dict[str, str]:
        """What a weights file must say beside its shapes: how far key frames lie apart, and heads."""
        return describe(self.config)

    def learns(self, stage: Stage) -> list[nn.Module]:
        """The modules whose parameters a step changes now, at ``part`` of the time."""
        transforms = (self.net.FTT.dct, self.net.FTT.rdct)
        chosen = [each for each in self.net.FTT.children() if stage.drifts or each not in transforms]
        if self.part >= stage.alone:
            chosen += [each for each in self.net.children() if each not in (self.net.FTT, self.net.spynet)]
            if self.part >= stage.still:
                chosen.append(self.net.spynet)
        return chosen

    def material(self, folder: Path) -> str | None:
        """What the weights learnt from, where it is no packs."""
        if is_reds(folder):
            return f"clips {folder.name}, {len(find_reds(folder, spoilt=False))} of them, REDS4 left out"
        return f"septuplets {folder.name}, {len(Septuplets(folder).names)} of them" if is_septuplets(folder) else None

    def sampler(self, folder: Path, device: torch.device, seed: int) -> CompressedSampler:
        """folder: packs, clips laid out as those of REDS, or septuplets."""
        return CompressedSampler(_clips(folder, device), seed=seed)

    def draw(self, sampler: CompressedSampler, stage: Stage, grow: int = 1) -> Compressed:
        return sampler.draw(CompressionDraw(stage.batch * grow, stage.patch, stage.frames, stage.reduction))

    def validation(self, folder: Path, device: torch.device) -> CompressedValidation | None:
        try:
            clips = _clips(folder, device, held_out=True)
        except InputError:  # nothing is held out
            return None
        return CompressedValidation.of(clips, self.stages[0].reduction, _WATCHED)

    def validate(self, kept: CompressedValidation | None, stage: Stage) -> tuple[dict[str, float], list]:
        return validate(self.predict, kept)

    def forward(self, batch: Compressed, stage: Stage) -> tuple[Tensor, dict[str, Tensor]]:
        """-> loss, and its terms without gradients."""
        learning = {id(p) for module in self.learns(stage) for p in module.parameters()}
        for p in self.net.parameters():
            p.requires_grad_(id(p) in learning)
        made = self.net(batch.x.transpose(1, 2))
        loss = charbonnier(made, batch.y.transpose(1, 2))
        with torch.no_grad():
            error = (made.clamp(0, 1) - batch.y.transpose(1, 2)).square()
            terms = {"loss": loss.detach(), "psnr": -10 * error.mean((2, 3, 4)).clamp(min=1e-8).log10().mean()}
        return loss, terms

    @torch.no_grad()
    def predict(self, sample: Compressed) -> Made:
        """What the network makes of a batch of one, and its motion from the middle frame to the next."""
        frames = sample.x.unbind(2)
        made = torch.stack(tuple(self.net.restored(frames)), 2)
        middle = (len(frames) - 1) // 2
        flow = self.net.motion(frames[middle : middle + 2])[0]
        return Made(made, flow[0][0] if flow else torch.zeros_like(frames[0][0, :2]))


def charbonnier(made: Tensor, truth: Tensor) -> Tensor:
    """Mean absolute difference, rounded where it is 0."""
    return (made.float() - truth).square().add(_DIFFERENCE).sqrt().mean()


def recipe_for(name: str, config: FTVSRConfig, **changes: object) -> FTVSRRecipe:
    """A published recipe. changes: to its stage. Raises InputError for a name that is none."""
    if name not in RECIPES:
        raise InputError(f"no recipe named {name!r}: use {' or '.join(RECIPES)}")
    return FTVSRRecipe(config, (replace(RECIPES[name].stage, **changes),))


def _clips(folder: Path, device: torch.device, *, held_out: bool = False) -> Clips:
    """What is there of a kind. Raises InputError where there is nothing of what is asked for."""
    from ...train.data import Packs

    if is_septuplets(folder):
        return Septuplets(folder, device, held_out=held_out, limit=_WATCHED if held_out else None)
    if not is_reds(folder):
        return PackedClips(Packs(folder, device=device, held_out=held_out))
    clips = find_reds(folder, held_out=held_out, spoilt=False)
    if not clips:
        raise InputError("The folder has no clips to train on beside REDS4; add more of the set")
    return RedsClips(clips, device)
