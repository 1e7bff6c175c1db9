"""Seconds per made frame over megapixels, ours beside the others, as a PNG: one panel a path, both axes logarithmic."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

import cv2
import numpy as np

from comfy_fusionfft.errors import MediaError

from .contest import Row
from .report import PATHS, PEERS, PRECISIONS

FINER = 2
"""Drawn so much larger and then reduced: OpenCV's own text and lines are rough."""
PANEL, MARGIN_LEFT, MARGIN_TOP, MARGIN_BOTTOM, MARGIN_RIGHT = (430, 330), 78, 58, 56, 22
ENTRY = 20
"""Height of a line of the legend, which stands below in two columns."""
INK, FAINT, PAPER = (40, 36, 32), (226, 222, 218), (255, 255, 255)
OURS = ((180, 90, 20), (40, 120, 230), (90, 140, 30))
"""BGR, by precision; the others are shades of grey and brown."""
THEIRS = ((110, 110, 110), (60, 80, 140), (150, 120, 90), (120, 70, 120), (160, 160, 60))
MINOR = (1, 2, 5)


@dataclass(frozen=True)
class Line:
    """label, colour (BGR), whether it is ours, and points (megapixels, seconds)."""

    label: str
    colour: tuple[int, int, int]
    ours: bool
    points: tuple[tuple[float, float], ...]


