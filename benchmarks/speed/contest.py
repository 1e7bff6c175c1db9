"""One contest: contenders in strict turn, the median of each, and the rows that compare them."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from pathlib import Path
from statistics import median
from typing import Any, Protocol

import numpy as np

from .cases import Case
from .job import Job
from .process import WorkerError

EQUAL_DB = 150.0
"""Reported for outputs that are equal to the last bit, which JSON has no word for; rounding alone makes some 140."""


class Asked(Protocol):
    def ask(self, do: str, **request: Any) -> dict[str, Any]: ...


@dataclass(frozen=True)
class Row:
    """ours against one peer. Seconds are per *made* frame; ratio = peer / ours; memory in MiB."""

    path: str
    peer: str
    device: str
    dtype: str
    height: int
    width: int
    multiplier: int
    seconds_per_frame: float
    peer_seconds_per_frame: float
    ratio: float
    psnr_db: float | None
    peak_mb: float | None
    peer_peak_mb: float | None
    runs: int


@dataclass(frozen=True)
class Unmeasured:
    """What could not be had, and why. A field that is None: all of them.

    peer: None for ``growth`` of ours alone, which is then told by ``frames``.
    """

    reason: str
    path: str | None = None
    peer: str | None = None
    device: str | None = None
    dtype: str | None = None
    height: int | None = None
    width: int | None = None
    multiplier: int | None = None
    frames: int | None = None


@dataclass
class Entrant:
    """One contender of a contest and what it achieved."""

    who: str
    job: Job
    output: Path
    worker: Asked | None = None
    seconds: list[float] = field(default_factory=list)
    peak_mb: float | None = None
    trouble: str | None = None

    @property
    def slot(self) -> str:
        return f"{self.who} {self.job.path} {self.job.dtype}"

    @property
    def seconds_per_frame(self) -> float:
        return median(self.seconds) / self.job.made


def hold(
    case: Case,
    worker_for: Callable[[str], Asked],
    scratch: Path,
    *,
    runs: int,
    allowed_seconds: float = float("inf"),
    clock: Callable[[], float] = time.monotonic,
) -> tuple[list[Row], list[Unmeasured]]:
    """All rows of a case. Contenders that fail drop out; the others go on.

    The first round is the warm-up, in which memory is measured and pictures are kept; then up to ``runs`` timed
    rounds, fewer where the next one would end after ``allowed_seconds``, but at least one.
    """
    jobs = [("ours", job) for job in case.ours] + list(case.peers.items())
    entrants = [Entrant(who, job, scratch / f"output-{number}.npy") for number, (who, job) in enumerate(jobs)]
    start = clock()

    def turn(work: Callable[[Entrant], None]) -> None:
        for entrant in entrants:
            if entrant.trouble is None:
                try:
                    work(entrant)
                except WorkerError as error:
                    entrant.trouble = str(error)

    def enter(entrant: Entrant) -> None:
        entrant.worker = worker_for(entrant.who)
        entrant.worker.ask("prepare", slot=entrant.slot, job=asdict(entrant.job))

    def warm_up(entrant: Entrant) -> None:
        assert entrant.worker is not None
        found = entrant.worker.ask("run", slot=entrant.slot, measure=True, save=str(entrant.output))
        entrant.peak_mb = found["peak_mb"]

    def timed(entrant: Entrant) -> None:
        assert entrant.worker is not None
        entrant.seconds.append(entrant.worker.ask("run", slot=entrant.slot)["seconds"])

    turn(enter)
    turn(warm_up)
    for _ in range(runs):
        before = clock()
        turn(timed)
        now = clock()
        if now - start + (now - before) > allowed_seconds:
            break
    found = compared(entrants)
    for worker in {id(e.worker): e.worker for e in entrants if e.worker is not None}.values():
        try:
            worker.ask("release")
        except WorkerError:
            continue  # it has died, which its row says already
    for entrant in entrants:
        entrant.output.unlink(missing_ok=True)
    return found


def compared(entrants: list[Entrant]) -> tuple[list[Row], list[Unmeasured]]:
    """Ours, in each precision, against each peer."""
    rows, unmeasured = [], []
    for ours in (entrant for entrant in entrants if entrant.who == "ours"):
        for peer in (entrant for entrant in entrants if entrant.who != "ours"):
            job = ours.job
            what = (job.path, peer.who, job.device, job.dtype, job.height, job.width, job.multiplier)
            reason = f"ours: {ours.trouble}" if ours.trouble else peer.trouble
            if reason is not None:
                unmeasured.append(Unmeasured(reason, *what))
                continue
            mine, theirs = ours.seconds_per_frame, peer.seconds_per_frame
            alike = ours.job.path == peer.job.path and peer.who != "fusionfft"
            psnr = psnr_db(ours.output, peer.output) if alike else None
            runs = min(len(ours.seconds), len(peer.seconds))
            rows.append(Row(*what, mine, theirs, theirs / mine, psnr, ours.peak_mb, peer.peak_mb, runs))
    return rows, unmeasured


def psnr_db(one: Path, other: Path) -> float | None:
    """Over all made frames together, values clipped to 0..1; None for outputs of different shapes."""
    a, b = (np.load(path, mmap_mode="r") for path in (one, other))
    if a.shape != b.shape:
        return None
    errors = [np.square(x.clip(0, 1) - y.clip(0, 1), dtype=np.float64).mean() for x, y in zip(a, b, strict=True)]
    error = float(np.mean(errors))
    if not np.isfinite(error):
        return None
    return EQUAL_DB if error == 0 else min(EQUAL_DB, float(-10 * np.log10(error)))
