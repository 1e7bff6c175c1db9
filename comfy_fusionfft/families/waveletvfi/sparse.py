"""One level of the synthesis, computed everywhere or only where its mask says so; the numbers are the same.

A level looks at context of its own size and at features of half the size, each repeated over 2×2 places. A 3×3 kernel
meets only 2×2 different ones of these; which of its taps meet the same one depends on whether row and column are even
or odd. So four small kernels, one for each *phase*, do the work of the large one with less than half the
multiplications, and the repeated features are never made.

Everywhere: convolutions, in strips of rows. Somewhere: what surrounds the active places is gathered as rows of a
matrix, multiplied, and scattered. Details are nine numbers a place of the surrounding 3×3 features. Each place's
contributions to its neighbours are computed while its features are at hand, and summed in the end: the finest
features, the largest planes of all, are never kept.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Literal, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from ...ops.strips import strips
from .layers import SLOPE, Convolution, Step

CROSSOVER = {torch.float32: 0.75, torch.bfloat16: 0.5}
"""Share of active places below which gathering them is faster than computing all, on a CPU: measured by
``benchmarks/wavelet_cost.py --crossover``."""
GATHERED = 512
"""Places gathered at a time: some MiB, however large the picture."""
STRIP_NUMBERS = 1 << 22
"""Features computed at a time where all are."""
PHASES = ((0, 0), (0, 1), (1, 0), (1, 1))
BANDS = 9


@dataclass(frozen=True, slots=True)
class Sparsity:
    """When to gather: ``auto``: on a CPU, below ``CROSSOVER``; ``never`` and ``always`` are for comparisons."""

    when: Literal["auto", "never", "always"] = "auto"

    def gathers(self, wide: Tensor, dtype: torch.dtype) -> bool:
        """wide: where features are needed, 0 or 1. dtype: in which they are computed."""
        if self.when == "auto":
            return wide.device.type == "cpu" and float(wide.mean()) < CROSSOVER.get(dtype, 0.5)
        return self.when == "always"


class Kernels(NamedTuple):
    """A FeatureStep's weights for both ways. around, coarse: of convolutions; for context, and for each phase.
    rows_around ``(9·C, N)``, rows_coarse ``(4·D, N)``: the same for gathered rows."""

    around: Tensor
    coarse: tuple[Tensor, ...]
    rows_around: Tensor
    rows_coarse: tuple[Tensor, ...]


class FeatureStep(Step):
    """``(context, features of half the size)`` -> features: 3×3 over both, as if the latter were enlarged."""

    def __init__(self, context: int, coarse: int, width: int) -> None:
        super().__init__(context + coarse, width)
        self.context = context
        self._kernels: tuple[Any, Kernels] | None = None

    def kernels(self) -> Kernels:
        """Computed again when the weights change."""
        weight = self[0].weight
        # Tensors of inference mode have no version, and do not change.
        key = (weight.data_ptr(), weight.dtype, 0 if weight.is_inference() else weight._version)
        if self._kernels is None or self._kernels[0] != key:
            around, coarse = weight.detach().float().split((self.context, weight.shape[1] - self.context), dim=1)
            phases = [_phase(_phase(coarse, i, 2), j, 3) for i, j in PHASES]
            both = [k.to(weight.dtype).contiguous(memory_format=torch.channels_last) for k in (around, *phases)]
            rows = [k.permute(2, 3, 1, 0).flatten(0, 2).contiguous() for k in both]
            self._kernels = key, Kernels(both[0], tuple(both[1:]), rows[0], tuple(rows[1:]))
        return self._kernels[1]


class DetailConvolution(Convolution):
    """Features -> three bands of three colours."""

    def __init__(self, width: int) -> None:
        super().__init__(width, BANDS)

    def contributions(self) -> Tensor:
        """``(width, 9·9)``: of one place's features to the details around it, as ``fold`` wants them."""
        return self.weight.flip(2, 3).permute(1, 0, 2, 3).flatten(1)


def _phase(kernel: Tensor, odd: int, axis: int) -> Tensor:
    """Three taps along an axis -> two: an even place shares its second and third, an odd one its first and second."""
    first, second, third = kernel.split(1, axis)
    return torch.cat((first + second, third) if odd else (first, second + third), axis)


def plain(
    step: FeatureStep, detail: DetailConvolution, context: Tensor, coarse: Tensor, mask: Tensor, wide: Tensor
) -> tuple[Tensor, Tensor]:
    """Features ``(B, N, h, w)`` and details ``(B, 9, h, w)`` float32 of one level, by definition: with gradients.

    context: ``(B, C, h, w)``. coarse: ``(B, D, h/2, w/2)``. mask: ``(B, 1, h, w)`` bool, where details are wanted;
    wide: the same, a place wider: elsewhere features are 0.
    """
    grown = F.interpolate(coarse, scale_factor=2, mode="nearest")
    features = step[0](torch.cat((context, grown.to(context.dtype)), 1))
    features = F.leaky_relu(features * wide, SLOPE)
    return features, detail(features).float() * mask


