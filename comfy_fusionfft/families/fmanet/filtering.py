"""Filters of their own for every pixel, applied tap by tap: nothing the size of kernels times colours ever exists.

One kernel spans all frames of a window. *Shrinking* kernels, in sharp pixels, say how a sharp video became the blurred
one; *enlarging* ones, in blurred pixels, one for each of s×s places within a pixel, undo it.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import product
from math import isqrt

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.autograd.function import once_differentiable


def shrink(frames: Tensor, weights: Tensor, kernels: Tensor, scale: int) -> Tensor:
    """Blur and shrink: ``(B, C, h, w)`` float32.

    frames: ``(B, T, C, s·h, s·w)``, weighted. weights: ``(B, T, 1, s·h, s·w)``, how much each pixel counts.
    kernels: logits ``(B, T, k², h, w)``, k even. scale: s.
    """
    side = _side(kernels)
    shares = kernels.float().flatten(1, 2).softmax(1).unflatten(1, kernels.shape[1:3])
    seen = continued(torch.cat((frames, weights), 2).float(), (side - scale) // 2)
    made = filtered(seen, shares[:, :, None], side, scale)[:, :, 0]  # B C+1 h w
    return made[:, :-1] / (made[:, -1:] + 1e-8)


def enlarge(frames: Tensor, kernels: Tensor, scale: int) -> Tensor:
    """Sharpen and enlarge: ``(B, C, s·h, s·w)`` float32.

    frames: ``(B, T, C, h, w)``. kernels: logits ``(B, T, s²·k², h, w)``, k odd. scale: s.
    """
    return enlarge_inner(continued(frames.float(), _side(kernels, scale) // 2), kernels, scale)


def enlarge_inner(frames: Tensor, kernels: Tensor, scale: int) -> Tensor:
    """The same of frames that have a border of k // 2 pixels already."""
    made = filtered(frames, summing_to_one(kernels, scale), _side(kernels, scale))
    return F.pixel_shuffle(made.flatten(1, 2), scale)


def continued(frames: Tensor, border: int) -> Tensor:
    """``(B, T, C, H, W)`` with its border pixels repeated outwards."""
    return F.pad(frames.flatten(0, 1), (border,) * 4, mode="replicate").unflatten(0, frames.shape[:2])


def summing_to_one(kernels: Tensor, scale: int) -> Tensor:
    """Logits ``(B, T, s²·k², h, w)`` -> ``(B, T, s², k², h, w)`` float32, shifted until the taps of a place, in all
    frames together, add up to 1; unlike shares they may be negative, which sharpens."""
    taps = kernels.float().unflatten(2, (scale**2, -1))
    return taps + (1 / (taps.shape[1] * taps.shape[3]) - taps.mean((1, 3), keepdim=True))


def filtered(frames: Tensor, kernels: Tensor, side: int, stride: int = 1) -> Tensor:
    """frames: ``(B, T, C, H, W)``. kernels: ``(B, T, S, side², h, w)``, where H = stride·(h-1) + side.

    -> ``(B, C, S, h, w)``. Differentiable once in both.
    """
    return _Filtered.apply(frames, kernels, side, stride)


class _Filtered(torch.autograd.Function):
    """Left to autograd, every tap would keep, and in the way back fill, tensors of the size of everything."""

    @staticmethod
    def forward(ctx, frames: Tensor, kernels: Tensor, side: int, stride: int) -> Tensor:
        ctx.save_for_backward(frames, kernels)
        ctx.side, ctx.stride = side, stride
        made = frames.new_zeros(len(frames), frames.shape[2], kernels.shape[2], *kernels.shape[-2:])
        for t, tap, rows, columns in _taps(frames, kernels, side, stride):
            made.addcmul_(frames[:, t, :, None, rows, columns], kernels[:, t, None, :, tap])
        return made

    @staticmethod
    @once_differentiable
    def backward(ctx, wanted: Tensor) -> tuple[Tensor | None, ...]:
        frames, kernels = ctx.saved_tensors
        of_frames = torch.zeros_like(frames) if ctx.needs_input_grad[0] else None
        of_kernels = torch.empty_like(kernels) if ctx.needs_input_grad[1] else None
        for t, tap, rows, columns in _taps(frames, kernels, ctx.side, ctx.stride):
            if of_frames is not None:
                of_frames[:, t, :, rows, columns] += (wanted * kernels[:, t, None, :, tap]).sum(2)
            if of_kernels is not None:
                of_kernels[:, t, :, tap] = (wanted * frames[:, t, :, None, rows, columns]).sum(1)
        return of_frames, of_kernels, None, None


def _taps(frames: Tensor, kernels: Tensor, side: int, stride: int) -> Iterator[tuple[int, int, slice, slice]]:
    """Frame, tap, and the rows and columns of the frame that it meets."""
    height, width = (stride * (size - 1) + 1 for size in kernels.shape[-2:])
    for t, y, x in product(range(frames.shape[1]), range(side), range(side)):
        yield t, y * side + x, slice(y, y + height, stride), slice(x, x + width, stride)


def _side(kernels: Tensor, scale: int = 1) -> int:
    return isqrt(kernels.shape[2] // scale**2)
