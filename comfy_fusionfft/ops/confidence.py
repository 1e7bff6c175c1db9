"""How far a made picture can be believed: maps of occlusion and confidence, and the PSNR that they promise.

What is made is unseen, but its sources can be heard one against the other: the two nearest frames, warped to the
instant, should look alike; and where farther frames are known, the motion of a point on either side should bend alike.
Their disagreement is measured in cells of 4×4 pixels and turned into the squared error to expect there, the logarithm
of one being a weighted sum of the logarithms of the others. Weights were fitted on clips whose every 2nd, 4th or 8th
frame was kept, so that the error was known (``benchmarks/everyday/confidence.py`` measures how well they predict).

Maps do not depend on how a run is cut into batches, or the work into strips.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from ..contract import Flow, Window
from .box import box_mean
from .strips import STRIP_PIXELS, strips
from .warp import look_up

CELL = 4
"""Pixels along the side of a place that is judged as one."""
AROUND = 9
"""Cells along the side of the surroundings that a place is judged with."""
NEAR = 5
"""The same for occlusion; what is noise in masks cancels out."""
DOUBT = 0.1
"""Root mean square error, of a range of 1, at which confidence has fallen to 1/e."""
SAME = 0.03
"""Difference of two views well below which they show the same thing."""
SMALLEST, LARGEST = 1e-7, 1.0
"""Range of a squared error: 70 dB to 0 dB."""


class Weights(NamedTuple):
    """Of the logarithm of what is seen in a cell, or (wide) around it.

    views: squared difference of the two nearest frames' views. best: of the picture and the view more like it.
    detail: variance of the picture within a cell. speed: squared motion from frame to frame, in pixels.
    time: t (1 - t). dispute: squared disagreement of the accelerations at both ends of the interval, in pixels.
    """

    constant: float
    views: float
    views_wide: float
    best: float
    detail: float
    speed_wide: float
    time: float
    dispute: float = 0
    dispute_wide: float = 0


LEAST = Weights(0, 1e-6, 1e-6, 1e-6, 1e-6, 1e-2, 1e-3, 1e-3, 1e-3)
"""Added to what is seen, so that nothing at all has a logarithm."""
PAIR = Weights(-0.444, 0.219, 0.264, 0.201, 0.230, 0.347, 0.299)
"""Where only the nearest pair is known."""
CHAINED = Weights(-0.075, 0.180, 0.212, 0.225, 0.285, 0.094, 0.431, 0.138, 0.140)
"""Where motion goes on to the frames before and after the pair."""


def explained(
    made: Tensor, window: Window, pair: tuple[int, int], motion: Flow, farther: Sequence[Tensor] = ()
) -> Tensor:
    """``made`` with two planes more, occlusion and confidence: ``(T, C + 2, H, W)``.

    made: ``(T, C, H, W)`` at ``window.times``, between the pictures ``pair`` of the window.
    motion: from these instants to the pair.
    farther: motion ``(T, 2, H, W)`` from them to the picture before the pair and to the one after it, if both are
        known.
    """
    start, end = (window.positions[i] for i in pair)
    frames = [
        window.once("shrunk", (window.positions[i],), lambda i=i: shrunk(window.images[i][:, :3].float())) for i in pair
    ]
    channels = made.shape[1]
    full = made.new_empty(len(made), channels + 2, *made.shape[2:])
    full[:, :channels] = made
    for i, time in enumerate(window.times):
        one = slice(i, i + 1)
        ways = (motion.flow[one, :2], motion.flow[one, 2:], *(way[one] for way in farther))
        share = float((time - start) / (end - start))
        full[one, channels:] = maps(made[one, :3], frames, ways, motion.mask[one], share)
    return full


@torch.no_grad()
def maps(made: Tensor, frames: Sequence[Tensor], ways: Sequence[Tensor], mask: Tensor, share: float) -> Tensor:
    """Occlusion and confidence of one picture ``(1, 2, H, W)``.

    made: ``(1, 3, H, W)``. frames: the two nearest ones, ``shrunk``. ways: motion ``(1, 2, H, W)`` to these and, if
    known, to the one before and the one after them. mask: ``(1, 1, H, W)``. share: of the interval, 0..1.
    """
    height, width = made.shape[-2:]
    rows = height
    if made.device.type == "cpu":
        rows = max(4 * STRIP_PIXELS // width // CELL, 1) * CELL
    seen = [_seen(made, frames, ways, mask, share, part) for part in strips(height, rows)]
    sides, evidence = (torch.cat(parts, dim=2) for parts in zip(*seen, strict=True))
    occlusion, error = _occlusion(sides, evidence), expected(evidence, share, chained=len(ways) > 2)
    sure = error.sqrt_().div_(-DOUBT).exp_()
    cells = torch.cat((occlusion, sure), dim=1)
    # Rows and columns beyond the picture's end belong to the last cells.
    size = [CELL * side for side in cells.shape[-2:]]
    return F.interpolate(cells, size, mode="bilinear")[..., :height, :width]


def predicted_psnr(maps: Tensor) -> float:
    """PSNR in dB to expect of a made picture against the true one, from its ``maps (H, W, 2)``: 0 to 70."""
    error = maps[..., 1].clamp(math.exp(-1 / DOUBT), 1).log().mul_(DOUBT).square_().mean(dtype=torch.float64).item()
    return -10 * math.log10(max(error, SMALLEST))


def shrunk(planes: Tensor) -> Tensor:
    """Means of 2×2 pixels, the last row and column standing for those that would come after them."""
    odd = [side % 2 for side in planes.shape[-2:]]
    if any(odd):
        planes = F.pad(planes, (0, odd[1], 0, odd[0]), mode="replicate")
    rows = planes[..., ::2, :] + planes[..., 1::2, :]
    return (rows[..., ::2] + rows[..., 1::2]).mul_(0.25)


def _seen(
    made: Tensor, frames: Sequence[Tensor], ways: Sequence[Tensor], mask: Tensor, share: float, rows: slice
) -> tuple[Tensor, Tensor]:
    """Cells of these rows of pixels: ``_sides``, and what ``Weights`` weigh but for the wide ones, in their order."""
    picture = shrunk(made[:, :, rows])
    steps = [shrunk(way[:, :, rows].float()) for way in ways]
    left_share = shrunk(mask[:, :, rows].float()).sigmoid_()
    height, width = picture.shape[-2:]
    x = torch.arange(width, device=picture.device, dtype=torch.float32)
    y = torch.arange(height, device=picture.device, dtype=torch.float32) + rows.start // 2
    views = [look_up(frame, step / 2, x, y) for frame, step in zip(frames, steps, strict=False)]

    differ = _power(views[0] - views[1])
    best = torch.minimum(*(_power(picture - view) for view in views))
    motion = steps[1] - steps[0]
    planes = [differ, best, _power(picture), motion.square().sum(1, keepdim=True)]
    if len(steps) > 2:
        # The acceleration at either end: (way on) + (way back) - 2 (way there); their difference, halved.
        ends = [steps[2 + i] + steps[1 - i] - 2 * steps[i] for i in (0, 1)]
        planes.append((ends[0] - ends[1]).square_().sum(1, keepdim=True).mul_(0.25))
    cells = shrunk(torch.cat(planes, dim=1))
    cells[:, 2:3] -= _power(shrunk(picture))  # the variance
    sides = _sides(steps[:2], left_share, frames[0].shape[-2:], (x, y), share)
    return shrunk(sides), cells.clamp_(min=0)


def _sides(
    steps: Sequence[Tensor], left: Tensor, size: Sequence[int], places: tuple[Tensor, Tensor], share: float
) -> Tensor:
    """How far a point is taken from the left (up to 1) or from the right (-1) more than its time explains; and whether
    a frame has no such place. ``(1, 2, h, w)``."""
    more = left - (1 - share)
    leaning = torch.where(more > 0, more / share, more / (1 - share))
    outside = torch.zeros_like(leaning)
    for step in steps:
        for axis, (place, end) in enumerate(zip((places[0], places[1][:, None]), size[::-1], strict=True)):
            at = place + step[:, axis : axis + 1] / 2
            outside.masked_fill_((at < -0.5) | (at > end - 0.5), 1)
    return torch.cat((leaning, outside), dim=1)


def _occlusion(sides: Tensor, evidence: Tensor) -> Tensor:
    """Cells that one side shows and the other does not: outside of it, or it shows something else there."""
    leaning, differ = box_mean(torch.cat((sides[:, :1], evidence[:, :1]), dim=1), NEAR).split(1, dim=1)
    return torch.maximum(leaning.abs() * differ / (differ + SAME**2), sides[:, 1:])


def expected(evidence: Tensor, share: float, *, chained: bool) -> Tensor:
    """Squared error to expect in every cell, ``(1, 1, h, w)``."""
    weights = CHAINED if chained else PAIR
    error = evidence.new_full((1, 1, *evidence.shape[-2:]), weights.constant)
    for name, seen in logarithms(evidence, share).items():
        error.add_(seen, alpha=getattr(weights, name))
    return error.exp_().clamp_(SMALLEST, LARGEST)


def logarithms(evidence: Tensor, share: float) -> dict[str, Tensor]:
    """What ``Weights`` weigh, by name: ``(1, 1, h, w)``, or one number. evidence: ``(1, 4 or 5, h, w)``."""
    wide = box_mean(evidence, AROUND)
    seen = {
        "views": evidence[:, :1],
        "views_wide": wide[:, :1],
        "best": evidence[:, 1:2],
        "detail": evidence[:, 2:3],
        "speed_wide": wide[:, 3:4],
        "time": evidence.new_full((1, 1, 1, 1), share * (1 - share)),
        "dispute": evidence[:, 4:5],
        "dispute_wide": wide[:, 4:5],
    }
    return {name: (plane + getattr(LEAST, name)).log_() for name, plane in seen.items() if plane.numel()}


def _power(planes: Tensor) -> Tensor:
    """Mean square over channels."""
    return planes.square().mean(1, keepdim=True)
