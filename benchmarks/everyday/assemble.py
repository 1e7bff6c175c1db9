"""Test material with known answers: pieces of real clips cut together, and clips whose frames are held or lost.

``load`` reads clips at one small size. ``cut_together`` strings random pieces of them together and says where the cuts
are, with flashes and fades inside the pieces, which are none; ``hold`` shows frames more than once by a pattern and
says which are repeats. ``recode`` sends either through H.264, so that copies are no longer equal bit for bit.
"""

from __future__ import annotations

import csv
import io
from collections.abc import Iterable, Mapping
from fractions import Fraction
from itertools import pairwise
from pathlib import Path
from typing import NamedTuple

import av
import cv2
import numpy as np
import torch

from comfy_fusionfft.contract import Frame
from comfy_fusionfft.video import open_clip

WIDTH, HEIGHT = 320, 180
SUFFIXES = {".264", ".avi", ".h264", ".mkv", ".mov", ".mp4", ".mpg", ".ogv", ".webm"}


# What the index does not list, found by looking at the frames: cuts, and jumps where a camera left frames out.
SEEN = {
    "mdn_tears_of_steel_battle_clip_medium.webm": {122, 901, 987, 1157, 1430, 1472, 1525, 1571, 1618, 1689},
    "samdutton_vp9_562.webm": {295},
    "androidx_sample_with_increasing_timestamps_3.mp4": {18, 276},
}
# And what it lists, but is none: fast motion, dropped frames, an explosion.
SMOOTH = {
    "androidx_sample_with_increasing_timestamps_3.mp4": {20, 45, 77},
    "androidx_sample_with_increasing_timestamps_3_2.mp4": {283},
    "kaist_vicl_video_2024_02_15_14_27_34.mp4": {128},
    "kwaivgi_d12.mp4": {103, 136, 164},
    "mdn_tears_of_steel_battle_clip_medium.webm": {1665},
}


class Source(NamedTuple):
    """A clip read: ``frames`` ``(n, H, W, 3)`` uint8. runs: half-open ranges of frames without a cut or a repeat."""

    name: str
    frames: np.ndarray
    runs: tuple[tuple[int, int], ...]


class Assembly(NamedTuple):
    """``frames`` ``(n, H, W, 3)`` uint8 and the frames that begin a new shot.

    kinds: of each cut, what it joins: ``other clip``; of the same clip ``jump`` where the step over the cut is at least
    three times as large as the steps around, else ``smooth``: there is next to nothing to see.
    traps: what was put in that is no cut, with its first frame.
    """

    frames: np.ndarray
    cuts: tuple[int, ...]
    kinds: tuple[str, ...]
    traps: tuple[tuple[int, str], ...]


def listed(clips: Path, split: str | None) -> list[tuple[Path, dict[str, str]]]:
    """Clips of a folder with their rows of INDEX.tsv, by name; ``split`` None for all."""
    with (clips / "INDEX.tsv").open(newline="") as lines:
        rows = list(csv.DictReader(lines, delimiter="\t"))
    wanted = [row for row in rows if split in (None, row["split"])]
    return [(clips / row["split"] / row["name"].rstrip("/"), row) for row in sorted(wanted, key=lambda r: r["name"])]


def load(clips: Path, split: str | None, cache: Path | None = None) -> list[Source]:
    """Clips at ``WIDTH × HEIGHT``, their middle where the shape differs. cache: where the small copies are kept."""
    found = []
    for path, row in listed(clips, split):
        stored = cache / f"{path.name}.npy" if cache else None
        if stored and stored.exists():
            frames = np.load(stored)
        else:
            frames = np.stack([fitted(frame.pixels.numpy()) for frame in open_clip(path)])
            if stored:
                stored.parent.mkdir(parents=True, exist_ok=True)
                np.save(stored, frames)
        found.append(Source(path.name, frames, tuple(pairwise((0, *true_cuts(row), len(frames))))))
    return found


def true_cuts(row: Mapping[str, str]) -> tuple[int, ...]:
    """Frames that begin a new shot in a clip of the index, and others that were seen looking at it."""
    name = row["name"].rstrip("/")
    indexed = {int(part.split("-")[0]) for part in row["usable_segments"].split(";")[1:]}
    return tuple(sorted((indexed | SEEN.get(name, set())) - SMOOTH.get(name, set())))


