"""Convolutions whose answer is right on every CPU."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn


def conv2d(x: Tensor, weight: Tensor, bias: Tensor | None, stride: int, padding: int) -> Tensor:
    """``F.conv2d``, in float32 where a CPU's bfloat16 kernels would read what was never written.

    With matrix units (AMX) they do when a strided convolution makes a single column of several rows, and answer with
    other numbers every time, or NaN. Pictures of 16 columns or fewer come to that at a sixteenth of their size.
    """
    columns = (x.shape[-1] + 2 * padding - weight.shape[-1]) // stride + 1
    if columns == 1 and stride > 1 and x.dtype == torch.bfloat16 and x.device.type == "cpu":
        exact = None if bias is None else bias.float()
        return F.conv2d(x.float(), weight.float(), exact, stride, padding).to(x.dtype)
    return F.conv2d(x, weight, bias, stride, padding)


class Conv2d(nn.Conv2d):
    """``nn.Conv2d`` of square kernels and strides, by ``conv2d``."""

    def forward(self, x: Tensor) -> Tensor:
        return conv2d(x, self.weight, self.bias, self.stride[0], self.padding[0])
