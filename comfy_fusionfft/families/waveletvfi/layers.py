"""What both halves of the network are made of."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn

SLOPE = 0.1
_AUTOCAST = ("cpu", "cuda", "xpu")
"""Devices that every version of PyTorch knows autocast for; elsewhere even switching it off is an error."""


class Exact(nn.Module):
    """Keeps float32 where a network is brought to bfloat16: the coarsest layers are a twentieth of the arithmetic, and
    what 8 bits blur in them all later ones build on."""

    def forward(self, x: Tensor) -> Tensor | tuple[Tensor, ...]:
        if x.device.type not in _AUTOCAST:
            return super().forward(x)
        with torch.autocast(x.device.type, enabled=False):
            return super().forward(x)

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> nn.Module:
        def kept(tensor: Tensor) -> Tensor:
            made = fn(tensor)
            if made.dtype != torch.bfloat16:
                return made
            return torch.empty_like(made, dtype=torch.float32).copy_(tensor)  # on the device, in the layout of ``made``

        return super()._apply(kept, recurse)


class Convolution(nn.Conv2d):
    """3×3, borders padded with zeros, in the precision of its weights whatever comes in."""

    def __init__(self, inputs: int, outputs: int, stride: int = 1) -> None:
        super().__init__(inputs, outputs, 3, stride, 1)

    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x.to(self.weight.dtype))


class ExactConvolution(Exact, Convolution):
    """A convolution that keeps float32."""


class Step(nn.Sequential):
    """A convolution and its activation."""

    def __init__(self, inputs: int, outputs: int, stride: int = 1) -> None:
        super().__init__(Convolution(inputs, outputs, stride), nn.LeakyReLU(SLOPE, inplace=True))


class ExactStep(Exact, Step):
    """The same, in float32."""
