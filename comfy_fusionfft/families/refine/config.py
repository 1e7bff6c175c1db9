"""What distinguishes refining networks, and how to read it off a file's names and shapes."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

from ...contract import Miss

if TYPE_CHECKING:
    from torch import Tensor

_PREFIXES = ("module.", "_orig_mod.")


@dataclass(frozen=True)
class RefineConfig:
    """The size of a refining network.

    features: channels by which places are compared. state: channels that go from level to level.
    width: of the estimator. radius: places compared around each, in cells of a quarter of a level's pixels.
    levels: pictures this many times smaller, coarse to fine, on which the estimator works, at a quarter of their size.
    fine: channels of the last part, at half the picture's size.
    """

    features: int = 32
    state: int = 48
    width: int = 96
    radius: int = 3
    levels: tuple[int, ...] = (4, 2, 1)
    fine: int = 32

    @property
    def modulus(self) -> int:
        """Pictures must be multiples of this."""
        return 4 * max(self.levels)


def canonical(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Names without the prefixes that wrappers of training leave behind."""
    renamed = {}
    for name, tensor in state.items():
        while name.startswith(_PREFIXES):
            name = name.partition(".")[2]
        renamed[name] = tensor
    return renamed


def detect(state: Mapping[str, Tensor], metadata: Mapping[str, str]) -> RefineConfig | Miss:
    """The size of a canonical state's network, or what is missing for it to be one of these."""
    names = ("encoder.last.weight", "estimator.enter.weight", "estimator.state.weight", "fine.enter.weight")
    for name in names:
        if name not in state:
            return Miss(f"no tensor {name}")
    last, enter, carried, fine = (state[name].shape for name in names)
    features, width, kept = last[0], enter[0], carried[0]
    places = enter[1] - 2 * features - kept - EXTRA_PLANES
    radius = (round(max(places, 0) ** 0.5) - 1) // 2
    if radius < 1 or (2 * radius + 1) ** 2 != places:
        return Miss(f"estimator.enter takes {enter[1]} planes, which its features and state do not explain")
    levels = tuple(int(n) for n in metadata.get("refine.levels", "4 2 1").split())
    return RefineConfig(features, kept, width, radius, levels, fine[0])


EXTRA_PLANES = 4 + 1 + 1
"""Flow, mask and time, beside what is compared."""


def describe(config: RefineConfig) -> dict[str, str]:
    """Metadata for what shapes cannot tell."""
    return {"refine.levels": " ".join(map(str, config.levels))}
