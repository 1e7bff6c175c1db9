"""What a fusion network sees, built the same way when interpolating and when training.

Frames lie around the instant in nested pairs. Index k = 0 is the nearest anchor, side 0 its left frame,
side 1 its right one. Stored flows serve as well as fresh ones: give ``from_links`` the nearest pair's
flow for the instant and the links of the intervals around, or ``from_nested`` one flow for each anchor.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from ...contract import Flow
from .anchors import Anchors, chain


class FusionInput(NamedTuple):
    """B instants, each between the two nearest of 2N frames.

    frames: ``(B or 1, N, 2, C, H, W)`` 0..1, RGB, or premultiplied RGB and alpha. Not looked at where invalid.
    motion: ``(B, N, 2, 2, H, W)`` float32 pixels, from the instant to each frame, x before y.
    mask: ``(B, 1, H, W)`` float32, logit of "take the left one" of the nearest pair.
    valid: ``(B, N, 2)`` bool; both sides of the nearest anchor must be. To leave out an anchor, clear it here.
    time: ``(B,)`` float32 in (0, 1), the instant's place between the two nearest frames.
    """

    frames: Tensor
    motion: Tensor
    mask: Tensor
    valid: Tensor
    time: Tensor

    @property
    def anchors(self) -> Anchors:
        return Anchors(self.motion, self.valid)


def nest(frames: Tensor) -> Tensor:
    """``(B, 2N, ...)`` ascending in time -> ``(B, N, 2, ...)``, nearest pair first, left before right."""
    anchors = frames.shape[1] // 2
    return torch.stack((frames[:, :anchors].flip(1), frames[:, anchors:]), dim=2)


def from_links(frames: Tensor, valid: Tensor, near: Flow, back: Tensor, ahead: Tensor, time: Tensor) -> FusionInput:
    """From the nearest pair's motion and the motion between the frames further out.

    frames ``(B or 1, 2N, C, H, W)`` and valid ``(B, 2N)`` in order of time. near: B instants of the nearest pair.
    back, ahead ``(B or 1, N-1, 2, H, W)``: as for ``anchors.chain``, nearest interval first.
    """
    valid = nest(valid)
    motion = chain(near.flow, back, ahead, valid).motion
    return FusionInput(nest(frames), motion, near.mask.float(), valid, time)


def from_nested(frames: Tensor, valid: Tensor, flow: Tensor, mask: Tensor, time: Tensor) -> FusionInput:
    """From one flow ``(B, N, 4, H, W)`` for each anchor's own pair of frames; mask is the nearest one's."""
    motion = flow.float().unflatten(2, (2, 2))
    return FusionInput(nest(frames), motion, mask.float(), nest(valid), time)
