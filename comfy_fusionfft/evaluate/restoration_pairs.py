"""Pairs to measure restoration on: a small picture, blurred or not, and the large sharp one. Streamed.

Sides are cut to a multiple of 4 first, at the right and at the bottom. Two ways to make small pictures, both rounded to
8 bits, as a file would hold them: ``bicubic``, and ``sampled``, after a Gaussian blur.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator
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
from ..train.restoration_compressed import thinned
from ..video import open_clip
from ..video.compressed import compressed as through_h264
from .intervals import find_clips, read_segments, reduced
from .restoration_scoring import JOINT, Scoring


class Pair(NamedTuple):
    """What a restorer is given, and the ``(H, W, 3)`` uint8 that it should make of it."""

    low: Frame
    truth: np.ndarray


@dataclass(frozen=True, slots=True)
class PairSource:
    """group: name of the set, empty for clips. pairs: starts a fresh stream. scoring: how they are compared."""

    group: str
    name: str
    pairs: Callable[[], Iterator[Pair]]
    scoring: Scoring = JOINT


def clip_pairs(
    folder: Path, *, blur: int, every: int, linear: bool, frames: int, longest_side: int
) -> list[PairSource]:
    """Each video or folder of frames in ``folder``, blurred and made small: see ``evaluate_restoration``."""
    segments = read_segments(folder)

    def source(path: Path) -> PairSource:
        known = segments.get(path.name)
        return PairSource("", path.name, lambda: _clip(path, known, blur, every, linear, frames, longest_side))

    return [source(path) for path in find_clips(folder)]


def folder_pairs(
    low: Path, sharp: Path, frames: int, scoring: Scoring, make: Callable[[np.ndarray], np.ndarray] | None = None
) -> Callable[[], Iterator[Pair]]:
    """Pairs of two folders of as many pictures. make: what makes those in ``low`` small; None: they are.

    frames: scored ones, from the middle; 0: all.
    """

    def stream() -> Iterator[Pair]:
        lows, sharps = open_clip(low), open_clip(sharp)
        count = sharps.info.frames
        if lows.info.frames != count:
            raise InputError(
                f"{low} has {lows.info.frames} pictures and {sharp} has {count}: unpack both of them completely"
            )
        start, stop = _middle(count, frames, scoring)
        for number, (given, frame) in enumerate(zip(lows.frames(start), sharps.frames(start), strict=True), start):
            if number == stop:
                return
            truth, small = _cut(_levels(frame)), _levels(given)
            if make is not None:
                small = make(_cut(small))
            if tuple(SCALE * side for side in small.shape[:2]) != truth.shape[:2]:
                sizes = "{1}x{0} and {3}x{2}".format(*small.shape[:2], *truth.shape[:2])
                raise InputError(
                    f"{low} and {sharp} have pictures of {sizes}: sharp ones must be {SCALE} times as large"
                )
            yield Pair(replace(given, pixels=torch.from_numpy(small)), truth)

    return stream


def bicubic(picture: np.ndarray) -> np.ndarray:
    """``(H, W, 3)`` uint8 -> a quarter: a = -0.5, with antialiasing, weights normalised at the borders."""
    return _bytes(made_small(_picture(picture))).numpy()


def compressed(pairs: Iterable[Pair], crf: int) -> Iterator[Pair]:
    """The same pairs with the given pictures, ``(h, w, 3)`` uint8, compressed by H.264."""
    waiting: deque[Pair] = deque()

    def pictures() -> Iterator[np.ndarray]:
        for pair in pairs:
            waiting.append(pair)
            yield pair.low.pixels.numpy()

    for pixels in through_h264(pictures(), crf):
        pair = waiting.popleft()
        yield pair._replace(low=replace(pair.low, pixels=torch.from_numpy(pixels)))


def sampled(picture: np.ndarray) -> np.ndarray:
    """``(H, W, 3)`` uint8 -> a quarter: blurred, then every 4th pixel (``train.restoration_compressed.thinned``)."""
    return _bytes(thinned(_picture(picture))).numpy()


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
    begin, end = _middle(max(0, (last - first + 1 - blur) // every + 1), frames, JOINT)
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


def _middle(count: int, scored: int, scoring: Scoring) -> tuple[int, int]:
    """Which of ``count`` frames to give so that ``scored`` of them are, 0: all. Ends may not be."""
    given = min(count, scored + (0 if scoring.ends else 2)) if scored else count
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
