"""Forward warping: every pixel is carried along its own flow and laid down where it lands.

Backward warping asks each output pixel where it came from; splatting asks each input pixel where it
goes, which is the question an optical flow answers. Several pixels may land on one place (they are
averaged by weight) and none on another (a hole, reported as zero coverage).

Flow is in pixels, x before y, pixel centres at 0 .. size-1. A pixel is shared among the four grid
points around its landing place in bilinear proportion; what falls outside the picture is lost.
"Softmax Splatting for Video Frame Interpolation", Niklaus & Liu, CVPR 2020, calls the two functions
here summation and average splatting.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.autograd.function import once_differentiable

from .grid import pixel_places, sampling_grid

_BILINEAR, _ZEROS = 0, 0  # as the operators of torch.ops.aten count them
_WITH_TRANSPOSE = ("cpu", "cuda", "xpu")
"""Devices that have the backward pass of ``grid_sample`` in every version of PyTorch this runs on."""


def splat_sum(values: Tensor, flow: Tensor) -> Tensor:
    """``(B, C, H, W)`` carried along ``flow (B, 2, H, W)`` and added up -> ``(B, C, H, W)`` float32.

    Differentiable in ``values`` and ``flow``.
    """
    batch, channels, height, width = values.shape
    values, flow = values.float(), flow.float()
    grid_y = torch.arange(height, device=flow.device, dtype=torch.float32).view(-1, 1)
    grid_x = torch.arange(width, device=flow.device, dtype=torch.float32)
    # A rim of one pixel swallows what leaves the picture: clamped to -1 .. size, it lands on the rim alone.
    x = (grid_x + flow[:, 0]).clamp(-1, width)
    y = (grid_y + flow[:, 1]).clamp(-1, height)
    x0, y0 = x.detach().floor().clamp_(max=width - 1), y.detach().floor().clamp_(max=height - 1)
    fx, fy = x - x0, y - y0

    stride = width + 2
    corner = (y0 + 1).long() * stride + (x0 + 1).long()  # (B, H, W)
    corner = corner.view(batch, 1, -1)
    flat = values.reshape(batch, channels, -1)
    canvas = flat.new_zeros(batch, channels, (height + 2) * stride)
    for step, weight in (
        (0, (1 - fx) * (1 - fy)),
        (1, fx * (1 - fy)),
        (stride, (1 - fx) * fy),
        (stride + 1, fx * fy),
    ):
        canvas.scatter_add_(2, (corner + step).expand_as(flat), flat * weight.view(batch, 1, -1))
    return canvas.view(batch, channels, height + 2, stride)[:, :, 1:-1, 1:-1]


def splat_sum_fast(values: Tensor, flow: Tensor, share: Tensor | None = None) -> Tensor:
    """``splat_sum(values, share * flow)`` in one compiled loop, without tables of places and shares.

    share: ``(B or 1, 1, 1, 1)``, a constant; None: all of it.

    Laying down is looking up, transposed: what bilinear sampling sends back to its picture is the sum of what its
    places receive. So the backward pass of ``grid_sample`` is the forward pass here, and the other way round.
    Places are as exact as its coordinates, a few 1e-5 of a pixel in full HD: where ``splat_sum`` leaves exactly
    nothing, traces of that size may lie.
    """
    if values.device.type not in _WITH_TRANSPOSE:
        return splat_sum(values, flow if share is None else share * flow)
    share = flow.new_ones(1, 1, 1, 1) if share is None else share
    return _Transpose.apply(values.float(), flow.float(), share.float())


class _Transpose(torch.autograd.Function):
    @staticmethod
    def forward(ctx, values: Tensor, flow: Tensor, share: Tensor) -> Tensor:
        height, width = values.shape[-2:]
        # A side of one pixel has no extent to count places in: two are laid out, and the second is cut off.
        size = (max(height, 2), max(width, 2))
        places = sampling_grid(flow, *pixel_places(flow), size, share)
        ctx.save_for_backward(values, places, share)
        picture = values.new_zeros(()).expand(*values.shape[:2], *size)  # its shape is all that matters
        transposed = torch.ops.aten.grid_sampler_2d_backward
        made = transposed(values, picture, places, _BILINEAR, _ZEROS, True, [True, False])[0]
        return made[..., :height, :width]

    @staticmethod
    @once_differentiable
    def backward(ctx, gradient: Tensor):
        values, places, share = ctx.saved_tensors
        height, width = values.shape[-2:]
        steps = [2 / (max(side, 2) - 1) for side in (width, height)]
        gradient = F.pad(gradient, (0, int(width == 1), 0, int(height == 1)))
        how = (places, _BILINEAR, _ZEROS, True)
        to_values = torch.ops.aten.grid_sampler_2d(gradient, *how)
        _, to_places = torch.ops.aten.grid_sampler_2d_backward(values, gradient, *how, [False, True])
        return to_values, (to_places * to_places.new_tensor(steps)).permute(0, 3, 1, 2) * share, None


def splat_average(values: Tensor, flow: Tensor, weight: Tensor | None = None) -> tuple[Tensor, Tensor]:
    """Weighted mean of all that lands on each pixel, and how much landed there.

    values ``(B, C, H, W)``, flow ``(B, 2, H, W)``, weight ``(B, 1, H, W)`` >= 0 (None: one for each pixel)
    -> mean ``(B, C, H, W)``, zero in holes, and coverage ``(B, 1, H, W)``, the sum of weights.
    """
    if weight is None:
        weight = torch.ones_like(flow[:, :1])
    total = splat_sum(torch.cat((values * weight, weight), dim=1), flow)
    mean, coverage = total[:, :-1], total[:, -1:]
    # Where nothing landed the sum is zero as well, so any divisor will do.
    return mean / torch.where(coverage > 0, coverage, 1.0), coverage


def splat_blend(img0: Tensor, img1: Tensor, flow01: Tensor, flow10: Tensor, t: float) -> Tensor:
    """The plainest picture at t: both frames average-splatted there and averaged -> ``(B, C, H, W)`` float32.

    img0, img1: ``(B, C, H, W)``. flow01, flow10: ``(B, 2, H, W)`` pixels. t in 0..1. A hole of one side is
    filled from the other; where both have one, the picture is zero. No mask, no weighting by time: the
    baseline on which published figures for bidirectional flow rest.
    """
    from0, seen0 = splat_average(img0, t * flow01)
    from1, seen1 = splat_average(img1, (1 - t) * flow10)
    return (torch.where(seen0 > 0, from0, from1) + torch.where(seen1 > 0, from1, from0)) / 2
