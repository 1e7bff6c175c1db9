"""Fusion as a model for the engine (``contract.Model``): flow source and frames in, pictures out.

Each interval's flow is asked for once. At ×2 that flow serves its own picture and, as a link, the
pictures of the intervals around it, so N anchors cost no flow call more than one: the look-ahead finds
what the next intervals would need anyway. With more instants in an interval the link is taken at its own
one nearest the middle. Without a network the answer is the closed quadratic form alone.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from ...contract import Flow, FlowSource, Position, Reach, Window
from ...errors import InputError
from ...ops import spectral
from ...ops.between import flow_between, link_time
from ...ops.confidence import explained
from ...ops.limits import limit_, limits
from ...ops.memory import numbers
from .anchors import Link, link
from .config import MAX_ANCHORS
from .inputs import FusionInput, from_links, from_nested
from .net import FusionNet
from .trajectory import bend
from .views import blend, warp_views

NUM_ANCHORS = 3
SPECTRAL_ALPHA = 0.4
TILE_ABOVE_PIXELS = 4 * 1024 * 1024
TILE = 1024
SMALLEST_TILE = 256


@dataclass
class _Held:
    """An interval's own flow at ``time``, kept until its turn comes."""

    time: Position
    flow: Flow


class Fuse:
    """The fused picture of N nested pairs.

    net: a FusionNet, placed where it shall run, or None for the closed quadratic form without learning.
    source: motion of the nearest pair, and by chaining of all others.
    num_anchors: 1 to 5 pairs; the same weights serve any number.
    anchor_flow: ``chained`` from the flows of neighbouring intervals, or ``nested``: the source asked about
        every wide pair directly, one call more for each.
    quadratic: correct straight motion by the acceleration that the neighbouring intervals show.
    spectral_alpha: 0..1, share of the high frequencies' strength that comes from ``spectral_prior``: the
        two real ``neighbours``, or the ``warped`` ones. spectral_lo, spectral_hi: cycles per pixel between
        which the swap fades in. All settings may be changed between calls.
    tile: the network runs in strips that hold no more pixels than a square of this side; 0 for what is fastest,
        None for the same, and strips on large pictures. Its answer does not depend on it.
    explain: answers have two planes more, occlusion and confidence (``ops.confidence``), 0..1.
    """

    def __init__(
        self,
        net: FusionNet | None,
        source: FlowSource,
        *,
        num_anchors: int = NUM_ANCHORS,
        anchor_flow: Literal["chained", "nested"] = "chained",
        quadratic: bool = True,
        spectral_alpha: float = SPECTRAL_ALPHA,
        spectral_lo: float = spectral.LO,
        spectral_hi: float = spectral.HI,
        spectral_prior: Literal["neighbours", "warped"] = "neighbours",
        tile: int | None = None,
        explain: bool = False,
    ) -> None:
        if num_anchors not in range(1, MAX_ANCHORS + 1):
            raise InputError(f"{num_anchors} anchors asked for: use 1 to {MAX_ANCHORS} (default {NUM_ANCHORS})")
        if anchor_flow not in ("chained", "nested"):
            raise InputError(f"anchor flow {anchor_flow!r} is not known: use chained or nested")
        if spectral_prior not in ("neighbours", "warped"):
            raise InputError(f"spectral prior {spectral_prior!r} is not known: use neighbours or warped")
        spectral.check_settings(spectral_alpha, spectral_lo, spectral_hi)
        self.net, self.source = net, source
        self.num_anchors, self.anchor_flow, self.quadratic, self.tile = num_anchors, anchor_flow, quadratic, tile
        self.spectral_alpha, self.spectral_lo, self.spectral_hi = spectral_alpha, spectral_lo, spectral_hi
        self.spectral_prior, self.explain = spectral_prior, explain

    @property
    def reach(self) -> Reach:
        return Reach(before=self.num_anchors, after=self.num_anchors)

    @torch.no_grad()
    def __call__(self, window: Window) -> Tensor:
        left = max(i for i, position in enumerate(window.positions) if position < window.times[0])
        near = (left, left + 1)
        x = self._nested(window, left) if self.anchor_flow == "nested" else self._chained(window, left)
        if self.net is None:
            made, views = plain_answer(x, quadratic=self.quadratic)
        else:
            made, views = self.net(x, quadratic=self.quadratic, tile=self._tile(x.mask)), None
        real = [window.once("limits", (window.positions[i],), lambda i=i: limits(window.images[i])) for i in near]
        made = limit_(made, *real)
        if self.spectral_alpha:
            made = limit_(self._swap(window, left, x, made, views), *real)
        if not self.explain:
            return made
        both_go_on = self.num_anchors > 1 and 0 < left < len(window.positions) - 2
        farther = x.motion[:, 1].unbind(1) if both_go_on else ()
        return explained(made, window, near, Flow(x.motion[:, 0].flatten(1, 2), x.mask), farther)

    def shrink(self) -> bool:
        """Run the network in narrower strips; its answer does not depend on them."""
        smaller = TILE if not self.tile else self.tile // 2
        if self.net is None or smaller < SMALLEST_TILE:
            return False
        self.tile = smaller
        return True

    def _tile(self, mask: Tensor) -> int | None:
        if self.tile is not None:
            return self.tile or None
        return TILE if mask.shape[-2] * mask.shape[-1] > TILE_ABOVE_PIXELS else None

    def _chained(self, window: Window, left: int) -> FusionInput:
        frames, valid = self._frames(window, left)
        times = [t - window.positions[left] for t in window.times]
        near = self._near(window, left)
        absent = near.flow.new_zeros(1, 1, 1, 1).expand(1, 2, *near.flow.shape[-2:])

        def links(lefts: range, side: int) -> list[Tensor]:
            exists = [0 <= j < len(window.positions) - 1 for j in lefts]
            return [self._link(window, j)[side] if there else absent for j, there in zip(lefts, exists, strict=True)]

        self._link(window, left)  # what the next intervals will look back on
        anchors = valid.shape[1] // 2
        back = links(range(left - 1, left - anchors, -1), 1)
        ahead = links(range(left + 1, left + anchors), 0)
        return from_links(frames, valid, near, back, ahead, self._times(near, times))

    def _nested(self, window: Window, left: int) -> FusionInput:
        frames, valid = self._frames(window, left)
        times = [t - window.positions[left] for t in window.times]
        anchors = valid.shape[1] // 2
        flows = []
        for k in range(anchors):
            start, end = left - k, left + 1 + k
            if start < 0 or end >= len(window.positions):
                valid[:, anchors - 1 - k] = valid[:, anchors + k] = False
                flows.append(flows[0]._replace(flow=torch.zeros_like(flows[0].flow)))
                continue
            flows.append(flow_between(self.source, window, start, end, window.times))
        stacked = torch.stack([each.flow for each in flows], 1)
        return from_nested(frames, valid, stacked, flows[0].mask, self._times(flows[0], times))

    def _frames(self, window: Window, left: int) -> tuple[list[Tensor], Tensor]:
        """-> 2N pictures ``(1, C, H, W)``, blank where the clip has ended, and ``(T, 2N)`` which there are."""
        images = window.images
        anchors = min(self.num_anchors, max(left + 1, len(images) - left - 1))
        places = range(left - anchors + 1, left + anchors + 1)
        exists = [0 <= place < len(images) for place in places]
        blank = torch.zeros_like(images[left][:, :, :1, :1]).expand_as(images[left])
        frames = [images[place] if there else blank for place, there in zip(places, exists, strict=True)]
        return frames, numbers(exists, blank.device).expand(len(window.times), -1).clone()

    def _near(self, window: Window, left: int) -> Flow:
        held = self._held(window, left)
        others = tuple(t for t in window.times if t != held.time)
        if not others:
            return held.flow
        found = flow_between(self.source, window, left, left + 1, others)
        if len(others) == len(window.times):
            return found
        at = window.times.index(held.time)
        return Flow(*(torch.cat((f[:at], h, f[at:])) for f, h in zip(found, held.flow, strict=True)))

    def _held(self, window: Window, left: int) -> _Held:
        """The interval's flow at one instant, which an earlier step may have asked for as look-ahead."""
        ends = window.positions[left : left + 2]

        def find() -> _Held:
            time = link_time(ends[0], window.instants(ends[0]))
            return _Held(time, flow_between(self.source, window, left, left + 1, (time,)))

        return window.once("held flow", tuple(ends), find)

    def _link(self, window: Window, left: int) -> Link:
        ends = window.positions[left : left + 2]
        return window.once("link", tuple(ends), lambda: link(self._held(window, left).flow.flow))

    def _times(self, near: Flow, times: list[Position]) -> Tensor:
        return numbers([float(t) for t in times], near.flow.device)

    def _swap(self, window: Window, left: int, x: FusionInput, made: Tensor, views: Tensor | None) -> Tensor:
        colour = made[:, :3]
        if self.spectral_prior == "warped":
            if views is None:
                views = plain_answer(x, quadratic=self.quadratic)[1]
            strength = [spectral.magnitude(views[:, 0, side, :3]) for side in (0, 1)]
        else:
            strength = [
                window.once(
                    "magnitude",
                    (window.positions[i],),
                    lambda i=i: spectral.magnitude(window.images[i][:, :3]),
                )
                for i in (left, left + 1)
            ]
        prior = torch.lerp(*strength, x.time[:, None, None, None])
        change = spectral.delta(colour, prior, self.spectral_lo, self.spectral_hi)
        if made.shape[1] == 4:
            change *= made[:, 3:].clamp(0, 1)
        colour.add_(change, alpha=self.spectral_alpha)
        return made


def plain_answer(x: FusionInput, *, quadratic: bool = True) -> tuple[Tensor, Tensor]:
    """The nearest pair's blend ``(B, C, H, W)`` without learning, and its two warped views ``(B, 1, 2, C, H, W)``."""
    motion = x.motion[:, :1]
    if quadratic:
        motion = motion + bend(x.anchors).offset(x.time)[:, None, None]
    views = warp_views(x.nearest(1)._replace(motion=motion))
    return blend(*views, x.mask), torch.stack(views, 1).unsqueeze(1)
