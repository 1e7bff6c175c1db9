"""WaveletVFI as a model for the engine (``contract.Model``): the pair in, the frame half-way between them out.

Other instants the engine reaches by halving again. The network sees colour only. Alpha goes the way of the motion that
it finds: warped from both frames and mixed as they were before the synthesis.

The threshold it chooses and its thresholds' ranges are taken from whole pictures, so that a picture in tiles, the
engine's last resort when memory runs out, comes out a little different.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal, NamedTuple

import torch
from torch import Tensor

from ...contract import Flow, Position, Reach, Window
from ...errors import InputError
from ...ops.confidence import explained
from ...ops.limits import limit_, limits
from ...ops.pad import crop, pad_to
from ...ops.warp import blend
from .config import RATIOS
from .net import WaveletVFI
from .sparse import Sparsity


class Report(NamedTuple):
    """What a picture took.

    position: its instant. ratio: the threshold used. cost: multiplications of the three levels that can leave places
    out, relative to leaving out none. masks: ``(H/2ᵏ, W/2ᵏ)`` bool on the device for k = 1, 2, 3, rounded up: where
    details were computed. All of a tile where the picture is made in tiles.
    """

    position: Position
    ratio: Tensor
    cost: Tensor
    masks: tuple[Tensor, ...]

    def picture(self, level: int, height: int, width: int) -> Tensor:
        """The mask of a level at the size of the picture, ``(height, width)`` float32: 1 where computed."""
        size = 2**level
        mask = self.masks[level - 1].float()
        return mask.repeat_interleave(size, 0).repeat_interleave(size, 1)[:height, :width]


class Middle:
    """The middle of every pair.

    net: placed where it shall run. threshold: ``auto``, the network's choice for each pair, or a share of the range of
        brightness, such as one of ``RATIOS``: details below it are left out. 0 leaves none out.
    explain: answers have two planes more, occlusion and confidence (``ops.confidence``), from the motion found.
    watch: hears what each picture took.
    """

    reach = Reach(times="middle")

    def __init__(
        self,
        net: WaveletVFI,
        *,
        threshold: float | Literal["auto"] = "auto",
        explain: bool = False,
        watch: Callable[[Report], None] | None = None,
        sparsity: Sparsity | None = None,
    ) -> None:
        known = ", ".join(f"{ratio:g}" for ratio in RATIOS)
        if threshold != "auto" and not (isinstance(threshold, (int, float)) and 0 <= threshold < 1):
            raise InputError(f"threshold {threshold!r} is not auto nor a share from 0 to below 1: use auto, {known}")
        self.net, self.threshold, self.explain, self.watch = net, threshold, explain, watch
        self.sparsity = sparsity or Sparsity()

    def __call__(self, window: Window) -> Tensor:
        left = max(i for i, position in enumerate(window.positions) if position < window.times[0])
        pair = [window.images[left], window.images[left + 1]]
        colours = [picture[:, :3] for picture in pair]
        padded, (size, _) = zip(*(pad_to(colour, self.net.config.modulus) for colour in colours), strict=True)
        ratio = None if self.threshold == "auto" else float(self.threshold)
        made, motion = self.net(*padded, ratio, sparsity=self.sparsity)
        flow = Flow(crop(motion.flow, size), crop(motion.mask, size))
        picture = crop(made.picture, size).clone()
        if pair[0].shape[1] > 3:
            picture = torch.cat((picture, blend(pair[0][:, 3:], pair[1][:, 3:], flow)), 1)
        limit_(picture, *map(limits, pair))
        if self.watch is not None:
            self.watch(self._report(window.times[0], made.masks, made.cost, motion.logits, size))
        return explained(picture, window, (left, left + 1), flow) if self.explain else picture

    def _report(
        self, position: Position, masks: tuple[Tensor, ...], cost: Tensor, logits: Tensor, size: tuple[int, int]
    ) -> Report:
        ratio = self.net.chosen(logits) if self.threshold == "auto" else logits.new_tensor([self.threshold])
        seen = [mask[0, 0, : -(-size[0] // 2**level), : -(-size[1] // 2**level)] for level, mask in enumerate(masks, 1)]
        return Report(position, ratio[0], cost[0], tuple(seen))
