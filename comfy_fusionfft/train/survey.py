"""One look at every frame of a clip, at thumbnail size: what moves, where it cuts or stands still, what it shows.

In: a folder of clips (any container the video reader opens, or image folders). An ``INDEX.tsv`` beside them, where
there is one, tells which frames to use at all (``usable_segments``) and where a clip comes from (``source``,
``licence``; ``split`` other than ``train`` is left out).

Out: ``Look``. Frames are streamed; of each only a number of its motion, two marks and a fingerprint stay. An index is
believed where it leaves frames out, and checked where it does not: cuts and repeats are looked for everywhere.
"""

from __future__ import annotations

import csv
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from fractions import Fraction
from itertools import pairwise
from pathlib import Path

import cv2
import numpy as np
import torch
from torch import Tensor

from ..contract import Frame
from ..survey import find_cuts, find_repeats, survey
from ..video import open_clip

SIDE = 96
"""Short side of the thumbnails, pixels."""
SAME = 0.95
"""Fingerprints nearer than this (their inner product) show the same picture: see ``fingerprint``."""

_RATE = 25  # frames per second, of clips whose own does not matter
_SUFFIXES = {".264", ".avi", ".h264", ".mkv", ".mov", ".mp4", ".mpg", ".ogv", ".webm", ".m4v", ".ts"}
_PICTURES = {".bmp", ".jpeg", ".jpg", ".png", ".tif", ".tiff", ".webp"}


@dataclass(frozen=True, slots=True)
class Clip:
    """A clip of a folder. segments: half-open ranges of frames the index allows, None without an index."""

    path: Path
    segments: tuple[tuple[int, int], ...] | None = None
    source: str = ""
    licence: str = ""


@dataclass(frozen=True, slots=True)
class Look:
    """What ``n`` frames show.

    side: short side of the pictures, pixels. short: that of the thumbnails.
    numbers: ``(n,)`` which frames of the clip they are: all, or all but the repeats that fill up a frame rate.
    motion: ``(n - 1, 2)`` from each frame to the next, percentiles 90 and 99 of its length, in pixels of thumbnails.
    cuts, repeats: ``(n - 1,)`` bool, whether the next frame shows something else, or the same once more.
    prints: ``(n, D)`` float16, see ``fingerprint``.
    """

    side: int
    short: int
    numbers: np.ndarray
    motion: np.ndarray
    cuts: np.ndarray
    repeats: np.ndarray
    prints: np.ndarray

    @property
    def pace(self) -> float:
        """How many of the clip's frames these are: their own rate, if repeats fill it up, is so much lower."""
        return len(self.numbers) / (1 + int(self.numbers[-1]))

    def runs(self, allowed: tuple[tuple[int, int], ...] | None = None) -> tuple[tuple[int, int], ...]:
        """Half-open runs of looks without a cut or a repeat, inside the frames ``allowed``."""
        breaks = set((np.flatnonzero(self.cuts | self.repeats) + 1).tolist())
        found = []
        for first, end in self.within(allowed):
            edges = [first, *(at for at in range(first + 1, end) if at in breaks), end]
            found += [(a, b) for a, b in pairwise(edges) if b - a > 2]
        return tuple(found)

    def within(self, allowed: tuple[tuple[int, int], ...] | None) -> list[tuple[int, int]]:
        """Half-open ranges of looks at the frames ``allowed``; everything for None."""
        if allowed is None:
            return [(0, len(self.numbers))]
        return [tuple(np.searchsorted(self.numbers, span).tolist()) for span in allowed]


def find_clips(folder: Path, *, every_split: bool = False) -> Iterator[Clip]:
    """Clips of a folder by name; the index decides which of them may be trained on, unless ``every_split``."""
    table = {}
    for index in (folder / "INDEX.tsv", folder.parent / "INDEX.tsv"):
        if index.is_file():
            with index.open(newline="") as lines:
                table = {row["name"].rstrip("/"): row for row in csv.DictReader(lines, delimiter="\t")}
            break
    for path in sorted(folder.iterdir()):
        pictures = path.is_dir() and any(file.suffix.lower() in _PICTURES for file in path.iterdir())
        if not pictures and path.suffix.lower() not in _SUFFIXES:
            continue
        row = table.get(path.name)
        if row is None:
            yield Clip(path)
        elif every_split or row.get("split", "train") == "train":
            spans = [tuple(map(int, part.split("-"))) for part in row["usable_segments"].split(";") if part]
            segments = tuple((first, last + 1) for first, last in spans)
            yield Clip(path, segments, row.get("source", ""), row.get("licence", ""))


