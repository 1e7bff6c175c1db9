"""What the command line starts: packs with motion targets, and the training of a family by its name."""

from __future__ import annotations

import logging
from collections.abc import Callable
from pathlib import Path
from typing import Any

from torch import nn

from ..errors import InputError
from .flows import dis_bidirectional
from .loop import Budget, Progress, train
from .pack import INDEX, Bidirectional, PackedWindow, pack

logger = logging.getLogger(__name__)

FAMILIES = ("rife",)


def make_packs(
    clips_dir: Path,
    out_dir: Path,
    *,
    teacher: str | None = None,
    reduce: int = 1,
    report: Callable[[str], None] = logger.info,
    **options: Any,
) -> list[PackedWindow]:
    """Packs of a folder of clips, with motion targets where ``teacher`` names an estimator.

    teacher: ``dis``, a file with a teacher's weights, or None for pictures alone. reduce, options: see
    ``flows.add_flows`` and ``pack.pack``. A folder that holds packs already keeps them and gets new flows.
    """
    from .flows import add_flows

    estimate = estimator(teacher) if teacher else None
    if (Path(out_dir) / INDEX).exists() and estimate is not None:
        from .pack import read_index

        windows = read_index(Path(out_dir))
    else:
        windows = pack(Path(clips_dir), Path(out_dir), report=report, **options)
    if estimate is not None:
        add_flows(Path(out_dir), estimate, reduce=reduce, report=report)
    return windows


def estimator(name: str) -> Bidirectional:
    """``dis``, or the path of a teacher's weights -> something that finds motion both ways."""
    if name == "dis":
        return dis_bidirectional
    from .teacher import Teacher

    return Teacher(name).bidirectional


def start(
    family: str,
    out: Path,
    budget: Budget,
    *,
    clips: Path | None = None,
    packs: Path | None = None,
    teacher: str | None = "dis",
    report: Callable[[str], None] = logger.info,
    **options: Any,
) -> Progress:
    """Train a family on packs, or on clips, which are packed into ``out/packs`` first. See ``loop.train``."""
    if (clips is None) == (packs is None):
        raise InputError("Training needs material: give a folder of clips or a folder of packs, one of them")
    if clips is not None:
        packs = Path(out) / "packs"
        if not (packs / INDEX).exists():
            make_packs(clips, packs, teacher=teacher, reduce=2, report=report)
    return train(recipe_of(family), Path(packs), Path(out), budget, report=report, **options)


def recipe_of(family: str) -> nn.Module:
    """How a family learns. Raises InputError for one that has no recipe."""
    if family != "rife":
        raise InputError(f"No training recipe for {family!r}; choose one of {', '.join(FAMILIES)}")
    from ..families.rife.recipe import RIFERecipe

    return RIFERecipe()