def draw(rows: Sequence[Row], path: Path) -> None:
    """Write the PNG. A panel per path that has rows, ×2 alone where there is ×2."""
    panels = panels_of(rows)
    entries = max(len(lines) for _, lines in panels)
    picture = np.hstack([panel(title, lines, (entries + 1) // 2) for title, lines in panels])
    height, width = picture.shape[0] // FINER, picture.shape[1] // FINER
    small = cv2.resize(picture, (width, height), interpolation=cv2.INTER_AREA)
    path.parent.mkdir(parents=True, exist_ok=True)
    done, data = cv2.imencode(".png", small)
    if not done:
        raise MediaError(f"{path} could not be drawn as PNG")
    path.write_bytes(data.tobytes())


def panels_of(rows: Sequence[Row]) -> list[tuple[str, list[Line]]]:
    found = []
    for name, title in PATHS.items():
        here = [row for row in rows if row.path == name]
        multipliers = {row.multiplier for row in here}
        if here:
            multiplier = 2 if 2 in multipliers else min(multipliers)
            heading = title if name == "spectral" else f"{title}, x{multiplier}"
            found.append((heading, lines_of([row for row in here if row.multiplier == multiplier])))
    return found


def lines_of(rows: Sequence[Row]) -> list[Line]:
    """Ours by precision, then each peer."""
    lines = []
    for number, dtype in enumerate(dict.fromkeys(row.dtype for row in rows)):
        points = {_megapixels(row): row.seconds_per_frame for row in rows if row.dtype == dtype}
        label = f"FusionFFT {PRECISIONS.get(dtype, dtype)}"
        lines.append(Line(label, OURS[number % len(OURS)], True, tuple(sorted(points.items()))))
    for number, peer in enumerate(dict.fromkeys(row.peer for row in rows)):
        points = {_megapixels(row): row.peer_seconds_per_frame for row in rows if row.peer == peer}
        label = PEERS[peer] + (" RIFE" if peer == "native" and rows[0].path == "fusion" else "")
        lines.append(Line(label, THEIRS[number % len(THEIRS)], False, tuple(sorted(points.items()))))
    return lines


def panel(title: str, lines: Sequence[Line], legend: int) -> np.ndarray:
    """``(H, W, 3)`` uint8, ``FINER`` times too large, with room for ``legend`` lines below."""
    width = MARGIN_LEFT + PANEL[0] + MARGIN_RIGHT
    height = MARGIN_TOP + PANEL[1] + MARGIN_BOTTOM + legend * ENTRY + 12
    canvas = np.full((height * FINER, width * FINER, 3), PAPER, np.uint8)
    across = Axis(*_limits([x for line in lines for x, _ in line.points]), MARGIN_LEFT, MARGIN_LEFT + PANEL[0])
    up = Axis(*_limits([y for line in lines for _, y in line.points]), MARGIN_TOP + PANEL[1], MARGIN_TOP)
    for value in across.ticks():
        at = across.place(value)
        _stroke(canvas, (at, MARGIN_TOP), (at, MARGIN_TOP + PANEL[1]), FAINT, 1)
        _write(canvas, f"{value:g}", (at, MARGIN_TOP + PANEL[1] + 18), 0.42, centred=True)
    for value in up.ticks():
        at = up.place(value)
        _stroke(canvas, (MARGIN_LEFT, at), (MARGIN_LEFT + PANEL[0], at), FAINT, 1)
        text = f"{value:g}"
        _write(canvas, text, (MARGIN_LEFT - 10 - 8 * len(text), at + 4), 0.42)
    corners = ((MARGIN_LEFT, MARGIN_TOP), (MARGIN_LEFT + PANEL[0], MARGIN_TOP + PANEL[1]))
    cv2.rectangle(canvas, *(_grid(*corner) for corner in corners), INK, FINER, cv2.LINE_AA)
    _write(canvas, title, (MARGIN_LEFT, MARGIN_TOP - 32), 0.62, weight=2)
    _write(canvas, "seconds per made frame", (MARGIN_LEFT, MARGIN_TOP - 11), 0.42)
    _write(canvas, "megapixels", (MARGIN_LEFT + PANEL[0] / 2, MARGIN_TOP + PANEL[1] + 42), 0.42, centred=True)
    for line in lines:
        places = [(across.place(x), up.place(y)) for x, y in line.points]
        for start, end in pairwise(places):
            _stroke(canvas, start, end, line.colour, 3 if line.ours else 2)
        for place in places:
            _dot(canvas, place, line)
    _legend(canvas, lines)
    return canvas


@dataclass(frozen=True)
class Axis:
    """Logarithmic: ``low`` lies at pixel ``start``, ``high`` at pixel ``end``."""

    low: float
    high: float
    start: float
    end: float

    def place(self, value: float) -> float:
        share = math.log(value / self.low) / math.log(self.high / self.low)
        return self.start + share * (self.end - self.start)

    def ticks(self) -> list[float]:
        decades = range(math.floor(math.log10(self.low)), math.ceil(math.log10(self.high)) + 1)
        every = [float(f"{step}e{decade}") for decade in decades for step in MINOR]
        inside = [value for value in every if self.low <= value <= self.high]
        return inside if len(inside) <= 12 else [value for value in inside if math.log10(value).is_integer()]


def _legend(canvas: np.ndarray, lines: Sequence[Line]) -> None:
    for number, line in enumerate(lines):
        x = MARGIN_LEFT + number % 2 * PANEL[0] // 2
        y = MARGIN_TOP + PANEL[1] + MARGIN_BOTTOM + 8 + number // 2 * ENTRY
        _stroke(canvas, (x, y), (x + 28, y), line.colour, 3 if line.ours else 2)
        _dot(canvas, (x + 14, y), line)
        _write(canvas, line.label, (x + 38, y + 4), 0.44)


def _limits(values: Sequence[float]) -> tuple[float, float]:
    low, high = min(values), max(values)
    room = max(1.5, (high / low) ** 0.08)
    return low / room, high * room


def _megapixels(row: Row) -> float:
    return row.height * row.width / 1e6


def _grid(x: float, y: float) -> tuple[int, int]:
    return round(x * FINER), round(y * FINER)


def _stroke(canvas: np.ndarray, start: tuple, end: tuple, colour: tuple, weight: int) -> None:
    cv2.line(canvas, _grid(*start), _grid(*end), colour, weight * FINER // 2 + 1, cv2.LINE_AA)


def _dot(canvas: np.ndarray, place: tuple, line: Line) -> None:
    radius = (5 if line.ours else 4) * FINER
    cv2.circle(canvas, _grid(*place), radius, PAPER, -1, cv2.LINE_AA)
    cv2.circle(canvas, _grid(*place), radius - FINER, line.colour, -1 if line.ours else FINER, cv2.LINE_AA)


def _write(canvas: np.ndarray, text: str, place: tuple, size: float, *, weight: int = 1, centred: bool = False) -> None:
    (width, _), _ = cv2.getTextSize(text, cv2.FONT_HERSHEY_SIMPLEX, size * FINER, weight * FINER)
    x, y = _grid(*place)
    origin = (x - width // 2 if centred else x, y)
    cv2.putText(canvas, text, origin, cv2.FONT_HERSHEY_SIMPLEX, size * FINER, INK, weight * FINER, cv2.LINE_AA)
