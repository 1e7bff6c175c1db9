"""Flow chosen, place by place, among the answers of several classical searches."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ...contract import Family
from ...errors import InputError
from .config import MultiFlowConfig, canonical, describe, detect

if TYPE_CHECKING:
    from .flow import MultiFlow
    from .net import MultiFlowNet

__all__ = ["FAMILY", "MultiFlowConfig"]


def _build(config: MultiFlowConfig) -> MultiFlowNet:
    from .net import MultiFlowNet  # torch, which listing the families does not need

    return MultiFlowNet(config)


def _source(network: MultiFlowNet, *, scale: float, ensemble: bool) -> MultiFlow:
    from .flow import MultiFlow

    if ensemble:
        raise InputError("multi-hypothesis flow searches both ways anyway: turn ensemble off")
    return MultiFlow(network, scale=scale)


FAMILY = Family(
    name="multiflow",
    title="multi-hypothesis flow",
    kind="flow",
    detect=detect,
    build=_build,
    canonical=canonical,
    describe=describe,
    source=_source,
)
