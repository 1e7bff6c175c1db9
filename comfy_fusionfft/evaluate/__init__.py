"""Measure interpolation on real clips: drop frames, make them again, compare with the truth.

``run.py`` is the protocol, ``intervals.py`` which frames, ``benchmarks.py`` known sets of pictures, ``baselines.py``
what ours is measured against, ``report.py`` the numbers, ``table.py`` their text, ``sheets.py`` the pictures.
"""

from .benchmarks import PROTOCOLS, Protocol
from .report import Reference, Report, Row, Score
from .run import BASELINES, DROPS, INSTANTS, LONGEST_SIDE, evaluate

__all__ = [
    "BASELINES",
    "DROPS",
    "INSTANTS",
    "LONGEST_SIDE",
    "PROTOCOLS",
    "Protocol",
    "Reference",
    "Report",
    "Row",
    "Score",
    "evaluate",
]
