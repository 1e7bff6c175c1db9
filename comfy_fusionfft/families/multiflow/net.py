"""Chooses among guesses at the motion, place by place, by how well each brings the two frames together.

In: two pictures, and the guesses at an instant between them (``candidates``). Out: flow and mask there. Every guess
is tried: both pictures, at half their size, are brought to the instant along it and compared, as they are and with
local brightness and contrast levelled. A small U-Net sees all differences, how the guesses differ and how far each is
to be trusted, and answers with weights for the two views' flows, a small correction, and the mask.

Weights are a softmax, one for each view: where one frame hides what the other shows, the views may follow different
guesses. At the start of training they follow the first search, and others so far as they bring the frames together
better: the network can only leave that by being better.

Flow is in pixels, x before y, corner-aligned, and float32 with its look-ups, whatever the weights' precision.

What is compared and what is chosen is worked out in strips of rows (``ops.strips``), and what the network sees is
written where it will read it, in its precision and with channels last.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ...contract import Flow
from ...ops.box import box_mean
from ...ops.convolution import Conv2d
from ...ops.dis import brightness
from ...ops.grid import pixel_places, sampling_grid
from ...ops.layout import planes_of
from ...ops.strips import strip_rows, strips
from .candidates import COUNT, SHRINK
from .config import MultiFlowConfig

SLOPE = 0.1
LEVEL_WINDOW = 9
LEVEL_FLOOR = 0.02
"""Contrast, in units of the picture's range, below which it is noise and not levelled up."""
CORRECTION = 0.25
"""Pixels of the half-size picture for each unit of the output."""
FIRST, TWIN = 2.0, 1.0
"""At the start: logits of the guess a view follows, and of the same search the other way round."""
LIKENESS = 4.0
"""And what a unit of difference takes away."""
WINDOW = 5
BRIGHTNESS = 8.0
"""What differences of brightness count, against those of levelled brightness."""
CELL = 8
"""Sides of what the U-Net sees are multiples of this."""
REACH = 4
"""Rows around its own that a row of the last layers' answer depends on: three convolutions, and whole cells."""


class Trial(NamedTuple):
    """The guesses, tried. Half the picture's size, ``(B, …, h, w)``, float32.

    velocity, mask: as ``candidates.at_times`` gives them. gaps: ``(B, COUNT, h, w)``, how much the two pictures differ
    along each guess. planes: ``(B, PLANES, h', w')``, what the network looks at, in its precision, channels last, the
    sides continued to multiples of ``CELL``.
    """

    velocity: Tensor
    mask: Tensor
    gaps: Tensor
    planes: Tensor


class Choice(NamedTuple):
    """velocity weights ``(B, 2, COUNT, h, w)`` of both views, and the flow and mask they make, at half the size,
    flow ``(B, 4, h, w)`` in pixels of the half-size picture."""

    weights: Tensor
    flow: Tensor
    mask: Tensor


PLANES = 4 * COUNT + (COUNT - 1) + 6


