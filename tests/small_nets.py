"""Networks of a few weights, for tests of what is around them."""

from comfy_fusionfft.families.fmanet import FMANetConfig
from comfy_fusionfft.families.ftvsr import FTVSRConfig

FMANET = FMANetConfig(
    channels=12,
    pairs=3,
    blocks=1,
    attention=1,
    heads=2,
    dense_blocks=1,
    dense_layers=1,
    growth=4,
    hidden=8,
    degradation_kernel=4,
    restoration_kernel=3,
)
FTVSR = FTVSRConfig(
    keyframe_step=2,
    channels=8,
    extractor_blocks=1,
    blocks=2,
    coefficients=16,
    coefficient_extractor_blocks=1,
    coefficient_blocks=1,
    token=128,
    flow_levels=3,
)
