"""One pass over a clip that keeps a few numbers per frame and no picture.

In: Frames of any size and type, streamed. Out: ``Survey``, from which cuts and repeats are found by pure functions.
Every frame is compared with the one before it, as thumbnails: how much of the picture motion explains (dense inverse
search, then local correlation of the frame and its predecessor moved onto it), how much changed at all, how far things
moved. Where the light changes and nothing is explained, the frames after a possible flash are compared with the one
before it as well.
"""

from __future__ import annotations

from array import array
from collections import deque
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from functools import lru_cache

import cv2
import numpy as np

from ..contract import Frame
from ..errors import InputError
from ..ops.dis import DenseInverseSearch
from .thumbnail import Thumbnail, thumbnail
from .times import Times

FLASH_FRAMES = 4
"""A disturbance of at most this many frames, after which the picture is the one before, is a flash."""

_WINDOW = 9
_NOISE = 1.0  # levels squared: less variance than this within a window is no structure
_LIGHT = 4.0, 0.15  # levels, and a share of the light: a flash is at least so much brighter or darker
_DISTURBED = 0.95  # and no more of it than this is explained
_OWN = 0.35  # what is explained less is another picture, unless it is empty


@dataclass(frozen=True, eq=False)
class Survey:
    """What is known of each frame of a clip. ``len(survey)`` is the number of frames.

    Arrays ``(n,)`` float32 about the step from the frame before to this one; the first frame's is 0 (explained: 1).

    explained: share of the picture's structure that is in the frame before, once moved: 1 all, 0 none, about 0.3 for
        pictures that have nothing to do with each other.
    change: mean difference of averages over 16 × 16 thumbnail pixels, levels 0..255.
    stir: largest difference of averages over 4 × 4, levels: how much the part that changes most does.
    hum: median difference of these, levels: what grain and coding change everywhere.
    motion: mean length of motion, per cent of the longer side of the picture.
    light: mean brightness of the frame itself, levels.
    bridge: where a flash may begin, how much of a frame soon after is explained by the frame before; 0 elsewhere.
    span: uint8, after how many frames that frame comes.
    seconds: when each frame is shown, exact.
    width, height: of the frames.
    """

    explained: np.ndarray
    change: np.ndarray
    stir: np.ndarray
    hum: np.ndarray
    motion: np.ndarray
    light: np.ndarray
    bridge: np.ndarray
    span: np.ndarray
    seconds: Times
    width: int
    height: int

    def __len__(self) -> int:
        return len(self.seconds)


def survey(frames: Iterable[Frame], *, progress: Callable[[int], None] | None = None) -> Survey:
    """Look at every frame once, in order. progress: told how many were seen, after each.

    Frames may come reduced (320 pixels are plenty). Raises InputError for no frames, frames of different sizes, pixels
    that are not finite, and instants that do not ascend.
    """
    notes, size = _Notes(), (0, 0)
    recent: deque[Thumbnail] = deque(maxlen=FLASH_FRAMES + 1)
    for number, frame in enumerate(frames):
        here = tuple(frame.pixels.shape[:2])
        if number and here != size:
            raise InputError(
                f"frame {number} is {here[1]}x{here[0]}, the frames before it are {size[1]}x{size[0]}: "
                "give frames of one size"
            )
        if number and frame.seconds <= notes.seconds[-1]:
            raise InputError(
                f"frame {number} is shown at {float(frame.seconds):g} s, the one before it at "
                f"{float(notes.seconds[-1]):g} s: give frames in the order they are shown"
            )
        size = here
        notes.add(thumbnail(frame.pixels, number), frame, recent)
        if progress is not None:
            progress(number + 1)
    if not len(notes.seconds):
        raise InputError("there are no frames to survey: give a clip with at least one")
    return notes.survey(size)


