"""Sound faster or slower at the same pitch: waveform-similarity overlap-add.

Windows of the source, half overlapping, are laid down at the output's pace. Each may move by a few milliseconds
from where the pace puts it, to the place where it continues the window before it best, so that waves meet in
phase; as the pace alone decides where it would lie, the moves do not add up.
W. Verhelst and M. Roelands, "An overlap-add technique based on waveform similarity (WSOLA)", ICASSP 1993.
"""

from __future__ import annotations

from collections.abc import Iterator
from fractions import Fraction

import numpy as np

from .listen import Listener
from .sound import Sound

_WINDOW = 0.044  # seconds: two periods of the lowest notes
_REACH = 0.0095  # seconds that a window may move
_NEARNESS = 0.02  # how much better than staying a place at the limit of the reach must be


def stretched(source: Listener, sound: Sound, samples: int) -> Iterator[np.ndarray]:
    """``source`` at ``sound``'s pace -> ``(channels, n)`` float32 blocks, ``samples`` samples in all."""
    rate = source.rate
    half = max(1, round(_WINDOW * rate / 2))
    reach = round(_REACH * rate)
    window = (0.5 - 0.5 * np.cos(np.pi * np.arange(2 * half) / half)).astype(np.float32)
    search = _Search(source.channels, 2 * half, reach)
    tail = np.zeros((source.channels, half), np.float32)
    before: int | None = None
    done = -half  # the first window begins half a window early: the first sample is whole, too
    while done < samples:
        middle = sound.seconds_at(max(Fraction(done + half, rate), Fraction(0)))
        place = round(middle * rate) - half
        if before is not None and place != before + half:
            region = source.read(place - reach, place + reach + 2 * half)
            place += search(source.read(before + half, before + 3 * half), region)
        block = source.read(place, place + 2 * half) * window
        out, tail = tail + block[:, :half], block[:, half:]
        if done >= 0:
            yield np.ascontiguousarray(out[:, : samples - done])
        before, done = place, done + half


class _Search:
    """Where in a region a stretch of sound is found best: normalized cross-correlation, by FFT."""

    def __init__(self, channels: int, length: int, reach: int) -> None:
        # Unequal weights: channels in opposite phase do not cancel.
        self._weights = (0.83 ** np.arange(channels)).astype(np.float32)
        self._length, self._reach = length, reach
        self._size = 1 << (length + 2 * reach - 1).bit_length()
        self._penalty = _NEARNESS * (np.arange(-reach, reach + 1) / reach) ** 2

    def __call__(self, wanted: np.ndarray, region: np.ndarray) -> int:
        """``(C, length)`` and ``(C, length + 2 * reach)`` -> samples from the region's middle."""
        wanted, region = self._weights @ wanted, self._weights @ region
        spectrum = np.fft.rfft(region, self._size) * np.fft.rfft(wanted, self._size).conj()
        match = np.fft.irfft(spectrum, self._size)[: 2 * self._reach + 1]
        energy = np.cumsum(np.concatenate(([0.0], region.astype(np.float64) ** 2)))
        norm = np.sqrt((energy[self._length :] - energy[: -self._length]).clip(0) * float(wanted @ wanted))
        return int(np.argmax(match / (norm + 1e-9) - self._penalty)) - self._reach
