"""What is decided about a clip before it is interpolated: cuts, frames left out, new instants.

``make_edit`` decides from a survey, ``edited`` applies it to the frames as they stream by, again and again if wanted.

The first and the last frame of the clip and of every shot always stay, at their own instants, even where the last one
is a repeat: so the clip begins and ends when it did, and so do its shots. Where frames were lost and the picture before
is shown in their place, the others keep their instants: motion across the gap is longer, and so is the time. Where
repeats only fill up a frame rate, what is left is spread evenly, never further than one frame from where it was.
"""

from __future__ import annotations

import json
from bisect import bisect_right
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from fractions import Fraction
from typing import Any, Literal, NamedTuple

import numpy as np

from ..contract import Frame
from ..errors import InputError
from .cuts import find_cuts
from .measure import Survey
from .repeats import Repeats, find_repeats


class Line(NamedTuple):
    """Kept frames ``first`` to ``last`` are shown evenly from ``begin`` to ``end`` seconds."""

    first: int
    last: int
    begin: Fraction
    end: Fraction


class EvenTimes(Mapping[int, Fraction]):
    """New instants of kept frames: those strictly inside a Line. ``lines`` ascend and share at most their ends."""

    def __init__(self, lines: Sequence[Line] = ()) -> None:
        self.lines = tuple(line for line in lines if line.last - line.first > 1)
        self._starts = [line.first for line in self.lines]

    def __getitem__(self, kept: int) -> Fraction:
        at = bisect_right(self._starts, kept) - 1
        if at >= 0:
            first, last, begin, end = self.lines[at]
            if first < kept < last:
                return begin + (end - begin) * Fraction(kept - first, last - first)
        raise KeyError(kept)

    def __iter__(self) -> Iterator[int]:
        return (kept for line in self.lines for kept in range(line.first + 1, line.last))

    def __len__(self) -> int:
        return sum(line.last - line.first - 1 for line in self.lines)


@dataclass(frozen=True, eq=False)
class Edit:
    """frames: in the source. dropped: source frames left out, ascending. seconds: new instants, by kept frame, where
    they change. cuts: kept frames that begin a new shot.

    Frames that are kept are numbered anew, without gaps: ``kept`` of them; ``source_index`` and ``kept_index``
    translate.
    """

    frames: int
    dropped: np.ndarray = field(default_factory=lambda: np.empty(0, np.int64))
    seconds: Mapping[int, Fraction] = field(default_factory=EvenTimes)
    cuts: tuple[int, ...] = ()

    def __post_init__(self) -> None:
        dropped = np.unique(np.asarray(list(self.dropped), np.int64))
        object.__setattr__(self, "dropped", dropped)
        # Of the j-th dropped frame d, d - j frames are kept before it.
        object.__setattr__(self, "_kept_before", dropped - np.arange(len(dropped)))

    @property
    def kept(self) -> int:
        """How many frames are left."""
        return self.frames - len(self.dropped)

    @property
    def changes(self) -> bool:
        """Whether frames or their instants differ from the source's."""
        return bool(len(self.dropped) or len(self.seconds))

    def source_index(self, kept: int) -> int:
        """Source number of a kept frame."""
        if not 0 <= kept < self.kept:
            raise InputError(f"kept frame {kept} was asked for, the edit keeps {self.kept}: give 0 to {self.kept - 1}")
        return kept + int(np.searchsorted(self._kept_before, kept, "right"))

    def kept_index(self, source: int) -> int:
        """Kept number of a source frame; of a dropped one, that of the frame it repeats."""
        dropped_before = int(np.searchsorted(self.dropped, source, "right"))
        return source - dropped_before

    def to_json(self) -> str:
        """Everything, exactly; small however long the clip is."""
        if isinstance(self.seconds, EvenTimes):
            times = {"even": [[a, b, str(begin), str(end)] for a, b, begin, end in self.seconds.lines]}
        else:
            times = {"seconds": {str(kept): str(value) for kept, value in sorted(self.seconds.items())}}
        dropped = self.dropped.tolist()
        return json.dumps({"frames": self.frames, "dropped": dropped, "cuts": list(self.cuts)} | times)

    @classmethod
    def from_json(cls, text: str) -> Edit:
        """Undo ``to_json``. Raises InputError for text that is none of ours."""
        try:
            held: dict[str, Any] = json.loads(text)
            seconds: Mapping[int, Fraction]
            if "even" in held:
                seconds = EvenTimes([Line(a, b, Fraction(begin), Fraction(end)) for a, b, begin, end in held["even"]])
            else:
                seconds = {int(kept): Fraction(value) for kept, value in held["seconds"].items()}
            return cls(int(held["frames"]), np.array(held["dropped"], np.int64), seconds, tuple(held["cuts"]))
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise InputError(f"text that is no edit ({error!r}): give what Edit.to_json wrote") from error


