"""WaveletVFI: the frame half-way between two others, made of wavelet coefficients where there is detail."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from ...contract import Family
from .config import WaveletVFIConfig, canonical, detect

if TYPE_CHECKING:
    from .model import Middle
    from .net import WaveletVFI

__all__ = ["FAMILY", "WaveletVFIConfig"]


def _build(config: WaveletVFIConfig) -> WaveletVFI:
    from .net import WaveletVFI  # torch, which listing the families does not need

    return WaveletVFI(config)


def _model(network: WaveletVFI, **settings: Any) -> Middle:
    from .model import Middle

    return Middle(network, **settings)


FAMILY = Family(
    name="waveletvfi",
    title="WaveletVFI",
    kind="interpolation",
    detect=detect,
    build=_build,
    canonical=canonical,
    model=_model,
)
