"""Frames that show the one before them once more, from a survey: drawings on twos, stuttered captures, filled-up rates.

A repeat is a step that changes next to nothing between steps that change much more: what little is left is coding noise
or grain. Slow motion is slow on all sides, and stays. A picture that stands still for longer than ``HOLD_SECONDS`` is
meant to, and stays whole. A step in doubt counts as a repeat where repeats are common or it is in step with them.

The weights were fitted by logistic regression on clips held by known patterns (``benchmarks/everyday/repeats.py``).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np

from .cadence import Stretch, stretches
from .measure import Survey

HOLD_SECONDS = 0.3
"""A picture shown for longer than this stands still on purpose."""
LEAST_STIR = 2.5
"""Levels; where nothing around a frame changes by more than this, nothing moves, and nothing is a repeat."""

_LEAST = np.log(1 + LEAST_STIR)
_STANDS = 0.05  # per cent of the picture: less motion than this is none
_NEAR = 5  # frames on each side, one of which moves: enough for pictures shown six times
_CALM = 0.8  # a repeat that is not in step with others changes less than half as much as what is around it
_FEW = 0.004  # share of repeats to expect in a clip of which nothing is known
_MANY = 0.2  # the most that is expected anywhere: only a cadence makes repeats likelier than not
_SURE = 4.0  # log odds: what a single frame says at most about the cadence
_PLAIN = 1.25  # log odds on average that a cadence needs
_BONUS = 5.0  # log odds for being in step
_PLAINLY_MOVES = -2.5  # log odds of frames that no cadence makes a repeat
_BEAT = 24  # frames that show a cadence
_CYCLE = 60  # a multiple of all periods


@dataclass(frozen=True, eq=False)
class Repeats:
    """repeated: ``(n,)`` bool, the frame shows its predecessor once more. still: ``(n,)`` bool, so it does, but for so
    long that it is meant to. stretches: where and how, in order. ``len`` is the number of repeats."""

    repeated: np.ndarray
    still: np.ndarray
    stretches: tuple[Stretch, ...]

    def __len__(self) -> int:
        return int(self.repeated.sum())


def find_repeats(survey: Survey, cuts: Sequence[int] = ()) -> Repeats:
    """Repeats within the shots that ``cuts`` (source frames that begin one) divide the clip into."""
    repeated, still = np.zeros(len(survey), bool), np.zeros(len(survey), bool)
    found: list[Stretch] = []
    for first, end in pairwise((0, *cuts, len(survey))):
        odds = _odds(survey, first, end)
        same = odds + _expected(odds) + _in_step(odds) > 0
        quiet = (survey.stir[first + 1 : end] < LEAST_STIR) & (survey.motion[first + 1 : end] < _STANDS)
        for begin, stop in _runs(quiet | same, first):
            shown = float(survey.seconds[stop - 1] - survey.seconds[begin - 1])
            still[begin:stop] = shown > HOLD_SECONDS
        repeated[first + 1 : end] = same & ~still[first + 1 : end]
        found += stretches(survey.motion, repeated, first, end)
    return Repeats(repeated, still, tuple(found))


def _runs(steps: np.ndarray, first: int) -> list[list[int]]:
    """Half-open runs of frames to which a marked step leads; the shot's steps begin after its frame ``first``."""
    edges = first + 1 + np.flatnonzero(np.diff(np.concatenate([[0], steps, [0]])))
    return edges.reshape(-1, 2).tolist()


def _odds(survey: Survey, first: int, end: int) -> np.ndarray:
    """``(end - first - 1,)`` log odds of each frame of a shot, but the first, to repeat the one before it."""
    stir = np.log(survey.stir[first + 1 : end] + 1)
    if len(stir) < 2:
        return np.full(len(stir), -np.inf)
    # Something moves before a repeat and after it, where the shot goes on; at its beginning only a cadence can tell.
    before, after = _largest(stir, -_NEAR), _largest(stir, _NEAR)
    last = after[-_NEAR:]
    last[last <= _LEAST] = before[-_NEAR:][last <= _LEAST]
    both = np.minimum(np.where(before < 0, after, before), after)
    beside = np.maximum(_largest(stir, -1), _largest(stir, 1))
    moves = np.log(survey.motion[first + 1 : end] + 0.02)
    odds = 1.9 * (both - stir) + 1.63 * (beside - stir) - 1.39 * moves - 5.2
    odds = np.where((stir < both - _CALM) & (both > _LEAST), odds, np.minimum(odds, -0.5))
    return np.where(np.maximum(before, after) > _LEAST, odds, -np.inf)


def _largest(values: np.ndarray, reach: int) -> np.ndarray:
    """The largest of the ``reach`` values after each, or before it for a negative reach; -1 where there are none."""
    near = abs(reach)
    padded = np.pad(values, near, constant_values=-1)
    start = 0 if reach < 0 else near + 1
    return np.lib.stride_tricks.sliding_window_view(padded, near)[start : start + len(values)].max(axis=1)


def _expected(odds: np.ndarray) -> np.ndarray:
    """What is added to the odds for how common repeats are around: among many the next is likely, a single one has to
    be beyond doubt."""
    if not len(odds):
        return odds
    share = np.full(len(odds), _FEW)
    window = np.ones(min(2 * _BEAT + 1, len(odds)))
    count = np.convolve(np.ones(len(odds)), window, "same")
    for _ in range(3):
        likely = 1 / (1 + np.exp(-np.clip(odds + np.log(share / (1 - share)), -30, 30)))
        share = np.clip(np.convolve(likely, window, "same") / count, _FEW, _MANY)
    return np.log(share / (1 - share))


def _in_step(odds: np.ndarray) -> np.ndarray:
    """What a steady cadence around a frame adds to its odds: coding hides some repeats, and shows others where there
    are none, but not in step."""
    added = np.zeros(len(odds))
    sure = np.clip(odds, -_SURE, _SURE)
    for first in range(0, max(1, len(odds) - _BEAT // 2), _BEAT // 2):
        part = sure[first : first + _BEAT]
        if len(part) < _BEAT // 2 or (part > 0).sum() < 3:
            continue
        masks = _CADENCES[:, np.arange(first, first + len(part)) % _CYCLE]
        mask = masks[np.where(masks, part, -part).mean(axis=1).argmax()]
        inside, outside = part[mask], part[~mask]
        fits = (inside > 0).sum() >= max(3, 0.6 * len(inside)) and (outside < 0).mean() >= 0.9
        if fits and inside.mean() > _PLAIN:
            here = added[first : first + len(part)]
            bonus = np.where(mask, np.where(part > _PLAINLY_MOVES, _BONUS, 0), -_BONUS)
            here[here == 0] = bonus[here == 0]
    return added


def _cadences() -> np.ndarray:
    """``(n, _CYCLE)`` bool, which frames repeat: every known cadence in every phase, and none at all."""
    cycles = [[False] + [True] * (held - 1) for held in (2, 3, 4, 5, 6)]
    cycles += [[True] + [False] * (period - 1) for period in (3, 4, 5, 6)]
    cycles += [[False, True, False, True, True]]  # 24 frames a second shown as 60
    masks = {(False,) * _CYCLE}
    for cycle in cycles:
        masks |= {tuple(np.roll(cycle * (_CYCLE // len(cycle)), phase).tolist()) for phase in range(len(cycle))}
    return np.array(sorted(masks))


_CADENCES = _cadences()
