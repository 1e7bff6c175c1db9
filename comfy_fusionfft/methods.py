"""What is done with flow: the plain mask blend, warping alone, and recursive peeling with a memory of wider pairs.

Where flow comes from (``--flow``) and what is done with it (``--method``) are independent: every model
here takes any contract.FlowSource. Alpha rides along: flow is found on the colour channels alone and
applied to all.

With ``explain`` an answer has two planes more, occlusion and confidence (``ops.confidence``); the picture is the same.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from .contract import Flow, FlowSource, Position, Reach, Window
from .ops.between import flow_between
from .ops.bicubic import bicubic_warp
from .ops.confidence import explained
from .ops.limits import limited, limits
from .ops.memory import numbers
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
    explain: bool = False

    def __call__(self, window: Window) -> Tensor:
        left = max(i for i, position in enumerate(window.positions) if position < window.times[0])
        motion = flow_between(self.source, window, left, left + 1, window.times)
        made = blend(window.images[left], window.images[left + 1], motion)
        return explained(made, window, (left, left + 1), motion) if self.explain else made


WarpSide = Literal["blend", "left", "right", "near"]
"""Both neighbours mixed by the mask; one of them alone; or the one nearer in time (the left one of equals)."""


@dataclass(frozen=True, slots=True)
class Warp:
    """The neighbours moved to the instant with sharp (bicubic) sampling, and nothing else."""

    source: FlowSource
    side: WarpSide = "blend"
    reach: Reach = Reach()

    def __call__(self, window: Window) -> Tensor:
        left = max(i for i, position in enumerate(window.positions) if position < window.times[0])
        motion = flow_between(self.source, window, left, left + 1, window.times)
        near = [window.images[left], window.images[left + 1]]
        views = [bicubic_warp(image, motion.flow[:, 2 * i : 2 * i + 2]) for i, image in enumerate(near)]
        if self.side == "blend":
            share = motion.mask.sigmoid()
        else:
            middle = window.positions[left] + Position(1, 2)
            first = [self.side == "left" or (self.side == "near" and t <= middle) for t in window.times]
            share = numbers(first, motion.mask.device).float()[:, None, None, None]
        return limited(torch.lerp(views[1], views[0], share), *map(limits, near))


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
    explain: bool = False

    @property
    def reach(self) -> Reach:
        return Reach(peel=self.history)

    def __call__(self, window: Window) -> Tensor:
        levels = len(window.positions) // 2
        near = levels - 1
        left, right = window.positions[near], window.positions[-levels]
        times = window.times
        total = sum(math.exp(-self.decay * age) for age in range(levels))
        flow = mask = torch.zeros((), device=window.images[near].device)
        for age in range(levels):
            level = near - age
            motion = flow_between(self.source, window, level, len(window.positions) - 1 - level, times)
            wide_left, wide_right = window.positions[level], window.positions[-1 - level]
            shorten = [
                [float((t - left) / (t - wide_left))] * 2 + [float((right - t) / (wide_right - t))] * 2 for t in times
            ]
            weight = math.exp(-self.decay * age) / total
            flow = flow + weight * motion.flow * numbers(shorten, flow.device)[:, :, None, None]
            mask = mask + weight * motion.mask
        made = blend(window.images[near], window.images[-levels], Flow(flow, mask))
        # Two pictures that were made from the same ones agree even where both are wrong: the widest pair tells more.
        return explained(made, window, (0, len(window.positions) - 1), motion) if self.explain else made
