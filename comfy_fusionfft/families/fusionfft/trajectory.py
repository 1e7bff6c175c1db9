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

from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ...ops.warp import backward_warp
from .anchors import Anchors
from .blocks import Residual, Upsample, activate, conv, zero
from .config import FusionConfig
from .inputs import FusionInput

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
    ends = torch.where(exists, anchors.motion[:, 1] + near.flip(1) - 2 * near, 0)
    mean = ends.sum(1) / exists.sum(1).clamp_min(1)
    power = mean.square().sum(1, keepdim=True)
    dispute = (ends[:, 0] - ends[:, 1]).square().sum(1, keepdim=True) / 4
    # Squared, because motion that stops suddenly half agrees: worst clip -0.4 instead of -1.5 dB at ×4.
    trust = (power / (power + dispute + TOLERANCE**2)).square()
    both = exists.all(1)
    return Bend(ends, mean, torch.where(both, trust, LONE_TRUST * power / (power + TOLERANCE**2)))


class TrajectoryRefinement(nn.Module):
    """Learnt part: looks at the near and the next frames, at half and quarter resolution.

    -> a correction ``(B, 4, H, W)`` of the near flow, added to the closed form; exactly the closed form
    at the start. With ``quadratic`` False it starts from, and is told of, straight motion.
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

    def forward(self, x: FusionInput, *, quadratic: bool = True) -> Tensor:
        """H and W must be multiples of 8."""
        bent = bend(x.anchors)
        offset = bent.offset(x.time) * float(quadratic)
        fine = activate(self.stem(self._planes(x, bent, offset).to(self.stem.weight.dtype)))
        deep = self.body(activate(self.down(fine)))
        merged = activate(self.merge(activate(fine + self.up(deep))))
        learnt = F.interpolate(self.correct(merged).float(), scale_factor=SHRINK, mode="bilinear")
        residual, trust = learnt.split((4, 1), dim=1)
        return residual + (offset + trust * bent.mean * (x.time * (1 - x.time))[:, None, None, None]).repeat(1, 2, 1, 1)

    def _planes(self, x: FusionInput, bent: Bend, offset: Tensor) -> Tensor:
        """-> ``(B, PLANES, H/4, W/4)``."""
        batch, anchors = x.valid.shape[:2]
        used = min(anchors, 2)
        frames = x.frames[:, :used, :, :3].expand(batch, -1, -1, -1, -1, -1).flatten(0, 2)
        frames = F.avg_pool2d(frames, 2)  # (B·used·2, 3, H/2, W/2)
        motion = F.avg_pool2d(x.motion[:, :used].flatten(0, 2), 2).unflatten(0, (batch, used, 2))
        bow = F.avg_pool2d(offset, 2)[:, None, None]
        bowed = (motion + bow).flatten(0, 2) / 2
        views = backward_warp(frames, bowed).unflatten(0, (batch, used, 2))
        straight = backward_warp(
            frames.unflatten(0, (batch, used, 2))[:, 0].flatten(0, 1), motion[:, 0].flatten(0, 1) / 2
        ).unflatten(0, (batch, 2))
        known = x.valid[:, :used, :, None, None, None]
        views = torch.where(known, views, 0)
        if used == 1:
            views = torch.cat((views, torch.zeros_like(views)), dim=1)
        dispute = torch.stack([(pair[:, 0] - pair[:, 1]).abs().mean(1) for pair in (views[:, 0], straight)], 1)
        picture = F.pixel_unshuffle(torch.cat((views.flatten(1, 3), dispute), dim=1), 2)  # (B, 14·4, H/4, W/4)

        def small(planes: Tensor) -> Tensor:
            return F.avg_pool2d(planes, SHRINK)

        height, width = picture.shape[-2:]
        far = x.valid[:, 1] if anchors > 1 else torch.zeros_like(x.valid[:, 0])
        flags = torch.cat((far, x.time[:, None], 1 - x.time[:, None]), dim=1).float()
        fields = (
            (small(bent.ends.flatten(1, 2)) / 8).tanh(),
            (small(x.motion[:, 0].flatten(1, 2)) / 32).tanh(),
            small(bent.trust),
            (small(x.mask) / 4).tanh(),
            flags[:, :, None, None].expand(-1, -1, height, width),
        )
        return torch.cat((picture, *fields), dim=1)
