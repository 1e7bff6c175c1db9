"""A video file -> Frames with exact timestamps, through PyAV.

The clock is the file's: pts · time base as a Fraction, the first frame's time kept, variable rates
kept. A picture without a timestamp follows its predecessor at the header's rate. One that is not
later than its predecessor is put half a frame after it: order and count stay, and because
half steps are slower than the clip, its own clock catches up. A steady clock that the container
rounded to milliseconds is made steady again. Display rotation is applied.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from fractions import Fraction
from itertools import islice
from pathlib import Path
from typing import Any

import av
import numpy as np
import torch

from ..contract import Frame
from ..errors import MediaError
from .clip import DEFAULT_IMAGE_RATE, Clip, ClipInfo, reduced_size
from .colour import RGB, Colour
from .container import open_container
from .light import read_light
from .picture import Converter, Layout
from .size import MOST_PIXELS, check_size
from .tags import read_tags

_NO_TIMESTAMPS = 0x80  # AVFMT_NOTIMESTAMPS: raw streams, whose pts are guesses of the parser
_ATTACHED_PICTURE = 0x400  # AV_DISPOSITION_ATTACHED_PIC: the cover of a song is not a video
_COARSE_TICK = Fraction(1, 1000)
_LIMITS = {"max_pixels": str(MOST_PIXELS)}  # a stream may change its size, and so may what it says of it
_RANGES = {1: "limited", 2: "full"}


def open_video(path: Path, rate: Fraction | None) -> Clip:
    """rate: used when the header has none. Raises MediaError when nothing in the file decodes."""
    with _opened(path) as (container, stream):
        picture = next(_pictures(container, stream, path, {}), None)
        if picture is None:
            raise MediaError(f"{path} has a video stream of which nothing decodes: repair it or copy it again")
        info = _info(path, rate, container, stream, picture)
    damage: dict[int, int] = {}
    return Clip(info, lambda start, longest_side: _frames(info, start, longest_side, damage), damage)


def _frames(info: ClipInfo, start: int, longest_side: int | None, damage: dict[int, int]) -> Iterator[Frame]:
    with _opened(info.path) as (container, stream):
        clock = _Clock(info.rate, trusted=not int(container.format.flags) & _NO_TIMESTAMPS)
        convert = turn = None
        for number, picture in enumerate(_pictures(container, stream, info.path, damage)):
            if convert is None:
                size = reduced_size(picture.width, picture.height, longest_side)
                colour, small = _stored_colour(info, picture), longest_side is not None
                convert = Converter(*size, colour, small, info.channels, info.bit_depth)
                turn = _Turn.of(picture)
            # pictures that a decoder held back to the end come without a time base
            seconds = clock(picture.pts, picture.time_base or stream.time_base)
            if number >= start:
                yield Frame(torch.from_numpy(np.ascontiguousarray(turn(convert(picture)))), seconds)


@contextmanager
def _opened(path: Path, threads: str = "AUTO") -> Iterator[tuple[av.container.InputContainer, av.VideoStream]]:
    try:
        container = open_container(path)
    except (av.error.FFmpegError, OSError) as error:
        raise MediaError(
            f"{path} is not a video that can be opened ({error.strerror or error}): "
            "give a complete video file or a folder of images"
        ) from error
    with container:
        streams = [stream for stream in container.streams.video if not _disposition(stream) & _ATTACHED_PICTURE]
        if not streams:
            raise MediaError(f"{path} has no video stream: give a video file or a folder of images")
        stream = streams[0]
        if stream.codec_context is None:
            raise MediaError(f"{path} has a video stream this FFmpeg cannot decode: convert it, to H.264 for example")
        check_size(path, stream.codec_context.width, stream.codec_context.height)
        stream.thread_type = threads
        stream.codec_context.options = _LIMITS
        yield container, stream


def _disposition(stream: av.VideoStream) -> int:
    disposition = getattr(stream, "disposition", 0)
    return int(getattr(disposition, "value", disposition))


def _pictures(
    container: av.container.InputContainer,
    stream: av.VideoStream,
    path: Path,
    damage: dict[int, int],
    threaded: bool = True,
) -> Iterator[av.VideoFrame]:
    """Everything that decodes. Damage is passed over when pictures follow it, and when it is the cut-off
    end of the file; a longer stretch of nothing up to the end is an error. What was passed over goes into ``damage``.
    """
    decoder = _decoder(stream)
    index = broken = 0
    reason: Exception | None = None
    packets = container.demux(stream)
    while True:
        try:
            packet = next(packets, None)
        except av.error.FFmpegError:
            packet = None  # unreadable from here on: what the decoder still holds comes out below
        try:
            pictures = decoder.decode(packet if packet is not None and packet.size else None)
        except av.error.EOFError:
            return
        except av.error.FFmpegError as error:
            ends = packet is None or not packet.size
            if ends and threaded:
                # The pictures that other threads had made are lost with the error: once more, without such threads.
                damage.clear()
                with _opened(path, "SLICE") as (again, same):
                    yield from islice(_pictures(again, same, path, damage, threaded=False), index, None)
                return
            pictures, reason = [], error
            broken += 1
        for picture in pictures:
            if broken:
                damage[index] = broken
            broken = 0
            index += 1
            yield picture
        if packet is None or not packet.size:
            break
    if broken > 1 and index:
        raise MediaError(
            f"{path} is damaged: nothing decodes after frame {index - 1} ({reason}): repair it or cut it there"
        )


def _decoder(stream: av.VideoStream) -> av.VideoCodecContext:
    """The stream's own decoder; for WebM with alpha libvpx, as FFmpeg's native VP8 and VP9 ignore alpha."""
    context = stream.codec_context
    alpha = {key.lower(): value for key, value in stream.metadata.items()}.get("alpha_mode") == "1"
    wrapped = {"vp8": "libvpx", "vp9": "libvpx-vp9"}.get(context.name)
    if not alpha or wrapped is None:
        return context
    try:
        able = av.CodecContext.create(wrapped, "r")
    except ValueError:  # this build has no libvpx: colour alone, then
        return context
    able.options = _LIMITS
    return able


def _info(
    path: Path,
    rate: Fraction | None,
    container: av.container.InputContainer,
    stream: av.VideoStream,
    picture: av.VideoFrame,
) -> ClipInfo:
    layout = Layout.of(picture.format.name)
    turn = _Turn.of(picture)
    context = stream.codec_context
    width, height = picture.width, picture.height
    # PyAV 19 has a class of its own for rationals, which nothing else knows.
    aspect = _fraction(stream.sample_aspect_ratio or context.sample_aspect_ratio)
    if turn.swaps:
        width, height = height, width
        aspect = 1 / aspect if aspect else None
    full = picture.format.name.startswith("yuvj") or layout.kind == "rgb"
    return ClipInfo(
        path=path,
        kind="video",
        width=width,
        height=height,
        rate=_fraction(stream.average_rate or stream.guessed_rate) or rate,
        frames=stream.frames or None,
        bit_depth=layout.bits,
        channels=layout.channels,
        codec=context.name,
        pixel_format=picture.format.name,
        colour=Colour(
            primaries=int(context.color_primaries),
            transfer=int(context.color_trc),
            matrix=RGB if layout.kind == "rgb" else int(picture.colorspace),
            range="full" if full else _RANGES.get(int(picture.color_range)),
        ),
        sample_aspect=aspect,
        rotation=turn.degrees,
        has_audio=bool(container.streams.audio),
        metadata=read_tags(container.metadata, container.format.name),
        light=read_light(picture),
    )


def _fraction(rational: Any) -> Fraction | None:
    return Fraction(rational) if rational else None


def _stored_colour(info: ClipInfo, picture: av.VideoFrame) -> Colour:
    """The clip's colour with nothing left open. Untagged grey is full range, as FFmpeg has it."""
    colour = info.colour.as_yuv(picture.height)
    if info.channels == 1 and info.colour.range is None:
        return Colour(info.colour.primaries, info.colour.transfer, colour.matrix, "full")
    return colour


