"""What distinguishes WaveletVFI networks, and how to read it off a file's names and shapes."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

from ...contract import Miss

if TYPE_CHECKING:
    from torch import Tensor

RATIOS = (0.0, 0.005, 0.01, 0.015)
"""Thresholds that the network chooses from: below this share of the low band's range a detail is left out."""
LEVELS = 4
MOTION_PLANES = 5
"""Flow to both frames and the logit of the left one's share."""

_PREFIXES = ("module.", "_orig_mod.")
_FILTERS = ("waveletencoder.", "idwt.")
"""The Haar filter's two numbers, stored as buffers; here they are arithmetic."""


@dataclass(frozen=True)
class WaveletVFIConfig:
    """Channels, each from half the picture's size down to a sixteenth.

    pyramid: of the frames as the motion net sees them. decoders: of what finds motion at these sizes.
    context: of one frame, and of the instant, for the synthesis. features: of the synthesis; the last must be three
        times the last of ``context``.
    """

    pyramid: tuple[int, ...] = (32, 64, 96, 128)
    decoders: tuple[int, ...] = (64, 128, 160, 192)
    context: tuple[int, ...] = (48, 96, 144, 192)
    features: tuple[int, ...] = (216, 432, 648, 576)

    modulus = 2**LEVELS
    """Pictures must be multiples of this."""

    def decoder_inputs(self, level: int) -> int:
        """Channels that the decoder of ``level`` (1: half size) sees: both frames, and motion found so far."""
        return 2 * self.pyramid[level - 1] + (0 if level == LEVELS else MOTION_PLANES)

    def synthesis_inputs(self, level: int) -> int:
        """Channels that the synthesis of ``level`` sees: context of three, and what the next coarser one found."""
        return 3 * self.context[level - 1] + (0 if level == LEVELS else self.features[level])


def canonical(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Names without the prefixes that training leaves behind, and without the wavelet's constants."""
    renamed = {}
    for name, tensor in state.items():
        while name.startswith(_PREFIXES):
            name = name.partition(".")[2]
        if not name.startswith(_FILTERS):
            renamed[name] = tensor
    return renamed


def detect(state: Mapping[str, Tensor], metadata: Mapping[str, str]) -> WaveletVFIConfig | Miss:
    """The channels of a canonical state's network, or what is missing for it to be one of these."""
    levels = range(1, LEVELS + 1)
    names = {
        "pyramid": [f"ifnet.pconv{k}.0.0.weight" for k in levels],
        "decoders": [f"ifnet.decoder{k}.conv1.0.weight" for k in levels],
        "context": [f"contextnet.pconv1_{k}.0.weight" for k in levels],
        "features": [f"conv{k}.0.weight" for k in levels],
    }
    choice = f"ifnet.decoder{LEVELS}.classifier.5.weight"
    for name in (*(name for some in names.values() for name in some), choice):
        if name not in state:
            return Miss(f"no tensor {name}")
        if state[name].ndim not in (2, 4):
            return Miss(f"{name} is not a convolution")
    if len(state[choice]) != len(RATIOS):
        return Miss(f"it chooses among {len(state[choice])} thresholds, {len(RATIOS)} are known")
    config = WaveletVFIConfig(**{field: tuple(state[n].shape[0] for n in some) for field, some in names.items()})
    for level in levels:
        seen = state[f"conv{level}.0.weight"].shape[1]
        if seen != config.synthesis_inputs(level):
            return Miss(f"conv{level} takes {seen} planes, its neighbours imply {config.synthesis_inputs(level)}")
    return config
