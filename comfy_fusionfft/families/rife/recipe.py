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
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ...contract import Flow
from ...ops.warp import backward_warp, blend
from .config import RIFEConfig, describe
from .net import Block, Encoder, IFNet, Pair


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
    Stage("coarse", 0.55, (0, 3), 4.0, False, 96, (1.0, 1.5, 2.0, 3.0), 32, 0.25, 20.0, 1.5e-3, picture=2.0),
    Stage("fine", 0.3, (3, 5), 1.0, True, 192, (1.0, 1.5), 8, 0.125, 16.0, 8e-4, picture=20.0),
    Stage("whole", 0.15, (0, 5), 1.0, True, 256, (1.0, 1.25), 8, 0.125, 32.0, 3e-4, picture=20.0),
)


@torch.no_grad()
def start_with_derivatives(block: Block, encodings: int) -> None:
    """Begin a block with what motion is made of: derivatives of the frames in space and in time.

    Under the usual start every filter sees the brightness both frames share, a hundred times what
    distinguishes them, and the network stays at "nothing moves" for thousands of steps. Here filters on the
    frames have no mean; one half takes the difference of the frames, amplified, the other their sum.
    The first ``encodings`` planes after the frames begin without weight, for blocks that at first do without.
    """
    first, second = block.conv0[0][0], block.conv0[1][0]
    for conv in (first, second, *(layer.conv for layer in block.convblock if hasattr(layer, "conv"))):
        nn.init.kaiming_normal_(conv.weight, a=0.2)
        nn.init.zeros_(conv.bias)
    for layer in block.convblock:
        if hasattr(layer, "conv"):
            layer.conv.weight.mul_(0.3)  # eight of them add up
    left = first.weight[:, :3]
    left -= left.mean((2, 3), keepdim=True)
    half = len(left) // 2
    left[:half] *= 6
    left[half:] *= 2
    first.weight[:, :3], first.weight[:, 3:6] = left, torch.cat([-left[:half], left[half:]])
    first.weight[:, 6 : 6 + encodings] = 0


class Level(NamedTuple):
    """What a block leaves behind. Small planes have its own grid, ``(B, ·, H/s, W/s)``, and gradients."""

    flow: Tensor  # small (B, 4, H/s, W/s): all motion so far, pixels of the full grid
    mask: Tensor  # small (B, 1, H/s, W/s)
    carried: Tensor | None  # small (B, carried_planes, H/s, W/s)
    whole: Tensor  # (B, 4, H, W): the flow again, cut from the graph
    warped: Pair | None  # the frames, and encodings if there are, warped by ``whole``; None after the last block


