"""What every contender offers its worker."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from torch import Tensor

    from .job import Job


class Contender:
    """Loads its code and weights when made.

    options: ``device``; ``scratch``, a folder; ``rife``, a weights file; ``host_source``, ComfyUI's folder; and each
        peer's checkout under its name.
    facts: what the report should say about it.
    """

    facts: dict[str, Any]

    def __init__(self, options: dict[str, Any]) -> None:
        self.options, self.facts = options, {}

    def prepare(self, job: Job) -> Callable[[], Tensor]:
        """A function that does all of the job once and returns ``(frames_out, H, W, 3)`` in main memory.

        Raises ValueError for a path that it does not have.
        """
        raise NotImplementedError

    def stream(self, job: Job) -> tuple[Callable[[], Any], Callable[[], Any]]:
        """A warm-up, and the job over a clip that is never held whole, results dropped."""
        raise NotImplementedError
