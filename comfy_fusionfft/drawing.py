"""A small drawing surface with soft edges: lines, areas, boxes, text, pictures; OpenCV does the work.

Everything is drawn enlarged and averaged down, so that fractions of a pixel count and edges are smooth.
Coordinates are pixels from the top left corner, x before y, fractions allowed; colours are RGB in 0..1.
Text is ASCII: OpenCV's fonts know no more (4.x draws strokes, 5.x real type; sizes are matched).
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache
from pathlib import Path

import cv2
import numpy as np

RGB = tuple[float, float, float]

GROUND, SLOT, EDGE = (0.075, 0.08, 0.095), (0.15, 0.16, 0.19), (0.42, 0.45, 0.52)
TEXT, DIM, ABSENT = (0.93, 0.94, 0.96), (0.58, 0.61, 0.68), (0.30, 0.32, 0.37)
SOURCE, MADE, CHOSEN = (0.93, 0.94, 0.96), (0.25, 0.78, 0.72), (1.0, 0.70, 0.22)
HUES: tuple[RGB, ...] = (
    (0.30, 0.84, 0.76),
    (0.36, 0.66, 1.0),
    (0.64, 0.55, 1.0),
    (0.93, 0.50, 0.86),
    (1.0, 0.52, 0.52),
)

_FONT = cv2.FONT_HERSHEY_SIMPLEX
_FINE = 4  # bits of sub-pixel position that OpenCV is given


class Canvas:
    """``width × height`` pixels of one ``colour`` to draw on; ``pixels()`` hands the picture out."""

    def __init__(self, width: int, height: int, colour: RGB) -> None:
        self.width, self.height = width, height
        self.zoom = 4 if width * height <= 2_000_000 else 2
        self._ink = np.empty((height * self.zoom, width * self.zoom, 3), np.uint8)
        self._ink[:] = _bytes(colour)

    def pixels(self) -> np.ndarray:
        """``(H, W, 3)`` float32 in 0..1."""
        small = cv2.resize(self._ink, (self.width, self.height), interpolation=cv2.INTER_AREA)
        return small.astype(np.float32) / 255

    def line(self, points: np.ndarray | Sequence, colour: RGB, thick: float, dash: float = 0) -> None:
        """A line through ``points (n, 2)``; ``dash``: length of its strokes and gaps, 0 for none."""
        points = np.asarray(points, np.float64)
        strokes = [points] if not dash else _dashes(points, dash)
        cv2.polylines(
            self._ink, [self._fine(s) for s in strokes], False, _bytes(colour), self._thick(thick), cv2.LINE_AA, _FINE
        )

    def area(self, points: np.ndarray | Sequence, colour: RGB) -> None:
        cv2.fillPoly(self._ink, [self._fine(np.asarray(points, np.float64))], _bytes(colour), cv2.LINE_AA, _FINE)

    def box(self, x0: float, y0: float, x1: float, y1: float, colour: RGB, radius: float = 0) -> None:
        self.area(rounded(x0, y0, x1, y1, radius), colour)

    def frame(self, x0: float, y0: float, x1: float, y1: float, colour: RGB, thick: float, radius: float = 0) -> None:
        """The outline of a box, its line inside."""
        half = thick / 2
        outline = rounded(x0 + half, y0 + half, x1 - half, y1 - half, radius)
        self.line(np.concatenate((outline, outline[:1])), colour, thick)

    def dot(self, x: float, y: float, radius: float, colour: RGB) -> None:
        self.box(x - radius, y - radius, x + radius, y + radius, colour, radius)

    def text(self, text: str, x: float, y: float, height: float, colour: RGB, align: float = 0) -> None:
        """``text`` with capitals ``height`` tall, vertically centred on ``y``; align: 0 starts, 0.5 centres, 1 ends."""
        weight = _weight(height * self.zoom)
        left = (x - align * text_width(text, height)) * self.zoom
        base = (y + height / 2) * self.zoom - weight / 2
        place, scale = (round(left), round(base)), _font_scale(height * self.zoom)
        cv2.putText(self._ink, text, place, _FONT, scale, _bytes(colour), weight, cv2.LINE_AA)

    def picture(self, image: np.ndarray, x: float, y: float, width: float, height: float) -> None:
        """``image`` ``(h, w, 3)`` in 0..1, fitted into this box."""
        box = [round(v * self.zoom) for v in (x, y, x + width, y + height)]
        size = (max(1, box[2] - box[0]), max(1, box[3] - box[1]))
        shrinks = image.shape[1] > size[0]
        fitted = cv2.resize(image, size, interpolation=cv2.INTER_AREA if shrinks else cv2.INTER_CUBIC)
        into = self._ink[box[1] : box[1] + size[1], box[0] : box[0] + size[0]]
        into[:] = np.rint(fitted[: into.shape[0], : into.shape[1]].clip(0, 1) * 255).astype(np.uint8)

    def disc(self, image: np.ndarray, x: float, y: float, radius: float) -> None:
        """The middle of a square ``image`` as a disc around ``(x, y)``."""
        under = self._ink.copy()
        self.picture(image, x - radius, y - radius, 2 * radius, 2 * radius)
        mask = np.zeros(self._ink.shape[:2], np.uint8)
        points = self._fine(rounded(x - radius, y - radius, x + radius, y + radius, radius))
        cv2.fillPoly(mask, [points], 255, cv2.LINE_AA, _FINE)
        np.copyto(self._ink, under, where=mask[..., None] < 128)

    def _fine(self, points: np.ndarray) -> np.ndarray:
        # OpenCV counts from pixel centres, drawings from pixel corners: hence the half.
        return np.rint((points * self.zoom - 0.5) * (1 << _FINE)).astype(np.int32)

    def _thick(self, thick: float) -> int:
        return max(1, round(thick * self.zoom))


def save_png(path: Path, picture: np.ndarray) -> None:
    """Write ``(H, W, 3)`` RGB, uint8 or floats 0..1. Through a buffer: OpenCV mishandles some file names on Windows."""
    levels = picture if picture.dtype == np.uint8 else (picture * 255 + 0.5).clip(0, 255).astype(np.uint8)
    path.write_bytes(cv2.imencode(".png", cv2.cvtColor(levels, cv2.COLOR_RGB2BGR))[1].tobytes())


def text_width(text: str, height: float) -> float:
    """How wide ``text`` is whose capitals are ``height`` tall."""
    fine = 8  # measured enlarged, because the answer is whole pixels
    return cv2.getTextSize(text, _FONT, _font_scale(height * fine), _weight(height * fine))[0][0] / fine


def rounded(x0: float, y0: float, x1: float, y1: float, radius: float) -> np.ndarray:
    """Corners of a box with round corners, ``(n, 2)``, clockwise."""
    radius = min(radius, (x1 - x0) / 2, (y1 - y0) / 2)
    turn = np.linspace(0, np.pi / 2, 13)
    centres = (
        (x1 - radius, y1 - radius),
        (x0 + radius, y1 - radius),
        (x0 + radius, y0 + radius),
        (x1 - radius, y0 + radius),
    )
    corners = [
        np.stack((cx + radius * np.cos(turn + q * np.pi / 2), cy + radius * np.sin(turn + q * np.pi / 2)), 1)
        for q, (cx, cy) in enumerate(centres)
    ]
    return np.concatenate(corners)


def overlay(picture: np.ndarray, plate: np.ndarray, x: int, y: int, radius: float) -> None:
    """Put ``plate`` onto ``picture`` (both float RGB, in place), its top left corner at ``(x, y)``, corners round."""
    into = picture[y : y + plate.shape[0], x : x + plate.shape[1]]
    plate = plate[: into.shape[0], : into.shape[1]]
    shape = Canvas(plate.shape[1], plate.shape[0], (0, 0, 0))
    shape.box(0, 0, plate.shape[1], plate.shape[0], (1, 1, 1), radius)
    share = shape.pixels()[..., :1]
    into[:] = into + (plate - into) * share


def _bytes(colour: RGB) -> tuple[int, ...]:
    return tuple(round(255 * c) for c in colour)


@cache
def _capital() -> float:
    """How tall an H is at font scale 1. It is drawn to see: what OpenCV 5 says of heights is the whole line's."""
    probe = np.zeros((300, 300), np.uint8)
    cv2.putText(probe, "H", (40, 260), _FONT, 8, 255, _weight(8 * 22))
    rows = np.flatnonzero(probe.any(1))
    return (rows[-1] - rows[0] + 1) / 8


def _font_scale(height: float) -> float:
    return height / _capital()


def _weight(height: float) -> int:
    """Stroke width: proportional for OpenCV 4's strokes; OpenCV 5 takes it as regular or bold."""
    return 1 if int(cv2.__version__.split(".")[0]) >= 5 else max(1, round(height * 0.14))


def _dashes(points: np.ndarray, dash: float) -> list[np.ndarray]:
    """A polyline cut into strokes of length ``dash`` with gaps as long."""
    along = np.concatenate(([0], np.hypot(*np.diff(points, axis=0).T).cumsum()))
    strokes = []
    for start in np.arange(0, along[-1], 2 * dash):
        places = np.linspace(start, min(start + dash, along[-1]), 4)
        strokes.append(np.stack([np.interp(places, along, points[:, axis]) for axis in (0, 1)], 1))
    return strokes
