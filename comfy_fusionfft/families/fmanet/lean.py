"""The same answer as ``FMANet.forward`` in a fraction of the memory: what restoration runs.

As published, hundreds of planes exist at once, some of them four times as high and wide as the frames. Here all that
is local is made in patches of a size that caches like; between them only the planes of ``channels`` stay that the next
step reads elsewhere: features, because they are warped, and what the frames say together, because attention compares
channels over the whole picture. Its sums are gathered patch by patch before it mixes any.

A frame's features depend on that frame alone: ``features`` makes them once, whatever windows the frame is in.

None of it is an approximation; sums merely run in another order. Where weights are of half precision, flows, masks, the
sums of attention, and what is added up from block to block are float32, and so is the picture.

*Maps* are whole pictures ``(1, C, H, W)`` in channels_last.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from .chains import convolved, dense, depthwise, inside, over_time, two
from .config import FMANetConfig
from .filtering import continued, enlarge_inner
from .layers import SLOPE, Attention, DenseBlock, FeedForward, LayerNorm
from .net import Block, FMANet
from .patches import Patch, patches
from .warping import warp_groups, warp_masked

PATCH = 96
"""Side of a patch on a CPU. What convolutions make of it stays near the caches; margins are a fifth of the work."""
ENLARGED_PATCH = 32
"""The same for what ends four times as high and wide."""
PATCH_ELSEWHERE = 256
"""For both, where large kernels are what is fast."""


class Features(NamedTuple):
    """Maps of one frame: what either half of the network begins with."""

    degradation: Tensor
    restoration: Tensor


class LeanFMANet:
    """Runs a network without gradients, one window at a time.

    empty: where maps get their memory. patch: side of patches; None: what suits the device. check: called before every
        pass over a picture; what it raises ends the work.
    """

    def __init__(
        self,
        net: FMANet,
        empty: Callable[..., Tensor] = torch.empty,
        patch: int | None = None,
        check: Callable[[], None] | None = None,
    ) -> None:
        self.config: FMANetConfig = net.config
        self.blurring, self.sharpening = net.degradation_learning_network, net.restoration_network
        self._empty, self._check = empty, check or (lambda: None)
        like = self.sharpening.res_conv1.weight
        self.dtype, self.device = like.dtype, like.device
        on_cpu = self.device.type == "cpu"
        self.side = patch or (PATCH if on_cpu else PATCH_ELSEWHERE)
        self.enlarged_side = patch or (ENLARGED_PATCH if on_cpu else PATCH_ELSEWHERE)

    @torch.no_grad()
    def features(self, frame: Tensor) -> Features:
        """frame: ``(1, 3, H, W)`` BGR."""
        frame = frame.to(self.dtype)
        first = last = self._extracted(self.blurring.feature_extractor, (frame,))
        for block in self.blurring.FRMA_blocks:
            last = self._refined(block.rdb, last)
        return Features(first, self._extracted(self.sharpening.feature_extractor, (frame, last)))

    @torch.no_grad()
    def picture(self, frames: Sequence[Tensor], features: Sequence[Features]) -> Tensor:
        """Of a window's frames ``(1, 3, H, W)`` BGR, and their features: ``(1, 3, 4H, 4W)`` BGR float32."""
        blurring, sharpening = self.blurring, self.sharpening
        together, flows = self._blocks(blurring.FRMA_blocks, [each.degradation for each in features], None, None)
        kernels = self._kernels(together)
        del together
        for t, flow in enumerate(flows):
            flows[t] = self._reviewed(flow)
        starts = [each.restoration for each in features]
        together, flows = self._blocks(sharpening.FRMA_blocks, starts, flows, kernels)
        del kernels
        frames = [frame.float() for frame in frames]
        aligned = [
            self._aligned(frame, frames[self.config.context], flow) for frame, flow in zip(frames, flows, strict=True)
        ]
        return self._enlarged(together, torch.stack(aligned, 1))

    def working_bytes(self, height: int, width: int) -> int:
        """About what ``picture`` takes at its peak, features of its frames included: the maps that exist while the
        restoration net moves its last frame, what is made in patches, and the picture twice."""
        config, like = self.config, self.sharpening.res_conv1.weight.element_size()
        frames, channels = config.frames, config.channels
        own = like * channels * (2 * frames + frames + 1 + frames)  # features to begin with, refined; kernels
        exact = 4 * (channels * (2 if like == 4 else 3) + config.flow_planes * (frames + 1) + 6 * frames)
        sides = [(min(side + 8, height), min(side + 8, width)) for side in (self.side, self.enlarged_side)]
        small, large = (side[0] * side[1] * like for side in sides)
        patch = 3 * frames * config.degradation_kernel**2 * small + 4 * channels * config.scale**2 * large
        picture = 2 * 4 * 3 * config.scale**2
        return height * width * (own + exact + picture) + patch

    def _map(self, size: Sequence[int], planes: int | None = None, dtype: torch.dtype | None = None) -> Tensor:
        planes = planes or self.config.channels
        made = self._empty(1, *size, planes, dtype=dtype or self.dtype, device=self.device)
        return made.permute(0, 3, 1, 2)

    def _patches(self, size: Sequence[int]) -> Iterator[Patch]:
        self._check()
        return patches(*size, self.side)

    # -- one frame --------------------------------------------------------------------------------------

    def _extracted(self, extractor: nn.Sequential, seen: Sequence[Tensor]) -> Tensor:
        """Features of what is seen, one or more pictures of the same size."""
        first, _, blocks = extractor
        size = seen[0].shape[-2:]
        made, summed = self._map(size), self._map(size, dtype=torch.float32)
        for patch in self._patches(size):
            stack = torch.cat([patch.grown(1).cut(each) for each in seen], 1)
            patch.cut(made).copy_(F.leaky_relu_(convolved(first, stack), SLOPE))
        last, width = made, self.config.channels
        for i, block in enumerate(blocks.RDBs):
            share = blocks.conv[0].weight[:, i * width : (i + 1) * width, 0]
            last = self._refined(block, last, summed, share, fresh=i == 0)
        for patch in self._patches(size):
            patch.cut(made).add_(convolved(blocks.conv[1], patch.grown(1).cut(summed).to(self.dtype)))
        return made

    def _refined(
        self,
        block: DenseBlock,
        features: Tensor,
        summed: Tensor | None = None,
        share: Tensor | None = None,
        *,
        fresh: bool = False,
    ) -> Tensor:
        """A dense block's output. share ``(C, C, 1, 1)``: what of it is added to ``summed``, or begins it."""
        made = self._map(features.shape[-2:])
        for patch in self._patches(features.shape[-2:]):
            part = dense(block, features, patch)
            patch.cut(made).copy_(part)
            if summed is not None:
                here, more = patch.cut(summed), F.conv2d(part, share)
                here.copy_(more) if fresh else here.add_(more.float())
        return made

    # -- the window -------------------------------------------------------------------------------------

    def _blocks(
        self,
        blocks: Sequence[Block],
        features: list[Tensor],
        flows: list[Tensor] | None,
        kernels: list[Tensor] | None,
    ) -> tuple[Tensor, list[Tensor]]:
        """What the frames say together, a map float32, and the flow to each of them, maps float32."""
        centre, together = features[self.config.context], None
        for block in blocks:
            features, together, flows = self._moved(block, features, together, flows, centre)
            blur = None if kernels is None else self._blur(block, kernels)
            for stages in block.multi_attn_block:
                for stage in stages.stages(centre, blur):
                    together = self._attended(together, *stage)
            blur = stage = None  # its memory is for the next block's
        return together, flows

    def _moved(
        self, block: Block, features: list[Tensor], together: Tensor | None, flows: list[Tensor] | None, centre: Tensor
    ) -> tuple[list[Tensor], Tensor, list[Tensor]]:
        """The features and flow of each frame refined, and what they say together, when brought to the middle."""
        size, width, frames = centre.shape[-2:], self.config.channels, range(self.config.frames)
        weight = block.conv_Fw.weight
        shares = weight[:, -width * len(frames) :].unflatten(1, (width, len(frames)))
        summed = self._map(size, dtype=torch.float32)
        refined, found = [], []
        for t in frames:
            refined.append(self._refined(block.rdb, features[t]))
            features[t] = None  # its memory is for the next one, unless somebody else holds it
            source = self._exact(refined[t])
            found.append(self._map(size, self.config.flow_planes, torch.float32))
            for patch in self._patches(size):
                patch.cut(found[t]).copy_(self._flow(block, centre, source, flows and flows[t], patch))
            if flows is not None:
                flows[t] = None
            for patch in self._patches(size):
                warped = warp_groups(source, patch.cut(found[t]), patch.corner).to(self.dtype)
                said, here = F.conv2d(warped, shares[:, :, t]).float(), patch.cut(summed)
                if t:
                    here.add_(said)
                elif together is None:
                    here.copy_(said)
                else:
                    torch.add(F.conv2d(patch.cut(together).to(self.dtype), weight[:, :width]).float(), said, out=here)
            del source  # before there is the next one
        return refined, summed, found

    def _flow(self, block: Block, centre: Tensor, source: Tensor, flow: Tensor | None, patch: Patch) -> Tensor:
        """Of one frame in a patch. source: its features, float32. flow: what was found before."""
        region = patch.grown(2)
        seen = [region.cut(centre)]
        if flow is None:
            return two(block.conv_f, torch.cat((*seen, region.cut(source).to(self.dtype)), 1), region).float()
        known = region.cut(flow)
        warped = region.clear(warp_groups(source, known, region.corner))
        seen += [known.to(self.dtype), warped.to(self.dtype)]
        return patch.cut(flow) + two(block.conv_f, torch.cat(seen, 1), region)

    def _attended(
        self, together: Tensor, norm: LayerNorm, attention: Attention, guide: Tensor, norm2: LayerNorm, mlp: FeedForward
    ) -> Tensor:
        """Attention and the feed-forward layer after it. The first pass compares channels, the second mixes them."""
        size, width = together.shape[-2:], self.config.channels
        keys, values = attention.kv_conv.weight.split(width)
        near_keys, near_values = attention.kv_dwconv.weight.split(width)
        sums = Sums(self.config.heads, width, self.device)
        for patch in self._patches(size):
            region = patch.grown(1)
            seen = self._normal(norm, region.cut(together), region)
            q = depthwise(F.conv2d(region.cut(guide), attention.q.weight), attention.q_dwconv.weight)
            sums.add(q, depthwise(F.conv2d(seen, keys), near_keys))
        mixing = self._mixing(attention, sums)
        gates, values2 = mlp.project_in.weight.split(self.config.hidden)
        near_gates, near_values2 = mlp.dwconv.weight.split(self.config.hidden)
        made = self._map(size, dtype=torch.float32)
        for patch in self._patches(size):
            region, inner = patch.grown(2), patch.grown(1)
            here = region.cut(together)
            seen = self._normal(norm, here, region)
            part = depthwise(F.conv2d(seen, values), near_values)
            said = F.conv2d(part, mixing).float().add_(inside(here, 1))
            seen = self._normal(norm2, said, inner)
            gate = depthwise(F.conv2d(seen, gates), near_gates)
            value = depthwise(F.conv2d(seen, values2), near_values2)
            forward = F.conv2d(F.gelu(gate).mul_(value), mlp.project_out.weight)
            torch.add(inside(said, 1), forward.float(), out=patch.cut(made))
        return made

    def _normal(self, norm: LayerNorm, part: Tensor, region: Patch) -> Tensor:
        return region.clear(norm(part).to(self.dtype))

    def _mixing(self, attention: Attention, sums: Sums) -> Tensor:
        """``(C, C, 1, 1)``: the heads' shares, and the projection of what they make, in one."""
        weights = attention.weights(*(each[None] for each in sums.totals))[0]
        mixing = attention.project_out.weight[:, :, 0, 0].float() @ torch.block_diag(*weights)
        return mixing.to(self.dtype)[:, :, None, None]

    # -- kernels ----------------------------------------------------------------------------------------

    def _kernels(self, together: Tensor) -> list[Tensor]:
        """What the restoration net thinks of the degradation net's kernels, a map for each frame; the kernels
        themselves, the widest planes of all, pass by."""
        size, count = together.shape[-2:], self.config.frames
        made = [self._map(size) for _ in range(count)]
        early, _, late = self.sharpening.d_conv
        for patch in self._patches(size):
            wide, region = patch.grown(4), patch.grown(2)
            seen = wide.cut(together).to(self.dtype)
            parts = [region.clear(two(self.blurring.d_conv, seen[:, t::count], wide)) for t in range(count)]
            parts = [F.leaky_relu_(part, SLOPE).to(self.dtype) for part in over_time(early, parts)]
            parts = over_time(late, [patch.grown(1).clear(part) for part in parts])
            for target, part in zip(made, parts, strict=True):
                patch.cut(target).copy_(part)
        return made

    def _blur(self, block: Block, kernels: Sequence[Tensor]) -> Tensor:
        """How the window was blurred, as one block's attention sees it: a map."""
        made, width, count = self._map(kernels[0].shape[-2:]), self.config.channels, self.config.frames
        weight = block.conv_KD.weight.unflatten(1, (width, count)).transpose(1, 2).flatten(1, 2)
        for patch in self._patches(kernels[0].shape[-2:]):
            refined = torch.cat([dense(block.rdb_KD, each, patch) for each in kernels], 1)
            patch.cut(made).copy_(F.conv2d(refined, weight))
        return made

    # -- the picture ------------------------------------------------------------------------------------

    def _reviewed(self, flow: Tensor) -> Tensor:
        """The degradation net's flow as the restoration net begins with it."""
        made = self._map(flow.shape[-2:], self.config.flow_planes, torch.float32)
        for patch in self._patches(flow.shape[-2:]):
            region = patch.grown(2)
            patch.cut(made).copy_(two(self.sharpening.f_conv1, region.cut(flow).to(self.dtype), region))
        return made

    def _aligned(self, frame: Tensor, middle: Tensor, flow: Tensor) -> Tensor:
        """A frame at the middle's instant, found in two steps: ``(1, 3, H, W)`` float32."""
        made = torch.empty_like(frame)
        for patch in self._patches(frame.shape[-2:]):
            wide, region = patch.grown(4), patch.grown(2)
            way = two(self.sharpening.f_conv2, wide.cut(flow).to(self.dtype), wide).float()
            warped = region.clear(warp_masked(frame, way, region.corner))
            seen = torch.cat((region.cut(flow), warped, region.cut(middle)), 1).to(self.dtype)
            way = two(self.sharpening.f_conv3, seen, region).float()
            patch.cut(made).copy_(warp_masked(frame, way, patch.corner))
        return made

    def _enlarged(self, together: Tensor, aligned: Tensor) -> Tensor:
        """The picture: the aligned frames ``(1, T, 3, H, W)`` filtered by kernels, and what these cannot make."""
        size, scale, count = together.shape[-2:], self.config.scale, self.config.frames
        border = self.config.restoration_kernel // 2
        aligned = continued(aligned, border)
        made = self._empty(1, 3, *(scale * side for side in size), dtype=torch.float32, device=self.device)
        for patch in patches(*size, self.enlarged_side):
            residual = self._residual(together, patch)
            region = patch.grown(2)
            seen = region.cut(together).to(self.dtype)
            kernels = [two(self.sharpening.r_conv, seen[:, t::count], region) for t in range(count)]
            kernels = torch.stack(kernels, 1).float().contiguous()
            near = aligned[..., patch.top : patch.bottom + 2 * border, patch.left : patch.right + 2 * border]
            torch.add(enlarge_inner(near, kernels, scale), residual.float(), out=patch.enlarged(scale).cut(made))
        return made

    def _residual(self, together: Tensor, patch: Patch) -> Tensor:
        net = self.sharpening
        made = F.leaky_relu_(convolved(net.res_conv1, patch.grown(3).cut(together).to(self.dtype)), SLOPE)
        region = patch.grown(2)
        for scale, conv in ((2, net.upsample.conv1), (4, net.upsample.conv2)):
            made = F.leaky_relu_(convolved(conv, region.clear(made)), SLOPE)
            made = F.pixel_shuffle(made, 2)
            region = patch.enlarged(scale).grown(2)
        made = F.leaky_relu_(convolved(net.upsample.conv3, region.clear(made)), SLOPE)
        return convolved(net.res_conv2, region.grown(-1).clear(made))

    def _exact(self, features: Tensor) -> Tensor:
        if features.dtype == torch.float32:
            return features
        return self._map(features.shape[-2:], dtype=torch.float32).copy_(features)


class Sums:
    """What attention must know of all pixels: products of channels, and their squares, float32."""

    def __init__(self, heads: int, width: int, device: torch.device) -> None:
        each = width // heads
        self.totals = [
            torch.zeros(shape, device=device) for shape in ((heads, each, each), (heads, each), (heads, each))
        ]

    def add(self, q: Tensor, k: Tensor) -> None:
        """Some pixels' ``(1, C, h, w)``."""
        heads = len(self.totals[0])
        q, k = (each[0].permute(1, 2, 0).float().flatten(0, 1).unflatten(1, (heads, -1)) for each in (q, k))
        products = q.permute(1, 2, 0) @ k.transpose(0, 1)  # heads c c
        for total, found in zip(self.totals, (products, q.square().sum(0), k.square().sum(0)), strict=True):
            total += found
