"""FusionNet: several warped views of an instant become one picture.

In: ``FusionInput``. Out: ``(B, C, H, W)`` float32. In between

1. ``trajectory`` corrects motion before anything is warped,
2. every valid frame is warped to the instant: 2N views,
3. one shared ``encoder`` looks at every anchor's two views, at 1/4, 1/8 and 1/16 of the resolution,
4. ``attention`` lets the nearest anchor learn from all others at 1/8 and 1/16,
5. the ``decoder`` rises to the full resolution, where a softmax over the 2N views chooses per pixel, and
   gates add a small residual, grain and the best single view.

At the start the answer is the nearest pair's plain blend, exactly: all departures hang on layers that are
zero. Widths scale with ``FusionConfig.base_channels``; weights and convolutions may be half precision,
motion, warps and the softmax are float32. Everything after the warps is local, so it may run in tiles.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ...ops.bicubic import bicubic_warp
from .attention import PyramidCrossAttention
from .blocks import (
    TIME_CODE,
    AdaptiveFrequencyDecoupling,
    Residual,
    TemporalGuidanceModule,
    Upsample,
    activate,
    conv,
    time_code,
    zero,
)
from .config import FusionConfig
from .grain import ContentSkip, NoiseInject
from .inputs import FusionInput
from .trajectory import TrajectoryRefinement

STRIDE = 16
"""Pictures are padded to, and tiles start at, multiples of this."""
MARGIN = 96
"""Pixels around a tile that are computed and thrown away; the views' influence fades within them."""
APRON = 32
"""Pixels by which the picture is continued on all sides for the network: at the border of what they see, convolutions
of 16-pixel cells print their raster on the picture."""
PLANES = 2 * 12 + 2 * 4 + 4 + 2 + 2 + 1
FAR = 2.5
"""How much less likely the second anchor is chosen than the first before anything is learnt: exp(-2.5) = 0.08.
It falls with the logarithm of the step, so that the fifth one, 0.003, still gets a gradient."""


class Stage(nn.Module):
    """One scale of the encoder: guided by time, and split by frequency while there is fine detail to split."""

    def __init__(self, width: int, *, guided: bool, split: bool = True) -> None:
        super().__init__()
        self.guidance = TemporalGuidanceModule(width) if guided else None
        self.conv = conv(width, width)
        self.frequencies = AdaptiveFrequencyDecoupling(width) if split else nn.Identity()

    def forward(self, x: Tensor, code: Tensor) -> Tensor:
        if self.guidance is not None:
            x = self.guidance(x, code)
        x = activate(x)
        return self.frequencies(x + activate(self.conv(x)))


