"""The scores of an evaluation: of every frame, as means per clip and over clips, the worst ones, and as JSON."""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

WORST = 10
"""Frames listed as the worst."""
SLACK = 0.1
"""dB by which a clip may be worse before it counts."""
VISIBLE = 50.0
"""dB above which frames look alike: a still scene that averaging repeats exactly (100 dB) is no defeat for 60 dB."""


@dataclass(frozen=True, slots=True)
class Score:
    """One made frame. group: benchmark, empty for clips. frame: its number or name. The rest as in Row."""

    group: str
    clip: str
    drop: int
    frame: str
    method: str
    psnr: float
    ssim: float
    energy_ratio: float
    tof: float
    seconds: float


@dataclass(frozen=True, slots=True)
class Row:
    """Mean scores of one method on one clip (or over all clips: ``clip`` is ``mean``).

    drop: one of ``drop`` frames was kept. psnr: dB. ssim: 0..1. energy_ratio: energy above 0.32 cycles per
    pixel, made over true. tof: pixels by which motion from the two kept frames around to the made frame misses
    the true one, see quality.MotionFromEnds. frames: how many were scored. seconds: making one frame took.
    """

    group: str
    clip: str
    drop: int
    method: str
    psnr: float
    ssim: float
    energy_ratio: float
    tof: float
    frames: int
    seconds: float


@dataclass(frozen=True, slots=True)
class Reference:
    """A mean PSNR that others published or that was measured elsewhere, on the pictures of ``group``.

    scenes: how many it averages. here: how many of them were found; where it is fewer, the figures are near
    one another but not of the same pictures.
    """

    group: str
    method: str
    psnr: float
    scenes: int
    here: int


@dataclass(frozen=True, slots=True)
class Bad:
    """A frame of the last method and the best other method on it (None: there is no other).

    lead: dB over that method, negative when worse, both cut at ``VISIBLE``; without another method the PSNR.
    """

    ours: Score
    best: Score | None
    lead: float


@dataclass(frozen=True, slots=True)
class Defeat:
    """Clips (name -> dB) on which the last method is worse than ``method`` by more than ``SLACK``, out of ``clips``."""

    group: str
    drop: int
    method: str
    clips: int
    worse: dict[str, float]


@dataclass(frozen=True, slots=True)
class Report:
    """scores: of all methods frame by frame; the last method is the one that is judged."""

    scores: tuple[Score, ...]
    protocol: dict[str, Any]
    references: tuple[Reference, ...] = ()

    @property
    def rows(self) -> tuple[Row, ...]:
        """One for each (clip, drop, method): clips and methods as they came, drops ascending."""
        clips = list(dict.fromkeys((s.group, s.clip) for s in self.scores))
        methods = self.methods
        found = _grouped(self.scores, lambda s: (clips.index((s.group, s.clip)), s.drop, methods.index(s.method)))
        return tuple(_mean(scores, scores[0].clip, np.mean) for _, scores in sorted(found.items()))

    @property
    def means(self) -> tuple[Row, ...]:
        """One row for each (group, drop, method): means over clips of the clips' means; of energy ratios the
        median, as a few nearly flat clips have ratios of any size."""
        found = _grouped(self.rows, lambda row: (row.group, row.drop, row.method))
        return tuple(_mean(rows, "mean", np.median) for rows in found.values())

    @property
    def methods(self) -> list[str]:
        return list(dict.fromkeys(s.method for s in self.scores))

    @property
    def worst(self) -> tuple[Bad, ...]:
        """The frames where the last method falls behind the best other one furthest; without another, by PSNR."""
        frames = _grouped(self.scores, lambda s: (s.group, s.clip, s.drop, s.frame)).values()
        return tuple(sorted(map(judged, frames), key=lambda bad: bad.lead)[:WORST])

    @property
    def defeats(self) -> tuple[Defeat, ...]:
        """For each (group, drop) and each other method the clips that it wins."""
        ours = {(r.group, r.clip, r.drop): r for r in self.rows if r.method == self.methods[-1]}
        others = _grouped(self.rows, lambda row: (row.group, row.drop, row.method))
        defeats = []
        for (group, drop, method), rows in others.items():
            leads = {row.clip: ours[row.group, row.clip, row.drop].psnr - row.psnr for row in rows}
            worse = {clip: lead for clip, lead in leads.items() if lead < -SLACK}
            defeats.append(Defeat(group, drop, method, len(rows), worse))
        return tuple(defeat for defeat in defeats if defeat.method != self.methods[-1])

    def to_json(self) -> str:
        tables = {
            name: [asdict(item) for item in items]
            for name, items in (
                ("clips", self.rows),
                ("means", self.means),
                ("references", self.references),
                ("defeats", self.defeats),
                ("worst", self.worst),
                ("frames", self.scores),
            )
        }
        return json.dumps({"protocol": self.protocol} | _without_nan(tables), indent=1)

    def __str__(self) -> str:
        from .table import table

        return table(self)


def judged(scores: Sequence[Score]) -> Bad:
    """All methods' scores of one frame, the judged one last -> how far that one is behind."""
    *others, ours = scores
    best = max(others, key=lambda s: s.psnr, default=None)
    lead = ours.psnr if best is None else min(ours.psnr, VISIBLE) - min(best.psnr, VISIBLE)
    return Bad(ours, best, lead)


def _grouped(items: Iterable[Any], key: Callable[[Any], Any]) -> dict[Any, list[Any]]:
    groups: dict[Any, list[Any]] = defaultdict(list)
    for item in items:
        groups[key(item)].append(item)
    return groups


def _mean(items: Sequence[Score] | Sequence[Row], clip: str, of_ratios: Callable[[list[float]], Any]) -> Row:
    first = items[0]
    means = {name: float(np.mean([getattr(i, name) for i in items])) for name in ("psnr", "ssim", "tof", "seconds")}
    # Pictures that have no high band to compare (NaN) have no say.
    ratios = [i.energy_ratio for i in items if i.energy_ratio == i.energy_ratio]
    ratio = float(of_ratios(ratios)) if ratios else float("nan")
    frames = sum(getattr(i, "frames", 1) for i in items)
    return Row(first.group, clip, first.drop, first.method, energy_ratio=ratio, frames=frames, **means)


def _without_nan(value: Any) -> Any:
    """NaN is not JSON; null says the same: there is no high band to compare."""
    if isinstance(value, dict):
        return {key: _without_nan(v) for key, v in value.items()}
    if isinstance(value, list):
        return [_without_nan(v) for v in value]
    return None if value != value else value
