"""How repeats follow each other: on twos, every fifth frame, single stutters; and whether frames were lost or added.

Where a picture is shown in place of one that is missing, motion across the gap grows with the gap: frames were lost.
Where repeats only fill up a frame rate, motion from picture to picture is the same however long each is shown.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import pairwise
from typing import NamedTuple

import numpy as np

_ALIKE = 4  # pictures in a row held equally long are a cadence
_REACH = 32  # repeats further apart than this have nothing to do with each other
_NAMES = {2: "on twos", 3: "on threes", 4: "on fours", 5: "on fives", 6: "on sixes"}
_MOVES = 0.05  # per cent of the picture: less motion than this cannot be compared


class Stretch(NamedTuple):
    """A part of a shot with repeats, source frames ``first`` to ``last``, both distinct pictures.

    cadence: in words, such as ``on twos``. repeats: how many. even: repeats were added, and what is left is spread
    evenly; otherwise frames keep their instants.
    """

    first: int
    last: int
    cadence: str
    repeats: int
    even: bool


def stretches(motion: np.ndarray, repeated: np.ndarray, first: int, end: int) -> Iterator[Stretch]:
    """The parts of the shot ``first`` to ``end`` that have repeats, divided where a cadence becomes steady or stops
    being so. motion, repeated: of all frames of the clip."""
    shown = first + np.flatnonzero(~repeated[first:end])
    held = np.diff(np.append(shown, end))  # frames each picture is shown for, the last one to the end of the shot
    long = np.flatnonzero(held > 1)
    if not len(long):
        return
    for group in np.split(long, np.flatnonzero(np.diff(long) > _REACH) + 1):
        # A cadence goes on for up to a period before the first repeat and after the last.
        period = min(_REACH // 2, int(np.diff(group).max(initial=1)))
        begin, stop = max(0, int(group[0]) - period + 1), min(len(held), int(group[-1]) + period)
        for a, b in _phases(held, begin, stop):
            part = held[a:b]
            if (part > 1).any():
                last = min(b, len(shown) - 1)
                even = _added(motion, shown[a : last + 1])
                yield Stretch(int(shown[a]), int(shown[last]), cadence(part), int((part - 1).sum()), even)


def cadence(held: np.ndarray) -> str:
    """Words for how many frames each of some pictures in a row is shown for."""
    usual = int(np.bincount(held).argmax())
    if len(held) >= _ALIKE and usual > 1 and (held == usual).mean() > 0.8:
        return _NAMES.get(usual, f"every picture shown {usual} times")
    events = np.flatnonzero(held > 1)
    if len(events) >= 3 and held.max() == 2:
        apart = np.diff(events)
        period = int(np.bincount(apart).argmax())
        if period > 1 and (apart == period).mean() > 0.8:
            return f"every {_ordinal(period + 1)} frame repeated"
    if len(held) >= _ALIKE and held.mean() > 1.4:
        if set(held[1:-1].tolist()) == {2, 3} and (np.diff(held[1:-1]) != 0).mean() > 0.8:
            return "held 3:2"
        return f"held {held.min()} to {held.max()} frames"
    return "a single stutter" if len(events) == 1 else f"{len(events)} single stutters"


def _phases(held: np.ndarray, first: int, end: int) -> list[tuple[int, int]]:
    """Divide pictures ``first`` to ``end`` where several in a row are held equally long, and longer than one frame."""
    turns = [first, *(np.flatnonzero(np.diff(held[first:end])) + 1 + first).tolist(), end]
    steady = [(a, b) for a, b in pairwise(turns) if b - a >= _ALIKE and held[a] > 1]
    return list(pairwise(sorted({first, end, *(edge for run in steady for edge in run)})))


def _added(motion: np.ndarray, shown: np.ndarray) -> bool:
    """Whether motion into each picture does not grow with the time since the one before: its power of the gap, from
    pictures next to each other and next but one, is nearer 0 than 1."""
    gaps, steps = np.diff(shown), motion[shown[1:]].astype(float)
    powers: list[float] = []
    for apart in (1, 2):
        gap, other_gap, step, other = gaps[:-apart], gaps[apart:], steps[:-apart], steps[apart:]
        use = (gap != other_gap) & (np.minimum(step, other) > _MOVES)
        powers += (np.log(other[use] / step[use]) / np.log(other_gap[use] / gap[use])).tolist()
    # In doubt frames keep their instants.
    return len(powers) >= 6 and float(np.median(powers)) < 0.4


def _ordinal(number: int) -> str:
    ending = {1: "st", 2: "nd", 3: "rd"}.get(number % 10 if number % 100 not in (11, 12, 13) else 0, "th")
    return f"{number}{ending}"