def lean(
    step: FeatureStep,
    detail: DetailConvolution,
    context: tuple[Tensor, ...],
    coarse: Tensor,
    mask: Tensor,
    wide: Tensor,
    *,
    gather: bool,
    keep: bool,
) -> tuple[Tensor | None, Tensor]:
    """The same of one sample, without gradients. context: in pieces. coarse, and the features returned (if ``keep``),
    have a border: ``bordered``."""
    height, width = mask.shape[-2:]
    around = bordered(sum(piece.shape[1] for piece in context), height, width, step[0].weight)
    start = 0
    for piece in context:
        around[:, start : start + piece.shape[1], 1:-1, 1:-1] = piece
        start += piece.shape[1]
    coarse = coarse.to(around.dtype)
    kept = bordered(step[0].out_channels, height, width, around, clear=gather) if keep else None
    contributions = detail.contributions()
    # Each place's contributions to its 3×3 neighbours.
    made = around.new_zeros if gather else around.new_empty
    spread = made(height, width, BANDS * 9)
    if gather:
        places = _gathered(step, around, coarse, wide[0, 0])
        for y, x, rows in places:
            if kept is not None:
                kept[0].permute(1, 2, 0)[y + 1, x + 1] = rows
            spread[y, x] = rows @ contributions
    else:
        for rows, features in _strips(step, around, coarse, wide):
            if kept is not None:
                kept[:, :, rows.start + 1 : rows.stop + 1, 1:-1] = features
            spread[rows] = features[0].permute(1, 2, 0) @ contributions
    details = F.fold(spread.flatten(0, 1).mT[None].float(), (height, width), 3, padding=1)
    details += detail.bias.float()[:, None, None]
    return kept, details * mask


def bordered(channels: int, height: int, width: int, like: Tensor, *, clear: bool = False) -> Tensor:
    """``(1, channels, height + 2, width + 2)`` in channels_last, 0 at its edges, or everywhere."""
    shape, form = (1, channels, height + 2, width + 2), {"dtype": like.dtype, "device": like.device}
    if clear:
        return torch.zeros(shape[0], *shape[2:], channels, **form).permute(0, 3, 1, 2)
    planes = torch.empty(shape, **form, memory_format=torch.channels_last)
    planes[:, :, :: height + 1] = 0
    planes[..., :: width + 1] = 0
    return planes


def _strips(step: FeatureStep, around: Tensor, coarse: Tensor, wide: Tensor) -> Iterator[tuple[slice, Tensor]]:
    """Features of some rows at a time, ``(1, N, rows, w)``."""
    kernels, bias = step.kernels(), step[0].bias
    height, width = wide.shape[-2:]
    shown = wide.to(around.dtype)  # of another type the product would be made in float32 first
    rows = max(STRIP_NUMBERS // (width * len(bias)) // 2 * 2, 2) if around.device.type == "cpu" else height
    for part in strips(height, rows):
        features = F.conv2d(around[:, :, part.start : part.stop + 2], kernels.around, bias)
        for (i, j), kernel in zip(PHASES, kernels.coarse, strict=True):
            seen = coarse[:, :, part.start // 2 + i : part.stop // 2 + i + 1, j : j + width // 2 + 1]
            features[:, :, i::2, j::2] += F.conv2d(seen, kernel)
        yield part, F.leaky_relu_(features.mul_(shown[:, :, part]), SLOPE)


def _gathered(
    step: FeatureStep, around: Tensor, coarse: Tensor, wide: Tensor
) -> Iterator[tuple[Tensor, Tensor, Tensor]]:
    """Rows y ``(n,)``, columns x ``(n,)`` and features ``(n, N)`` of some active places at a time."""
    kernels, bias = step.kernels(), step[0].bias
    near, far = (planes[0].permute(1, 2, 0) for planes in (around, coarse))
    reach = [_reach(planes, size) for planes, size in ((near, 3), (far, 2))]
    near, far = near.flatten(0, 1), far.flatten(0, 1)
    for (i, j), kernel in zip(PHASES, kernels.rows_coarse, strict=True):
        active = torch.nonzero(wide[i::2, j::2])
        for half_y, half_x in (part.unbind(1) for part in active.split(GATHERED)):
            y, x = 2 * half_y + i, 2 * half_x + j
            seen = [
                rows.index_select(0, ((top * line + left)[:, None] + steps).flatten()).view(len(y), len(weights))
                for rows, (steps, line), top, left, weights in (
                    (near, reach[0], y, x, kernels.rows_around),
                    (far, reach[1], half_y + i, half_x + j, kernel),
                )
            ]
            features = torch.addmm(bias, seen[0], kernels.rows_around).addmm_(seen[1], kernel)
            yield y, x, F.leaky_relu_(features, SLOPE)


def _reach(planes: Tensor, size: int) -> tuple[Tensor, int]:
    """Of ``(h, w, C)``: from the number of a place to those of the ``size``² from it on; and places in a row."""
    width = planes.shape[1]
    ahead = torch.arange(size, device=planes.device)
    return (ahead[:, None] * width + ahead).flatten(), width
