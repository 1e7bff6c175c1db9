"""FusionFFT: motion that bends, several frames fused per pixel, the grain of the real frames."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ...contract import Family
from .config import MAX_ANCHORS, FusionConfig, canonical, describe, detect

if TYPE_CHECKING:
    from .fuse import Fuse
    from .net import FusionNet

__all__ = ["FAMILY", "MAX_ANCHORS", "Fuse", "FusionConfig", "FusionNet"]


def _build(config: FusionConfig) -> FusionNet:
    from .net import FusionNet  # torch, which listing the families does not need

    return FusionNet(config)


FAMILY = Family(
    name="fusionfft",
    title="FusionFFT",
    kind="fusion",
    detect=detect,
    build=_build,
    canonical=canonical,
    describe=describe,
)


def __getattr__(name: str) -> type[Fuse] | type[FusionNet]:
    if name == "Fuse":
        from .fuse import Fuse

        return Fuse
    if name == "FusionNet":
        from .net import FusionNet

        return FusionNet
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
