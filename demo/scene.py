"""A small film whose every instant is known: the truth that real clips do not have.

Dusk over hills: the camera pans and closes in, layers slide past one another (parallax, so they uncover
what they hid), a balloon drifts and sways, a windmill turns, a kite with lettering tumbles past in front of
both, thin fence posts rush by, and film grain changes from frame to frame. Everything is computed: textures
from smoothed noise, motion from formulas of time, so any instant can be drawn exactly.

Pictures are ``(H, W, 3)`` RGB uint8. Time is in source frames: 3.5 lies half-way between frames 3 and 4.
"""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np

FRAMES = 24
FPS = 12
WIDTH, HEIGHT = 480, 272
FINE = 2
"""Drawn this much larger than ``WIDTH`` and ``HEIGHT`` and area-reduced, as a lens would blur: no jagged or shimmering
edges."""
GRAIN = 2.0
"""Standard deviation of the grain, in 8-bit levels. Nobody can guess it: it limits any method to 42 dB."""


@dataclass(frozen=True)
class Layer:
    """A drawing ``(h, w, 4)`` float32 0..255 with premultiplied colour, centred on its middle."""

    drawing: np.ndarray

    def place(self, canvas: np.ndarray, x: float, y: float, angle: float = 0.0, size: float = 1.0) -> None:
        """Lay it over ``canvas`` with its centre at (x, y), turned by ``angle`` degrees, ``size`` times as large."""
        height, width = self.drawing.shape[:2]
        matrix = cv2.getRotationMatrix2D(((width - 1) / 2, (height - 1) / 2), angle, size)
        matrix[:, 2] += (x - (width - 1) / 2, y - (height - 1) / 2)
        corners = np.array([(0, 0, 1), (width, 0, 1), (0, height, 1), (width, height, 1)]) @ matrix.T
        # Only the box it covers is drawn, with a margin for interpolation.
        left, top = np.floor(corners.min(0) - 1).astype(int).clip(0)
        right, bottom = np.ceil(corners.max(0) + 2).astype(int)
        box = canvas[top : max(bottom, 0), left : max(right, 0)]
        if box.size == 0:
            return
        matrix[:, 2] -= (left, top)
        over = cv2.warpAffine(self.drawing, matrix, box.shape[1::-1], flags=cv2.INTER_LINEAR)
        box *= 1 - over[..., 3:] / 255
        box += over[..., :3]


def noise(rng: np.random.Generator, height: int, width: int, coarsest: float, octaves: int = 5) -> np.ndarray:
    """Cloudy noise ``(height, width)``, mean 0, deviation 1: octaves of smoothed noise, each half as strong."""
    total = np.zeros((height, width), np.float32)
    for octave in range(octaves):
        cell = coarsest / 2**octave
        small = rng.standard_normal((int(height / cell) + 4, int(width / cell) + 4)).astype(np.float32)
        total += cv2.resize(small, (width, height), interpolation=cv2.INTER_CUBIC) * 0.5**octave
    return (total - total.mean()) / total.std()