def pictures_of(path: Path) -> Iterator[np.ndarray]:
    """Frames ``(H, W, 3)`` uint8 RGB."""
    return (_rgb8(frame.pixels) for frame in open_clip(path))


def look(pictures: Iterable[np.ndarray]) -> Look:
    """Survey frames ``(H, W, 3)`` uint8, once and in order."""
    dis = cv2.DISOpticalFlow_create(cv2.DISOPTICAL_FLOW_PRESET_ULTRAFAST)
    dis.setFinestScale(1)  # half of the thumbnail; a quarter, its own choice, overlooks what is small
    side, short = 0, SIDE
    prints, motion = [], []

    def frames() -> Iterator[Frame]:
        nonlocal side, short
        before = None
        for number, picture in enumerate(pictures):
            grey = cv2.cvtColor(shrink(picture, SIDE), cv2.COLOR_RGB2GRAY)
            prints.append(fingerprint(grey))
            if before is None:
                side, short = min(picture.shape[:2]), min(grey.shape)
            else:
                flow = dis.calc(before, grey, None) if min(grey.shape) >= 16 else np.zeros((*grey.shape, 2), np.float32)
                motion.append(np.percentile(np.linalg.norm(flow, axis=-1), (90, 99)))
            before = grey
            yield Frame(torch.from_numpy(picture), Fraction(number, _RATE))

    seen = survey(frames())
    begin = find_cuts(seen)
    cuts = np.isin(np.arange(1, len(seen)), begin)
    repeats = find_repeats(seen, begin).repeated[1:]
    numbers, moved = np.arange(len(prints)), np.array(motion, np.float32).reshape(-1, 2)
    if _filled_up(moved[:, 0], repeats):
        numbers = np.concatenate([[0], np.flatnonzero(~repeats) + 1])
    into = numbers[1:] - 1  # what leads to a frame is the step from the frame before it, repeat or not
    return Look(side, short, numbers, moved[into], cuts[into], repeats[into], np.array(prints, np.float16)[numbers])


def fingerprint(grey: np.ndarray) -> np.ndarray:
    """``(D,)`` float32 of length 1: two slopes of a 16x16 reduction, black borders cut off, brightness divided out.

    The inner product of two is 1 for the same picture, above ``SAME`` when it was re-encoded or resized, and of an
    empty picture with anything 0.
    """
    rows, columns = (np.flatnonzero((grey > 24).any(axis)) for axis in (1, 0))
    if len(rows) < 32 or len(columns) < 32:
        rows, columns = np.array([0, grey.shape[0] - 1]), np.array([0, grey.shape[1] - 1])
    inside = grey[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1]
    small = cv2.resize(inside, (16, 16), interpolation=cv2.INTER_AREA).astype(np.float32)
    slopes = np.concatenate([np.diff(small, axis=0).ravel(), np.diff(small, axis=1).ravel()])
    length = np.linalg.norm(slopes)
    # Slopes of a level or less are noise, which resembles other noise.
    return slopes / length if length > np.sqrt(len(slopes)) else np.zeros_like(slopes)


def shrink(picture: np.ndarray, short_side: int) -> np.ndarray:
    """Area-reduce to ``short_side`` (never enlarge); sides divisible by 4, as the grid of flows needs."""
    rows, columns = picture.shape[:2]
    factor = min(1.0, short_side / min(rows, columns))
    size = tuple(max(4, round(side * factor / 4) * 4) for side in (columns, rows))
    return cv2.resize(picture, size, interpolation=cv2.INTER_AREA)


def _filled_up(motion: np.ndarray, repeats: np.ndarray) -> bool:
    """Whether repeats only fill up a frame rate, as when 25 frames a second are shown as 30: then what follows one
    moves as far as anything, and without them motion is even. After frames lost on the way, it jumps."""
    after = np.flatnonzero(repeats[:-1] & ~repeats[1:]) + 1
    usual = ~repeats
    usual[after] = False
    if len(after) < max(4, len(motion) / 30):
        return False
    # Repeats may follow each other so closely that nothing else is left to compare with.
    other = motion[usual] if usual.sum() >= 4 else motion[after]
    return 0.75 < float(np.median(motion[after])) / max(1e-3, float(np.median(other))) < 1.35


def _rgb8(pixels: Tensor) -> np.ndarray:
    if pixels.dtype == torch.uint16:
        pixels = (pixels.to(torch.int32) + 128).div(257, rounding_mode="floor").to(torch.uint8)
    elif pixels.is_floating_point():
        pixels = (pixels * 255).round().clamp(0, 255).to(torch.uint8)
    return pixels[..., :3].expand(-1, -1, 3).contiguous().numpy()
