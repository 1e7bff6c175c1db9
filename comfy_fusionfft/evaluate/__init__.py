"""Measure interpolation on real clips: drop frames, make them again, compare with the truth.

``run.py`` is the protocol, ``intervals.py`` which frames, ``baselines.py`` what ours is measured against,
``report.py`` the numbers, ``sheets.py`` the pictures.
"""

from .report import Report, Row
from .run import BASELINES, DROPS, INSTANTS, LONGEST_SIDE, evaluate

__all__ = ["BASELINES", "DROPS", "INSTANTS", "LONGEST_SIDE", "Report", "Row", "evaluate"]
