"""RIFE 4.0 to 4.26: intermediate flow between two frames, for any instant between them."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ...contract import Family
from .config import RIFEConfig, canonical, describe, detect

if TYPE_CHECKING:
    from .flow import RIFEFlow
    from .net import IFNet

__all__ = ["FAMILY", "RIFEConfig", "RIFEFlow"]


def _build(config: RIFEConfig) -> IFNet:
    from .net import IFNet  # torch, which listing the families does not need

    return IFNet(config)


def _source(network: IFNet, *, scale: float, ensemble: bool) -> RIFEFlow:
    from .flow import RIFEFlow

    return RIFEFlow(network, scale=scale, ensemble=ensemble)


FAMILY = Family(
    name="rife",
    title="RIFE",
    kind="flow",
    detect=detect,
    build=_build,
    canonical=canonical,
    describe=describe,
    source=_source,
)


def __getattr__(name: str) -> type[RIFEFlow]:
    if name == "RIFEFlow":
        from .flow import RIFEFlow

        return RIFEFlow
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
