"""What distinguishes the RIFE networks 4.0 to 4.26, and how to read it off a file.

The 36 published versions are 17 layouts of one network; all but the list of block scales shows in the
names and shapes of the weights. Files carry it as metadata (``rife.scales``), and without metadata one
published network, 4.25.lite, is told apart by the width of its last block.

Source: Z. Huang et al., "Real-Time Intermediate Flow Estimation for Video Frame Interpolation", ECCV 2022,
and the version files of the Practical-RIFE releases.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from itertools import takewhile
from typing import TYPE_CHECKING, Literal

from ...contract import Miss
from ...errors import InputError

if TYPE_CHECKING:
    from torch import Tensor

USER_SCALES = (0.25, 0.5, 1.0, 2.0, 4.0)
"""Resolutions at which motion may be estimated, relative to the frame: below 1 for large frames."""

FLOW_PLANES, MASK_PLANES = 4, 1
_KEPT = re.compile(r"(block\d+|encode)\.")
_SCALES = {4: (8, 4, 2, 1), 5: (16, 8, 4, 2, 1)}
_SCALES_LITE = (32, 16, 8, 4, 1)
_LITE_WIDTH = 24
_COARSEST = 64
"""Frames are padded to multiples of it, so that a larger one would take memory at will."""


@dataclass(frozen=True)
class RIFEConfig:
    """One layout of the coarse-to-fine chain.

    widths: channels of each block, coarse to fine.
    scales: the factor by which each block shrinks its input.
    head: spelling and depth of the per-frame encoder: ``none``; ``two`` convolutions (4.7-4.9);
        ``four`` of them (4.10-4.12); or the same four under other ``named`` keys (from 4.13 on).
    head_width, head_planes: inner and output channels of the encoder, 0 without one.
    carried_planes: channels a block hands to the next beside flow and mask.
    body: a block's eight layers are ``plain`` convolutions or ``residual`` ones.
    groups: groups of the body's convolutions.
    prelu: the first generation (4.0, 4.1): learnt activation slopes, a skip over the body, and a second try
        at double scale when motion turns out large.
    shuffle: outputs go through a pixel shuffle and have the resolution of the block's input, else half.
    out_planes: channels a block puts out: flow, mask, carried planes, and in 4.6-4.20 an unused one.
    version: a label for people; versions of one layout cannot be told apart by their shapes.
    """

    widths: tuple[int, ...] = (192, 128, 96, 64, 32)
    scales: tuple[int, ...] = (16, 8, 4, 2, 1)
    head: Literal["none", "two", "four", "named"] = "named"
    head_width: int = 16
    head_planes: int = 4
    carried_planes: int = 8
    body: Literal["plain", "residual"] = "residual"
    groups: int = 1
    prelu: bool = False
    shuffle: bool = True
    out_planes: int = 13
    version: str | None = None

    @property
    def accumulates_mask(self) -> bool:
        """Blocks add to the mask logit (4.0-4.6) rather than replace it."""
        return self.head == "none"

    @property
    def can_ensemble(self) -> bool:
        """Averaging with the swapped pair is defined only while no planes are carried (4.0-4.20, 4.24)."""
        return self.carried_planes == 0

    @property
    def modulus(self) -> int:
        """Frame sizes must be multiples of this at scale 1: the coarsest block halves its input twice."""
        return 4 * max(self.scales) * (2 if self.prelu else 1)

    def modulus_at(self, scale: float) -> int:
        """Frame sizes must be multiples of this at user scale ``scale``, one of ``USER_SCALES``."""
        if scale not in USER_SCALES:
            allowed = ", ".join(f"{s:g}" for s in USER_SCALES)
            raise InputError(f"RIFE cannot estimate motion at scale {scale:g}; choose one of {allowed}")
        return max(self.modulus, int(self.modulus / scale))

    def in_planes(self, block: int) -> int:
        """Channels of the stack that block number ``block`` sees."""
        pair = 2 * (3 + self.head_planes) + 1  # two frames with their encodings, and the time
        return pair if block == 0 else pair + FLOW_PLANES + MASK_PLANES + self.carried_planes


def canonical(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Names as the network has them (``block0.…``, ``encode.…``), without what only training needs.

    Understands the ``module.`` of upstream's files and the ``flownet.`` and ``blocks.0.`` of ComfyUI's;
    drops the teacher, time calibration and refinement networks that some files carry along.
    """
    renamed = {}
    for name, tensor in state.items():
        while name.startswith(("module.", "flownet.")):
            name = name.partition(".")[2]
        name = re.sub(r"^blocks\.(\d+)\.", r"block\1.", name)
        if _KEPT.match(name):
            renamed[name] = tensor
    return renamed


