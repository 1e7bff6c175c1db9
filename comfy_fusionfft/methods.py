"""What is done with flow: the plain mask blend, and recursive peeling with a memory of wider pairs.

Where flow comes from (``--flow``) and what is done with it (``--method``) are independent: every model
here takes any contract.FlowSource. Alpha rides along: flow is found on the colour channels alone and
applied to all.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from .contract import Flow, FlowSource, Position, Reach, Window
from .ops.warp import blend

HISTORY = 3
"""Enclosing pairs the recursive method looks at; a fourth would weigh 0.0006."""
DECAY = 2.5
"""Weight of a pair that is one level wider: exp(-2.5) = 0.082."""


@dataclass(frozen=True, slots=True)
class Blend:
    """The plain answer of a flow source: both neighbours warped to the instant, mixed by the mask."""

    source: FlowSource
    reach: Reach = Reach()

    @property
    def modulus(self) -> int:
        return self.source.modulus

    @property
    def padding(self) -> str:
        return self.source.padding

    def __call__(self, window: Window) -> Tensor:
        left = max(i for i, position in enumerate(window.positions) if position < window.times[0])
        motion = _flow(self.source, window, left, left + 1, window.times)
        return blend(window.images[left], window.images[left + 1], motion)


@dataclass(frozen=True, slots=True)
class RecursiveBlend:
    """Outside-in peeling: the outermost instants first, each next pair from the two made before it.

    With ``history`` > 1, the flow of an instant is the mean of the flows found from the last enclosing
    pairs, newest first, weighted exp(-decay·age). A wider pair's flow is brought to the current ends by
    linear motion: flow to the current left end = flow to the wider left end · (t - left)/(t - wider left).
    Mask logits are averaged with the same weights. ``history`` = 1 peels with the current pair alone.
    """

    source: FlowSource
    history: int = HISTORY
    decay: float = DECAY

    @property
    def reach(self) -> Reach:
        return Reach(peel=self.history)

    @property
    def modulus(self) -> int:
        return self.source.modulus

    @property
    def padding(self) -> str:
        return self.source.padding

    def __call__(self, window: Window) -> Tensor:
        levels = len(window.positions) // 2
        near = levels - 1
        left, right = window.positions[near], window.positions[-levels]
        times = window.times
        total = sum(math.exp(-self.decay * age) for age in range(levels))
        flow = mask = torch.zeros((), device=window.images[near].device)
        for age in range(levels):
            level = near - age
            motion = _flow(self.source, window, level, len(window.positions) - 1 - level, times)
            wide_left, wide_right = window.positions[level], window.positions[-1 - level]
            shorten = [
                [float((t - left) / (t - wide_left))] * 2 + [float((right - t) / (wide_right - t))] * 2 for t in times
            ]
            weight = math.exp(-self.decay * age) / total
            flow = flow + weight * motion.flow * motion.flow.new_tensor(shorten)[:, :, None, None]
            mask = mask + weight * motion.mask
        return blend(window.images[near], window.images[-levels], Flow(flow, mask))


def _flow(source: FlowSource, window: Window, left: int, right: int, times: tuple[Position, ...]) -> Flow:
    start, end = window.positions[left], window.positions[right]
    images = [window.images[i][:, :3].clamp(0, 1) for i in (left, right)]
    features: list[Any] = [
        window.once("features", (position,), lambda image=image, position=position: source.features(image, position))
        for position, image in zip((start, end), images, strict=True)
    ]
    local = torch.tensor([float((t - start) / (end - start)) for t in times], device=images[0].device)
    return source.flow(images[0], images[1], features[0], features[1], local)
