"""The scores of an evaluation: a row per clip, drop and method; means, JSON and a text table."""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

import numpy as np


@dataclass(frozen=True, slots=True)
class Row:
    """Mean scores of one method on one clip (or over all clips: ``clip`` is ``mean``).

    drop: one of ``drop`` frames was kept. psnr: dB. ssim: 0..1. energy_ratio: energy above 0.32 cycles per
    pixel, made over true. frames: how many were scored. seconds: making one frame took.
    """

    clip: str
    drop: int
    method: str
    psnr: float
    ssim: float
    energy_ratio: float
    frames: int
    seconds: float


@dataclass(frozen=True, slots=True)
class Report:
    rows: tuple[Row, ...]
    protocol: dict[str, Any]

    @property
    def means(self) -> tuple[Row, ...]:
        """One row for each (drop, method): means over clips of the clips' means; of energy ratios the median,
        as a few nearly flat clips have ratios of any size."""
        groups: dict[tuple[int, str], list[Row]] = defaultdict(list)
        for row in self.rows:
            groups[row.drop, row.method].append(row)
        means = ((mean_row("mean", drop, method, rows), rows) for (drop, method), rows in groups.items())
        return tuple(replace(mean, energy_ratio=_average(rows, np.median)) for mean, rows in means)

    def to_json(self) -> str:
        rows = {"clips": [asdict(row) for row in self.rows], "means": [asdict(row) for row in self.means]}
        # NaN is not JSON; null says the same: this clip has no high band to compare.
        clean = [{k: None if v != v else v for k, v in row.items()} for row in rows["clips"]]
        means = [{k: None if v != v else v for k, v in row.items()} for row in rows["means"]]
        return json.dumps({"protocol": self.protocol, "clips": clean, "means": means}, indent=1)

    def __str__(self) -> str:
        """The text table: PSNR, SSIM and energy ratio by clip, then the means (median energy ratio)."""
        width = max([4, *(len(row.clip) for row in self.rows)])
        label = max(len(row.method) for row in self.rows)
        head = f"{'clip':{width}}  ×  {'method':{label}}   PSNR    SSIM   energy  frames  s/frame"
        lines = [
            f"{r.clip:{width}}  {r.drop}  {r.method:{label}}  {r.psnr:6.2f}  {r.ssim:.4f}  {r.energy_ratio:6.3f}"
            f"  {r.frames:6d}  {r.seconds:7.3f}"
            for r in (*self.rows, *self.means)
        ]
        return "\n".join([head, "-" * len(head), *lines])


def mean_row(clip: str, drop: int, method: str, rows: Sequence[Row]) -> Row:
    psnr_, ssim_, seconds = (float(np.mean([getattr(r, n) for r in rows])) for n in ("psnr", "ssim", "seconds"))
    return Row(clip, drop, method, psnr_, ssim_, _average(rows, np.mean), sum(r.frames for r in rows), seconds)


def _average(rows: Sequence[Row], average: Callable[[list[float]], np.floating]) -> float:
    """Of the energy ratios, without those of pictures that have no high band to compare (NaN)."""
    ratios = [row.energy_ratio for row in rows if row.energy_ratio == row.energy_ratio]
    return float(average(ratios)) if ratios else float("nan")
