"""FMA-Net: the frame in the middle of three blurred ones, sharper and four times as large.

In: frames ``(B, 3, T, H, W)``, **BGR** 0..1, of any size. The *degradation* net learns how each pixel moved and which
kernel blurred it; the *restoration* net makes, from that, kernels along the same motion that undo the blur, and what
kernels cannot make is added. Neither limits its picture to 0..1.

Features of a frame depend on that frame alone, through every block of both halves; what depends on the window is the
flow, the kernels, and what the frames say *together*. Flows, masks, kernels' sums and attention are float32.

Names and shapes are the published ones. Inside, clips are ``(B, T, C, H, W)``; at the doors ``(B, C, T, H, W)``.

Source: G. Youk et al., "FMA-Net: Flow-Guided Dynamic Filtering and Iterative Feature Refinement with Multi-Attention
for Joint Video Super-Resolution and Deblurring", CVPR 2024.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ...errors import InputError
from .config import FLOW_PLANES, FMANetConfig
from .filtering import enlarge, shrink
from .layers import (
    SLOPE,
    DenseBlock,
    MultiAttention,
    PictureConvolution,
    TimeConvolution,
    feature_extractor,
    two_convolutions,
)
from .warping import warp_frames, warp_groups


class Degradation(NamedTuple):
    """How a window was blurred.

    features: ``(B, C, T, H, W)``. flow: ``(B, 3·pairs, T, H, W)`` float32. kernels: logits ``(B, k², T, H, W)``.
    Where the network has its training heads: image_flow ``(B, 3, T, H, W)`` float32, x, y and mask logit from the sharp
    frame in the middle to each; anchor ``(B, 3, T, H, W)``, a sharp small picture that the features know.
    Where sharp frames were given: recon ``(B, 3, H, W)``, the blurred frame made of them; sharp_warped
    ``(B, 3, T, 4H, 4W)``, them at the instant of the one in the middle, times their masks.
    """

    features: Tensor
    flow: Tensor
    kernels: Tensor
    image_flow: Tensor | None
    anchor: Tensor | None
    recon: Tensor | None = None
    sharp_warped: Tensor | None = None


class Restoration(NamedTuple):
    """picture: ``(B, 3, 4H, 4W)`` float32. warped: ``(B, 3, T, H, W)``, the blurred frames at the instant of the one in
    the middle. flow: ``(B, 3, T, H, W)`` float32, which brought them there. anchor: ``(B, 3, T, H, W)``, None without
    training heads."""

    picture: Tensor
    warped: Tensor
    flow: Tensor
    anchor: Tensor | None


class Block(nn.Module):
    """FRMA: refines the features, the flow and what the frames say together. first: there is nothing said yet.
    finds: nor a flow. degraded: looks at kernels as well."""

    def __init__(self, config: FMANetConfig, *, first: bool, finds: bool, degraded: bool) -> None:
        super().__init__()
        width, planes, along = config.channels, config.flow_planes, config.channels * config.frames
        self.rdb = DenseBlock(config)
        self.conv_f = two_convolutions(2 * width if finds else 2 * width + planes, planes, planes)
        self.conv_Fw = PictureConvolution(along if first else width + along, width, 1)
        if degraded:
            self.rdb_KD = DenseBlock(config)
            self.conv_KD = PictureConvolution(along, width, 1)
        self.multi_attn_block = nn.ModuleList(
            MultiAttention(config, degraded=degraded) for _ in range(config.attention)
        )

    def forward(
        self, features: Tensor, together: Tensor | None, flow: Tensor | None, centre: Tensor, kernels: Tensor | None
    ) -> tuple[Tensor, Tensor, Tensor]:
        """features: ``(B, T, C, H, W)``. together, centre: ``(B, C, H, W)``. flow: ``(B, T, 3·pairs, H, W)``.
        kernels: ``(B, T, C, H, W)``. -> the first three anew."""
        features = self.rdb(features)
        everywhere = centre[:, None].expand_as(features)
        if flow is None:
            flow = self.conv_f(torch.cat((everywhere, features), 2)).float()
        else:
            warped = warp_groups(features, flow)
            flow = flow + self.conv_f(torch.cat((everywhere.float(), flow, warped), 2)).float()
        warped = across(warp_groups(features, flow))
        together = self.conv_Fw(warped if together is None else torch.cat((together.float(), warped), 1))
        blur = None if kernels is None else self.conv_KD(across(self.rdb_KD(kernels)))
        for attention in self.multi_attn_block:
            together = attention(together, centre, blur)
        return features, together, flow


class DegradationNet(nn.Module):
    def __init__(self, config: FMANetConfig) -> None:
        super().__init__()
        self.config, width = config, config.channels
        self.feature_extractor = feature_extractor(3, config)
        self.FRMA_blocks = nn.ModuleList(
            Block(config, first=i == 0, finds=i == 0, degraded=False) for i in range(config.blocks)
        )
        self.d_conv = two_convolutions(width // config.frames, width, config.degradation_kernel**2)
        if config.training_heads:
            self.f_conv = two_convolutions(config.flow_planes, config.flow_planes, FLOW_PLANES)
            self.a_conv = two_convolutions(width, width, 3)

    def forward(self, x: Tensor, y: Tensor | None = None) -> Degradation:
        frames = x.transpose(1, 2)
        features = self.feature_extractor(frames)
        centre = features[:, self.config.context]
        together = flow = None
        for block in self.FRMA_blocks:
            features, together, flow = block(features, together, flow, centre, None)
        kernels = self.d_conv(along(together, self.config.frames))
        image_flow = anchor = recon = sharp_warped = None
        if self.config.training_heads:
            image_flow, anchor = self.f_conv(flow).float(), self.a_conv(features)
        if y is not None:
            if image_flow is None:
                raise InputError("this FMA-Net has no training heads: start from weights that were converted with them")
            sharp_warped, shares = warp_frames(y.transpose(1, 2), image_flow, self.config.scale)
            recon = shrink(sharp_warped, shares, kernels, self.config.scale)
        made = (features, flow, kernels, image_flow, anchor)
        return Degradation(*map(turned, made), recon, turned(sharp_warped))


class RestorationNet(nn.Module):
    def __init__(self, config: FMANetConfig) -> None:
        super().__init__()
        self.config, width, planes = config, config.channels, config.flow_planes
        self.feature_extractor = feature_extractor(3 + width, config)
        self.FRMA_blocks = nn.ModuleList(
            Block(config, first=i == 0, finds=False, degraded=True) for i in range(config.blocks)
        )
        self.f_conv1 = two_convolutions(planes, planes, planes)
        self.d_conv = nn.Sequential(
            TimeConvolution(config.degradation_kernel**2, width),
            nn.LeakyReLU(SLOPE, inplace=True),
            TimeConvolution(width, width),
        )
        self.res_conv1, self.res_conv2 = PictureConvolution(width, width), PictureConvolution(width, 3)
        self.upsample = Upsample(width)
        taps = (config.restoration_kernel * config.scale) ** 2
        self.r_conv = two_convolutions(width // config.frames, width, taps)
        self.f_conv2 = two_convolutions(planes, planes, FLOW_PLANES)
        self.f_conv3 = two_convolutions(planes + 6, planes, FLOW_PLANES)
        if config.training_heads:
            self.a_conv = two_convolutions(width, width, 3)

    def forward(self, x: Tensor, degradation: Degradation) -> Restoration:
        frames = x.transpose(1, 2)
        known, flow = degradation.features.transpose(1, 2), degradation.flow.transpose(1, 2)
        features = self.feature_extractor(torch.cat((frames.to(known.dtype), known), 2))
        centre = features[:, self.config.context]
        flow = self.f_conv1(flow).float()
        kernels = self.d_conv(degradation.kernels).transpose(1, 2)
        together = None
        for block in self.FRMA_blocks:
            features, together, flow = block(features, together, flow, centre, kernels)
        residual = self.res_conv2(self.upsample(F.leaky_relu(self.res_conv1(together), SLOPE)))
        sharpening = self.r_conv(along(together, self.config.frames))
        warped, _ = warp_frames(frames, self.f_conv2(flow).float())
        middle = frames[:, self.config.context, None].expand_as(frames).float()
        image_flow = self.f_conv3(torch.cat((flow, warped, middle), 2)).float()
        warped, _ = warp_frames(frames, image_flow)
        picture = enlarge(warped, sharpening, self.config.scale) + residual.float()
        anchor = self.a_conv(features) if self.config.training_heads else None
        return Restoration(picture, *map(turned, (warped, image_flow, anchor)))


class Upsample(nn.Module):
    """Twice twice as large."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.conv1, self.conv2 = PictureConvolution(width, 4 * width), PictureConvolution(width, 4 * width)
        self.conv3 = PictureConvolution(width, width)

    def forward(self, picture: Tensor) -> Tensor:
        for conv in (self.conv1, self.conv2):
            picture = F.pixel_shuffle(F.leaky_relu(conv(picture), SLOPE), 2)
        return F.leaky_relu(self.conv3(picture), SLOPE)


