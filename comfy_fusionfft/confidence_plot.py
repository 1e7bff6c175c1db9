"""A drawing of how well each made frame is predicted to be, over the clip's time.

Few frames are points on a line. Where several share a pixel, the line is their mean and an area reaches down to the
worst of them, so that a single bad frame among ten thousand is still seen.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from .drawing import CHOSEN, DIM, EDGE, GROUND, HUES, MADE, RGB, SLOT, TEXT, Canvas, text_width
from .errors import InputError

CUT: RGB = HUES[2]
SPREAD: RGB = (0.13, 0.33, 0.32)
CLOSE = 2.0
"""Pixels between frames below which they are drawn together."""
STEPS = (1, 2, 5, 10, 20)
DB_STEPS = (1, 2, 5, 10)


def draw_confidence(
    values: Sequence[float | None],
    seconds: Sequence[float],
    threshold: float | None = None,
    *,
    cuts: Sequence[float] = (),
    width: int = 1280,
) -> np.ndarray:
    """A picture ``(H, W, 3)`` float32 in 0..1.

    values: predicted PSNR of each output frame in dB; None for source frames, and where nothing was predicted.
    seconds: when each is shown, ascending.
    threshold: dB below which frames were held instead of made; None: none were.
    cuts: seconds at which new shots begin.
    """
    if len(values) != len(seconds):
        raise InputError(f"{len(values)} confidences and {len(seconds)} times were given: give one time for each")
    if not len(values):
        raise InputError("there are no frames to draw: give the confidence of each output frame")
    made = np.array([v is not None for v in values])
    at = np.array(seconds, np.float64)
    level = np.array([v for v in values if v is not None], np.float64)
    held = level < threshold if threshold is not None else np.zeros(len(level), bool)

    unit = max(6.5, 2 + width / 110)
    canvas = Canvas(width, math.ceil(27 * unit), GROUND)
    plot = _Plot(canvas, unit, (at[0], at[-1]), _range(level, threshold))
    _heading(canvas, unit, len(values), at[made], level, held, threshold)
    plot.axes()
    for cut in cuts:
        plot.cut(cut)
    if threshold is not None:
        plot.threshold(threshold)
    if len(level):
        plot.curve(at[made], level)
        plot.held(at[made][held], level[held])
    _key(canvas, unit, threshold, bool(len(cuts)), plot.together)
    return canvas.pixels()


class _Plot:
    """The area between the axes: dB upwards, seconds to the right."""

    def __init__(self, canvas: Canvas, unit: float, time: tuple[float, float], level: tuple[float, float]) -> None:
        self.canvas, self.unit, self.time, self.level = canvas, unit, time, level
        self.left, self.right = 5 * unit, canvas.width - 2 * unit
        self.top, self.bottom = 5.4 * unit, canvas.height - 6.4 * unit
        self.together = False

    def x(self, seconds: np.ndarray | float) -> np.ndarray:
        share = (np.asarray(seconds, np.float64) - self.time[0]) / ((self.time[1] - self.time[0]) or 1)
        return self.left + share * (self.right - self.left)

    def y(self, level: np.ndarray | float) -> np.ndarray:
        share = (np.asarray(level, np.float64) - self.level[0]) / (self.level[1] - self.level[0])
        return self.bottom - share.clip(0, 1) * (self.bottom - self.top)

    def axes(self) -> None:
        unit, canvas = self.unit, self.canvas
        canvas.box(self.left, self.top, self.right, self.bottom, SLOT)
        low, high = self.level
        step = next((s for s in DB_STEPS if (high - low) / s <= 6), 20)
        for level in np.arange(math.ceil(low / step) * step, high + 1e-9, step):
            y = float(self.y(level))
            canvas.line([(self.left, y), (self.right, y)], (0.22, 0.235, 0.27), 0.07 * unit)
            canvas.text(f"{level:.0f}", self.left - 0.7 * unit, y, 0.85 * unit, DIM, 1)
        canvas.text("dB", self.left - 0.7 * unit, self.top - 1.3 * unit, 0.85 * unit, DIM, 1)
        for second, words in _ticks(*self.time, most=max(2, int(canvas.width / (8 * unit)))):
            x = float(self.x(second))
            canvas.line([(x, self.bottom), (x, self.bottom + 0.4 * unit)], EDGE, 0.1 * unit)
            align = 1 if x + text_width(words, 0.85 * unit) / 2 > canvas.width - unit else 0.5
            canvas.text(words, x, self.bottom + 1.4 * unit, 0.85 * unit, DIM, align)
        canvas.line([(self.left, self.bottom), (self.right, self.bottom)], EDGE, 0.1 * unit)

    def cut(self, seconds: float) -> None:
        x = float(self.x(seconds))
        self.canvas.line([(x, self.top), (x, self.bottom)], CUT, 0.1 * self.unit)
        mark = 0.4 * self.unit
        self.canvas.area([(x - mark, self.top - mark), (x + mark, self.top - mark), (x, self.top + mark)], CUT)

    def threshold(self, level: float) -> None:
        y = float(self.y(level))
        self.canvas.line([(self.left, y), (self.right, y)], CHOSEN, 0.1 * self.unit, dash=0.6 * self.unit)

    def curve(self, seconds: np.ndarray, level: np.ndarray) -> None:
        x = self.x(seconds)
        self.together = len(x) > 1 and (self.right - self.left) / (len(x) - 1) < CLOSE
        if self.together:
            column = ((x - self.left) / CLOSE).astype(int)
            starts = np.flatnonzero(np.diff(column, prepend=-1))
            mean = np.add.reduceat(level, starts) / np.diff(starts, append=len(level))
            least = np.minimum.reduceat(level, starts)
            x = self.left + (column[starts] + 0.5) * CLOSE
            outline = np.concatenate((np.stack((x, self.y(mean)), 1), np.stack((x, self.y(least)), 1)[::-1]))
            self.canvas.area(outline, SPREAD)
            level = mean
        points = np.stack((x, self.y(level)), 1)
        self.canvas.line(points, MADE, 0.16 * self.unit)
        apart = (self.right - self.left) / max(len(points), 1)
        if apart > 0.9 * self.unit:
            for px, py in points:
                self.canvas.dot(px, py, min(0.3 * self.unit, 0.25 * apart), MADE)

    def held(self, seconds: np.ndarray, level: np.ndarray) -> None:
        """A mark below the axis, where even a crowd of other frames does not hide it, and the point itself."""
        half = max(0.09 * self.unit, 1.0)
        for x, y in zip(self.x(seconds), self.y(level), strict=True):
            self.canvas.box(x - half, self.bottom + 2.4 * self.unit, x + half, self.bottom + 3.2 * self.unit, CHOSEN)
            if not self.together:
                self.canvas.dot(x, y, 0.36 * self.unit, CHOSEN)


def _heading(
    canvas: Canvas,
    unit: float,
    frames: int,
    seconds: np.ndarray,
    level: np.ndarray,
    held: np.ndarray,
    threshold: float | None,
) -> None:
    parts = [(f"{len(level) - int(held.sum())} of {frames} frames made", TEXT)]
    if len(level):
        worst = int(level.argmin())
        parts.append((f"predicted {np.median(level):.1f} dB", MADE))
        parts.append((f"lowest {level[worst]:.1f} dB at {_written(seconds[worst], 2, seconds[-1])}", TEXT))
    if threshold is not None:
        parts.append((f"{int(held.sum())} held", CHOSEN))
    left = unit
    for words, colour in parts:
        if left + text_width(words, unit) > canvas.width - unit:
            break
        canvas.text(words, left, 1.8 * unit, unit, colour)
        left += text_width(words, unit) + 1.5 * unit


def _key(canvas: Canvas, unit: float, threshold: float | None, cuts: bool, together: bool) -> None:
    entries = [("mean" if together else "predicted PSNR", MADE)]
    entries += [("down to the worst", SPREAD)] if together else []
    entries += [(f"held below {threshold:g} dB", CHOSEN)] if threshold is not None else []
    entries += [("cut", CUT)] if cuts else []
    x, y, small = unit, canvas.height - 1.5 * unit, 0.85 * unit
    for words, colour in entries:
        if x + 1.2 * unit + text_width(words, small) > canvas.width - unit:
            break
        canvas.box(x, y - 0.35 * unit, x + 0.7 * unit, y + 0.35 * unit, colour, 0.05 * unit)
        canvas.text(words, x + 1.2 * unit, y, small, DIM)
        x += text_width(words, small) + 3 * unit


def _range(level: np.ndarray, threshold: float | None) -> tuple[float, float]:
    """Multiples of 5 dB around everything there is to show."""
    shown = [*level, *([] if threshold is None else [threshold])] or [20.0, 40.0]
    low, high = 5 * math.floor((min(shown) - 1) / 5), 5 * math.ceil((max(shown) + 1) / 5)
    return float(low), float(max(high, low + 10))


def _ticks(first: float, last: float, most: int) -> list[tuple[float, str]]:
    """Round times, ``most`` at most, and how they are written."""
    span = max(last - first, 1e-3)
    steps = [s * 10.0**e for e in range(-3, 1) for s in (1, 2, 5)] + [10, 20, 30]
    steps += [s * 60.0 for s in (1, 2, 5, 10, 20, 30)] + [s * 3600.0 for s in (1, 2, 5, 10, 20, 50, 100)]
    step = next((s for s in steps if span / s <= most), span)
    times = np.arange(math.ceil(first / step - 1e-6), math.floor(last / step + 1e-6) + 1) * step
    digits = max(0, -math.floor(math.log10(step) + 1e-9))
    return [(t, _written(t, digits, last)) for t in times]


def _written(seconds: float, digits: int, last: float) -> str:
    """As seconds, or as a clock shows it where times go up to a minute and more."""
    if last < 60:
        return f"{seconds:.{digits}f} s"
    minutes, rest = divmod(round(float(seconds), digits), 60)
    text = f"{rest:0{3 + digits if digits else 2}.{digits}f}"
    if last < 3600:
        return f"{minutes:.0f}:{text}"
    whole, minutes = divmod(minutes, 60)
    return f"{whole:.0f}:{minutes:02.0f}:{text}"
