"""Which output instants a clip gets, and the steps that make them. Pure Fractions, no torch.

A *timing* looks at one source interval at a time, so that clips stream and variable frame rates keep
their own clock. ``plan`` then turns the instants inside an interval into *steps*: which pictures a
model needs, which it makes. A step is a pure description; independent intervals may run anywhere.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass
from fractions import Fraction
from itertools import pairwise
from typing import NamedTuple, Protocol

from .contract import Position, Reach
from .errors import TimelineError


class Instant(NamedTuple):
    """One output picture: where it lies between source frames, and when it is shown."""

    position: Position
    seconds: Fraction


class Interval(NamedTuple):
    """Source frames ``index`` and ``index + 1``, shown at ``left`` and ``right``; the clip began at ``first``."""

    index: int
    left: Fraction
    right: Fraction
    first: Fraction

    def seconds_at(self, position: Position) -> Fraction:
        return self.left + (position - self.index) * (self.right - self.left)


class Timing(Protocol):
    """A rule for output instants. Each interval owns its left end; the last frame is asked for at the end."""

    def inside(self, interval: Interval) -> Iterator[Instant]:
        """Instants with ``index <= position < index + 1``, ascending."""

    def last(self, index: int, seconds: Fraction, first: Fraction) -> Iterator[Instant]:
        """The last source frame's own instant, if the rule wants it; raises if the rule wants more."""

    def count(self, frames: int, first: Fraction, last: Fraction) -> int:
        """Output pictures for a clip of ``frames`` frames shown from ``first`` to ``last``."""

    def rate(self, source: Fraction | None) -> Fraction | None:
        """Constant output rate for a source of constant rate, None where timestamps decide."""


@dataclass(frozen=True, slots=True)
class Multiply:
    """``factor - 1`` evenly spaced new frames in every interval: F frames become (F - 1)·factor + 1."""

    factor: int

    def __post_init__(self) -> None:
        if not isinstance(self.factor, int) or self.factor < 1:
            raise TimelineError(
                f"multiplier {self.factor!r} is not a whole number of 1 or more: use 2, 3, 4, … or --fps"
            )

    def inside(self, interval: Interval) -> Iterator[Instant]:
        for k in range(self.factor):
            position = interval.index + Fraction(k, self.factor)
            yield Instant(position, interval.seconds_at(position))

    def last(self, index: int, seconds: Fraction, first: Fraction) -> Iterator[Instant]:
        yield Instant(Fraction(index), seconds)

    def count(self, frames: int, first: Fraction, last: Fraction) -> int:
        return (frames - 1) * self.factor + 1

    def rate(self, source: Fraction | None) -> Fraction | None:
        return None if source is None else source * self.factor


@dataclass(frozen=True, slots=True)
class Rate:
    """Pictures at k / fps seconds from the first source frame on, up to the last one and never beyond."""

    fps: Fraction

    def __post_init__(self) -> None:
        if self.fps <= 0:
            raise TimelineError(f"frame rate {self.fps} is not above 0: use a number like 60 or 60000/1001")

    def inside(self, interval: Interval) -> Iterator[Instant]:
        if interval.right <= interval.left:
            return
        k = _ceil((interval.left - interval.first) * self.fps)
        while (seconds := interval.first + k / self.fps) < interval.right:
            share = (seconds - interval.left) / (interval.right - interval.left)
            yield Instant(interval.index + share, seconds)
            k += 1

    def last(self, index: int, seconds: Fraction, first: Fraction) -> Iterator[Instant]:
        if ((seconds - first) * self.fps).denominator == 1:
            yield Instant(Fraction(index), seconds)

    def count(self, frames: int, first: Fraction, last: Fraction) -> int:
        return int((last - first) * self.fps) + 1

    def rate(self, source: Fraction | None) -> Fraction | None:
        return self.fps


