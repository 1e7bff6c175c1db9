"""From the motion between two frames to the motion from any instant between them.

Bidirectional estimators (DIS, the teacher) answer for the pixels of the two frames: ``flow01`` says where
a pixel of frame 0 goes in frame 1. Interpolation asks for the pixels of a picture at time t that does not
exist yet. Each frame's flow is therefore carried along itself to t (splatting), where it points back to
where it came from. Pixels that move alike forth and back weigh more, so that on a collision the surface
seen in both frames wins over the one that is being covered. Holes, where nothing of a frame arrives, take
the linear combination of Super SloMo (Jiang et al., CVPR 2018), and the mask turns to the other frame.

Flows are in pixels, x before y, corner-aligned; t = 0 is frame 0 (left), t = 1 frame 1 (right).

Mean PSNR in dB of warping both frames by the result and blending them with the mask, for the teacher's
flow (EBME) and, in the last column, DIS. MB: Middlebury other, 12 scenes. XT: X-TEST at 512×270, frames 32
apart, 10 scenes × 3 instants. C4, C2: six real clips, frames 4 and 2 apart, 54 and 18 pictures.

    method                                          MB     XT     C4     C2   mean    DIS
    linear combination, time prior               34.83  33.96  28.10  32.71  32.40  32.02
    solve x0 + t·F01(x0) = x in 3 rounds, prior  35.09  34.70  28.19  32.98  32.74  31.93
    flow splatted, holes linear, prior           35.09  34.62  28.16  32.98  32.71  32.02
    the same, mask from coverage                 35.26  34.93  28.19  32.98  32.84  31.99
    the same, weighted by consistency            35.25  34.95  28.21  33.01  32.86  32.01
    the same, coverage smoothed: this module     35.25  34.94  28.26  33.13  32.90  32.04
    both frames splatted and averaged            35.14  33.97  27.87  32.93  32.48  31.82

A round of solving after splatting, one velocity shared by both sides, sharper or softer masks, and masks that
also weigh the residual x0 + t·F01(x0) - x changed the mean by -0.16 .. +0.02 dB.
"""

from __future__ import annotations

import torch
from torch import Tensor

from ..contract import Flow
from .box import box_mean
from .grid import pixel_places
from .splat import splat_sum_fast
from .strips import strip_rows, strips
from .warp import look_up

_LEAST_WEIGHT = 0.02  # an inconsistent pixel still fills a place that nobody else claims
_HOLE = 1e-3  # coverage below which a pixel counts as empty
_TINY = 1e-12  # a divisor where nothing landed
_AROUND = 5  # side of the square whose share is seen
_DOUBT = 0.1  # added to coverages; bounds the mask's visibility term to ±log(11)
_TIME_MARGIN = 1e-4  # keeps the mask finite at t = 0 and t = 1


@torch.no_grad()
def flow_consistency(flow01: Tensor, flow10: Tensor) -> Tensor:
    """How well going there and back ends where it began: ``(B, 1, H, W)``, 1 = exactly, towards 0 = not at all.

    For the pixels of frame 0; swap the arguments for those of frame 1. The squared gap is measured against
    1 % of the squared motion plus half a pixel, the occlusion criterion of UnFlow (Meister et al., AAAI
    2018); at that limit the result is 1/2.
    """
    flow01, flow10 = flow01.float(), flow10.float()
    made = torch.empty_like(flow01[:, :1])
    x, y = pixel_places(flow01)
    for rows in strips(len(y), strip_rows(len(y), len(made) * len(x), made.device)):
        there = flow01[:, :, rows]
        back = look_up(flow10, there, x, y[rows])
        gaps, motions = (there + back).square_(), there.square().addcmul_(back, back)
        gap, motion = (each[:, :1].add_(each[:, 1:]) for each in (gaps, motions))
        limit = motion.mul_(0.01).add_(0.5)
        torch.div(limit, gap.add_(limit), out=made[:, :, rows])
    return made


def flow_weight(flow01: Tensor, flow10: Tensor) -> Tensor:
    """What pixels of frame 0 weigh where several land on one place, ``(B, 1, H, W)``. It is the same at all times."""
    return flow_consistency(flow01, flow10).clamp_(min=_LEAST_WEIGHT)


def carried(flow: Tensor, weight: Tensor, share: Tensor) -> Tensor:
    """One frame's flow, moved by a ``share`` of itself: sums ``(B, 4, H, W)`` of flow times weight, of ones (what they
    give is the coverage) and of weights.

    flow: ``(B, 2, H, W)``. weight: ``(B, 1, H, W)``. share: ``(B or 1, 1, 1, 1)`` in 0..1.
    """
    cargo = flow.new_empty(len(flow), 4, *flow.shape[-2:])
    torch.mul(flow, weight, out=cargo[:, :2])
    cargo[:, 2] = 1
    cargo[:, 3:] = weight
    return splat_sum_fast(cargo, flow, share)


