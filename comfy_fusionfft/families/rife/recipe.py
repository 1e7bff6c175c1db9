"""How RIFE's network learns: what is trained when, and the losses.

In: batches of ``img0, gt, img1, t, flow, trust`` (see ``train.data``). Out: a scalar to minimise, and its
terms for the log.

Stage ``coarse``: blocks 0 to 2 look at a frame shrunk by 16, 8 and 4. Quarter-size pictures shrunk by 4, 2
and 1 show them the same at a sixteenth of the cost, so that is what they get: the network runs at user
scale 4 on crops of quarter-size pictures, with no encodings, which would see another texture there.
Stage ``fine``: blocks 3 and 4 on pictures of full size, the coarse ones only followed, not trained.
Stage ``whole``: everything, encoder included.

Every block's flow is compared with the target; from the output side, the blend of the warped frames is
compared with the true frame. Flow and mask are cut from the graph between blocks: each block answers for
its own update, and no gradient has to cross a warp.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ...contract import Flow
from ...ops.warp import backward_warp
from .config import RIFEConfig
from .net import Encoder, IFNet, Pair, State, blend


@dataclass(frozen=True, slots=True)
class Stage:
    """One part of the training.

    share: of the whole time. trained: blocks that learn, a half-open range; those before it only run.
    scale: user scale of the network: 4 when pictures stand for a quarter of the frame.
    encoder: whether frames are encoded (else the blocks see zeros in place of encodings).
    crop, shrinks, batch, synthetic, motion: see ``train.data.Draw``.
    rate: peak of the learning rate. flow, picture: weights of the two losses.
    """

    name: str
    share: float
    trained: tuple[int, int]
    scale: float
    encoder: bool
    crop: int
    shrinks: tuple[float, ...]
    batch: int
    synthetic: float
    motion: float
    rate: float
    flow: float = 1.0
    picture: float = 1.0


STAGES = (
    Stage("coarse", 0.55, (0, 3), 4.0, False, 96, (1.0, 1.5, 2.0, 3.0), 32, 0.25, 32.0, 1e-3, picture=2.0),
    Stage("fine", 0.3, (3, 5), 1.0, True, 192, (1.0, 1.5), 8, 0.125, 16.0, 6e-4, picture=20.0),
    Stage("whole", 0.15, (0, 5), 1.0, True, 256, (1.0, 1.25), 8, 0.125, 32.0, 2e-4, picture=20.0),
)


class RIFERecipe(nn.Module):
    """The network with its losses: ``forward(batch, stage)`` is one training step's loss."""

    family = "rife"

    def __init__(self, config: RIFEConfig | None = None, stages: tuple[Stage, ...] = STAGES):
        super().__init__()
        self.config = config or RIFEConfig(version="fusionfft-0")
        self.stages = stages
        self.net = IFNet(self.config)

    def learns(self, stage: Stage) -> list[nn.Module]:
        """The modules whose parameters a stage changes."""
        return [*self.net.blocks[slice(*stage.trained)], *([self.net.encode] if stage.encoder else [])]

    def forward(self, batch, stage: Stage) -> tuple[Tensor, dict[str, Tensor]]:
        """-> loss, and its terms without gradients."""
        levels, trained = self._levels(batch, stage)
        flow_terms, picture_terms = [], []
        for number, (state, warped) in enumerate(zip(levels, trained, strict=True)):
            last = number == len(levels) - 1
            flow_terms.append(flow_loss(state.flow, batch.flow, batch.trust))
            if warped is None:
                warped = _warp(Pair(batch.img0, batch.img1), state.flow)
            made = torch.lerp(warped.right[:, :3], warped.left[:, :3], state.mask.sigmoid())
            picture_terms.append(picture_loss(made, batch.gt) * (1.0 if last else 0.3))
        flow, picture = torch.stack(flow_terms).mean(), torch.stack(picture_terms).sum()
        loss = stage.flow * flow + stage.picture * picture
        with torch.no_grad():
            trusted = batch.trust.sum().clamp(min=1)
            miss, motion = (
                ((f.unflatten(1, (2, 2)).square().sum(2).sqrt() * batch.trust).sum() / trusted)
                for f in (levels[-1].flow - batch.flow, batch.flow)
            )
            terms = {
                "loss": loss.detach(),
                "flow": flow.detach(),
                "picture": picture.detach(),
                "motion_px": motion,
                "miss_px": miss,
                "psnr": -10 * (made - batch.gt).square().mean((1, 2, 3)).clamp(min=1e-8).log10().mean(),
            }
        return loss, terms

    @torch.no_grad()
    def predict(self, img0: Tensor, img1: Tensor, t: Tensor, stage: Stage) -> tuple[Tensor, Flow]:
        """The frame at ``t`` and the flow behind it, as far as ``stage`` has trained the chain.

        img0, img1: ``(B, 3, H, W)`` at full size, any size. A stage on quarter-size pictures is run on
        quarter-size pictures, and its flow enlarged.
        """
        height, width = img0.shape[-2:]
        modulus = self.config.modulus
        pad = (0, -width % modulus, 0, -height % modulus)
        left, right = (F.pad(image, pad, mode="replicate") for image in (img0, img1))
        small = [F.avg_pool2d(image, int(stage.scale)) for image in (left, right)]
        *_, (state, _) = self._chain(Pair(*small), t.view(-1, 1, 1, 1), stage)
        flow = F.interpolate(state.flow, left.shape[-2:], mode="bilinear") * stage.scale
        mask = F.interpolate(state.mask, left.shape[-2:], mode="bilinear")
        flow = Flow(flow[..., :height, :width], mask[..., :height, :width])
        return blend(img0, img1, flow), flow

    def _levels(self, batch, stage: Stage) -> tuple[list[State], list[Pair | None]]:
        """States of the trained blocks; frames warped by each, where the next block needed them anyway."""
        images = Pair(batch.img0, batch.img1)
        states, warps = zip(*self._chain(images, batch.t.view(-1, 1, 1, 1), stage), strict=True)
        first = stage.trained[0]
        return list(states[first:]), list(warps[first:])

    def _chain(self, images: Pair, times: Tensor, stage: Stage):
        """-> (state after block i, frames warped by it or None) for the blocks up to the last trained one."""
        first, end = stage.trained
        with torch.set_grad_enabled(torch.is_grad_enabled() and stage.encoder):
            pair = Pair(*(self._encoded(image, stage.encoder) for image in images))
        state = warped = None
        for index in range(end):
            with torch.set_grad_enabled(torch.is_grad_enabled() and index >= first):
                s = self.config.scales[index] / stage.scale
                block = self.net.blocks[index]
                if state is None:
                    state = block(pair, times, None, s)
                else:
                    cut = State(state.flow.detach(), state.mask.detach(), state.carried)
                    update = block(warped, times, cut, s)
                    mask = cut.mask + update.mask if self.config.accumulates_mask else update.mask
                    state = State(cut.flow + update.flow, mask, update.carried)
                # The loss on the last block's blend must reach the flow, so the caller warps anew there.
                warped = _warp(pair, state.flow.detach()) if index + 1 < end else None
            yield state, warped

    def _encoded(self, image: Tensor, encode: bool) -> Tensor:
        if not isinstance(self.net.encode, Encoder):
            return image
        blank = image.new_zeros(1, 1, 1, 1).expand(len(image), self.config.head_planes, *image.shape[-2:])
        return torch.cat([image, self.net.encode(image).float() if encode else blank], dim=1)


