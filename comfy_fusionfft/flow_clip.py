"""A whole clip's flow in memory, and a FlowSource that reads it back: what the FLOW of the nodes is."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from fractions import Fraction
from math import floor
from typing import Literal, NamedTuple

import torch
from torch import Tensor

from .contract import Flow, Position
from .engine import PairFlow
from .errors import InputError

_FINEST = 1_000_000
"""Denominators up to here survive the way through float64."""


class ClipFlow(NamedTuple):
    """Flow of a clip, and the instants it is for. Nothing but tensors in tuples, so that a host can count it.

    flow: P tensors ``(T_k, 4, H, W)``, float32 or float16, pixels: t→left x, y, t→right x, y.
    mask: P tensors ``(T_k, 1, H, W)``, logit of "take the left frame".
    timesteps: P float64 tensors ``(T_k,)``: instants as fractions of the pair's span, in (0, 1), ascending.
    pairs: int64 ``(P, 2)``: source frames left and right; neighbours, and wider pairs for nested anchors.
    instants: float64 ``(K,)``: the output's instants in source frames; whole numbers are source frames.
    """

    flow: tuple[Tensor, ...]
    mask: tuple[Tensor, ...]
    timesteps: tuple[Tensor, ...]
    pairs: Tensor
    instants: Tensor

    @property
    def nested(self) -> bool:
        """Whether it has pairs wider than neighbours."""
        return bool((self.pairs[:, 1] - self.pairs[:, 0] > 1).any())

    @property
    def frames(self) -> int:
        """Frames of the clip it is for."""
        return int((self.pairs[:, 1] - self.pairs[:, 0] == 1).sum()) + 1

    @property
    def bytes(self) -> int:
        return sum(t.numel() * t.element_size() for part in (self.flow, self.mask) for t in part)

    def positions(self) -> tuple[Position, ...]:
        """The instants, exact."""
        return tuple(exact(float(t)) for t in self.instants)


def collect(flows: Iterable[PairFlow], instants: Sequence[Position], keep: Callable[[Tensor], Tensor]) -> ClipFlow:
    """Gather streamed flow; ``keep`` moves each tensor to where, and to the precision in which, it shall stay."""
    parts = []
    for left, right, times, flow in flows:
        timesteps = torch.tensor([float(t) for t in times], dtype=torch.float64)
        parts.append((keep(flow.flow), keep(flow.mask), timesteps, (left, right)))
    flow, mask, timesteps, pairs = zip(*parts, strict=True) if parts else ((), (), (), ())
    places = torch.tensor([float(t) for t in instants], dtype=torch.float64)
    return ClipFlow(flow, mask, timesteps, torch.tensor(pairs, dtype=torch.int64).reshape(-1, 2), places)


def checked(value: object, frames: int | None = None, size: tuple[int, int] | None = None) -> ClipFlow:
    """``value`` as a ClipFlow of a clip of so many frames of ``(H, W)``; InputError when it is not one."""
    parts = tuple(value) if isinstance(value, (tuple, list)) else ()
    if len(parts) != len(ClipFlow._fields) or not all(
        isinstance(t, Tensor) and t.ndim == 4 and t.shape[1] == planes
        for group, planes in zip(parts[:2], (4, 1), strict=True)
        for t in (group if isinstance(group, (tuple, list)) else (None,))
    ):
        raise InputError(f"this FLOW is a {type(value).__name__} of another kind: connect the FLOW of RIFE Flow")
    clip = ClipFlow(*parts)
    if frames is not None and clip.frames != frames:
        raise InputError(
            f"the FLOW is of a clip of {clip.frames} frames, the images are {frames}: connect both to the same clip"
        )
    if size is not None and clip.flow and tuple(clip.flow[0].shape[-2:]) != tuple(size):
        height, width = clip.flow[0].shape[-2:]
        raise InputError(
            f"the FLOW is {width}×{height}, the images are {size[1]}×{size[0]}: make the flow from these images"
        )
    return clip


def left_shares(clip: ClipFlow) -> Iterator[Tensor]:
    """For every instant of the output how much of the left frame is taken, ``(H, W)`` in 0..1; 1 for source frames."""
    held = HeldFlow(clip)
    for position in clip.positions():
        index = floor(position)
        if position == index:
            yield torch.ones(())
        else:
            number = held.times(index, index + 1).index(position - index)
            yield held.stored(index, index + 1, torch.tensor([number])).mask[0, 0].float().sigmoid()


def exact(value: float) -> Fraction:
    """The fraction a float64 instant stands for."""
    return Fraction(value).limit_denominator(_FINEST)


class LookedUp:
    """contract.FlowSource over flow that was found before. What is not there cannot be had.

    Sub-classes name themselves and their instants, and hand out flow.
    """

    modulus = 1
    padding: Literal["replicate"] = "replicate"
    name: str

    def times(self, left: int, right: int) -> Sequence[Fraction]:
        """Instants of a pair, as fractions of its span; InputError when there is none of it."""
        raise NotImplementedError

    def stored(self, left: int, right: int, chosen: Tensor) -> Flow:
        """The flow of the instants with these numbers."""
        raise NotImplementedError

    def features(self, image: Tensor, position: Position | None = None) -> Position:
        if position is None:
            raise InputError("stored flow is looked up by a frame's place in its clip, which was not given")
        return position

    def flow(
        self, left: Tensor, right: Tensor, left_features: Position, right_features: Position, times: Tensor
    ) -> Flow:
        if left_features.denominator != 1 or right_features.denominator != 1:
            raise InputError("stored flow is between source frames alone: use the fusion or rife method")
        pair = (int(left_features), int(right_features))
        there = self.times(*pair)
        distance = (torch.tensor([float(t) for t in there])[None] - times.cpu()[:, None]).abs()
        if float(distance.amin(1).max()) > 1e-6:
            raise InputError(
                f"{self.name} has no flow for {[round(float(t), 4) for t in times]} between frames {pair[0]} and "
                f"{pair[1]}, only for {[str(t) for t in there]}: make it with the same --multi or --fps"
            )
        flow, mask = (part.to(left.device, torch.float32) for part in self.stored(*pair, distance.argmin(1)))
        if flow.shape[-2:] != left.shape[-2:]:
            raise InputError(
                f"{self.name} has flow of {flow.shape[-1]}×{flow.shape[-2]}, the clip is "
                f"{left.shape[-1]}×{left.shape[-2]}: it was made from another clip"
            )
        if not torch.isfinite(torch.stack((*flow.aminmax(), *mask.aminmax()))).all():
            raise InputError(
                f"{self.name} holds NaN or infinite values between frames {pair[0]} and {pair[1]}: make it again"
            )
        return Flow(flow, mask)


class HeldFlow(LookedUp):
    """contract.FlowSource over a ClipFlow."""

    name = "the FLOW"

    def __init__(self, clip: ClipFlow) -> None:
        self._clip = clip
        self._row = {(left, right): row for row, (left, right) in enumerate(clip.pairs.tolist())}
        self._times = {}

    def times(self, left: int, right: int) -> Sequence[Fraction]:
        if (left, right) not in self._row:
            if right - left > 1:
                raise InputError(
                    f"the FLOW has no pair of frames {left} and {right}: make it with anchor_flow nested and as many "
                    "anchors"
                )
            raise InputError(f"the FLOW has nothing between frames {left} and {right}: it was made from another clip")
        if (left, right) not in self._times:
            self._times[left, right] = [exact(t) for t in self._clip.timesteps[self._row[left, right]].tolist()]
        return self._times[left, right]

    def stored(self, left: int, right: int, chosen: Tensor) -> Flow:
        row = self._row[left, right]
        return Flow(*(part[row][chosen.to(part[row].device)] for part in (self._clip.flow, self._clip.mask)))
