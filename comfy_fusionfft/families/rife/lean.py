"""The same answer as ``IFNet.forward`` for a fraction of the memory traffic: what interpolation runs.

A forward pass as published moves gigabytes so that its convolutions, the cheap part, may look at them. Here

- a block that shrinks by s looks at the two pixels in the middle of every s of a row and of a column, for that is
  all that bilinear shrinking reads: frames are warped there and nowhere else;
- a block's answer stays at its own resolution, and later ones read it where they need it. Enlarging by one power of
  two and then shrinking by a smaller one is enlarging by their ratio, exactly;
- what a block sees is made, and passed through the first convolution, in strips of rows that fit the cache, in that
  convolution's own precision and memory layout; it never exists as a whole;
- the last block computes flow and mask alone, not the planes that it would hand on.

None of it is an approximation; sums merely run in another order.

Cells and their places: as in ``ops.enlarge``.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import lru_cache
from itertools import pairwise
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from ...contract import Flow
from ...ops.enlarge import Enlarged, convolve_doubled, places
from ...ops.layout import empty_channels_last, pixel_shuffled, write_channels_last
from ...ops.strips import in_bands, strip_rows, strips
from ...ops.warp import look_up_bands
from .config import FLOW_PLANES, MASK_PLANES, RIFEConfig
from .net import SLOPE, Block, IFNet, ResConv

ENCODER_REACH = 8
"""Rows above and below that an encoding depends on: one of the picture, and three of half as many, rounded up."""


def applies(config: RIFEConfig, scale: float) -> bool:
    """Whether ``lean_flow`` can stand in: for all from 4.2 on, while blocks shrink ever less and never enlarge."""
    scales = [s / scale for s in config.scales]
    falling = all(a > b for a, b in pairwise(scales))
    plain = config.shuffle and not config.prelu and not (config.accumulates_mask and config.carried_planes)
    return plain and falling and scales[-1] >= 1


class Seen(NamedTuple):
    """What is computed once per frame, whatever its partners: float32, ``H`` and ``W`` those of the frame.

    planes: ``(1, 3 + h, H, W)``, the frame on top of its encoding. glance: the same as the first block sees it,
    ``(1, 3 + h, H / s, W / s)``.
    """

    planes: Tensor
    glance: Tensor


@torch.no_grad()
def seen(net: IFNet, image: Tensor, scale: float = 1.0, empty: Callable[..., Tensor] = torch.empty) -> Seen:
    """A frame ``(1, 3, H, W)``, H and W multiples of ``config.modulus_at(scale)``, made ready.

    empty: where results get their memory.
    """
    planes = image.float() if net.config.head == "none" else _encoded(net, image, empty)
    s = int(net.config.scales[0] / scale)
    middle = planes if s <= 2 else planes.unflatten(2, (-1, s))[:, :, :, s // 2 - 1 : s // 2 + 1].flatten(2, 3)
    glance = planes if s == 1 else F.interpolate(middle, [side // s for side in image.shape[-2:]], mode="bilinear")
    return Seen(planes, glance)


@torch.no_grad()
def lean_flow(
    net: IFNet,
    left: Seen,
    right: Seen,
    times: Tensor,
    scale: float = 1.0,
    empty: Callable[..., Tensor] = torch.empty,
) -> Flow:
    """Motion from the instants to both frames: ``IFNet.forward`` without ensembling, where it ``applies``.

    times: ``(T,)`` in (0, 1). empty: where results get their memory. -> Flow of T instants, ``(H, W)``.
    """
    times = times.to(left.planes.device, torch.float32).view(-1, 1, 1, 1)
    motion = _Motion(net.config, len(times), left.planes, empty)
    for block, shrink in zip(net.blocks, net.config.scales, strict=True):
        s = int(shrink / scale)
        motion.add(_answer(block, _entered(block, _Sight((left, right), times, motion, s))), s)
    return motion.finished()


def _encoded(net: IFNet, image: Tensor, empty: Callable[..., Tensor]) -> Tensor:
    *layers, last = net.encode
    # As an ordinary convolution, because transposed ones are slow for so few planes.
    weight, bias = _untransposed(last.weight), last.bias.repeat_interleave(4)
    height, width = image.shape[-2:]
    planes = empty(1, 3 + net.config.head_planes, height, width, dtype=torch.float32, device=image.device)
    planes[:, :3] = image
    # Larger strips than elsewhere: their overlap is computed twice.
    for rows in strips(height, strip_rows(height, width // 2, image.device)):
        top, bottom = max(0, rows.start - ENCODER_REACH), min(height, rows.stop + ENCODER_REACH)
        x = image[:, :, top:bottom].to(weight.dtype)
        for layer in layers:
            x = layer(x)
        x = F.conv2d(x, weight, bias, padding=1)
        pixel_shuffled(x[:, :, (rows.start - top) // 2 : (rows.stop - top) // 2], out=planes[:, 3:, rows])
    return planes


def _untransposed(weight: Tensor) -> Tensor:
    """Weight ``(I, O, 4, 4)`` of a transposed convolution of stride 2 and padding 1 -> that of the convolution
    ``(4·O, I, 3, 3)`` whose pixel shuffle is the same."""
    taps = _phases(weight.device).to(weight.dtype)
    made = torch.einsum("ioyx,ary,bcx->oabirc", weight, taps, taps)
    return made.flatten(0, 2).contiguous(memory_format=torch.channels_last)


@lru_cache(None)
def _phases(device: torch.device) -> Tensor:
    """``(2, 3, 4)``: in even and in odd places of the output, which of three inputs meets which tap."""
    even, odd = ((0, 0, 0, 1), (0, 1, 0, 0), (0, 0, 0, 0)), ((0, 0, 0, 0), (0, 0, 1, 0), (1, 0, 0, 0))
    return torch.tensor((even, odd), dtype=torch.float32, device=device)


def _entered(block: Block, sight: _Sight) -> Tensor:
    """What the first convolution makes of all that the block sees, ``(T, width / 2, H / 2s, W / 2s)``."""
    conv, activation = block.conv0[0]
    weight, handed_on = sight.weight(conv.weight), sight.handed_on(conv.weight)
    outputs, inputs = weight.shape[:2]
    (height, width), count = sight.size, len(sight.times)
    rows = strip_rows(height, count * width * sight.places_across, sight.times.device)
    made = empty_channels_last(weight, count, outputs, height // 2, width // 2)
    stack = empty_channels_last(weight, count, inputs, rows + 1, width)
    stack[:, :, rows] = 0  # what the convolution sees above the picture
    for strip in strips(height, rows):
        tall, half = strip.stop - strip.start, slice(strip.start // 2, strip.stop // 2)
        planes = weight.new_empty(count, inputs, tall, width)
        at = 0
        for piece in sight.planes(strip):
            room = planes[:, at : at + piece.shape[1]]
            (room if len(piece) in (1, count) else in_bands(room, len(piece))).copy_(piece)
            at += piece.shape[1]
        stack[:, :, 0] = stack[:, :, rows]
        write_channels_last(planes, stack[:, :, 1 : tall + 1])
        convolved = F.conv2d(stack[:, :, : tall + 1], weight, conv.bias, stride=2, padding=(0, 1))
        made[:, :, half] = convolved if handed_on is None else convolved.add_(handed_on[:, :, half])
    return activation(made)


def _answer(block: Block, entered: Tensor) -> Tensor:
    """The rest of a block: its answer but for planes that nobody reads, ``(T, 4 * planes, H / 2s, W / 2s)``, to be
    pixel shuffled."""
    x = block.conv0[1](entered)
    for layer in block.convblock:
        x = _residual(layer, x) if isinstance(layer, ResConv) else layer(x)
    last = block.lastconv[0]
    used = 4 * (FLOW_PLANES + MASK_PLANES + block.carried_planes)
    return F.conv_transpose2d(x, last.weight[:, :used], last.bias[:used], stride=2, padding=1)


def _residual(layer: ResConv, x: Tensor) -> Tensor:
    weight, bias = layer.folded()
    x = F.conv2d(x, weight, bias, padding=1, groups=layer.conv.groups)
    return F.leaky_relu(x, SLOPE, inplace=True)


class _Motion:
    """The blocks' answers so far, each at its own resolution, and the sum of their flows once every pixel's is read."""

    def __init__(self, config: RIFEConfig, count: int, like: Tensor, empty: Callable[..., Tensor]) -> None:
        self.sums_mask = config.accumulates_mask
        self.size = like.shape[-2:]
        self.answers: list[tuple[int, Tensor]] = []  # pixels from cell to cell, planes
        self.total, self.mask = (
            empty(count, planes, *self.size, dtype=torch.float32, device=like.device)
            for planes in (FLOW_PLANES, MASK_PLANES)
        )
        self.totalled = 0  # answers that are in the total
        self.finest: Tensor | None = None  # the answer of a block that did not shrink: too large to keep as planes

    def add(self, answer: Tensor, s: int) -> None:
        """Take the answer of the block that shrank by s, not yet pixel shuffled."""
        if s <= 2:  # that block has had every pixel's flow summed up
            self.totalled = len(self.answers)
        if s == 1:
            self.finest = answer
            return
        planes = pixel_shuffled(answer)
        planes[:, :FLOW_PLANES] *= s
        self.answers.append((s, planes))

    def flows(self, s: int) -> list[Enlarged]:
        """What makes up the flow at the places of cells of s pixels; at every pixel, what the total lacks."""
        parts = self.answers[self.totalled :] if s <= 2 else self.answers
        return [Enlarged(planes[:, :FLOW_PLANES], g, self.size, s, "places") for g, planes in parts]

    def masks(self, s: int) -> list[Enlarged]:
        """What makes up the mask, and the carried planes, in cells of s pixels."""
        parts = self.answers if self.sums_mask else self.answers[-1:]
        return [Enlarged(planes[:, FLOW_PLANES:], g, self.size, s, "cells") for g, planes in parts]

    def totalled_up(self, lacking: list[Enlarged], rows: slice) -> Tensor:
        """The total flow in these rows of pixels, once what it lacks there is added."""
        total = self.total[:, :, rows]
        if not self.totalled:
            total.zero_()
        for part in lacking:
            part.add_rows(rows, total)
        return total

    def finished(self) -> Flow:
        """Flow and mask of every pixel."""
        flows = self.flows(1)
        masks = self.masks(1) if self.finest is None or self.sums_mask else []
        for rows in strips(self.size[0], strip_rows(self.size[0], len(self.mask) * self.size[1], self.mask.device)):
            total, mask = self.totalled_up(flows, rows), self.mask[:, :, rows].zero_()
            for part in masks:
                part.add_rows(rows, mask)
            if self.finest is not None:
                finest = pixel_shuffled(self.finest[:, :, rows.start // 2 : rows.stop // 2])
                total += finest[:, :FLOW_PLANES]
                mask += finest[:, FLOW_PLANES:]
        return Flow(self.total, self.mask)


class _Sight:
    """What a block that shrinks by s sees of the pair, given the motion found so far."""

    def __init__(self, pair: tuple[Seen, Seen], times: Tensor, motion: _Motion, s: int) -> None:
        self.pair, self.times, self.motion, self.s = pair, times, motion, s
        self.size = tuple(side // s for side in motion.size)
        self.places_across = min(s, 2)
        self.first = not motion.answers
        if not self.first:
            self.x, self.y = (places(side, s, times.device) for side in motion.size[::-1])
            self.flows = motion.flows(s)
            self.doubled = motion.answers[-1][0] == 2 * s and not motion.sums_mask
            self.masks = [] if self.doubled else motion.masks(s)

    def planes(self, rows: slice) -> Iterator[Tensor]:
        """What it sees in these rows of cells, ``(T, bands or 1, …, W / s)``: the left frame, the right one, the time,
        mask and carried planes unless ``handed_on`` has them, the flow in pixels."""
        if self.first:
            yield from (frame.glance[:, :, rows] for frame in self.pair)
            yield self.times.expand(-1, -1, rows.stop - rows.start, self.size[1])
            return
        inner = slice(rows.start * self.places_across, rows.stop * self.places_across)
        flow = self._flow(inner)
        for frame, way in zip(self.pair, flow.split(2, dim=1), strict=True):
            yield _shrunk(look_up_bands(frame.planes, way, self.x, self.y[inner]), self.places_across)
        yield self.times.expand(-1, -1, rows.stop - rows.start, self.size[1])
        if not self.doubled:
            yield _summed(self.masks, rows)
        yield _shrunk(flow, self.places_across)

    def weight(self, weight: Tensor) -> Tensor:
        """The first convolution's, for ``planes``: published ones see pictures before encodings, flow in cells."""
        order = _order(self.pair[0].planes.shape[1], weight.shape[1], not self.first and self.doubled, weight.device)
        chosen = weight.index_select(1, order)
        if not self.first:
            chosen[:, -FLOW_PLANES:] /= self.s
        return chosen.contiguous(memory_format=torch.channels_last)

    def handed_on(self, weight: Tensor) -> Tensor | None:
        """What the first convolution makes of mask and carried planes, where the block before doubled its cells."""
        if self.first or not self.doubled:
            return None
        planes = self.motion.answers[-1][1][:, FLOW_PLANES:]
        return convolve_doubled(planes, weight[:, -FLOW_PLANES - planes.shape[1] : -FLOW_PLANES])

    def _flow(self, rows: slice) -> Tensor:
        return self.motion.totalled_up(self.flows, rows) if self.s <= 2 else _summed(self.flows, rows)


@lru_cache(None)
def _order(frame: int, inputs: int, doubled: bool, device: torch.device) -> Tensor:
    """Where in the published stack the planes of ``_Sight.planes`` are: pictures, encodings, time, the rest, flow."""
    left, right = ([*range(3 * i, 3 * i + 3), *range(6 + (frame - 3) * i, 6 + (frame - 3) * (i + 1))] for i in (0, 1))
    time = 2 * frame
    rest = range(inputs - FLOW_PLANES if doubled else time + 1, inputs)
    return torch.tensor([*left, *right, time, *rest], device=device)


def _summed(parts: list[Enlarged], rows: slice) -> Tensor:
    first, *others = parts
    total = first.rows(rows)
    for part in others:
        part.add_rows(rows, total)
    return total


def _shrunk(planes: Tensor, s: int) -> Tensor:
    """Places -> the means of cells."""
    return planes if s == 1 else F.interpolate(planes, scale_factor=1 / s, mode="bilinear")
