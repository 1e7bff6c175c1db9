"""The frames, pictures and derived values that are alive now.

Nothing here grows with the clip: the engine forgets whatever lies behind its current interval, and
with a frame go all values (encoder features, flows) that were computed from it.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable
from dataclasses import dataclass
from typing import Any

from torch import Tensor

from ..contract import Frame, Position
from .transfer import Pending, Transfer


class Store:
    """Source frames by index, and pictures and memos by position.

    transfer: how frames come to where pictures live.
    """

    def __init__(self, transfer: Transfer) -> None:
        self._transfer = transfer
        self._frames: dict[Position, Frame] = {}
        self._coming: dict[Position, Pending] = {}
        self._pictures: dict[Position, Tensor] = {}
        self._memo: dict[Hashable, tuple[tuple[Position, ...], Any]] = {}

    def add(self, position: Position, frame: Frame) -> None:
        self._frames[position] = frame
        self._coming[position] = self._transfer.upload(frame.pixels)

    def add_made(self, position: Position, picture: Tensor) -> None:
        """Keep a made ``(C, H, W)`` picture that a later step of the same interval needs."""
        self._pictures[position] = picture.unsqueeze(0)

    def frame(self, position: Position) -> Frame:
        return self._frames[position]

    def picture(self, position: Position) -> Tensor:
        """``(1, C, H, W)`` picture; InputError on first use for pixels that make none."""
        if position not in self._pictures:
            self._pictures[position] = self._coming[position]()
            del self._coming[position]
        return self._pictures[position]

    def once(self, name: Hashable, positions: tuple[Position, ...], make: Callable[[], Any]) -> Any:
        key = (name, positions)
        if key not in self._memo:
            self._memo[key] = (positions, make())
        return self._memo[key][1]

    def forget(self, gone: Callable[[Position], bool]) -> None:
        """Drop every frame, picture and memo that belongs to a position for which ``gone`` holds."""
        self._frames = {p: v for p, v in self._frames.items() if not gone(p)}
        self._coming = {p: v for p, v in self._coming.items() if not gone(p)}
        self._pictures = {p: v for p, v in self._pictures.items() if not gone(p)}
        self._memo = {k: v for k, v in self._memo.items() if not any(gone(p) for p in v[0])}


@dataclass(frozen=True, slots=True)
class StoreWindow:
    """contract.Window over a store; pictures are fetched only when the model asks for them."""

    store: Store
    positions: tuple[Position, ...]
    times: tuple[Position, ...]
    instants: Callable[[Position], tuple[Position, ...]]

    @property
    def images(self) -> tuple[Tensor, ...]:
        return tuple(self.store.picture(position) for position in self.positions)

    def once(self, name: Hashable, positions: tuple[Position, ...], make: Callable[[], Any]) -> Any:
        return self.store.once(name, positions, make)
