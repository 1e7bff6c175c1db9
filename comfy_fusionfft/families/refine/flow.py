"""Classical flow made better by a network: a ``contract.FlowSource``."""

from __future__ import annotations

from typing import Any, Literal, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from ...contract import Flow, FlowSource, Position
from ...errors import InputError
from .net import RefineNet


class _Features(NamedTuple):
    seed: Any
    picture: Tensor
    own: tuple[Tensor, ...]


class RefinedFlow:
    """``seed``'s flow, corrected by ``net``, which a host has put where it shall run.

    scale: correct on pictures this much smaller (0.5, 0.25) or larger; the seed has a scale of its own.
    """

    padding: Literal["replicate"] = "replicate"

    def __init__(self, net: RefineNet, seed: FlowSource, *, scale: float = 1.0) -> None:
        if scale <= 0:
            raise InputError(f"a scale of {scale} was given: use 1, or 0.5 for large pictures")
        self.net, self.seed, self.scale = net.eval(), seed, scale
        self.modulus = max(seed.modulus, int(net.config.modulus * max(1, 1 / scale)))

    @torch.no_grad()
    def features(self, image: Tensor, position: Position | None = None) -> _Features:
        picture = self._scaled(image)
        return _Features(self.seed.features(image, position), picture, self.net.features(picture))

    @torch.no_grad()
    def flow(
        self, left: Tensor, right: Tensor, left_features: _Features, right_features: _Features, times: Tensor
    ) -> Flow:
        """``(1, 3, H, W)`` twice and times ``(T,)`` in (0, 1) -> Flow of T instants."""
        given = self.seed.flow(left, right, left_features.seed, right_features.seed, times)
        size = left.shape[-2:]
        small = Flow(self._scaled(given.flow) * self.scale, self._scaled(given.mask))
        pictures = (left_features.picture, right_features.picture)
        flow, mask = self.net(*pictures, small, times, left_features.own, right_features.own)
        if self.scale == 1:
            return Flow(flow, mask)
        # Only the change is enlarged: what the seed found at full size stays as sharp as it was.
        change = torch.cat(((flow - small.flow) / self.scale, mask - small.mask), 1)
        change = F.interpolate(change, size, mode="bilinear")
        return Flow(given.flow + change[:, :4], given.mask + change[:, 4:])

    def _scaled(self, planes: Tensor) -> Tensor:
        if self.scale == 1:
            return planes
        size = [round(side * self.scale) for side in planes.shape[-2:]]
        return F.interpolate(planes, size, mode="bilinear", antialias=self.scale < 1)
