"""The steps that make the instants of one interval. Pure Fractions, no torch.

``plan`` turns the instants inside an interval into *steps*: which pictures a model needs, which it makes. A step is a
pure description; independent intervals may run anywhere.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from fractions import Fraction
from typing import NamedTuple

from ..contract import Position, Reach
from ..errors import TimelineError


def shot_around(index: int, cuts: Collection[int], newest: int, oldest: int = 0) -> tuple[int, int]:
    """First and last frame of the shot that interval ``index`` lies in, as far as frames ``oldest`` to ``newest`` tell.

    cuts: indices of frames that begin a new shot; interval ``index`` itself must not be a cut.
    """
    first = max((cut for cut in cuts if cut <= index), default=oldest)
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