def detect(state: Mapping[str, Tensor], metadata: Mapping[str, str]) -> RIFEConfig | Miss:
    """The layout of a canonical state, or what is missing for it to be a RIFE network of the 4.x line.

    Reads names and shapes only. Metadata ``rife.scales`` ("32 16 8 4 1") and ``rife.version`` win over
    what is inferred.
    """
    blocks = list(takewhile(lambda i: f"block{i}.conv0.0.0.weight" in state, range(100)))
    if not blocks:
        return Miss("no tensor block0.conv0.0.0.weight")
    if len(blocks) not in _SCALES:
        return Miss(f"{len(blocks)} blocks, 4.x has 4 or 5")

    def shape(name: str) -> tuple[int, ...]:
        return tuple(state[name].shape)

    needed = [f"block{i}.conv0.{layer}.0.weight" for layer in (1, 0) for i in blocks]
    residual = "block0.convblock.0.beta" in state
    needed.append("block0.convblock.0.conv.weight" if residual else "block0.convblock.0.0.weight")
    shuffle = "block0.lastconv.0.weight" in state
    last_layer = "block0.lastconv.0.weight" if shuffle else "block0.lastconv.weight"
    needed.append(last_layer)
    head, first, last = _head(state)
    needed += [first, last] if head != "none" else []
    for name in needed:
        if name not in state:
            return Miss(f"no tensor {name}")
        if len(shape(name)) != 4:
            return Miss(f"{name} is not a convolution")

    widths = tuple(shape(f"block{i}.conv0.1.0.weight")[0] for i in blocks)
    out_planes = shape(last_layer)[1] // (4 if shuffle else 1)
    head_width, head_planes = (shape(first)[0], shape(last)[1]) if head != "none" else (0, 0)
    in_first, in_second = (shape(f"block{i}.conv0.0.0.weight")[1] for i in (0, 1))
    scales = _scales(widths, metadata)
    if isinstance(scales, Miss):
        return scales
    config = RIFEConfig(
        widths=widths,
        scales=scales,
        head=head,
        head_width=head_width,
        head_planes=head_planes,
        carried_planes=in_second - in_first - FLOW_PLANES - MASK_PLANES,
        body="residual" if residual else "plain",
        groups=widths[0] // max(shape("block0.convblock.0.conv.weight")[1], 1) if residual else 1,
        prelu="block0.conv0.0.1.weight" in state,
        shuffle=shuffle,
        out_planes=out_planes,
        version=metadata.get("rife.version"),
    )
    if in_first != config.in_planes(0):
        return Miss(f"block0 takes {in_first} planes, its encoder implies {config.in_planes(0)}")
    if any(width < 2 or width % 2 or width % config.groups for width in widths) or out_planes < 5:
        return Miss(f"widths {widths} with {config.groups} groups and {out_planes} output planes cannot be built")
    if config.carried_planes not in (0, out_planes - FLOW_PLANES - MASK_PLANES):
        return Miss(f"block1 takes {in_second} planes, which its {out_planes} output planes do not explain")
    return config


def describe(config: RIFEConfig) -> dict[str, str]:
    """Metadata for what shapes cannot tell."""
    scales = {"rife.scales": " ".join(map(str, config.scales))}
    return scales | ({"rife.version": config.version} if config.version else {})


def _head(state: Mapping[str, Tensor]) -> tuple[Literal["none", "two", "four", "named"], str, str]:
    if "encode.cnn0.weight" in state:
        return "named", "encode.cnn0.weight", "encode.cnn3.weight"
    if "encode.6.weight" in state:
        return "four", "encode.0.weight", "encode.6.weight"
    if "encode.1.weight" in state:
        return "two", "encode.0.weight", "encode.1.weight"
    return "none", "", ""


def _scales(widths: tuple[int, ...], metadata: Mapping[str, str]) -> tuple[int, ...] | Miss:
    given = metadata.get("rife.scales")
    if given is None:
        return _SCALES_LITE if widths[4:] == (_LITE_WIDTH,) else _SCALES[len(widths)]
    numbers = re.findall(r"\d+", given[:100])
    scales = tuple(int(n) for n in numbers)
    powers = all(0 < s <= _COARSEST and s & (s - 1) == 0 for s in scales)
    if re.fullmatch(r"[\d\s,]+", given) is None or len(scales) != len(widths) or not powers:
        return Miss(f"metadata rife.scales is {given[:60]!r}, {len(widths)} powers of two up to {_COARSEST} are needed")
    return scales
