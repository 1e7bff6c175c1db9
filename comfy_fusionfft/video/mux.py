"""Segments, sound and tags -> the finished file. Nothing of the picture is encoded again.

Files are bit-exact: no muxer version, date or random number goes in, so that the same work gives the same bytes
however often it was interrupted.
"""

from __future__ import annotations

import errno
from collections.abc import Mapping, Sequence
from contextlib import suppress
from fractions import Fraction
from pathlib import Path

import av

from .encoding import MP4_SUFFIXES, Encoding
from .segments import joined
from .sound import Sound
from .soundtrack import Soundtrack
from .tags import needs_free_names
from .work import Piece


def assemble(
    file: Path,
    folder: Path,
    pieces: Sequence[Piece],
    encoding: Encoding,
    duration: Fraction,
    sound: Sound | None,
    tags: Mapping[str, str],
) -> tuple[str, ...]:
    """Write ``file`` from the segments in ``folder`` -> notes on sound that was left out.

    duration: of the picture, in seconds. Raises the system's and FFmpeg's own errors; sound that is damaged in a way
    that no file can hold is left out, for the picture may be a night's work.
    """
    try:
        return _assembled(file, folder, pieces, encoding, duration, sound, tags)
    except av.error.FFmpegError as error:
        if sound is None or not _is_about_content(error):
            raise
        _assembled(file, folder, pieces, encoding, duration, None, tags)
        return (f"audio left out: it is damaged ({error.strerror})",)


def _is_about_content(error: av.error.FFmpegError) -> bool:
    """FFmpeg's own codes, whose numbers are four letters, and "invalid argument"; all others are the system's."""
    return error.errno == errno.EINVAL or error.errno > 1 << 16


def _assembled(
    file: Path,
    folder: Path,
    pieces: Sequence[Piece],
    encoding: Encoding,
    duration: Fraction,
    sound: Sound | None,
    tags: Mapping[str, str],
) -> tuple[str, ...]:
    settled = encoding.settled
    # Without "file:" a relative name with a colon in it would be an address.
    output = av.open(f"file:{file.absolute()}", "w", options=_options(file.suffix.lower(), tags))
    soundtrack = None
    try:
        output.metadata.update(tags)
        stream = output.add_stream(encoding.encoder, rate=encoding.header_rate)
        stream.time_base = settled.time_base
        encoding.configure(stream.codec_context)
        if sound is not None:
            frame = encoding.interval * settled.time_base
            soundtrack = Soundtrack(sound, output, settled.start, duration, frame)
        for packet in joined(pieces, folder, settled.time_base, encoding.interval):
            if soundtrack is not None:
                soundtrack.write_until(packet.dts * settled.time_base)
            packet.stream = stream
            output.mux(packet)
        if soundtrack is not None:
            soundtrack.write_until(None)
        output.close()
    except BaseException:
        with suppress(Exception):
            output.close()
        raise
    finally:
        if soundtrack is not None:
            soundtrack.close()
    return () if soundtrack is None else soundtrack.notes


def _options(suffix: str, tags: Mapping[str, str]) -> dict[str, str]:
    options = {"fflags": "+bitexact"}
    if suffix in MP4_SUFFIXES:
        options["movflags"] = "+faststart" + ("+use_metadata_tags" if needs_free_names(tags) else "")
    return options
