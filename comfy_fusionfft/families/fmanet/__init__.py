"""FMA-Net: a blurred video sharper and four times as large, every frame from itself and its two neighbours."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from ...contract import Family
from .config import FMANetConfig, canonical, detect

if TYPE_CHECKING:
    from .model import Restore
    from .net import FMANet

__all__ = ["FAMILY", "FMANetConfig"]


def _build(config: FMANetConfig) -> FMANet:
    from .net import FMANet  # torch, which listing the families does not need

    return FMANet(config)


def _restorer(network: FMANet, **settings: Any) -> Restore:
    from .model import Restore

    return Restore(network, **settings)


FAMILY = Family(
    name="fmanet",
    title="FMA-Net",
    kind="restore",
    detect=detect,
    build=_build,
    canonical=canonical,
    restorer=_restorer,
    settings=("ends",),
)
