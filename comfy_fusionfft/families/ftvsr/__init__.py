"""FTVSR: a compressed video four times as large, its frames helped by all others of a stretch, in pixels and in blocks'
frequencies."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from ...contract import Family
from .config import FTVSRConfig, canonical, describe, detect

if TYPE_CHECKING:
    from .model import Restore
    from .net import FTVSR

__all__ = ["FAMILY", "FTVSRConfig"]


def _build(config: FTVSRConfig) -> FTVSR:
    from .net import FTVSR  # torch, which listing the families does not need

    return FTVSR(config)


def _restorer(network: FTVSR, **settings: Any) -> Restore:
    from .model import Restore

    return Restore(network, **settings)


FAMILY = Family(
    name="ftvsr",
    title="FTVSR",
    kind="restore",
    detect=detect,
    build=_build,
    canonical=canonical,
    describe=describe,
    restorer=_restorer,
    settings=("chunk", "context", "blend", "padding"),
)
