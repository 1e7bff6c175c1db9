"""The scores of restorers: of every frame, as means per clip and over clips, as a table and as JSON."""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Callable, Hashable, Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass
from typing import Any, TypeVar

import numpy as np

from .report import SLACK

_T = TypeVar("_T")


@dataclass(frozen=True, slots=True)
class FrameScore:
    """One restored frame. group: set and compression, empty for clips without. frame: its number among those that were
    given, from 0. tof: None for the first of a clip. The rest as in MeanScore."""

    group: str
    clip: str
    frame: int
    method: str
    psnr: float
    ssim: float
    tof: float | None
    seconds: float


@dataclass(frozen=True, slots=True)
class MeanScore:
    """Mean scores of a method on a clip, or over the clips of a set (``clip`` is ``mean``).

    psnr: dB. ssim: 0..1. tof: pixels by which motion between neighbouring frames misses the true one
    (quality.temporal_of); None where a clip has no two of them. frames: how many were scored. seconds: one took.
    """

    group: str
    clip: str
    method: str
    psnr: float
    ssim: float
    tof: float | None
    frames: int
    seconds: float


@dataclass(frozen=True, slots=True)
class Published:
    """Means that others published for ``group``, a set; method says whose they are and how sure that is."""

    group: str
    method: str
    psnr: float
    ssim: float
    tof: float | None = None


@dataclass(frozen=True, slots=True)
class RestorationReport:
    """scores: of all methods frame by frame; the last method is compared with the others."""

    scores: tuple[FrameScore, ...]
    protocol: dict[str, Any]
    published: tuple[Published, ...] = ()

    @property
    def methods(self) -> list[str]:
        return list(dict.fromkeys(score.method for score in self.scores))

    @property
    def rows(self) -> tuple[MeanScore, ...]:
        """One for each clip and method, as they came."""
        found = _grouped(self.scores, lambda score: (score.group, score.clip, score.method))
        return tuple(_mean(scores, scores[0].clip) for scores in found.values())

    @property
    def means(self) -> tuple[MeanScore, ...]:
        """One for each set and method: the mean of the clips' means."""
        found = _grouped(self.rows, lambda row: (row.group, row.method))
        return tuple(_mean(rows, "mean") for rows in found.values())

    def to_json(self) -> str:
        tables = {"clips": self.rows, "means": self.means, "published": self.published, "frames": self.scores}
        return json.dumps(
            {"protocol": self.protocol} | {name: [asdict(item) for item in items] for name, items in tables.items()},
            indent=1,
        )

    def __str__(self) -> str:
        rows, means = self.rows, self.means
        name = max(4, *(len(_name(row)) for row in (*rows, *means)))
        method = max(len("published" if self.published else "method"), *(len(row.method) for row in rows))
        head = f"{'clip':{name}}  {'method':{method}}    PSNR    SSIM     tOF  frames  s/frame"
        lines = [head, "-" * len(head), *(_line(row, name, method) for row in rows), "-" * len(head)]
        for group in dict.fromkeys(row.group for row in means):
            lines += [_line(row, name, method) for row in means if row.group == group]
            lines += [_reference(each, name, method) for each in self.published if each.group == group]
        lines += [f"{group}: {title}" for group, title in self.protocol.get("sets", {}).items()]
        return "\n".join((*lines, *_leads(rows, means, self.methods[-1])))


def _name(row: MeanScore) -> str:
    return f"{row.group} {row.clip}".strip()


def _line(row: MeanScore, name: int, method: int) -> str:
    return (
        f"{_name(row):{name}}  {row.method:{method}}  {row.psnr:6.2f}  {row.ssim:.4f} {_tof(row.tof)}  {row.frames:6d}"
        f"  {row.seconds:7.3f}"
    )


def _reference(each: Published, name: int, method: int) -> str:
    figures = f"{each.psnr:6.2f}  {each.ssim:.4f} {_tof(each.tof)}"
    return f"{each.group:{name}}  {'published':{method}}  {figures}  {each.method}"


def _tof(pixels: float | None) -> str:
    return "      –" if pixels is None else f"{pixels:7.3f}"


def _leads(rows: Sequence[MeanScore], means: Sequence[MeanScore], last: str) -> Iterator[str]:
    """By how much the last method is ahead of each other one, and where it is not."""
    ours = {(row.group, row.clip): row.psnr for row in (*rows, *means) if row.method == last}
    for mean in means:
        if mean.method == last:
            continue
        clips = {row.clip: ours[row.group, row.clip] - row.psnr for row in rows if _same(row, mean)}
        worse = ", ".join(f"{clip} ({lead:+.2f})" for clip, lead in clips.items() if lead < -SLACK)
        lead = ours[mean.group, "mean"] - mean.psnr
        where = f"{mean.group} " if mean.group else ""
        yield f"{where}{last} over {mean.method}: {lead:+.2f} dB; worse by more than {SLACK} dB on: {worse or 'none'}"


def _same(row: MeanScore, mean: MeanScore) -> bool:
    return (row.group, row.method) == (mean.group, mean.method)


def _mean(items: Sequence[FrameScore] | Sequence[MeanScore], clip: str) -> MeanScore:
    first = items[0]
    psnr, ssim, seconds = (float(np.mean([getattr(i, name) for i in items])) for name in ("psnr", "ssim", "seconds"))
    errors = [item.tof for item in items if item.tof is not None]
    tof = float(np.mean(errors)) if errors else None
    frames = sum(getattr(item, "frames", 1) for item in items)
    return MeanScore(first.group, clip, first.method, psnr, ssim, tof, frames, seconds)


def _grouped(items: Iterable[_T], key: Callable[[_T], Hashable]) -> dict[Any, list[_T]]:
    groups: dict[Any, list[_T]] = defaultdict(list)
    for item in items:
        groups[key(item)].append(item)
    return groups
