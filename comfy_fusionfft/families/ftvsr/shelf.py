"""What waits for its turn while a pass goes through a clip.

A clip's features are made one by one between things that live for a moment. Kept one by one they would leave holes
between them that nothing fits into, and a process would grow by half of what it holds; so a pass's share is one piece
of memory, taken at once and given back at once.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor


class Shelf:
    """Where to keep things: where they were made, or away from there.

    away: a device with more memory; None: things stay where they are. check: called between frames of every pass; what
        it raises ends the run.
    """

    def __init__(self, away: torch.device | None = None, check: Callable[[], None] | None = None) -> None:
        self.away, self.check = away, check or (lambda: None)

    def row(self, count: int) -> Row:
        return Row(count, self.away)


class Row:
    """``count`` tensors of one shape, by number; all are kept until the row is dropped."""

    def __init__(self, count: int, away: torch.device | None) -> None:
        self._count, self._away = count, away
        self._kept: Tensor | list[Tensor | None] | None = None

    def __setitem__(self, number: int, tensor: Tensor) -> None:
        if self._kept is None:
            self._kept = self._room(tensor)
        if isinstance(self._kept, list):
            self._kept[number] = tensor if self._away is None else tensor.to(self._away)
        else:
            self._kept[number].copy_(tensor)

    def __getitem__(self, number: int) -> Tensor:
        """Where it is kept: ``to`` the device that needs it."""
        assert self._kept is not None
        return self._kept[number]

    def _room(self, tensor: Tensor) -> Tensor | list[Tensor | None]:
        if torch.is_grad_enabled():  # a tensor that is written into bit by bit holds what led to every bit
            return [None] * self._count
        strides = torch.empty_like(tensor, device="meta").stride()  # as its layout is, channels last or first
        size, device = (self._count, *tensor.shape), self._away or tensor.device
        return tensor.new_empty_strided(size, (tensor.numel(), *strides), device=device)