class AnchorEncoder(nn.Module):
    """Two warped views and what is known about them -> features at three scales, for any anchor."""

    def __init__(self, config: FusionConfig) -> None:
        super().__init__()
        high, mid, low = config.widths
        guided = config.use_temporal_guidance
        self.stem = conv(PLANES, high, stride=2)
        self.high = Stage(high, guided=guided)
        self.down_mid = conv(high, mid, stride=2)
        self.mid = Stage(mid, guided=guided)
        self.down_low = conv(mid, low, stride=2)
        self.low = Stage(low, guided=guided, split=False)

    def forward(self, planes: Tensor, code: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """planes ``(B, PLANES, H/2, W/2)``; code ``(B, TIME_CODE)`` -> high, mid, low."""
        high = self.high(self.stem(planes), code)
        mid = self.mid(self.down_mid(high), code)
        return high, mid, self.low(self.down_low(mid), code)


class TemporalPrior(nn.Module):
    """Logits over the views, from nothing but their places in time: the nearer the likelier."""

    def __init__(self) -> None:
        super().__init__()
        self.refine = zero(nn.Linear(TIME_CODE, 2))

    def forward(self, code: Tensor, valid: Tensor) -> Tensor:
        """code ``(B, N, TIME_CODE)``, valid ``(B, N, 2)`` -> ``(B, N, 2)`` float32, -inf where invalid."""
        steps = torch.arange(valid.shape[1], device=valid.device)[:, None]
        logits = self.refine(code.to(self.refine.weight.dtype)).float() - FAR * (steps + 1).log2()
        return logits.masked_fill(~valid, -math.inf)


class Verdict(NamedTuple):
    """What the decoder says about every pixel, float32: ``score (B, N, 2, H, W)``, and gates ``(B, 6, H, W)``
    (mixture, three of residual, grain, content)."""

    score: Tensor
    gates: Tensor


class Decoder(nn.Module):
    """From the enriched features of the nearest anchor up to scores for every view of every anchor."""

    GATES = 6

    def __init__(self, config: FusionConfig) -> None:
        super().__init__()
        (high, mid, low), half = config.widths, config.half
        evidence = 2 * half // 3
        self.low = Residual(low, expand=3)
        self.up_mid, self.mid = Upsample(low, mid), conv(mid, mid)
        self.up_high, self.high = Upsample(mid, high), conv(high, high)
        self.up_half = Upsample(high, half)
        self.evidence, self.up_evidence = conv(PLANES, evidence), Upsample(high, evidence)
        self.merge = conv(half + evidence, half)
        self.shared = conv(half, evidence, size=1)
        self.score = conv(evidence, 2 * 4)
        self.gates = zero(nn.Conv2d(half, self.GATES * 4, 3, padding=1))
        with torch.no_grad():
            self.score.weight.mul_(0.1)

    def forward(self, planes: Tensor, high: Tensor, mid: Tensor, low: Tensor) -> Verdict:
        """planes ``(B, N, PLANES, H/2, W/2)``, high ``(B, N, …, H/4, W/4)``; mid and low are the enriched ones."""
        batch, anchors = planes.shape[:2]
        x = activate(self.up_mid(self.low(low)) + mid)
        x = activate(self.up_high(activate(self.mid(x))) + high[:, 0])
        x = self.up_half(activate(self.high(x)))
        evidence = self.evidence(planes.flatten(0, 1)) + self.up_evidence(high.flatten(0, 1))
        evidence = evidence.unflatten(0, (batch, anchors))
        x = activate(self.merge(torch.cat((activate(x), F.leaky_relu(evidence[:, 0])), dim=1)))
        judged = activate((evidence + self.shared(x)[:, None]).flatten(0, 1))
        score = F.pixel_shuffle(self.score(judged), 2).float().unflatten(0, (batch, anchors))
        return Verdict(score, F.pixel_shuffle(self.gates(x), 2).float())


class FusionNet(nn.Module):
    """The network; ``forward`` says what it computes."""

    def __init__(self, config: FusionConfig | None = None) -> None:
        super().__init__()
        self.config = config = config or FusionConfig()
        _, mid, low = config.widths
        self.trajectory = TrajectoryRefinement(config)
        self.encoder = AnchorEncoder(config)
        self.prior = TemporalPrior()
        self.attention_mid = PyramidCrossAttention(mid, config.heads, config.points)
        self.attention_low = PyramidCrossAttention(low, config.heads, config.points)
        self.decoder = Decoder(config)
        self.noise_inject = NoiseInject()
        self.content_skip = ContentSkip()

    def forward(self, x: FusionInput, *, quadratic: bool = True, tile: int | None = None) -> Tensor:
        """The pictures ``(B, C, H, W)`` at the instants of ``x``, for any H and W.

        quadratic: start from the closed quadratic form rather than from straight motion.
        tile: side of the squares that the network after the warps is run in, a multiple of 16 above 128;
            None for the whole picture at once.
        """
        height, width = x.mask.shape[-2:]
        x = _ready(x)
        correction = self.trajectory(x, quadratic=quadratic)
        motion = x.motion + correction.unflatten(1, (2, 2))[:, None]
        views = warp_views(x.frames, motion)
        plain = blend(views, x.mask)
        code = self._code(x)
        prior = self.prior(code, x.valid)
        planes = _with_apron(self._planes(x, motion, views, plain))
        verdict = self._judge(planes, code, prior) if tile is None else self._judge_tiled(planes, code, prior, tile)
        verdict = Verdict(*(part[..., APRON:-APRON, APRON:-APRON] for part in verdict))
        return self._compose(x.mask, views, plain, prior, verdict)[..., :height, :width]

    def _code(self, x: FusionInput) -> Tensor:
        steps = torch.arange(x.valid.shape[1], device=x.time.device)
        span = 2.0 * steps + 1
        return time_code((x.time[:, None] + steps) / span, span.expand(len(x.time), -1))  # (B, N, TIME_CODE)

    def _planes(self, x: FusionInput, motion: Tensor, views: Tensor, plain: Tensor) -> Tensor:
        """What the network looks at, ``(B, N, PLANES, H/2, W/2)`` in its own precision."""
        anchors = x.valid.shape[1]
        dtype = self.encoder.stem.weight.dtype
        colour = views[:, :, :, :3]
        dispute = (colour - plain[:, None, None, :3]).abs_().mean(3)  # (B, N, 2, H, W)
        dispute = torch.where(x.valid[..., None, None], dispute, 0)
        seen = torch.cat((colour.flatten(2, 3).to(dtype), dispute.to(dtype)), dim=2)
        seen = F.pixel_unshuffle(seen, 2)  # (B, N, 32, H/2, W/2)

        coarse = motion[..., ::2, ::2]
        height, width = coarse.shape[-2:]
        at_x = coarse[:, :, :, 0] + 2 * torch.arange(width, device=coarse.device)
        at_y = coarse[:, :, :, 1] + 2 * torch.arange(height, device=coarse.device)[:, None]
        inside = (at_x >= 0) & (at_x <= 2 * width - 1) & (at_y >= 0) & (at_y <= 2 * height - 1)
        steps = torch.arange(anchors, device=coarse.device)
        away = torch.stack((x.time[:, None] + steps, 1 - x.time[:, None] + steps), dim=2)  # frames from t to each
        speed = (coarse / (32 * away[..., None, None, None])).tanh().flatten(2, 3)
        known = x.valid[..., None, None].expand(-1, -1, -1, height, width)
        mask = (x.mask[..., ::2, ::2] / 4).tanh()[:, None].expand(-1, anchors, -1, -1, -1)
        return torch.cat((seen, *(p.to(dtype) for p in (speed, inside & known, known, mask))), dim=2)

    def _judge(self, planes: Tensor, code: Tensor, prior: Tensor) -> Verdict:
        """Local in space: what it says about a pixel depends on its surroundings only."""
        batch, anchors = planes.shape[:2]
        features = self.encoder(planes.flatten(0, 1), code.flatten(0, 1))
        high, mid, low = (f.unflatten(0, (batch, anchors)) for f in features)
        among = prior.logsumexp(2)  # a side that exists is enough for an anchor to be asked
        return self.decoder(planes, high, self.attention_mid(mid, among), self.attention_low(low, among))

    def _judge_tiled(self, planes: Tensor, code: Tensor, prior: Tensor, tile: int) -> Verdict:
        core = tile - 2 * MARGIN
        if core < STRIDE or tile % STRIDE:
            raise ValueError(f"tile {tile} is not a multiple of {STRIDE} above {2 * MARGIN}: use 256, 512, …")
        height, width = 2 * planes.shape[-2], 2 * planes.shape[-1]
        batch, anchors = planes.shape[:2]
        score = torch.empty(batch, anchors, 2, height, width, device=planes.device)
        gates = torch.empty(batch, Decoder.GATES, height, width, device=planes.device)
        for y in range(0, height, core):
            for x in range(0, width, core):
                top, left = max(0, y - MARGIN), max(0, x - MARGIN)
                part = planes[..., top // 2 : (y + core + MARGIN) // 2, left // 2 : (x + core + MARGIN) // 2]
                inner = (..., slice(y - top, y - top + core), slice(x - left, x - left + core))
                made = self._judge(part, code, prior)
                score[..., y : y + core, x : x + core] = made.score[inner]
                gates[..., y : y + core, x : x + core] = made.gates[inner]
        return Verdict(score, gates)

    def _compose(self, mask: Tensor, views: Tensor, plain: Tensor, prior: Tensor, verdict: Verdict) -> Tensor:
        logits = verdict.score + prior[..., None, None]
        # RIFE's mask is the near views' own prior: alone, they would be mixed as it says.
        near = torch.cat((mask, -mask), dim=1)[:, None] / 2
        logits = torch.cat((logits[:, :1] + near, logits[:, 1:]), dim=1).flatten(1, 2)
        weight = logits.softmax(1)  # (B, 2N, H, W)
        flat = views.flatten(1, 2)
        mixed = (flat * weight[:, :, None]).sum(1)
        mix, residual, grain, content = verdict.gates.split((1, 3, 1, 1), dim=1)
        departure = mix * (mixed - plain) + self.content_skip(mixed, flat, logits, content)
        colour = residual + grain * self.noise_inject(views[:, 0, :, :3])
        if plain.shape[1] == 3:
            return plain + departure + colour
        # Premultiplied: what is added must not outshine its own opacity.
        out = plain + departure
        return torch.cat((out[:, :3] + colour * plain[:, 3:].clamp(0, 1), out[:, 3:]), dim=1)


def warp_views(frames: Tensor, motion: Tensor) -> Tensor:
    """Frames ``(B or 1, N, 2, C, H, W)`` along motion ``(B, N, 2, 2, H, W)`` -> ``(B, N, 2, C, H, W)``."""
    shape = motion.shape[:3]
    frames = frames.expand(shape[0], -1, -1, -1, -1, -1).flatten(0, 2)
    return bicubic_warp(frames, motion.flatten(0, 2)).unflatten(0, shape)


def blend(views: Tensor, mask: Tensor) -> Tensor:
    """The nearest pair's plain answer ``(B, C, H, W)`` from its two views, mixed by the mask logit."""
    return torch.lerp(views[:, 0, 1], views[:, 0, 0], mask.sigmoid())


def _with_apron(planes: Tensor) -> Tensor:
    """``(B, N, C, H/2, W/2)`` continued on all sides."""
    wide = F.pad(planes.flatten(0, 1), (APRON // 2,) * 4, mode="replicate")
    return wide.unflatten(0, planes.shape[:2])


def _ready(x: FusionInput) -> FusionInput:
    """Invalid frames and motion blanked, so that not even NaN leaks from them; sizes on the stride."""
    hidden = ~x.valid[..., None, None, None]
    frames = x.frames.float()
    if frames.shape[0] != hidden.shape[0]:
        frames = frames.expand(hidden.shape[0], -1, -1, -1, -1, -1)
    x = x._replace(frames=frames.masked_fill(hidden, 0), motion=x.motion.float().masked_fill(hidden, 0))
    height, width = x.mask.shape[-2:]
    missing = (0, -width % STRIDE, 0, -height % STRIDE)
    if not any(missing):
        return x

    def pad(t: Tensor) -> Tensor:
        return F.pad(t.flatten(0, -4), missing, mode="replicate").unflatten(0, t.shape[:-3])

    return x._replace(frames=pad(x.frames), motion=pad(x.motion), mask=pad(x.mask))
