"""IFNet: intermediate flow, from coarse to fine, for every RIFE of the 4.x line.

In: two frames ``(B, 3, H, W)``, RGB 0..1, and the instants ``t`` in (0, 1) between them. Out: for each
instant the motion to both frames and a mask logit that says how much of the left one to take
(``contract.Flow``). ``ops.warp.blend`` makes the picture.

A chain of blocks looks at the pair through ever finer glasses. Block i sees the frames and their encodings
shrunk by ``scales[i]`` and warped by the flow found so far, and adds to that flow. Convolutions run in the
dtype of the weights; flow, mask and warps are float32.

Source: Z. Huang et al., "Real-Time Intermediate Flow Estimation for Video Frame Interpolation", ECCV 2022.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ...contract import Flow
from ...errors import InputError
from ...ops.convolution import Conv2d
from ...ops.warp import backward_warp
from .config import FLOW_PLANES, MASK_PLANES, RIFEConfig

SLOPE = 0.2
LARGE_MOTION = 32
"""Pixels that the second block of 4.0 and 4.1 may add before the pair is looked at again from further away."""


class Pair(NamedTuple):
    """Two frames on top of their encodings, ``(B, 3 + h, H, W)`` float32 each, perhaps warped."""

    left: Tensor
    right: Tensor


class State(NamedTuple):
    """What a block adds to or hands on, at full resolution, float32."""

    flow: Tensor  # (B, 4, H, W)
    mask: Tensor  # (B, 1, H, W)
    carried: Tensor | None  # (B, carried_planes, H, W)


class ResConv(nn.Module):
    """``leaky(x + beta · conv(x))``, beta per channel."""

    def __init__(self, width: int, groups: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(width, width, 3, padding=1, groups=groups)
        self.beta = nn.Parameter(torch.ones(1, width, 1, 1))
        self._folded: tuple[Any, Tensor, Tensor] | None = None

    def folded(self) -> tuple[Tensor, Tensor]:
        """Weight and bias of the one convolution that leaves only ``leaky`` to do; computed again when they change."""
        weight, beta = self.conv.weight, self.beta.flatten()
        # Tensors of inference mode have no version, and do not change.
        key = tuple(
            (t.data_ptr(), t.dtype, 0 if t.is_inference() else t._version) for t in (*self.conv.parameters(), beta)
        )
        if self._folded is None or self._folded[0] != key:
            whole = weight.float() * beta.float().view(-1, 1, 1, 1)
            channels = torch.arange(len(weight), device=weight.device)
            whole[channels, channels % weight.shape[1], 1, 1] += 1
            bias = self.conv.bias * beta
            self._folded = key, whole.to(weight.dtype, memory_format=torch.channels_last), bias
        return self._folded[1:]

    def forward(self, x: Tensor) -> Tensor:
        y = self.conv(x)
        # Under autocast beta is float32, and would lift the whole residual stream to it.
        return F.leaky_relu(torch.addcmul(x, self.beta.to(y.dtype), y), SLOPE, inplace=True)


class Block(nn.Module):
    """One step of the chain: a stack of planes shrunk by s in, an update of the flow at full resolution out.

    All blocks but the last three keep float32 where a network is brought to bfloat16: they are a tenth of the
    arithmetic, and what 8 bits blur in them all later ones build on (45 instead of 58 dB from the float32 picture).
    """

    def __init__(self, config: RIFEConfig, index: int) -> None:
        super().__init__()
        self.exact = index < len(config.widths) - 3
        width, planes = config.widths[index], config.out_planes
        self.carried_planes = config.carried_planes if index + 1 < len(config.widths) else 0
        self.skip = config.prelu

        def conv(inputs: int, outputs: int, stride: int = 1) -> nn.Sequential:
            activation = nn.PReLU(outputs) if config.prelu else nn.LeakyReLU(SLOPE, inplace=True)
            return nn.Sequential(Conv2d(inputs, outputs, 3, stride, 1), activation)

        self.conv0 = nn.Sequential(conv(config.in_planes(index), width // 2, 2), conv(width // 2, width, 2))
        self.convblock = nn.Sequential(
            *(ResConv(width, config.groups) if config.body == "residual" else conv(width, width) for _ in range(8))
        )
        if config.shuffle:
            self.lastconv = nn.Sequential(nn.ConvTranspose2d(width, 4 * planes, 4, 2, 1), nn.PixelShuffle(2))
        else:
            self.lastconv = nn.ConvTranspose2d(width, planes, 4, 2, 1)

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> Block:
        def kept(tensor: Tensor) -> Tensor:
            made = fn(tensor)
            if not self.exact or made.dtype != torch.bfloat16:
                return made
            return torch.empty_like(made, dtype=torch.float32).copy_(tensor)  # on the device, in the layout of ``made``

        return super()._apply(kept, recurse)

    def forward(self, pair: Pair, times: Tensor, state: State | None, s: float) -> State:
        """pair: warped by ``state.flow``, if there is one. times: ``(B, 1, 1, 1)``. s: how much to shrink."""
        stack = self._stack(pair, times, state, s)
        x = self.conv0(stack.to(self.conv0[0][0].weight.dtype))  # (B, width, H/4s, W/4s)
        y = self.convblock(x)
        y = self.lastconv(y + x if self.skip else y)
        used = FLOW_PLANES + MASK_PLANES + self.carried_planes
        y = _resize(y[:, :used].float(), pair.left.shape[-2:])  # (B, used, H, W)
        grow = s if isinstance(self.lastconv, nn.Sequential) else 2 * s
        flow, mask, carried = y.split((FLOW_PLANES, MASK_PLANES, self.carried_planes), dim=1)
        return State(flow * grow, mask, carried if self.carried_planes else None)

    @staticmethod
    def _stack(pair: Pair, times: Tensor, state: State | None, s: float) -> Tensor:
        """Everything the block sees, ``(B, in_planes, H/s, W/s)``: shrunk piece by piece, joined when small."""
        height, width = (int(n / s) for n in pair.left.shape[-2:])
        left, right = (_resize(planes, (height, width)) for planes in pair)
        pieces = [left[:, :3], right[:, :3], left[:, 3:], right[:, 3:], times]
        if state is not None:
            rest = (state.mask, state.flow) if state.carried is None else (state.mask, state.carried, state.flow)
            *rest, flow = (_resize(planes, (height, width)) for planes in rest)
            pieces += [*rest, flow / s]
        return torch.cat([piece.expand(len(times), -1, height, width) for piece in pieces], dim=1)


class Encoder(nn.Sequential):
    """Planes worth knowing about one frame whatever its partner: ``(B, 3, H, W)`` -> ``(B, h, H, W)``."""

    def __init__(self, config: RIFEConfig) -> None:
        width, planes = config.head_width, config.head_planes
        first, last = nn.Conv2d(3, width, 3, 2, 1), nn.ConvTranspose2d(width, planes, 4, 2, 1)
        if config.head == "two":
            super().__init__(first, last)
            return
        layers: list[nn.Module] = [first]
        for _ in range(2):
            layers += [nn.LeakyReLU(SLOPE, inplace=True), nn.Conv2d(width, width, 3, 1, 1)]
        layers += [nn.LeakyReLU(SLOPE, inplace=True), last]
        if config.head == "four":
            super().__init__(*layers)
        else:
            kinds = ("cnn", "act")
            super().__init__(OrderedDict((f"{kinds[i % 2]}{i // 2}", layer) for i, layer in enumerate(layers)))

    def forward(self, img: Tensor) -> Tensor:
        return super().forward(img.to(self[0].weight.dtype))


class NoEncoder(nn.Module):
    """Stands in where frames have no encoding (4.0 to 4.6)."""

    def forward(self, img: Tensor) -> None:
        return None


class IFNet(nn.Module):
    """RIFE 4.0 to 4.26, configured by ``RIFEConfig``; the state dict has the published names.

    ``encode(img)`` gives a frame's planes ``(B, h, H, W)``, or None where the layout has no encoder. They
    depend on nothing but the frame: compute them once and hand them to every call the frame takes part in.
    """

    def __init__(self, config: RIFEConfig) -> None:
        super().__init__()
        self.config = config
        self.encode = NoEncoder() if config.head == "none" else Encoder(config)
        for index in range(len(config.widths)):
            self.add_module(f"block{index}", Block(config, index))

    @property
    def blocks(self) -> list[Block]:
        return [self.get_submodule(f"block{index}") for index in range(len(self.config.widths))]

    def forward(
        self,
        img0: Tensor,
        img1: Tensor,
        t: Tensor,
        features0: Tensor | None = None,
        features1: Tensor | None = None,
        *,
        scale: float = 1.0,
        ensemble: bool = False,
        all_levels: bool = False,
    ) -> Flow | list[Flow]:
        """Motion from the instants ``t`` to both frames.

        img0, img1: ``(B, 3, H, W)``, H and W multiples of ``config.modulus_at(scale)``; or one pair
            ``(1, 3, H, W)`` for many instants, which shares whatever does not depend on time.
        t: ``(B,)``, or a scalar for all of them.
        features0, features1: ``encode`` of the frames; computed here when absent.
        scale: look at the pair at this fraction of its resolution, one of ``USER_SCALES``.
        ensemble: average with the answer for the swapped pair; twice the work.
        all_levels: return the Flow after every block, coarse to fine, instead of the last one only.
        """
        self._check(img0, img1, scale, ensemble)
        times = t.to(img0.device, torch.float32).reshape(-1, 1, 1, 1)
        times = times.expand(max(len(times), len(img0)), 1, 1, 1)
        pair = Pair(self._with_features(img0, features0), self._with_features(img1, features1))
        scales = [s / scale for s in self.config.scales]
        if self.config.prelu and not self.training and len(times) > 1:
            # A sample may turn to coarser scales on its own; its neighbours must not follow.
            samples = zip(*(x.expand(len(times), -1, -1, -1).split(1) for x in (*pair, times)), strict=True)
            levels = [self._levels(Pair(a, b), time, scales, ensemble, all_levels) for a, b, time in samples]
            levels = [Flow(*map(torch.cat, zip(*level, strict=True))) for level in zip(*levels, strict=True)]
        else:
            levels = self._levels(pair, times, scales, ensemble, all_levels)
        return levels if all_levels else levels[-1]

    def _levels(self, pair: Pair, times: Tensor, scales: list[float], ensemble: bool, keep_all: bool) -> list[Flow]:
        first, *others = self.blocks
        state = first(pair, times, None, scales[0])
        if ensemble:
            state = _average(state, first(_swap_pair(pair), 1 - times, None, scales[0]))
        levels = [Flow(state.flow, state.mask)]
        for index, block in enumerate(others, start=1):
            warped = warp_pair(pair, state.flow)
            update = block(warped, times, state, scales[index])
            if index == 1 and self.config.prelu and not self.training and _is_large(update.flow):
                scales = [2 * s for s in scales]
                state = first(pair, times, None, scales[0])  # as published: this one is never ensembled
                levels = [Flow(state.flow, state.mask)]
                warped = warp_pair(pair, state.flow)
                update = block(warped, times, state, scales[index])
            if ensemble:
                update = _average(update, block(_swap_pair(warped), 1 - times, _swap_state(state), scales[index]))
            mask = state.mask + update.mask if self.config.accumulates_mask else update.mask
            state = State(state.flow + update.flow, mask, update.carried)
            level = Flow(state.flow, state.mask)
            levels = [*levels, level] if keep_all else [level]
        return levels

    def _with_features(self, img: Tensor, features: Tensor | None) -> Tensor:
        features = self.encode(img) if features is None else features
        return img.float() if features is None else torch.cat((img.float(), features.float()), dim=1)

    def _check(self, img0: Tensor, img1: Tensor, scale: float, ensemble: bool) -> None:
        height, width = img0.shape[-2:]
        modulus = self.config.modulus_at(scale)
        if img0.shape != img1.shape:
            raise InputError(f"frames of {tuple(img0.shape)} and {tuple(img1.shape)}; RIFE needs two of one size")
        if height % modulus or width % modulus:
            raise InputError(f"a {width}×{height} frame; pad it to multiples of {modulus} for this RIFE network")
        if ensemble and not self.config.can_ensemble:
            raise InputError("this RIFE network carries planes between blocks; it works without ensemble only")


def warp_pair(pair: Pair, flow: Tensor) -> Pair:
    """Both sides at the instant that ``flow``, ``(B, 4, H, W)``, leads away from."""
    return Pair(backward_warp(pair.left, flow[:, :2]), backward_warp(pair.right, flow[:, 2:]))


def _resize(planes: Tensor, size: tuple[int, int]) -> Tensor:
    if planes.shape[-2:] == tuple(size) or planes.shape[1] == 0:
        return planes
    return F.interpolate(planes, size=tuple(size), mode="bilinear", align_corners=False)


def _swap_flow(flow: Tensor) -> Tensor:
    return flow.roll(2, dims=1)


def _swap_pair(pair: Pair) -> Pair:
    return Pair(pair.right, pair.left)


def _swap_state(state: State) -> State:
    return State(_swap_flow(state.flow), -state.mask, None)


def _average(state: State, swapped: State) -> State:
    """The mean of what the pair and the swapped pair say."""
    back = _swap_state(swapped)
    return State((state.flow + back.flow) / 2, (state.mask + back.mask) / 2, None)


def _is_large(flow: Tensor) -> bool:
    left, right = (half.abs().amax() for half in flow.split(2, dim=1))
    return bool(torch.minimum(left, right) > LARGE_MOTION)
