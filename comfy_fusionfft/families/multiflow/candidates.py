"""Several guesses at the motion between two frames, each right where others are wrong.

Dense inverse search (DIS) on the picture; again with a margin around it, which moves its patches and with them its
errors; on the picture's half with its contrast levelled, against flicker, fades and shadows; on its quarter, for motion
larger than the details. Farneback's polynomials on the quarter, which err in other places. And the one plane that most
of the picture moves with (a homography): bare walls and roads, where there is nothing to match.

Found at half of the pictures' size, which is the finest that DIS computes, both ways. ``at_times`` carries them to
the instants; each way makes a guess of its own there. Standing still is the last guess.

What each adds on 54 instants of held-out clips, where one chooses by the smaller difference of the two frames (first
figure, dB over DIS alone at 2x / 4x) or by the truth (second):

    DIS alone                                     0.03  0.02
    with DIS in a margin of 40 pixels             0.07  0.10      0.23  0.35
    with DIS, half size, levelled                 0.03  0.04      0.26  0.34
    with DIS, quarter size                        0.02  0.03      0.31  0.40
    with Farneback, quarter size                  0.02  0.04      0.29  0.46
    with the plane                                0.06  0.05      0.49  0.58
    with standing still                           0.07  0.06      0.56  0.56

"FusionFlow: Discrete-Continuous Optimization for Optical Flow Estimation", Lempitsky et al., CVPR 2008, chooses
among such guesses by graph cuts; here a network does (``net``). "Two-Frame Motion Estimation Based on Polynomial
Expansion", Farneback, SCIA 2003.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import NamedTuple

import cv2
import numpy as np
import torch
from torch import Tensor

from ...ops.dis import DenseInverseSearch, run_all
from ...ops.intermediate import carried, flow_weight, linear_velocity, velocity_of, visibility_mask
from ...ops.strips import strip_rows, strips

SEARCHES = ("whole", "margin", "levelled", "quarter", "polynomials", "plane")
COUNT = 2 * len(SEARCHES) + 1
"""Guesses at an instant: each search both ways, and standing still."""
SHRINK = 2

MARGIN = 40
STRIDE, ROUNDS = 3, 5
"""Of the searches on the whole picture, without and with its margin: ``DenseInverseSearch``.

All searches of a pair at 854×480 on one core, and mean PSNR of fusion along what the embedded network makes of them, on
four development clips at 2x, 4x and 8x: coarser searches look as good for small motion, and lose at large motion.

    stride 3, rounds 5    200 ms    33.66  30.67  25.85 dB
    stride 4, rounds 5    164 ms    33.68  30.64  25.71 dB
    stride 5, rounds 3    127 ms    33.63  30.53  25.67 dB
