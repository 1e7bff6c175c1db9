"""What a fusion network sees, built the same way when interpolating and when training.

Frames lie around the instant in nested pairs. Index k = 0 is the nearest anchor, side 0 its left frame,
side 1 its right one. Stored flows serve as well as fresh ones: give ``from_links`` the nearest pair's
flow for the instant and the links of the intervals around, or ``from_nested`` one flow for each anchor.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import torch.nn.functional as F
from torch import Tensor

from ...contract import Flow
from .anchors import Anchors, Hops, chain


class FusionInput(NamedTuple):
    """B instants, each between the two nearest of 2N frames.

    frames: ``(B or 1, N, 2, C, H, W)`` 0..1, RGB, or premultiplied RGB and alpha; or, which saves copying them, the 2N
        pictures ``(B or 1, C, H, W)`` one after the other. Not looked at where invalid.
    motion: ``(B, N, 2, 2, H, W)`` float32 pixels, from the instant to each frame, x before y.
    mask: ``(B, 1, H, W)`` float32, logit of "take the left one" of the nearest pair.
    valid: ``(B, N, 2)`` bool; both sides of the nearest anchor must be. To leave out an anchor, clear it here.
    time: ``(B,)`` float32 in (0, 1), the instant's place between the two nearest frames.
    """

    frames: Tensor | Sequence[Tensor]
    motion: Tensor
    mask: Tensor
    valid: Tensor
    time: Tensor

    @property
    def anchors(self) -> Anchors:
        return Anchors(self.motion, self.valid)

    @property
    def pictures(self) -> Sequence[Tensor]:
        """The 2N frames, each ``(B or 1, C, H, W)``."""
        return self.frames.flatten(1, 2).unbind(1) if isinstance(self.frames, Tensor) else self.frames

    def nearest(self, anchors: int) -> FusionInput:
        """The same without the farther anchors."""
        frames = self.frames[:, :anchors] if isinstance(self.frames, Tensor) else self.frames[: 2 * anchors]
        return self._replace(frames=frames, motion=self.motion[:, :anchors], valid=self.valid[:, :anchors])


def cut(x: FusionInput, rows: slice, size: tuple[int, int]) -> FusionInput:
    """Motion and mask in these rows, as if the picture went on to ``size (H, W)`` at the bottom and at the right.

    Frames stay whole: motion points anywhere. Invalid motion is blanked, so that not even NaN leaks from it.
    """
    height, width = x.mask.shape[-2:]
    missing = (0, size[1] - width, 0, max(rows.stop - height, 0))

    def part(t: Tensor) -> Tensor:
        t = t[..., rows, :].float()
        if not any(missing):
            return t
        return F.pad(t.flatten(0, -4), missing, mode="replicate").unflatten(0, t.shape[:-3])

    return x._replace(motion=blanked(part(x.motion), x.valid[..., None, None, None]), mask=part(x.mask))


def blanked(t: Tensor, valid: Tensor) -> Tensor:
    """``t``, 0 where it is not valid."""
    if valid.device.type == "cpu" and valid.all():  # other devices would have to be waited for
        return t
    return t.masked_fill(~valid, 0)


def nest(frames: Tensor) -> Tensor:
    """``(B, 2N, ...)`` ascending in time -> ``(B, N, 2, ...)``, nearest pair first, left before right."""
    return frames[:, _nested(frames.shape[1])].unflatten(1, (-1, 2))


def from_links(
    frames: Tensor | Sequence[Tensor], valid: Tensor, near: Flow, back: Hops, ahead: Hops, time: Tensor
) -> FusionInput:
    """From the nearest pair's motion and the motion between the frames further out.

    frames ``(B or 1, 2N, C, H, W)``, or a list of 2N pictures, and valid ``(B, 2N)`` in order of time. near: B instants
    of the nearest pair. back, ahead: as for ``anchors.chain``, nearest interval first.
    """
    valid = nest(valid)
    motion = chain(near.flow, back, ahead, valid).motion
    return FusionInput(_nest_frames(frames), motion, near.mask.float(), valid, time)


def from_nested(
    frames: Tensor | Sequence[Tensor], valid: Tensor, flow: Tensor, mask: Tensor, time: Tensor
) -> FusionInput:
    """From one flow ``(B, N, 4, H, W)`` for each anchor's own pair of frames; mask is the nearest one's."""
    motion = flow.float().unflatten(2, (2, 2))
    return FusionInput(_nest_frames(frames), motion, mask.float(), nest(valid), time)


def _nest_frames(frames: Tensor | Sequence[Tensor]) -> Tensor | Sequence[Tensor]:
    return nest(frames) if isinstance(frames, Tensor) else [frames[i] for i in _nested(len(frames))]


def _nested(count: int) -> list[int]:
    middle = count // 2
    return [place for k in range(middle) for place in (middle - 1 - k, middle + k)]
