"""The host's curve widget: its input in every host that has one, and its value as keys of a speed."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from comfy_api.latest import io

from ..comfy_fusionfft.errors import InputError

MOST_POINTS = 1000
"""In a drawn curve; each becomes a key where it is straight."""
POINTS = 64
"""Keys that stand for a smooth curve: between them the speed bends too little to be seen."""
_FARTHEST = 1e6
_DIGITS = 6  # of a place: points that lie closer are one


def input(id: str, default: Sequence[tuple[float, float]], tooltip: str) -> io.Curve.Input:
    """x and y 0..1. Hosts before 0.19 hand the bare points to a front end that wants them in a mapping."""
    curve = io.Curve.Input(id, default=list(default), tooltip=tooltip)
    if isinstance(curve.as_dict().get("default"), list):
        curve.default = {"points": [list(point) for point in default], "interpolation": "monotone_cubic"}
    return curve


def keys(curve: Any, top: float, slowest: float, fastest: float) -> str:
    """Text for ``retime.parse_speed``: a speed at even shares of the clip, at the points alone where it is straight.

    curve: what the widget holds (points, perhaps with their interpolation), or an object of the host's.
    """
    points, smooth = _points(curve)
    x, y = (np.array(column, np.float64) for column in zip(*points, strict=True))
    shares = np.linspace(0.0, 1.0, POINTS + 1) if smooth else np.unique([0.0, *x.clip(0, 1), 1.0])
    heights = _monotone(x, y, shares) if smooth else np.interp(shares, x, y)
    speeds = (heights * top).clip(slowest, fastest)
    return ", ".join(f"{100 * share:.6g}%:{speed:.6g}" for share, speed in zip(shares, speeds, strict=True))


def _points(curve: Any) -> tuple[list[tuple[float, float]], bool]:
    """The points from left to right, and whether the line between them is smooth."""
    kind = ""
    if isinstance(curve, dict):
        curve, kind = curve.get("points"), curve.get("interpolation", "")
    elif hasattr(curve, "points"):
        curve, kind = curve.points, "linear" if type(curve).__name__ == "LinearCurve" else ""
    try:
        points = sorted({round(float(x), _DIGITS): float(y) for x, y in curve}.items())
    except (TypeError, ValueError, OverflowError):
        raise InputError("the speed curve is no list of points: draw it anew, or choose another speed") from None
    if not points:
        raise InputError("the speed curve has no points: click into it to set one, or choose another speed")
    if len(points) > MOST_POINTS:
        raise InputError(f"the speed curve has {len(points)} points: draw it with {MOST_POINTS} or fewer")
    if not all(abs(value) <= _FARTHEST for point in points for value in point):
        raise InputError("a point of the speed curve lies nowhere near it: draw it anew, or choose another speed")
    return points, kind != "linear" and len(points) > 2


def _monotone(x: np.ndarray, y: np.ndarray, at: np.ndarray) -> np.ndarray:
    """A cubic through the points that never overshoots them (Fritsch and Carlson, 1980), as the widget draws it."""
    wide = np.diff(x)
    secants = np.diff(y) / wide
    slopes = np.concatenate([secants[:1], (secants[:-1] + secants[1:]) / 2, secants[-1:]])
    slopes[1:-1][secants[:-1] * secants[1:] <= 0] = 0
    for number, secant in enumerate(secants):
        ends = slopes[number : number + 2]
        length = float(np.hypot(*ends))
        if secant == 0:
            ends[:] = 0
        elif length > 3 * abs(secant):
            ends *= 3 * abs(secant) / length
    left = (np.searchsorted(x, at, side="right") - 1).clip(0, len(wide) - 1)
    span = wide[left]
    t = ((at - x[left]) / span).clip(0, 1)
    rise = t * t * (3 - 2 * t)
    bend = span * t * (1 - t) * (slopes[left] * (1 - t) - slopes[left + 1] * t)
    return y[left] + rise * (y[left + 1] - y[left]) + bend
