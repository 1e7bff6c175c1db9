"""Made-up motion over real pictures, exact everywhere, occlusions included.

A scene is a background and a foreground of any outline, both defined at the instant t. Each moves
linearly in time, x(s) = x + (s − t)·(A·x + b) for a matrix A near 0, which has a closed inverse; so the pictures at
0 and 1 are looked up exactly, and the motion t→0 and t→1 of every visible point is known.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional


def layers(pictures: Tensor, count: int, motion: float, generator: torch.Generator) -> tuple[Tensor, ...]:
    """``count`` scenes textured with the first of ``pictures`` ``(B, 3, S, S)``.

    motion: largest translation from 0 to 1, pixels; lengths are spread evenly over octaves.
    -> img0, gt, img1, t, flow, trust as in ``data.Batch``.
    """
    device, size = pictures.device, pictures.shape[-1]

    def uniform(*shape: int) -> Tensor:
        return torch.rand(shape, generator=generator, device=device)

    def moving() -> tuple[Tensor, Tensor]:
        angle = 2 * torch.pi * uniform(count)
        length = motion * torch.exp2(-6 * uniform(count))
        shift = torch.stack([angle.cos(), angle.sin()], -1) * length[:, None]
        bend = (2 * uniform(count, 2, 2) - 1) * 0.25 * uniform(count, 1, 1) ** 2 * min(1.0, 4 * motion / size)
        return bend, shift

    t = 0.1 + 0.8 * uniform(count)
    textures = (pictures[:count], pictures.roll(-1, 0)[:count])
    blob = functional.interpolate(uniform(count, 1, 5, 5), (size, size), mode="bicubic", align_corners=True)
    outline = ((blob - 0.55) * size / 4).clamp(0, 1)  # about half of the picture, a soft pixel at the edge
    motions = (moving(), moving())

    def seen(instant: Tensor | float) -> Tensor:
        ahead = (instant - t)[:, None, None]
        places = [_origin(size, ahead, *move) for move in motions]
        back, front = (_look_up(texture, place) for texture, place in zip(textures, places, strict=True))
        return torch.lerp(back, front, _look_up(outline, places[1]))

    speeds = [_speed(size, *move) for move in motions]  # (count, S, S, 2), from 0 to 1
    visible = torch.where(outline > 0.5, *(speed.permute(0, 3, 1, 2) for speed in reversed(speeds)))
    when = t[:, None, None, None]
    flow = torch.cat([-when * visible, (1 - when) * visible], dim=1)
    gt = torch.lerp(*textures, outline)
    return seen(0.0), gt, seen(1.0), t, flow, torch.ones_like(flow[:, :2])


def _coordinates(size: int, device: torch.device) -> Tensor:
    """``(S, S, 2)`` pixels from the centre, x before y."""
    line = torch.arange(size, device=device, dtype=torch.float32) - (size - 1) / 2
    return torch.stack(torch.meshgrid(line, line, indexing="xy"), -1)


def _speed(size: int, bend: Tensor, shift: Tensor) -> Tensor:
    return torch.einsum("nij,yxj->nyxi", bend, _coordinates(size, bend.device)) + shift[:, None, None]


def _origin(size: int, ahead: Tensor, bend: Tensor, shift: Tensor) -> Tensor:
    """Where the points seen ``ahead`` of t were at t: the inverse of x ↦ x + ahead·(A·x + b)."""
    matrix = torch.eye(2, device=bend.device) + ahead * bend
    moved = _coordinates(size, bend.device) - (ahead * shift[:, None])[:, None]
    return torch.einsum("nij,nyxj->nyxi", torch.linalg.inv_ex(matrix)[0], moved)  # unlike inv, waits for no device


def _look_up(texture: Tensor, place: Tensor) -> Tensor:
    grid = place * (2 / (texture.shape[-1] - 1))
    return functional.grid_sample(texture, grid, padding_mode="reflection", align_corners=True)
