"""Convolutions that do not pad, one after the other, on patches: each makes its region narrower by what it looks at.

Weights are those of the modules in ``layers``, whose answers these are.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from .layers import SLOPE, DenseBlock
from .patches import Patch


def convolved(conv: nn.Module, seen: Tensor) -> Tensor:
    """``(1, I, h + 2, w + 2)`` -> ``(1, O, h, w)``, or of the same size where the kernel is one pixel's."""
    weight = conv.weight[:, :, 0] if conv.weight.ndim == 5 else conv.weight
    return F.conv2d(seen, weight, conv.bias)


def depthwise(seen: Tensor, weight: Tensor) -> Tensor:
    return F.conv2d(seen, weight, groups=len(weight))


def two(convs: nn.Sequential, seen: Tensor, region: Patch) -> Tensor:
    """``layers.two_convolutions`` of what is seen in a region, two pixels narrower on every side."""
    first, _, second = convs
    return convolved(second, region.grown(-1).clear(F.leaky_relu_(convolved(first, seen), SLOPE)))


def dense(block: DenseBlock, features: Tensor, patch: Patch) -> Tensor:
    """A dense block's output in a patch; features: the whole map."""
    region = patch.grown(len(block.layer))
    made = region.cut(features)
    for layer in block.layer:
        region = region.grown(-1)
        more = region.clear(F.leaky_relu_(convolved(layer.conv, made), SLOPE))
        made = torch.cat((inside(made, 1), more), 1)
    return convolved(block.conv, made).add_(patch.cut(features))


def over_time(conv: nn.Conv3d, parts: Sequence[Tensor]) -> list[Tensor]:
    """A 3×3×3 convolution over a few frames, float32: all that looks at a frame at once."""
    made: list[Tensor] = [0.0] * len(parts)
    for s, part in enumerate(parts):
        targets = range(max(0, s - 1), min(len(parts), s + 2))
        weight = torch.cat([conv.weight[:, :, s - t + 1] for t in targets])
        for t, found in zip(targets, F.conv2d(part, weight).chunk(len(targets), 1), strict=True):
            made[t] = made[t] + found.float()
    return made


def inside(part: Tensor, n: int) -> Tensor:
    return part[..., n:-n, n:-n]
