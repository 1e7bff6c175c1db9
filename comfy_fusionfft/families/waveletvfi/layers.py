"""What both halves of the network are made of."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from ...ops.convolution import Conv2d
from ...ops.precision import Float32, exactly

SLOPE = 0.1


class Exact(Float32):
    """Keeps float32 where a network is brought to bfloat16: the coarsest layers are a twentieth of the arithmetic, and
    what 8 bits blur in them all later ones build on."""

    refused = (torch.bfloat16,)

    def forward(self, x: Tensor) -> Tensor | tuple[Tensor, ...]:
        with exactly(x.device):
            return super().forward(x)


class Convolution(Conv2d):
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
