"""Dense inverse search (DIS): fast classical motion between two grey pictures, on the CPU.

"Fast Optical Flow using Dense Inverse Search", Kroeger et al., ECCV 2016; the search itself is OpenCV's.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Literal, get_args

import cv2
import numpy as np
import torch
from torch import Tensor

from ..errors import InputError
from .strips import strip_rows, strips

SMALLEST_SIDE = 48
"""Below this OpenCV's choice of pyramid levels fails, or crashes: such pictures are extended first."""

_THERE_AND_BACK = np.float32((0.125, 0.75, 0.125))
_LUMA = (0.299, 0.587, 0.114)

Preset = Literal["ultrafast", "fast", "medium"]


class DenseInverseSearch:
    """``search(source, target)``: motion from each pixel of ``source (H, W)`` uint8 to ``target``, ``(H, W, 2)``
    float32 pixels, pictures of any size. Deterministic, whatever the number of threads.

    halved: the pictures given have been halved (``cv2.INTER_AREA``), and so has the motion found. It is what the
        search finds between the whole ones, halved, for sides of at least ``SMALLEST_SIDE``; but that search ends at
        their half anyway, and would double its answer in vain.
    stride: pixels between patches. rounds: of refinement at each scale. None: the preset's (medium: 3, 5).
    """

    def __init__(
        self, preset: Preset = "medium", *, halved: bool = False, stride: int | None = None, rounds: int | None = None
    ) -> None:
        if preset not in get_args(Preset):
            raise InputError(f"DIS preset {preset!r} is not known: use {', '.join(get_args(Preset))}")
        self._finder = cv2.DISOpticalFlow.create(getattr(cv2, f"DISOPTICAL_FLOW_PRESET_{preset.upper()}"))
        self._busy = threading.Lock()  # a finder works in memory of its own
        self._halved = halved
        if halved and self._finder.getFinestScale() != 1:
            raise InputError(f"DIS preset {preset!r} does not end at half the size: use medium for halved pictures")
        if halved:  # it begins at the same size as before: OpenCV counts down from the pictures' own
            self._finder.setFinestScale(0)
        if stride is not None:
            self._finder.setPatchStride(stride)
        if rounds is not None:
            self._finder.setVariationalRefinementIterations(rounds)
        self._finest, self._patch = self._finder.getFinestScale(), self._finder.getPatchSize()

    def __call__(self, source: np.ndarray, target: np.ndarray) -> np.ndarray:
        height, width = source.shape
        smallest = SMALLEST_SIDE // 2 if self._halved else SMALLEST_SIDE
        missing = (0, max(0, smallest - height), 0, max(0, smallest - width))
        if any(missing):
            source, target = (cv2.copyMakeBorder(x, *missing, cv2.BORDER_REPLICATE) for x in (source, target))
        with self._busy:
            self._finder.setFinestScale(self._finest)  # small pictures change both, and for good
            self._finder.setPatchSize(self._patch)
            flow = self._finder.calc(source, target, None)
        if self._halved:  # what doubling the answer and halving it again does to it
            flow = cv2.sepFilter2D(flow, -1, _THERE_AND_BACK, _THERE_AND_BACK, borderType=cv2.BORDER_REPLICATE)
        return np.ascontiguousarray(flow[:height, :width])


def brightness(image: Tensor) -> Tensor:
    """``(B, 3, H, W)`` RGB -> ``(B, 1, H, W)`` float32."""
    weights = image.new_tensor(_LUMA, dtype=torch.float32).view(3, 1, 1)
    batch, _, height, width = image.shape
    made = image.new_empty(batch, 1, height, width, dtype=torch.float32)
    for rows in strips(height, strip_rows(height, 3 * batch * width, image.device)):
        torch.sum(image[:, :, rows].float() * weights, 1, keepdim=True, out=made[:, :, rows])
    return made


def grey_bytes(image: Tensor) -> np.ndarray:
    """``(1, 3, H, W)`` RGB in 0..1, or its ``brightness``, on any device -> ``(H, W)`` uint8, what is searched."""
    grey = brightness(image) if image.shape[1] == 3 else image
    return grey[0, 0].clamp(0, 1).mul_(255).round_().to(torch.uint8).cpu().numpy()


def run_all(jobs: Sequence[Callable[[], None]]) -> None:
    """Run jobs that leave Python alone, as OpenCV's do, as many at a time as PyTorch would."""
    threads = min(torch.get_num_threads(), len(jobs))
    if threads > 1:
        with ThreadPoolExecutor(threads, "search") as pool:
            for _ in pool.map(_call, jobs):
                pass
    else:
        for job in jobs:
            job()


def _call(job: Callable[[], None]) -> None:
    job()
