"""How one picture stream is encoded: settled at the first frames, the same for every segment and the finished file.

A segment's encoder and the stream of the finished file are opened by the same ``configure``, so that the packets
of the one go with the header of the other.
"""

from __future__ import annotations

import math
import os
from dataclasses import dataclass, field, replace
from fractions import Fraction
from typing import Any

import av

from ..errors import DeviceError, MediaError
from ..free_memory import free_memory
from .clip import DEFAULT_IMAGE_RATE, ClipInfo
from .codecs import Codec, choose_encoder, choose_format, encoder_options
from .colour import RGB, Colour
from .light import light_options

# SVT-AV1 talks to stderr unless told otherwise; 1 = errors only.
os.environ.setdefault("SVT_LOG", "1")

MP4_SUFFIXES = (".mp4", ".m4v", ".mov")

_GLOBAL_HEADER = 1 << 22  # AV_CODEC_FLAG_GLOBAL_HEADER: the container holds the stream's header, not the packets
_TICKS = 90_000
_SUBDIVISION = 240  # divisible by every multiplier up to 6, by 8, 10, 12, ...
_LARGEST_TIME_BASE = 2**30  # what encoders accept as a denominator


_LEAST_LEFT, _LEAST_PER_PIXEL = 500_000_000, 400
"""Bytes: with fewer left, an encoder that does not begin lacks memory more likely than anything else; it never says."""


@dataclass(frozen=True, slots=True)
class Settled:
    """What the first frames decide.

    shape: ``(H, W, C)`` of all frames. deep: more than 8 bits are wanted. start: seconds of the first frame.
    frame_rate: for the header; the last frame's duration when there is only one. time_base: seconds of a tick.
    """

    shape: tuple[int, int, int]
    deep: bool
    start: Fraction
    frame_rate: Fraction
    time_base: Fraction

    def to_json(self) -> dict[str, Any]:
        times = {name: str(getattr(self, name)) for name in ("start", "frame_rate", "time_base")}
        return {"shape": list(self.shape), "deep": self.deep, **times}

    @classmethod
    def from_json(cls, entry: dict[str, Any]) -> Settled:
        times = {name: Fraction(entry[name]) for name in ("start", "frame_rate", "time_base")}
        return cls(tuple(entry["shape"]), entry["deep"], **times)


def settle(
    shape: tuple[int, int, int],
    deep: bool,
    start: Fraction,
    step: Fraction | None,
    rate: Fraction | None,
    like: ClipInfo,
) -> Settled:
    """step: from the first frame to the second, None when there is none. rate: of a constant clock, or None."""
    frame_rate = rate or (1 / step if step else None) or like.rate or DEFAULT_IMAGE_RATE
    return Settled(tuple(shape), deep, start, frame_rate, 1 / rate if rate else _time_base(like.rate, step))


@dataclass(frozen=True, slots=True)
class Encoding:
    """Made by ``choose_encoding``. options: the encoder's. tag: the codec's four letters where they are not FFmpeg's
    own. notes: what cannot be kept."""

    encoder: str
    settled: Settled
    pixel_format: str
    colour: Colour
    options: dict[str, str]
    sample_aspect: Fraction | None = None
    tag: str | None = None
    notes: tuple[str, ...] = field(default=())

    @property
    def header_rate(self) -> Fraction:
        return self.settled.frame_rate.limit_denominator(100_000)

    @property
    def interval(self) -> int:
        """Ticks from a frame to the next, by the rate."""
        return max(1, round(1 / (self.settled.frame_rate * self.settled.time_base)))

    def open(self) -> av.VideoCodecContext:
        """An encoder of its own."""
        context = av.CodecContext.create(self.encoder, "w")
        context.framerate = self.header_rate
        context.bit_rate, context.bit_rate_tolerance = 0, 128_000
        self.configure(context)
        return context

    def configure(self, context: av.VideoCodecContext) -> None:
        """Set up and open ``context``; raises MediaError when the encoder does not want to, DeviceError for memory."""
        height, width, _ = self.settled.shape
        context.width, context.height, context.pix_fmt = width, height, self.pixel_format
        context.time_base = self.settled.time_base
        context.options = self.options
        context.thread_type = "AUTO"
        context.flags |= _GLOBAL_HEADER
        context.color_primaries, context.color_trc = self.colour.primaries, self.colour.transfer
        context.colorspace = self.colour.matrix
        context.color_range = 2 if self.colour.range == "full" else 1
        if self.sample_aspect:
            context.sample_aspect_ratio = self.sample_aspect
        if self.tag:
            context.codec_tag = self.tag
        try:
            context.open()
        except (av.error.FFmpegError, ValueError) as error:
            reason = getattr(error, "strerror", None) or error
            free = free_memory()
            if free is not None and free < _LEAST_LEFT + _LEAST_PER_PIXEL * height * width:
                raise DeviceError(
                    f"{self.encoder} cannot begin {width}x{height} {self.pixel_format} ({reason}) with "
                    f"{free / 1e9:.1f} GB of memory left: give this process more, or write a folder of images"
                ) from error
            raise MediaError(
                f"{self.encoder} refuses {width}x{height} {self.pixel_format} ({reason}): "
                "choose another codec or write a folder of images"
            ) from error


def can_keep_side_data() -> bool:
    """Whether this PyAV lets packets' side data be read and written, where VP9 has transparency (from 17 on)."""
    return hasattr(av.Packet, "iter_sidedata") and hasattr(av.packet.PacketSideData, "update")


def choose_encoding(codec: Codec, suffix: str, quality: int | None, settled: Settled, like: ClipInfo) -> Encoding:
    """Raises MediaError when no format of the codec holds such frames."""
    height, width, channels = settled.shape
    encoder = choose_encoder(codec)
    alpha = channels == 4
    lost = alpha and codec.name == "vp9" and not can_keep_side_data()
    pixel_format, notes = choose_format(
        codec, encoder, width, height, deep=settled.deep, alpha=alpha and not lost, grey=channels == 1
    )
    if lost:
        notes += ("alpha dropped: PyAV keeps it in vp9 from version 17 on (prores and ffv1 can in any)",)
    options, light_notes = light_options(encoder, encoder_options(codec, encoder, pixel_format, quality), like.light)
    return Encoding(
        encoder=encoder,
        settled=settled,
        pixel_format=pixel_format,
        colour=_stored_colour(codec, like.colour, pixel_format, height),
        options=options,
        sample_aspect=like.sample_aspect,
        # what Apple's players insist on
        tag="hvc1" if encoder == "libx265" and suffix in MP4_SUFFIXES else None,
        notes=notes + light_notes,
    )


def _stored_colour(codec: Codec, source: Colour, pixel_format: str, height: int) -> Colour:
    if pixel_format.startswith(("gbr", "bgr")):
        return replace(source, matrix=RGB, range="full")
    if pixel_format.startswith("gray"):
        return replace(source, range="full")
    # "Full" of an RGB source says nothing about YUV; limited is what every player expects.
    keep = codec.full_range and source.matrix != RGB
    return replace(source, range=source.range if keep else "limited").as_yuv(height)


def _time_base(rate: Fraction | None, step: Fraction | None) -> Fraction:
    """A tick that divides the source's frame interval, the first output step and 1/90000 s, and finer ones."""
    ticks = _TICKS
    for denominator in (rate.numerator if rate else 1, step.denominator if step else 1, _SUBDIVISION):
        finer = math.lcm(ticks, denominator) if denominator != _SUBDIVISION else ticks * _SUBDIVISION
        ticks = finer if finer <= _LARGEST_TIME_BASE else ticks
    return Fraction(1, ticks)
