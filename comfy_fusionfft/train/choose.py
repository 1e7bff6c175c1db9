"""Which windows of which clips to pack: none with a cut or a repeat, nothing twice, all speeds of motion alike.

In: what ``train.survey`` saw of the clips. Out: ``Slot``s. A clip's runs of frames are divided into slots side by side;
slots that show what is kept out, or what a larger clip shows too, fall away; of the rest as many are taken as wanted,
each time one from the octave of motion that has least.
"""

from __future__ import annotations

import math
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass

import numpy as np

from .survey import SAME, Clip, Look

STILL = 0.1
"""Pixels from frame to frame; a slot of less motion than this in all but a hundredth of it teaches nothing."""

SHARES = (0.3, 0.6, 1, 1, 1, 1, 1, 1)
"""How many windows are wanted of the octaves of motion below 1/2, from 1/2, from 1, … and from 32 pixels a frame."""


@dataclass(frozen=True, slots=True)
class Slot:
    """A window that could be packed, of the clip named ``clip``.

    frames: their numbers in the clip. stride: their distance, not counting repeats that were skipped.
    motion: from one packed frame to the next, the 90th percentile of its length, pixels at the packed size.
    """

    clip: str
    frames: tuple[int, ...]
    stride: int
    motion: float


def octave(motion: float) -> int:
    """0 below 1/2 pixel, 1 below 1, 2 below 2, … the last from 32 up."""
    return min(len(SHARES) - 1, max(0, math.floor(math.log2(max(motion, 0.25))) + 2))


def find_slots(
    looks: dict[Clip, Look], excluded: dict[str, np.ndarray], frames: int, height: int, report: Callable[[str], None]
) -> list[Slot]:
    """Every window of ``frames`` pictures fit to be packed; ``report`` hears what is left out, and why.

    excluded: fingerprints ``(n, D)``, by name, of frames that must not be shown. height: the pictures' short side.
    """
    kept_out, seen, found, total = Seen(excluded), Seen(), [], Counter()
    # Of the same footage in two files the one with larger pictures is kept.
    for clip, view in sorted(looks.items(), key=lambda item: -item[1].side):
        slots, why = _divide(clip, view, frames, height)
        for slot in slots:
            prints = view.prints[np.searchsorted(view.numbers, slot.frames)]
            if name := kept_out.match(prints, needed=1):
                why[f"excluded: in {name}"] += 1
            elif name := seen.match(prints[[0, frames // 2, -1]], needed=2):
                why[f"duplicate: in {name}"] += 1
            else:
                found.append(slot)
        if why:
            left_out = ", ".join(f"{count} {reason}" for reason, count in sorted(why.items()))
            report(f"{clip.path.name}: left out or moved: {left_out}")
        for reason, count in why.items():
            total[reason.partition(":")[0]] += count
        seen.add(clip.path.name, view.prints)
    summary = ", ".join(f"{count} {reason}" for reason, count in sorted(total.items())) or "none"
    report(f"{len(found)} windows to choose from; left out or moved: {summary}")
    return found


def choose(slots: Iterable[Slot], average: int) -> list[Slot]:
    """``average`` windows for each clip in the mean and at most twice as many from one, at least one from each.

    The octaves of motion are filled in proportion to ``SHARES`` over all clips together, as far as they go.
    """
    left: dict[str, list[Slot]] = defaultdict(list)
    for slot in slots:
        left[slot.clip].append(slot)
    taken: dict[str, list[Slot]] = {clip: [] for clip in left}
    filled = [0.0] * len(SHARES)

    def take(slot: Slot) -> None:
        left[slot.clip].remove(slot)
        taken[slot.clip].append(slot)
        filled[octave(slot.motion)] += 1 / SHARES[octave(slot.motion)]

    def rank(slot: Slot) -> tuple:
        """Emptiest octave first; then the clip that gave least; then what lies farthest from what it gave."""
        others = taken[slot.clip]
        near = min((abs(slot.frames[0] - other.frames[0]) for other in others), default=0)
        return filled[octave(slot.motion)], len(others), -near, slot.clip, slot.frames

    # Clips with little choice go first, and those with more make up for it.
    for clip in sorted(left, key=lambda name: (len({octave(slot.motion) for slot in left[name]}), name)):
        take(min(left[clip], key=rank))
    for _ in range((average - 1) * len(taken)):
        open_ = [slot for clip, rest in left.items() if len(taken[clip]) < 2 * average for slot in rest]
        if not open_:
            break
        take(min(open_, key=rank))
    return sorted((slot for some in taken.values() for slot in some), key=lambda slot: (slot.clip, slot.frames))


class Seen:
    """Fingerprints of frames, and in which clip they were met."""

    def __init__(self, known: dict[str, np.ndarray] | None = None):
        self._known = {name: prints.astype(np.float32) for name, prints in (known or {}).items()}

    def add(self, name: str, prints: np.ndarray) -> None:
        self._known[name] = prints.astype(np.float32)

    def match(self, prints: np.ndarray, *, needed: int) -> str | None:
        """The first clip that shows at least ``needed`` of these pictures, at any time."""
        prints = prints.astype(np.float32)
        for name, known in self._known.items():
            if ((prints @ known.T).max(1) > SAME).sum() >= needed:
                return name
        return None


def _divide(clip: Clip, view: Look, frames: int, height: int) -> tuple[list[Slot], Counter]:
    """Slots side by side in the clip's runs, and how many of those laid without a look would hold a cut or a repeat."""
    factor = min(height, view.side) / view.short
    # A slow clip at its own rate shows the network nothing but standing pictures.
    stride = 2 if len(view.motion) and float(np.median(view.motion[:, 0])) * factor < 1 else 1
    length = (frames - 1) * stride + 1
    why: Counter = Counter()
    for start in _grid(view.within(clip.segments), length):
        span = slice(start, start + length - 1)
        if view.cuts[span].any():
            why["with a cut"] += 1
        elif view.repeats[span].any():
            why["with a repeat"] += 1
    slots = []
    for start in _grid(view.runs(clip.segments), length):
        numbers = tuple(view.numbers[start : start + length : stride].tolist())
        most, nearly_all = view.motion[start : start + length - 1].mean(0) * stride * factor
        if nearly_all < STILL:
            why["still"] += 1
        else:
            slots.append(Slot(clip.path.name, numbers, stride, float(most)))
    return slots, why


def _grid(runs: Iterable[tuple[int, int]], length: int) -> Iterator[int]:
    return (start for first, end in runs for start in range(first, end - length + 1, length))
