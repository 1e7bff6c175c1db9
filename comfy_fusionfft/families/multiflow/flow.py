"""Flow chosen among several searches' answers: a ``contract.FlowSource``."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from ...contract import Flow, Position
from ...errors import InputError
from ...ops.dis import brightness, grey_bytes
from ...ops.memory import Memory
from ...ops.pair_memo import PairMemo
from . import candidates
from .candidates import Greys
from .net import MultiFlowNet, levelled

PAIRS = 3
"""Pairs of frames whose searches are kept: other instants between them may be asked for in another call."""


@dataclass(frozen=True, eq=False)
class _Features:
    greys: Greys
    look: Tensor


class _Found(NamedTuple):
    """``(1, K, 2, 2, h, w)`` of ``candidates.search``, and its weights."""

    flows: Tensor
    weights: Tensor


class MultiFlow:
    """Motion by ``net``'s choice, which a host has put where it shall run. The searches run on the CPU.

    scale: search and choose on pictures this much smaller (0.5, 0.25) or larger.
    """

    padding: Literal["replicate"] = "replicate"

    def __init__(self, net: MultiFlowNet, *, scale: float = 1.0) -> None:
        if scale <= 0:
            raise InputError(f"a scale of {scale} was given: use 1, or 0.5 for large pictures")
        self.net, self.scale = net.eval(), scale
        self.modulus = int(net.config.modulus * max(1, 1 / scale))
        self._found = PairMemo(PAIRS)
        self._memory = Memory()

    @torch.no_grad()
    def features(self, image: Tensor, position: Position | None = None) -> _Features:
        bright = brightness(self._scaled(image))
        return _Features(candidates.prepare(grey_bytes(bright)), levelled(bright))

    @torch.no_grad()
    def flow(
        self, left: Tensor, right: Tensor, left_features: _Features, right_features: _Features, times: Tensor
    ) -> Flow:
        """``(1, 3, H, W)`` twice and times ``(T,)`` in (0, 1) -> Flow of T instants."""
        flows, weights = self._found(left_features, right_features, lambda: _searched(left_features, right_features))
        looks, empty = (left_features.look, right_features.look), self._memory.empty
        made = []
        for time in times.to(flows.device).split(1):  # the guesses of one instant at a time: they are many
            guesses = candidates.at_times(flows, time, weights, empty)
            made.append(self.net.found(*looks, *guesses, time, empty))
        flow, mask = made[0] if len(made) == 1 else (torch.cat(part) for part in zip(*made, strict=True))
        if self.scale == 1:
            return Flow(flow, mask)
        size = left.shape[-2:]
        flow, mask = (F.interpolate(part, size, mode="bilinear") for part in (flow, mask))
        return Flow(flow / self.scale, mask)

    def _scaled(self, picture: Tensor) -> Tensor:
        if self.scale == 1:
            return picture
        size = [round(side * self.scale) for side in picture.shape[-2:]]
        return F.interpolate(picture, size, mode="bilinear", antialias=self.scale < 1)


def _searched(left: _Features, right: _Features) -> _Found:
    found = torch.from_numpy(candidates.search(left.greys, right.greys)).to(left.look.device)
    flows = found.permute(0, 1, 4, 2, 3)[None]
    return _Found(flows, candidates.weights(flows))