"""
_GRID = 8  # pixels between the matches a plane is fitted to
_FEWEST = 24


class Greys(NamedTuple):
    """What is computed once per frame: half of ``(H, W)`` uint8, half of it with a margin, its half levelled, its
    quarter."""

    whole: np.ndarray
    margin: np.ndarray
    levelled: np.ndarray
    quarter: np.ndarray


def prepare(grey: np.ndarray) -> Greys:
    """``(H, W)`` uint8, sides multiples of 4."""
    around = cv2.copyMakeBorder(grey, MARGIN, MARGIN, MARGIN, MARGIN, cv2.BORDER_REPLICATE)
    half = _shrunk(grey, 2)
    return Greys(half, _shrunk(around, 2), level(half), _shrunk(grey, 4))


def _shrunk(grey: np.ndarray, by: int) -> np.ndarray:
    height, width = grey.shape
    return cv2.resize(grey, (width // by, height // by), interpolation=cv2.INTER_AREA)


def level(grey: np.ndarray) -> np.ndarray:
    """Without local brightness and contrast: the difference from the mean around, in units of its spread."""
    picture = grey.astype(np.float32)
    difference = picture - cv2.GaussianBlur(picture, (0, 0), 4)
    spread = cv2.sqrt(cv2.GaussianBlur(difference * difference, (0, 0), 8)) + 4
    return np.clip(128 + 40 * difference / spread, 0, 255).astype(np.uint8)


def search(left: Greys, right: Greys) -> np.ndarray:
    """-> ``(len(SEARCHES), 2, H/2, W/2, 2)`` float32: left to right and back, in pixels of the half-size picture.

    In memory x and y lie in planes of their own.
    """
    height, width = left.levelled.shape
    found = np.empty((len(SEARCHES), 2, 2, height, width), np.float32)
    ways = ((left, right), (right, left))
    whole: dict[int, np.ndarray] = {}

    def find(name: str, way: int) -> None:
        source, target = (getattr(each, {"polynomials": "quarter"}.get(name, name)) for each in ways[way])
        flow = _sized(_FINDERS[name](source, target), width, height)
        if name == "whole":
            whole[way] = flow
        _write(flow, found[SEARCHES.index(name), way])

    def plane(way: int) -> None:
        _write(_plane(whole[way], whole[1 - way]), found[SEARCHES.index("plane"), way])

    # The longest come first, so that nobody waits for them at the end.
    run_all([partial(find, name, way) for name in _FINDERS for way in (0, 1)])
    run_all([partial(plane, way) for way in (0, 1)])
    return np.moveaxis(found, 2, -1)


def _whole(source: np.ndarray, target: np.ndarray) -> np.ndarray:
    return DenseInverseSearch(halved=True, stride=STRIDE, rounds=ROUNDS)(source, target)


def _in_margin(source: np.ndarray, target: np.ndarray) -> np.ndarray:
    inner = slice(MARGIN // 2, -MARGIN // 2)
    return np.ascontiguousarray(_whole(source, target)[inner, inner])


def _polynomials(source: np.ndarray, target: np.ndarray) -> np.ndarray:
    return cv2.calcOpticalFlowFarneback(source, target, None, 0.5, 5, 15, 4, 7, 1.5, 0)


_FINDERS: dict[str, Callable[[np.ndarray, np.ndarray], np.ndarray]] = {
    "margin": _in_margin,
    "whole": _whole,
    "levelled": lambda source, target: DenseInverseSearch()(source, target),
    "polynomials": _polynomials,
    "quarter": lambda source, target: DenseInverseSearch()(source, target),
}


def _sized(flow: np.ndarray, width: int, height: int) -> np.ndarray:
    """``(H', W', 2)`` pixels, no larger -> the same motion of a picture of this size."""
    if flow.shape[:2] == (height, width):
        return flow
    stretch = (width / flow.shape[1], height / flow.shape[0])
    flow = cv2.resize(flow, (width, height), interpolation=cv2.INTER_LINEAR)
    return np.multiply(flow, np.float32(stretch), out=flow)


def _write(flow: np.ndarray, planes: np.ndarray) -> None:
    for axis in (0, 1):
        cv2.extractChannel(flow, axis, planes[axis])


def _plane(there: np.ndarray, back: np.ndarray) -> np.ndarray:
    """The homography that most of ``there`` follows, as flow; ``there`` itself where there is none."""
    height, width = there.shape[:2]
    y, x = np.mgrid[_GRID // 2 : height : _GRID, _GRID // 2 : width : _GRID]
    if x.size < _FEWEST:
        return there
    way = there[y, x]
    returned = cv2.remap(back, x.astype(np.float32) + way[..., 0], y.astype(np.float32) + way[..., 1], cv2.INTER_LINEAR)
    kept = ((way + returned) ** 2).sum(-1) < 0.25 + 0.01 * (way**2).sum(-1)
    places = np.stack((x, y), -1)[kept].astype(np.float32)
    if len(places) < _FEWEST:
        return there
    matrix, _ = cv2.findHomography(places, places + way[kept], cv2.RANSAC, 0.75, maxIters=300)
    if matrix is None:
        return there
    grid = np.stack(np.meshgrid(np.arange(width), np.arange(height)), -1).astype(np.float32)
    moved = cv2.perspectiveTransform(grid.reshape(-1, 1, 2), matrix).reshape(height, width, 2)
    flow = moved - grid
    # Far from what it was fitted to, a plane may lead anywhere.
    return flow if np.abs(flow).max() < 2 * max(height, width) else there


@torch.no_grad()
def weights(found: Tensor) -> Tensor:
    """``(B, K, 2, 2, h, w)`` from ``search`` -> what ``at_times`` needs of it at every instant, ``(B, K, 2, h, w)``."""
    made = found.new_empty(*found.shape[:3], *found.shape[-2:])
    for kinds in _together(found):
        pairs = found[:, kinds].flatten(0, 1)
        for way in (0, 1):
            weight = flow_weight(pairs[:, way], pairs[:, 1 - way])
            made[:, kinds, way] = weight.view(made[:, kinds, way].shape)
    return made


@torch.no_grad()
def at_times(
    found: Tensor, times: Tensor, weight: Tensor | None = None, empty: Callable[..., Tensor] = torch.empty
) -> tuple[Tensor, Tensor, Tensor]:
    """``(B, K, 2, 2, h, w)`` from ``search`` and ``(B,)`` in (0, 1) -> guesses at these instants.

    weight: ``weights(found)``, where it is known already. empty: where results are put, ``torch.empty`` or the like.

    velocity: ``(B, COUNT, 2, h, w)`` pixels from the left to the right frame, for each place at the instant.
    trust: ``(B, COUNT - 1, h, w)`` in 0..1: how far a guess led there from a frame, and is the same forth and back.
    mask: ``(B, 1, h, w)``, the logit of "take the left frame", of the first search.
    """
    batch, (height, width) = len(found), found.shape[-2:]
    like = {"dtype": torch.float32, "device": found.device}
    weight = weights(found) if weight is None else weight
    velocity = empty(batch, COUNT, 2, height, width, **like)
    trust = empty(batch, COUNT - 1, height, width, **like)
    velocity[:, -1] = 0
    t = times.to(found).view(-1, 1, 1, 1)
    way = 1 - 2 * torch.arange(2, device=found.device).view(2, 1, 1, 1)
    for kinds in _together(found):
        pairs = found[:, kinds]  # (B, k, 2 ways, 2, h, w)
        when = t.repeat_interleave(pairs.shape[1], 0)  # (B·k, 1, 1, 1)
        share = torch.cat((when, 1 - when), 1).view(-1, 1, 1, 1)
        sums = carried(pairs.flatten(0, 2), weight[:, kinds].flatten(0, 2)[:, None], share)
        guesses = slice(2 * kinds.start, 2 * kinds.stop)
        for rows in strips(height, strip_rows(height, len(sums) * width, found.device)):
            there, back = pairs[..., rows, :].flatten(0, 1).unbind(1)
            between = linear_velocity(there, back, when).repeat_interleave(2, 0)  # (B·k·2, 2, rows, w)
            made = velocity_of(sums[:, :, rows], between, way.repeat(len(there), 1, 1, 1))
            velocity[:, guesses, :, rows] = made.unflatten(0, (batch, -1))
            trust[:, guesses, rows] = sums[:, 3, rows].clamp(max=1).unflatten(0, (batch, -1))
        if kinds.start == 0:
            seen = sums[:, 2].unflatten(0, (batch, -1))[:, :2]  # (B, 2, h, w)
            mask = visibility_mask(seen[:, :1], seen[:, 1:], t)
    return velocity, trust, mask


def _together(found: Tensor) -> list[slice]:
    """The kinds that are worked on at a time: on a CPU one, which it holds in its caches."""
    step = 1 if found.device.type == "cpu" else found.shape[1]
    return [slice(start, min(start + step, found.shape[1])) for start in range(0, found.shape[1], step)]
