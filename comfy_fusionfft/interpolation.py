"""A clip made ready: looked through where that is needed, then interpolated from its beginning or from anywhere in it.

``prepare`` decides everything about time before a picture is made: what is cut, what is dropped, which instants there
are. ``Interpolation.frames`` then streams, and goes on behind a frame that exists already exactly as if it had never
stopped.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from fractions import Fraction
from itertools import islice
from math import floor
from typing import Protocol

from .contract import Frame, Host, Model, Position
from .engine import AtCut, Manner, run
from .errors import InputError
from .look import Cuts, Look, look_through, needs_look
from .pace import Length, Pace
from .shutter import expose
from .timeline import Part, Rate, Timing


class Place(Protocol):
    """Of a frame that was put out: where it lies between source frames, and when it is shown."""

    position: Position
    seconds: Fraction


@dataclass(frozen=True)
class Interpolation:
    """What ``prepare`` found.

    look: None where nothing had to be looked through. total: output frames; None: unknown; with ``at_cut="skip"`` at
    most so many.
    """

    source: Iterable[Frame]
    model: Model
    timing: Timing
    manner: Manner
    host: Host
    loop: bool
    look: Look | None
    total: int | None

    def frames(self, after: Place | None = None, done: int = 0) -> Iterator[Frame]:
        """The output, or what comes after this frame of it, before which ``done`` ones were made."""
        lead = self.model.reach.before - 1
        start = 0 if after is None else floor(after.position)
        first = start - lead if self.loop else max(0, start - lead)
        given = self._around(first, self.model.reach.after) if self.loop else self._source(first)
        samples = self.timing.samples if isinstance(self.timing, Rate) else 1
        began = next(self._source(0)).seconds if first > 0 or samples > 1 else None
        shown = None
        if after is not None:  # together with the other half of its exposure
            shown = after.seconds + (1 / (2 * self.timing.fps) if samples > 1 else 0)
        part = Part(first, start, self.look.length.frames if self.loop else None, began, shown)
        total = None if self.total is None else self.total * samples
        made = run(
            given,
            self.model,
            self.timing,
            self.host,
            manner=self._manner(lead),
            part=part,
            total=total,
            done=done * samples,
        )
        if samples > 1:
            made = expose(made, self.timing.fps, began, self.manner.cuts)
        return made

    def _source(self, first: int) -> Iterator[Frame]:
        """Frames from this number on, counted without those that are left out."""
        edit = None if self.look is None else self.look.edit
        number = first if edit is None else edit.source_index(first)
        there = self.source.frames(number) if hasattr(self.source, "frames") else islice(self.source, number, None)
        if edit is None:
            return there
        from .survey import edited

        return edited(there, edit, start=first)

    def _around(self, first: int, after: int) -> Iterator[Frame]:
        """Frames ``first``, perhaps before 0, to ``after`` - 1 beyond the end, as if the clip had no ends."""
        count, began, ended, step = self.look.length
        left = count + after - first
        cycle, index = divmod(first, count)
        while left > 0:
            for frame in islice(self._source(index), left):
                yield replace(frame, seconds=frame.seconds + cycle * (ended - began + step))
                left -= 1
            cycle, index = cycle + 1, 0

    def _manner(self, lead: int) -> Manner:
        if not self.loop or not self.manner.cuts:
            return self.manner
        count = self.look.length.frames
        cycles = range(-1 - lead // count, 2 + self.model.reach.after // count)
        return replace(self.manner, cuts={cut + cycle * count for cut in self.manner.cuts for cycle in cycles})


def prepare(
    frames: Iterable[Frame],
    pace: Pace,
    model: Model,
    host: Host,
    *,
    rate: Fraction | None = None,
    cuts: Cuts = (),
    dedupe: bool = False,
    look: Look | None = None,
    at_cut: AtCut = "hold",
    hold_below: float | None = None,
    maps: bool = False,
    total: int | None = None,
) -> Interpolation:
    """Look the clip through if anything asks for it, and fix the timing.

    frames: a Clip or a sequence; an iterator where nothing asks. rate: of the clip, average. look: what an earlier
    pass has found. total: expected output frames where the clip's length is not known here.
    """
    if at_cut not in ("hold", "skip"):
        raise InputError(f"at_cut {at_cut!r} is not known: use hold or skip")
    if look is None and needs_look(pace, cuts, dedupe):
        look = look_through(frames, cuts=cuts, dedupe=dedupe, rate=rate, host=host)
    length = None if look is None else look.length
    timing = pace.timing(rate, length, constant=dedupe)
    if length is not None:
        total = _count(timing, length, pace.loop)
    manner = Manner(
        cuts=frozenset(cuts if look is None else look.edit.cuts), at_cut=at_cut, hold_below=hold_below, maps=maps
    )
    return Interpolation(frames, model, timing, manner, host, pace.loop, look, total)


def _count(timing: Timing, length: Length, loop: bool) -> int:
    count, first, last, step = length
    if not loop:
        return timing.count(count, first, last)
    # all up to the first frame's second coming, without that one
    return timing.count(count + 1, first, last + step) - len(list(timing.last(count, last + step, first)))
