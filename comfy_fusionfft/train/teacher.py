from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import nn

from ..ops.splat import splat_average

SLOPE = 0.1


def _convs(*channels: int, first_stride: int = 1, first_size: int = 3) -> nn.Sequential:
    layers: list[nn.Module] = []
    for i, (c_in, c_out) in enumerate(zip(channels, channels[1:])):
        size, stride = (first_size, first_stride) if i == 0 else (3, 1)
        layers += [nn.Conv2d(c_in, c_out, size, stride, size // 2), nn.LeakyReLU(SLOPE)]
    return nn.Sequential(*layers)


def correlate(first, second, radius=4):
    height, width = first.shape[-2:]
    padded = F.pad(second, (radius,) * 4)
    offsets = range(2 * radius + 1)
    scores = [(first * padded[:, :, dy : dy + height, dx : dx + width]).mean(1) for dy in offsets for dx in offsets]
    return torch.stack(scores, dim=1)


class FeaturePyramid(nn.Module):
    def __init__(self):
        super().__init__()
        self.conv_stage1 = _convs(3, 24, 24, 24, first_stride=2)
        self.conv_stage2 = _convs(24, *[48] * 6, first_stride=2)

    def forward(self, image):
        return self.conv_stage2(self.conv_stage1(image))


class FlowEstimator(nn.Module):
    def __init__(self):
        super().__init__()
        self.conv_layer1 = _convs(81 + 2 * 48 + 64 + 4, 160, first_size=1)
        self.conv_layer2 = _convs(160, 128)
        self.conv_layer3 = _convs(128, 112)
        self.conv_layer4 = _convs(112, 96)
        self.conv_layer5 = _convs(96, 64)
        self.conv_layer6 = nn.Sequential(nn.Conv2d(64, 4, 3, padding=1))

    def forward(self, f0, f1, state, flow):
        x = torch.cat((F.leaky_relu(correlate(f0, f1), SLOPE), f0, f1, state, flow), 1)
        for i in range(1, 6):
            x = getattr(self, f"conv_layer{i}")(x)
        return self.conv_layer6(x), x


def _resize(x, factor):
    return F.interpolate(x, scale_factor=factor, mode="bilinear", align_corners=False)


class BiFlowNet(nn.Module):
    def __init__(self):
        super().__init__()
        self.feat_pyramid = FeaturePyramid()
        self.flow_estimator = FlowEstimator()

    def forward(self, img0, img1, levels):
        b, _, h, w = img0.shape
        q = 2 ** (levels + 1)
        flow = img0.new_zeros(b, 4, h // q, w // q)
        state = img0.new_zeros(b, 64, h // q, w // q)
        for level in reversed(range(levels)):
            a, c = (_resize(i, 0.5**level) if level else i for i in (img0, img1))
            if level < levels - 1:
                flow, state = 2 * _resize(flow, 2.0), _resize(state, 2.0)
                half = 0.5 * _resize(flow, 4.0)
                a, c = splat_average(a, half[:, :2])[0], splat_average(c, half[:, 2:])[0]
            f0, f1 = self.feat_pyramid(torch.cat((a, c))).chunk(2)
            flow, state = self.flow_estimator(f0, f1, state, flow)
        return _resize(flow, 4.0)
