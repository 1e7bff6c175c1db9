"""Sound whose pitch goes with its speed: resampled along the pace, with a windowed sinc.

Where the pace is faster than the source the sinc is widened in proportion, so that what would fold back over half
the sample rate is gone before it can.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from fractions import Fraction

import numpy as np

from .listen import Listener
from .sound import Sound

_CROSSINGS = 16  # of zero, on each side of the sinc
_PHASES = 2048  # entries of the table from one crossing to the next
_PASS = 0.94  # of the band that is kept
_BETA = 8.0  # of the Kaiser window: 80 dB down beside the band
_NODE = 512  # samples from one exact evaluation of the pace to the next
_LARGEST = 1 << 16  # products of one step: they stay in the cache


def taped(source: Listener, sound: Sound, samples: int) -> Iterator[np.ndarray]:
    """``source`` at ``sound``'s pace -> ``(channels, n)`` float32 blocks, ``samples`` samples in all."""
    table = _sinc_table()
    for done in range(0, samples, _NODE):
        base, places = _places(sound, source.rate, done)
        speed = max(1.0, float(np.diff(places).max()))
        reach = math.ceil(_CROSSINGS * speed)
        count = max(1, _LARGEST // (2 * reach + 1))
        parts = [
            _resampled(source, base, part, speed, reach, table) for part in np.split(places, range(count, _NODE, count))
        ]
        yield np.ascontiguousarray(np.concatenate(parts, axis=1)[:, : samples - done])


def _places(sound: Sound, rate: int, done: int) -> tuple[int, np.ndarray]:
    """Where ``_NODE`` output samples lie in the source: a whole sample, and the distances from it.

    Cubic from node to node (Catmull and Rom), which is exact while speed changes evenly.
    """
    nodes = [sound.seconds_at(Fraction(max(done + k * _NODE, 0), rate)) * rate for k in (-1, 0, 1, 2)]
    if done == 0:
        nodes[0] = 2 * nodes[1] - nodes[2]
    base = math.floor(nodes[1])
    before, here, after, beyond = (float(node - base) for node in nodes)
    t = np.arange(_NODE) / _NODE
    bend = (2 * before - 5 * here + 4 * after - beyond) + (3 * (here - after) + beyond - before) * t
    return base, here + 0.5 * t * ((after - before) + t * bend)


def _resampled(
    source: Listener, base: int, places: np.ndarray, speed: float, reach: int, table: np.ndarray
) -> np.ndarray:
    whole = np.floor(places).astype(np.int64)
    first, last = int(whole.min()) - reach, int(whole.max()) + reach + 1
    around = np.lib.stride_tricks.sliding_window_view(source.read(base + first, base + last), 2 * reach + 1, axis=1)
    taps = around[:, whole - reach - first]  # (channels, samples, taps)
    steps = np.arange(-reach, reach + 1, dtype=np.float32) - (places - whole).astype(np.float32)[:, None]
    steps = np.abs(steps) * np.float32(_PHASES * _PASS / speed) + np.float32(0.5)
    weights = table[np.minimum(steps, len(table) - 1).astype(np.int32)] * np.float32(_PASS / speed)
    return np.einsum("cnk,nk->cn", taps, weights)


def _sinc_table() -> np.ndarray:
    x = np.arange(_CROSSINGS * _PHASES + 1) / _PHASES
    window = np.i0(_BETA * np.sqrt((1 - (x / _CROSSINGS) ** 2).clip(0))) / np.i0(_BETA)
    table = (np.sinc(x) * window).astype(np.float32)
    table[-1] = 0
    return table
