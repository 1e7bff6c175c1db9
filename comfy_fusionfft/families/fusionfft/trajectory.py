"""Motion that bends: the nearest pair's flow corrected by what the farther frames say.

A flow source sees two frames and can but assume that points move between them in a straight line at
constant speed. With the displacements D of a point to the frames i-1, i, i+1, i+2 its acceleration
(pixels per frame interval squared) shows at both ends of the interval:

    a_i   = D(i-1) + D(i+1) - 2 D(i)          a_i+1 = D(i) + D(i+2) - 2 D(i+1)

and a point with acceleration a is off the straight line by a·t(1-t)/2 at the instant t, towards either
frame alike. That is the closed quadratic form; it needs no learning. Where the two ends contradict each
other motion was found wrongly, by them or by the link between them, and the correction fades.

``TrajectoryRefinement`` then looks at the pictures and adds what it has learnt.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ...ops.grid import pixel_places
from ...ops.warp import look_up
from .anchors import Anchors
from .blocks import Residual, Upsample, activate, conv, zero
from .config import FusionConfig
from .inputs import FusionInput, blanked
from .rearrange import halved, unshuffle

TOLERANCE = 0.1
"""Pixels per interval squared; accelerations well below it are noise of the flow."""
LONE_TRUST = 0.5
"""Share of the correction that is believed when only one side has a neighbour."""
SHRINK = 4


class Bend(NamedTuple):
    """The closed quadratic form at every point of the instant.

    ends: ``(B, 2, 2, H, W)`` acceleration seen from frames i and i+1, zero where unknown.
    mean: ``(B, 2, H, W)`` their mean where both exist, else the one that does.
    trust: ``(B, 1, H, W)`` 0..1, how far the two agree.
    """

    ends: Tensor
    mean: Tensor
    trust: Tensor

    def offset(self, time: Tensor) -> Tensor:
        """What both flows of the nearest pair gain at ``time (B,)``: ``(B, 2, H, W)`` pixels."""
        return self.mean * self.trust * (0.5 * time * (1 - time))[:, None, None, None]


def bend(anchors: Anchors) -> Bend:
    """Acceleration from the two nearest anchors; zero without a second one."""
    near = anchors.motion[:, 0]  # (B, 2 sides, 2, H, W)
    if anchors.motion.shape[1] < 2:
        return Bend(torch.zeros_like(near), torch.zeros_like(near[:, 0]), torch.zeros_like(near[:, 0, :1]))
    exists = anchors.valid[:, 1, :, None, None, None]
    ends = torch.add(anchors.motion[:, 1] + near.flip(1), near, alpha=-2)
    ends = blanked(ends, exists)
    left, right = ends.unbind(1)
    mean = (left + right) / exists.sum(1).clamp_min(1)
    power = mean.square().sum(1, keepdim=True)
    dispute = (left - right).square().sum(1, keepdim=True) / 4
    # Squared, because motion that stops suddenly half agrees: worst clip -0.4 instead of -1.5 dB at ×4.
    trust = (power / (power + dispute + TOLERANCE**2)).square()
    lone = LONE_TRUST * power / (power + TOLERANCE**2)
    return Bend(ends, mean, torch.where(exists.all(1), trust, lone))


class Strip(NamedTuple):
    """Rows of an input from ``top`` on, and how its motion bends there. Frames are whole."""

    x: FusionInput
    bent: Bend
    top: int


class TrajectoryRefinement(nn.Module):
    """Learnt part: looks at the near and the next frames, at half and quarter resolution.

    -> ``(B, 5, H/4, W/4)`` float32: what ``correct`` adds to the near flow, and how much more it bends; nothing at the
    start. With ``quadratic`` False it starts from, and is told of, straight motion.
    """

    PLANES = 4 * 12 + 2 * 4 + 4 + 4 + 2 + 1 + 1 + 2

    def __init__(self, config: FusionConfig) -> None:
        super().__init__()
        quarter, width = config.widths[0], config.base_channels
        self.stem = conv(self.PLANES, quarter)
        self.down = conv(quarter, width, stride=2)
        self.body = nn.Sequential(Residual(width), Residual(width))
        self.up = Upsample(width, quarter)
        self.merge = conv(quarter, quarter)
        self.correct = zero(conv(quarter, 5))

    def forward(self, strips: Sequence[Strip], *, quadratic: bool = True) -> Tensor:
        """strips: of the whole picture, H and W multiples of 8."""
        frames = [_small(picture) for picture in strips[0].x.nearest(2).pictures]
        seen = [self._planes(strip, frames, quadratic).to(self.stem.weight.dtype) for strip in strips]
        fine = activate(self.stem(joined(seen)))
        deep = self.body(activate(self.down(fine)))
        merged = activate(self.merge(activate(fine + self.up(deep))))
        return self.correct(merged).float().contiguous()

    def _planes(self, strip: Strip, frames: Sequence[Tensor], quadratic: bool) -> Tensor:
        """Rows of the input and the frames at half their size -> ``(B, PLANES, rows/4, W/4)``."""
        x, bent = strip.x.nearest(2), strip.bent
        anchors = x.valid.shape[1]
        motion = halved(x.motion)  # (B, 1 or 2, 2, 2, rows/2, W/2), in pixels of the whole size
        bow = halved(bent.offset(x.time) * float(quadratic))
        at_x, at_y = pixel_places(motion)
        at_y = at_y + strip.top // 2
        ways = motion.flatten(1, 2).unbind(1)
        there = x.valid.flatten(1).unbind(1)
        views = [
            blanked(look_up(frame, (way + bow) / 2, at_x, at_y), valid[:, None, None, None])
            for frame, way, valid in zip(frames, ways, there, strict=True)
        ]
        straight = [look_up(frame, way / 2, at_x, at_y) for frame, way in zip(frames[:2], ways[:2], strict=True)]
        absent = [torch.zeros_like(view) for view in views[:2]] if anchors == 1 else []
        dispute = [(left - right).abs().mean(1, keepdim=True) for left, right in (views[:2], straight)]
        picture = unshuffle(torch.cat((*views, *absent, *dispute), dim=1))  # (B, 14·4, rows/4, W/4)

        small = halved(motion)
        ends = bend(Anchors(small, x.valid)).ends  # linear, and so the mean of the ends
        far = x.valid[:, 1] if anchors > 1 else torch.zeros_like(x.valid[:, 0])
        flags = torch.cat((far, x.time[:, None], 1 - x.time[:, None]), dim=1).float()
        fields = (
            (ends.flatten(1, 2) / 8).tanh(),
            (small[:, 0].flatten(1, 2) / 32).tanh(),
            halved(halved(bent.trust)),
            (halved(halved(x.mask)) / 4).tanh(),
            flags[:, :, None, None].expand(-1, -1, *picture.shape[-2:]),
        )
        return torch.cat((picture, *fields), dim=1)


def correct(strip: Strip, learnt: Tensor, *, quadratic: bool = True) -> FusionInput:
    """Rows of an input with the near flow corrected, and with it all that hangs on it."""
    x, bent = strip.x, strip.bent
    first, last = strip.top // SHRINK, (strip.top + x.mask.shape[-2]) // SHRINK
    above, below = min(first, 1), min(learnt.shape[-2] - last, 1)
    fine = F.interpolate(learnt[..., first - above : last + below, :], scale_factor=SHRINK, mode="bilinear")
    residual, trust = fine[..., SHRINK * above : fine.shape[-2] - SHRINK * below, :].split((4, 1), dim=1)
    along = trust * bent.mean * (x.time * (1 - x.time))[:, None, None, None]
    if quadratic:
        along = along + bent.offset(x.time)
    return x._replace(motion=x.motion + (residual.unflatten(1, (2, 2)) + along[:, None])[:, None])


def _small(picture: Tensor) -> Tensor:
    """A frame's colours at half their size."""
    picture = picture[:, :3].float()
    odd = [side % 2 for side in picture.shape[-2:]]
    return halved(F.pad(picture, (0, odd[1], 0, odd[0]), mode="replicate") if any(odd) else picture)


def joined(parts: list[Tensor]) -> Tensor:
    """Strips of rows, one below the other."""
    return parts[0] if len(parts) == 1 else torch.cat(parts, dim=-2)
