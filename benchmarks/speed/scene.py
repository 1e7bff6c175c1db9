"""The clip that everybody interpolates: three textured layers that slide over each other at speeds of their own.

Like pictures of the world, each texture has about the same strength in every octave, from half the picture down to
four pixels; it is smooth, not noise, and the layers' edges are soft. Speeds are even numbers of pixels per frame and
grow with the picture, so that half-way between two frames the truth is exact too. The same numbers everywhere.
"""

from __future__ import annotations

import cv2
import numpy as np

FINEST = 4
"""Pixels per cell of the finest octave."""
SPEEDS = ((6, 2), (-10, 4), (4, -12))
"""Background, then the two things in front of it: pixels per frame (x, y) of a picture 512 high."""
PLACES = ((0.32, 0.42, 0.24), (0.68, 0.60, 0.18))
"""Centre (x, y) and radius of the two, as parts of width, height and height, in the middle of the clip."""


class Scene:
    """Pictures of ``(height, width, 3)``, float32 in 0..1, at any half or whole instant from 0 to ``frames - 1``."""

    def __init__(self, frames: int, height: int, width: int) -> None:
        self.size = height, width
        self.middle = (frames - 1) / 2
        self.speeds = [tuple(2 * round(part * height / 1024) for part in speed) for speed in SPEEDS]
        self._reach = [max(map(abs, speed)) * frames + 8 for speed in self.speeds]
        rng = np.random.default_rng(4025)
        self._ground = _texture(rng, height + 2 * self._reach[0], width + 2 * self._reach[0])
        self._things = [_thing(rng, round(radius * height)) for _, _, radius in PLACES]

    def at(self, instant: float) -> np.ndarray:
        height, width = self.size
        passed = instant - self.middle
        (x, y), reach = self.speeds[0], self._reach[0]
        top, left = reach - round(y * passed), reach - round(x * passed)
        picture = self._ground[top : top + height, left : left + width].copy()
        for (thing, cover), (across, down, _), (x, y) in zip(self._things, PLACES, self.speeds[1:], strict=True):
            middle = round(down * height) + round(y * passed), round(across * width) + round(x * passed)
            _lay(picture, thing, cover, middle)
        return picture

    def dulled(self, instant: float) -> np.ndarray:
        """As interpolation makes it, with less fine detail than the frames have."""
        return cv2.GaussianBlur(self.at(instant), (0, 0), 0.7)


def _texture(rng: np.random.Generator, height: int, width: int) -> np.ndarray:
    """``(height, width, 3)``: light in all octaves, colour in the coarse ones alone, as in photographs."""
    light = np.zeros((height, width), np.float32)
    cell = FINEST
    while cell < max(height, width) / 2:
        light += _octave(rng, height, width, cell)
        cell *= 2
    colour = [_octave(rng, height, width, max(64, height // 4)) for _ in range(3)]
    picture = np.stack([0.5 + 0.09 * light + 0.10 * plane for plane in colour], axis=-1)
    return np.clip(picture, 0.02, 0.98, out=picture)


def _octave(rng: np.random.Generator, height: int, width: int, cell: int) -> np.ndarray:
    coarse = rng.standard_normal((height // cell + 4, width // cell + 4)).astype(np.float32)
    shape = coarse.shape[1] * cell, coarse.shape[0] * cell
    return cv2.resize(coarse, shape, interpolation=cv2.INTER_CUBIC)[cell : cell + height, cell : cell + width]


def _thing(rng: np.random.Generator, radius: int) -> tuple[np.ndarray, np.ndarray]:
    """A round thing with a soft edge: its texture and how much of it covers what lies behind."""
    side = 2 * radius + 1
    y, x = np.mgrid[-radius : radius + 1, -radius : radius + 1].astype(np.float32)
    edge = max(2.0, radius / 40)
    cover = np.clip((0.96 * radius - np.hypot(x, y)) / edge, 0, 1)[..., None]
    return _texture(rng, side, side), cover.astype(np.float32)


def _lay(picture: np.ndarray, thing: np.ndarray, cover: np.ndarray, middle: tuple[int, int]) -> None:
    """Lays the thing over the picture, with its middle at (y, x); what leaves the picture is cut off."""
    inside, part = [], []
    for centre, length, side in zip(middle, picture.shape, thing.shape, strict=False):
        start = centre - side // 2
        inside.append(slice(max(start, 0), max(min(start + side, length), 0)))
        part.append(slice(inside[-1].start - start, inside[-1].stop - start))
    there, here = picture[tuple(inside)], tuple(part)
    there += cover[here] * (thing[here] - there)
