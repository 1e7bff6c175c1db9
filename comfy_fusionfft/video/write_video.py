"""Frames -> one video file, with the source's colour tags, sample aspect and, when wanted, its sound.

The output's clock starts at its first frame. With a rate, frames follow each other at exactly that
rate; without, each frame keeps its own time, on a time base that holds the source's ticks and their
halves, thirds, ... (Matroska and WebM store milliseconds, whatever one asks for; AVI stores a rate.)
RGB becomes YUV with the matrix and range that the file is tagged with; a source that does not say
gets the matrix players assume for its height, and now says so.
"""

from __future__ import annotations

import math
import os
from collections.abc import Iterator
from dataclasses import replace
from fractions import Fraction
from pathlib import Path

import av

from ..contract import Frame
from ..errors import InputError, MediaError
from .clip import DEFAULT_IMAGE_RATE, ClipInfo
from .codecs import choose_codec, choose_encoder, choose_format, encoder_options
from .colour import RGB, Colour
from .picture import Drawer
from .samples import samples_of, to_type

# SVT-AV1 talks to stderr unless told otherwise; 1 = errors only.
os.environ.setdefault("SVT_LOG", "1")

_TICKS = 90_000
_SUBDIVISION = 240  # divisible by every multiplier up to 6, by 8, 10, 12, ...
_LARGEST_TIME_BASE = 2**30  # what encoders accept as a denominator


class VideoWriter:
    """Writes ``file``, whose suffix chooses the container. notes: what could not be kept."""

    def __init__(
        self,
        file: Path,
        like: ClipInfo,
        rate: Fraction | None,
        codec: str | None,
        quality: int | None,
        audio_from: Path | None,
    ) -> None:
        self._file = file
        self._like = like
        self._codec = choose_codec(file.suffix.lower(), codec, quality)
        self._encoder = choose_encoder(self._codec)
        self._quality = quality
        self._audio_from = audio_from
        self.notes: tuple[str, ...] = ()
        self._rate = rate
        self._count = 0
        self._held: Frame | None = None
        self._output: av.container.OutputContainer | None = None
        self._audio: _Audio | None = None

    def add(self, frame: Frame) -> None:
        # One frame is held back: its distance to the second decides the time base.
        if self._output is None and self._held is None:
            self._held = frame
            return
        if self._output is None:
            self._open(frame.seconds - self._held.seconds)
        self._encode(frame)

    def finish(self) -> None:
        if self._output is None:
            self._open(None)
        self._mux(self._stream.encode(None))
        if self._audio:
            self._audio.copy_until(None)
            self._audio.close()
        self._output.close()

    def abort(self) -> None:
        if self._audio:
            self._audio.close()
        if self._output:
            self._output.close()

    def _open(self, step: Fraction | None) -> None:
        if self._rate is None and self._file.suffix.lower() == ".avi":
            self._rate = 1 / step if step else self._like.rate or DEFAULT_IMAGE_RATE
            note = f"frames are evenly spaced at {float(self._rate):.6g} per second: AVI keeps no timestamps"
            self.notes += (note,)
        first = self._held
        height, width, channels = first.pixels.shape
        deep = self._like.bit_depth > 8 or str(first.pixels.dtype) == "torch.uint16"
        pixel_format, notes = choose_format(
            self._codec, self._encoder, width, height, deep=deep, alpha=channels == 4, grey=channels == 1
        )
        self.notes += notes
        colour = self._colour(pixel_format, height)
        self._draw = Drawer(pixel_format, colour)
        self._start = first.seconds
        self._shape = first.pixels.shape
        self._time_base = 1 / self._rate if self._rate else _time_base(self._like.rate, step)
        self._last_pts = -1

        self._file.parent.mkdir(parents=True, exist_ok=True)
        options = {"movflags": "+faststart"} if self._file.suffix.lower() in (".mp4", ".m4v", ".mov") else {}
        self._output = av.open(str(self._file), "w", options=options)
        # the rate is what the last frame's duration and the average rate in the header come from
        rate = self._rate or (1 / step if step else None) or self._like.rate or DEFAULT_IMAGE_RATE
        self._stream = stream = self._output.add_stream(self._encoder, rate=rate.limit_denominator(100_000))
        context = stream.codec_context
        stream.width, stream.height, stream.pix_fmt = width, height, pixel_format
        context.time_base = self._time_base
        stream.time_base = self._time_base
        stream.options = encoder_options(self._codec, self._encoder, pixel_format, self._quality)
        context.thread_type = "AUTO"
        context.color_primaries, context.color_trc = colour.primaries, colour.transfer
        context.colorspace = colour.matrix
        context.color_range = 2 if colour.range == "full" else 1
        if self._like.sample_aspect:
            context.sample_aspect_ratio = self._like.sample_aspect
        if self._encoder == "libx265" and self._file.suffix.lower() in (".mp4", ".m4v", ".mov"):
            context.codec_tag = "hvc1"  # what Apple's players insist on
        try:
            context.open()
        except (av.error.FFmpegError, ValueError) as error:
            reason = getattr(error, "strerror", None) or error
            raise MediaError(
                f"{self._encoder} refuses {width}x{height} {pixel_format} ({reason}): "
                "choose another codec or write a folder of images"
            ) from error
        if self._audio_from:
            self._audio = _Audio(self._audio_from, self._output, self._start)
            self.notes += self._audio.notes
        self._encode(first)
        self._held = None

    def _colour(self, pixel_format: str, height: int) -> Colour:
        source = self._like.colour
        if pixel_format.startswith(("gbr", "bgr")):
            return replace(source, matrix=RGB, range="full")
        if pixel_format.startswith("gray"):
            return replace(source, range="full")
        # "Full" of an RGB source says nothing about YUV; limited is what every player expects.
        keep = self._codec.full_range and source.matrix != RGB
        return replace(source, range=source.range if keep else "limited").as_yuv(height)

    def _encode(self, frame: Frame) -> None:
        if frame.pixels.shape != self._shape:
            before, now = (f"{shape[1]}x{shape[0]}x{shape[2]}" for shape in (self._shape, frame.pixels.shape))
            raise InputError(f"frame {self._count} is {now}, the ones before are {before}: give frames of one size")
        picture = self._draw(to_type(samples_of(frame), self._draw.dtype))
        ticks = self._count if self._rate else round((frame.seconds - self._start) / self._time_base)
        # Two frames within one tick still come one after the other.
        picture.pts = self._last_pts = max(ticks, self._last_pts + 1)
        picture.time_base = self._time_base
        if self._audio:
            self._audio.copy_until(self._last_pts * self._time_base)
        self._mux(self._stream.encode(picture))
        self._count += 1

    def _mux(self, packets: list[av.Packet]) -> None:
        for packet in packets:
            self._output.mux(packet)


