"""Memory for large tensors on the CPU that is used again once nobody holds them.

What an allocator fetches from the system for every large tensor, and returns with it, is mapped and zeroed page by page
each time. That can take longer than a pass of arithmetic over it.
"""

from __future__ import annotations

import threading
import weakref
from collections import deque
from collections.abc import Callable, Sequence
from functools import lru_cache
from math import prod
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

_ALIGNMENT = 64
"""Bytes, as PyTorch's own allocator has it: a cache line, and the widest vector register."""


class _Block(NamedTuple):
    """lent: the part of ``memory`` that a tensor stands on; gone with the last tensor, view or array that shares it."""

    memory: np.ndarray
    lent: Callable[[], Any]


class Memory:
    """A few blocks of memory, whose ``empty`` stands in for ``torch.empty``.

    blocks: how many are kept. When all are held by tensors the oldest one is left to its tensor for good, so that
        a caller who keeps everything costs no more than without this.

    Several threads may share one.
    """

    def __init__(self, blocks: int = 8) -> None:
        _settle()
        self._blocks: deque[_Block] = deque(maxlen=blocks)
        self._lock = threading.Lock()
        _alive.add(self)

    def empty(self, *shape: int, dtype: torch.dtype = torch.float32, device: torch.device | None = None) -> Tensor:
        """A tensor with anything in it; off the CPU, where PyTorch keeps memory itself, simply ``torch.empty``."""
        if device is not None and device.type != "cpu":
            return torch.empty(shape, dtype=dtype, device=device)
        size = prod(shape) * dtype.itemsize
        with self._lock:
            memory = self._unused(size + _ALIGNMENT)
            start = -memory.ctypes.data % _ALIGNMENT
            lent = memory[start : start + size]
            self._blocks.append(_Block(memory, weakref.ref(lent)))
        return torch.from_numpy(lent).view(dtype).view(shape)

    def forget(self) -> None:
        """Give back what nobody holds."""
        with self._lock:
            held = [block for block in self._blocks if block.lent() is not None]
            self._blocks.clear()
            self._blocks.extend(held)

    def _unused(self, size: int) -> np.ndarray:
        for number, block in enumerate(self._blocks):
            if block.memory.nbytes == size and block.lent() is None:
                del self._blocks[number]
                return block.memory
        return np.empty(size, np.uint8)


_alive: weakref.WeakSet[Memory] = weakref.WeakSet()


def forget_memory() -> None:
    """Have every Memory give back what nobody holds: where there is too little, other sizes are wanted next."""
    for memory in list(_alive):
        memory.forget()


@lru_cache(None)
def _settle() -> None:
    """Have the C library keep memory of up to 32 MiB a tensor, and 64 MiB that nobody uses, for what comes next.

    glibc takes the largest block that it has been given back as its measure; showing it one, untouched, costs nothing.
    """
    torch.empty(32 * 1024 * 1024 - 64 * 1024, dtype=torch.uint8)


def numbers(values: Sequence[Any], device: torch.device) -> Tensor:
    """``torch.tensor(values, device=device)`` without waiting for the device."""
    made = torch.tensor(values)
    return made.pin_memory().to(device, non_blocking=True) if device.type == "cuda" else made.to(device)
