"""Faults where they happen: an operation of PyTorch that fails or is watched, found by the code that asked for it.

    with Starve("families/rife", after=12):     # the 13th operation that the flow network asks for finds no memory
        list(run(...))

A *place* is a part of a path and, after a colon, of a function's name; an operation belongs to every place that is on
the stack while it runs.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path

import torch
from torch.utils._python_dispatch import TorchDispatchMode

LIBRARY = str(Path(__file__).parents[2] / "comfy_fusionfft")


def cuda_full() -> Exception:
    return torch.cuda.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB")


def cpu_full() -> Exception:
    return RuntimeError("[enforce fail at alloc_cpu.cpp:127] err == 0. DefaultCPUAllocator: can't allocate memory")


FULL = (cuda_full, cpu_full)


class Watch(TorchDispatchMode):
    """Counts the operations at a place in ``seen``, all of them in ``total``, and calls ``then`` before the one that
    ``after`` others came before."""

    def __init__(self, place: str, after: int = 0, then: Callable[[], None] = lambda: None) -> None:
        super().__init__()
        self._file, _, self._function = place.partition(":")
        self._after, self._then = after, then
        self.seen = self.total = 0

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        self.total += 1
        takes_none = torch.device((kwargs or {}).get("device") or "cpu").type == "meta"
        if not takes_none and self._is_here():
            self.seen += 1
            if self.seen == self._after + 1:
                self._then()
        return func(*args, **(kwargs or {}))

    def _is_here(self) -> bool:
        frame = sys._getframe(2)
        while frame is not None:
            code = frame.f_code
            ours = code.co_filename.startswith(LIBRARY)
            if ours and self._file in code.co_filename and self._function in code.co_name:
                return True
            frame = frame.f_back
        return False


class Starve(Watch):
    """The operation at ``place`` that ``after`` others came before finds no memory, ``times`` times in a row."""

    def __init__(self, place: str, after: int = 0, error: Callable[[], Exception] = cpu_full, times: int = 1) -> None:
        def fail() -> None:
            self._after += 1 if self.failed + 1 < times else 0
            self.failed += 1
            raise error()

        super().__init__(place, after, fail)
        self.failed = 0


def operations(place: str, work: Callable[[], object]) -> int:
    """How many there are at a place in undisturbed work."""
    with Watch(place) as watch:
        work()
    return watch.seen


def spread(count: int, some: int) -> list[int]:
    """``some`` numbers below ``count``, evenly, from the first to nearly the last."""
    return sorted({int(k * 0.9 * count / (some - 1)) for k in range(some)})
