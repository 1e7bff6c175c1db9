"""SPyNet: motion between two pictures, from coarse to fine.

The one inside FTVSR was trained along with it and is no general flow network. Motion, look-ups and weights are float32;
what convolutions compute in is said at the call.

Source: A. Ranjan, M. Black, "Optical Flow Estimation using a Spatial Pyramid Network", CVPR 2017.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from itertools import pairwise

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ...ops.precision import Float32
from ...ops.warp import backward_warp
from .layers import in_strips

WIDTHS = (8, 32, 64, 32, 16, 2)
"""Planes: both pictures and the flow so far, …, what is added to the flow."""
_MEAN, _DEVIATION = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
_HALO = 3 * (len(WIDTHS) - 1)
STRIP_BYTES = 1 << 27
"""Of a level's widest planes that exist at a time."""

Pyramid = list[Tensor]
"""A picture, normalised, at all sizes, coarsest first."""


class Layer(nn.Module):
    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(inputs, outputs, 7, padding=3)

    def forward(self, x: Tensor) -> Tensor:
        """In the dtype of ``x``."""
        return F.conv2d(x, self.conv.weight.to(x.dtype), self.conv.bias.to(x.dtype), padding=3)


class Level(nn.Module):
    """Adds to the flow at one size."""

    def __init__(self) -> None:
        super().__init__()
        self.basic_module = nn.ModuleList(Layer(*planes) for planes in pairwise(WIDTHS))

    def forward(self, reference: Tensor, warped: Tensor, flow: Tensor, *, dtype: torch.dtype) -> Tensor:
        x = torch.cat((reference, warped, flow), 1).to(dtype)
        for number, layer in enumerate(self.basic_module):
            x = layer(x if number == 0 else F.relu_(x))
        return x.float()


class SPyNet(Float32):
    def __init__(self, levels: int) -> None:
        super().__init__()
        self.register_buffer("mean", torch.tensor(_MEAN).view(1, 3, 1, 1))
        self.register_buffer("std", torch.tensor(_DEVIATION).view(1, 3, 1, 1))
        self.basic_module = nn.ModuleList(Level() for _ in range(levels))

    def pyramid(self, picture: Tensor) -> Pyramid:
        """``(B, 3, H, W)`` -> of sizes that halve, the largest at least as large."""
        modulus = 2 ** (len(self.basic_module) - 1)
        size = [-(-side // modulus) * modulus for side in picture.shape[-2:]]
        picture = _resized(picture.float(), size)
        sizes = [(picture - self.mean) / self.std]
        for _ in self.basic_module[1:]:
            sizes.append(F.avg_pool2d(sizes[-1], 2))
        return sizes[::-1]

    def forward(
        self, reference: Pyramid, support: Pyramid, size: Sequence[int], dtype: torch.dtype = torch.float32
    ) -> Tensor:
        """From ``reference`` to ``support``, pictures of ``size``: ``(B, 2, H, W)`` float32 pixels."""
        flow = None
        for level, here, there in zip(self.basic_module, reference, support, strict=True):
            if flow is None:
                flow = here.new_zeros(len(here), 2, *here.shape[2:])
            else:
                flow = F.interpolate(flow, here.shape[2:], mode="bilinear", align_corners=True) * 2
            flow = flow + self._found(partial(level, dtype=dtype), here, backward_warp(there, flow), flow)
        return resized_flow(flow, size)

    def _found(self, level: Callable[..., Tensor], *seen: Tensor) -> Tensor:
        batch, _, height, width = seen[0].shape
        rows = max(2 * _HALO, STRIP_BYTES // (batch * width * max(WIDTHS) * 4))
        if rows >= height or torch.is_grad_enabled():
            return level(*seen)
        return in_strips(level, seen, _HALO, rows, torch.empty_like(seen[-1]))


def resized_flow(flow: Tensor, size: Sequence[int]) -> Tensor:
    """Flow ``(B, 2, H, W)`` of a picture for the same one at another size."""
    height, width = flow.shape[-2:]
    if (height, width) == tuple(size):
        return flow
    ratio = flow.new_tensor([size[1] / width, size[0] / height]).view(1, 2, 1, 1)
    return _resized(flow, size) * ratio


def _resized(picture: Tensor, size: Sequence[int]) -> Tensor:
    if picture.shape[-2:] == tuple(size):
        return picture
    return F.interpolate(picture, tuple(size), mode="bilinear", align_corners=False)
