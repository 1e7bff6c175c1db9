"""How a restorer is made to fit into memory before it runs: its own means first, then tiles."""

from __future__ import annotations

from typing import Literal, NamedTuple

from ..contract import Host, Restorer
from ..errors import DeviceError, InputError
from .fit import OVERLAP, SMALLEST_TILE

Tile = int | Literal["auto", "none"]
SHARE = 0.9
"""Of the free memory that an estimate may take."""


class Room(NamedTuple):
    """tile: side of the squares to work on, None: whole pictures. needed: bytes at the peak, an estimate. free: bytes
    there are; None: unknown."""

    tile: int | None
    needed: int
    free: int | None

    def __str__(self) -> str:
        how = "whole pictures" if self.tile is None else f"tiles of {self.tile} px that overlap by {OVERLAP}"
        there = "" if self.free is None else f" of {self.free / 1e9:.1f} GB free"
        return f"{how}, about {self.needed / 1e9:.1f} GB{there}"


def room_for(restorer: Restorer, host: Host, height: int, width: int, tile: Tile = "auto") -> Room:
    """What to do with pictures of this size; may ask ``restorer`` to shrink.

    tile: ``auto`` takes whole pictures where they fit, ``none`` takes them in any case, a number tiles of that side.
    Raises InputError for a tile that is too small, DeviceError where not even the smallest fits.
    """
    free = host.free_bytes()
    if tile == "none":
        return Room(None, restorer.working_bytes(height, width), free)
    if tile != "auto":
        if tile < SMALLEST_TILE:
            raise InputError(f"tiles of {tile} px: use {SMALLEST_TILE} or more, auto or none")
        side = tile if tile < max(height, width) else None
        return Room(side, _needed(restorer, height, width, side), free)
    side = None
    while free is not None and (needed := _needed(restorer, height, width, side)) > SHARE * free:
        if side is None and getattr(restorer, "shrink", bool)():
            continue
        side = (side or max(height, width)) // 2
        if side < SMALLEST_TILE:
            raise DeviceError(
                f"a {width}×{height} picture needs about {needed / 1e9:.1f} GB even in the smallest tiles, "
                f"{free / 1e9:.1f} GB are free on {host.device}: close other programs that use this device, choose "
                "another, or make the clip smaller"
            )
    return Room(side, _needed(restorer, height, width, side), free)


def _needed(restorer: Restorer, height: int, width: int, side: int | None) -> int:
    """At the peak of a call; in tiles the picture is put together beside it."""
    if side is None:
        return restorer.working_bytes(height, width)
    together = restorer.span.makes * 4 * 4 * height * width * restorer.scale**2
    return together + restorer.working_bytes(min(side, height), min(side, width))
