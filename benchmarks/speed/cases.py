"""What is measured: the sizes, multipliers and clips of a quick and of a full run."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

from comfy_fusionfft.errors import InputError

from .job import Job

SIZES = {"480p": (480, 854), "512x896": (512, 896), "720p": (720, 1280), "1080p": (1080, 1920), "4k": (2160, 3840)}
PATHS = ("rife", "fusion", "spectral")
PEERS = ("fannovel16", "vs-rife", "fusionfft")
"""Those that come as checkouts; ``native`` and ``plain`` are always there."""
DTYPES = {"cpu": ("float32", "bfloat16"), "cuda": ("float16", "bfloat16")}
MULTIPLIERS = (2, 4, 8)
RESULT_BYTES = 2 * 10**9
"""No clip's result is larger on a GPU, where clips are long enough to reach its pace."""


@dataclass(frozen=True)
class Case:
    """One contest: a job of ours, in several precisions, against peers.

    peers: who -> its job, which for ``fusion`` is another one than ours.
    """

    ours: tuple[Job, ...]
    peers: dict[str, Job]

    @property
    def title(self) -> str:
        job = self.ours[0]
        return f"{job.path} {job.height}×{job.width} ×{job.multiplier}"


@dataclass(frozen=True)
class Growth:
    """Jobs of ours that differ in one thing, ``by``: ``frames`` or ``pixels``."""

    by: str
    jobs: tuple[Job, ...]


def size_of(text: str) -> tuple[int, int]:
    """``1080p`` or ``512x896`` (height × width) -> height, width."""
    if text.lower() in SIZES:
        return SIZES[text.lower()]
    found = re.fullmatch(r"(\d+)[x×](\d+)", text.strip())
    if not found or min(map(int, found.groups())) < 64:
        raise InputError(f"size {text!r} is not known: use {', '.join(SIZES)} or HEIGHTxWIDTH from 64x64 on")
    return int(found[1]), int(found[2])


def plan(
    *,
    quick: bool,
    device: str,
    sizes: Sequence[tuple[int, int]] | None,
    multipliers: Sequence[int] | None,
    dtypes: Sequence[str],
    peers: Iterable[str],
    paths: Sequence[str] = PATHS,
) -> list[Case]:
    """The contests, the most telling first: a run that is out of time drops the last ones."""
    whole = list(sizes or (SIZES.values() if not quick else [SIZES["512x896"]]))
    pairs = [(size, multiplier) for size in whole for multiplier in multipliers or ((2, 4) if quick else MULTIPLIERS)]
    if quick and sizes is None:
        pairs.insert(1, (SIZES["1080p"], 2))
    rife_peers = ["native", *(peer for peer in peers if peer != "fusionfft")]
    cases = []
    for size, multiplier in pairs if "rife" in paths else ():
        job = _job("rife", size, multiplier, device)
        cases.append(Case(_in(dtypes, job), dict.fromkeys(rife_peers, job)))
    for size in whole if sizes or not quick else [SIZES["1080p"]]:
        if "spectral" in paths:
            job = _job("spectral", size, 2, device)
            cases.append(Case((job,), {"plain": job}))
    for size in whole if "fusion" in paths else ():
        against = {"native": _job("rife", size, 2, device)}
        if "fusionfft" in peers:
            against["fusionfft"] = replace(_job("fusion", size, 2, device), frames=2)
        cases.append(Case(_in(dtypes, _job("fusion", size, 2, device)), against))
    return cases


def growth(*, quick: bool, device: str, dtypes: Sequence[str], paths: Sequence[str] = PATHS) -> list[Growth]:
    """How memory grows: with frames at a small size, with pixels for short clips."""
    small, dtype = (192, 320), dtypes[0]
    counts = (8, 32, 128) if device == "cpu" else (8, 64, 512)
    heights = [(256, 448), (512, 896)] if quick else [(256, 448), *SIZES.values()]
    found = []
    for path in paths:
        if path == "spectral" or (quick and path == "fusion"):
            continue
        jobs = tuple(Job(path, *small, 2, count, device, dtype) for count in counts)
        found.append(Growth("frames", jobs))
        frames = 3 if path == "rife" else 7
        found.append(Growth("pixels", tuple(Job(path, *size, 2, frames, device, dtype) for size in heights)))
    return found


def _in(dtypes: Sequence[str], job: Job) -> tuple[Job, ...]:
    return tuple(replace(job, dtype=dtype) for dtype in dtypes)


def _job(path: str, size: tuple[int, int], multiplier: int, device: str) -> Job:
    return Job(path, *size, multiplier, _frames(path, size, multiplier, device), device)


def _frames(path: str, size: tuple[int, int], multiplier: int, device: str) -> int:
    """Enough for a steady pace: on a CPU a few seconds' work, and for fusion at least one full window of frames."""
    pixels = size[0] * size[1]
    if device != "cpu":
        return max(3, min(33, RESULT_BYTES // (12 * pixels * multiplier)))
    least = 7 if path == "fusion" else 2
    return max(least, min(5, round(3e6 / pixels)) if multiplier == 2 else min(3, round(2e6 / pixels)))
