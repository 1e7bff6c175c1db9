"""What distinguishes choosing networks, and how to read it off a file's names and shapes."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

from ...contract import Miss

if TYPE_CHECKING:
    from torch import Tensor

_PREFIXES = ("module.", "_orig_mod.")
FORMAT = "1"
"""Of the guesses a file was trained on: their kinds and order (``candidates``)."""


@dataclass(frozen=True)
class MultiFlowConfig:
    """The size of a choosing network.

    widths: channels at a quarter, an eighth and a sixteenth of the picture's size. fine: at its half.
    """

    widths: tuple[int, int, int] = (64, 96, 128)
    fine: int = 48

    modulus = 4
    """Pictures must be multiples of this."""


def canonical(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Names without the prefixes that wrappers of training leave behind."""
    renamed = {}
    for name, tensor in state.items():
        while name.startswith(_PREFIXES):
            name = name.partition(".")[2]
        renamed[name] = tensor
    return renamed


def detect(state: Mapping[str, Tensor], metadata: Mapping[str, str]) -> MultiFlowConfig | Miss:
    """The size of a canonical state's network, or what is missing for it to be one of these."""
    names = ("enter.weight", "down.0.weight", "down.1.weight", "choose.last.weight")
    for name in names:
        if name not in state:
            return Miss(f"no tensor {name}")
    version = metadata.get("multiflow.candidates", FORMAT)
    if version != FORMAT:
        return Miss(f"it was trained on guesses of version {version}, this one makes version {FORMAT}")
    first, second, third, last = (state[name].shape for name in names)
    return MultiFlowConfig((first[0], second[0], third[0]), last[1])


def describe(config: MultiFlowConfig) -> dict[str, str]:
    """Metadata for what shapes cannot tell."""
    return {"multiflow.candidates": FORMAT}