def make_edit(
    survey: Survey,
    *,
    cuts: Literal["auto", "none"] | Collection[int] = "auto",
    dedupe: bool = False,
    repeats: Repeats | None = None,
) -> Edit:
    """Decide. cuts: ``auto`` finds them, ``none`` or an empty collection says that there are none, numbers are source
    frames that begin a new shot. dedupe: leave repeats out. repeats: what ``find_repeats`` said, if it was asked."""
    frames, shots = len(survey), shot_starts(survey, cuts)
    if not dedupe:
        return Edit(frames, cuts=shots)
    repeats = find_repeats(survey, shots) if repeats is None else repeats
    leave = repeats.repeated.copy()
    leave[[0, frames - 1, *(cut - 1 for cut in shots), *shots]] = False
    edit = Edit(frames, np.flatnonzero(leave))
    spread = (stretch for stretch in repeats.stretches if stretch.even)
    lines = [line for stretch in spread for line in _lines(survey, edit, repeats, stretch.first, stretch.last)]
    return replace(edit, seconds=EvenTimes(lines), cuts=tuple(edit.kept_index(cut) for cut in shots))


def shot_starts(survey: Survey, cuts: Literal["auto", "none"] | Collection[int]) -> tuple[int, ...]:
    """Source frames that begin a new shot, ascending; see ``make_edit``."""
    if isinstance(cuts, str):
        if cuts not in ("auto", "none"):
            raise InputError(f"cuts {cuts!r} is not known: use auto, none, or the frames that begin a new shot")
        return find_cuts(survey) if cuts == "auto" else ()
    for cut in cuts:
        if not 1 <= cut < len(survey):
            raise InputError(
                f"a cut at frame {cut} was given, the clip has {len(survey)} frames: "
                f"give frames that begin a new shot, 1 to {len(survey) - 1}"
            )
    return tuple(sorted(set(map(int, cuts))))


def edited(frames: Iterable[Frame], edit: Edit, *, start: int = 0) -> Iterator[Frame]:
    """The frames that are kept, at their new instants, streamed.

    start: the kept number of the first frame that ``frames`` begins with, for a pass that is resumed there.
    Raises InputError when the clip turns out to have more or fewer frames than were surveyed.
    """
    number = edit.source_index(start) if edit.kept else 0
    kept = start
    leave = iter(edit.dropped[np.searchsorted(edit.dropped, number) :].tolist())
    next_left = next(leave, None)
    for frame in frames:
        if number >= edit.frames:
            raise InputError(f"the clip goes on after its {edit.frames} surveyed frames: survey it again")
        if number == next_left:
            next_left = next(leave, None)
        else:
            seconds = edit.seconds.get(kept)
            yield frame if seconds is None else replace(frame, seconds=seconds)
            kept += 1
        number += 1
    if number < edit.frames:
        raise InputError(f"the clip ends after {number} frames, its survey saw {edit.frames}: survey it again")


def _lines(survey: Survey, edit: Edit, repeats: Repeats, first: int, last: int) -> Iterator[Line]:
    """Straight lines through the instants of a stretch's distinct frames, each as long as no frame is moved by more
    than the time a frame is shown; every line ends on an instant that stays."""
    sources = first + np.flatnonzero(~repeats.repeated[first : last + 1])
    if len(sources) < 3:
        return
    own = np.array([float(survey.seconds[at]) for at in sources.tolist()])
    reach = (own[-1] - own[0]) / (sources[-1] - sources[0])
    begin = 0
    while begin < len(own) - 1:
        end = begin + _straight(own[begin:], reach)
        a, b = int(sources[begin]), int(sources[end])
        yield Line(edit.kept_index(a), edit.kept_index(b), survey.seconds[a], survey.seconds[b])
        begin = end


def _straight(own: np.ndarray, reach: float) -> int:
    """How many steps a line from the first instant through a later one may be long, all between within ``reach``."""
    least, most, best = -np.inf, np.inf, 1
    for steps in range(1, len(own)):
        slope = (own[steps] - own[0]) / steps
        if least <= slope <= most:
            best = steps
        least, most = max(least, slope - reach / steps), min(most, slope + reach / steps)
        if least > most:
            break
    return best
