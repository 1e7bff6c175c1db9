"""What a clip holds, found in one quick pass: cuts, repeated frames, motion; and the edit that follows from it.

``survey`` looks, ``find_cuts`` and ``find_repeats`` conclude, ``make_edit`` decides, ``edited`` carries it out.
"""

from .cadence import Stretch
from .cuts import cut_probability, find_cuts
from .draw import draw_timeline, thumbnail_frames
from .edit import Edit, EvenTimes, Line, edited, make_edit
from .measure import Survey, survey
from .repeats import Repeats, find_repeats
from .report import facts, report

__all__ = [
    "Edit",
    "EvenTimes",
    "Line",
    "Repeats",
    "Stretch",
    "Survey",
    "cut_probability",
    "draw_timeline",
    "edited",
    "facts",
    "find_cuts",
    "find_repeats",
    "make_edit",
    "report",
    "survey",
    "thumbnail_frames",
]
