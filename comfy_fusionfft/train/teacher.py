"""The teacher: a small bidirectional flow network whose answers the student learns to give.

In: two RGB pictures in 0..1. Out: the motion 0→1 and 1→0 in pixels at full size. The network is the flow
part of EBME ("Enhanced Bi-directional Motion Estimation for Video Frame Interpolation", Jin, Shen, Chen,
Koo & Hahm, WACV 2023). Its 0.63 M weights are third-party (Apache-2.0) and never part of this project;
training works without them. Module names follow the authors' files, so that those load strictly.

One small estimator serves every level of an image pyramid, coarse to fine. At each level both pictures are
splatted half-way along the flow found so far, so what is left to find is the small remaining motion between
two guesses of the middle picture; features at a quarter of the level's size are correlated over 9×9 shifts.

With plain splatting of both frames (``ops.splat.splat_blend``) it reaches 35.14 dB on Middlebury other
(3 levels); with ``ops.intermediate`` 35.25 dB.
"""

from __future__ import annotations

import math
from itertools import pairwise
from pathlib import Path
from typing import Literal

import torch
import torch.nn.functional as F
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor, nn

from ..contract import Flow, Position
from ..errors import CheckpointError, InputError
from ..ops.correlate import correlate
from ..ops.intermediate import intermediate_flow
from ..ops.pad import crop, pad_to
from ..ops.splat import splat_average

MAX_LEVELS = 8

_SLOPE = 0.1
_RADIUS = 4
_SHIFTS = (2 * _RADIUS + 1) ** 2
_FEATURES = 48
_STATE = 64  # channels the estimator hands from level to level beside the flow


