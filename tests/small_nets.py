"""Networks of a few weights, for tests of what is around them."""

from comfy_fusionfft.families.fmanet import FMANetConfig

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