class Scene:
    """Call ``at(time)`` for the picture of any instant; the same ``seed`` gives the same film everywhere.

    enlarge: pictures this much larger than usual, up to ``FINE``, which leaves no reduction.
    """

    def __init__(self, seed: int = 7, enlarge: int = 1) -> None:
        rng = np.random.default_rng(seed)
        self._seed = seed
        self._size = WIDTH * enlarge, HEIGHT * enlarge
        self._sky = _sky(rng)
        self._far = _hills(rng, 620, 150.0, (96, 82, 118), 26.0)
        self._near = _hills(rng, 700, 90.0, (62, 84, 58), 30.0)
        self._fence = _fence(rng)
        self._balloon = _balloon(rng)
        self._tower, self._sails = _windmill(rng)
        self._kite = _kite()

    def at(self, time: float) -> np.ndarray:
        """The picture of an instant, its own grain included: ``(HEIGHT, WIDTH, 3)`` uint8, or larger as asked."""
        canvas = np.zeros((HEIGHT * FINE, WIDTH * FINE, 3), np.float32)
        middle, ground = WIDTH * FINE / 2, HEIGHT * FINE
        pan = 5.0 * time + 6.0 * np.sin(time / 5)  # of the near hills; what is farther moves less
        zoom = 1 + 0.006 * time
        self._sky.place(canvas, middle + 90 - 0.15 * pan, ground * 0.42, size=0.97 + 0.03 * zoom)
        self._far.place(canvas, middle + 160 - 0.45 * pan, ground * 0.78, size=0.7 + 0.3 * zoom)
        self._balloon.place(
            canvas, 230 + 9.0 * time, 190 - 30 * np.sin(time / 9), angle=9 * np.sin(time / 3), size=0.9 * zoom
        )
        hill_x, hill_y = middle + 240 - pan * 1.5, ground * 1.02
        self._near.place(canvas, hill_x, hill_y, size=zoom)
        mill_x, mill_y = hill_x + 60 * zoom, hill_y - 258 * zoom
        self._tower.place(canvas, mill_x, mill_y + 75 * zoom, size=zoom)
        self._sails.place(canvas, mill_x, mill_y, angle=-8.0 * time, size=zoom)
        self._kite.place(canvas, 980 - 26 * time, 150 + 60 * np.sin(time / 4 + 0.5), angle=-25 + 6 * time, size=1.0)
        self._fence.place(canvas, middle + 330 - pan * 3.4, ground - 20, size=zoom)
        picture = cv2.resize(canvas, self._size, interpolation=cv2.INTER_AREA)
        grain = np.random.default_rng((self._seed, round(time * 5040))).standard_normal(picture.shape[:2])
        picture += GRAIN * grain[..., None].astype(np.float32)
        return np.round(picture).clip(0, 255).astype(np.uint8)


def _layer(colour: np.ndarray, alpha: np.ndarray) -> Layer:
    """Colour ``(h, w, 3)`` 0..255 and coverage ``(h, w)`` 0..1 -> a layer with soft edges."""
    alpha = cv2.GaussianBlur(alpha.astype(np.float32), (0, 0), 0.7)[..., None]
    return Layer(np.concatenate((colour.clip(0, 255) * alpha, 255 * alpha), axis=2).astype(np.float32))


def _sky(rng: np.random.Generator) -> Layer:
    height, width = 700, 1500
    down = np.linspace(0, 1, height, dtype=np.float32)[:, None, None]
    colour = (1 - down) * np.float32((58, 74, 132)) + down * np.float32((250, 176, 120))
    clouds = np.clip(noise(rng, height, width, 170.0, 6) * 0.5, 0, 1)[..., None]
    colour = colour + clouds * (np.float32((255, 214, 190)) - colour) * 0.85
    return Layer(np.concatenate((colour, np.full((height, width, 1), 255, np.float32)), axis=2))


def _hills(rng: np.random.Generator, height: int, roughness: float, tint: tuple, contrast: float) -> Layer:
    width = 2300
    crest = 120 + 38 * noise(rng, 8, width, roughness * 2, 4)[4]
    depth = np.arange(height, dtype=np.float32)[:, None] - crest[None]
    colour = np.float32(tint) + contrast * noise(rng, height, width, 26.0, 5)[..., None]
    furrows = 10 * np.sin(depth / 6.5 + 2.5 * noise(rng, height, width, 220.0, 2))
    colour = colour + furrows[..., None] - 0.06 * depth.clip(0)[..., None]
    return _layer(colour, depth.clip(0, 1))


def _fence(rng: np.random.Generator) -> Layer:
    height, width = 190, 2600
    alpha = np.zeros((height, width), np.uint8)
    for x in range(30, width, 74):
        cv2.rectangle(alpha, (x, 30 + int(rng.integers(14))), (x + 9, height), 1, -1)
    for y in (70, 118):
        cv2.line(alpha, (0, y), (width, y + 4), 1, 3)
    colour = np.float32((74, 52, 40)) + 16 * noise(rng, height, width, 7.0, 3)[..., None]
    return _layer(colour.astype(np.float32), alpha)


