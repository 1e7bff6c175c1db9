"""What several parts of the network are made of."""

from __future__ import annotations

from collections.abc import Callable

import torch.nn.functional as F
from torch import Tensor, nn

from ...ops.strips import strips

SLOPE = 0.1


class Convolution(nn.Conv2d):
    """Borders padded with zeros; in the precision of its weights whatever comes in."""

    def __init__(self, inputs: int, outputs: int, size: int = 3) -> None:
        super().__init__(inputs, outputs, size, padding=size // 2)

    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x.to(self.weight.dtype))


class ResidualBlock(nn.Module):
    def __init__(self, channels: int) -> None:
        super().__init__()
        self.conv1, self.conv2 = Convolution(channels, channels), Convolution(channels, channels)

    def forward(self, x: Tensor) -> Tensor:
        return self.conv2(F.relu_(self.conv1(x))).add_(x)


class ResidualBlocks(nn.Module):
    """A convolution to the width wanted, and residual blocks."""

    def __init__(self, inputs: int, channels: int, count: int) -> None:
        super().__init__()
        blocks = nn.Sequential(*(ResidualBlock(channels) for _ in range(count)))
        self.main = nn.Sequential(Convolution(inputs, channels), nn.LeakyReLU(SLOPE, inplace=True), blocks)

    def forward(self, x: Tensor) -> Tensor:
        return self.main(x)


def in_strips(
    make: Callable[..., Tensor], inputs: tuple[Tensor, ...], halo: int, rows: int, into: Tensor, scale: int = 1
) -> Tensor:
    """``make(*inputs)`` written into ``into``, a few rows at a time, the same numbers as at once.

    make: looks at no more than ``halo`` rows above and below a place, and makes pictures ``scale`` times as high.
    """
    height = inputs[0].shape[2]
    for part in strips(height, rows):
        top, bottom = max(0, part.start - halo), min(height, part.stop + halo)
        made = make(*(each[:, :, top:bottom] for each in inputs))
        first = scale * (part.start - top)
        into[:, :, scale * part.start : scale * part.stop] = made[
            :, :, first : first + scale * (part.stop - part.start)
        ]
    return into
