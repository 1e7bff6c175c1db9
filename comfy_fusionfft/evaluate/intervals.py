"""Which frames of a clip are dropped, and a stream of the pictures needed to make them again."""

from __future__ import annotations

import csv
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import cv2
import numpy as np

from ..contract import Frame
from ..errors import InputError
from ..video import open_clip

NEIGHBOURS = 4
"""Kept frames handed over beyond the pair on each side, for methods that look further than the pair."""


@dataclass(slots=True)
class Interval:
    """Two kept frames ``left`` and ``left + drop``, the dropped ones to make, and the pictures needed.

    frames: frame number -> ``(H, W, 3)`` uint8: the kept ones, neighbours included, and the truths.
    names: what frames are called where their number does not say it.
    teacher_levels: pyramid levels for the teacher where its figures were taken with so many; None: by size.
    """

    drop: int
    left: int
    wanted: tuple[int, ...]
    kept: tuple[int, ...]
    frames: dict[int, np.ndarray]
    names: dict[int, str] = field(default_factory=dict)
    teacher_levels: int | None = None

    @property
    def pair(self) -> tuple[np.ndarray, np.ndarray]:
        return self.frames[self.left], self.frames[self.left + self.drop]

    def time(self, wanted: int) -> float:
        return (wanted - self.left) / self.drop

    def name(self, wanted: int) -> str:
        return self.names.get(wanted, str(wanted))


@dataclass(frozen=True, slots=True)
class Source:
    """A clip, or a scene of a benchmark: something that yields intervals.

    group: the benchmark's name, empty for clips. sheet: file name of the sheet that it appears on; neighbours
        with the same one share it. intervals: starts a fresh stream.
    """

    group: str
    name: str
    sheet: str
    intervals: Callable[[], Iterator[Interval]]


def intervals(
    path: Path,
    segments: Sequence[tuple[int, int]] | None,
    drops: Sequence[int],
    instants: int,
    longest_side: int,
) -> Iterator[Interval]:
    """The intervals of a clip to score, in the order their last frame is read; holds their frames alone.

    segments: inclusive frame ranges to stay within; None: the whole clip, counted by reading it once, since
        headers are often wrong.
    """
    if segments is None:
        segments = [(0, sum(1 for _ in open_clip(path)) - 1)]
    planned = sorted((i for drop in drops for i in plan(segments, drop, instants)), key=lambda i: i.kept[-1])
    needed_until: dict[int, int] = {}
    for interval in planned:
        for number in (*interval.kept, *interval.wanted):
            needed_until[number] = max(needed_until.get(number, 0), interval.kept[-1])
    held: dict[int, np.ndarray] = {}
    queue = iter(planned)
    interval = next(queue, None)
    for number, frame in enumerate(open_clip(path)):
        if interval is None:
            return
        if number in needed_until:
            held[number] = reduced(frame, longest_side)
        while interval is not None and interval.kept[-1] <= number:
            interval.frames.update({n: held[n] for n in (*interval.kept, *interval.wanted)})
            yield interval
            interval.frames.clear()
            interval = next(queue, None)
        held = {n: picture for n, picture in held.items() if needed_until[n] > number}


def plan(segments: Sequence[tuple[int, int]], drop: int, instants: int) -> list[Interval]:
    """Intervals of the frames that lie in ``segments``, still without pictures."""
    dropped: list[tuple[int, int, tuple[int, ...]]] = []  # frame, left kept frame, kept frames around
    for first, last in segments:
        kept = range(first, last + 1, drop)
        for k, left in enumerate(kept[:-1]):
            around = tuple(kept[max(0, k - NEIGHBOURS) : k + 2 + NEIGHBOURS])
            dropped += [(left + step, left, around) for step in range(1, drop)]
    if 0 < instants < len(dropped):
        # Middles of equal shares, so that neither end of the clip is favoured.
        dropped = [dropped[(2 * k + 1) * len(dropped) // (2 * instants)] for k in range(instants)]
    wanted: dict[tuple[int, tuple[int, ...]], list[int]] = defaultdict(list)
    for number, left, around in dropped:
        wanted[left, around].append(number)
    return [Interval(drop, left, tuple(numbers), around, {}) for (left, around), numbers in wanted.items()]


def reduced(frame: Frame, longest_side: int) -> np.ndarray:
    """A frame of any type -> RGB ``(H, W, 3)`` uint8, area-reduced to ``longest_side`` pixels at most."""
    pixels = frame.pixels.numpy()
    if np.issubdtype(pixels.dtype, np.floating):
        pixels = np.round(np.clip(pixels.astype(np.float32), 0, 1) * 255).astype(np.uint8)
    elif pixels.dtype == np.uint16:
        pixels = np.round(pixels / np.float32(257)).astype(np.uint8)
    pixels = np.repeat(pixels, 3, axis=2) if pixels.shape[2] == 1 else np.ascontiguousarray(pixels[..., :3])
    height, width = pixels.shape[:2]
    factor = longest_side / max(height, width)
    if factor >= 1:
        return pixels
    size = (max(1, round(width * factor)), max(1, round(height * factor)))
    return cv2.resize(pixels, size, interpolation=cv2.INTER_AREA)


def clip_sources(folder: Path, drops: Sequence[int], instants: int, longest_side: int) -> list[Source]:
    """A source for each video or folder of frames in ``folder``; raises InputError when there is none."""
    paths, segments = find_clips(folder), read_segments(folder)

    def source(path: Path) -> Source:
        known = segments.get(path.name)
        return Source("", path.name, path.stem, lambda: intervals(path, known, drops, instants, longest_side))

    return [source(path) for path in paths]


def find_clips(folder: Path) -> list[Path]:
    if not folder.is_dir():
        raise InputError(f"{folder} is not a folder: give one that holds videos or folders of frames")
    texts = {".tsv", ".md", ".txt", ".json", ".csv"}
    found = sorted(p for p in folder.iterdir() if not p.name.startswith(".") and p.suffix.lower() not in texts)
    if not found:
        raise InputError(f"{folder} holds no clips: put videos or folders of frames into it")
    return found


def read_segments(folder: Path) -> dict[str, list[tuple[int, int]]]:
    for index in (folder / "INDEX.tsv", folder.parent / "INDEX.tsv"):
        if index.is_file():
            with index.open(encoding="utf-8", newline="") as file:
                return {
                    row["name"].rstrip("/"): [
                        (int(a), int(b)) for a, b in (part.split("-") for part in row["usable_segments"].split(";"))
                    ]
                    for row in csv.DictReader(file, delimiter="\t")
                    if row.get("usable_segments")
                }
    return {}
