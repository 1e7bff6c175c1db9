"""Memory that is used again, and results that are kept as long as what they were made of.

A large block of memory is new every time it is asked for: its pages are mapped and zeroed one by one, which on a CPU
takes longer than most of the arithmetic on it. What a call needs only while it lasts is therefore kept for the next.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any
from weakref import WeakKeyDictionary, ref

import torch
from torch import Tensor


class Scratch(threading.local):
    """Named tensors, whose values nobody relies on from one call to the next; each thread has its own."""

    def __init__(self) -> None:
        self._kept: dict[str, Tensor] = {}

    def empty(self, name: str, *shape: int, dtype: torch.dtype, device: torch.device) -> Tensor:
        """The tensor of this name, in memory of the last one when its size fits. New where memory is not the CPU's:
        devices' own allocators keep it."""
        if device.type != "cpu":
            return torch.empty(shape, dtype=dtype, device=device)
        kept = self._kept.get(name)
        if kept is None or kept.shape != shape or kept.dtype != dtype:
            self._kept.pop(name, None)  # freed before the next one is made
            with torch.inference_mode(False):  # what inference mode makes could not be written to outside of it
                kept = self._kept[name] = torch.empty(shape, dtype=dtype)
        return kept


def fresh(name: str, *shape: int, dtype: torch.dtype, device: torch.device) -> Tensor:
    """``Scratch.empty`` that keeps nothing."""
    return torch.empty(shape, dtype=dtype, device=device)


class PairMemo:
    """What was made last of a few pairs of objects, kept no longer than the first of each pair lives.

    keep: the number of pairs. The objects need weak references, and are told apart by identity.
    """

    def __init__(self, keep: int) -> None:
        self._keep = keep
        self._made: WeakKeyDictionary[Any, tuple[ref[Any], Any]] = WeakKeyDictionary()

    def __call__(self, first: Any, second: Any, make: Callable[[], Any]) -> Any:
        """``make()``, or what it gave for these two before."""
        partner, value = self._made.pop(first, (lambda: None, None))
        if partner() is not second:
            value = make()
        self._made[first] = (ref(second), value)
        for oldest in list(self._made)[: -self._keep]:
            self._made.pop(oldest, None)
        return value