def fitted(picture: np.ndarray) -> np.ndarray:
    """The middle of ``(H, W, 3)`` uint8 that has the shape wanted, at the size wanted."""
    high, wide = picture.shape[:2]
    if picture.dtype == np.uint16:
        picture = (picture >> 8).astype(np.uint8)
    factor = max(WIDTH / wide, HEIGHT / high)
    size = (max(WIDTH, round(wide * factor)), max(HEIGHT, round(high * factor)))
    whole = cv2.resize(picture[..., :3], size, interpolation=cv2.INTER_AREA if factor < 1 else cv2.INTER_CUBIC)
    y, x = (size[1] - HEIGHT) // 2, (size[0] - WIDTH) // 2
    return np.ascontiguousarray(whole[y : y + HEIGHT, x : x + WIDTH])


def cut_together(sources: list[Source], random: np.random.Generator, pieces: int) -> Assembly:
    """Random pieces of 12 to 60 frames (one in twelve: 1 to 3), with a flash or a fade inside one in four."""
    frames, cuts, kinds, traps = [], [], [], []
    before = None
    for _ in range(pieces):
        same = before is not None and random.random() < 0.35
        source = before[0] if same else sources[random.integers(len(sources))]
        length = int(random.integers(1, 4)) if random.random() < 1 / 12 else int(random.integers(12, 61))
        piece = _piece(source, length, random, away_from=before[1:] if same else None)
        if piece is None:
            continue
        first, end = piece
        shown = source.frames[first:end].copy()
        if before is not None:
            cuts.append(len(frames))
            kinds.append(_kind(source, before, (first, end)))
        if len(shown) >= 16 and random.random() < 0.25:
            at, what = _trap(shown, random)
            traps.append((len(frames) + at, what))
        frames += list(shown)
        before = (source, first, end)
    return Assembly(np.stack(frames), tuple(cuts), tuple(kinds), tuple(traps))


def _piece(
    source: Source, length: int, random: np.random.Generator, away_from: tuple[int, int] | None
) -> tuple[int, int] | None:
    """A range of ``source`` inside one of its runs; not within 20 frames of where the piece before it ends."""
    for _ in range(40):
        first, end = source.runs[random.integers(len(source.runs))]
        if end - first < length:
            continue
        start = int(random.integers(first, end - length + 1))
        if away_from is None or abs(start - away_from[1]) > 20:
            return start, start + length
    return None


def worn(frames: np.ndarray, how: str, random: np.random.Generator) -> np.ndarray:
    """``dark``: a seventh of the light. ``grain``: film grain, the same strength in every frame. Else as they are."""
    if how == "dark":
        return (frames * np.float32(1 / 7)).astype(np.uint8)
    if how == "grain":
        noisy = np.empty_like(frames)
        for n, frame in enumerate(frames):
            grain = cv2.GaussianBlur(random.standard_normal(frame.shape[:2]), (0, 0), 0.7) * 22
            noisy[n] = np.clip(frame + grain[..., None], 0, 255)
        return noisy
    return frames


def _kind(source: Source, before: tuple[Source, int, int], piece: tuple[int, int]) -> str:
    if before[0] is not source:
        return "other clip"
    over = _step(source.frames[before[2] - 1], source.frames[piece[0]])
    last, first = (source.frames[max(0, at - 4) : at + 4] for at in (before[2], piece[0]))
    around = [_step(a, b) for part in (last, first) for a, b in pairwise(part)]
    return "jump" if over > 3 * float(np.median(around)) else "smooth"


