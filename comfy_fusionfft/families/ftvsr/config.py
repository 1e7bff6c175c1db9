"""What distinguishes FTVSR networks, and how to read it off a file.

Names and shapes tell all but two numbers. How far key frames lie apart differs between the two published sets of
weights, and a wrong one loads cleanly and gives worse pictures; it must therefore be said when a file is converted, and
travels in its metadata from then on. Heads of the attention are 4 in both.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

from ...contract import Miss
from ...errors import CheckpointError

if TYPE_CHECKING:
    from torch import Tensor

SCALE = 4
"""Two pixel shuffles: no shape tells another one."""
PATCH = 4
"""Side of the patches that are compared with those of key frames, in pixels of the small picture."""
BLOCKS = 8
"""Side of the patches that attention compares, in blocks of the large picture."""
COLOURS = 3

_KEYFRAME_STEP, _HEADS = "ftvsr.keyframe_step", "ftvsr.heads"
_PREFIXES = ("module.", "_orig_mod.", "generator.")
_COUNTER = "step_counter"
_TRANSFORMS = ("FTT.dct.dct_conv.weight", "FTT.rdct.reverse_dct_conv.weight")


@dataclass(frozen=True)
class FTVSRConfig:
    """keyframe_step: every so many frames one is remembered: 3 (weights trained on REDS), 1 (on Vimeo-90K). heads: of
    the attention. channels: of a frame's features; extractor_blocks, blocks: residual blocks that make them, and that
    join them with what was carried along. coefficients: channels of what is made of a block's frequencies;
    coefficient_extractor_blocks, coefficient_blocks: as above. token: numbers in what attention compares, a few
    channels of 8×8 blocks. flow_levels: sizes at which motion is found, each twice the one before.
    """

    keyframe_step: int
    heads: int = 4
    channels: int = 64
    extractor_blocks: int = 5
    blocks: int = 60
    coefficients: int = 512
    coefficient_extractor_blocks: int = 3
    coefficient_blocks: int = 3
    token: int = 512
    flow_levels: int = 6

    scale = SCALE
    modulus = 16
    """Small pictures whose sides are multiples of this lie in whole patches of either kind."""


def canonical(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Names without what training leaves around them; the cosine transform is filled in where a file lacks it."""
    renamed = {}
    for name, tensor in state.items():
        while name.startswith(_PREFIXES):
            name = name.partition(".")[2]
        if name != _COUNTER:
            renamed[name] = tensor
    if "FTT.conv_layer1.weight" in renamed and not renamed.keys() >= set(_TRANSFORMS):
        from ...ops.dct import patterns  # torch, which recognising other files does not need

        renamed |= {name: renamed.get(name, patterns(COLOURS)) for name in _TRANSFORMS}
    return renamed


def detect(state: Mapping[str, Tensor], metadata: Mapping[str, str]) -> FTVSRConfig | Miss:
    """The sizes of a canonical state's network, or what is missing for it to be one of these.

    Raises CheckpointError for one of these whose metadata does not say what shapes cannot tell.
    """
    names = {
        "channels": "feat_extractor.main.0.weight",
        "fused": "LTAM.fusion.weight",
        "enlarged": "upsample2.upsample_conv.weight",
        "coefficients": "FTT.conv_layer1.weight",
        "token": "FTT.ftta.layer_q.weight",
    }
    for name in names.values():
        if name not in state:
            return Miss(f"no tensor {name}")
    sizes = {key: state[name].shape[0] for key, name in names.items()}
    if sizes["enlarged"] != 4 * sizes["channels"]:
        return Miss(f"upsample2 makes {sizes['enlarged']} planes; doubling {sizes['channels']} takes four times those")
    group, rest = divmod(sizes["token"], BLOCKS**2)
    if rest or not group or sizes["coefficients"] % group:
        return Miss(f"tokens of {sizes['token']} numbers are no {BLOCKS}×{BLOCKS} blocks of {sizes['coefficients']}")
    config = FTVSRConfig(
        keyframe_step=_said(metadata),
        heads=int(metadata.get(_HEADS, FTVSRConfig.heads)),
        channels=sizes["channels"],
        extractor_blocks=_count(state, r"feat_extractor\.main\.2\.(\d+)\."),
        blocks=_count(state, r"resblocks\.main\.2\.(\d+)\."),
        coefficients=sizes["coefficients"],
        coefficient_extractor_blocks=_count(state, r"FTT\.feat_extractor\.main\.2\.(\d+)\."),
        coefficient_blocks=_count(state, r"FTT\.resblocks\.main\.2\.(\d+)\."),
        token=sizes["token"],
        flow_levels=_count(state, r"spynet\.basic_module\.(\d+)\."),
    )
    shared = config.heads > 0 and config.token % config.heads == 0
    return config if shared else Miss(f"{config.token} numbers are not {config.heads} heads")


def describe(config: FTVSRConfig) -> dict[str, str]:
    return metadata(config.keyframe_step) | {_HEADS: str(config.heads)}


def metadata(keyframe_step: int) -> dict[str, str]:
    """What to say in ``checkpoints.convert``, which shapes cannot tell."""
    return {_KEYFRAME_STEP: str(keyframe_step)}


def _said(metadata: Mapping[str, str]) -> int:
    said = metadata.get(_KEYFRAME_STEP)
    if said is None:
        raise CheckpointError(
            "an FTVSR network, but names and shapes do not tell how far its key frames lie apart: say it with "
            "`fusionfft convert … --keyframe-step 3` for weights trained on REDS, 1 for those trained on Vimeo-90K"
        )
    if not said.isdecimal() or int(said) < 1:
        raise CheckpointError(
            f"an FTVSR network with a key-frame step of {said!r}: convert it again with a whole number"
        )
    return int(said)


def _count(state: Mapping[str, Tensor], pattern: str) -> int:
    numbered = re.compile(pattern)
    return len({match[1] for name in state if (match := numbered.match(name))})