class MultiFlowNet(nn.Module):
    """See the module's docstring. ``config``: its size."""

    def __init__(self, config: MultiFlowConfig | None = None) -> None:
        super().__init__()
        self.config = config or MultiFlowConfig()
        first, second, third = self.config.widths
        self.enter = Conv2d(PLANES, first, 4, stride=2, padding=1)
        self.down = nn.ModuleList((conv(first, second, stride=2), conv(second, third, stride=2)))
        self.body = nn.ModuleList(Block(width) for width in (first, second, third))
        self.up = nn.ModuleList((conv(third, second), conv(second, first)))
        self.rise = nn.ModuleList((Block(second), Block(first)))
        self.choose = Choose(first, self.config.fine)
        start = torch.zeros(2, COUNT)
        start[0, 0] = start[1, 1] = FIRST
        start[0, 1] = start[1, 0] = TWIN
        self.start = nn.Parameter(start)
        self.likeness = nn.Parameter(torch.full((2, COUNT), LIKENESS))

    def forward(self, left: Tensor, right: Tensor, velocity: Tensor, trust: Tensor, mask: Tensor, time: Tensor) -> Flow:
        """B instants, or one pair of pictures and B instants -> flow at the pictures' size.

        left, right: ``(B or 1, 3, H, W)`` in 0..1, sides multiples of ``config.modulus``. velocity, trust, mask:
        ``candidates.at_times``. time: ``(B,)`` in (0, 1).
        """
        return self.found(look(left), look(right), velocity, trust, mask, time)

    def found(
        self,
        left: Tensor,
        right: Tensor,
        velocity: Tensor,
        trust: Tensor,
        mask: Tensor,
        time: Tensor,
        empty: Callable[..., Tensor] = torch.empty,
    ) -> Flow:
        """``forward`` for two pictures' ``look``. empty: ``torch.empty`` or the like, for what is needed meanwhile."""
        trial = compare(left, right, velocity, trust, mask, time, self.enter.weight.dtype, empty)
        x = self.understand(trial.planes)
        height, width = mask.shape[-2:]
        # Each place holds a hundred channels, so rows that begin and end a strip must be few among its own.
        rows = height if torch.is_grad_enabled() else strip_rows(height, 2 * len(mask) * width, mask.device)
        parts = [self._chosen(x, trial, time, here)[1:] for here in strips(height, rows)]
        return enlarged(*(part[0] if len(part) == 1 else torch.cat(part, 2) for part in zip(*parts, strict=True)))

    def choice(self, trial: Trial, time: Tensor) -> Choice:
        """-> what is chosen, at half the pictures' size."""
        return self._chosen(self.understand(trial.planes), trial, time, slice(0, trial.mask.shape[-2]))

    def understand(self, planes: Tensor) -> Tensor:
        """The U-Net's answer, at half the size of the planes."""
        x = self.body[0](activate(self.enter(planes)))
        kept = [x]
        for layer, block in zip(self.down, self.body[1:], strict=True):
            x = block(activate(layer(x)))
            kept.append(x)
        for layer, block, beside in zip(self.up, self.rise, kept[-2::-1], strict=True):
            x = block(activate(layer(F.interpolate(x, beside.shape[-2:], mode="bilinear")).add_(beside)))
        return x

    def _chosen(self, x: Tensor, trial: Trial, time: Tensor, rows: slice) -> Choice:
        """These rows of the choice: an even number of them, from an even one."""
        start, stop = max(0, rows.start - REACH), min(rows.stop + REACH, trial.planes.shape[2])
        width = trial.mask.shape[-1]
        answer = self.choose(x[:, :, start // 2 : stop // 2], trial.planes[:, : 2 * COUNT, start:stop])
        here = slice(rows.start - start, rows.stop - start)
        answer = answer[:, :, here].contiguous() if torch.is_grad_enabled() else planes_of(answer[:, :, here])
        answer = answer[..., :width].float()

        margin = slice(max(0, rows.start - WINDOW // 2), min(rows.stop + WINDOW // 2, trial.gaps.shape[2]))
        unlike = box_mean(trial.gaps[:, :, margin], WINDOW)
        unlike = unlike[:, None, :, rows.start - margin.start :][:, :, :, : rows.stop - rows.start]
        logits = answer[:, : 2 * COUNT].unflatten(1, (2, COUNT))
        logits = logits.addcmul_(self.likeness[..., None, None], unlike, value=-1).add_(self.start[..., None, None])
        weights = logits.softmax(2)
        velocity = weights[:, :, :1] * trial.velocity[:, None, 0, :, rows]  # (B, 2, 2, rows, w)
        for guess in range(1, COUNT):
            velocity = velocity.addcmul_(weights[:, :, guess, None], trial.velocity[:, None, guess, :, rows])
        flow = towards(velocity, time) + CORRECTION * answer[:, 2 * COUNT : 2 * COUNT + 4]
        return Choice(weights, flow, trial.mask[:, :, rows] + answer[:, 2 * COUNT + 4 :])


class Choose(nn.Module):
    """At half the picture's size: what the U-Net says of a place, and the differences there -> logits and flow."""

    def __init__(self, width: int, fine: int) -> None:
        super().__init__()
        self.spread = conv(width, 4 * fine, size=1)
        self.enter = conv(fine + 2 * COUNT, fine)
        self.middle = conv(fine, fine)
        self.last = conv(fine, 2 * COUNT + 5)
        nn.init.zeros_(self.last.weight)
        nn.init.zeros_(self.last.bias)

    def forward(self, x: Tensor, differences: Tensor) -> Tensor:
        """x: ``(B, width, h / 2, w / 2)``. differences: ``(B, 2·COUNT, h, w)``."""
        batch, _, height, width = differences.shape
        fine = self.middle.in_channels
        # Each cell's four places are channels of ``spread``, the place running fastest. With the channel running
        # fastest instead they move to their places in whole runs of memory, next to the differences.
        weight, bias = (each.unflatten(0, (fine, 4)).transpose(0, 1).flatten(0, 1) for each in self.spread.parameters())
        places = F.conv2d(x, weight, bias).view(batch, 2, 2, fine, height // 2, width // 2)
        both = torch.empty(batch, height, width, fine + 2 * COUNT, dtype=x.dtype, device=x.device)
        both[..., :fine].view(batch, height // 2, 2, width // 2, 2, fine).copy_(places.permute(0, 4, 1, 5, 2, 3))
        both[..., fine:] = differences.permute(0, 2, 3, 1)
        x = activate(self.enter(both.permute(0, 3, 1, 2)))
        return self.last(activate(self.middle(x).add_(x)))


class Block(nn.Module):
    """Two residual convolutions."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.first, self.second = conv(width, width), conv(width, width)

    def forward(self, x: Tensor) -> Tensor:
        return activate(self.second(activate(self.first(x))).add_(x))


@torch.no_grad()
def attempt(left: Tensor, right: Tensor, velocity: Tensor, trust: Tensor, mask: Tensor, time: Tensor) -> Trial:
    """Bring both pictures to the instant along every guess, and compare. Arguments as of ``MultiFlowNet.forward``."""
    return compare(look(left), look(right), velocity, trust, mask, time)


@torch.no_grad()
def compare(
    left: Tensor,
    right: Tensor,
    velocity: Tensor,
    trust: Tensor,
    mask: Tensor,
    time: Tensor,
    dtype: torch.dtype = torch.float32,
    empty: Callable[..., Tensor] = torch.empty,
) -> Trial:
    """``attempt`` for two pictures' ``look``, whose planes are of ``dtype``. empty: where they are put."""
    batch, count, _, height, width = velocity.shape
    device = velocity.device
    cells = [-(-side // CELL) * CELL for side in (height, width)]
    planes = empty(batch, *cells, PLANES, dtype=dtype, device=device).permute(0, 3, 1, 2)
    gaps = empty(batch, count, height, width, dtype=torch.float32, device=device)
    t = time.view(-1, 1, 1, 1)
    x, y = pixel_places(velocity)
    shares = [share.repeat_interleave(count, 0) for share in (-t, 1 - t)]  # (B·COUNT, 1, 1, 1)
    sources = [each[:, None].expand(batch, count, -1, -1, -1).flatten(0, 1) for each in (left, right)]
    for rows in strips(height, strip_rows(height, batch * count * width, device)):
        there = velocity[:, :, :, rows]  # (B, COUNT, 2, rows, w)
        ways = there.flatten(0, 1)
        views = []
        for source, share in zip(sources, shares, strict=True):
            grid = sampling_grid(ways, x, y[rows], (height, width), share).clamp_(-1, 1)  # beyond the border as on it
            view = F.grid_sample(source, grid, mode="bilinear", padding_mode="zeros", align_corners=True)
            views.append(view.unflatten(0, (batch, count)))  # (B, COUNT, 2 looks, rows, w)
        differences = (views[0] - views[1]).abs_()
        differences[:, :, 0] *= BRIGHTNESS
        torch.add(differences[:, :, 0], differences[:, :, 1], out=gaps[:, :, rows])
        gaps[:, :, rows] *= 0.5
        put = _Writer(planes[:, :, rows, :width])
        put(differences.transpose(1, 2).flatten(1, 2))
        put((there - there[:, :1]).mul_(1 / 4).tanh_().flatten(1, 2))
        put(trust[:, :, rows])
        put(torch.stack([view[:, 0, 0] for view in views], 1))
        put(t.expand(batch, -1, rows.stop - rows.start, width))
        put(mask[:, :, rows] / 4)
        put((there[:, 0] / 16).tanh_())
    planes[..., :height, width:] = planes[..., :height, width - 1 : width]
    planes[..., height:, :] = planes[..., height - 1 : height, :]
    return Trial(velocity, mask, gaps, planes)


class _Writer:
    """Writes planes one after the other into the channels of ``target``."""

    def __init__(self, target: Tensor) -> None:
        self._target, self._next = target, 0

    def __call__(self, planes: Tensor) -> None:
        channels = slice(self._next, self._next + planes.shape[1])
        # In two steps: turning around and changing the type at once is slower than one after the other.
        self._target[:, channels] = planes.to(self._target.dtype)
        self._next = channels.stop


def look(picture: Tensor) -> Tensor:
    """``(B, 3, H, W)`` -> ``(B, 2, H/2, W/2)`` float32: brightness, and brightness levelled."""
    return levelled(brightness(picture))


def levelled(bright: Tensor) -> Tensor:
    """``look`` of a picture whose ``brightness (B, 1, H, W)`` is given."""
    grey = F.avg_pool2d(bright, SHRINK)
    mean, square = (box_mean(each, LEVEL_WINDOW) for each in (grey, grey * grey))
    spread = (square - mean * mean).clamp_min(0).sqrt() + LEVEL_FLOOR
    return torch.cat((grey, (grey - mean) / spread), 1)


def first_search(velocity: Tensor, mask: Tensor, time: Tensor) -> Flow:
    """What the first search alone answers, as ``MultiFlowNet.forward`` does: the point to be better than."""
    return enlarged(towards(velocity[:, :2], time), mask)


def towards(velocity: Tensor, time: Tensor) -> Tensor:
    """Velocities of both views ``(B, 2, 2, h, w)`` -> flow from the instants ``(B, 4, h, w)``."""
    t = time.view(-1, 1, 1, 1)
    return torch.cat((-t * velocity[:, 0], (1 - t) * velocity[:, 1]), 1)


def enlarged(flow: Tensor, mask: Tensor) -> Flow:
    """Flow and mask of half-size pictures -> those of the pictures, in their pixels."""
    planes = F.interpolate(torch.cat((flow * SHRINK, mask), 1), scale_factor=SHRINK, mode="bilinear")
    return Flow(planes[:, :4], planes[:, 4:])


def conv(inputs: int, outputs: int, *, size: int = 3, stride: int = 1) -> nn.Conv2d:
    return Conv2d(inputs, outputs, size, stride=stride, padding=size // 2)


def activate(x: Tensor) -> Tensor:
    """In its place."""
    return F.leaky_relu_(x, SLOPE)
