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
import torch.nn.functional as F
from torch import Tensor

from ..contract import Flow
from .splat import splat_average
from .warp import backward_warp

_LEAST_WEIGHT = 0.02  # an inconsistent pixel still fills a place that nobody else claims
_HOLE = 1e-3  # coverage below which a pixel counts as empty
_DOUBT = 0.1  # added to coverages; bounds the mask's visibility term to ±log(11)
_TIME_MARGIN = 1e-4  # keeps the mask finite at t = 0 and t = 1


def flow_consistency(flow01: Tensor, flow10: Tensor) -> Tensor:
    """How well going there and back ends where it began: ``(B, 1, H, W)``, 1 = exactly, towards 0 = not at all.

    For the pixels of frame 0; swap the arguments for those of frame 1. The squared gap is measured against
    1 % of the squared motion plus half a pixel, the occlusion criterion of UnFlow (Meister et al., AAAI
    2018); at that limit the result is 1/2.
    """
    flow01, flow10 = flow01.float(), flow10.float()
    back = backward_warp(flow10, flow01)
    gap = (flow01 + back).square().sum(dim=1, keepdim=True)
    motion = (flow01.square() + back.square()).sum(dim=1, keepdim=True)
    return 1 / (1 + gap / (0.01 * motion + 0.5))


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
    t = times.to(flow01).view(-1, 1, 1, 1)
    left, seen0, trust0 = _carry(flow01, flow_consistency(flow01, flow10), t, count)
    right, seen1, trust1 = _carry(flow10, flow_consistency(flow10, flow01), 1 - t, count)
    left = torch.where(seen0 > _HOLE, left, t * t * flow10 - t * (1 - t) * flow01)
    right = torch.where(seen1 > _HOLE, right, (1 - t) ** 2 * flow01 - t * (1 - t) * flow10)

    visible0, visible1 = (
        F.avg_pool2d(seen, 5, stride=1, padding=2, count_include_pad=False) for seen in (seen0, seen1)
    )
    prior = torch.logit(1 - t, eps=_TIME_MARGIN)
    mask = prior + torch.log((visible0 + _DOUBT) / (visible1 + _DOUBT))
    return Flow(torch.cat((left, right), dim=1), mask), torch.cat((trust0, trust1), dim=1)


def intermediate_flow(flow01: Tensor, flow10: Tensor, times: Tensor) -> Flow:
    """``flow_to_times`` without the confidence: ``(B, 2, H, W)`` twice and ``(T,)`` -> Flow."""
    return flow_to_times(flow01, flow10, times)[0]


def _carry(flow: Tensor, consistency: Tensor, share: Tensor, count: int) -> tuple[Tensor, Tensor, Tensor]:
    """One frame's flow, moved by ``share`` of itself -> flow back to that frame, coverage 0..1, confidence 0..1."""
    step = (share * flow).expand(count, -1, -1, -1)
    weight = consistency.clamp(min=_LEAST_WEIGHT).expand(count, -1, -1, -1)
    # The mean of 1/weight, times the weight that arrived, is the coverage without weights.
    carried, landed = splat_average(torch.cat((-step, 1 / weight), dim=1), step, weight)
    back, inverse = carried[:, :2], carried[:, 2:]
    return back, (inverse * landed).clamp(max=1), landed.clamp(max=1)
