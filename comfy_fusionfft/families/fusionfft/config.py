"""What distinguishes FusionFFT networks, and how to read it off a file's names and shapes."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

from ...contract import Miss

if TYPE_CHECKING:
    from torch import Tensor

MAX_ANCHORS = 5


@dataclass(frozen=True)
class FusionConfig:
    """The size of a fusion network. The number of anchors is not part of it: any network takes any.

    base_channels: sets all widths: 3/8 of it at half resolution, 3/4, 3/2 and 3 times at 1/4, 1/8 and 1/16.
    heads, points: of the attention over anchors; each head looks at ``points`` places of every anchor.
    use_temporal_guidance: whether features know when and how wide apart their anchor's frames are.
    """

    base_channels: int = 64
    heads: int = 4
    points: int = 4
    use_temporal_guidance: bool = True

    def __post_init__(self) -> None:
        if self.base_channels < 32 or self.base_channels % 32:
            raise ValueError(f"base_channels {self.base_channels} is not a multiple of 32: use 32, 64, 96, …")

    @property
    def half(self) -> int:
        return self.base_channels * 3 // 8

    @property
    def widths(self) -> tuple[int, int, int]:
        """Channels at 1/4, 1/8 and 1/16 of the resolution."""
        base = self.base_channels
        return base * 3 // 4, base * 3 // 2, base * 3


def canonical(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Names without the prefixes that wrappers of training leave behind."""
    renamed = {}
    for name, tensor in state.items():
        while name.startswith(("module.", "_orig_mod.")):
            name = name.partition(".")[2]
        renamed[name] = tensor
    return renamed


def detect(state: Mapping[str, Tensor], metadata: Mapping[str, str]) -> FusionConfig | Miss:
    """The size of a canonical state's network, or what is missing for it to be one of ours."""
    stem, offsets = "encoder.stem.weight", "attention_low.offsets.bias"
    for name in (stem, offsets, "trajectory.correct.weight"):
        if name not in state:
            return Miss(f"no tensor {name}")
    width = state[stem].shape[0]
    heads = int(metadata.get("fusionfft.heads", FusionConfig.heads))
    places = state[offsets].numel() // 2
    if width % 24:
        return Miss(f"{stem} has {width} channels, a multiple of 24 is needed")
    if heads < 1 or places < heads or places % heads:
        return Miss(f"{offsets} has {places} places, which {heads} heads cannot share")
    guided = any(".guidance." in name for name in state)
    return FusionConfig(width * 4 // 3, heads, places // heads, guided)


def describe(config: FusionConfig) -> dict[str, str]:
    """Metadata for what shapes cannot tell."""
    return {"fusionfft.heads": str(config.heads)}
