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

from typing import NamedTuple

import torch
from torch import Tensor

from ...ops.warp import backward_warp

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


def link(flow: Tensor, steps: int = INVERSION_STEPS) -> Link:
    """Motion ``(B, 4, H, W)`` from an instant to its two frames -> motion between these frames.

    The point p of the left frame passes the instant's pixel q with q + flow_left(q) = p, found by
    iterating q = p - flow_left(q); from there the other half of the flow leads on to the right frame.
    """
    to_left, to_right = flow.float().split(2, dim=1)
    near, far = torch.cat((to_left, to_right)), torch.cat((to_right, to_left))
    step = -near
    for _ in range(steps - 1):
        step = -backward_warp(near, step)
    ahead, back = (step + backward_warp(far, step)).chunk(2)
    return Link(ahead, back)


def chain(flow: Tensor, back: Tensor, ahead: Tensor, valid: Tensor) -> Anchors:
    """Follow the points of an instant from the nearest pair outwards.

    flow: ``(B, 4, H, W)`` from t to frames i and i+1.
    back: ``(B or 1, N-1, 2, H, W)``, ``Link.back`` of the intervals that end at frames i, i-1, …
    ahead: ``Link.ahead`` of the intervals that start at frames i+1, i+2, … Absent ones are anything finite.
    valid: ``(B, N, 2)`` bool.
    """
    batch, anchors = valid.shape[:2]
    place = torch.cat(flow.float().split(2, dim=1))  # (2B, 2, H, W): left ways, then right ways
    hops = torch.cat([side.expand(batch, -1, -1, -1, -1) for side in (back, ahead)])  # (2B, N-1, 2, H, W)
    exists = valid.permute(2, 0, 1).reshape(2 * batch, anchors)
    places = [place]
    for k in range(anchors - 1):  # each hop starts where the last one ended
        hop = backward_warp(hops[:, k], place)
        place = place + torch.where(exists[:, k + 1, None, None, None], hop, 0)
        places.append(place)
    motion = torch.stack(places, dim=1).unflatten(0, (2, batch)).transpose(0, 1).transpose(1, 2)
    return Anchors(motion, valid)  # (B, N, 2, 2, H, W)
