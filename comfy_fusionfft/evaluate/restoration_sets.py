"""What restorers are measured on: sets of blurred small pictures and sharp large ones, or such pairs made of clips.

A folder holds the sets that are there; below, SET stands for the folder itself or for one of the named ones in it.

- REDS4, in SET = ``REDS``, ``REDS4``, ``train`` or ``val``, or ``train`` or ``val`` in ``REDS``: the clips 000, 011,
  015 and 020 of the training part, sharp in ``train_sharp``, ``val_sharp``, ``sharp`` or ``GT``, blurred and small in
  ``train_blur_bicubic``, ``val_blur_bicubic`` or ``blur_bicubic``, in the folder ``X4`` of it if there is one:
  ``train_sharp/000/00000000.png`` and ``train_blur_bicubic/X4/000/00000000.png``. A validation part counts only
  where it holds nothing but these four: the official one has other clips of the same numbers.
- GoPro, in SET = ``GOPRO_Large``, ``GOPRO`` or ``GoPro``: ``test/<sequence>/blur/000001.png`` and ``…/sharp/…``. The
  blurred pictures are as large as the sharp ones, and are made small here.

Clips of one's own are exposed and reduced as in training (``train.restoration_blur``), GoPro's pictures reduced so:
bicubic (a = -0.5, weights normalised at the borders) with antialiasing, rounded to 8 bits, as a file would hold them.
Sides are cut to a multiple of 4 first, at the right and at the bottom.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from ..contract import Frame
from ..errors import InputError
from ..train.restoration_blur import SCALE, exposed
from ..train.restoration_blur import reduced as made_small
from ..video import open_clip
from .intervals import find_clips, read_segments, reduced
from .restoration_report import Published

REDS4 = ("000", "011", "015", "020")


class Pair(NamedTuple):
    """What a restorer is given, and the ``(H, W, 3)`` uint8 that it should make of it."""

    low: Frame
    truth: np.ndarray


@dataclass(frozen=True, slots=True)
class PairSource:
    """group: name of the set, empty for clips. pairs: starts a fresh stream."""

    group: str
    name: str
    pairs: Callable[[], Iterator[Pair]]


@dataclass(frozen=True, slots=True)
class RestorationSet:
    """find: folder of sets and frames wanted per clip (0: all) -> its clips, none if it is not there."""

    name: str
    title: str
    find: Callable[[Path, int], list[PairSource]]
    published: tuple[Published, ...] = ()


def find_sets(folder: Path, frames: int = 0) -> tuple[list[PairSource], list[Published], dict[str, str]]:
    """The clips of all sets in ``folder``, what others published on them, and set name -> title.

    frames: scored ones of each clip, from its middle; 0: all. Raises InputError when there is no set.
    """
    found = [(each, each.find(folder, frames)) for each in SETS]
    found = [(each, sources) for each, sources in found if sources]
    if not found:
        raise InputError(
            f"{folder} holds no set of blurred and sharp pictures: give one with train_sharp and train_blur_bicubic/X4 "
            "(REDS4), or test/<sequence>/blur and sharp (GoPro)"
        )
    sources = [source for _, sources in found for source in sources]
    published = [figures for each, _ in found for figures in each.published]
    return sources, published, {each.name: each.title for each, _ in found}


def clip_pairs(
    folder: Path, *, blur: int, every: int, linear: bool, frames: int, longest_side: int
) -> list[PairSource]:
    """Each video or folder of frames in ``folder``, blurred and made small: see ``evaluate_restoration``."""
    segments = read_segments(folder)

    def source(path: Path) -> PairSource:
        known = segments.get(path.name)
        return PairSource("", path.name, lambda: _clip(path, known, blur, every, linear, frames, longest_side))

    return [source(path) for path in find_clips(folder)]


def _reds4(root: Path, frames: int) -> list[PairSource]:
    named = [root / name for name in ("REDS", "REDS4", "train", "val", "REDS/train", "REDS/val")]
    for base in (root, *named):
        for part in ("train_", "val_", ""):
            sharp = _first(base / f"{part}sharp", *([base / "GT"] if not part else []))
            low = _first(base / f"{part}blur_bicubic" / f"X{SCALE}", base / f"{part}blur_bicubic")
            if sharp is None or low is None:
                continue
            here = {p.name for p in sharp.iterdir() if p.is_dir()} & {p.name for p in low.iterdir() if p.is_dir()}
            if (part == "val_" or base.name == "val") and here - set(REDS4):
                continue
            if chosen := [name for name in REDS4 if name in here]:
                return [PairSource("reds4", n, _folders(low / n, sharp / n, frames, small=True)) for n in chosen]
    return []


def _gopro(root: Path, frames: int) -> list[PairSource]:
    for base in (root, *(root / name for name in ("GOPRO_Large", "GOPRO", "GoPro"))):
        if not (base / "test").is_dir():
            continue
        scenes = sorted(p for p in (base / "test").iterdir() if (p / "blur").is_dir() and (p / "sharp").is_dir())
        if scenes:
            return [PairSource("gopro", p.name, _folders(p / "blur", p / "sharp", frames, small=False)) for p in scenes]
    return []


SETS = (
    RestorationSet(
        "reds4",
        "REDS clips 000, 011, 015, 020: blurred, reduced by 4 -> sharp",
        _reds4,
        (Published("reds4", "FMA-Net (recalled from its publication, not verified)", 28.83, 0.8315, 1.92),),
    ),
    RestorationSet(
        "gopro",
        "GoPro test sequences: blurred, reduced by 4 here -> sharp",
        _gopro,
        (
            Published("gopro", "FMA-Net, trained again on five exposures (FMA-Net++, table 2)", 28.83, 0.8655, 2.727),
            Published("gopro", "FMA-Net++ (its table 2)", 30.49, 0.9018, 2.091),
        ),
    ),
)


def _first(*folders: Path) -> Path | None:
    return next((folder for folder in folders if folder.is_dir()), None)


def _folders(low: Path, sharp: Path, frames: int, *, small: bool) -> Callable[[], Iterator[Pair]]:
    """Pairs of two folders of as many pictures; small: whether those in ``low`` are small already."""

    def stream() -> Iterator[Pair]:
        lows, sharps = open_clip(low), open_clip(sharp)
        count = sharps.info.frames
        if lows.info.frames != count:
            raise InputError(
                f"{low} has {lows.info.frames} pictures and {sharp} has {count}: unpack both of them completely"
            )
        start, stop = _middle(count, frames)
        for number, (given, frame) in enumerate(zip(lows.frames(start), sharps.frames(start), strict=True), start):
            if number == stop:
                return
            truth = _cut(_levels(frame))
            if small:
                given = replace(given, pixels=torch.from_numpy(_levels(given)))
            else:
                given = replace(given, pixels=_bytes(made_small(_picture(_cut(_levels(given))))))
            if tuple(SCALE * side for side in given.pixels.shape[:2]) != truth.shape[:2]:
                sizes = "{1}x{0} and {3}x{2}".format(*given.pixels.shape[:2], *truth.shape[:2])
                raise InputError(
                    f"{low} and {sharp} have pictures of {sizes}: sharp ones must be {SCALE} times as large"
                )
            yield Pair(given, truth)

    return stream


def _clip(
    path: Path,
    segments: list[tuple[int, int]] | None,
    blur: int,
    every: int,
    linear: bool,
    frames: int,
    longest_side: int,
) -> Iterator[Pair]:
    """Frames of the longest segment; where none is known, of the whole clip, counted by reading it once."""
    if segments is None:
        segments = [(0, sum(1 for _ in open_clip(path)) - 1)]
    first, last = max(segments, key=lambda ends: ends[1] - ends[0])
    begin, end = _middle(max(0, (last - first + 1 - blur) // every + 1), frames)
    begins = range(first + every * begin, first + every * end, every)  # of each exposure its first frame
    open_for: deque[np.ndarray] = deque(maxlen=blur)
    if not begins:
        return
    for number, frame in enumerate(open_clip(path).frames(begins[0]), begins[0]):
        open_for.append(_cut(reduced(frame, longest_side)))
        if number - blur + 1 in begins:
            blurred = exposed(torch.stack([_picture(each) for each in open_for]), linear=linear)
            yield Pair(Frame(_bytes(made_small(blurred)), frame.seconds), open_for[blur // 2])
        if number - blur + 1 >= begins[-1]:
            return


def _middle(count: int, scored: int) -> tuple[int, int]:
    """Which of ``count`` frames to give so that ``scored`` of them are: one at each end is not. 0: all."""
    given = min(count, scored + 2) if scored else count
    start = (count - given) // 2
    return start, start + given


def _picture(pixels: np.ndarray) -> Tensor:
    """``(H, W, 3)`` uint8 -> ``(3, H, W)`` 0..1."""
    return torch.from_numpy(pixels).permute(2, 0, 1).float().div_(255)


def _bytes(picture: Tensor) -> Tensor:
    return (picture.permute(1, 2, 0) * 255).round_().to(torch.uint8).contiguous()


def _levels(frame: Frame) -> np.ndarray:
    return reduced(frame, max(frame.pixels.shape))


def _cut(picture: np.ndarray) -> np.ndarray:
    height, width = (side // SCALE * SCALE for side in picture.shape[:2])
    return np.ascontiguousarray(picture[:height, :width])
