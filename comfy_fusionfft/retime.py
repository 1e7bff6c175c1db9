"""Speed: which second of the source is shown at which second of the output. Exact, in Fractions.

A curve is a list of *keys*, a speed at a second of the source: 1 is real time, 1/4 four times slower. Between two
keys speed changes evenly with the *output's* time (constant acceleration, as a hand on a wheel does it), so a stretch
of ``d`` source seconds from speed v to speed w takes 2d / (v + w) output seconds and the way inside it is quadratic:
every instant is a fraction. Before the first key and after the last one their speeds stay.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from fractions import Fraction
from itertools import pairwise
from typing import NamedTuple

from .errors import TimelineError, quoted

SLOWEST, FASTEST = Fraction(1, 1000), Fraction(1000)
MOST_KEYS = 1000
"""Every further one makes the exact instants after it longer numbers; drawn curves have 65."""
_LONGEST, _MOST_ZEROS = 100, 99


class Key(NamedTuple):
    """Speed ``speed`` at source second ``seconds``, counted from the first frame."""

    seconds: Fraction
    speed: Fraction


class _Stretch(NamedTuple):
    """Between two keys: where it begins in source and output, how long it lasts in output, its speeds."""

    source: Fraction
    output: Fraction
    lasts: Fraction
    begin: Fraction
    end: Fraction


@dataclass(frozen=True)
class SpeedCurve:
    """keys: ascending, speeds above 0 (0 is allowed at single keys: the picture comes to rest and goes on). Of several
    at one second, the first ends what is before and the last begins what is after: a jump.

    Raises TimelineError for keys that never end or run backwards.
    """

    keys: tuple[Key, ...] = (Key(Fraction(0), Fraction(1)),)

    def __post_init__(self) -> None:
        keys = tuple(sorted((Key(Fraction(s), Fraction(v)) for s, v in self.keys), key=lambda key: key.seconds))
        if not keys:
            raise TimelineError("a speed curve without keys: give at least one speed, such as 0.5")
        for key in keys:
            if key.speed < 0 or 0 < key.speed < SLOWEST or key.speed > FASTEST:
                raise TimelineError(
                    f"speed {float(key.speed):g} at {float(key.seconds):g} s: use {float(SLOWEST):g} to "
                    f"{float(FASTEST):g} (backwards: reverse the clip first)"
                )
        stretches = []
        output = keys[0].seconds / keys[0].speed if keys[0].speed else keys[0].seconds
        for left, right in pairwise(keys):
            if left.seconds == right.seconds:
                continue
            if left.speed + right.speed == 0:
                raise TimelineError(
                    f"speed 0 from {float(left.seconds):g} to {float(right.seconds):g} s would never end: give one of "
                    "them a speed above 0"
                )
            lasts = 2 * (right.seconds - left.seconds) / (left.speed + right.speed)
            stretches.append(_Stretch(left.seconds, output, lasts, left.speed, right.speed))
            output += lasts
        if keys[0].speed == 0 or keys[-1].speed == 0:
            raise TimelineError("the first and the last speed must be above 0, or nothing would ever be shown there")
        last = keys[-1]
        stretches.append(_Stretch(last.seconds, output, Fraction(0), last.speed, last.speed))
        object.__setattr__(self, "keys", keys)
        object.__setattr__(self, "_stretches", tuple(stretches))

    @classmethod
    def constant_at(cls, speed: Fraction | float) -> SpeedCurve:
        return cls((Key(Fraction(0), Fraction(speed)),))

    @property
    def constant(self) -> Fraction | None:
        """The one speed of the curve; None for a ramp."""
        speeds = {key.speed for key in self.keys}
        return speeds.pop() if len(speeds) == 1 else None

    def source_seconds(self, output: Fraction) -> Fraction:
        """The source second shown at this output second, both counted from the first frame."""
        stretches: tuple[_Stretch, ...] = self._stretches  # type: ignore[attr-defined]
        here = stretches[0]
        if output < here.output:
            return here.source + (output - here.output) * here.begin
        for stretch in stretches[1:]:
            if stretch.output > output:
                break
            here = stretch
        run = output - here.output
        bend = (here.end - here.begin) / (2 * here.lasts) if here.lasts else Fraction(0)
        return here.source + run * (here.begin + bend * run)

    def roughly_shown_at(self, source: Fraction) -> float:
        """The output second at which this source second is shown, in floating point: the exact one may be a root."""
        stretches: tuple[_Stretch, ...] = self._stretches  # type: ignore[attr-defined]
        here = max(stretches[:1] + tuple(s for s in stretches if s.source <= source), key=lambda s: s.source)
        way, begin = float(source - here.source), float(here.begin)
        if source < here.source or not here.lasts or here.begin == here.end:
            return float(here.output) + way / begin
        turn = (float(here.end) - begin) / float(here.lasts)
        return float(here.output) + (max(0.0, begin * begin + 2 * turn * way) ** 0.5 - begin) / turn


REAL_TIME = SpeedCurve()


def parse_speed(text: str, duration: Fraction | None = None, rate: Fraction | None = None) -> SpeedCurve:
    """``0.25``, or keys ``WHEN:SPEED`` by comma or blank: ``0:1, 2:1, 2.5:0.25, 90%:0.25, 100%:1, 120f:2``.

    WHEN is seconds of the source, a percentage of it (needs ``duration``, first to last frame) or a frame number
    (needs ``rate``). Raises TimelineError for anything else.
    """
    words = text.replace(",", " ").replace(";", " ").split()
    if len(words) == 1 and ":" not in words[0]:
        return SpeedCurve.constant_at(_number(words[0], text))
    if len(words) > MOST_KEYS:
        raise TimelineError(f"a speed of {len(words)} keys: give {MOST_KEYS} or fewer")
    keys = []
    for word in words:
        when, colon, speed = word.partition(":")
        if not colon:
            raise _unreadable(text)
        if when.endswith("%"):
            if duration is None:
                raise TimelineError(f"the length of this clip is not known, so {when} cannot be placed: give seconds")
            seconds = _number(when[:-1], text) / 100 * duration
        elif when.endswith("f"):
            if rate is None:
                raise TimelineError(f"the frame rate is not known, so frame {when} cannot be placed: give seconds")
            seconds = _number(when[:-1], text) / rate
        else:
            seconds = _number(when.removesuffix("s"), text)
        keys.append(Key(seconds, _number(speed.removesuffix("x"), text)))
    if not keys:
        raise _unreadable(text)
    return SpeedCurve(tuple(keys))


def sampled(speeds: Iterable[float], duration: Fraction) -> SpeedCurve:
    """A curve through speeds that are spread evenly over ``duration`` source seconds; equal neighbours are one key."""
    values = [Fraction(speed).limit_denominator(10_000) for speed in speeds]
    if len(values) < 2 or not duration:
        return SpeedCurve.constant_at(values[0])
    keys = [Key(duration * number / (len(values) - 1), speed) for number, speed in enumerate(values)]
    inner = [b for a, b, c in zip(keys, keys[1:], keys[2:], strict=False) if not a.speed == b.speed == c.speed]
    return SpeedCurve((keys[0], *inner, keys[-1]))


def number(value: Fraction | float | str) -> Fraction:
    """A number as people write it, exactly: ``0.1`` is a tenth, ``1/3`` a third. Raises ValueError for anything else.

    ``1e9999999`` is refused, too: an exact number of so many digits would fill the memory before anybody could see
    that it makes no sense.
    """
    if isinstance(value, (Fraction, int)):
        return Fraction(value)
    text = str(value)
    _, _, zeros = text.lower().partition("e")
    if len(text) > _LONGEST or (zeros and abs(int(zeros)) > _MOST_ZEROS):
        raise ValueError(f"{quoted(text)} is too long or too large")
    try:
        return Fraction(text)
    except ZeroDivisionError:
        raise ValueError(f"{text} divides by 0") from None


def _number(word: str, text: str) -> Fraction:
    try:
        return number(word)
    except ValueError:
        raise _unreadable(text) from None


def _unreadable(text: str) -> TimelineError:
    return TimelineError(
        f"speed {quoted(text)} is neither a number such as 0.25 nor keys such as 0:1, 2:1, 2.5:0.25 (seconds, 50% or "
        "48f)"
    )