def flow_loss(flow: Tensor, target: Tensor, trust: Tensor) -> Tensor:
    """Robust distance between ``(B, 4, H, W)`` flows, pixels; ``trust`` ``(B, 2, H, W)`` weighs each side.

    A pixel's miss counts relative to its motion: a miss of one pixel where nothing moves hurts the picture
    as much as one of several where all is blurred anyway, and slow pixels would drown otherwise.
    """
    miss = (flow - target).unflatten(1, (2, 2)).square().sum(2)
    length = target.unflatten(1, (2, 2)).square().sum(2).sqrt()
    weight = (trust + 0.02) / (1 + 0.15 * length)
    known = (trust.flatten(1).sum(1) > 0).view(-1, 1, 1, 1)
    return (known * weight * ((miss + 0.01).sqrt() - 0.1)).mean()


def picture_loss(made: Tensor, truth: Tensor, octaves: int = 3) -> Tensor:
    """Charbonnier distance of ``(B, 3, H, W)`` pictures, at full size and at halves of it."""
    total = made.new_zeros(())
    difference = made - truth
    for octave in range(octaves):
        if octave:
            difference = F.avg_pool2d(difference, 2)
        total = total + (difference.square() + 1e-6).sqrt().mean()
    return total / octaves


def _warp(pair: Pair, flow: Tensor) -> Pair:
    return Pair(backward_warp(pair.left, flow[:, :2]), backward_warp(pair.right, flow[:, 2:]))
