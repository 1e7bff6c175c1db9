"""Which output instants a clip gets. Pure Fractions, no torch.

A *timing* looks at one source interval at a time, so that clips stream and variable frame rates keep
their own clock. ``engine.steps.plan`` then says how the instants inside an interval are made.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from fractions import Fraction
from itertools import pairwise
from math import ceil
from typing import NamedTuple, Protocol

from .contract import Position
from .errors import TimelineError
from .retime import REAL_TIME, SpeedCurve, number


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


class Part(NamedTuple):
    """Which frames of a clip a run is given, and which of its intervals it makes.

    first: number of the first frame given: below ``start`` for frames that are only looked at, and below 0 where the
        clip goes round. start: the first interval made. stop: the one that is made no more; None: all there are, and
        the last frame. began: when frame 0 is shown, where it is not among those given. after: pictures shown by then
        were put out before.
    """

    first: int = 0
    start: int = 0
    stop: int | None = None
    began: Fraction | None = None
    after: Fraction | None = None


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
    """An output frame at every ``1 / factor`` of a source frame: F frames become floor((F - 1)·factor) + 1.

    factor: 1 or more, whole or not: 2 puts one new frame into every interval, 5/2 three into every two.
    """

    factor: Fraction | int

    def __post_init__(self) -> None:
        try:
            factor = number(self.factor)
        except ValueError:
            factor = Fraction(0)
        if factor < 1:
            given = str(self.factor)[:100]
            raise TimelineError(f"multiplier {given} is not a number of 1 or more: use 2, 2.5, 3, … or a rate")
        object.__setattr__(self, "factor", factor)

    def inside(self, interval: Interval) -> Iterator[Instant]:
        for k in range(ceil(interval.index * self.factor), ceil((interval.index + 1) * self.factor)):
            position = k / self.factor
            yield Instant(position, interval.seconds_at(position))

    def last(self, index: int, seconds: Fraction, first: Fraction) -> Iterator[Instant]:
        if (index * self.factor).denominator == 1:
            yield Instant(Fraction(index), seconds)

    def count(self, frames: int, first: Fraction, last: Fraction) -> int:
        return int((frames - 1) * self.factor) + 1

    def rate(self, source: Fraction | None) -> Fraction | None:
        return None if source is None else source * self.factor


@dataclass(frozen=True, slots=True)
class Rate:
    """Pictures at k / fps seconds of the output, from the first source frame up to the last one and never beyond.

    speed: which source second each of them shows.
    shutter: share of an output interval, 0 to 1, over which each picture is exposed: it then gets ``samples`` (an odd
        number) instants spread over that time, of which ``shutter.expose`` makes one picture. Instants before the
        first frame and after the last one fall away.
    """

    fps: Fraction
    speed: SpeedCurve = REAL_TIME
    shutter: Fraction = Fraction(0)
    samples: int = 1

    def __post_init__(self) -> None:
        if self.fps <= 0:
            raise TimelineError(f"frame rate {self.fps} is not above 0: use a number like 60 or 60000/1001")
        if not 0 <= self.shutter <= 1:
            raise TimelineError(f"shutter {float(self.shutter):g} is not from 0 to 1: 0.5 is the usual half of a frame")
        if self.samples < 1 or self.samples % 2 == 0:
            raise TimelineError(f"{self.samples} samples: use an odd number of them, such as 7, so that one is centred")

    def inside(self, interval: Interval) -> Iterator[Instant]:
        left, right = interval.left - interval.first, interval.right - interval.first
        if right <= left:
            return
        tick = self._first(self._sample, left, self.samples)
        while (at := self._sample(tick)) < right:
            position = interval.index + (at - left) / (right - left)
            yield Instant(position, interval.first + self._shown(tick))
            tick += 1

    def last(self, index: int, seconds: Fraction, first: Fraction) -> Iterator[Instant]:
        tick = self._first(self._sample, seconds - first, self.samples)
        if self._sample(tick) == seconds - first:
            yield Instant(Fraction(index), first + self._shown(tick))

    def count(self, frames: int, first: Fraction, last: Fraction) -> int:
        shown = self._first(self._centre, last - first)
        return shown + (self._centre(shown) == last - first)

    def rate(self, source: Fraction | None) -> Fraction | None:
        return self.fps

    def _centre(self, number: int) -> Fraction:
        return self.speed.source_seconds(number / self.fps)

    def _shown(self, tick: int) -> Fraction:
        """The output second of a sample; ``samples`` of them belong to a picture."""
        number, sample = divmod(tick, self.samples)
        offset = self.shutter * (Fraction(2 * sample + 1, 2 * self.samples) - Fraction(1, 2))
        return (number + offset) / self.fps

    def _sample(self, tick: int) -> Fraction:
        return self.speed.source_seconds(self._shown(tick))

    def _first(self, shows: Callable[[int], Fraction], at: Fraction, ticks: int = 1) -> int:
        """The first tick from 0 on that shows source second ``at`` or a later one."""
        tick = max(0, int(self.speed.roughly_shown_at(at) * float(self.fps)) * ticks)
        while tick > 0 and shows(tick - 1) >= at:
            tick -= 1
        while shows(tick) < at:
            tick += 1
        return tick


@dataclass(frozen=True, slots=True)
class At:
    """Exactly these positions, in source frames (0 = the first frame, 1/2 = half-way to the second)."""

    positions: tuple[Position, ...]

    def __post_init__(self) -> None:
        try:
            ordered = tuple(sorted({Fraction(p) for p in self.positions}))
        except (ValueError, OverflowError):  # NaN, infinity
            ordered = ()
        if not ordered or ordered[0] < 0:
            raise TimelineError(
                f"times {list(map(str, self.positions))}: give one or more positions of 0 and above, in frames"
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