@dataclass(frozen=True, slots=True)
class At:
    """Exactly these positions, in source frames (0 = the first frame, 1/2 = half-way to the second)."""

    positions: tuple[Position, ...]

    def __post_init__(self) -> None:
        ordered = tuple(sorted(Fraction(p) for p in self.positions))
        if not ordered or ordered[0] < 0:
            raise TimelineError(
                f"times {list(map(str, ordered))}: give one or more positions of 0 and above, in frames"
            )
        object.__setattr__(self, "positions", ordered)

    def inside(self, interval: Interval) -> Iterator[Instant]:
        start = bisect_left(self.positions, interval.index)
        for position in self.positions[start : bisect_left(self.positions, interval.index + 1)]:
            yield Instant(position, interval.seconds_at(position))

    def last(self, index: int, seconds: Fraction, first: Fraction) -> Iterator[Instant]:
        for position in self.positions[bisect_left(self.positions, index) :]:
            if position > index:
                raise TimelineError(f"time {position} lies beyond the last frame, {index}: remove it")
            yield Instant(position, seconds)

    def count(self, frames: int, first: Fraction, last: Fraction) -> int:
        return len(self.positions)

    def rate(self, source: Fraction | None) -> Fraction | None:
        return None


def instants(timing: Timing, seconds: Sequence[Fraction]) -> list[Position]:
    """All positions the timing wants of a clip whose frames are shown at ``seconds``."""
    found: list[Position] = []
    for index, (left, right) in enumerate(pairwise(seconds)):
        found += [instant.position for instant in timing.inside(Interval(index, left, right, seconds[0]))]
    last = len(seconds) - 1
    return found + [instant.position for instant in timing.last(last, seconds[last], seconds[0])]


def shot_around(index: int, cuts: Collection[int], newest: int) -> tuple[int, int]:
    """First and last frame of the shot that interval ``index`` lies in, as far as frames up to ``newest`` tell.

    cuts: indices of frames that begin a new shot; interval ``index`` itself must not be a cut.
    """
    first = max((cut for cut in cuts if cut <= index), default=0)
    last = min((cut - 1 for cut in cuts if cut > index), default=newest)
    return first, min(last, newest)


class Step(NamedTuple):
    """One model call: the pictures it ``needs`` (source frames or made ones), the positions it ``makes``."""

    needs: tuple[Position, ...]
    makes: tuple[Position, ...]


def plan(index: int, positions: Sequence[Position], reach: Reach, shot: tuple[int, int]) -> list[Step]:
    """Steps that make ``positions`` (ascending, strictly inside interval ``index``) with such a ``reach``.

    ``shot``: first and last source frame that may be looked at: the clip's ends, or the cuts around the
    interval; windows stop there. Steps come in an order in which every need is either a source frame or made
    before. Raises TimelineError when an instant is out of the model's reach.
    """
    if not positions:
        return []
    if reach.times == "middle":
        return _halve(index, positions)
    if reach.peel:
        return _peel(index, positions, reach.peel)
    first = max(shot[0], index - reach.before + 1)
    last = min(shot[1], index + reach.after)
    return [Step(tuple(Fraction(i) for i in range(first, last + 1)), tuple(positions))]


def _halve(index: int, positions: Sequence[Position]) -> list[Step]:
    wanted = set(positions)
    for position in positions:
        denominator = position.denominator
        if denominator & (denominator - 1):
            raise TimelineError(
                f"instant {position - index} of an interval cannot be made by halving, and this model makes only "
                "middles: use a multiplier of 2, 4, 8, … or another model"
            )
    steps: list[Step] = []

    def halve(left: Position, right: Position) -> None:
        if not any(left < p < right for p in wanted):
            return
        middle = (left + right) / 2
        steps.append(Step((left, right), (middle,)))
        halve(left, middle)
        halve(middle, right)

    halve(Fraction(index), Fraction(index + 1))
    return steps


def _peel(index: int, positions: Sequence[Position], depth: int) -> list[Step]:
    lefts, rights = [Fraction(index)], [Fraction(index + 1)]
    waiting = list(positions)
    steps = []
    while waiting:
        makes = (waiting[0],) if len(waiting) == 1 else (waiting[0], waiting[-1])
        needs = tuple(lefts[-depth:]) + tuple(reversed(rights[-depth:]))
        steps.append(Step(needs, makes))
        lefts.append(makes[0])
        rights.append(makes[-1])
        waiting = waiting[1:-1]
    return steps


def _ceil(value: Fraction) -> int:
    return -((-value.numerator) // value.denominator)
