"""What a survey found, in words for people and as a plain dictionary for programs."""

from __future__ import annotations

from fractions import Fraction
from typing import Any

import numpy as np

from .cadence import Stretch
from .edit import Edit
from .measure import Survey
from .repeats import Repeats

_LISTED = 40


def report(survey: Survey, edit: Edit, repeats: Repeats | None = None) -> list[str]:
    """Lines of text: the clip, its cuts, its repeats and what the edit does about them."""
    lines = [f"{len(survey)} frames, {survey.width}x{survey.height}, {clock(_length(survey))}"]
    cuts = [edit.source_index(cut) for cut in edit.cuts]
    if cuts:
        listed = ", ".join(f"{cut} ({clock(survey.seconds[cut])})" for cut in cuts[:_LISTED])
        more = f" and {len(cuts) - _LISTED} more" if len(cuts) > _LISTED else ""
        begin = "a new shot begins at frame" if len(cuts) == 1 else "new shots begin at frames"
        lines.append(f"{_count(len(cuts), 'cut')}, {begin} {listed}{more}")
    else:
        lines.append("no cuts")
    if repeats is not None:
        lines += _repeats(survey, edit, repeats)
    return lines


def facts(survey: Survey, edit: Edit, repeats: Repeats | None = None) -> dict[str, Any]:
    """The same for programs: numbers, strings, lists; instants as text, exact."""
    cuts = [edit.source_index(cut) for cut in edit.cuts]
    found: dict[str, Any] = {
        "frames": len(survey),
        "width": survey.width,
        "height": survey.height,
        "first_seconds": str(survey.seconds[0]),
        "last_seconds": str(survey.seconds[len(survey) - 1]),
        "median_motion_percent": round(float(np.median(survey.motion[1:])), 4) if len(survey) > 1 else 0.0,
        "cuts": [{"frame": cut, "seconds": str(survey.seconds[cut])} for cut in cuts],
        "kept": edit.kept,
        "dropped": edit.dropped.tolist(),
    }
    if repeats is not None:
        found["repeats"] = np.flatnonzero(repeats.repeated).tolist()
        found["still"] = int(repeats.still.sum())
        found["stretches"] = [
            {
                "first": stretch.first,
                "last": stretch.last,
                "from_seconds": str(survey.seconds[stretch.first]),
                "to_seconds": str(survey.seconds[stretch.last]),
                "cadence": stretch.cadence,
                "repeats": stretch.repeats,
                "times": "even" if stretch.even else "own",
            }
            for stretch in repeats.stretches
        ]
    return found


def heading(survey: Survey, edit: Edit, repeats: Repeats | None) -> list[str]:
    """What stands above a drawing: length, cuts, repeats."""
    found = 0 if repeats is None else len(repeats)
    left_out = f", {len(edit.dropped)} left out" if len(edit.dropped) else ""
    words = [f"{len(survey)} frames  {clock(_length(survey))}", _count(len(edit.cuts), "cut")]
    return words if repeats is None else [*words, _count(found, "repeat") + left_out]


def clock(seconds: Fraction | float) -> str:
    """``3.20 s``, ``1:05.2``, ``2:03:04``."""
    whole = float(seconds)
    if abs(whole) < 59.995:
        return f"{whole:.2f} s"
    minutes, rest = divmod(round(whole, 1), 60)
    if minutes < 60:
        return f"{int(minutes)}:{rest:04.1f}"
    hours, minutes = divmod(int(minutes), 60)
    return f"{hours}:{minutes:02d}:{int(rest):02d}"


def _repeats(survey: Survey, edit: Edit, repeats: Repeats) -> list[str]:
    if not len(repeats):
        return ["no repeated frames"]
    share = 100 * len(repeats) / len(survey)
    lines = [f"{_count(len(repeats), 'repeated frame')} ({share:.1f} %)"]
    lines += [_stretch(survey, stretch) for stretch in repeats.stretches[:_LISTED]]
    if len(repeats.stretches) > _LISTED:
        lines.append(f"and {len(repeats.stretches) - _LISTED} more such stretches")
    if repeats.still.any():
        lines.append(f"{_count(int(repeats.still.sum()), 'frame')} of a picture that stands still are left alone")
    if len(edit.dropped):
        lines.append(f"{len(edit.dropped)} left out, {edit.kept} frames kept")
    else:
        lines.append("none left out: dedupe is off")
    return lines


def _stretch(survey: Survey, stretch: Stretch) -> str:
    begin, end = clock(survey.seconds[stretch.first]), clock(survey.seconds[stretch.last])
    frames = f"frames {stretch.first} to {stretch.last}"
    times = "spread evenly" if stretch.even else "own times"
    return f"{stretch.cadence} from {begin} to {end} ({frames}, {_count(stretch.repeats, 'repeat')}, {times})"


def _length(survey: Survey) -> Fraction:
    return survey.seconds[len(survey) - 1] - survey.seconds[0]


def _count(number: int, what: str) -> str:
    return f"{number} {what}{'' if number == 1 else 's'}"
