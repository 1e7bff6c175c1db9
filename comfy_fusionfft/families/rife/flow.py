"""A RIFE network as a source of motion for the engine (``contract.FlowSource``)."""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor

from ...contract import Flow, Position
from ...errors import InputError
from ...ops.memory import Memory
from ...ops.replay import Replay
from .lean import Seen, applies, lean_flow, seen
from .net import IFNet


class RIFEFlow:
    """Motion found by ``net``, which a host has put where it shall run.

    scale: look at the pair at this fraction of its resolution: 0.5 or 0.25 where motion is large or frames
        are beyond full HD, 2 or 4 for small ones.
    ensemble: average with the answer for the swapped pair, twice the work; 4.0-4.20 and 4.24 only.
    padding: ``zeros`` is what the authors' code does, and pulls the flow towards zero next to the padded
        edges; ``replicate`` continues the picture instead.
    """

    def __init__(
        self,
        net: IFNet,
        *,
        scale: float = 1.0,
        ensemble: bool = False,
        padding: Literal["zeros", "replicate"] = "replicate",
    ) -> None:
        if ensemble and not net.config.can_ensemble:
            raise InputError("this RIFE network cannot ensemble (only 4.0-4.20 and 4.24 can); turn it off")
        self.net = net.eval()
        self.modulus = net.config.modulus_at(scale)
        self.padding = padding
        self.scale = scale
        self.ensemble = ensemble
        self._memory = Memory()
        self._motion = Replay(self._lean_flow, net.parameters)
        self._lean = not ensemble and applies(net.config, scale)

    @torch.no_grad()
    def features(self, image: Tensor, position: Position | None = None) -> Seen | Tensor | None:
        """``(1, 3, H, W)`` in 0..1 -> what the network knows about it alone; None for 4.0 and 4.1."""
        return seen(self.net, image, self.scale, self._memory.empty) if self._lean else self.net.encode(image)

    @torch.no_grad()
    def flow(
        self,
        left: Tensor,
        right: Tensor,
        left_features: Seen | Tensor | None,
        right_features: Seen | Tensor | None,
        times: Tensor,
    ) -> Flow:
        """``(1, 3, H, W)`` twice and times ``(T,)`` in (0, 1) -> Flow of T instants."""
        if self._lean:
            pictures = ((left, left_features), (right, right_features))
            pair = (self.features(image) if known is None else known for image, known in pictures)
            return self._motion(*pair, times)
        return self.net(left, right, times, left_features, right_features, scale=self.scale, ensemble=self.ensemble)

    def _lean_flow(self, left: Seen, right: Seen, times: Tensor) -> Flow:
        return lean_flow(self.net, left, right, times, self.scale, self._memory.empty)
