"""A drawing of when: source frames on a time axis, the output's instants, and the frame pairs one of them looks at.

Around an instant τ between source frames i and i + 1 lie nested pairs, the *anchors*: the k-th reaches from frame
i - k + 1 to i + k, spans s = 2k - 1 intervals, and τ lies at t = (τ - left) / s of it. ``anchors_at`` says which of
them a flow serves, ``lay_out`` what is drawn where, ``timeline`` draws it.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from .drawing import ABSENT, CHOSEN, DIM, EDGE, GROUND, HUES, MADE, SLOT, SOURCE, TEXT, Canvas, text_width
from .errors import InputError

ANCHORS = HUES


class Anchor(NamedTuple):
    """Pair ``number`` (1 is the nearest) around an instant.

    left, right: source frames, perhaps beyond the clip. span: intervals between them. timestep: the instant as a
    fraction of the span. has_left, has_right: whether that side can be used: its frame exists and flow leads there.
    stored: the flow holds this pair at this instant; otherwise it is chained from neighbouring pairs.
    """

    number: int
    left: int
    right: int
    span: int
    timestep: float
    has_left: bool
    has_right: bool
    stored: bool


class Layout(NamedTuple):
    """What is drawn, in source frames and in pixels.

    first, last: source frames at the ends of the axis, perhaps beyond the clip. frames: how many the clip has.
    spacing: pixels between two frames. whole: whether the axis shows all of the clip.
    instants: those on the axis. chosen: the one explained. anchors: its pairs, the nearest first.
    """

    first: int
    last: int
    frames: int
    spacing: float
    whole: bool
    instants: tuple[float, ...]
    chosen: float
    anchors: tuple[Anchor, ...]

    def x(self, position: float) -> float:
        """Pixels from the left edge for a position in source frames."""
        return (position - self.first + 0.5) * self.spacing


def anchors_at(pairs: Tensor, timesteps: Sequence[Tensor], position: float, num_anchors: int) -> tuple[Anchor, ...]:
    """The nested pairs around ``position`` (source frames); none where it is a source frame itself.

    pairs: ``(P, 2)`` source frames that flow was found between; timesteps: P tensors, the instants of each as
    fractions of its span. Wider pairs that were not found are chained from neighbours, as far as these reach.
    """
    if _is_source(position):
        return ()
    interval = math.floor(position)
    known = {(left, right): times for (left, right), times in zip(pairs.tolist(), timesteps, strict=True)}
    nested = any(right - left > 1 for left, right in known)
    found = []
    for number in range(1, num_anchors + 1):
        left, right, span = interval - number + 1, interval + number, 2 * number - 1
        timestep = (position - left) / span
        times = known.get((left, right))
        if nested:
            has_left = has_right = times is not None
        else:
            has_left = all((j, j + 1) in known for j in range(left, interval + 1))
            has_right = all((j, j + 1) in known for j in range(interval, right))
        stored = times is not None and bool((times.double().cpu() - timestep).abs().le(1e-6).any())
        found.append(Anchor(number, left, right, span, timestep, has_left, has_right, stored))
    return tuple(found)


def lay_out(
    pairs: Tensor,
    timesteps: Sequence[Tensor],
    instants: Tensor,
    chosen: int | None = None,
    *,
    num_anchors: int = 3,
    width: int = 1280,
) -> Layout:
    """Choose the part of the clip that is shown: the chosen instant with all its anchors, and as much around it as is
    readable at this width. Arguments as for ``timeline``."""
    if not len(instants):
        raise InputError("there are no instants to draw: give the output's instants in source frames")
    frames = int(pairs.max()) + 1 if len(pairs) else 1
    chosen = _middle(instants) if chosen is None else chosen
    if not -len(instants) <= chosen < len(instants):
        raise InputError(
            f"instant {chosen} was asked for, the output has {len(instants)}: give 0 to {len(instants) - 1}"
        )
    position = float(instants[chosen])
    anchors = anchors_at(pairs, timesteps, position, num_anchors)
    nearest = math.floor(position + 1e-6)
    least = min([nearest] + [a.left for a in anchors])
    most = max([nearest] + [a.right for a in anchors])
    # The window's size depends on the clip alone, so that drawings of all its instants fit together.
    room = max(2 * num_anchors, int(width / (4.6 * _unit(width))))
    beyond = num_anchors - 1 if frames > 1 else 0
    count = min(room, frames + 2 * beyond)
    first = min(max(nearest - (count - 1) // 2, 0), max(frames - count, 0)) if count < frames + 2 * beyond else -beyond
    first = max(min(first, least), most - count + 1)
    last = first + count - 1
    shown = tuple(v for v in instants.tolist() if first - 0.5 <= v <= last + 0.5)
    whole = first <= 0 and last >= frames - 1
    return Layout(first, last, frames, width / count, whole, shown, position, anchors)


def timeline(
    pairs: Tensor,
    timesteps: Sequence[Tensor],
    instants: Tensor,
    chosen: int | None = None,
    *,
    num_anchors: int = 3,
    width: int = 1280,
    images: Tensor | None = None,
) -> Tensor:
    """A drawing ``(H, W, 3)`` of the output's instants and of the anchors of one; all of a clip are the same size.

    pairs, timesteps: see ``anchors_at``. instants: ``(K,)`` the output's instants in source frames.
    chosen: which of them is explained; None: the made one nearest the middle.
    images: the source frames ``(F, H, W, 3 or 4)`` for small pictures on the axis.
    """
    layout = lay_out(pairs, timesteps, instants, chosen, num_anchors=num_anchors, width=width)
    unit = _unit(width)
    tile = min(layout.spacing * 0.86, 11 * unit)
    ratio = 0.5 if images is None else min(max(images.shape[1] / images.shape[2], 0.4), 1.2)
    arcs_top = 3.4 * unit
    tiles_top = arcs_top + (num_anchors * 2.5 + 1.0) * unit
    axis = tiles_top + tile * ratio + 2.2 * unit
    height = math.ceil(axis + 4.4 * unit)
    canvas = Canvas(width, height, GROUND)
    _heading(
        canvas, layout, len(instants), int(chosen % len(instants)) if chosen is not None else _middle(instants), unit
    )
    _tiles(canvas, layout, tiles_top, tile, tile * ratio, images, unit)
    _ticks(canvas, layout, axis, unit)
    _arcs(canvas, layout, tiles_top - 0.3 * unit, arcs_top, unit)
    x = layout.x(layout.chosen)
    top = arcs_top - 0.2 * unit if layout.anchors else tiles_top + tile * ratio
    canvas.line([(x, top), (x, axis + 0.7 * unit)], CHOSEN, 0.14 * unit)
    _labels(canvas, layout, tiles_top - 0.3 * unit, arcs_top, unit)
    _key(canvas, layout, axis + 3.2 * unit, unit)
    return torch.from_numpy(canvas.pixels())


def _heading(canvas: Canvas, layout: Layout, outputs: int, number: int, unit: float) -> None:
    left, y = unit, 1.8 * unit
    kind = "source frame, untouched" if _is_source(layout.chosen) else "made"
    for words, colour in ((f"output {number} of {outputs}", TEXT), (f"at {layout.chosen:.4g}, {kind}", CHOSEN)):
        canvas.text(words, left, y, unit, colour)
        left += text_width(words, unit) + 1.5 * unit
    if not layout.whole:
        _overview(canvas, layout, left, unit)


def _overview(canvas: Canvas, layout: Layout, taken: float, unit: float) -> None:
    """Where in the clip the drawn part lies, right of what is ``taken``."""
    right, y = canvas.width - unit, 1.8 * unit
    wide = min(14 * unit, right - taken)
    if wide < 5 * unit:
        return
    left = right - wide
    canvas.box(left, y - 0.25 * unit, right, y + 0.25 * unit, SLOT, 0.25 * unit)
    share = [min(max(p / (layout.frames - 1), 0), 1) for p in (layout.first, layout.last)]
    start, end = left + wide * share[0], left + wide * share[1]
    middle, half = (start + end) / 2, max((end - start) / 2, 0.4 * unit)
    canvas.box(max(left, middle - half), y - 0.25 * unit, min(right, middle + half), y + 0.25 * unit, EDGE, 0.25 * unit)
    at = left + wide * layout.chosen / (layout.frames - 1)
    canvas.line([(at, y - 0.5 * unit), (at, y + 0.5 * unit)], CHOSEN, 0.16 * unit)
    words = f"{layout.frames} frames"
    if left - text_width(words, 0.85 * unit) > taken:
        canvas.text(words, left - 0.8 * unit, y, 0.85 * unit, DIM, 1)


def _tiles(
    canvas: Canvas, layout: Layout, top: float, wide: float, high: float, images: Tensor | None, unit: float
) -> None:
    sides = [side for a in layout.anchors for side in ((a.left, a.has_left), (a.right, a.has_right))]
    asked, used = {frame for frame, _ in sides}, {frame for frame, there in sides if there}
    for frame in range(layout.first, layout.last + 1):
        x = layout.x(frame)
        box = (x - wide / 2, top, x + wide / 2, top + high)
        if not 0 <= frame < layout.frames:
            if frame not in asked:
                continue
            outline = np.array(
                [(box[0], box[1]), (box[2], box[1]), (box[2], box[3]), (box[0], box[3]), (box[0], box[1])]
            )
            canvas.line(outline, ABSENT, 0.09 * unit, dash=0.45 * unit)
            canvas.text("-", x, (box[1] + box[3]) / 2, unit, ABSENT, 0.5)
            continue
        edge, thick = (SOURCE, 0.14 * unit) if frame in used else (EDGE, 0.09 * unit)
        if not layout.anchors and frame == round(layout.chosen):
            edge, thick = CHOSEN, 0.2 * unit
        if images is not None and frame < len(images):
            # Converting whole 4K frames to shrink them to a thumb would be most of the work.
            rough = max(1, images.shape[2] // round(4 * wide))
            thumb = images[frame, ::rough, ::rough, :3].float().cpu().numpy()
            canvas.picture(thumb, box[0], box[1], wide, high)
            canvas.box(box[0], box[3] - 1.5 * unit, box[0] + text_width(str(frame), unit) + 0.9 * unit, box[3], GROUND)
            canvas.text(str(frame), box[0] + 0.4 * unit, box[3] - 0.75 * unit, unit, TEXT)
            canvas.frame(*box, edge, thick)
        else:
            canvas.box(*box, SLOT, 0.3 * unit)
            canvas.frame(*box, edge, thick, 0.3 * unit)
            canvas.text(str(frame), x, (box[1] + box[3]) / 2, unit, TEXT, 0.5)


def _ticks(canvas: Canvas, layout: Layout, y: float, unit: float) -> None:
    start, end = max(layout.first, 0), min(layout.last, layout.frames - 1)
    left = 0 if start > 0 else layout.x(start)
    right = canvas.width if end < layout.frames - 1 else layout.x(end)
    canvas.line([(left, y), (right, y)], EDGE, 0.1 * unit)
    for frame in range(start, end + 1):
        canvas.line([(layout.x(frame), y - 0.35 * unit), (layout.x(frame), y)], EDGE, 0.1 * unit)
    made = layout.spacing * np.diff(list(layout.instants)).min(initial=1.0)
    radius = min(0.34 * unit, max(0.3 * made, 0.06 * unit))
    for position in layout.instants:
        if _is_source(position):
            canvas.box(*_around(layout.x(position), y, radius), SOURCE, 0.05 * unit)
        else:
            canvas.dot(layout.x(position), y, radius, MADE)
    canvas.dot(layout.x(layout.chosen), y, 0.62 * unit, GROUND)
    canvas.dot(layout.x(layout.chosen), y, 0.46 * unit, CHOSEN)


def _arcs(canvas: Canvas, layout: Layout, foot: float, top: float, unit: float) -> None:
    turn = np.linspace(0, np.pi, 73)
    share = (layout.x(layout.chosen), foot)
    for anchor in reversed(layout.anchors):
        left, right = layout.x(anchor.left), layout.x(anchor.right)
        high = _arc_height(anchor, layout, foot, top)
        x, y = (left + right) / 2 - np.cos(turn) * (right - left) / 2, foot - np.sin(turn) ** 0.6 * high
        for side, there in ((x <= share[0], anchor.has_left), (x >= share[0], anchor.has_right)):
            colour = ANCHORS[(anchor.number - 1) % len(ANCHORS)] if there else ABSENT
            dash = 0 if anchor.stored and there else 0.55 * unit
            canvas.line(np.stack((x[side], y[side]), 1), colour, (0.2 if there else 0.11) * unit, dash)
        for at, there in ((left, anchor.has_left), (right, anchor.has_right)):
            if there:
                canvas.dot(at, foot, 0.28 * unit, ANCHORS[(anchor.number - 1) % len(ANCHORS)])


def _labels(canvas: Canvas, layout: Layout, foot: float, top: float, unit: float) -> None:
    for anchor in layout.anchors:
        there = anchor.has_left or anchor.has_right
        words = f"s={anchor.span}  t={anchor.timestep:.3g}"
        wide = text_width(words, 0.9 * unit) + unit
        x = min(max(layout.x(layout.chosen), wide / 2 + 2), canvas.width - wide / 2 - 2)
        y = foot - _arc_height(anchor, layout, foot, top)
        colour = ANCHORS[(anchor.number - 1) % len(ANCHORS)] if there else ABSENT
        canvas.box(x - wide / 2, y - 0.85 * unit, x + wide / 2, y + 0.85 * unit, GROUND, 0.85 * unit)
        canvas.frame(x - wide / 2, y - 0.85 * unit, x + wide / 2, y + 0.85 * unit, colour, 0.09 * unit, 0.85 * unit)
        canvas.text(words, x, y, 0.9 * unit, TEXT if there else DIM, 0.5)


def _key(canvas: Canvas, layout: Layout, y: float, unit: float) -> None:
    small = 0.85 * unit
    entries = [("source frame", "box", SOURCE), ("made", "dot", MADE)]
    if layout.anchors:
        entries += [("flow found", "line", DIM), ("chained", "dash", DIM), ("not in the clip", "thin", ABSENT)]
    x = unit
    for words, mark, colour in entries:
        if x + 2.4 * unit + text_width(words, small) > canvas.width - unit:
            break
        if mark == "box":
            canvas.box(*_around(x + 0.4 * unit, y, 0.34 * unit), colour, 0.05 * unit)
        elif mark == "dot":
            canvas.dot(x + 0.4 * unit, y, 0.34 * unit, colour)
        else:
            x += 0.8 * unit
            ends, thick = [(x - 0.8 * unit, y), (x + 1.1 * unit, y)], (0.11 if mark == "thin" else 0.2) * unit
            canvas.line(ends, colour, thick, 0 if mark == "line" else 0.42 * unit)
        x += 1.5 * unit
        canvas.text(words, x, y, small, DIM)
        x += text_width(words, small) + 1.8 * unit


def _arc_height(anchor: Anchor, layout: Layout, foot: float, top: float) -> float:
    return (foot - top) * (anchor.number - 0.25) / max(len(layout.anchors), 1)


def _around(x: float, y: float, radius: float) -> tuple[float, float, float, float]:
    return x - radius, y - radius, x + radius, y + radius


def _unit(width: int) -> float:
    """Height of capitals; all else is in proportion."""
    return max(6.5, 2 + width / 110)


def _is_source(position: float) -> bool:
    return abs(position - round(position)) < 1e-6


def _middle(instants: Tensor) -> int:
    made = [i for i, v in enumerate(instants.tolist()) if not _is_source(v)] or list(range(len(instants)))
    return min(made, key=lambda i: abs(i - (len(instants) - 1) / 2))