class _Clock:
    """Timestamps of one pass, strictly ascending."""

    def __init__(self, rate: Fraction | None, *, trusted: bool) -> None:
        self._interval = 1 / (rate or DEFAULT_IMAGE_RATE)
        self._steady = rate is not None
        self._trusted = trusted
        self._first: Fraction | None = None
        self._last: Fraction | None = None

    def __call__(self, pts: int | None, time_base: Fraction | None) -> Fraction:
        if pts is None or not time_base or not self._trusted:
            now = Fraction(0) if self._last is None else self._last + self._interval
        else:
            now = self._even(pts * time_base, time_base)
            if self._last is not None and now <= self._last:
                now = self._last + self._interval / 2
        self._last = now
        return now

    def _even(self, now: Fraction, time_base: Fraction) -> Fraction:
        """Undo the rounding of an even clock to Matroska's milliseconds; leave every other time alone."""
        if self._first is None:
            self._first = now
        if not self._steady or time_base < _COARSE_TICK:
            return now
        exact = self._first + round((now - self._first) / self._interval) * self._interval
        return exact if abs(exact - now) <= time_base else now


class _Turn:
    """Display matrix of a stream: one of the eight ways to lay a picture down."""

    def __init__(self, right: tuple[int, int] = (1, 0), down: tuple[int, int] = (0, 1)) -> None:
        # right, down: where one step right and one step down in the stored picture lead to on the screen.
        self.swaps = abs(right[0]) < abs(right[1])
        self._flip_x = (down[0] if self.swaps else right[0]) < 0
        self._flip_y = (right[1] if self.swaps else down[1]) < 0
        self.degrees = round(float(np.degrees(np.arctan2(-right[1], right[0])))) % 360

    @classmethod
    def of(cls, picture: av.VideoFrame) -> _Turn:
        side_data = picture.side_data.get("DISPLAYMATRIX")
        if side_data is None:
            return cls()
        a, b, _, c, d, *_ = np.frombuffer(bytes(side_data), "<i4").tolist()
        return cls((a, b), (c, d))

    def __call__(self, pixels: np.ndarray) -> np.ndarray:
        if self.swaps:
            pixels = pixels.swapaxes(0, 1)
        return pixels[:: -1 if self._flip_y else 1, :: -1 if self._flip_x else 1]
