"""The frequency transformer: made frames improved once more, as coefficients of their 8×8 blocks.

Pictures here are large ones, sides multiples of 8; what is made of their coefficients is ``(B, C, H/8, W/8)``.
Attention compares tokens, 64 places of a few channels, all with all within a frame; time enters as what is carried
along motion.

Source: Z. Qiu et al., "Learning Spatiotemporal Frequency-Transformer for Compressed Video Super-Resolution", ECCV 2022.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ...errors import InputError
from ...ops import dct
from ...ops.precision import Float32, exactly
from ...ops.warp import backward_warp
from .config import BLOCKS, COLOURS, FTVSRConfig
from .layers import SLOPE, Convolution, ResidualBlocks

SCORE_BYTES = 1 << 28
"""Of scores that exist at a time on devices without fused attention."""
_FUSED = ("cpu", "cuda", "xpu")


class Transform(Float32):
    """The cosine transform; its patterns are weights, which some training lets drift."""

    def __init__(self) -> None:
        super().__init__()
        self.dct_conv = nn.Conv2d(COLOURS, COLOURS * dct.PATTERNS, dct.SIDE, dct.SIDE, groups=COLOURS, bias=False)
        self.dct_conv.weight = nn.Parameter(dct.patterns(COLOURS))

    def forward(self, picture: Tensor) -> Tensor:
        with exactly(picture.device):
            return dct.analyse(picture.float(), self.dct_conv.weight)


class InverseTransform(Float32):
    def __init__(self) -> None:
        super().__init__()
        planes = COLOURS * dct.PATTERNS
        self.reverse_dct_conv = nn.ConvTranspose2d(planes, COLOURS, dct.SIDE, dct.SIDE, groups=COLOURS, bias=False)
        self.reverse_dct_conv.weight = nn.Parameter(dct.patterns(COLOURS))

    def forward(self, coefficients: Tensor) -> Tensor:
        with exactly(coefficients.device):
            return dct.synthesise(coefficients.float(), self.reverse_dct_conv.weight)


class MultiheadAttention(nn.Module):
    """Names as in ``torch.nn``; here weights of what is compared never exist as a whole."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.in_proj_weight = nn.Parameter(torch.empty(3 * width, width))
        self.in_proj_bias = nn.Parameter(torch.zeros(3 * width))
        self.out_proj = nn.Linear(width, width)
        nn.init.xavier_uniform_(self.in_proj_weight)

    def forward(self, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        """All ``(B, L, width)``."""
        seen = zip((q, k, v), self.in_proj_weight.chunk(3), self.in_proj_bias.chunk(3), strict=True)
        q, k, v = (F.linear(*each).unflatten(2, (self.heads, -1)).transpose(1, 2) for each in seen)  # B heads L c
        return self.out_proj(attention(q, k, v).transpose(1, 2).flatten(2))


def attention(q: Tensor, k: Tensor, v: Tensor, rows: int | None = None) -> Tensor:
    """``(B, heads, L, c)``. rows: of ``q`` at a time; by default all, or few where scores would be written down."""
    if rows is None:
        row_bytes = q.shape[0] * q.shape[1] * k.shape[2] * 4
        rows = q.shape[2] if q.device.type in _FUSED else max(1, SCORE_BYTES // row_bytes)
    if rows >= q.shape[2]:
        return F.scaled_dot_product_attention(q, k, v)
    return torch.cat([F.scaled_dot_product_attention(part, k, v) for part in q.split(rows, 2)], 2)


class FrequencyAttention(nn.Module):
    """FTTA: ``q`` seen through ``v``, as ``k`` resembles it."""

    def __init__(self, config: FTVSRConfig) -> None:
        super().__init__()
        width = config.token
        self.layer_q, self.layer_k, self.layer_v = (nn.Linear(width, width) for _ in range(3))
        self.MultiheadAttention = MultiheadAttention(width, config.heads)
        self.norm1, self.norm2 = nn.LayerNorm(width), nn.LayerNorm(width)
        self.linear1, self.linear2 = nn.Linear(width, width), nn.Linear(width, width)

    def forward(self, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        """All ``(B, C, H, W)``; zero beyond whole patches of 8×8 places."""
        height, width = (side // BLOCKS * BLOCKS for side in q.shape[2:])
        if not (height and width):
            sides = [side * BLOCKS // FTVSRConfig.scale for side in (q.shape[3], q.shape[2])]
            need = BLOCKS * dct.SIDE // FTVSRConfig.scale
            raise InputError(
                f"a {sides[0]}×{sides[1]} picture is too small for FTVSR: it needs {need} or more, so pad it"
            )
        made = self.compared(*(self._tokens(each, height, width) for each in (q, k, v)))
        made = made.view(len(q), -1, height // BLOCKS, width // BLOCKS, made.shape[2] // BLOCKS**2, BLOCKS, BLOCKS)
        made = made.permute(0, 1, 4, 2, 5, 3, 6).reshape(len(q), q.shape[1], height, width)
        return F.pad(made, (0, q.shape[3] - width, 0, q.shape[2] - height))

    def compared(self, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        """All ``(B, L, width)``."""
        v = self.layer_v(v)
        made = self.norm1(self.MultiheadAttention(self.layer_q(q), self.layer_k(k), v) + v)
        return self.linear2(self.norm2(made + F.leaky_relu(self.linear1(made), SLOPE)))

    def _tokens(self, x: Tensor, height: int, width: int) -> Tensor:
        """``(B, groups · patches, channels · 64)``: some channels of a patch."""
        channels = self.layer_q.in_features // BLOCKS**2
        x = x[..., :height, :width].to(self.layer_q.weight.dtype)
        x = x.unflatten(3, (-1, BLOCKS)).unflatten(2, (-1, BLOCKS)).unflatten(1, (-1, channels))  # B g c y r x s
        return x.permute(0, 1, 3, 5, 2, 4, 6).flatten(4).flatten(1, 3)


class FrequencyTransformer(nn.Module):
    """FTT. A frame is ``known``, then joined with what was carried to it, and at last made of both directions."""

    def __init__(self, config: FTVSRConfig) -> None:
        super().__init__()
        width = config.coefficients
        self.dct, self.rdct = Transform(), InverseTransform()
        self.conv_layer1 = Convolution(COLOURS * dct.PATTERNS, width, 1)
        self.feat_extractor = ResidualBlocks(width, width, config.coefficient_extractor_blocks)
        self.resblocks = ResidualBlocks(2 * width, width, config.coefficient_blocks)
        activation = nn.LeakyReLU(SLOPE, inplace=True)
        self.fusion = nn.Sequential(Convolution(3 * width, width, 1), activation, Convolution(width, width, 1))
        self.ftta = FrequencyAttention(config)
        self.conv_layer2 = Convolution(width, COLOURS * dct.PATTERNS, 1)

    def known(self, picture: Tensor) -> Tensor:
        """Features of a picture ``(B, 3, H, W)``."""
        coefficients = F.normalize(self.dct(picture).flatten(2), dim=2).view(
            len(picture), -1, *(side // dct.SIDE for side in picture.shape[2:])
        )
        return self.feat_extractor(self.conv_layer1(coefficients))

    def asked(self, enlarged: Tensor, features: Tensor) -> Tensor:
        """What a frame asks of others, whichever side they come from: ``enlarged``, the frame as merely resized, seen
        through the features of the one made."""
        return self.ftta(self.known(enlarged), features, features)

    def carried(
        self, features: Tensor, state: Tensor | None = None, question: Tensor | None = None, flow: Tensor | None = None
    ) -> Tensor:
        """What goes on to the next frame. state: what came from the last one, the frame's question to it, and the
        motion to it; None for the first frame."""
        if state is None:
            state = torch.zeros_like(features)
        else:
            state = backward_warp(state, flow)
            state = self.ftta(question, state, state)
        return self.resblocks(torch.cat((features, state.to(features.dtype)), 1))

    def made(self, backward: Tensor, features: Tensor, forward: Tensor, picture: Tensor) -> Tensor:
        """The picture improved, ``(B, 3, H, W)`` float32."""
        found = self.conv_layer2(self.fusion(torch.cat((backward, features, forward), 1)))
        return self.rdct(found.float() + self.dct(picture)) + picture