class FMANet(nn.Module):
    """The network, configured by ``FMANetConfig``; the state dict has the published names."""

    def __init__(self, config: FMANetConfig | None = None) -> None:
        super().__init__()
        self.config = config = config or FMANetConfig()
        self.degradation_learning_network = DegradationNet(config)
        self.restoration_network = RestorationNet(config)

    def forward(self, x: Tensor) -> Tensor:
        """``(B, 3, T, H, W)`` BGR -> ``(B, 3, 4H, 4W)`` BGR float32."""
        return self.restoration(x, self.degradation(x)).picture

    def degradation(self, x: Tensor, y: Tensor | None = None) -> Degradation:
        """x: blurred frames ``(B, 3, T, H, W)``. y: sharp ones ``(B, 3, T, 4H, 4W)``, for training. All BGR."""
        self._check(x)
        scale = self.config.scale
        if y is not None and y.shape != (*x.shape[:3], scale * x.shape[3], scale * x.shape[4]):
            raise InputError(
                f"sharp frames of {tuple(y.shape)} for blurred ones of {tuple(x.shape)}: need {scale} times"
            )
        return self.degradation_learning_network(x, y)

    def restoration(self, x: Tensor, degradation: Degradation) -> Restoration:
        """x: as for ``degradation``, whose answer is wanted here."""
        self._check(x)
        return self.restoration_network(x, degradation)

    def _check(self, x: Tensor) -> None:
        if x.ndim != 5 or x.shape[1] != 3 or x.shape[2] != self.config.frames:
            raise InputError(f"frames of {tuple(x.shape)}; this FMA-Net needs (B, 3, {self.config.frames}, H, W)")


def across(clip: Tensor) -> Tensor:
    """``(B, T, C, H, W)`` -> ``(B, C·T, H, W)``, a channel's frames next to each other."""
    return clip.transpose(1, 2).flatten(1, 2)


def along(together: Tensor, frames: int) -> Tensor:
    """Undo ``across``: ``(B, C·T, H, W)`` -> ``(B, T, C, H, W)``."""
    return together.unflatten(1, (-1, frames)).transpose(1, 2)


def turned(clip: Tensor | None) -> Tensor | None:
    """``(B, T, C, H, W)`` <-> ``(B, C, T, H, W)``."""
    return None if clip is None else clip.transpose(1, 2)