class RIFERecipe(nn.Module):
    """The network with its losses: ``forward(batch, stage)`` is one training step's loss."""

    family = "rife"

    def __init__(self, config: RIFEConfig | None = None, stages: tuple[Stage, ...] = STAGES):
        super().__init__()
        self.config = config or RIFEConfig(version="fusionfft-0")
        self.stages = stages
        self.net = IFNet(self.config)
        deaf = {index for stage in stages if not stage.encoder for index in range(*stage.trained)}
        for index, block in enumerate(self.net.blocks):
            start_with_derivatives(block, 2 * self.config.head_planes if index in deaf else 0)

    def metadata(self) -> dict[str, str]:
        """What a weights file must say beside its shapes."""
        return describe(self.config)

    def learns(self, stage: Stage) -> list[nn.Module]:
        """The modules whose parameters a stage changes."""
        return [*self.net.blocks[slice(*stage.trained)], *([self.net.encode] if stage.encoder else [])]

    def forward(self, batch, stage: Stage) -> tuple[Tensor, dict[str, Tensor]]:
        """-> loss, and its terms without gradients."""
        *before, last = self.levels(batch.img0, batch.img1, batch.t, stage)[stage.trained[0] :]
        flow = [flow_loss(level.flow, *_at(level, batch.flow, batch.trust)) for level in (*before, last)]
        # Before the last block only the mask answers for the picture, the flow has its own loss.
        picture = [
            0.3 * picture_loss(_mix(Pair(*_at(level, *(w[:, :3] for w in level.warped))), level.mask), small)
            for level in before
            for small in _at(level, batch.gt)
        ]
        flow_here, mask = (_resize(planes, batch.gt.shape[-2:]) for planes in (last.flow, last.mask))
        made = _mix(_warp(Pair(batch.img0, batch.img1), flow_here), mask)
        picture.append(picture_loss(made, batch.gt))
        flow, picture = torch.stack(flow).mean(), torch.stack(picture).sum()
        loss = stage.flow * flow + stage.picture * picture
        with torch.no_grad():
            motion, miss = (_mean_length(f, batch.trust) for f in (batch.flow, last.whole - batch.flow))
            error = (made - batch.gt).square().mean((1, 2, 3))
        psnr = -10 * error.clamp(min=1e-8).log10().mean()
        terms = {"loss": loss, "flow": flow, "picture": picture, "motion_px": motion, "miss_px": miss, "psnr": psnr}
        return loss, {name: term.detach() for name, term in terms.items()}

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
        small = (F.avg_pool2d(image, int(stage.scale)) for image in (left, right))
        last = self.levels(*small, t, stage)[-1]
        flow, mask = (_resize(planes, left.shape[-2:]) for planes in (last.whole * stage.scale, last.mask))
        flow = Flow(flow[..., :height, :width], mask[..., :height, :width])
        return blend(img0, img1, flow), flow

    def levels(self, img0: Tensor, img1: Tensor, t: Tensor, stage: Stage) -> list[Level]:
        """The chain as the network runs it, up to the last block that ``stage`` trains."""
        first, end = stage.trained
        learning = torch.is_grad_enabled()
        pair = Pair(img0, img1)
        if stage.encoder and isinstance(self.net.encode, Encoder):
            pair = Pair(*(torch.cat([image, self.net.encode(image).float()], dim=1) for image in pair))
        levels: list[Level] = []
        for index in range(end):
            with torch.set_grad_enabled(learning and index >= first):
                s = self.config.scales[index] / stage.scale
                before = levels[-1] if levels else None
                levels.append(self._level(index, pair, t.view(-1, 1, 1, 1), before, s, index + 1 == end))
        return levels

    def _level(self, index: int, pair: Pair, times: Tensor, before: Level | None, s: float, last: bool) -> Level:
        """One block, without enlarging what it puts out more than needed.

        Planes handed on go straight from one grid to the next: enlarging them to the full one in between,
        as inference does, comes to the same, at many times the memory traffic.
        """
        block, size = self.net.blocks[index], pair.left.shape[-2:]
        grid = [int(side / s) for side in size]
        left, right = (_resize(planes, grid) for planes in (before.warped if before else pair))
        blank = left.new_zeros(len(left), self.config.head_planes if left.shape[1] == 3 else 0, *grid)
        pieces = [left[:, :3], right[:, :3], left[:, 3:], blank, right[:, 3:], blank, times.expand(-1, 1, *grid)]
        if before is not None:
            handed = [before.mask.detach(), *([] if before.carried is None else [before.carried])]
            start = _resize(before.whole, grid)
            pieces += [*(_resize(planes, grid) for planes in handed), start / s]
        stack = torch.cat(pieces, dim=1).to(memory_format=torch.channels_last)
        y = block.lastconv(block.convblock(block.conv0(stack)))
        y = y.float()
        # Without the shuffle, a block's output has half the resolution of its input.
        grow = s * grid[0] / y.shape[-2]
        flow, mask, carried = y[:, :4] * grow, y[:, 4:5], y[:, 5 : 5 + block.carried_planes]
        with torch.no_grad():
            whole = _resize(flow, size) if before is None else before.whole + _resize(flow, size)
        if before is not None:
            flow = flow + _resize(start, y.shape[-2:])
            mask = mask + _resize(before.mask.detach(), y.shape[-2:]) if self.config.accumulates_mask else mask
        warped = None if last else _warp(pair, whole)
        return Level(flow, mask, carried if block.carried_planes else None, whole, warped)


def _at(level: Level, *planes: Tensor) -> list[Tensor]:
    """Full planes averaged over the cells of a level's grid."""
    cell = planes[0].shape[-1] // level.flow.shape[-1]
    return [F.avg_pool2d(p, cell) if cell > 1 else p for p in planes]


def _mix(pair: Pair, mask: Tensor) -> Tensor:
    return torch.lerp(pair.right, pair.left, mask.sigmoid())


def _mean_length(flow: Tensor, trust: Tensor) -> Tensor:
    length = flow.unflatten(1, (2, 2)).square().sum(2).sqrt()
    return (length * trust).sum() / trust.sum().clamp(min=1)


def flow_loss(flow: Tensor, target: Tensor, trust: Tensor) -> Tensor:
    """Robust distance between ``(B, 4, H, W)`` flows, pixels; ``trust`` ``(B, 2, H, W)`` weighs each side.

    A pixel's miss counts relative to its motion: a miss of one pixel where nothing moves hurts the picture
    as much as one of several where all is blurred anyway, and slow pixels would drown otherwise.
    """
    miss = (flow - target).unflatten(1, (2, 2)).square().sum(2)
    length = target.unflatten(1, (2, 2)).square().sum(2).sqrt()
    weight = (trust + 0.02) / (0.5 + 0.2 * length)
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


def _resize(planes: Tensor, size) -> Tensor:
    if planes.shape[-2:] == tuple(size):
        return planes
    return F.interpolate(planes, size=tuple(size), mode="bilinear", align_corners=False)
