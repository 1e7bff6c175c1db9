"""WaveletVFI: the frame half-way between two others, built from wavelet coefficients where there is detail.

In: two frames ``(B, 3, H, W)``, RGB 0..1, sides multiples of 16. A motion net finds how both move towards the
instant, a context net brings their features there, and the synthesis predicts Haar coefficients, coarse to fine. On the
three finer levels only places are computed where the level before found details above a threshold, a share of the
brightness range that the network chooses for each sample, or that is given.

Convolutions run in the dtype of the weights; motion, warps, thresholds and coefficients are float32. Names and shapes
are the published ones. Samples of a batch do not influence each other.

Source: L. Kong et al., "Dynamic Frame Interpolation in Wavelet Domain", IEEE TIP 2023.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ...errors import InputError
from ...ops.memory import numbers
from ...ops.wavelet import synthesise
from .config import LEVELS, RATIOS, WaveletVFIConfig
from .context import ContextNet
from .layers import ExactConvolution, ExactStep
from .motion import Motion, MotionNet
from .sparse import DetailConvolution, FeatureStep, Sparsity, lean, plain

GAINS = (1, 2, 4, 8)
"""Factors of the predicted details, from half the size down: a constant's coefficients double with each level."""
LOW_GAIN = 16


class Synthesis(NamedTuple):
    """picture: ``(B, 3, H, W)`` float32, not yet limited to 0..1. low: ``(B, 3, H/16, W/16)``, its coarsest band.
    details: ``(B, 3, 3, H/2ᵏ, W/2ᵏ)`` float32, from half the size down.
    masks: ``(B, 1, H/2ᵏ, W/2ᵏ)`` bool for k = 1, 2, 3: where details were computed.
    cost: ``(B,)`` multiplications of these three levels, relative to computing everything."""

    picture: Tensor
    low: Tensor
    details: tuple[Tensor, ...]
    masks: tuple[Tensor, ...]
    cost: Tensor


class WaveletVFI(nn.Module):
    """The network, configured by ``WaveletVFIConfig``; the state dict has the published names."""

    def __init__(self, config: WaveletVFIConfig | None = None) -> None:
        super().__init__()
        self.config = config = config or WaveletVFIConfig()
        self.ifnet = MotionNet(config)
        self.contextnet = ContextNet(config)
        width = config.features[-1]
        self.conv4 = ExactStep(config.synthesis_inputs(LEVELS), width)
        self.conv4_l = ExactConvolution(width, 3)
        self.conv4_h = ExactConvolution(width, 9)
        for level in range(LEVELS - 1, 0, -1):
            width = config.features[level - 1]
            self.add_module(f"conv{level}", FeatureStep(3 * config.context[level - 1], config.features[level], width))
            self.add_module(f"conv{level}_h", DetailConvolution(width))

    def forward(
        self, left: Tensor, right: Tensor, ratio: float | None = None, *, sparsity: Sparsity | None = None
    ) -> tuple[Synthesis, Motion]:
        """ratio: threshold as a share of the range of brightness, one of ``RATIOS`` or any other; None: the network's
        choice. sparsity: when to leave out places; None computes all and multiplies by the mask, and so does whatever
        needs gradients."""
        self._check(left, right)
        motion = self.ifnet(left, right)
        context = self.contextnet(left.float(), right.float(), motion)
        ratios = self.chosen(motion.logits) if ratio is None else motion.logits.new_full((len(left),), ratio)
        return self.synthesis(context, ratios, sparsity), motion

    @staticmethod
    def chosen(logits: Tensor) -> Tensor:
        """``(B, 4)`` -> the network's thresholds ``(B,)``."""
        return numbers(RATIOS, logits.device)[logits.argmax(1)]

    def synthesis(
        self, context: list[tuple[Tensor, Tensor, Tensor]], ratios: Tensor, sparsity: Sparsity | None = None
    ) -> Synthesis:
        """context: of ``ContextNet``. ratios: ``(B,)``."""
        if sparsity is None or torch.is_grad_enabled():
            return self._synthesis(context, ratios, None)
        samples = [
            self._synthesis([tuple(p[i : i + 1] for p in pieces) for pieces in context], ratios[i : i + 1], sparsity)
            for i in range(len(ratios))
        ]
        return samples[0] if len(samples) == 1 else _together(samples)

    def _synthesis(
        self, context: list[tuple[Tensor, Tensor, Tensor]], ratios: Tensor, sparsity: Sparsity | None
    ) -> Synthesis:
        features = self.conv4(torch.cat(context[-1], 1))
        coarsest = self.conv4_l(features).float() * LOW_GAIN
        found = GAINS[-1] * self.conv4_h(features).float().unflatten(1, (3, 3))  # B colours bands h w
        if sparsity is not None:
            features = F.pad(features, (1, 1, 1, 1)).contiguous(memory_format=torch.channels_last)
        low, details, masks = synthesise(coarsest, found), [found], []
        spent = whole = 0.0
        for level in range(LEVELS - 1, 0, -1):
            step, detail = self.get_submodule(f"conv{level}"), self.get_submodule(f"conv{level}_h")
            mask = active(low, found, ratios)
            wide = F.max_pool2d(mask.float(), 3, 1, 1)
            pieces = context[level - 1]
            if sparsity is None:
                features, found = plain(step, detail, torch.cat(pieces, 1), features, mask, wide)
            else:
                how = {"gather": sparsity.gathers(wide, step[0].weight.dtype), "keep": level > 1}
                features, found = lean(step, detail, pieces, features, mask, wide, **how)
            found = GAINS[level - 1] * found.unflatten(1, (3, 3))
            low = synthesise(low, found)
            details.insert(0, found)
            masks.insert(0, mask)
            share = 4.0 ** (1 - level)
            work = [share * conv.in_channels * conv.out_channels for conv in (step[0], detail)]
            spent = spent + work[0] * wide.mean((1, 2, 3)) + work[1] * mask.float().mean((1, 2, 3))
            whole += sum(work)
        return Synthesis(low, coarsest, tuple(details), tuple(masks), spent / whole)

    def _check(self, left: Tensor, right: Tensor) -> None:
        height, width = left.shape[-2:]
        if left.shape != right.shape:
            raise InputError(f"frames of {tuple(left.shape)} and {tuple(right.shape)}; it needs two of one size")
        if height % self.config.modulus or width % self.config.modulus:
            raise InputError(f"a {width}×{height} frame; pad it to multiples of {self.config.modulus} for WaveletVFI")


def _together(samples: list[Synthesis]) -> Synthesis:
    """A batch of what was computed one by one."""
    joined = []
    for parts in zip(*samples, strict=True):
        several = isinstance(parts[0], tuple)
        joined.append(tuple(map(torch.cat, zip(*parts, strict=True))) if several else torch.cat(parts))
    return Synthesis(*joined)


@torch.no_grad()
def active(low: Tensor, details: Tensor, ratios: Tensor) -> Tensor:
    """Where the next finer level has work to do: ``(B, 1, 2h, 2w)`` bool.

    low: ``(B, 3, 2h, 2w)``, the picture so far. details: ``(B, 3, 3, h, w)`` of the level before. A place counts if in
    any colour a detail exceeds the share ``ratios (B,)`` of that colour's range.
    """
    thresholds = (low.amax((2, 3)) - low.amin((2, 3))) * ratios[:, None]
    above = details.abs().amax(2) > thresholds[:, :, None, None]
    return above.any(1, keepdim=True).repeat_interleave(2, 2).repeat_interleave(2, 3)