@dataclass(eq=False)
class _Notes:
    """The arrays of a Survey while they grow."""

    explained: array = field(default_factory=lambda: array("f"))
    change: array = field(default_factory=lambda: array("f"))
    stir: array = field(default_factory=lambda: array("f"))
    hum: array = field(default_factory=lambda: array("f"))
    motion: array = field(default_factory=lambda: array("f"))
    light: array = field(default_factory=lambda: array("f"))
    bridge: array = field(default_factory=lambda: array("f"))
    span: array = field(default_factory=lambda: array("B"))
    seconds: Times = field(default_factory=Times)
    search: DenseInverseSearch = field(default_factory=lambda: DenseInverseSearch("medium"))

    def add(self, seen: Thumbnail, frame: Frame, recent: deque[Thumbnail]) -> None:
        self.seconds.append(frame.seconds)
        self.light.append(seen.light)
        self.bridge.append(0)
        self.span.append(0)
        if recent:
            before = recent[-1]
            apart = np.abs(seen.cells - before.cells)
            explained, motion = explain(before.grey, seen.grey, self.search)
            self.explained.append(explained)
            self.change.append(np.abs(seen.coarse - before.coarse).mean())
            self.stir.append(apart.max())
            self.hum.append(np.median(apart))
            self.motion.append(100 * motion / max(seen.grey.shape))
            self._bridge(seen, recent)
        else:
            for values, first in ((self.explained, 1), (self.change, 0), (self.stir, 0), (self.hum, 0)):
                values.append(first)
            self.motion.append(0)
        recent.append(seen)

    def _bridge(self, seen: Thumbnail, recent: deque[Thumbnail]) -> None:
        """Compare ``seen`` with the frame before each possible flash that began a few frames ago."""
        here = len(self.seconds) - 1
        for before in range(max(0, here - FLASH_FRAMES - 1), here - 1):
            began = before + 1
            jump = self.light[began] - self.light[before]
            if self.explained[began] > _DISTURBED or abs(jump) < _LIGHT[0]:
                continue
            # What shows something of its own is no flash, but a shot of a few frames.
            bright = abs(jump) > _LIGHT[1] * self.light[before] and self.explained[began] > _OWN
            if not bright and not _empty(recent[began - here].grey, recent[before - here].grey):
                continue
            # Still in the flash: its light has not yet gone back half of the way.
            if abs(self.light[here] - self.light[before]) > abs(jump) / 2:
                continue
            share, _ = explain(recent[before - here].grey, seen.grey, self.search)
            if share > self.bridge[began]:
                self.bridge[began], self.span[began] = share, here - began

    def survey(self, size: tuple[int, int]) -> Survey:
        names = ("explained", "change", "stir", "hum", "motion", "light", "bridge")
        arrays = {name: np.frombuffer(getattr(self, name), np.float32) for name in names}
        return Survey(
            **arrays, span=np.frombuffer(self.span, np.uint8), seconds=self.seconds, width=size[1], height=size[0]
        )


def _empty(grey: np.ndarray, before: np.ndarray) -> bool:
    """Whether a picture is nearly black, white or of one colour, by what was to be seen before."""
    return bool(grey.std() < 0.35 * before.std() or (grey > 235).mean() > 0.4)


def explain(before: np.ndarray, after: np.ndarray, search: DenseInverseSearch) -> tuple[float, float]:
    """How much of ``before (h, w)`` is found again in ``after``, 0..1, and the mean length of motion in pixels."""
    flow = search(*_in_bytes(before, after))
    high, wide = before.shape
    x, y = _places(high, wide)
    x, y = x + flow[..., 0], y + flow[..., 1]
    moved = cv2.remap(after, x, y, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)
    inside = ((x >= 0) & (x <= wide - 1) & (y >= 0) & (y <= high - 1)).astype(np.float32)
    motion = float(cv2.magnitude(flow[..., 0], flow[..., 1]).mean())
    return _likeness(before, moved, inside), motion


def _likeness(a: np.ndarray, b: np.ndarray, inside: np.ndarray) -> float:
    """Twice the covariance over the sum of variances, both within windows and summed over the picture."""
    mean_a, mean_b = _local(a), _local(b)
    both = _local(a * b) - mean_a * mean_b
    each = _local(a * a) + _local(b * b) - mean_a * mean_a - mean_b * mean_b
    weight = float(inside.sum())
    if not weight:
        return 0.0
    # Grain is everywhere: what the flattest parts vary is no structure either.
    flattest = np.sort(each[::4, ::4], axis=None)
    noise = weight * (_NOISE + float(flattest[len(flattest) // 10]))
    alike = 2 * float((both * inside).sum()) + noise
    return float(np.clip(alike / (float((each * inside).sum()) + noise), 0, 1))


def _local(values: np.ndarray) -> np.ndarray:
    return cv2.boxFilter(values, -1, (_WINDOW, _WINDOW), borderType=cv2.BORDER_REFLECT)


def _in_bytes(*pictures: np.ndarray) -> tuple[np.ndarray, ...]:
    """What the search is given: levels spread so that dark pictures have contrast, both alike."""
    low = min(float(np.percentile(picture, 1)) for picture in pictures)
    high = max(float(np.percentile(picture, 99)) for picture in pictures)
    gain = min(6.0, 235 / max(1.0, high - low))
    return tuple(((picture - low) * gain).clip(0, 255).astype(np.uint8) for picture in pictures)


@lru_cache(maxsize=4)
def _places(high: int, wide: int) -> tuple[np.ndarray, np.ndarray]:
    return tuple(np.meshgrid(np.arange(wide, dtype=np.float32), np.arange(high, dtype=np.float32)))
