"""Flow from anywhere, corrected by a small network that compares what it brings together."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ...contract import Family
from ...errors import InputError
from .config import RefineConfig, canonical, describe, detect

if TYPE_CHECKING:
    from collections.abc import Callable

    from ...contract import FlowSource
    from .flow import RefinedFlow
    from .net import RefineNet

__all__ = ["FAMILY", "RefineConfig"]


def _build(config: RefineConfig) -> RefineNet:
    from .net import RefineNet  # torch, which listing the families does not need

    return RefineNet(config)


def _source(network: RefineNet, *, scale: float, ensemble: bool, seed: Callable[[], FlowSource]) -> RefinedFlow:
    from .flow import RefinedFlow

    if ensemble:
        raise InputError("refined flow looks both ways anyway: turn ensemble off")
    return RefinedFlow(network, seed(), scale=scale)


FAMILY = Family(
    name="refine",
    title="refined flow",
    kind="flow",
    detect=detect,
    build=_build,
    canonical=canonical,
    describe=describe,
    source=_source,
)
