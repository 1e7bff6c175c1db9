"""Made-up motion over real pictures, exact everywhere, occlusions included.

A scene is a stack of layers, all defined at the instant t: a background, foregrounds of any outline, a thin structure
(wires, a fence, a net), and particles. Each layer moves linearly in time, x(s) = x + (s − t)·(A·x + b) for a matrix A
near 0, which turns, zooms and shears and has a closed inverse; each particle goes its own way. So the pictures at 0 and
1 are looked up exactly, and the motion t→0 and t→1 of every visible point is known.

Everything happens on the device of the pictures, without waiting for it: what a sample lacks is drawn transparent.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn import functional

PRESENT = (1.0, 0.6, 0.35)
"""Chance that a sample has the first, second, third foreground."""
PARTICLES = 16

Uniform = Callable[..., Tensor]


class Move(NamedTuple):
    """x(s) = x + (s − t)·(bend·x + shift), in pixels from the centre: ``(count, 2, 2)`` and ``(count, 2)``."""

    bend: Tensor
    shift: Tensor

    def speed(self, size: int) -> Tensor:
        """From 0 to 1, of what is at each pixel at t: ``(count, 2, S, S)``."""
        bent = torch.einsum("nij,yxj->niyx", self.bend, _coordinates(size, self.bend.device))
        return bent + self.shift[:, :, None, None]

    def origin(self, size: int, ahead: Tensor) -> Tensor:
        """Where the points seen ``ahead (count,)`` of t were at t, ``(count, S, S, 2)``: the inverse of x(s)."""
        matrix = torch.eye(2, device=self.bend.device) + ahead[:, None, None] * self.bend
        moved = _coordinates(size, self.bend.device) - (ahead[:, None] * self.shift)[:, None, None]
        return torch.einsum("nij,nyxj->nyxi", torch.linalg.inv_ex(matrix)[0], moved)  # unlike inv, does not wait


def layers(
    pictures: Tensor,
    count: int,
    motion: float,
    generator: torch.Generator,
    *,
    foregrounds: int = 3,
    thin: float = 0.4,
    particles: float = 0.3,
    grain: float = 0.0,
    compression: float = 0.0,
) -> tuple[Tensor, ...]:
    """``count`` scenes textured with the first of ``pictures`` ``(B, 3, S, S)``.

    motion: largest translation from 0 to 1, pixels; lengths are spread evenly over octaves.
    foregrounds: at most so many, 0 to 3. thin, particles: share of samples with a thin structure, with particles.
    grain: largest standard deviation of grain, another one in each input. compression: largest quantisation step of
        the inputs' 8x8 cosine transforms. Both in units of white, 0.03 and 0.1 are much; the truth stays clean.
    -> img0, gt, img1, t, flow, trust as in ``data.Batch``.
    """
    device, size = pictures.device, pictures.shape[-1]

    def uniform(*shape: int) -> Tensor:
        return torch.rand(shape, generator=generator, device=device)

    t = 0.1 + 0.8 * uniform(count)
    stack: list[Callable[[Tensor], tuple[Tensor, Tensor, Tensor]]] = [
        _sheet(
            pictures.roll(-n, 0)[:count],
            _outline(uniform, count, size, PRESENT[n - 1]) if n else None,
            _move(uniform, count, motion, size),
            uniform(count, 1, 1, 2) - 0.5,
        )
        for n in range(foregrounds + 1)
    ]
    if thin:
        # Behind the last foreground, where there is one to hide it.
        stack.insert(max(1, foregrounds), _wires(uniform, count, size, _move(uniform, count, motion, size), thin))
    if particles:
        stack.append(_particles(uniform, count, size, motion, particles))

    def seen(instant: Tensor) -> tuple[Tensor, Tensor]:
        """The picture, and the speed of what is uppermost: the latter means something at the instant t only."""
        picture, _, speed = stack[0](instant - t)
        for layer in stack[1:]:
            colour, alpha, own = layer(instant - t)
            picture, speed = torch.lerp(picture, colour, alpha), torch.where(alpha > 0.5, own, speed)
        return picture, speed

    (img0, _), (gt, speed), (img1, _) = (seen(instant) for instant in (torch.zeros_like(t), t, torch.ones_like(t)))
    when = t[:, None, None, None]
    flow = torch.cat([-when * speed, (1 - when) * speed], dim=1)
    if grain or compression:
        how_grainy, how_coarse = grain * uniform(count) ** 2, compression * uniform(count) ** 2
        img0, img1 = (age(image, how_grainy, how_coarse, generator) for image in (img0, img1))
    return img0, gt, img1, t, flow, torch.ones_like(flow[:, :2])


def age(image: Tensor, grain: Tensor, step: Tensor, generator: torch.Generator) -> Tensor:
    """``(B, 3, H, W)`` 0..1 with grain of a standard deviation ``(B,)``, then stored badly, see ``quantise``."""
    fine = torch.randn(image[:, :1].shape, generator=generator, device=image.device)
    # Grain is larger than a pixel: half of it blurred, which together has a standard deviation near 1.3.
    grown = (fine + 2 * functional.avg_pool2d(fine, 3, 1, 1)) / 1.3
    return quantise(image + grain[:, None, None, None] * grown, step).clamp(0, 1)


def quantise(image: Tensor, step: Tensor) -> Tensor:
    """8x8 blocks' cosine transforms rounded to multiples of ``step (B,)`` for slow waves, several times that for fast
    ones and for colour, as video and JPEG encoders do. 0 leaves a sample alone."""
    height, width = image.shape[-2:]
    padded = functional.pad(image, (0, -width % 8, 0, -height % 8), mode="replicate")
    line = torch.arange(8, device=image.device, dtype=torch.float32)
    waves = (
        torch.cos(math.pi / 8 * (line + 0.5) * line[:, None]) / 2
    )  # (frequency, place), orthonormal but for the first
    waves[0] /= math.sqrt(2)
    red, green, blue = padded.unbind(1)
    luma = 0.299 * red + 0.587 * green + 0.114 * blue
    planes = torch.stack((luma, red - luma, blue - luma), dim=1)
    blocks = planes.unflatten(-1, (-1, 8)).unflatten(-3, (-1, 8)).transpose(-2, -3)  # (B, 3, H/8, W/8, 8, 8)
    coarse = 1 + (line + line[:, None]) / 3
    coarse = torch.stack((coarse, 2.5 * coarse, 2.5 * coarse))[:, None, None]
    bins = step.clamp(min=1e-4).view(-1, 1, 1, 1, 1, 1) * coarse
    rounded = (waves @ blocks @ waves.mT / bins).round() * bins
    y, red, blue = (waves.mT @ rounded @ waves).transpose(-2, -3).flatten(-2).flatten(-3, -2).unbind(1)
    green = y - (0.299 * red + 0.114 * blue) / 0.587
    stored = torch.stack((y + red, green, y + blue), dim=1)[..., :height, :width]
    return torch.where(step.view(-1, 1, 1, 1) > 0, stored, image)


# --- layers: ahead (count,) of t -> colour (count, 3, S, S), alpha (count, 1, S, S), speed (count, 2, S, S) ----------


def _sheet(picture: Tensor, outline: Tensor | None, move: Move, offset: Tensor):
    """A picture cut out. It is ``offset`` by a part of a pixel, or the truth alone would not be resampled."""
    size = picture.shape[-1]

    def at(ahead: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        place = move.origin(size, ahead)
        colour, speed = _look_up(picture, place + offset), move.speed(size)
        return colour, torch.ones_like(colour[:, :1]) if outline is None else _look_up(outline, place), speed

    return at


def _wires(uniform: Uniform, count: int, size: int, move: Move, share: float):
    """Lines 1 to 3 pixels wide: straight or waving, one or many side by side, crossed by others or not.

    They are known at every place, not looked up in a picture, so that a line of one pixel stays one.
    """
    angle, phase, half = 2 * math.pi * uniform(count), 2 * math.pi * uniform(count), 0.5 + uniform(count)
    apart = size * torch.exp2(-4 * uniform(count)) + 6
    across = apart * (0.7 + uniform(count))
    sway = torch.where(uniform(count) < 0.5, 0.06 * size * uniform(count), 0.0)
    wave = 2 * math.pi / (size * (0.3 + uniform(count)))
    crossed, there = uniform(count) < 0.4, uniform(count) < share
    reach = torch.where(uniform(count) < 0.5, 4.0 * size, size * (0.2 + 0.4 * uniform(count)))
    centre = (uniform(count, 2) - 0.5) * 0.5 * size
    colour = uniform(count, 3)[:, :, None, None].expand(-1, -1, size, size)
    angle, phase, half, apart, across, sway, wave, crossed, there, reach = (
        each[:, None, None] for each in (angle, phase, half, apart, across, sway, wave, crossed, there, reach)
    )

    def at(ahead: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        place = move.origin(size, ahead)
        x, y = place.unbind(-1)
        along, over = angle.cos() * x + angle.sin() * y, angle.cos() * y - angle.sin() * x
        slope = sway * wave * torch.cos(wave * along + phase)
        miss = _nearest(over - sway * torch.sin(wave * along + phase), apart) * torch.rsqrt(1 + slope**2)
        miss = torch.where(crossed, torch.minimum(miss, _nearest(along, across)), miss)
        distance = torch.linalg.vector_norm(place - centre[:, None, None], dim=-1)
        alpha = (half + 0.5 - miss).clamp(0, 1) * (reach - distance).clamp(0, 1) * there
        return colour, alpha[:, None], move.speed(size)

    return at


def _particles(uniform: Uniform, count: int, size: int, motion: float, share: float):
    """Discs of 1 to 3 pixels' radius, each with a colour and a motion of its own."""
    start = (uniform(count, PARTICLES, 2) - 0.5) * size
    angle, length = 2 * math.pi * uniform(count, PARTICLES), motion * torch.exp2(-4 * uniform(count, PARTICLES))
    shift = torch.stack((angle.cos(), angle.sin()), -1) * length[..., None]
    radius = (1 + 2 * uniform(count, PARTICLES) ** 2)[:, :, None, None]
    line = torch.arange(size, device=start.device) - (size - 1) / 2
    colours, there = uniform(count, PARTICLES, 3), (uniform(count) < share)[:, None, None, None]

    def at(ahead: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        centre = start + ahead[:, None, None] * shift
        x, y = (line - centre[..., None]).square().unbind(2)  # each (count, P, S)
        alpha, which = (radius + 0.5 - (x[:, :, None] + y[..., None]).sqrt_()).max(1)
        alpha = alpha.clamp(0, 1)

        def of(values: Tensor) -> Tensor:
            """``(count, P, C)`` -> that of the particle at each pixel, ``(count, C, S, S)``."""
            picked = values.gather(1, which.flatten(1)[..., None].expand(-1, -1, values.shape[-1]))
            return picked.mT.unflatten(-1, (size, size))

        return of(colours), alpha[:, None] * there, of(shift)

    return at


def _move(uniform: Uniform, count: int, motion: float, size: int) -> Move:
    angle = 2 * math.pi * uniform(count)
    length = motion * torch.exp2(-6 * uniform(count))
    strength = 0.25 * uniform(count, 3) ** 2 * min(1.0, 4 * motion / size)
    turn, zoom, shear = (strength * (2 * uniform(count, 3) - 1)).unbind(-1)
    bend = torch.stack((zoom, shear / 2 - turn, shear / 2 + turn, zoom), -1).view(count, 2, 2)
    return Move(bend, torch.stack((angle.cos(), angle.sin()), -1) * length[:, None])


def _outline(uniform: Uniform, count: int, size: int, chance: float) -> Tensor:
    """Blobs that fill from a tenth to a half of a picture, with a soft pixel at their edge: ``(count, 1, S, S)``."""
    blob = functional.interpolate(uniform(count, 1, 5, 5), (size, size), mode="bicubic", align_corners=True)
    level = 0.5 + 0.2 * uniform(count, 1, 1, 1)
    return ((blob - level) * size / 4).clamp(0, 1) * (uniform(count, 1, 1, 1) < chance)


def _nearest(value: Tensor, period: Tensor) -> Tensor:
    """Distance to the nearest multiple of ``period``."""
    return (value - period * torch.round(value / period)).abs()


def _coordinates(size: int, device: torch.device) -> Tensor:
    """``(S, S, 2)`` pixels from the centre, x before y."""
    line = torch.arange(size, device=device, dtype=torch.float32) - (size - 1) / 2
    return torch.stack(torch.meshgrid(line, line, indexing="xy"), -1)


def _look_up(texture: Tensor, place: Tensor) -> Tensor:
    grid = place * (2 / (texture.shape[-1] - 1))
    return functional.grid_sample(texture, grid, padding_mode="reflection", align_corners=True)
