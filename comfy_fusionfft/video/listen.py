"""One audio stream as samples on a clock: any stretch of it in float32, decoded as it is asked for.

Sample 0 is what sounds at the first picture. Where the source has a gap there is silence. Positions are counted
from the first timestamp of a run, and checked against the later ones: a container that rounds them does not tear
the sound, one that skips keeps its place.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path

import av
import numpy as np

from .container import open_container

_TOLERANCE = Fraction(1, 25)  # seconds that a timestamp may be off before it is believed
_HISTORY = 1  # seconds that are kept behind what was read last


class Listener:
    """``start``: source seconds of sample 0. ``stream``: which of the file's audio streams."""

    def __init__(self, path: Path, stream: int, start: Fraction, rate: int, layout: str, channels: int) -> None:
        self.rate = rate
        self.channels = channels
        self._start = start
        self._layout = layout
        self._container = open_container(path)
        self._stream = self._container.streams.audio[stream]
        self._chunks: deque[tuple[int, np.ndarray]] = deque()
        self._source = self._decode()
        self._end: int | None = -(1 << 62)  # None: the stream is over

    def read(self, start: int, stop: int) -> np.ndarray:
        """Samples ``start`` to ``stop`` -> ``(channels, stop - start)`` float32. Starts may go back by a second."""
        while self._end is not None and self._end < stop:
            if (chunk := next(self._source, None)) is None:
                self._end = None
            else:
                self._end = chunk[0] + chunk[1].shape[1]
                self._chunks.append(chunk)
        while self._chunks and self._chunks[0][0] + self._chunks[0][1].shape[1] < start - _HISTORY * self.rate:
            self._chunks.popleft()
        samples = np.zeros((self.channels, stop - start), np.float32)
        for at, data in self._chunks:
            left, right = max(at, start), min(at + data.shape[1], stop)
            if left < right:
                samples[:, left - start : right - start] = data[:, left - at : right - at]
        return samples

    def close(self) -> None:
        self._source.close()
        self._container.close()

    def _decode(self) -> Iterator[tuple[int, np.ndarray]]:
        at: int | None = None
        resampler = kind = None
        anchor = taken = 0  # the run's first sample, and how many of the source's came since
        for frame in _frames(self._container, self._stream):
            here = None
            if frame.pts is not None and frame.time_base:
                here = round((frame.pts * Fraction(frame.time_base) - self._start) * self.rate)
            now = (frame.format.name, frame.layout.name, frame.sample_rate)
            heard = anchor + taken * self.rate / frame.sample_rate
            skipped = here is not None and at is not None and abs(here - heard) > _TOLERANCE * self.rate
            if at is None or skipped or now != kind:
                if resampler is not None:
                    for data in self._arrays(resampler, None):
                        yield at, data
                        at += data.shape[1]
                if at is None or skipped:
                    at = here or 0
                resampler, kind, anchor, taken = av.AudioResampler("fltp", self._layout, self.rate), now, at, 0
            taken += frame.samples
            for data in self._arrays(resampler, frame):
                yield at, data
                at += data.shape[1]
        if resampler is not None:
            for data in self._arrays(resampler, None):
                yield at, data
                at += data.shape[1]

    @staticmethod
    def _arrays(resampler: av.AudioResampler, frame: av.AudioFrame | None) -> Iterator[np.ndarray]:
        for out in resampler.resample(frame):
            if out is not None:
                yield out.to_ndarray()


def _frames(container: av.container.InputContainer, stream: av.AudioStream) -> Iterator[av.AudioFrame]:
    """What decodes; what is damaged is left out, and its place stays empty."""
    packets = container.demux(stream)
    while True:
        try:
            packet = next(packets, None)
        except av.error.FFmpegError:
            return
        if packet is None:
            return
        try:
            yield from packet.decode()
        except av.error.EOFError:
            return
        except av.error.FFmpegError:
            continue
