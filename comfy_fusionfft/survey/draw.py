"""A drawing of a whole clip over time: shots, cuts, repeats, motion and, where there is one, confidence.

All rows share one axis, source frames from the first to the last; at any length, because every pixel shows the most
that happens within it. Thumbnails are the caller's: ``thumbnail_frames`` says which frames to keep while the clip
streams by.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from itertools import pairwise
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from ..drawing import CHOSEN, DIM, EDGE, GROUND, HUES, MADE, RGB, SLOT, TEXT, Canvas, text_width
from ..errors import InputError
from .edit import Edit
from .measure import Survey
from .repeats import Repeats
from .report import clock, heading
from .thumbnail import small_picture

REPEATED, SURE = HUES[3], HUES[1]
_SECONDS = (0.1, 0.2, 0.5, 1, 2, 5, 10, 15, 30, 60, 120, 300, 600, 900, 1800, 3600, 7200)


class Axis(NamedTuple):
    """Frame ``n`` of ``frames`` takes the pixels from ``x(n)`` to ``x(n + 1)``."""

    left: float
    right: float
    frames: int

    def x(self, frame: float) -> float:
        return self.left + (self.right - self.left) * frame / self.frames

    def peaks(self, values: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Places and heights of a curve: a point for each frame, or for each pixel the largest within it."""
        columns = round(self.right - self.left)
        if len(values) <= columns:
            return np.array([self.x(n + 0.5) for n in range(len(values))]), values
        starts = np.arange(columns) * len(values) // columns
        places = self.left + (np.arange(columns) + 0.5) * (self.right - self.left) / columns
        return places, np.maximum.reduceat(values, starts)


class Tile(NamedTuple):
    """A small picture: source frame ``frame``, at pixels ``x`` to ``x + width``."""

    frame: int
    x: float
    width: float


def draw_timeline(
    survey: Survey,
    edit: Edit,
    *,
    repeats: Repeats | None = None,
    thumbnails: Mapping[int, Tensor] | None = None,
    width: int = 1280,
    confidence: Sequence[tuple[float, float]] | None = None,
) -> Tensor:
    """``(H, W, 3)`` float32 in 0..1.

    repeats: what was found, whether or not it was left out. thumbnails: frames' pixels ``(H, W, C)`` by source number.
    confidence: position in kept frames and predicted PSNR in dB of frames that were made.
    """
    if width < 320:
        raise InputError(f"a drawing {width} pixels wide was asked for: give at least 320")
    unit = _unit(width)
    axis = Axis(1.2 * unit, width - 1.2 * unit, len(survey))
    cuts = [edit.source_index(cut) for cut in edit.cuts]
    strip = 5.2 * unit
    motion = strip + _tile(survey, width)[1] + 2.4 * unit
    row = motion + 6.2 * unit
    quality = row + (3.6 * unit if repeats else 0.6 * unit)
    foot = quality + (5.6 * unit if confidence else 0)
    canvas = Canvas(width, math.ceil(foot + 2.8 * unit), GROUND)
    _heading(canvas, survey, edit, repeats, unit)
    _strip(canvas, survey, _tiles(axis, survey, cuts), thumbnails or {}, strip, unit)
    _guides(canvas, axis, cuts, motion - 1.4 * unit, foot, unit)
    _curve(canvas, axis, _without_jumps(survey.motion, cuts), motion, 5 * unit, unit)
    if repeats:
        _repeats(canvas, axis, repeats, row, unit)
    if confidence:
        _confidence(canvas, axis, edit, confidence, quality, 5 * unit, unit)
    _cuts(canvas, axis, survey, cuts, strip, unit)
    _seconds(canvas, axis, survey, foot, unit)
    return torch.from_numpy(canvas.pixels())


def thumbnail_frames(survey: Survey, edit: Edit, width: int = 1280) -> tuple[int, ...]:
    """Source frames whose pictures a drawing of this width shows, ascending."""
    unit = _unit(width)
    axis = Axis(1.2 * unit, width - 1.2 * unit, len(survey))
    cuts = [edit.source_index(cut) for cut in edit.cuts]
    return tuple(sorted({tile.frame for tile in _tiles(axis, survey, cuts)}))


def _tiles(axis: Axis, survey: Survey, cuts: Sequence[int]) -> list[Tile]:
    """Small pictures side by side in every shot; shots too narrow for a slice of one share it with their neighbours,
    and it shows the longest of them."""
    wide, high = _tile(survey, round(axis.right + axis.left))
    shots = list(pairwise((0, *cuts, len(survey))))
    found = []
    while shots:
        first, end = longest = shots.pop(0)
        while shots and axis.x(end) - axis.x(first) < 0.4 * high:
            end = shots[0][1]
            longest = max(longest, shots.pop(0), key=lambda shot: shot[1] - shot[0])
        begin, stop = longest
        room = axis.x(end) - axis.x(first)
        count = min(max(round(room / wide), 1), stop - begin)
        for n in range(count):
            frame = begin + (2 * n + 1) * (stop - begin) // (2 * count)
            found.append(Tile(frame, axis.x(first) + n * room / count, room / count))
    return found


