"""What H.264 does to a clip, as training sees it: see ``video.compressed``. Only this needs PyAV; packs do not."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from ..errors import InputError
from ..video.compressed import compressed as through_h264

CRFS = (15, 25, 35)
"""Qualities that networks for compressed video learn from: next to nothing lost, as on the web, and far less."""


def compressed(frames: Tensor, crf: int) -> Tensor:
    """``(N, 3, H, W)`` uint8 RGB -> the same after H.264, on the same device.

    crf: 0 … 51, the worst. Raises InputError where there is no PyAV, MediaError where it has no libx264.
    """
    pictures = frames.permute(0, 2, 3, 1).cpu().numpy()
    seen = list(through_h264(pictures, crf))
    if len(seen) != len(pictures):
        raise InputError(
            f"libx264 gave back {len(seen)} of {len(pictures)} frames: install another version of PyAV (pip install av)"
        )
    return torch.from_numpy(np.stack(seen)).permute(0, 3, 1, 2).to(frames.device).contiguous()