def velocity_of(sums: Tensor, between: Tensor, way: Tensor | int) -> Tensor:
    """Rows of ``carried`` -> motion from frame 0 to frame 1 at their places, ``(B, 2, h, w)``.

    between: ``(B, 2, h, w)``, what fills holes. way: 1 for what was carried from frame 0, -1 from frame 1.
    """
    mean = sums[:, :2] / (sums[:, 3:].clamp_min(_TINY) * way)
    return torch.where(sums[:, 2:3] > _HOLE, mean, between)


def linear_velocity(flow01: Tensor, flow10: Tensor, t: Tensor) -> Tensor:
    """Super SloMo's combination, as motion from frame 0 to frame 1."""
    return ((1 - t) * flow01).addcmul_(flow10, t, value=-1)


def visibility_mask(seen0: Tensor, seen1: Tensor, t: Tensor) -> Tensor:
    """Coverages of both frames ``(B, 1, H, W)`` and ``t (B or 1, 1, 1, 1)`` -> mask, see ``flow_to_times``."""
    visible0, visible1 = (box_mean(seen.clamp(max=1), _AROUND) for seen in (seen0, seen1))
    prior = torch.logit(1 - t, eps=_TIME_MARGIN)
    return prior + torch.log((visible0 + _DOUBT) / (visible1 + _DOUBT))


@torch.no_grad()
def flow_to_times(flow01: Tensor, flow10: Tensor, times: Tensor) -> tuple[Flow, Tensor]:
    """Bidirectional flow -> ``Flow`` at ``times``, and how far each of its two flows can be trusted.

    flow01, flow10: ``(B, 2, H, W)`` pixels. times: ``(T,)`` in (0, 1). Either one pair for T instants
    (B = 1), one instant for B pairs (T = 1), or a time for each pair (B = T).

    Returns, with N = max(B, T),

    - ``Flow.flow (N, 4, H, W)`` float32 pixels: t→0 (x, y), then t→1 (x, y);
    - ``Flow.mask (N, 1, H, W)`` float32, the logit of "take frame 0":
      ``log((1-t)/t) + log((v0+0.1)/(v1+0.1))``, where ``v0`` and ``v1`` in 0..1 are the shares of the 5×5
      surroundings that frame 0 and frame 1 reach;
    - confidence ``(N, 2, H, W)`` in 0..1, for t→0 and for t→1: the consistency of what arrived there, 0 in
      holes, whose flow is a guess.
    """
    count = max(len(flow01), len(times))
    if flow01.shape != flow10.shape or {len(flow01), len(times)} - {1, count}:
        raise ValueError(
            f"flows {tuple(flow01.shape)} and {tuple(flow10.shape)} with {len(times)} times: "
            "give flows of one shape, and one pair, one time, or as many times as pairs"
        )
    flow01, flow10 = flow01.float(), flow10.float()
    weight0, weight1 = flow_weight(flow01, flow10), flow_weight(flow10, flow01)
    height, width = flow01.shape[-2:]
    flow, mask, trust = (flow01.new_empty(count, channels, height, width) for channels in (4, 1, 2))
    # One picture at a time keeps a CPU's caches and its supply of free memory from overflowing.
    for some in strips(count, count if flow01.device.type != "cpu" else 1):
        ahead, back, w0, w1, t = (
            each if len(each) == 1 else each[some] for each in (flow01, flow10, weight0, weight1, times)
        )
        t = t.to(flow01).view(-1, 1, 1, 1)
        number = some.stop - some.start
        ahead, back, w0, w1 = (each.expand(number, -1, -1, -1) for each in (ahead, back, w0, w1))
        left, right = carried(ahead, w0, t), carried(back, w1, 1 - t)
        mask[some] = visibility_mask(left[:, 2:3], right[:, 2:3], t)
        for rows in strips(height, strip_rows(height, number * width, flow.device)):
            between = linear_velocity(ahead[:, :, rows], back[:, :, rows], t)
            torch.mul(velocity_of(left[:, :, rows], between, 1), -t, out=flow[some, :2, rows])
            torch.mul(velocity_of(right[:, :, rows], between, -1), 1 - t, out=flow[some, 2:, rows])
        for i, sums in enumerate((left, right)):
            torch.clamp(sums[:, 3], max=1, out=trust[some, i])
    return Flow(flow, mask), trust


def intermediate_flow(flow01: Tensor, flow10: Tensor, times: Tensor) -> Flow:
    """``flow_to_times`` without the confidence: ``(B, 2, H, W)`` twice and ``(T,)`` -> Flow."""
    return flow_to_times(flow01, flow10, times)[0]
