"""Motion as colour: direction is hue, speed is saturation; the usual wheel (Baker et al., IJCV 2011).

Right is red, down yellow-green, left cyan-blue, up violet; what does not move is white.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

# Hue segments of the wheel: how many steps between two of red, yellow, green, cyan, blue, magenta. They are
# uneven because the eye tells more hues apart between some of them than between others.
_STEPS = (15, 6, 4, 11, 13, 6)
_CORNERS = ((1, 0, 0), (1, 1, 0), (0, 1, 0), (0, 1, 1), (0, 0, 1), (1, 0, 1))


def flow_to_colour(flow: Tensor, fastest: float | Tensor | None = None) -> Tensor:
    """``(B, 2, H, W)`` pixels -> RGB ``(B, 3, H, W)`` in 0..1.

    fastest: the speed in pixels that is shown fully saturated; None: each picture's own 99th percentile.
    Faster motion is darkened.
    """
    flow = flow.float()
    speed = flow.square().sum(1, keepdim=True).sqrt()
    if fastest is None:
        sample = speed.flatten(1)[:, :: max(1, speed[0].numel() // 65536)]
        fastest = sample.quantile(0.99, dim=1).clamp_min(1e-3)[:, None, None, None]
    share = speed / fastest
    wheel = _wheel(flow.device)
    angle = torch.atan2(-flow[:, 1], -flow[:, 0]) / math.pi  # -1 .. 1
    place = (angle + 1) / 2 * len(wheel)  # a full turn is back at the first colour
    between = place.frac().unsqueeze(1)
    low = place.long() % len(wheel)
    colour = torch.lerp(
        wheel[low].permute(0, 3, 1, 2), wheel[(low + 1) % len(wheel)].permute(0, 3, 1, 2), between
    )  # (B, 3, H, W)
    return torch.where(share <= 1, 1 - share * (1 - colour), colour * 0.75)


def _wheel(device: torch.device) -> Tensor:
    """``(55, 3)`` RGB around the wheel, starting at red."""
    corners = torch.tensor(_CORNERS, dtype=torch.float32, device=device)
    parts = [
        torch.lerp(corners[i], corners[(i + 1) % 6], torch.arange(n, device=device)[:, None] / n)
        for i, n in enumerate(_STEPS)
    ]
    return torch.cat(parts)
