"""Draws icon.png and banner.png beside itself: two frames, the one between them, and the band of its spectrum.

    python assets/draw.py

Everything is distance fields and strokes, four times enlarged and averaged down; no fonts, no other files.
"""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np

HERE = Path(__file__).resolve().parent
ZOOM = 4
NIGHT, DUSK = (0.035, 0.045, 0.085), (0.095, 0.065, 0.190)
TEAL, VIOLET, AMBER, PAPER = (0.10, 0.80, 0.76), (0.46, 0.36, 0.98), (1.00, 0.68, 0.22), (0.96, 0.97, 0.99)

# Middle lines of strokes 12 thick; capitals are 100 tall, small letters 70; y runs down, the base line is 100.
_TURN = np.linspace(0, np.pi, 49)


def _bow(x: float, y: float, radius: float, start: float, way: int = 1) -> list[tuple[float, float]]:
    """Half a circle around ``(x, y)`` from the angle ``start``, clockwise, or back (``way`` -1)."""
    return [(x + radius * np.cos(start + way * a), y + radius * np.sin(start + way * a)) for a in _TURN]


LETTERS = {
    "F": (52, [[(49, 6), (6, 6), (6, 94)], [(6, 50), (42, 50)]]),
    "u": (62, [[(6, 36), *_bow(31, 69, 25, np.pi, -1), (56, 36)]]),
    "s": (52, [[(43, 36), *_bow(20, 50.5, 14.5, -np.pi / 2, -1), *_bow(31, 79.5, 14.5, -np.pi / 2), (7, 94)]]),
    "i": (12, [[(6, 36), (6, 94)], [(6, 11), (6, 11.1)]]),
    "o": (70, [[*_bow(35, 65, 29, 0), *_bow(35, 65, 29, np.pi)]]),
    "n": (62, [[(6, 36), (6, 94)], [(6, 61), *_bow(31, 61, 25, np.pi), (56, 94)]]),
    "T": (62, [[(6, 6), (56, 6)], [(31, 6), (31, 94)]]),
}


class Picture:
    """Linear light, ``(H, W, 3)``; coordinates in final pixels."""

    def __init__(self, width: int, height: int) -> None:
        self.width, self.height = width, height
        y, x = np.mgrid[: height * ZOOM, : width * ZOOM].astype(np.float32)
        self.x, self.y = (x + 0.5) / ZOOM, (y + 0.5) / ZOOM
        self.light = np.zeros((height * ZOOM, width * ZOOM, 3), np.float32)

    def ground(self, glow: tuple[float, float], reach: float) -> None:
        share = (self.x / self.width + self.y / self.height) / 2
        self.light[:] = _linear(NIGHT) + share[..., None] * (_linear(DUSK) - _linear(NIGHT))
        near = np.exp(-((self.x - glow[0]) ** 2 + (self.y - glow[1]) ** 2) / reach**2)
        self.add(near * 0.10, VIOLET)

    def lay(self, mask: np.ndarray, colour: tuple[float, float, float]) -> None:
        """Cover with a colour."""
        self.light += mask[..., None] * (_linear(colour) - self.light)

    def add(self, mask: np.ndarray, colour: tuple[float, float, float]) -> None:
        """Shine a colour on top."""
        self.light += mask[..., None] * _linear(colour)

    def card(self, x: float, y: float, half_width: float, half_height: float, radius: float) -> np.ndarray:
        """Signed distance from a round-cornered box: negative inside."""
        dx = np.abs(self.x - x) - half_width + radius
        dy = np.abs(self.y - y) - half_height + radius
        return np.hypot(dx.clip(0), dy.clip(0)) + np.minimum(np.maximum(dx, dy), 0) - radius

    def word(self, text: str, x: float, y: float, height: float, gap: float = 22) -> tuple[np.ndarray, float]:
        """Mask of ``text`` with its capitals' top left corner at ``(x, y)``, and where it ends."""
        mask = np.zeros(self.light.shape[:2], np.uint8)
        scale = height / 100
        for letter in text:
            advance, strokes = LETTERS[letter]
            for stroke in strokes:
                points = (np.array([x, y]) + np.array(stroke) * scale) * ZOOM * 16
                cv2.polylines(
                    mask, [points.round().astype(np.int32)], False, 255, round(12 * scale * ZOOM), cv2.LINE_AA, 4
                )
            x += (advance + gap) * scale
        return mask.astype(np.float32) / 255, x - gap * scale

    def pixels(self) -> np.ndarray:
        """``(H, W, 3)`` uint8, blue first as OpenCV writes it."""
        light = cv2.resize(self.light, (self.width, self.height), interpolation=cv2.INTER_AREA).clip(0, 1)
        return np.rint(np.where(light <= 0.0031308, 12.92 * light, 1.055 * light ** (1 / 2.4) - 0.055) * 255)[..., ::-1]


