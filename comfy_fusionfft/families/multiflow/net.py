"""Chooses among guesses at the motion, place by place, by how well each brings the two frames together.

In: two pictures, and the guesses at an instant between them (``candidates``). Out: flow and mask there. Every guess
is tried: both pictures, at half their size, are brought to the instant along it and compared, as they are and with
local brightness and contrast levelled. A small U-Net sees all differences, how the guesses differ and how far each is
to be trusted, and answers with weights for the two views' flows, a small correction, and the mask.

Weights are a softmax, one for each view: where one frame hides what the other shows, the views may follow different
guesses. At the start of training they follow the first search, and others so far as they bring the frames together
better: the network can only leave that by being better.

Flow is in pixels, x before y, corner-aligned, and float32 with its look-ups, whatever the weights' precision.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ...contract import Flow
from ...ops.pad import crop, pad_to
from ...ops.warp import backward_warp
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
CELL = 8
"""Sides of what the U-Net sees are multiples of this."""


class Trial(NamedTuple):
    """The guesses, tried. Half the picture's size, ``(B, …, h, w)``, float32.

    velocity, mask: as ``candidates.at_times`` gives them. views: ``(B, 2, COUNT, h, w)``, the brightness each guess
    brings from the left and the right picture. unlike: ``(B, COUNT, h, w)``, how much these differ around a place.
    planes: what the network looks at.
    """

    velocity: Tensor
    mask: Tensor
    views: Tensor
    unlike: Tensor
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
        self.enter = nn.Conv2d(PLANES, first, 4, stride=2, padding=1)
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
        choice = self.choice(attempt(left, right, velocity, trust, mask, time), time)
        return enlarged(choice.flow, choice.mask)

    def choice(self, trial: Trial, time: Tensor) -> Choice:
        """-> what is chosen, at half the pictures' size."""
        # Padded here and not before the searches, whose answers in difficult places hang on the picture's size.
        planes, size = pad_to(trial.planes.to(self.enter.weight.dtype), CELL)
        x = self.body[0](activate(self.enter(planes)))
        kept = [x]
        for layer, block in zip(self.down, self.body[1:], strict=True):
            x = block(activate(layer(x)))
            kept.append(x)
        for layer, block, beside in zip(self.up, self.rise, kept[-2::-1], strict=True):
            x = block(activate(layer(F.interpolate(x, beside.shape[-2:], mode="bilinear")) + beside))
        answer = crop(self.choose(x, planes[:, : 2 * COUNT]), size).float()
        usual = self.start[..., None, None] - self.likeness[..., None, None] * trial.unlike[:, None]
        weights = (answer[:, : 2 * COUNT].unflatten(1, (2, COUNT)) + usual).softmax(2)
        velocity = torch.einsum("bskhw,bkchw->bschw", weights, trial.velocity)
        flow = towards(velocity, time) + CORRECTION * answer[:, 2 * COUNT : 2 * COUNT + 4]
        return Choice(weights, flow, trial.mask + answer[:, 2 * COUNT + 4 :])


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
        x = F.pixel_shuffle(self.spread(x), 2)
        x = activate(self.enter(torch.cat((x, differences), 1)))
        return self.last(activate(x + self.middle(x)))


class Block(nn.Module):
    """Two residual convolutions."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.first, self.second = conv(width, width), conv(width, width)

    def forward(self, x: Tensor) -> Tensor:
        return activate(x + self.second(activate(self.first(x))))


def attempt(left: Tensor, right: Tensor, velocity: Tensor, trust: Tensor, mask: Tensor, time: Tensor) -> Trial:
    """Bring both pictures to the instant along every guess, and compare. Arguments as of ``MultiFlowNet.forward``."""
    batch, count, _, height, width = velocity.shape
    t = time.view(-1, 1, 1, 1, 1)
    looks = torch.stack([_look(picture) for picture in (left, right)], 1).expand(batch, -1, -1, -1, -1)
    ways = torch.stack((-t * velocity, (1 - t) * velocity), 1)  # (B, 2, COUNT, 2, h, w)
    views = torch.stack(
        [backward_warp(looks[:, side].repeat_interleave(count, 0), ways[:, side].flatten(0, 1)) for side in (0, 1)],
        1,
    ).unflatten(0, (batch, count))  # (B, COUNT, 2 views, 2 looks, h, w)
    differences = (views[:, :, 0] - views[:, :, 1]).abs() * views.new_tensor((8.0, 1.0)).view(2, 1, 1)
    first = velocity[:, :1]
    known = (
        differences.transpose(1, 2).flatten(1, 2),
        ((velocity - first) / 4).tanh().flatten(1, 2),
        trust,
        views[:, 0, :, 0],
        t[:, 0].expand(-1, -1, height, width),
        mask / 4,
        (first[:, 0] / 16).tanh(),
    )
    unlike = _around(differences.mean(2), WINDOW)
    return Trial(velocity, mask, views[:, :, :, 0].transpose(1, 2), unlike, torch.cat(known, 1))


def _look(picture: Tensor) -> Tensor:
    """``(B, 3, H, W)`` -> ``(B, 2, H/2, W/2)`` float32: brightness, and brightness levelled."""
    weights = picture.new_tensor((0.299, 0.587, 0.114), dtype=torch.float32).view(3, 1, 1)
    grey = F.avg_pool2d((picture.float() * weights).sum(1, keepdim=True), SHRINK)
    mean, square = (_around(each, LEVEL_WINDOW) for each in (grey, grey * grey))
    spread = (square - mean * mean).clamp_min(0).sqrt() + LEVEL_FLOOR
    return torch.cat((grey, (grey - mean) / spread), 1)


def _around(planes: Tensor, window: int) -> Tensor:
    return F.avg_pool2d(planes, window, 1, window // 2, count_include_pad=False)


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
    return nn.Conv2d(inputs, outputs, size, stride=stride, padding=size // 2)


def activate(x: Tensor) -> Tensor:
    return F.leaky_relu(x, SLOPE)