def _step(a: np.ndarray, b: np.ndarray) -> float:
    """Mean difference of two frames, grain aside."""
    small = [cv2.resize(x, (WIDTH // 4, HEIGHT // 4), interpolation=cv2.INTER_AREA).astype(np.float32) for x in (a, b)]
    return float(np.abs(small[0] - small[1]).mean()) + 0.1


def _trap(shown: np.ndarray, random: np.random.Generator) -> tuple[int, str]:
    """Change ``shown`` in place: a flash of 1 to 3 frames, strobing, or a fade to black or white and back."""
    what = ("flash", "white flash", "strobe", "fade", "white fade")[random.integers(5)]
    at = int(random.integers(4, len(shown) - 8))
    if what == "flash":
        for n in range(at, at + int(random.integers(1, 4))):
            shown[n] = np.clip(shown[n] * float(random.uniform(1.5, 3)) + float(random.uniform(20, 60)), 0, 255)
    elif what == "white flash":
        shown[at : at + int(random.integers(1, 4))] = 255
    elif what == "strobe":
        for n in range(at, min(len(shown), at + 12), 2):
            shown[n] = shown[n] // 4
    else:
        goal = 0.0 if what == "fade" else 255.0
        half = min(6, (len(shown) - at) // 2)
        for n in range(2 * half):
            share = 1 - abs(n + 1 - half) / half
            shown[at + n] = shown[at + n] * (1 - share) + goal * share
    return at, what


def recode(frames: np.ndarray, crf: int, rate: int = 24, preset: str = "veryfast") -> np.ndarray:
    """Frames as a viewer gets them: through H.264 at this quality."""
    held = io.BytesIO()
    with av.open(held, "w", format="mp4") as output:
        stream = output.add_stream("libx264", rate=rate, options={"crf": str(crf), "preset": preset, "threads": "1"})
        stream.height, stream.width, stream.pix_fmt = *frames.shape[1:3], "yuv420p"
        for frame in frames:
            output.mux(stream.encode(av.VideoFrame.from_ndarray(np.ascontiguousarray(frame), "rgb24")))
        output.mux(stream.encode(None))
    held.seek(0)
    with av.open(held) as source:
        source.streams.video[0].thread_type = "NONE"
        return np.stack([frame.to_ndarray(format="rgb24") for frame in source.decode(video=0)])


def as_frames(pictures: Iterable[np.ndarray], rate: int = 24) -> Iterable[Frame]:
    return (Frame(torch.from_numpy(picture), Fraction(n, rate)) for n, picture in enumerate(pictures))


def score(found: Iterable[int], true: Iterable[int]) -> Mapping[str, float]:
    """Precision, recall and F1 of exact frame numbers."""
    found, true = set(found), set(true)
    right = len(found & true)
    precision, recall = right / max(1, len(found)), right / max(1, len(true))
    return {
        "precision": precision,
        "recall": recall,
        "f1": 2 * precision * recall / max(1e-9, precision + recall),
        "right": right,
        "found": len(found),
        "true": len(true),
    }


PATTERNS = (
    "untouched",
    "twos",
    "threes",
    "mixed",
    "24 to 30",
    "24 to 60",
    "15 to 60",
    "stutter 2 %",
    "stutter 6 %",
    "stutter 15 %",
)


def hold(
    frames: np.ndarray, pattern: str, random: np.random.Generator
) -> tuple[np.ndarray, tuple[int, ...], np.ndarray]:
    """Frames held by a pattern, which of the new frames repeat the one before them, and which frame each shows.

    Twos, threes, mixed and stutter lose frames: what is held stands for those that were there. The others fill up a
    frame rate and lose none.
    """
    count = len(frames)
    if pattern == "untouched":
        shown = np.arange(count)
    elif pattern in ("twos", "threes"):
        step = 2 if pattern == "twos" else 3
        shown = np.arange(count) // step * step
    elif pattern == "mixed":
        starts = np.cumsum(np.concatenate([[0], random.integers(1, 4, count)]))
        shown = starts[np.searchsorted(starts, np.arange(count), "right") - 1]
    elif pattern.startswith("stutter"):
        lost = random.random(count) < float(pattern.split()[1]) / 100
        lost[0] = False
        shown = np.maximum.accumulate(np.where(lost, 0, np.arange(count)))
    else:
        slow, fast = (int(part) for part in pattern.split(" to "))
        shown = np.arange(count * fast // slow) * slow // fast
    return frames[shown], tuple((np.flatnonzero(np.diff(shown) == 0) + 1).tolist()), shown
