"""The motion net: how both frames move towards the instant half-way between them, and how much detail it will take.

From coarse to fine over a pyramid of features: at each size both frames' features are warped by the motion found so
far, and a decoder adds to it, at twice the size. The coarsest one also answers which threshold is to be used.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ...ops.warp import backward_warp
from .config import LEVELS, MOTION_PLANES, RATIOS, WaveletVFIConfig
from .layers import SLOPE, Exact, Step


class Motion(NamedTuple):
    """flow: ``(B, 4, H, W)`` float32 pixels, to the left frame (x, y) and to the right. mask: ``(B, 1, H, W)`` float32
    logit of the left one's share. logits: ``(B, 4)`` float32, of the thresholds ``RATIOS``."""

    flow: Tensor
    mask: Tensor
    logits: Tensor


class Decoder(nn.Module):
    """``(B, inputs, h, w)`` -> features of its fifth layer, and ``(B, 5, 2h, 2w)`` float32."""

    def __init__(self, inputs: int, width: int, classes: int = 0) -> None:
        super().__init__()
        self.conv1 = Step(inputs, width)
        for number in range(2, 6):
            self.add_module(f"conv{number}", Step(width, width))
        self.conv6 = nn.ConvTranspose2d(width, MOTION_PLANES, 4, 2, 1)
        if classes:
            self.classifier = nn.Sequential(
                Step(width, width, 2),
                nn.AdaptiveAvgPool2d(1),
                nn.Flatten(),
                nn.Linear(width, width),
                nn.LeakyReLU(SLOPE, inplace=True),
                nn.Linear(width, classes),
            )

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        for number in range(1, 6):
            x = self.get_submodule(f"conv{number}")(x)
        return x, self.conv6(x).float()


class ExactDecoder(Exact, Decoder):
    """A decoder that keeps float32."""


class MotionNet(nn.Module):
    def __init__(self, config: WaveletVFIConfig) -> None:
        super().__init__()
        widths = (3, *config.pyramid)
        for level in range(1, LEVELS + 1):
            before, width = widths[level - 1 : level + 1]
            self.add_module(f"pconv{level}", nn.Sequential(Step(before, width, 2), Step(width, width)))
        for level in range(LEVELS, 0, -1):
            kind = ExactDecoder if level > 2 else Decoder
            classes = len(RATIOS) if level == LEVELS else 0
            self.add_module(f"decoder{level}", kind(config.decoder_inputs(level), config.decoders[level - 1], classes))

    def forward(self, left: Tensor, right: Tensor) -> Motion:
        """left, right: ``(B, 3, H, W)``, sides multiples of 16."""
        left, right = left.float(), right.float()
        mean = (left.mean((1, 2, 3), keepdim=True) + right.mean((1, 2, 3), keepdim=True)) / 2
        pyramids = [self.pyramid(frame - mean) for frame in (left, right)]
        found, features = None, None
        for level in range(LEVELS, 0, -1):
            views = [pyramid.pop() for pyramid in pyramids]
            if found is not None:
                views = [backward_warp(v, found[:, 2 * i : 2 * i + 2]) for i, v in enumerate(views)]
                views.append(found.to(views[0].dtype))
            deep, update = self.get_submodule(f"decoder{level}")(torch.cat(views, 1))
            features = deep if features is None else features
            found = update if found is None else update + _twice(found)
        return Motion(found[:, :4], found[:, 4:], self.decoder4.classifier(features).float())

    def pyramid(self, frame: Tensor) -> list[Tensor]:
        """Features of a frame at a half, a quarter, an eighth and a sixteenth of its size."""
        levels = []
        for level in range(1, LEVELS + 1):
            frame = self.get_submodule(f"pconv{level}")(frame)
            levels.append(frame)
        return levels


def _twice(found: Tensor) -> Tensor:
    """Motion, in pixels, and mask logits on a grid twice as fine."""
    grown = F.interpolate(found, scale_factor=2, mode="bilinear", align_corners=False)
    return torch.cat((2 * grown[:, :4], grown[:, 4:]), 1)
