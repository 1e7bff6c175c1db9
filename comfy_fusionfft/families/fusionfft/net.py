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
motion, warps and the softmax are float32. Everything after the warps is local, so all that happens at the full and
at half the resolution runs in strips of rows, each with what it needs from its neighbours: the answer does not depend
on them. On a CPU they keep the work in its cache, on large pictures they save memory; else the picture is one strip.
With gradients it always is.
"""

from __future__ import annotations

import math
from collections.abc import Iterator

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ...ops.strips import strip_rows, strips
from .attention import PyramidCrossAttention
from .blocks import (
    TIME_CODE,
    AdaptiveFrequencyDecoupling,
    Residual,
    Stem,
    TemporalGuidanceModule,
    Upsample,
    activate,
    conv,
    time_code,
    zero,
)
from .config import FusionConfig
from .grain import GRAIN_REACH, ContentSkip, NoiseInject
from .inputs import FusionInput, blanked, cut
from .rearrange import shuffle
from .trajectory import SHRINK, Strip, TrajectoryRefinement, bend, correct, joined
from .views import PLANES, Sight, blend, warp_views

STRIDE = 16
"""Pictures are continued to multiples of this."""
APRON = 32
"""Pixels by which the picture is continued on all sides for the network: at the border of what they see, convolutions
of 16-pixel cells print their raster on the picture."""
FAR = 2.5
"""How much less likely the second anchor is chosen than the first before anything is learnt: exp(-2.5) = 0.08.
It falls with the logarithm of the step, so that the fifth one, 0.003, still gets a gradient."""


class Stage(nn.Module):
    """One scale of the encoder: guided by time, and split by frequency while there is fine detail to split."""

    REACH = 2
    """Cells beyond a place that it depends on."""

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
        self.stem = Stem(PLANES, high, stride=2)
        self.high = Stage(high, guided=guided)
        self.down_mid = conv(high, mid, stride=2)
        self.mid = Stage(mid, guided=guided)
        self.down_low = conv(mid, low, stride=2)
        self.low = Stage(low, guided=guided, split=False)

    def forward(self, stem: Tensor, code: Tensor, rows: int) -> tuple[Tensor, Tensor, Tensor]:
        """What the stem made, ``(B, high, H/4, W/4)``, and code ``(B, TIME_CODE)`` -> high, mid, low.

        rows: that are worked on at a time.
        """
        high = in_strips(self.high, stem, code, rows)
        mid = in_strips(self.mid, self.down_mid(high), code, rows)
        return high, mid, in_strips(self.low, self.down_low(mid), code, rows)


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


class Decoder(nn.Module):
    """From the enriched features of the nearest anchor up to scores for every view of every anchor."""

    GATES = 6
    REACH = 2
    """Cells of half the resolution beyond a place that ``forward`` depends on."""

    def __init__(self, config: FusionConfig) -> None:
        super().__init__()
        (high, mid, low), half = config.widths, config.half
        evidence = 2 * half // 3
        self.low = Residual(low, expand=3)
        self.up_mid, self.mid = Upsample(low, mid), conv(mid, mid)
        self.up_high, self.high = Upsample(mid, high), conv(high, high)
        self.up_half = Upsample(high, half)
        self.evidence, self.up_evidence = Stem(PLANES, evidence), Upsample(high, evidence)
        self.merge = conv(half + evidence, half)
        self.shared = conv(half, evidence, size=1)
        self.score = conv(evidence, 2 * 4)
        self.gates = zero(nn.Conv2d(half, self.GATES * 4, 3, padding=1))
        with torch.no_grad():
            self.score.weight.mul_(0.1)

    def rise(self, high: Tensor, mid: Tensor, low: Tensor) -> Tensor:
        """The nearest anchor's features at three scales, mid and low the enriched ones -> those at 1/4."""
        x = activate(self.up_mid(self.low(low)) + mid)
        x = activate(self.up_high(activate(self.mid(x))) + high)
        return activate(self.high(x))

    def forward(self, x: Tensor, high: Tensor, evidence: Tensor) -> tuple[Tensor, Tensor]:
        """x ``(B, …, H/4, W/4)`` from ``rise``, high ``(B·N, …, H/4, W/4)``, evidence ``(B·N, …, H/2, W/2)``.

        -> score ``(B·N, 2·4, H/2, W/2)`` for each side, and gates ``(B, GATES·4, H/2, W/2)``: mixture, three of
        residual, grain, content; four sub-pixels of each.
        """
        x = self.up_half(x)
        evidence = (evidence + self.up_evidence(high)).unflatten(0, (len(x), -1))
        x = activate(self.merge(torch.cat((activate(x), F.leaky_relu(evidence[:, 0])), dim=1)))
        judged = activate((evidence + self.shared(x)[:, None]).flatten(0, 1))
        return self.score(judged), self.gates(x)


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
        tile: strips shall have no more pixels than a square of this side; None for what suits the device.
        """
        if x.mask.device.type == "cpu" and len(x.time) > 1 and not torch.is_grad_enabled():
            return torch.cat([self._fuse(each, quadratic, tile) for each in _one_by_one(x)])
        return self._fuse(x, quadratic, tile)

    def _fuse(self, x: FusionInput, quadratic: bool, tile: int | None) -> Tensor:
        if torch.is_grad_enabled():  # a gradient meets what is in a frame even where nothing is taken from it
            valid = x.valid.flatten(1).unbind(1)
            frames = [blanked(p, there[:, None, None, None]) for p, there in zip(x.pictures, valid, strict=True)]
            x = x._replace(frames=frames)
        height, width = x.mask.shape[-2:]
        size = (height + -height % STRIDE, width + -width % STRIDE)
        rows = _rows(size, tile, x.mask.device)
        parts = [_strip(x, part, size) for part in strips(size[0], rows)]
        learnt = self.trajectory(parts, quadratic=quadratic)
        code = self._code(x)
        prior = self.prior(code, x.valid)

        sight = Sight(size, APRON // 2, self.encoder.stem.weight.dtype)
        warped, greys, stems, evidence = [], [], [], []
        for part in parts:
            here = correct(part, learnt, quadratic=quadratic)
            views = warp_views(here, part.top)
            seen = sight(here, views, part.top)
            first, last = part.top == 0, part is parts[-1]
            stems.append(self.encoder.stem(seen)[:, :, 0 if first else 1 :])
            # A row's evidence is complete when the next one has been seen.
            evidence.append(self.decoder.evidence(seen)[:, :, 0 if first else 1 : None if last else -1])
            warped.append((part.top, here.mask, views))
            greys.append(torch.stack([view[:, :3].mean(1) for view in views[:2]], 1))

        evidence, grey = joined(evidence), joined(greys)
        batch = len(x.time)
        high, mid, low = self.encoder(joined(stems), code.flatten(0, 1), rows // SHRINK)
        among = prior.logsumexp(2)  # a side that exists is enough for an anchor to be asked
        mid, low = (
            attention(f.unflatten(0, (batch, -1)), among)
            for attention, f in ((self.attention_mid, mid), (self.attention_low, low))
        )
        fine = self.decoder.rise(high.unflatten(0, (batch, -1))[:, 0], mid, low)

        pictures = []
        for top, mask, views in warped:
            part = slice(top, top + mask.shape[-2])
            score, gates = self._judge(fine, high, evidence, part)
            made = self._compose(mask, views, self._grain(grey, part), prior, score, gates)
            pictures.append(made[:, :, : height - top, :width])
        return joined(pictures)

    def _code(self, x: FusionInput) -> Tensor:
        steps = torch.arange(x.valid.shape[1], device=x.time.device)
        span = 2.0 * steps + 1
        return time_code((x.time[:, None] + steps) / span, span.expand(len(x.time), -1))  # (B, N, TIME_CODE)

    def _judge(self, fine: Tensor, high: Tensor, evidence: Tensor, part: slice) -> tuple[Tensor, Tensor]:
        """Features of the picture with its apron -> score ``(B, N, 2, rows, W)`` and gates ``(B, 6, rows, W)``."""

        def around(t: Tensor, cell: int) -> Tensor:
            margin = 2 * Decoder.REACH // cell
            apron = APRON // cell - margin
            rows = slice(part.start // cell + apron, part.stop // cell + apron + 2 * margin)
            return t[:, :, rows, apron : t.shape[-1] - apron]

        inner = (..., slice(Decoder.REACH, -Decoder.REACH), slice(Decoder.REACH, -Decoder.REACH))
        score, gates = self.decoder(around(fine, 4), around(high, 4), around(evidence, 2))
        return shuffle(score[inner]).float().unflatten(0, (len(fine), -1)), shuffle(gates[inner]).float()

    def _grain(self, grey: Tensor, part: slice) -> Tensor:
        top, bottom = max(part.start - GRAIN_REACH, 0), min(part.stop + GRAIN_REACH, grey.shape[-2])
        return self.noise_inject(grey[:, :, top:bottom])[:, :, part.start - top : part.stop - top]

    def _compose(
        self, mask: Tensor, views: list[Tensor], grain: Tensor, prior: Tensor, score: Tensor, gates: Tensor
    ) -> Tensor:
        logits = (score + prior[..., None, None]).flatten(1, 2)  # (B, 2N, H, W)
        # RIFE's mask is the near views' own prior: alone, they would be mixed as it says.
        logits[:, :2] += torch.cat((mask, -mask), dim=1) / 2
        weight = logits.softmax(1)
        mix, residual, grainy, content = gates.split((1, 3, 1, 1), dim=1)
        left = mask.sigmoid()
        # The answer is a sum of views throughout, so they are added up once.
        share = mix * weight + self.content_skip(weight, content)
        share[:, :2] += (1 - mix) * torch.cat((left, 1 - left), dim=1)
        made = views[0] * share[:, :1]
        for k, view in enumerate(views[1:], 1):
            made = made.addcmul_(view, share[:, k : k + 1])
        colour = residual + grainy * grain
        if made.shape[1] == 3:
            return made.add_(colour)
        # Premultiplied: what is added must not outshine its own opacity.
        opacity = blend(views[0][:, 3:], views[1][:, 3:], mask).clamp(0, 1)
        return torch.cat((made[:, :3] + colour * opacity, made[:, 3:]), dim=1)


def in_strips(stage: Stage, x: Tensor, code: Tensor, rows: int) -> Tensor:
    """``stage(x, code)``, ``rows`` rows at a time and on a CPU one picture at a time."""
    height = x.shape[-2]
    if (rows >= height and x.device.type != "cpu") or torch.is_grad_enabled():
        return stage(x, code)
    made = torch.empty_like(x)
    each = 1 if x.device.type == "cpu" else len(x)
    for now, then, known in zip(x.split(each), made.split(each), code.split(each), strict=True):
        for part in strips(height, rows):
            top, bottom = max(part.start - Stage.REACH, 0), min(part.stop + Stage.REACH, height)
            then[:, :, part] = stage(now[:, :, top:bottom], known)[:, :, part.start - top : part.stop - top]
    return made


def _strip(x: FusionInput, rows: slice, size: tuple[int, int]) -> Strip:
    part = cut(x, rows, size)
    return Strip(part, bend(part.anchors), rows.start)


def _rows(size: tuple[int, int], tile: int | None, device: torch.device) -> int:
    """Rows of a strip, a multiple of the stride."""
    if torch.is_grad_enabled():
        return size[0]
    rows = strip_rows(size[0], size[1], device)
    if tile:
        rows = min(rows, max(tile * tile // size[1], 1))
    return min(rows + -rows % STRIDE, size[0])


def _one_by_one(x: FusionInput) -> Iterator[FusionInput]:
    """Each instant alone: a CPU gains nothing from several at once."""
    for i in range(len(x.time)):
        each = slice(i, i + 1)
        frames = [picture[each] if len(picture) > 1 else picture for picture in x.pictures]
        yield FusionInput(frames, x.motion[each], x.mask[each], x.valid[each], x.time[each])
