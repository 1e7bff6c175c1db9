"""The frames around an instant, and how the points of the instant move to them.

An instant t lies between frames i and i+1. Anchor k = 1, 2, … N is the pair (i-k+1, i+k), nested around
it, with span 2k-1. Only the nearest pair needs motion found *for t*. The way on to farther frames is
chained: every interval has a ``Link``, its motion on the grids of its own two frames, and a point that
has reached a frame reads there where it goes next. Links come from flows that in-between frames of
their own intervals need anyway, so three anchors cost no flow call more than one.

Flow is in pixels, x before y, corner-aligned. An anchor's side that leaves the clip is invalid; its
displacement is then that of the last frame before it and must not be used.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from ...ops.grid import pixel_places
from ...ops.strips import strip_rows, strips
from ...ops.warp import look_up

INVERSION_STEPS = 3
"""Fixed-point steps from an instant's grid to a frame's: further ones change motion by 0.01 px on real clips."""


class Link(NamedTuple):
    """Motion between two neighbouring frames, each way on the grid of the frame where it starts.

    ahead: ``(B, 2, H, W)`` from the left frame to the right one. back: from the right frame to the left.
    """

    ahead: Tensor
    back: Tensor


class Anchors(NamedTuple):
    """Where the points of an instant lie in all frames around it.

    motion: ``(B, N, 2, 2, H, W)`` pixels: anchor, side (left, right), x and y; from t to that frame.
    valid: ``(B, N, 2)`` bool, whether that frame exists and belongs to the shot.
    """

    motion: Tensor
    valid: Tensor


Hops = Tensor | Sequence[Tensor]


def link(flow: Tensor, steps: int = INVERSION_STEPS) -> Link:
    """Motion ``(B, 4, H, W)`` from an instant to its two frames -> motion between these frames.

    The point p of the left frame passes the instant's pixel q with q + flow_left(q) = p, found by
    iterating q = p - flow_left(q); from there the other half of the flow leads on to the right frame.
    """
    sides = flow.float().unflatten(1, (2, 2)).unbind(1)
    x, y = pixel_places(flow)
    made: tuple[list[Tensor], list[Tensor]] = [], []
    for rows in strips(len(y), strip_rows(len(y), len(flow) * len(x), flow.device)):
        for near, far, found in zip(sides, sides[::-1], made, strict=True):
            step = -near[:, :, rows]
            for _ in range(steps - 1):
                step = -look_up(near, step, x, y[rows])
            found.append(step + look_up(far, step, x, y[rows]))
    return Link(*(torch.cat(found, dim=2) for found in made))


def chain(flow: Tensor, back: Hops, ahead: Hops, valid: Tensor) -> Anchors:
    """Follow the points of an instant from the nearest pair outwards.

    flow: ``(B, 4, H, W)`` from t to frames i and i+1.
    back: ``(B or 1, N-1, 2, H, W)``, or N-1 tensors, ``Link.back`` of the intervals that end at frames i, i-1, …
    ahead: ``Link.ahead`` of the intervals that start at frames i+1, i+2, … Absent ones are anything finite.
    valid: ``(B, N, 2)`` bool.
    """
    batch, anchors = valid.shape[:2]
    x, y = pixel_places(flow)
    hops = [[hop.float() for hop in (side.unbind(1) if isinstance(side, Tensor) else side)] for side in (back, ahead)]
    motion = flow.new_empty(batch, anchors, 2, 2, *flow.shape[-2:], dtype=torch.float32)
    motion[:, 0] = flow.unflatten(1, (2, 2))
    for rows in strips(len(y), strip_rows(len(y), batch * len(x), flow.device)):
        for side in (0, 1):
            place = motion[:, 0, side, :, rows]
            for k in range(1, anchors):  # each hop starts where the last one ended
                hop = look_up(hops[side][k - 1], place, x, y[rows])
                place = place + torch.where(valid[:, k, side, None, None, None], hop, 0)
                motion[:, k, side, :, rows] = place
    return Anchors(motion, valid)
