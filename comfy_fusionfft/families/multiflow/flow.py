"""Flow chosen among several searches' answers: a ``contract.FlowSource``."""

from __future__ import annotations

from typing import Literal, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from ...contract import Flow, Position
from ...errors import InputError
from ...ops.dis import grey_bytes
from . import candidates
from .candidates import Greys
from .net import MultiFlowNet


class _Features(NamedTuple):
    greys: Greys
    picture: Tensor


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

    @torch.no_grad()
    def features(self, image: Tensor, position: Position | None = None) -> _Features:
        picture = self._scaled(image)
        return _Features(candidates.prepare(grey_bytes(picture)), picture)

    @torch.no_grad()
    def flow(
        self, left: Tensor, right: Tensor, left_features: _Features, right_features: _Features, times: Tensor
    ) -> Flow:
        """``(1, 3, H, W)`` twice and times ``(T,)`` in (0, 1) -> Flow of T instants."""
        device = left.device
        found = torch.from_numpy(candidates.search(left_features.greys, right_features.greys)).to(device)
        found = found.permute(0, 1, 4, 2, 3)[None]
        pictures = (left_features.picture, right_features.picture)
        made = []
        for time in times.to(device).split(1):  # the guesses of one instant at a time: they are many
            guesses = candidates.at_times(found, time)
            made.append(self.net(*pictures, *guesses, time))
        flow, mask = (torch.cat(part) for part in zip(*made, strict=True))
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
