"""Between planes, as pictures are stored and sampled, and channels last, as convolutions read them.

On a CPU a matrix product with the identity, which is exact, turns planes of a strip around in two thirds of the time
that a transposing copy takes, and half-precision ones back in a fifth.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor


def empty_channels_last(like: Tensor, *shape: int) -> Tensor:
    return torch.empty(shape, dtype=like.dtype, device=like.device, memory_format=torch.channels_last)


def write_channels_last(planes: Tensor, target: Tensor) -> None:
    """Copy ``(B, C, h, w)`` planes, contiguous, to rows of a picture in channels_last, of the same shape and dtype."""
    if planes.device.type != "cpu":
        target.copy_(planes)
        return
    same = torch.eye(planes.shape[1], dtype=planes.dtype)
    for source, rows in zip(planes.flatten(2), target.permute(0, 2, 3, 1).flatten(1, 2), strict=True):
        torch.mm(source.mT, same, out=rows)


def planes_of(picture: Tensor) -> Tensor:
    """``(B, C, h, w)`` in channels_last -> the same as contiguous planes."""
    if picture.device.type != "cpu":
        return picture.contiguous()
    same = torch.eye(picture.shape[1], dtype=picture.dtype)
    planes = picture.new_empty(*picture.shape[:2], picture.shape[2] * picture.shape[3])
    for rows, target in zip(picture.permute(0, 2, 3, 1).flatten(1, 2), planes, strict=True):
        torch.mm(same, rows.mT, out=target)
    return planes.unflatten(2, picture.shape[-2:])


def pixel_shuffled(picture: Tensor, out: Tensor | None = None) -> Tensor:
    """``F.pixel_shuffle(picture, 2)`` for ``(B, 4c, h, w)`` in channels_last -> float32 planes ``(B, c, 2h, 2w)``.

    out: where to write them; its rows must be contiguous.
    """
    planes = planes_of(picture).float()
    batch, count, height, width = len(planes), planes.shape[1] // 4, *planes.shape[2:]
    if out is None:
        out = planes.new_empty(batch, count, 2 * height, 2 * width)
    if planes.device.type != "cpu":
        return out.copy_(F.pixel_shuffle(planes, 2))
    parts = planes.unflatten(1, (count, 2, 2))  # (B, c, row, column, h, w)
    pairs = torch.view_as_complex(out.unflatten(3, (width, 2)).unflatten(2, (height, 2)))  # (B, c, h, row, w)
    for row in (0, 1):  # neighbours in a row, written as real and imaginary part, take one pass
        torch.complex(parts[:, :, row, 0], parts[:, :, row, 1], out=pairs[:, :, :, row])
    return out