def mark(picture: Picture, x: float, y: float, size: float) -> None:
    """A frame before, a frame after, and the one between: the rings of a spectrum with one band lit."""
    wide, high, round_ = 0.255 * size, 0.225 * size, 0.05 * size
    for side, colour in ((-1, TEAL), (1, VIOLET)):
        card = picture.card(x + side * 0.125 * size, y + side * 0.115 * size, wide, high, round_)
        fall = ((picture.x - x) * side / (0.4 * size)).clip(0, 1)
        picture.lay(smooth(card, 0.04 * size) * 0.4, NIGHT)
        picture.lay(inside(card), colour)
        picture.lay(inside(card) * 0.5 * (1 - fall), NIGHT)
    card = picture.card(x, y, wide, high, round_)
    picture.lay(smooth(card, 0.045 * size) * 0.8, NIGHT)
    picture.lay(inside(card), NIGHT)
    spectrum(picture, x, y, high * 0.94, inside(card))
    line = 0.016 * size
    edge = inside(np.abs(card + line / 2) - line / 2)
    across = (((picture.x - x) / wide + (picture.y - y) / high) / 4 + 0.5).clip(0, 1)[..., None]
    picture.light += edge[..., None] * ((1 - across) * _linear(TEAL) + across * _linear(VIOLET) - picture.light)


def spectrum(picture: Picture, x: float, y: float, reach: float, mask: np.ndarray) -> None:
    """Bright in the middle, weaker outwards; amber where detail is lent."""
    radius = np.hypot(picture.x - x, picture.y - y) / reach
    picture.add(mask * 0.10 * np.exp(-((radius / 0.75) ** 2)), VIOLET)
    picture.add(mask * np.exp(-((radius / 0.13) ** 2)), PAPER)
    for ring, strength in ((0.27, 0.75), (0.43, 0.42)):
        picture.add(mask * np.exp(-(((radius - ring) / 0.022) ** 2)) * strength, PAPER)
    picture.add(mask * np.exp(-(((radius - 0.68) / 0.17) ** 2)) * 0.13, AMBER)
    picture.lay(mask * inside((np.abs(radius - 0.68) - 0.075) * reach), AMBER)


def inside(distance: np.ndarray) -> np.ndarray:
    """1 where a signed distance in pixels is negative, soft over one pixel."""
    return smooth(distance, 0.5)


def smooth(distance: np.ndarray, edge: float) -> np.ndarray:
    share = ((edge - distance) / (2 * edge)).clip(0, 1)
    return share * share * (3 - 2 * share)


def icon() -> np.ndarray:
    """``(400, 400, 4)``: the mark on a round-cornered tile."""
    picture = Picture(400, 400)
    picture.ground((200, 200), 170)
    mark(picture, 200, 200, 430)
    shape = inside(picture.card(200, 200, 200, 200, 84))
    alpha = cv2.resize(shape, (400, 400), interpolation=cv2.INTER_AREA)
    return np.dstack((picture.pixels(), np.rint(alpha * 255))).astype(np.uint8)


def banner() -> np.ndarray:
    """``(720, 1680, 3)``: mark and name, and a row of frames: real ones, and the made ones between them."""
    picture = Picture(1680, 720)
    picture.ground((395, 360), 560)
    radius = np.hypot(picture.x - 395, picture.y - 360)
    for ring in range(300, 720, 70):
        picture.add(np.exp(-(((radius - ring) / 1.2) ** 2)) * 0.045 * (1 - ring / 760), PAPER)
    mark(picture, 400, 360, 600)
    name, end = picture.word("Fusion", 740, 272, 132)
    picture.lay(name, PAPER)
    rest, end = picture.word("FFT", end + 29, 272, 132)
    picture.lay(rest, AMBER)
    count, high = 11, 15
    for number in range(count):
        x = 740 + 34 + (end - 740 - 68) * number / (count - 1)
        card = picture.card(x, 466, 34, high, 9)
        if number % 2:
            picture.lay(inside(np.abs(card + 2) - 2), AMBER)
            picture.lay(inside(card) * 0.16, AMBER)
        else:
            picture.lay(inside(card), tuple(0.62 * c for c in PAPER))
    return picture.pixels().astype(np.uint8)


def _linear(colour: tuple[float, float, float]) -> np.ndarray:
    return np.array(colour, np.float32) ** 2.2


if __name__ == "__main__":
    for name, drawing in (("icon.png", icon), ("banner.png", banner)):
        (HERE / name).write_bytes(cv2.imencode(".png", drawing(), [cv2.IMWRITE_PNG_COMPRESSION, 9])[1].tobytes())