def _heading(canvas: Canvas, survey: Survey, edit: Edit, repeats: Repeats | None, unit: float) -> None:
    left = 1.2 * unit
    for words, colour in zip(heading(survey, edit, repeats), (TEXT, CHOSEN, REPEATED), strict=False):
        if left + text_width(words, unit) < canvas.width - unit:
            canvas.text(words, left, 1.7 * unit, unit, colour)
        left += text_width(words, unit) + 1.8 * unit


def _strip(
    canvas: Canvas, survey: Survey, tiles: Sequence[Tile], thumbnails: Mapping[int, Tensor], top: float, unit: float
) -> None:
    high = _tile(survey, canvas.width)[1]
    for tile in tiles:
        if tile.frame in thumbnails:
            picture = small_picture(thumbnails[tile.frame], 4 * round(max(tile.width, high)), tile.frame) / 255
            canvas.picture(_cropped(picture, tile.width / high), tile.x, top, tile.width - 0.5, high)
        else:
            canvas.box(tile.x, top, tile.x + tile.width - 0.5, top + high, SLOT)
        label = str(tile.frame)
        wide = text_width(label, 0.8 * unit) + 0.8 * unit
        if 2 * wide < tile.width:
            canvas.box(tile.x, top + high - 1.4 * unit, tile.x + wide, top + high, GROUND)
            canvas.text(label, tile.x + 0.4 * unit, top + high - 0.7 * unit, 0.8 * unit, DIM)


def _cropped(picture: np.ndarray, shape: float) -> np.ndarray:
    """The middle of a picture, ``shape`` times as wide as high."""
    high, wide = picture.shape[:2]
    width, height = min(wide, max(1, round(high * shape))), min(high, max(1, round(wide / shape)))
    y, x = (high - height) // 2, (wide - width) // 2
    return picture[y : y + height, x : x + width]


def _cuts(canvas: Canvas, axis: Axis, survey: Survey, cuts: Sequence[int], top: float, unit: float) -> None:
    """Where cuts are: lines through the strip of pictures, or marks on its edge where they would hide it, and as many
    numbers above as there is room for."""
    foot = top + (_tile(survey, canvas.width)[1] + 0.5 * unit if _sparse(axis, cuts, unit) else 0.6 * unit)
    taken = -math.inf
    thick = min(0.18 * unit, max(1.0, 0.1 * (axis.right - axis.left) / (len(cuts) + 1)))
    for cut in cuts:
        x = axis.x(cut)
        canvas.line([(x, top - 0.5 * unit), (x, foot)], CHOSEN, thick)
        words = f"{cut}  {clock(survey.seconds[cut])}"
        wide = text_width(words, 0.8 * unit)
        start = min(x - 0.2 * unit, axis.right - wide)
        if start > taken:
            canvas.text(words, start, top - 1.4 * unit, 0.8 * unit, CHOSEN)
            taken = start + wide + 1.5 * unit


def _guides(canvas: Canvas, axis: Axis, cuts: Sequence[int], top: float, foot: float, unit: float) -> None:
    """Cuts again, faint, behind the graphs; none where they would be all one sees."""
    if _sparse(axis, cuts, unit):
        for cut in cuts:
            canvas.line([(axis.x(cut), top), (axis.x(cut), foot)], _faint(CHOSEN), 0.1 * unit)


def _sparse(axis: Axis, cuts: Sequence[int], unit: float) -> bool:
    return len(cuts) <= (axis.right - axis.left) / (1.5 * unit)


def _faint(colour: RGB) -> RGB:
    return tuple(0.4 * c + 0.6 * g for c, g in zip(colour, GROUND, strict=True))


def _curve(canvas: Canvas, axis: Axis, motion: np.ndarray, top: float, high: float, unit: float) -> None:
    foot = top + high
    canvas.line([(axis.left, foot), (axis.right, foot)], EDGE, 0.08 * unit)
    if len(motion) > 1:
        # The scale of roots shows slow motion beside fast; a few jumps do not set it.
        most = max(float(np.percentile(motion, 99.5)), 0.2)
        x, value = axis.peaks(motion)
        y = foot - np.sqrt(np.minimum(value / most, 1)) * (high - 0.4 * unit)
        outline = np.stack([np.concatenate([[x[0]], x, [x[-1]]]), np.concatenate([[foot], y, [foot]])], 1)
        canvas.area(outline, _faint(MADE))
        canvas.line(np.stack([x, y], 1), MADE, 0.12 * unit)
        _label(canvas, axis, f"motion, to {most:.2g} % of the picture a frame", top - 0.7 * unit, unit)


def _without_jumps(motion: np.ndarray, cuts: Sequence[int]) -> np.ndarray:
    """Motion into the first frame of a shot is none: the next one's instead."""
    shown = motion.copy()
    for cut in (0, *cuts):
        shown[cut] = shown[min(cut + 1, len(shown) - 1)]
    return shown


