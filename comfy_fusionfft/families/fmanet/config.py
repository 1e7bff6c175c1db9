"""What distinguishes FMA-Net networks, and how to read it off a file's names and shapes."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from math import isqrt
from typing import TYPE_CHECKING

from ...contract import Miss
from ...errors import CheckpointError

if TYPE_CHECKING:
    from torch import Tensor

SCALE = 4
"""Two pixel shuffles: no shape tells another one."""
FLOW_PLANES = 3
"""Of one flow–mask pair: x, y, and the logit of its mask."""
DEGRADATION, RESTORATION = "degradation_learning_network.", "restoration_network."
TRAINING_HEADS = (f"{DEGRADATION}a_conv.", f"{DEGRADATION}f_conv.", f"{RESTORATION}a_conv.")
"""What only the losses look at. Files may come without."""

_PREFIXES = ("module.", "_orig_mod.")
_PUBLISHED = {"model_D_state_dict.": DEGRADATION, "model_R_state_dict.": RESTORATION}
"""The halves come in two files, each beside what trained it."""
_HALVES = {DEGRADATION: ("degradation", "model_D_best.pt"), RESTORATION: ("restoration", "model_R_best.pt")}


@dataclass(frozen=True)
class FMANetConfig:
    """channels: of a frame's features, and of what the frames together say. frames: that it sees at a time, odd.
    pairs: flows and masks per frame; each moves its share of the channels. blocks: of either half, and attention:
    the attention blocks in each of them, of so many heads. dense_blocks, dense_layers, growth: of the feature
    extractors. hidden: channels of a feed-forward layer's half. degradation_kernel: side of the filters, in sharp
    pixels, that blur and shrink. restoration_kernel: side of those, in blurred pixels, that undo it.
    training_heads: whether the file has what only training needs.
    """

    channels: int = 90
    frames: int = 3
    pairs: int = 9
    blocks: int = 4
    attention: int = 2
    heads: int = 6
    dense_blocks: int = 12
    dense_layers: int = 4
    growth: int = 18
    hidden: int = 239
    degradation_kernel: int = 20
    restoration_kernel: int = 5
    training_heads: bool = True

    scale = SCALE

    @property
    def context(self) -> int:
        """Frames seen on either side of the one that is made."""
        return self.frames // 2

    @property
    def flow_planes(self) -> int:
        return FLOW_PLANES * self.pairs


def canonical(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Names that begin with the half they belong to, without the prefixes that training leaves behind."""
    renamed = {}
    for name, tensor in state.items():
        name = _bare(name)
        for published, half in _PUBLISHED.items():
            if name.startswith(published):
                name = half + _bare(name.removeprefix(published))
        renamed[name] = tensor
    return renamed


def _bare(name: str) -> str:
    while name.startswith(_PREFIXES):
        name = name.partition(".")[2]
    return name


def detect(state: Mapping[str, Tensor], metadata: Mapping[str, str]) -> FMANetConfig | Miss:
    """The sizes of a canonical state's network, or what is missing for it to be one of these.

    Raises CheckpointError for one half alone, which nobody else can claim either.
    """
    halves = [half for half in _HALVES if any(name.startswith(half) for name in state)]
    if len(halves) == 1:
        (here, _), (_, lacking) = (_HALVES[half] for half in sorted(_HALVES, key=lambda half: half not in halves))
        files = " ".join(file for _, file in _HALVES.values())
        raise CheckpointError(
            f"the {here} half of an FMA-Net alone; give the other one, {lacking}, as well: "
            f"`fusionfft convert {files} fmanet.safetensors`"
        )
    extractor, block = f"{DEGRADATION}feature_extractor.", f"{DEGRADATION}FRMA_blocks.0."
    attention = f"{block}multi_attn_block.0."
    names = {
        "extractor": f"{extractor}0.weight",
        "growth": f"{extractor}2.RDBs.0.layer.0.conv.weight",
        "together": f"{block}conv_Fw.weight",
        "flow": f"{block}conv_f.2.weight",
        "temperature": f"{attention}co_attn.temperature",
        "hidden": f"{attention}ffn1.project_out.weight",
        "degradation": f"{DEGRADATION}d_conv.2.weight",
        "restoration": f"{RESTORATION}r_conv.2.weight",
        "enlarged": f"{RESTORATION}upsample.conv2.weight",
    }
    for name in names.values():
        if name not in state:
            return Miss(f"no tensor {name}")
    outputs = {key: state[name].shape[0] for key, name in names.items()}
    channels = outputs["extractor"]
    config = FMANetConfig(
        channels=channels,
        frames=state[names["together"]].shape[1] // channels,
        pairs=outputs["flow"] // FLOW_PLANES,
        blocks=_count(state, rf"{re.escape(DEGRADATION)}FRMA_blocks\.(\d+)\."),
        attention=_count(state, rf"{re.escape(block)}multi_attn_block\.(\d+)\."),
        heads=outputs["temperature"],
        dense_blocks=_count(state, rf"{re.escape(extractor)}2\.RDBs\.(\d+)\."),
        dense_layers=_count(state, rf"{re.escape(extractor)}2\.RDBs\.0\.layer\.(\d+)\."),
        growth=outputs["growth"],
        hidden=state[names["hidden"]].shape[1],
        degradation_kernel=isqrt(outputs["degradation"]),
        restoration_kernel=isqrt(outputs["restoration"] // SCALE**2),
        training_heads=any(name.startswith(TRAINING_HEADS) for name in state),
    )
    if outputs["enlarged"] != channels * 4:
        return Miss(f"upsample.conv2 makes {outputs['enlarged']} planes; doubling {channels} takes {4 * channels}")
    for side, kind in ((config.degradation_kernel, "degradation"), (config.restoration_kernel * SCALE, "restoration")):
        if side**2 != outputs[kind]:
            return Miss(f"{names[kind]} makes {outputs[kind]} planes, which is no square kernel")
    if config.channels % config.pairs or config.channels % config.heads or config.channels % config.frames:
        return Miss(f"{channels} channels are not shared by {config.pairs} flows, {config.heads} heads and frames")
    return config


def _count(state: Mapping[str, Tensor], pattern: str) -> int:
    numbered = re.compile(pattern)
    return len({match[1] for name in state if (match := numbered.match(name))})
