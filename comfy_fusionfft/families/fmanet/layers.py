"""What both halves of the network are made of.

Frames are ``(…, C, H, W)`` with any axes before. Convolutions run in the dtype of their weights, or autocast's; what
sums over many pixels, or divides, is float32.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ...ops.precision import exactly
from .config import FMANetConfig

SLOPE = 0.2


class TimeConvolution(nn.Conv3d):
    """3×3×3, borders padded with zeros, in time as well: over clips ``(B, C, T, H, W)``."""

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__(inputs, outputs, 3, padding=1, bias=False)

    def forward(self, clip: Tensor) -> Tensor:
        return super().forward(clip.to(self.weight.dtype))

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> nn.Module:
        return super()._apply(_of_four_axes(fn), recurse)


class FrameConvolution(nn.Conv3d):
    """Every frame alone, borders padded with zeros; published as a convolution over time as well, of size 1."""

    def __init__(self, inputs: int, outputs: int, size: int = 3, *, bias: bool = False) -> None:
        super().__init__(inputs, outputs, (1, size, size), padding=(0, size // 2, size // 2), bias=bias)

    def forward(self, frames: Tensor) -> Tensor:
        flat = frames.flatten(0, -4).to(self.weight.dtype)
        return F.conv2d(flat, self.weight[:, :, 0], self.bias, padding=self.padding[1:]).unflatten(0, frames.shape[:-3])

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> nn.Module:
        return super()._apply(_of_four_axes(fn), recurse)


def _of_four_axes(fn: Callable[[Tensor], Tensor]) -> Callable[[Tensor], Tensor]:
    """A module is brought into a memory format of pictures as a whole; that refuses weights of five axes."""
    return lambda t: fn(t.flatten(1, 2)).unflatten(1, t.shape[1:3]) if t.ndim == 5 else fn(t)


class PictureConvolution(nn.Conv2d):
    """One picture, borders padded with zeros. depthwise: every channel alone."""

    def __init__(self, inputs: int, outputs: int, size: int = 3, *, depthwise: bool = False) -> None:
        super().__init__(inputs, outputs, size, padding=size // 2, groups=inputs if depthwise else 1, bias=False)

    def forward(self, picture: Tensor) -> Tensor:
        return super().forward(picture.to(self.weight.dtype))


def two_convolutions(inputs: int, width: int, outputs: int) -> nn.Sequential:
    """With the activation between them."""
    activation = nn.LeakyReLU(SLOPE, inplace=True)
    return nn.Sequential(FrameConvolution(inputs, width), activation, FrameConvolution(width, outputs))


class DenseLayer(nn.Module):
    """Hands on what it gets, and more."""

    def __init__(self, inputs: int, growth: int) -> None:
        super().__init__()
        self.conv = FrameConvolution(inputs, growth)

    def forward(self, frames: Tensor) -> Tensor:
        return torch.cat((frames, F.leaky_relu(self.conv(frames), SLOPE)), -3)


class DenseBlock(nn.Module):
    """RDB: dense layers, brought back to the width of the input, which is added."""

    def __init__(self, config: FMANetConfig) -> None:
        super().__init__()
        widths = [config.channels + config.growth * i for i in range(config.dense_layers + 1)]
        self.layer = nn.Sequential(*(DenseLayer(width, config.growth) for width in widths[:-1]))
        self.conv = FrameConvolution(widths[-1], config.channels, 1, bias=True)

    def forward(self, frames: Tensor) -> Tensor:
        return frames + self.conv(self.layer(frames))


class DenseBlocks(nn.Module):
    """RRDB: dense blocks in a row, all their outputs brought together, and the input added."""

    def __init__(self, config: FMANetConfig) -> None:
        super().__init__()
        width = config.channels
        self.RDBs = nn.ModuleList(DenseBlock(config) for _ in range(config.dense_blocks))
        self.conv = nn.Sequential(
            FrameConvolution(width * config.dense_blocks, width, 1), FrameConvolution(width, width)
        )

    def forward(self, frames: Tensor) -> Tensor:
        made, outputs = frames, []
        for block in self.RDBs:
            made = block(made)
            outputs.append(made)
        return frames + self.conv(torch.cat(outputs, -3))


def feature_extractor(inputs: int, config: FMANetConfig) -> nn.Sequential:
    first = FrameConvolution(inputs, config.channels)
    return nn.Sequential(first, nn.LeakyReLU(SLOPE, inplace=True), DenseBlocks(config))


class LayerNorm(nn.Module):
    """Over the channels of every pixel, float32."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.body = nn.Module()
        self.body.weight = nn.Parameter(torch.ones(channels))
        self.body.bias = nn.Parameter(torch.zeros(channels))

    def forward(self, picture: Tensor) -> Tensor:
        rows = picture.float().movedim(-3, -1)
        rows = F.layer_norm(rows, rows.shape[-1:], self.body.weight.float(), self.body.bias.float(), 1e-5)
        return rows.movedim(-1, -3)


