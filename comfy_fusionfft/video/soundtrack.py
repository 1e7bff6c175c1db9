"""The audio streams of a file that is being put together, written in step with its picture.

Times count from the first picture: what sounded before it is left out, and nothing sounds for more than a frame
after the last. Languages and titles of the streams are kept.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import suppress
from fractions import Fraction

import av

from .container import open_container
from .listen import Listener
from .sound import Sound
from .stretch import stretched
from .tape import taped

# muxer -> the encoder for sound that is made anew, its bits per second and channel
_ENCODERS = {
    **dict.fromkeys(("mp4", "mov", "ipod"), ("aac", 96_000)),
    **dict.fromkeys(("webm", "matroska"), ("libopus", 80_000)),
    "avi": ("pcm_s16le", None),
}
_OPUS_RATE = 48_000
# What both encoders take, by the number of channels.
_LAYOUTS = {1: "mono", 2: "stereo", 3: "3.0", 5: "5.0", 6: "5.1", 8: "7.1"}


class Soundtrack:
    """notes: streams left out or changed, for people. frame: seconds that one picture lasts."""

    def __init__(
        self, sound: Sound, output: av.container.OutputContainer, start: Fraction, duration: Fraction, frame: Fraction
    ) -> None:
        self.notes: tuple[str, ...] = ()
        self._output = output
        self._start = start if sound.start is None else sound.start
        self._end = duration + frame
        self._input = open_container(sound.path)
        self._listeners: list[Listener] = []
        if sound.how == "keep":
            self._sources = [self._copied()]
        else:
            self._sources = [
                self._made(sound, stream, duration) for stream in self._input.streams.audio if self._can_decode(stream)
            ]
            self._sources = [source for source in self._sources if source is not None]
        self._next = [next(source, None) for source in self._sources]

    def write_until(self, seconds: Fraction | None) -> None:
        """Write what starts by ``seconds`` of the output; None: to the end."""
        for number, source in enumerate(self._sources):
            while (item := self._next[number]) is not None and (seconds is None or item[0] <= seconds):
                self._output.mux(item[1])
                self._next[number] = next(source, None)

    def close(self) -> None:
        for listener in self._listeners:
            listener.close()
        self._input.close()

    def _copied(self) -> Iterator[tuple[Fraction, av.Packet]]:
        streams = {}
        for stream in self._input.streams.audio:
            try:
                streams[stream.index] = _named_like(_like_stream(self._output, stream), stream)
            except (av.error.FFmpegError, ValueError):
                name = stream.codec_context.name if stream.codec_context else "unknown"
                muxer = self._output.format.name
                self.notes += (f"audio left out: {muxer} files do not take {name} (mkv takes anything)",)
        wanted = [self._input.streams[index] for index in streams]
        return self._packets(wanted, streams) if wanted else iter(())

    def _packets(self, wanted: list, streams: dict) -> Iterator[tuple[Fraction, av.Packet]]:
        going, latest = set(streams), dict.fromkeys(streams, -(1 << 63))
        disordered = 0
        try:
            for packet in self._input.demux(wanted):
                if packet.pts is None or packet.dts is None:
                    continue
                shift = round(self._start / packet.time_base)
                packet.pts -= shift
                packet.dts -= shift
                ends = (packet.pts + (packet.duration or 0)) * packet.time_base
                if ends <= 0:
                    continue
                source = packet.stream
                if packet.dts < latest[source.index] or packet.pts < packet.dts:
                    disordered += 1  # no muxer takes it
                    continue
                latest[source.index] = packet.dts
                if ends > self._end:
                    going.discard(source.index)
                    packet = _shortened(packet, self._end)
                if packet is not None:
                    packet.stream = streams[source.index]
                    yield packet.pts * packet.time_base, packet
                if not going:
                    return
        except av.error.FFmpegError as error:
            self.notes += (f"audio cut off: the source is damaged ({error})",)
        finally:
            if disordered:
                self.notes += (f"audio is missing in places: {disordered} of the source's packets go back in time",)

    def _can_decode(self, stream: av.AudioStream) -> bool:
        if stream.codec_context is not None and stream.codec_context.sample_rate:
            return True
        self.notes += ("audio left out: this FFmpeg cannot decode one of its streams",)
        return False

    def _made(
        self, sound: Sound, stream: av.AudioStream, duration: Fraction
    ) -> Iterator[tuple[Fraction, list[av.Packet]]] | None:
        muxer = next(name for name in self._output.format.name.split(",") if name in _ENCODERS)
        codec, bits = _ENCODERS[muxer]
        context = stream.codec_context
        layout = _LAYOUTS.get(context.channels, "stereo")
        try:
            rate = _rate_for(codec, context.sample_rate)
            made = self._output.add_stream(codec, rate=rate)
            made.layout = layout
            channels = made.codec_context.channels
            if bits:
                made.bit_rate = bits * channels
            made.codec_context.open()
        except (av.error.FFmpegError, ValueError) as error:
            self.notes += (f"audio left out: this PyAV cannot make {codec} sound ({error})",)
            return None
        _named_like(made, stream)
        number = list(self._input.streams.audio).index(stream)
        listener = Listener(sound.path, number, self._start, rate, layout, channels)
        self._listeners.append(listener)
        way = stretched if sound.how == "stretch" else taped
        return self._encoded(made, way(listener, sound, round(duration * rate)), rate, layout)

    def _encoded(self, stream, blocks, rate: int, layout: str) -> Iterator[tuple[Fraction, list[av.Packet]]]:
        at = 0
        for block in blocks:
            frame = av.AudioFrame.from_ndarray(block, format="fltp", layout=layout)
            frame.sample_rate, frame.pts, frame.time_base = rate, at, Fraction(1, rate)
            yield Fraction(at, rate), stream.encode(frame)
            at += block.shape[1]
        yield Fraction(at, rate), stream.encode(None)


def _rate_for(codec: str, rate: int) -> int:
    """The source's rate where the encoder takes it."""
    if codec == "libopus":
        return _OPUS_RATE
    allowed = av.Codec(codec, "w").audio_rates
    return rate if not allowed or rate in allowed else min(allowed, key=lambda other: (other < rate, abs(other - rate)))


def _shortened(packet: av.Packet, end: Fraction) -> av.Packet | None:
    """What of a packet is heard before ``end``. Compressed ones are short and cannot be cut: None."""
    context = packet.stream.codec_context
    plain = re.fullmatch(r"pcm_[suf](\d+)(le|be)?", context.name)
    samples = int((end - packet.pts * packet.time_base) * context.sample_rate)
    if plain is None or samples <= 0:
        return None
    short = av.Packet(bytes(packet)[: samples * context.channels * int(plain[1]) // 8])
    short.pts, short.dts, short.time_base = packet.pts, packet.dts, packet.time_base
    short.duration = round(Fraction(samples, context.sample_rate) / packet.time_base)
    short.is_keyframe = True
    return short


def _named_like(stream: av.AudioStream, source: av.AudioStream) -> av.AudioStream:
    # MP4 has the title under "name".
    for name, value in (("language", "language"), ("title", "title"), ("title", "name")):
        if value in source.metadata and name not in stream.metadata:
            stream.metadata[name] = source.metadata[value]
    with suppress(AttributeError):  # PyAV before 14
        stream.disposition = int(getattr(source.disposition, "value", source.disposition))
    return stream


def _like_stream(output: av.container.OutputContainer, stream: av.AudioStream) -> av.AudioStream:
    if hasattr(output, "add_stream_from_template"):
        return output.add_stream_from_template(stream)
    return output.add_stream(template=stream)  # PyAV before 14