class _Audio:
    """Packets of all audio streams of a file, copied in step with the picture.

    Times count from the first picture: what sounded before it is left out. notes: streams left out.
    """

    def __init__(self, path: Path, output: av.container.OutputContainer, start: Fraction) -> None:
        self.notes: tuple[str, ...] = ()
        self._output = output
        self._start = start
        try:
            self._input = av.open(str(path))
        except (av.error.FFmpegError, OSError) as error:
            raise MediaError(
                f"no sound can be copied from {path} ({error.strerror or error}): give a video or audio file"
            ) from error
        self._streams = {}
        for stream in self._input.streams.audio:
            try:
                self._streams[stream.index] = _like_stream(output, stream)
            except (av.error.FFmpegError, ValueError):
                name = stream.codec_context.name if stream.codec_context else "unknown"
                self.notes += (f"audio left out: {output.format.name} files do not take {name} (mkv takes anything)",)
        wanted = [self._input.streams[index] for index in self._streams]
        self._packets = self._read(wanted) if wanted else iter(())
        self._next = next(self._packets, None)

    def copy_until(self, seconds: Fraction | None) -> None:
        """Copy what starts by ``seconds`` of the output; None: to the end."""
        while self._next and (seconds is None or self._next.pts * self._next.time_base <= seconds):
            self._output.mux(self._next)
            self._next = next(self._packets, None)

    def close(self) -> None:
        self._input.close()

    def _read(self, wanted: list[av.AudioStream]) -> Iterator[av.Packet]:
        try:
            for packet in self._input.demux(wanted):
                if packet.pts is None or packet.dts is None:
                    continue
                shift = round(self._start / packet.time_base)
                packet.pts -= shift
                packet.dts -= shift
                if packet.pts + (packet.duration or 0) <= 0:
                    continue
                packet.stream = self._streams[packet.stream.index]
                yield packet
        except av.error.FFmpegError as error:
            self.notes += (f"audio cut off: the source is damaged ({error})",)


def _like_stream(output: av.container.OutputContainer, stream: av.AudioStream) -> av.AudioStream:
    if hasattr(output, "add_stream_from_template"):
        return output.add_stream_from_template(stream)
    return output.add_stream(template=stream)  # PyAV before 14


def _time_base(rate: Fraction | None, step: Fraction | None) -> Fraction:
    """A tick that divides the source's frame interval, the first output step and 1/90000 s, and finer ones."""
    ticks = _TICKS
    for denominator in (rate.numerator if rate else 1, step.denominator if step else 1, _SUBDIVISION):
        finer = math.lcm(ticks, denominator) if denominator != _SUBDIVISION else ticks * _SUBDIVISION
        ticks = finer if finer <= _LARGEST_TIME_BASE else ticks
    return Fraction(1, ticks)