class Attention(nn.Module):
    """Between channels: those of ``picture`` mixed as those of ``guide`` resemble them, over all pixels."""

    def __init__(self, config: FMANetConfig) -> None:
        super().__init__()
        width = config.channels
        self.heads = config.heads
        self.temperature = nn.Parameter(torch.ones(config.heads, 1, 1))
        self.q = PictureConvolution(width, width, 1)
        self.q_dwconv = PictureConvolution(width, width, depthwise=True)
        self.kv_conv = PictureConvolution(width, 2 * width, 1)
        self.kv_dwconv = PictureConvolution(2 * width, 2 * width, depthwise=True)
        self.project_out = PictureConvolution(width, width, 1)

    def forward(self, picture: Tensor, guide: Tensor) -> Tensor:
        size = picture.shape[-2:]
        q = self.q_dwconv(self.q(guide))
        k, v = self.kv_dwconv(self.kv_conv(picture)).chunk(2, 1)
        q, k, v = (each.flatten(2).unflatten(1, (self.heads, -1)).float() for each in (q, k, v))  # B heads c H·W
        with exactly(q.device):
            weights = self.weights(q @ k.mT, q.square().sum(-1), k.square().sum(-1))
            mixed = (weights @ v).flatten(1, 2).unflatten(2, size)
        return self.project_out(mixed)

    def weights(self, products: Tensor, q_squares: Tensor, k_squares: Tensor) -> Tensor:
        """``(B, heads, c, c)`` float32 from sums over all pixels: products of channels q and k, of the same shape, and
        squares of either, ``(B, heads, c)``."""
        lengths = [squares.sqrt().clamp_min(1e-12) for squares in (q_squares, k_squares)]
        likeness = products / lengths[0][..., None] / lengths[1][..., None, :]
        return (likeness * self.temperature.float()).softmax(-1)


class FeedForward(nn.Module):
    """Every pixel and what is next to it: one half of the channels opens and closes the other."""

    def __init__(self, config: FMANetConfig) -> None:
        super().__init__()
        width, hidden = config.channels, 2 * config.hidden
        self.project_in = PictureConvolution(width, hidden, 1)
        self.dwconv = PictureConvolution(hidden, hidden, depthwise=True)
        self.project_out = PictureConvolution(config.hidden, width, 1)

    def forward(self, picture: Tensor) -> Tensor:
        gate, value = self.dwconv(self.project_in(picture)).chunk(2, 1)
        return self.project_out(F.gelu(gate) * value)


class MultiAttention(nn.Module):
    """What the frames say together, seen by the frame in the middle and, if ``degraded``, by how it was blurred."""

    def __init__(self, config: FMANetConfig, *, degraded: bool) -> None:
        super().__init__()
        self.norm1, self.co_attn = LayerNorm(config.channels), Attention(config)
        self.norm2, self.ffn1 = LayerNorm(config.channels), FeedForward(config)
        self.degraded = degraded
        if degraded:
            self.norm3, self.da_attn = LayerNorm(config.channels), Attention(config)
            self.norm4, self.ffn2 = LayerNorm(config.channels), FeedForward(config)

    def forward(self, together: Tensor, centre: Tensor, kernels: Tensor | None) -> Tensor:
        """All ``(B, C, H, W)``. kernels: features of how frames were blurred, for those that look at them."""
        for norm, attention, guide, norm_forward, forward in self.stages(centre, kernels):
            together = together + attention(norm(together), guide)
            together = together + forward(norm_forward(together))
        return together

    def stages(
        self, centre: Tensor, kernels: Tensor | None
    ) -> list[tuple[LayerNorm, Attention, Tensor, LayerNorm, FeedForward]]:
        """What is done in turn, each with its guide."""
        made = [(self.norm1, self.co_attn, centre, self.norm2, self.ffn1)]
        if self.degraded:
            made.append((self.norm3, self.da_attn, kernels, self.norm4, self.ffn2))
        return made
