"""The scene as tensors, the way ComfyUI hands a clip around: ``(N, H, W, 3)`` float32 in main memory."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

import numpy as np
import torch

from .scene import Scene

if TYPE_CHECKING:
    from torch import Tensor

    from .job import Job

_known: dict[tuple[int, int, int, str], Tensor] = {}
"""The last clip, which all slots of one contest share."""


def clip_of(job: Job, frames: int | None = None) -> Tensor:
    """The job's source frames; page-locked where they go to a GPU."""
    count = frames or job.frames
    key = (job.height, job.width, count, job.device)
    if key not in _known:
        _known.clear()
        scene = Scene(count, job.height, job.width)
        _known[key] = _filled(map(scene.at, range(count)), count, job)
    return _known[key]


def pictures_between(job: Job) -> Tensor:
    """The pictures half-way between them, with some of the fine detail gone: what the swap works on."""
    scene = Scene(job.frames, job.height, job.width)
    return _filled((scene.dulled(number + 0.5) for number in range(job.frames - 1)), job.frames - 1, job)


def _filled(pictures: Iterable[np.ndarray], count: int, job: Job) -> Tensor:
    clip = torch.empty((count, job.height, job.width, 3), pin_memory=job.device.startswith("cuda"))
    for place, picture in zip(clip, pictures, strict=True):
        place.copy_(torch.from_numpy(picture))
    return clip