def _repeats(canvas: Canvas, axis: Axis, repeats: Repeats, top: float, unit: float) -> None:
    foot = top + 2.2 * unit
    canvas.line([(axis.left, foot), (axis.right, foot)], EDGE, 0.08 * unit)
    columns = round(axis.right - axis.left)
    marks = repeats.repeated.astype(np.float64)
    each = len(marks) / columns
    if each <= 1:
        for frame in np.flatnonzero(marks).tolist():
            x = axis.x(frame + 0.5)
            canvas.line([(x, foot - 1.3 * unit), (x, foot)], REPEATED, min(0.2 * unit, 0.7 / each))
    else:
        sums = np.add.reduceat(marks, (np.arange(columns) * len(marks) // columns))
        for column in np.flatnonzero(sums).tolist():
            share, x = min(1.0, sums[column] / each), axis.left + column + 0.5
            canvas.line([(x, foot - (0.4 + 0.9 * share) * unit), (x, foot)], REPEATED, 1)
    for stretch in repeats.stretches:
        left, right = axis.x(stretch.first), axis.x(stretch.last + 1)
        if right - left > text_width(stretch.cadence, 0.75 * unit) + unit:
            canvas.line([(left, foot + 0.35 * unit), (right - 1, foot + 0.35 * unit)], REPEATED, 0.1 * unit)
            canvas.text(stretch.cadence, (left + right) / 2, foot - 1.9 * unit, 0.75 * unit, DIM, 0.5)


def _confidence(
    canvas: Canvas,
    axis: Axis,
    edit: Edit,
    confidence: Sequence[tuple[float, float]],
    top: float,
    high: float,
    unit: float,
) -> None:
    foot = top + high
    canvas.line([(axis.left, foot), (axis.right, foot)], EDGE, 0.08 * unit)
    at = np.array([float(position) for position, _ in confidence])
    level = np.array([value for _, value in confidence], float)
    kept = np.arange(edit.kept)
    source = kept + np.searchsorted(edit.dropped - np.arange(len(edit.dropped)), kept, "right")
    frames = np.interp(at, kept, source)
    low, most = math.floor(level.min() / 5) * 5, math.ceil(level.max() / 5) * 5 + 1e-6
    worst = np.full(len(source) if len(source) < 4096 else 4096, np.inf)
    slots = np.minimum((frames / axis.frames * len(worst)).astype(int), len(worst) - 1)
    np.minimum.at(worst, slots, level)
    there = np.flatnonzero(np.isfinite(worst))
    x = np.array([axis.x((slot + 0.5) / len(worst) * axis.frames) for slot in there])
    y = foot - (worst[there] - low) / (most - low) * (high - 0.4 * unit)
    canvas.line(np.stack([x, y], 1) if len(x) > 1 else [(x[0] - 1, y[0]), (x[0] + 1, y[0])], SURE, 0.12 * unit)
    _label(canvas, axis, f"predicted quality, {low:.0f} to {most:.0f} dB", top - 0.7 * unit, unit)


def _seconds(canvas: Canvas, axis: Axis, survey: Survey, y: float, unit: float) -> None:
    canvas.line([(axis.left, y), (axis.right, y)], EDGE, 0.1 * unit)
    times = np.array([float(value) for value in survey.seconds])
    length = times[-1] - times[0]
    room = (axis.right - axis.left) / (7 * unit)
    step = next((s for s in _SECONDS if length / s <= room), math.ceil(length / room / 3600) * 3600)
    taken = -math.inf
    for n in range(math.ceil(times[0] / step), math.floor(times[-1] / step) + 1):
        x = axis.x(0.5 + float(np.interp(n * step, times, np.arange(len(times)))))
        canvas.line([(x, y), (x, y + 0.5 * unit)], EDGE, 0.1 * unit)
        words = f"{n * step:.3g} s" if abs(n * step) < 60 else clock(n * step).removesuffix(".0")
        wide = text_width(words, 0.8 * unit)
        start = min(max(axis.left, x - wide / 2), axis.right - wide)
        if start > taken:
            canvas.text(words, start, y + 1.5 * unit, 0.8 * unit, DIM)
            taken = start + wide + unit


def _label(canvas: Canvas, axis: Axis, words: str, y: float, unit: float) -> None:
    canvas.box(
        axis.left, y - 0.6 * unit, axis.left + text_width(words, 0.75 * unit) + 0.4 * unit, y + 0.6 * unit, GROUND
    )
    canvas.text(words, axis.left, y, 0.75 * unit, DIM)


def _tile(survey: Survey, width: int) -> tuple[float, float]:
    """Width and height of a small picture."""
    unit = _unit(width)
    high = 7.5 * unit
    return min(max(survey.width / survey.height, 0.5), 2.4) * high, high


def _unit(width: int) -> float:
    """Height of capitals; all else is in proportion."""
    return max(6.5, 2 + width / 110)