def _convs(*channels: int, kernel: int = 3, stride: int = 1) -> nn.Sequential:
    """Convolutions through ``channels``, each followed by a leaky ReLU; only the first one strides."""
    layers: list[nn.Module] = []
    for c_in, c_out in pairwise(channels):
        layers += [nn.Conv2d(c_in, c_out, kernel, stride, kernel // 2), nn.LeakyReLU(_SLOPE)]
        stride = 1
    return nn.Sequential(*layers)


def _resize(image: Tensor, factor: float) -> Tensor:
    return F.interpolate(image, scale_factor=factor, mode="bilinear", align_corners=False)


class FeaturePyramid(nn.Module):
    """``(B, 3, H, W)`` -> ``(B, 48, H/4, W/4)``."""

    def __init__(self) -> None:
        super().__init__()
        self.conv_stage1 = _convs(3, 24, 24, 24, stride=2)
        self.conv_stage2 = _convs(24, *[_FEATURES] * 6, stride=2)

    def forward(self, image: Tensor) -> Tensor:
        return self.conv_stage2(self.conv_stage1(image))


class FlowEstimator(nn.Module):
    """Features of both pictures, the state and the flow so far -> flow ``(B, 4, h, w)``, state ``(B, 64, h, w)``."""

    def __init__(self) -> None:
        super().__init__()
        self.conv_layer1 = _convs(_SHIFTS + 2 * _FEATURES + _STATE + 4, 160, kernel=1)
        self.conv_layer2 = _convs(160, 128)
        self.conv_layer3 = _convs(128, 112)
        self.conv_layer4 = _convs(112, 96)
        self.conv_layer5 = _convs(96, _STATE)
        self.conv_layer6 = nn.Sequential(nn.Conv2d(_STATE, 4, 3, padding=1))

    def forward(self, features0: Tensor, features1: Tensor, state: Tensor, flow: Tensor) -> tuple[Tensor, Tensor]:
        matches = F.leaky_relu(correlate(features0, features1, _RADIUS), _SLOPE)
        state = torch.cat((matches, features0, features1, state, flow), dim=1)
        for layer in (self.conv_layer1, self.conv_layer2, self.conv_layer3, self.conv_layer4, self.conv_layer5):
            state = layer(state)
        return self.conv_layer6(state), state


class BiFlowNet(nn.Module):
    """Two pictures ``(B, 3, H, W)`` -> flow ``(B, 4, H, W)``: 0→1 (x, y), 1→0 (x, y), in pixels.

    Height and width must be divisible by ``2 ** (levels + 1)``.
    """

    def __init__(self) -> None:
        super().__init__()
        self.feat_pyramid = FeaturePyramid()
        self.flow_estimator = FlowEstimator()

    def forward(self, img0: Tensor, img1: Tensor, levels: int) -> Tensor:
        batch, _, height, width = img0.shape
        images = torch.cat((img0, img1))
        coarsest = 2 ** (levels + 1)
        flow = images.new_zeros(batch, 4, height // coarsest, width // coarsest)
        state = images.new_zeros(batch, _STATE, height // coarsest, width // coarsest)
        for level in reversed(range(levels)):
            pictures = _resize(images, 0.5**level) if level else images
            if level < levels - 1:
                flow, state = 2 * _resize(flow, 2), _resize(state, 2)
                # The flow is in the level's pixels while its grid has a quarter of the level's size.
                half_way = _resize(flow, 4) / 2
                pictures, _ = splat_average(pictures, torch.cat(half_way.split(2, dim=1)))  # (2B, 3, h, w)
            features0, features1 = self.feat_pyramid(pictures).chunk(2)
            flow, state = self.flow_estimator(features0, features1, state, flow)
        return _resize(flow, 4)


class Teacher(nn.Module):
    """The network with its weights and the rules around it: level count, padding, precision.

    path: a safetensors file with the weights of the authors' bi-flownet.
    levels: pyramid levels, 1 to 8 (3 as trained, 5 for large motion); None: by the size of the pictures.

    Raises InputError when the file is missing or ``levels`` out of range, CheckpointError when it holds
    something else.
    """

    def __init__(self, path: str | Path, levels: int | None = None) -> None:
        super().__init__()
        if levels is not None and not 1 <= levels <= MAX_LEVELS:
            raise InputError(f"{levels} pyramid levels: give 1 to {MAX_LEVELS}, or None to go by the picture's size")
        self.levels = levels
        self.net = BiFlowNet()
        self._load(Path(path))
        self.eval().requires_grad_(False)

    def _load(self, path: Path) -> None:
        if not path.is_file():
            raise InputError(
                f"no teacher weights at {path}: the teacher is an optional third-party network (EBME's bi-flownet, "
                "Apache-2.0, as safetensors); name its file, or train without a teacher, on DIS flow or pictures alone"
            )
        try:
            self.net.load_state_dict(load_file(path), strict=True)
        except (SafetensorError, RuntimeError) as error:
            reason = " ".join(str(error).split())
            raise CheckpointError(
                f"{path} is not the teacher: EBME's bi-flownet as safetensors is needed ({reason[:200]})"
            ) from error

    def levels_for(self, height: int, width: int) -> int:
        """Pyramid levels for a picture: the authors' rule, 3 at 448 pixels and one more each time that doubles.

        The longer side counts (theirs is the width), and fewer than the 3 of training are never used.
        """
        if self.levels is not None:
            return self.levels
        return min(max(math.ceil(math.log2(max(height, width) / 448)) + 3, 3), MAX_LEVELS)

    @torch.no_grad()
    def bidirectional(self, img0: Tensor, img1: Tensor) -> tuple[Tensor, Tensor]:
        """Two pictures ``(B, 3, H, W)`` in 0..1 -> flow 0→1 and 1→0, each ``(B, 2, H, W)`` float32 pixels.

        Any size; padded inside by repeating the border. Float32 throughout, also under autocast.
        """
        if img0.shape != img1.shape or img0.ndim != 4 or img0.shape[1] != 3:
            raise InputError(
                f"pictures of shape {tuple(img0.shape)} and {tuple(img1.shape)}: "
                "give the teacher two RGB pictures of one size, (B, 3, H, W)"
            )
        levels = self.levels_for(*img0.shape[-2:])
        with torch.autocast(img0.device.type, enabled=False):
            padded0, size = pad_to(img0.float(), 2 ** (levels + 1), "replicate")
            padded1, _ = pad_to(img1.float(), 2 ** (levels + 1), "replicate")
            flow = crop(self.net(padded0, padded1, levels), size)
        return flow[:, :2], flow[:, 2:]

    forward = bidirectional


class TeacherFlow:
    """The teacher as a ``contract.FlowSource``, through ``ops.intermediate``, which has the measurements."""

    modulus: int = 1
    padding: Literal["zeros", "replicate"] = "replicate"

    def __init__(self, teacher: Teacher) -> None:
        self.teacher = teacher

    def features(self, image: Tensor, position: Position | None = None) -> None:
        """Nothing is worth keeping: the network sees the two frames warped to each other at every level."""

    def flow(self, left: Tensor, right: Tensor, left_features: None, right_features: None, times: Tensor) -> Flow:
        """``(1, 3, H, W)`` twice in 0..1 and times ``(T,)`` in (0, 1) -> Flow for these instants."""
        return intermediate_flow(*self.teacher.bidirectional(left, right), times)
