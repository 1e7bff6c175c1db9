"""Sheets: truth, ours, a rival, their errors and an enlarged patch, for the worst instants."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

import cv2
import numpy as np

from ..drawing import save_png


class Sheet:
    """Keeps the worst instants: truth, the answers, their errors (×4), and one patch of each enlarged, a row for
    each instant, worst first. Only these rows' thumbnails are held.

    patch: ``grain``: where the most grain is; ``error``: where the first answer is furthest off.
    """

    WIDTH = 320
    GAIN = 4
    PATCH = 56

    def __init__(self, rows: int = 4, patch: Literal["grain", "error"] = "grain") -> None:
        self.rows, self.patch = rows, patch
        self.worst: list[tuple[float, np.ndarray]] = []

    def add(self, rank: float, label: str, truth: np.ndarray, answers: dict[str, np.ndarray]) -> None:
        """rank: the lower, the worse. answers: caption -> ``(H, W, 3)`` uint8, as many at every call."""
        if len(self.worst) == self.rows and rank >= self.worst[-1][0]:
            return
        self.worst = sorted([*self.worst, (rank, self._row(label, truth, answers))], key=lambda r: r[0])[: self.rows]

    def _row(self, label: str, truth: np.ndarray, answers: dict[str, np.ndarray]) -> np.ndarray:
        shown = [truth, *answers.values()]
        errors = [cv2.convertScaleAbs(cv2.absdiff(made, truth), alpha=self.GAIN) for made in shown[1:]]
        tiles = [_thumbnail(picture, self.WIDTH) for picture in (*shown, *errors)]
        detail = _grain(truth) if self.patch == "grain" else cv2.absdiff(shown[1], truth).max(axis=2)
        place = _strongest(detail.astype(np.float32), self.PATCH)
        tiles += [_enlarged(picture[place], tiles[0].shape[:2]) for picture in shown]
        names = ["truth", *answers]
        titles = [*names, *(f"error x{self.GAIN}: {name}" for name in answers), *(f"patch: {name}" for name in names)]
        row = np.hstack([titled(tile, title) for tile, title in zip(tiles, titles, strict=True)])
        return titled(row, label)

    def write(self, path: Path) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        save_png(path, np.vstack([row for _, row in self.worst]))


def titled(picture: np.ndarray, title: str) -> np.ndarray:
    """A caption bar of 22 px above an ``(H, W, 3)`` uint8 picture. ASCII only: OpenCV's fonts know no more."""
    bar = np.full((22, picture.shape[1], 3), 24, np.uint8)
    cv2.putText(bar, title, (6, 15), cv2.FONT_HERSHEY_SIMPLEX, 0.42, (235, 235, 235), 1, cv2.LINE_AA)
    return np.vstack((bar, picture))


def _thumbnail(picture: np.ndarray, width: int) -> np.ndarray:
    height = max(1, round(picture.shape[0] * width / picture.shape[1]))
    return cv2.resize(picture, (width, height), interpolation=cv2.INTER_AREA)


def _grain(picture: np.ndarray) -> np.ndarray:
    """Strength of the finest detail, cut off: the strongest is usually a hard edge."""
    grey = cv2.cvtColor(picture, cv2.COLOR_RGB2GRAY).astype(np.float32)
    return np.minimum(cv2.absdiff(grey, cv2.GaussianBlur(grey, (0, 0), 1.0)), 12)


def _strongest(detail: np.ndarray, side: int) -> tuple[slice, slice]:
    """The square of ``side`` pixels with the largest sum of ``(H, W)`` float32 ``detail``."""
    strength = cv2.boxFilter(detail, -1, (side, side))
    inner = strength[side // 2 : -(side // 2) or None, side // 2 : -(side // 2) or None]
    if not inner.size:
        return slice(None), slice(None)
    y, x = np.unravel_index(int(inner.argmax()), inner.shape)
    return slice(int(y), int(y) + side), slice(int(x), int(x) + side)


def _enlarged(patch: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """The patch as large as it fits into ``size``, its pixels visible, on dark ground."""
    height, width = size
    factor = max(1, min(height // patch.shape[0], width // patch.shape[1]))
    tile = np.full((height, width, 3), 24, np.uint8)
    grown = patch.repeat(factor, 0).repeat(factor, 1)[:height, :width]
    tile[: grown.shape[0], : grown.shape[1]] = grown
    return tile
