"""Building blocks of the fusion network. Nothing here depends on the extent of the picture."""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ...ops.convolution import Conv2d, conv2d

SLOPE = 0.1


def activate(x: Tensor) -> Tensor:
    return F.leaky_relu(x, SLOPE, inplace=True)


def conv(inputs: int, outputs: int, stride: int = 1, size: int = 3) -> nn.Conv2d:
    """A convolution that keeps the variance of what passes through it and a leaky rectifier."""
    layer = Conv2d(inputs, outputs, size, stride, size // 2)
    nn.init.kaiming_normal_(layer.weight, a=SLOPE)
    nn.init.zeros_(layer.bias)
    return layer


class Stem(nn.Conv2d):
    """A 3×3 ``conv`` whose input may end with planes that it does not look at."""

    def __init__(self, inputs: int, outputs: int, stride: int = 1) -> None:
        super().__init__(inputs, outputs, 3, stride, 1)
        nn.init.kaiming_normal_(self.weight, a=SLOPE)
        nn.init.zeros_(self.bias)

    def forward(self, x: Tensor) -> Tensor:
        spare = x.shape[1] - self.in_channels
        weight = F.pad(self.weight, (0, 0, 0, 0, 0, spare)) if spare else self.weight
        return conv2d(x, weight, self.bias, self.stride[0], self.padding[0])


def zero(layer: nn.Module) -> nn.Module:
    """Start a layer at nothing: what hangs on it is learnt as a departure from the plain answer."""
    nn.init.zeros_(layer.weight)
    nn.init.zeros_(layer.bias)
    return layer


class Residual(nn.Module):
    """``x + conv(act(conv(act(x))))``, the second convolution pointwise.

    As costly as a pair of 3×3 convolutions, but wider inside and only half as far-reaching.
    """

    def __init__(self, width: int, expand: int = 2) -> None:
        super().__init__()
        self.first, self.second = conv(width, expand * width), conv(expand * width, width, size=1)
        with torch.no_grad():
            self.second.weight.mul_(0.3)

    def forward(self, x: Tensor) -> Tensor:
        return x + self.second(activate(self.first(F.leaky_relu(x, SLOPE))))


class Upsample(nn.Module):
    """Twice the resolution by rearranging channels; starts as nearest-neighbour upsampling (ICNR).

    "Checkerboard artifact free sub-pixel convolution", Aitken et al., 2017.
    """

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__()
        self.conv = conv(inputs, 4 * outputs, size=1)
        with torch.no_grad():
            self.conv.weight.copy_(self.conv.weight[::4].repeat_interleave(4, 0))

    def forward(self, x: Tensor) -> Tensor:
        """``(B, inputs, H, W)`` -> ``(B, outputs, 2H, 2W)``, rearranged as by ``F.pixel_shuffle``."""
        if torch.is_grad_enabled():
            return F.pixel_shuffle(self.conv(x), 2)
        # With a pixel's channels made side by side, and not the pixels of a channel, whole rows move at once.
        weight, bias = (p.unflatten(0, (-1, 4)).transpose(0, 1).flatten(0, 1) for p in self.conv.parameters())
        cells = F.conv2d(x, weight, bias).permute(0, 2, 3, 1)  # (B, H, W, 4 · outputs)
        cells = cells.unflatten(3, (2, 2, -1)).transpose(2, 3)  # (B, H, 2, W, 2, outputs)
        return cells.flatten(3, 4).flatten(1, 2).permute(0, 3, 1, 2)


class AdaptiveFrequencyDecoupling(nn.Module):
    """Splits features into low and high frequencies, and weighs the two anew.

    The low-pass is a true one: a 3×3 kernel for each channel, non-negative and of sum 1 whatever is
    learnt; it starts binomial. High is the rest, so low + high = x exactly. Gates look at the features.
    """

    def __init__(self, width: int) -> None:
        super().__init__()
        binomial = torch.tensor([1.0, 2.0, 1.0])
        kernel = (binomial[:, None] * binomial).log().expand(width, 1, 3, 3)
        self.kernel = nn.Parameter(kernel.clone())
        self.gates = zero(nn.Conv2d(width, 2 * width, 1))
        # Gates of equal size would hide the kernel from its gradient.
        nn.init.constant_(self.gates.bias[width:], 0.2)

    def split(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """-> low, high, of the shape of ``x``."""
        kernel = self.kernel.float().flatten(2).softmax(-1).view_as(self.kernel).to(x.dtype)
        low = F.conv2d(F.pad(x, (1, 1, 1, 1), mode="replicate"), kernel, groups=x.shape[1])
        return low, x - low

    def forward(self, x: Tensor) -> Tensor:
        """x + tanh(a)·low + tanh(b)·high, with the gates a and b: as tanh(a) = 2·sigmoid(2a) - 1 and x = low + high,
        twice sigmoid(2a)·low + sigmoid(2b)·high, which is several times as fast in half precision on a CPU."""
        low, high = self.split(x)
        halves = zip((2 * self.gates.weight).chunk(2), (2 * self.gates.bias).chunk(2), strict=True)
        gate_low, gate_high = (F.conv2d(x, weight, bias).sigmoid() for weight, bias in halves)
        return torch.addcmul(gate_low * low, gate_high, high).mul_(2)


def time_code(time: Tensor, span: Tensor) -> Tensor:
    """Sinusoidal code of an anchor's place in time.

    time: where in the anchor the instant lies, 0 (its left frame) .. 1. span: frames between its two.
    -> ``(..., TIME_CODE)``. The slowest wave has period 4, so that 0 and 1 differ.
    """
    waves = 0.5 * math.pi * 2.0 ** torch.arange(4, device=time.device)
    angle = torch.cat((time[..., None] * waves, span.log2()[..., None] * waves[:2]), dim=-1)
    return torch.cat((angle.sin(), angle.cos()), dim=-1)


TIME_CODE = 12


class TemporalGuidanceModule(nn.Module):
    """Scales and shifts an anchor's features by its place in time; starts as the identity."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.modulate = zero(nn.Linear(TIME_CODE, 2 * width))

    def forward(self, x: Tensor, code: Tensor) -> Tensor:
        """x: ``(B, C, H, W)``; code: ``(B, TIME_CODE)``."""
        scale, shift = self.modulate(code.to(x.dtype)).chunk(2, dim=1)
        if len(x) == 1 and not torch.is_grad_enabled():  # the same in one go, several times as fast on a CPU
            mean, variance = x.new_zeros(x.shape[1], dtype=torch.float32), x.new_ones(x.shape[1], dtype=torch.float32)
            return F.batch_norm(x, mean, variance, 1 + scale[0].float(), shift[0].float(), eps=0)
        return torch.addcmul(x + shift[:, :, None, None], x, scale[:, :, None, None])
