"""Hard cuts from a survey: where a frame is not what its predecessor has become.

Four numbers speak for a cut: motion explains little of the picture, much of it changes on the whole and in places, and
the motion found is long. Each is set against what is usual around, because a shaking camera or an explosion is ill
explained everywhere and not cut. The weights were fitted by logistic regression on clips cut together from pieces of
others (``benchmarks/everyday/cuts.py``). A flash is no cut: what comes after it is what was before.
"""

from __future__ import annotations

import math

import numpy as np

from .measure import Survey

THRESHOLD = 0.5
"""A frame begins a new shot when that is likelier than this."""

AROUND = 6
"""Frames on each side that say what is usual."""
_RANK = 2  # the third worst around is usual: a shot of a frame or two has cuts for neighbours
_BLOCK = 1 << 16

_BIAS = -9.8  # one and a half less than fitted: a false cut costs more than a missed one, and is likelier in real clips
# Of each number: its weight, the weight of what is usual around, its value where nothing happens, as assumed beyond the
# ends of a clip, and where things move as they do, as assumed around the few frames of a clip too short to tell.
_WEIGHTS = {
    "missed": (20.4, -13.3, 0.05, 0.05),
    "change": (1.19, -0.92, math.log(0.3), math.log(2.0)),
    "stir": (0.63, -0.57, 0.0, math.log(40.0)),
    "motion": (1.43, -1.44, math.log(0.2), math.log(1.0)),
}


def find_cuts(survey: Survey, *, threshold: float = THRESHOLD) -> tuple[int, ...]:
    """Frames that begin a new shot, ascending; the first frame of the clip is not among them."""
    return tuple(np.flatnonzero(cut_probability(survey) > threshold).tolist())


def cut_probability(survey: Survey) -> np.ndarray:
    """``(n,)`` float32: how likely each frame begins a new shot."""
    numbers = {
        "missed": 1 - survey.explained,
        "change": np.log(survey.change + 0.3),
        "stir": np.log(survey.stir + 1),
        "motion": np.log(survey.motion + 0.2),
    }
    odds = np.full(len(survey), _BIAS, np.float32)
    for name, (weight, usual_weight, nothing, ordinary) in _WEIGHTS.items():
        beyond = nothing if len(survey) > 2 + _RANK else ordinary
        odds += weight * numbers[name] + usual_weight * usual_worst(numbers[name], beyond)
    odds[:1] = -np.inf
    for began in _flashes(survey):
        odds[began : began + int(survey.span[began]) + 1] = -np.inf
    return 1 / (1 + np.exp(-odds))


def _flashes(survey: Survey) -> list[int]:
    """Frames with which a flash begins."""
    return np.flatnonzero(survey.bridge > np.maximum(0.6, survey.explained + 0.02)).tolist()


def usual_worst(values: np.ndarray, beyond: float) -> np.ndarray:
    """``(n,)`` the third largest of the values around each one, itself left out; ``beyond``: value outside the clip."""
    count = len(values)
    padded = np.pad(values.astype(np.float32), AROUND, constant_values=beyond)
    padded[AROUND] = beyond  # the first frame has no step that leads to it
    found = np.empty(count, np.float32)
    for first in range(0, count, _BLOCK):
        end = min(count, first + _BLOCK)
        around = np.lib.stride_tricks.sliding_window_view(padded[first : end + 2 * AROUND], 2 * AROUND + 1)
        others = np.delete(around, AROUND, axis=1)
        found[first:end] = np.partition(others, -1 - _RANK, axis=1)[:, -1 - _RANK]
    return found
