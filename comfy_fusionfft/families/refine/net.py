"""Makes given flow better by looking: compares what it brings together, coarse to fine, and corrects it.

In: two pictures, and flow and mask at an instant between them, from anywhere. Out: the same, corrected. At the
start of training it returns what it was given, so it can only leave that by being better.

One small estimator serves all levels of an image pyramid, at a quarter of each level's size: both pictures'
features are brought to the instant, compared over the places around (a cost volume), and the difference found
is added to the flow. A last part at half the picture's size corrects edges and the mask, pixel by pixel.

Flow is in pixels, x before y, corner-aligned, and float32 with its look-ups, whatever the weights' precision.
The pyramid of one estimator is that of "Enhanced Bi-directional Motion Estimation for Video Frame
Interpolation", Jin et al., WACV 2023; cost volumes of warped features are from PWC-Net, Sun et al., CVPR 2018.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ...contract import Flow
from ...ops.correlate import correlate
from ...ops.warp import backward_warp
from .config import EXTRA_PLANES, RefineConfig

SLOPE = 0.1
CELL = 4
"""Pixels of a level for each cell of the estimator."""
STEP, MASK_STEP = 0.1, 0.05
"""A unit of an output, in cells of flow and in units of the mask's logit. Small, because what is wrong with good flow
is mostly less than a pixel: at 1 and 0.5 the outputs tremble by more than that, and nothing is learnt."""


class RefineNet(nn.Module):
    """See the module's docstring. ``config``: its size."""

    def __init__(self, config: RefineConfig | None = None) -> None:
        super().__init__()
        self.config = config or RefineConfig()
        self.encoder = Encoder(self.config)
        self.estimator = Estimator(self.config)
        self.fine = Fine(self.config)

    def features(self, image: Tensor) -> tuple[Tensor, ...]:
        """``(B, 3, H, W)`` in 0..1 -> features of every level, ``(B, F, H/4/level, W/4/level)``."""
        dtype = self.encoder.last.weight.dtype
        pictures = (image if level == 1 else F.avg_pool2d(image, level) for level in self.config.levels)
        return tuple(self.encoder(picture.to(dtype)) for picture in pictures)

    def forward(
        self,
        left: Tensor,
        right: Tensor,
        given: Flow,
        time: Tensor,
        left_features: tuple[Tensor, ...] | None = None,
        right_features: tuple[Tensor, ...] | None = None,
    ) -> Flow:
        """B instants, or one pair of pictures and B instants -> the corrected flow.

        left, right: ``(B or 1, 3, H, W)`` in 0..1, sides multiples of ``config.modulus``. given: flow between them,
        ``(B, …)``. time: ``(B,)`` in (0, 1). Features are computed when not given.
        """
        change = self.changes(left, right, given, time, left_features, right_features)[-1]
        change = _resized(change, given.mask.shape[-2:])
        return Flow(given.flow.float() + change[:, :4], given.mask.float() + change[:, 4:])

    def changes(
        self,
        left: Tensor,
        right: Tensor,
        given: Flow,
        time: Tensor,
        left_features: tuple[Tensor, ...] | None = None,
        right_features: tuple[Tensor, ...] | None = None,
    ) -> list[Tensor]:
        """What each part has added to flow (4 channels, pixels of the picture) and mask, ``(B, 5, h, w)``: after every
        level, and after the last part at half the picture's size."""
        left_features = left_features or self.features(left)
        right_features = right_features or self.features(right)
        flow, mask = given.flow.float(), given.mask.float()
        batch, _, height, width = flow.shape
        state = None
        change, changes = flow.new_zeros(batch, 5, 1, 1), []
        for level, near, far in zip(self.config.levels, left_features, right_features, strict=True):
            cell = CELL * level
            size = (height // cell, width // cell)
            change = _resized(change, size)
            now = F.avg_pool2d(flow, cell) + change[:, :4]
            logit = F.avg_pool2d(mask, cell) + change[:, 4:]
            state = near.new_zeros(batch, self.config.state, *size) if state is None else _resized(state, size)
            step, state = self.estimator(near, far, now / cell, logit, time, state)
            change = change + torch.cat((step[:, :4] * cell * STEP, step[:, 4:] * MASK_STEP), 1)
            changes.append(change)
        change = _resized(change, (height // 2, width // 2))
        return [*changes, self.fine(left, right, flow, mask, change, state)]


class Encoder(nn.Module):
    """``(B, 3, H, W)`` -> ``(B, F, H/4, W/4)``."""

    def __init__(self, config: RefineConfig) -> None:
        super().__init__()
        self.first, self.second = conv(3, 24, stride=2), conv(24, 24)
        self.third, self.fourth = conv(24, 40, stride=2), conv(40, 40)
        self.last = conv(40, config.features)
        with torch.no_grad():  # edges, not brightness, tell places apart
            self.first.weight -= self.first.weight.mean((1, 2, 3), keepdim=True)

    def forward(self, image: Tensor) -> Tensor:
        for layer in (self.first, self.second, self.third, self.fourth):
            image = activate(layer(image))
        return self.last(image)


class Estimator(nn.Module):
    """Both features at the instant, compared -> correction ``(B, 5, h, w)`` in cells, and the new state."""

    def __init__(self, config: RefineConfig) -> None:
        super().__init__()
        self.radius = config.radius
        planes = (2 * config.radius + 1) ** 2 + 2 * config.features + config.state + EXTRA_PLANES
        self.enter = conv(planes, config.width, size=1)
        self.body = nn.ModuleList(conv(config.width, config.width) for _ in range(3))
        self.state = conv(config.width, config.state)
        self.correct = zero(nn.Conv2d(config.state, 7, 3, padding=1))

    def forward(
        self, left: Tensor, right: Tensor, flow: Tensor, mask: Tensor, time: Tensor, state: Tensor
    ) -> tuple[Tensor, Tensor]:
        views = [backward_warp(part, way) for part, way in ((left, flow[:, :2]), (right, flow[:, 2:]))]
        matches = compare(*views, self.radius)
        when = time.view(-1, 1, 1, 1).expand(-1, 1, *flow.shape[-2:])
        known = torch.cat(((flow / 8).tanh(), (mask / 4).tanh(), when), 1).to(views[0].dtype)
        x = activate(self.enter(torch.cat((matches, *views, state, known), 1)))
        for layer in self.body:
            x = activate(x + layer(x))
        state = activate(self.state(x))
        found = self.correct(state).float()
        # Motion that both views share moves along the straight line through the instant; the rest is each one's own.
        t = time.view(-1, 1, 1, 1)
        shared = torch.cat((-t * found[:, :2], (1 - t) * found[:, :2]), 1)
        return torch.cat((shared + found[:, 2:6], found[:, 6:]), 1), state


class Fine(nn.Module):
    """At half the picture's size: both pictures at the instant, and the state -> the change with its edges."""

    PLANES = 2 * 3 + 3 + 4 + 1

    def __init__(self, config: RefineConfig) -> None:
        super().__init__()
        carried = config.state // 4
        self.spread = conv(config.state, 4 * carried, size=1)
        self.enter = conv(self.PLANES + carried, config.fine)
        self.body = nn.ModuleList(conv(config.fine, config.fine) for _ in range(3))
        self.correct = zero(nn.Conv2d(config.fine, 5, 3, padding=1))

    def forward(self, left: Tensor, right: Tensor, flow: Tensor, mask: Tensor, change: Tensor, state: Tensor) -> Tensor:
        now = F.avg_pool2d(flow, 2) + change[:, :4]
        logit = F.avg_pool2d(mask, 2) + change[:, 4:]
        views = [
            backward_warp(F.avg_pool2d(picture.float(), 2), way / 2)
            for picture, way in ((left, now[:, :2]), (right, now[:, 2:]))
        ]
        dtype = self.enter.weight.dtype
        known = (*views, (views[0] - views[1]).abs(), (now / 32).tanh(), (logit / 4).tanh())
        known = torch.cat([part.to(dtype) for part in known], 1)
        x = activate(self.enter(torch.cat((known, F.pixel_shuffle(self.spread(state), 2)), 1)))
        for layer in self.body:
            x = activate(x + layer(x))
        found = self.correct(x).float()
        return change + torch.cat((found[:, :4] * 2 * STEP, found[:, 4:] * MASK_STEP), 1)


def compare(first: Tensor, second: Tensor, radius: int) -> Tensor:
    """Likeness of ``first(x, y)`` and ``second(x + dx, y + dy)`` for every shift of up to ``radius`` cells.

    ``(B, C, h, w)`` twice -> ``(B, (2·radius+1)², h, w)``: cosines of the angle between the features.
    """
    first, second = (F.normalize(part.float(), dim=1).to(part.dtype) for part in (first, second))
    return correlate(first, second, radius) * first.shape[1]


def activate(x: Tensor) -> Tensor:
    return F.leaky_relu(x, SLOPE)


def conv(inputs: int, outputs: int, stride: int = 1, size: int = 3) -> nn.Conv2d:
    """A convolution that keeps the variance of what passes through it and a leaky rectifier."""
    layer = nn.Conv2d(inputs, outputs, size, stride, size // 2)
    nn.init.kaiming_normal_(layer.weight, a=SLOPE)
    nn.init.zeros_(layer.bias)
    return layer


def zero(layer: nn.Conv2d) -> nn.Conv2d:
    """Start a layer at nothing: what hangs on it is learnt as a departure from what was given."""
    nn.init.zeros_(layer.weight)
    nn.init.zeros_(layer.bias)
    return layer


def _resized(planes: Tensor, size: tuple[int, int]) -> Tensor:
    if tuple(planes.shape[-2:]) == tuple(size):
        return planes
    return F.interpolate(planes, size, mode="bilinear")
