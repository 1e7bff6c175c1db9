"""Pictures -> segments: files of packets, each begun by a fresh encoder, joined later without encoding again.

A segment file holds what the encoder gave, packet after packet in decoding order: a header (presentation tick,
size, side data's size, key frame), the side data, the payload. Containers change some of it (Matroska and NUT
know no decoding times, MP4 rewrites H.264), and all of it must come back exactly. Decoding times and durations
are made when segments are joined: they follow from the presentation times of the whole.
"""

from __future__ import annotations

import struct
import zlib
from collections import deque
from collections.abc import Iterator, Sequence
from contextlib import suppress
from fractions import Fraction
from pathlib import Path
from typing import Any, BinaryIO

import av

from .encoding import Encoding, can_keep_side_data
from .work import Piece

SEGMENT_FRAMES = 128
"""Output frames of one segment: what a crash costs at most."""

PATTERN = "{:06d}.packets"
_HEADER = struct.Struct("<qIIB")
# VP9 keeps transparency there. 15 is FFmpeg's number of it.
_SIDE_DATA = ("matroska_block_additional", 15)


class SegmentWriter:
    """One segment in the making, at ``path``. Raises the system's and the encoder's own errors."""

    def __init__(self, path: Path, encoding: Encoding) -> None:
        self.path = path
        self._encoder = encoding.open()
        self._file: BinaryIO = path.open("wb")
        self._pts: list[int] = []
        self.size = self.checksum = 0

    def add(self, picture: av.VideoFrame) -> None:
        self._write(self._encoder.encode(picture))

    def finish(self) -> None:
        self._write(self._encoder.encode(None))
        self._file.close()

    def abort(self) -> None:
        with suppress(OSError):  # what was not written yet may have no room
            self._file.close()

    @property
    def facts(self) -> dict[str, Any]:
        """first_pts, last_pts: ticks. delay: packets that decoding has to be ahead of presentation."""
        rank = {pts: number for number, pts in enumerate(sorted(self._pts))}
        delay = max(number - rank[pts] for number, pts in enumerate(self._pts))
        return {"first_pts": min(self._pts), "last_pts": max(self._pts), "delay": delay}

    def _write(self, packets: list[av.Packet]) -> None:
        for packet in packets:
            side, payload = _side_data(packet), bytes(packet)
            for data in (_HEADER.pack(packet.pts, len(payload), len(side), packet.is_keyframe), side, payload):
                self._file.write(data)
                self.size += len(data)
                self.checksum = zlib.crc32(data, self.checksum)
            self._pts.append(packet.pts)


def joined(pieces: Sequence[Piece], folder: Path, time_base: Fraction, interval: int) -> Iterator[av.Packet]:
    """All packets of consecutive segments, with times for a muxer.

    interval: ticks that a lone frame lasts; others last until the next, the last one as long as the one before it.
    Packet k is decoded when the frame that is k - delay in the order of presentation is shown, which is what
    encoders do within one stream.
    """
    delay = max(piece.facts["delay"] for piece in pieces)
    first = pieces[0].facts["first_pts"]
    decoding = deque(first - (delay - k) * interval for k in range(delay))
    follower = [piece.facts["first_pts"] for piece in pieces[1:]] + [None]
    length = interval
    for piece, after in zip(pieces, follower, strict=True):
        (path,) = piece.files(folder)
        shown = sorted(pts for pts, _, _, _ in _records(path, payloads=False))
        decoding.extend(shown)
        ends = [*shown[1:], after]
        if after is None:
            length = shown[-1] - shown[-2] if len(shown) > 1 else length
            ends[-1] = shown[-1] + length
        durations = {pts: end - pts for pts, end in zip(shown, ends, strict=True)}
        length = durations[shown[-1]]
        for pts, is_key, side, payload in _records(path):
            packet = av.Packet(payload)
            packet.pts, packet.dts, packet.duration = pts, decoding.popleft(), durations[pts]
            packet.time_base = time_base
            packet.is_keyframe = is_key
            _attach(packet, side)
            yield packet


def _records(path: Path, payloads: bool = True) -> Iterator[tuple[int, bool, bytes, bytes]]:
    """-> tick, whether a key frame, side data and payload (empty unless wanted)."""
    with path.open("rb") as file:
        while header := file.read(_HEADER.size):
            pts, size, side_size, is_key = _HEADER.unpack(header)
            if payloads:
                yield pts, bool(is_key), file.read(side_size), file.read(size)
            else:
                file.seek(side_size + size, 1)
                yield pts, bool(is_key), b"", b""


def _side_data(packet: av.Packet) -> bytes:
    name, _ = _SIDE_DATA
    return bytes(packet.get_sidedata(name)) if can_keep_side_data() and packet.has_sidedata(name) else b""


def _attach(packet: av.Packet, side: bytes) -> None:
    if side:
        data = av.packet.PacketSideData(_SIDE_DATA[1], len(side))
        data.update(side)
        packet.set_sidedata(data)
