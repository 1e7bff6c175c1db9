"""Exact instants of many frames in few bytes: a list of Fractions takes 200 bytes a frame, this takes 16."""

from __future__ import annotations

from array import array
from collections.abc import Sequence
from fractions import Fraction


class Times(Sequence[Fraction]):
    """A sequence of Fractions that grows by ``append``; what does not fit 64 bits is kept aside, exact too."""

    def __init__(self, seconds: Sequence[Fraction] = ()) -> None:
        self._above, self._below = array("q"), array("q")
        self._large: dict[int, Fraction] = {}
        for value in seconds:
            self.append(value)

    def append(self, value: Fraction) -> None:
        if max(abs(value.numerator), value.denominator) < 1 << 63:
            self._above.append(value.numerator)
            self._below.append(value.denominator)
        else:
            self._large[len(self)] = value
            self._above.append(0)
            self._below.append(1)

    def __len__(self) -> int:
        return len(self._above)

    def __getitem__(self, index):
        if isinstance(index, slice):
            return Times([self[at] for at in range(len(self))[index]])
        index = range(len(self))[index]  # negative ones too; IndexError as usual
        return self._large.get(index) or Fraction(self._above[index], self._below[index])

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Times) and (self._above, self._below, self._large) == (
            *(other._above, other._below),
            other._large,
        )

    __hash__ = None
