"""One thing a worker is asked to do again and again, and which of the frames that come out are made ones."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torch import Tensor


@dataclass(frozen=True)
class Job:
    """A clip and what to do with it.

    path: ``rife`` (the two-frame network alone), ``fusion`` (the default method, all of it), ``spectral`` (the swap).
    frames: of the source clip. multiplier: ``spectral`` works on the pictures half-way between the frames, as ×2 makes.
    dtype: ours alone; peers run as they do by themselves.
    """

    path: str
    height: int
    width: int
    multiplier: int
    frames: int
    device: str = "cpu"
    dtype: str = "float32"

    @property
    def made(self) -> int:
        return (self.frames - 1) * (1 if self.path == "spectral" else self.multiplier - 1)

    @property
    def frames_out(self) -> int:
        return self.frames - 1 if self.path == "spectral" else (self.frames - 1) * self.multiplier + 1


def made_frames(output: Tensor, job: Job) -> Tensor:
    """``(frames_out, H, W, 3)`` -> those that are no copies of source frames."""
    if job.path == "spectral":
        return output
    return output[[number for number in range(job.frames_out) if number % job.multiplier]]
