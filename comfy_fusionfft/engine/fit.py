"""Fits model calls into the device's memory: fewer instants at once first, then the model's own means, then tiles.

A limit that was found stays for the rest of the run: running into the same wall on every frame
would cost more than the smaller batch.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterator
from dataclasses import dataclass, field, replace
from typing import Any

import torch
from torch import Tensor

from ..contract import Host, Model, Position, Restorer
from ..errors import DeviceError
from ..ops.memory import forget_memory
from ..ops.replay import forget_graphs
from .shortage import Kernels
from .store import StoreWindow

BATCH_PIXELS = 4 * 1024 * 1024
"""Instants of one pair run together while their pixels stay below this: two at 1080p, ten at 480p."""
SMALLEST_TILE = 128
OVERLAP = 64


def batch_limit(height: int, width: int) -> int:
    """Instants of one pair that may run together."""
    return max(1, BATCH_PIXELS // (height * width))


class Fitted:
    """A model that survives running out of memory.

    Batches do not change results. Tiles do, slightly: a flow network sees less of the picture around
    each point, and motion beyond the 64 px overlap is found less well; they are the last resort.

    whole: all pictures of a step are made at once: they depend on each other. tile: begin with tiles of this side.
    """

    def __init__(self, model: Model | Restorer, host: Host, *, whole: bool = False, tile: int | None = None) -> None:
        self.model, self._host, self._whole = model, host, whole
        self._kernels = Kernels(host.device)
        self.batch: int | None = None
        self.tile = tile

    def __call__(self, window: StoreWindow, height: int, width: int) -> Iterator[tuple[tuple[Position, ...], Tensor]]:
        """Pictures for ``window.times`` in chunks: (positions, ``(T, C, H, W)`` float32, of this size or enlarged)."""
        limit = len(window.times) if self._whole else batch_limit(height, width)
        waiting = window.times
        while waiting:
            self._host.raise_if_cancelled()
            chunk = waiting[: min(limit, self.batch or limit)]
            pictures = self._attempt(replace(window, times=chunk))
            if pictures is None:
                self._kernels.ran_short()
                forget_graphs()
                forget_memory()
                self._host.free()
                self._shrink(len(chunk), height, width)
                continue
            yield chunk, pictures
            del pictures  # the next ones need the room
            waiting = waiting[len(chunk) :]

    def _attempt(self, window: StoreWindow) -> Tensor | None:
        """None when memory ran out; returning drops the failed attempt's tensors before the next one."""

        def made() -> Tensor:
            with torch.inference_mode():
                return self.model(window) if self.tile is None else self._tiled(window, self.tile)

        try:
            return self._kernels(made)
        except Exception as error:
            if not self._host.is_oom(error):
                raise
            return None

    def _shrink(self, instants: int, height: int, width: int) -> None:
        if instants > 1 and not self._whole:
            self.batch = instants // 2
            return
        if self.tile is None and getattr(self.model, "shrink", bool)():
            return
        tile = (self.tile or max(height, width)) // 2
        if tile < SMALLEST_TILE:
            raise DeviceError(
                f"out of memory on {self._host.device} for a {width}×{height} picture even in tiles of "
                f"{self.tile or max(height, width)} px: close other programs that use this device, choose another, "
                "or make the clip smaller"
            )
        self.tile = tile

    def _tiled(self, window: StoreWindow, tile: int) -> Tensor:
        images = window.images
        height, width = images[0].shape[-2:]
        scale = getattr(self.model, "scale", 1)
        total = weight = None
        for y in _starts(height, tile):
            for x in _starts(width, tile):
                bottom, right = min(y + tile, height), min(x + tile, width)
                cut = tuple(image[..., y:bottom, x:right] for image in images)
                made = self.model(TileWindow(window.positions, cut, window.times, window.instants))
                if total is None or weight is None:
                    total = made.new_zeros(*made.shape[:2], scale * height, scale * width)
                    weight = made.new_zeros(1, 1, scale * height, scale * width)
                part = (..., slice(scale * y, scale * bottom), slice(scale * x, scale * right))
                ramps = (_ramp(size, scale * OVERLAP, made.device) for size in made.shape[-2:])
                ramp = next(ramps)[:, None] * next(ramps)
                total[part] += made * ramp
                weight[part] += ramp
        assert total is not None
        return total.div_(weight)


@dataclass(frozen=True, slots=True)
class TileWindow:
    """A window cut out of every picture. It remembers for its own call only: nothing of a tile fits another."""

    positions: tuple[Position, ...]
    images: tuple[Tensor, ...]
    times: tuple[Position, ...]
    instants: Callable[[Position], tuple[Position, ...]]
    _memo: dict[Hashable, Any] = field(default_factory=dict)

    def once(self, name: Hashable, positions: tuple[Position, ...], make: Callable[[], Any]) -> Any:
        key = (name, positions)
        if key not in self._memo:
            self._memo[key] = make()
        return self._memo[key]


def _starts(size: int, tile: int) -> range | list[int]:
    if size <= tile:
        return [0]
    step = tile - OVERLAP
    return [*range(0, size - tile, step), size - tile]


def _ramp(size: int, overlap: int, device: torch.device) -> Tensor:
    """Weights that rise over the overlap at both ends; never 0, so that picture borders keep their value."""
    distance = torch.arange(size, device=device, dtype=torch.float32)
    return torch.minimum(distance, size - 1 - distance).add(1).clamp(max=overlap) / overlap