def _balloon(rng: np.random.Generator) -> Layer:
    size = 230
    y, x = np.mgrid[:size, :size].astype(np.float32) - (size - 1) / 2
    y += 25
    radius = np.hypot(x, np.where(y > 0, y * 0.84, y))
    around = np.arcsin(np.clip(x / np.sqrt(np.maximum(86**2 - np.minimum(np.abs(y), 85) ** 2, 1)), -1, 1))
    stripe = (np.floor(around * 3.2 + 50) % 2)[..., None]
    colour = stripe * np.float32((214, 62, 48)) + (1 - stripe) * np.float32((244, 222, 170))
    colour = colour * (1 - 0.35 * (x / 86).clip(-1, 1) ** 2)[..., None] + 5 * noise(rng, size, size, 9.0, 3)[..., None]
    alpha = (86 - radius).clip(0, 1)
    basket = (np.abs(x) < 15) & (np.abs(y - 118) < 11)
    ropes = (np.abs(np.abs(x) - 14 - (118 - y) * 0.34) < 1.3) & (y > 70) & (y < 110)
    colour[basket | ropes] = (92, 62, 38)
    return _layer(colour, np.maximum(alpha, basket | ropes))


def _windmill(rng: np.random.Generator) -> tuple[Layer, Layer]:
    height, width = 190, 110
    y, x = np.mgrid[:height, :width].astype(np.float32)
    bricks = ((y // 9) % 2 * 8 + x) % 16 < 1.6
    colour = np.float32((206, 190, 168)) + 12 * noise(rng, height, width, 9.0, 4)[..., None]
    colour = colour - 46 * (bricks | (y % 9 < 1.6))[..., None] - 0.5 * np.abs(x - 40)[..., None]
    tower = _layer(colour, np.abs(x - width / 2) < 22 + 0.14 * y)
    sails = np.zeros((260, 260), np.uint8)
    for quarter in range(4):
        turn = np.array(((0, -1), (1, 0)))
        way, side = np.linalg.matrix_power(turn, quarter) @ (0, -1), np.linalg.matrix_power(turn, quarter) @ (1, 0)
        centre = np.array((130, 130))
        cv2.line(sails, centre.tolist(), (centre + 122 * way).astype(int).tolist(), 1, 5)
        for step in range(34, 124, 11):  # lattice: thin structures that turn
            start = centre + step * way
            cv2.line(sails, start.astype(int).tolist(), (start + 24 * side).astype(int).tolist(), 1, 2)
        cv2.line(
            sails,
            (centre + 34 * way + 24 * side).astype(int).tolist(),
            (centre + 122 * way + 24 * side).astype(int).tolist(),
            1,
            2,
        )
    cv2.circle(sails, (130, 130), 9, 1, -1)
    return tower, _layer(np.full((260, 260, 3), (58, 40, 34), np.float32), sails)


def _kite() -> Layer:
    size = 170
    colour = np.full((size, size, 3), (36, 118, 150), np.uint8)
    alpha = np.zeros((size, size), np.uint8)
    corners = np.array([(85, 6), (158, 70), (85, 164), (12, 70)])
    cv2.fillPoly(alpha, [corners], 1)
    cv2.fillPoly(colour, [corners[[0, 1, 3]]], (242, 196, 60))
    cv2.line(colour, (85, 6), (85, 164), (30, 40, 60), 3)
    cv2.line(colour, (12, 70), (158, 70), (30, 40, 60), 3)
    cv2.putText(colour, "FUSION", (34, 60), cv2.FONT_HERSHEY_DUPLEX, 0.85, (30, 40, 60), 2, cv2.LINE_AA)
    cv2.putText(colour, "FFT", (58, 104), cv2.FONT_HERSHEY_DUPLEX, 0.95, (250, 244, 226), 2, cv2.LINE_AA)
    return _layer(colour.astype(np.float32), alpha)
