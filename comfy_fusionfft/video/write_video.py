"""Frames -> one video file, with the source's colour tags, sample aspect, tags and, when wanted, its sound.

The output's clock starts at its first frame. With a rate, frames follow each other at exactly that
rate; without, each frame keeps its own time, on a time base that holds the source's ticks and their
halves, thirds, ... (Matroska and WebM store milliseconds, whatever one asks for; AVI stores a rate.)
RGB becomes YUV with the matrix and range that the file is tagged with; a source that does not say
gets the matrix players assume for its height, and now says so.

The picture is encoded in segments (``segments``) into the work folder and put together at the end
(``mux``): disk is needed for twice the output then, memory for one frame and what the encoder holds.
"""

from __future__ import annotations

from collections.abc import Mapping
from fractions import Fraction
from pathlib import Path

from ..contract import Frame
from ..errors import InputError
from . import segments
from .clip import ClipInfo
from .codecs import choose_codec, choose_encoder
from .encoding import Encoding, Settled, choose_encoding, settle
from .mux import assemble
from .picture import Drawer
from .samples import samples_of, to_type
from .segments import PATTERN, SegmentWriter
from .sound import Sound
from .tags import merged
from .work import Piece, Span, Work


class VideoWriter:
    """Writes for a target with ``suffix``, which chooses the container. notes: what could not be kept."""

    def __init__(
        self,
        work: Work,
        suffix: str,
        like: ClipInfo,
        rate: Fraction | None,
        codec: str | None,
        quality: int | None,
        sound: Sound | None,
        metadata: Mapping[str, str] | None,
    ) -> None:
        self._work = work
        self._suffix = suffix
        self._like = like
        self._rate = rate
        self._codec = choose_codec(suffix, codec, quality)
        choose_encoder(self._codec)
        self._quality = quality
        self._sound = sound
        self._tags = merged(like.metadata, metadata)
        self.notes: tuple[str, ...] = ()
        self._held: Frame | None = None
        self._encoding: Encoding | None = None
        self._segment: SegmentWriter | None = None
        self._span = Span(work.last)
        self._count = work.done
        self._last_pts = -1
        if sound is not None:
            sound.check()
        if work.plan is not None:
            self._settle(Settled.from_json(work.plan))
            self._last_pts = work.pieces[-1].facts["last_pts"]

    def add(self, frame: Frame) -> None:
        # One frame is held back: its distance to the second decides the time base.
        if self._encoding is None and self._held is None:
            self._held = frame
            return
        if self._encoding is None:
            self._begin(frame.seconds - self._held.seconds)
        self._encode(frame)

    def finish(self) -> Path:
        """-> the complete file, in the work folder."""
        if self._encoding is None:
            self._begin(None)
        if self._segment is not None:
            self._end_segment(safe=True)
        return self._assemble(self._work.pieces)

    def finish_partial(self) -> Path:
        """The same of what there is so far. The segment in the making does not become safe: the run that goes on
        cuts where a run without a stop does."""
        if self._encoding is None:
            self._begin(None)
        rest = [self._end_segment(safe=False)] if self._segment is not None else []
        try:
            return self._assemble([*self._work.pieces, *rest])
        finally:
            for piece in rest:
                for path in piece.files(self._work.folder):
                    path.unlink(missing_ok=True)

    def abort(self) -> None:
        if self._segment is not None:
            self._segment.abort()
            self._segment.path.unlink(missing_ok=True)
            self._segment = None

    def _begin(self, step: Fraction | None) -> None:
        first = self._held
        deep = self._like.bit_depth > 8 or str(first.pixels.dtype) == "torch.uint16"
        settled = settle(first.pixels.shape, deep, first.seconds, step, self._rate, self._like)
        if self._suffix == ".avi" and self._rate is None:  # which keeps a rate alone
            settled = settle(first.pixels.shape, deep, first.seconds, step, settled.frame_rate, self._like)
        self._settle(settled)
        self._work.begin(settled.to_json())
        self._encode(first)
        self._held = None

    def _settle(self, settled: Settled) -> None:
        if self._suffix == ".avi" and self._rate is None:
            self._rate = settled.frame_rate
            note = f"frames are evenly spaced at {float(self._rate):.6g} per second: AVI keeps no timestamps"
            self.notes += (note,)
        self._encoding = choose_encoding(self._codec, self._suffix, self._quality, settled, self._like)
        self.notes += self._encoding.notes
        self._draw = Drawer(self._encoding.pixel_format, self._encoding.colour)

    def _encode(self, frame: Frame) -> None:
        settled = self._encoding.settled
        if tuple(frame.pixels.shape) != settled.shape:
            before, now = (f"{shape[1]}x{shape[0]}x{shape[2]}" for shape in (settled.shape, frame.pixels.shape))
            raise InputError(f"frame {self._count} is {now}, the ones before are {before}: give frames of one size")
        picture = self._draw(to_type(samples_of(frame), self._draw.dtype))
        ticks = self._count if self._rate else round((frame.seconds - settled.start) / settled.time_base)
        # Two frames within one tick still come one after the other.
        picture.pts = self._last_pts = max(ticks, self._last_pts + 1)
        picture.time_base = settled.time_base
        if self._segment is None:
            part = self._work.folder / f"{PATTERN.format(len(self._work.pieces))}.part"
            self._segment = SegmentWriter(part, self._encoding)
        self._segment.add(picture)
        self._span.add(frame)
        self._count += 1
        if self._span.frames == segments.SEGMENT_FRAMES:
            self._end_segment(safe=True)

    def _end_segment(self, safe: bool) -> Piece:
        self._segment.finish()
        self._work.commit(self._segment.path, self._segment.path.with_suffix(""))
        piece = Piece(
            frames=self._span.frames,
            begins=self._span.begins,
            last=self._span.last,
            pattern=PATTERN,
            first=len(self._work.pieces),
            count=1,
            size=self._segment.size,
            checksum=self._segment.checksum,
            facts=self._segment.facts,
        )
        if safe:
            self._work.add(piece)
        self._segment, self._span = None, Span(self._span.last)
        return piece

    def _assemble(self, pieces: list[Piece]) -> Path:
        file = self._work.folder / f"whole{self._suffix}"
        tick = self._encoding.settled.time_base
        step = None if self._rate else pieces[-1].last.step
        duration = pieces[-1].facts["last_pts"] * tick + (step or self._encoding.interval * tick)
        self.notes += assemble(file, self._work.folder, pieces, self._encoding, duration, self._sound, self._tags)
        return file
