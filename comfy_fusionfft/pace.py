"""Pace: everything a user may ask of the output's time, and the timing that it means for a clip.

Three ways to say how many frames there shall be exclude one another: a multiplier, a rate, a count. Over it lies the
speed: constant (``slow``) or a curve. A rate can be exposed over a shutter, and a clip can go round.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction
from typing import NamedTuple

from .errors import InputError, quoted
from .retime import REAL_TIME, SpeedCurve, number, parse_speed
from .timeline import At, Multiply, Rate, Timing

SAMPLES = 9
"""Instants in the exposure of a picture: at 180° of shutter each smears over 1/18 of the motion between pictures."""

Number = Fraction | float | str


class Length(NamedTuple):
    """frames: how many. first, last: seconds of the first and the last frame. step: how long the last one is shown."""

    frames: int
    first: Fraction
    last: Fraction
    step: Fraction


@dataclass(frozen=True, slots=True)
class Pace:
    """multi: new frames for each old one, 1 or more, fractions too (default 2; 1 with a speed).
    fps: output rate. times: explicit positions in source frames, and nothing else.
    slow: how many times slower. speed: a factor, a curve, or its text (retime.parse_speed).
    count: exactly so many frames, from the first to the last, evenly; together with fps it decides the speed.
    loop: the clip goes round: what lies between its last frame and its first is made as well.
    shutter: exposure as a share of an output frame, 0 to 1 (0.5: a film camera's 180°); samples: instants in it, odd.

    Raises InputError for choices that exclude one another.
    """

    multi: Number | None = None
    fps: Number | None = None
    times: Sequence[Fraction] | None = None
    slow: Number | None = None
    speed: Number | SpeedCurve | None = None
    count: int | None = None
    loop: bool = False
    shutter: Number = 0
    samples: int = SAMPLES

    def __post_init__(self) -> None:
        given = {
            name for name in ("multi", "fps", "times", "slow", "speed", "count") if getattr(self, name) is not None
        }
        given |= {name for name in ("loop", "shutter") if getattr(self, name)}
        for name, others in _EXCLUDED.items():
            if name in given and (other := next((o for o in others if o in given), None)):
                raise InputError(f"{name} and {other} exclude one another: give one of them")
        if self.count is not None and self.count < 1:
            raise InputError(f"{self.count} frames were asked for: give 1 or more")

    @property
    def needs_length(self) -> bool:
        """Whether the clip's length must be known before anything is made."""
        return self.count is not None or self.loop or (isinstance(self.speed, str) and "%" in self.speed)

    def timing(self, rate: Fraction | None, length: Length | None = None, *, constant: bool = False) -> Timing:
        """For a clip of this rate (average where it varies; None: unknown) and length (None: unknown).

        constant: a multiplier means that multiple of ``rate``, at even times, for clips whose frames' own are not.
        """
        if self.times is not None:
            return At(tuple(self.times))
        if self.count is not None:
            assert length is not None
            return self._counted(length)
        curve = self.curve(rate, length)
        multi = Multiply((1 if self._retimed else 2) if self.multi is None else self.multi)
        if self.fps is None and not (self._retimed or self.shutter or constant):
            return multi
        fps = multi.rate(rate) if self.fps is None else exact_rate(self.fps)
        if fps is None:
            raise InputError("the clip's frame rate is not known: give the output's with fps, or the input's with rate")
        shutter = exact(self.shutter, "shutter")
        return Rate(fps, curve, shutter, self.samples if shutter else 1)

    def curve(self, rate: Fraction | None = None, length: Length | None = None) -> SpeedCurve:
        """The speed at every source second, whatever the rate; of a count it depends on the length."""
        if self.slow is not None:
            slow = exact(self.slow, "slow")
            if slow <= 0:
                raise InputError(f"slow {self.slow} is not above 0: 4 is four times slower, 1/2 twice as fast")
            return SpeedCurve.constant_at(1 / slow)
        if isinstance(self.speed, str):
            return parse_speed(self.speed, None if length is None else length.last - length.first, rate)
        if isinstance(self.speed, SpeedCurve):
            return self.speed
        return REAL_TIME if self.speed is None else SpeedCurve.constant_at(exact(self.speed, "speed"))

    @property
    def _retimed(self) -> bool:
        return self.slow is not None or self.speed is not None

    def _counted(self, length: Length) -> Timing:
        gaps = self.count if self.loop else self.count - 1
        lasts = length.last - length.first + (length.step if self.loop else 0)
        if not gaps:
            return At((Fraction(0),))
        if not lasts:
            raise InputError(f"a clip of one frame cannot become {self.count}: nothing lies between one frame")
        if self.fps is None:
            return Rate(gaps / lasts)
        fps = exact_rate(self.fps)
        return Rate(fps, SpeedCurve.constant_at(lasts * fps / gaps))


_EXCLUDED = {
    "times": ("multi", "fps", "slow", "speed", "count", "loop", "shutter"),
    "count": ("multi", "slow", "speed", "shutter"),
    "multi": ("fps",),
    "slow": ("speed",),
}


def exact_rate(value: Number) -> Fraction:
    """``60``, ``"24000/1001"`` or ``23.976`` -> exact rate; the NTSC decimals mean their n·1000/1001."""
    try:
        rate = number(value)
    except ValueError:
        raise InputError(f"frame rate {quoted(value)} is not a number: use 60, 59.94 or 60000/1001") from None
    ntsc = Fraction(round(rate * 1001 / 1000) * 1000, 1001)
    return ntsc if rate.denominator > 1 and abs(rate - ntsc) < Fraction(1, 200) else rate


def exact(value: Number, name: str) -> Fraction:
    """A number as people write it: ``0.1`` is a tenth."""
    try:
        return number(value)
    except ValueError:
        raise InputError(f"{name} {quoted(value)} is not a number: use one such as 4, 2.5 or 1/3") from None
