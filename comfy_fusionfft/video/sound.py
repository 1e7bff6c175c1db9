"""Which sound goes with a picture, and how it follows the picture's pace.

``keep``: the packets are copied as they are, from the first picture on to the end of the last.
``stretch``: faster or slower at the same pitch. ``tape``: pitch goes with speed, as on a tape machine.
Both of these are encoded again: AAC in MP4 and MOV, Opus in WebM and Matroska, PCM in AVI.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Literal

from ..errors import MediaError


@dataclass(frozen=True, slots=True)
class Sound:
    """The sound of the file at ``path``, all its audio streams.

    tempo: seconds of the source for one of the output, 1/2 for slow motion at half speed; for a steady pace.
    source_seconds: for any other: output seconds -> source seconds, never descending. Both count from the first
        picture. It replaces ``tempo``; ``keep`` uses neither.
    start: the first picture's time on the source file's own clock; None: as its ``Frame.seconds`` says.
    """

    path: Path
    how: Literal["keep", "stretch", "tape"] = "keep"
    tempo: Fraction = Fraction(1)
    source_seconds: Callable[[Fraction], Fraction] | None = None
    start: Fraction | None = None

    def __post_init__(self) -> None:
        if self.how not in ("keep", "stretch", "tape"):
            raise MediaError(f"sound cannot be treated as {self.how!r}: use keep, stretch or tape")
        if self.tempo <= 0:
            raise MediaError(f"a sound's tempo of {self.tempo} was given: give one above 0")

    def seconds_at(self, output: Fraction) -> Fraction:
        """Source seconds for seconds of the output, both from the first picture."""
        return self.tempo * output if self.source_seconds is None else self.source_seconds(output)

    def check(self) -> None:
        """Raise MediaError when there is no such file, or nothing in it that can be opened."""
        import av

        from .container import open_container

        if not Path(self.path).is_file():
            raise MediaError(f"no sound can be copied from {self.path}: give an existing video or audio file")
        try:
            open_container(self.path).close()
        except (av.error.FFmpegError, OSError) as error:
            raise MediaError(
                f"no sound can be copied from {self.path} ({error.strerror or error}): give a video or audio file"
            ) from error
