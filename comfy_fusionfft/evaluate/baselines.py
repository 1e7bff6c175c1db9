"""What interpolation is measured against: averaging, plain DIS warping, a teacher's flow with splatting.

Pictures are ``(H, W, 3)`` RGB uint8. These are fixed points of comparison: they are not to be improved.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import torch
from torch import Tensor

from ..contract import Host
from ..ops.splat import splat_blend
from .intervals import Interval

Maker = Callable[[Interval, int], np.ndarray]
"""Interval and wanted frame number -> ``(H, W, 3)`` uint8."""


def average(left: np.ndarray, right: np.ndarray, t: float) -> np.ndarray:
    """(1 - t)·left + t·right of ``(H, W, 3)`` uint8."""
    return cv2.addWeighted(left, 1 - t, right, t, 0)


def dis_baseline(left: np.ndarray, right: np.ndarray, t: float, motion: tuple[np.ndarray, np.ndarray]) -> np.ndarray:
    """Plain DIS warping of ``(H, W, 3)`` uint8: flow scaled by time, a hard forward-backward check as mask.

    motion: ``dis_motion(left, right)``. A fixed point of comparison: it is not to be improved.
    """
    forward, backward = motion
    trust_left, trust_right = _consistent(backward, forward), _consistent(forward, backward)
    weight_left, weight_right = (1 - t) * (trust_left + 1e-3), t * (trust_right + 1e-3)
    weight = (weight_left / (weight_left + weight_right))[..., None]
    mixed = weight * _warp(left, t * backward) + (1 - weight) * _warp(right, (1 - t) * forward)
    return np.round(mixed).clip(0, 255).astype(np.uint8)


def dis_motion(left: np.ndarray, right: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """OpenCV's DIS, medium preset, of two ``(H, W, 3)`` uint8 -> forward and backward ``(H, W, 2)`` pixels."""
    finder = cv2.DISOpticalFlow.create(cv2.DISOPTICAL_FLOW_PRESET_MEDIUM)
    height, width = left.shape[:2]
    missing = (0, max(0, 48 - height), 0, max(0, 48 - width))  # DIS refuses smaller pictures
    a, b = (
        cv2.copyMakeBorder(cv2.cvtColor(x, cv2.COLOR_RGB2GRAY), *missing, cv2.BORDER_REPLICATE) for x in (left, right)
    )
    return finder.calc(a, b, None)[:height, :width], finder.calc(b, a, None)[:height, :width]


def _consistent(there: np.ndarray, back: np.ndarray) -> np.ndarray:
    """1 where going there and back ends within half a pixel and 1 % of the way, else 0."""
    returned = _warp(back, there)
    miss = ((there + returned) ** 2).sum(2)
    return (miss < 0.01 * ((there**2).sum(2) + (returned**2).sum(2)) + 0.5).astype(np.float32)


def _warp(picture: np.ndarray, flow: np.ndarray) -> np.ndarray:
    y, x = np.mgrid[: flow.shape[0], : flow.shape[1]].astype(np.float32)
    # Float in, float out: OpenCV interpolates 8-bit pictures in coarse fixed point.
    picture = picture.astype(np.float32, copy=False)
    return cv2.remap(picture, x + flow[..., 0], y + flow[..., 1], cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)


class _PerInterval:
    """Finds the motion of an interval once for all its frames, which are asked for one after the other."""

    def __init__(self, find: Callable[[Interval], Any]) -> None:
        self._find = find
        self._interval: Interval | None = None

    def __call__(self, interval: Interval) -> Any:
        if interval is not self._interval:
            self._interval, self._found = interval, self._find(interval)
        return self._found


def _dis_warping() -> Maker:
    motion = _PerInterval(lambda interval: dis_motion(*interval.pair))
    return lambda interval, wanted: dis_baseline(*interval.pair, interval.time(wanted), motion(interval))


MAKERS: dict[str, Callable[[], Maker]] = {
    "average": lambda: lambda interval, wanted: average(*interval.pair, interval.time(wanted)),
    "dis-baseline": _dis_warping,
}


def splatting(weights: str | Path, host: Host) -> Maker:
    """The teacher's flow, both frames splatted to the instant and mixed by coverage: a stronger baseline."""
    from ..train.teacher import Teacher

    @cache
    def network(levels: int | None) -> Teacher:
        # A place of its own: the host's half precision is for networks that were tested in it.
        return Teacher(weights, levels).to(host.device)

    def pair(interval: Interval) -> list[Tensor]:
        return [torch.from_numpy(p).permute(2, 0, 1)[None].to(host.device).float() / 255 for p in interval.pair]

    motion = _PerInterval(lambda interval: network(interval.teacher_levels).bidirectional(*pair(interval)))
    network(None)  # a missing or wrong file is told before anything is measured

    @torch.no_grad()
    def make(interval: Interval, wanted: int) -> np.ndarray:
        made = splat_blend(*pair(interval), *motion(interval), interval.time(wanted))
        return (made[0].permute(1, 2, 0).clamp(0, 1) * 255).round().to(torch.uint8).cpu().numpy()

    return make
