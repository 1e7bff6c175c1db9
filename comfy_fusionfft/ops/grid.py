"""Places of a picture, as ``grid_sample`` and its transpose count them: -1 and 1 in the middle of the first and of the
last pixel (corners aligned)."""

from __future__ import annotations

import torch
from torch import Tensor


def pixel_places(flow: Tensor) -> tuple[Tensor, Tensor]:
    """Where the pixels of ``flow (…, H, W)`` lie: x ``(W,)`` and y ``(H,)``."""
    height, width = flow.shape[-2:]
    return (
        torch.arange(width, device=flow.device, dtype=torch.float32),
        torch.arange(height, device=flow.device, dtype=torch.float32),
    )


def sampling_grid(flow: Tensor, x: Tensor, y: Tensor, size: tuple[int, int], share: Tensor | None = None) -> Tensor:
    """Where ``flow``, or a share of it, leads from some places, in a picture of ``size (H, W)``: ``(B, h, w, 2)``.

    flow: ``(B, 2, h, w)`` float32 pixels. x: ``(w,)`` pixels; y: ``(h,)``, or ``(B, h)`` where pictures are bands.
    share: ``(B or 1, 1, 1, 1)``, a constant.
    """
    # A single row or column has no extent; any finite step will do, for its only coordinate is clamped.
    steps = [2 / max(side - 1, 1) for side in size[::-1]]
    starts = (x * steps[0] - 1, (y * steps[1] - 1)[..., None])
    if torch.is_grad_enabled() and flow.requires_grad:
        flow = flow if share is None else flow * share
        return torch.stack([start + flow[:, axis] * steps[axis] for axis, start in enumerate(starts)], dim=-1)
    planes = flow.new_empty(flow.shape)  # as fast to read as pairs, and several times faster to write
    for axis, start in enumerate(starts):
        if share is None:
            torch.add(start, flow[:, axis], alpha=steps[axis], out=planes[:, axis])
        else:
            torch.addcmul(start, flow[:, axis], share[:, 0] * steps[axis], out=planes[:, axis])
    return planes.permute(0, 2, 3, 1)
