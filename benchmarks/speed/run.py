"""The whole benchmark: find a host, start workers, hold the contests, measure growth."""

from __future__ import annotations

import sys
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import closing
from dataclasses import asdict
from pathlib import Path

from comfy_fusionfft.api import EMBEDDED_RIFE
from comfy_fusionfft.checkpoints import find
from comfy_fusionfft.errors import InputError

from . import machine, report
from .cases import DTYPES, PATHS, PEERS, Case, Growth, growth, plan
from .contest import Row, Unmeasured, hold
from .process import Staff, WorkerError, default_threads
from .report import Report

QUICK_SECONDS = 220
"""A quick run begins nothing after this time, and says what it left out."""
LATE = "the time of a quick run was over"
QUICK_RUNS, FULL_RUNS = 3, 5
CONTEST_SECONDS = {True: 60.0, False: 600.0}
"""A contest that takes longer makes do with fewer runs: quick, full."""


def measure(
    *,
    quick: bool = False,
    device: str = "cpu",
    sizes: Sequence[tuple[int, int]] | None = None,
    multipliers: Sequence[int] | None = None,
    dtypes: Sequence[str] | None = None,
    paths: Sequence[str] = PATHS,
    runs: int | None = None,
    threads: int | None = None,
    rife: str | Path = EMBEDDED_RIFE,
    peers: Mapping[str, Path] | None = None,
    host_source: Path | None = None,
    show: Callable[[str], None] = print,
    keep: Callable[[Report], None] = lambda found: None,
) -> Report:
    """Measure, showing lines as it goes and handing over what there is after each contest.

    A ComfyUI is installed first where there is none, outside all time limits.

    rife: weights for all who can run them. peers: name -> checkout. host_source: a ComfyUI folder that this very
    Python can run, instead of an installed host. Raises InputError for what cannot be asked for; everything that goes
    wrong later becomes an entry of ``unmeasured``.
    """
    peers = {name: Path(path).resolve() for name, path in (peers or {}).items()}
    _check(peers, paths, multipliers or (), 1 if runs is None else runs)
    dtypes = dtypes or DTYPES[device.split(":")[0]]
    setup, missing = _host(host_source, show)
    settings = {
        "device": device,
        "threads": threads or default_threads(),
        "rife": str(Path(find(rife)).resolve()),
        **{name: str(path) for name, path in peers.items()},
        **setup,
    }
    chosen = {"device": device, "dtypes": dtypes, "paths": paths}
    cases = plan(quick=quick, sizes=sizes, multipliers=multipliers, peers=peers, **chosen)
    growths = growth(quick=quick, **chosen)
    start = time.monotonic()
    deadline = start + QUICK_SECONDS if quick else float("inf")
    with tempfile.TemporaryDirectory(prefix="fusionfft-bench-") as folder:
        options = {**settings, "scratch": folder}
        with closing(Staff(Path(setup.get("host_python") or sys.executable), options, missing)) as staff:
            found = Report(machine.describe() | {"device": device, "threads": settings["threads"]})
            found.machine |= {"rife": Path(settings["rife"]).name, "quick": quick}
            show(report.heading())
            for case in cases:
                _contest(found, case, staff, Path(folder), runs or (QUICK_RUNS if quick else FULL_RUNS), deadline, show)
                _learn(found, staff, start)
                keep(found)
            for each in growths:
                _grow(found, each, staff, deadline, show)
            for name in PEERS:
                if name not in peers:
                    path = "fusion" if name == "fusionfft" else "rife"
                    _miss(found, Unmeasured(f"no checkout: --peer {name}=PATH", path, name, device), show)
            if device == "cpu":
                _miss(found, Unmeasured("this run was on the CPU: use --device cuda on a GPU", device="cuda"), show)
            _learn(found, staff, start)
    return found


def _learn(found: Report, staff: Staff, start: float) -> None:
    """What only the workers know: versions of Python, torch and ComfyUI, the GPU's name."""
    for facts in staff.facts.values():
        found.machine |= {name: value for name, value in facts.items() if name != "threads"}
    found.machine |= {"seconds": round(time.monotonic() - start, 1)}


def _check(peers: Mapping[str, Path], paths: Sequence[str], multipliers: Sequence[int], runs: int) -> None:
    for name, folder in peers.items():
        if name not in PEERS:
            raise InputError(f"peer {name!r} is not known: use {', '.join(PEERS)}")
        if not folder.is_dir():
            raise InputError(f"{folder}, the checkout of {name}, is no folder: give the one it was cloned to")
    for path in paths:
        if path not in PATHS:
            raise InputError(f"path {path!r} is not known: use {', '.join(PATHS)}")
    for multiplier in multipliers:
        if multiplier < 2:
            raise InputError(f"multiplier {multiplier} makes no frame: use whole numbers from 2 on")
    if runs < 1:
        raise InputError(f"{runs} runs measure nothing: use at least 1")


def _contest(
    found: Report, case: Case, staff: Staff, scratch: Path, runs: int, deadline: float, show: Callable[[str], None]
) -> None:
    if time.monotonic() > deadline:
        rows: list[Row] = []
        unmeasured = [
            Unmeasured(LATE, job.path, peer, job.device, job.dtype, job.height, job.width, job.multiplier)
            for job in case.ours
            for peer in case.peers
        ]
    else:
        quick = deadline != float("inf")
        rows, unmeasured = hold(case, staff.get, scratch, runs=runs, allowed_seconds=CONTEST_SECONDS[quick])
    found.rows += rows
    for row in rows:
        show(report.line(row))
    for entry in unmeasured:
        _miss(found, entry, show)


def _miss(found: Report, entry: Unmeasured, show: Callable[[str], None]) -> None:
    found.unmeasured.append(entry)
    show(f"NOT MEASURED: {report.missing_line(entry)}")


def _grow(found: Report, each: Growth, staff: Staff, deadline: float, show: Callable[[str], None]) -> None:
    """Each job in a fresh process: what one leaves behind must not hide what the next one takes."""
    for job in each.jobs:
        try:
            if time.monotonic() > deadline:
                raise WorkerError(LATE)
            with closing(staff.fresh("ours")) as worker:
                measured = worker.ask("stream", job=asdict(job))
        except WorkerError as error:
            size = (job.height, job.width, job.multiplier, job.frames)
            _miss(found, Unmeasured(str(error), job.path, None, job.device, job.dtype, *size), show)
            continue
        entry = {"by": each.by, **asdict(job), "peak_mb": measured["peak_mb"]}
        entry["seconds_per_frame"] = measured["seconds"] / job.made
        found.growth.append(entry)
        show(report.growth_line(entry))


def _host(source: Path | None, show: Callable[[str], None]) -> tuple[dict[str, str], dict[str, str]]:
    """The host's Python and source, and who is missing without it."""
    if source is not None:
        if not (Path(source) / "comfy_extras").is_dir():
            raise InputError(f"{source} holds no comfy_extras: give the folder of ComfyUI's main.py")
        return {"host_source": str(Path(source).resolve())}, {}
    from devhost.install import InstallError, ensure

    try:
        host = ensure(say=show)
    except (InstallError, OSError) as error:
        reason = f"ComfyUI could not be installed: {' '.join(str(error).split())[:300]}"
        show(reason)
        return {}, dict.fromkeys(("native", "fannovel16"), reason)
    return {"host_source": str(host.source), "host_python": str(host.python)}, {}
