"""Sheets: truth, ours, baseline, their errors and an enlarged patch, for the worst instants of a clip."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np

from ..quality import psnr


class Sheet:
    """Keeps a clip's worst instants: truth, ours, baseline, both errors (×4), and the patch with the most grain
    enlarged from each, a row for each instant."""

    ROWS = 4
    WIDTH = 320
    GAIN = 4
    PATCH = 56

    def __init__(self, ours: str, baseline: str | None) -> None:
        self.ours, self.baseline = ours, baseline
        self.worst: list[tuple[float, str, list[np.ndarray]]] = []

    def add(self, label: str, truth: np.ndarray, answers: dict[str, np.ndarray]) -> None:
        score = psnr(answers[self.ours] / 255.0, truth / 255.0)
        if len(self.worst) == self.ROWS and score >= self.worst[-1][0]:
            return
        shown = [truth] + [answers[n] for n in (self.ours, self.baseline) if n]
        errors = [cv2.convertScaleAbs(cv2.absdiff(made, truth), alpha=self.GAIN) for made in shown[1:]]
        tiles = [_thumbnail(picture, self.WIDTH) for picture in (*shown, *errors)]
        place = _grainiest(truth, self.PATCH)
        tiles += [_enlarged(picture[place], tiles[0].shape[:2]) for picture in shown]
        self.worst = sorted([*self.worst, (score, label, tiles)], key=lambda row: row[0])[: self.ROWS]

    def write(self, path: Path) -> None:
        names = [n for n in (self.ours, self.baseline) if n]
        heads = ["truth", *names, *(f"{name} error x{self.GAIN}" for name in names), "patch: truth", *names]
        rows = []
        for score, label, tiles in self.worst:
            titles = [f"{label}: {heads[0]}", f"{heads[1]} {score:.2f} dB", *heads[2:]]
            rows.append(np.hstack([titled(tile, title) for tile, title in zip(tiles, titles, strict=True)]))
        save_png(path, np.vstack(rows))


def titled(picture: np.ndarray, title: str) -> np.ndarray:
    """A caption bar of 22 px above an ``(H, W, 3)`` uint8 picture. ASCII only: OpenCV's fonts know no more."""
    bar = np.full((22, picture.shape[1], 3), 24, np.uint8)
    cv2.putText(bar, title, (6, 15), cv2.FONT_HERSHEY_SIMPLEX, 0.42, (235, 235, 235), 1, cv2.LINE_AA)
    return np.vstack((bar, picture))


def save_png(path: Path, picture: np.ndarray) -> None:
    """Write ``(H, W, 3)`` RGB uint8. Through a buffer, because OpenCV mishandles some file names on Windows."""
    path.write_bytes(cv2.imencode(".png", cv2.cvtColor(picture, cv2.COLOR_RGB2BGR))[1].tobytes())


def _thumbnail(picture: np.ndarray, width: int) -> np.ndarray:
    height = max(1, round(picture.shape[0] * width / picture.shape[1]))
    return cv2.resize(picture, (width, height), interpolation=cv2.INTER_AREA)


def _grainiest(picture: np.ndarray, side: int) -> tuple[slice, slice]:
    """Where the finest detail of median strength lies: the strongest is usually a hard edge."""
    grey = cv2.cvtColor(picture, cv2.COLOR_RGB2GRAY).astype(np.float32)
    fine = cv2.absdiff(grey, cv2.GaussianBlur(grey, (0, 0), 1.0))
    strength = cv2.boxFilter(np.minimum(fine, 12), -1, (side, side))
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
