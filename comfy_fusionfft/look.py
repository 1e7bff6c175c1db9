"""What looking a clip through has shown: what to leave out, where it cuts, how long it is; told, drawn, kept."""

from __future__ import annotations

import json
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass, replace
from fractions import Fraction
from functools import partial
from typing import TYPE_CHECKING, Any, Literal

from .contract import Frame, Host
from .errors import InputError
from .pace import Length, Pace

if TYPE_CHECKING:
    from torch import Tensor

    from .survey import Edit, Repeats, Survey

SIDE = 320
"""Pixels of the longer side of the pictures that are looked through."""

Cuts = Literal["auto"] | Collection[int]
"""The source frames that begin a new shot, or ``auto``: to be found."""


@dataclass(frozen=True, slots=True)
class Look:
    """edit: what is left out, and where what is kept cuts. length: of what is kept.

    seen, repeats: what it was decided from; None where that was not kept.
    """

    edit: Edit
    length: Length
    seen: Survey | None = None
    repeats: Repeats | None = None

    def lines(self) -> list[str]:
        """What was found, in words."""
        from .survey import report

        return report(self.seen, self.edit, self.repeats)

    def facts(self) -> dict[str, Any]:
        """The same for programs."""
        from .survey import facts

        return facts(self.seen, self.edit, self.repeats)

    def picture(self, frames: Iterable[Frame], confidence: Sequence[tuple[float, float]] | None = None) -> Tensor:
        """The clip on its time axis, ``(H, W, 3)`` in 0..1.

        frames: the clip once more, for small pictures. confidence: survey.draw_timeline.
        """
        from .survey import draw_timeline, thumbnail_frames

        wanted = set(thumbnail_frames(self.seen, self.edit))
        shown = {number: frame.pixels for number, frame in enumerate(_small(frames)) if number in wanted}
        return draw_timeline(self.seen, self.edit, repeats=self.repeats, thumbnails=shown, confidence=confidence)

    def to_json(self) -> str:
        """The decisions, exact; not what they were made from."""
        return json.dumps({"edit": self.edit.to_json(), "length": [str(value) for value in self.length]})

    @classmethod
    def from_json(cls, text: str) -> Look:
        from .survey import Edit

        facts = json.loads(text)
        frames, *times = facts["length"]
        return cls(Edit.from_json(facts["edit"]), Length(int(frames), *map(Fraction, times)))


def needs_look(pace: Pace, cuts: Cuts, dedupe: bool) -> bool:
    """Whether a clip has to be looked through before anything of it can be made."""
    return isinstance(cuts, str) or dedupe or pace.needs_length


def look_through(
    frames: Iterable[Frame], *, cuts: Cuts, dedupe: bool, rate: Fraction | None, host: Host | None = None
) -> Look:
    """One pass over a clip that can be read again.

    rate: frames per second, for how long the last frame is shown; None: their average.
    Raises InputError for a stream that can be read only once, and for a clip without frames.
    """
    from .survey import find_repeats, make_edit, survey
    from .survey.edit import shot_starts

    if iter(frames) is frames:
        raise InputError(
            "this stream of frames can be read only once, and has to be looked through first: give a list or a clip, "
            "or say where it cuts and leave out dedupe, count and loop"
        )
    seen = survey(_small(frames), progress=None if host is None else partial(_watch, host))
    if (info := getattr(frames, "info", None)) is not None:
        seen = replace(seen, width=info.width, height=info.height)
    shots = shot_starts(seen, cuts)
    repeats = find_repeats(seen, shots)
    edit = make_edit(seen, cuts=shots, dedupe=dedupe, repeats=repeats)
    first, last = seen.seconds[0], seen.seconds[len(seen) - 1]
    step = 1 / rate if rate else (last - first) / max(1, len(seen) - 1)
    return Look(edit, Length(edit.kept, first, last, step), seen, repeats)


def _watch(host: Host, done: int) -> None:
    host.raise_if_cancelled()
    host.progress(done, None)


def _small(frames: Iterable[Frame]) -> Iterable[Frame]:
    return frames.frames(longest_side=SIDE) if hasattr(frames, "frames") else frames
