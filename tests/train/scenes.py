"""Small textured scenes with known motion, and packs made of them."""

import cv2
import numpy as np

from comfy_fusionfft.train import pack as packing


def texture(height, width, seed=0):
    """Smooth noise of several sizes, ``(height, width, 3)`` uint8."""
    random = np.random.default_rng(seed)
    total = np.zeros((height, width, 3))
    for cells in (4, 8, 16):
        coarse = random.standard_normal((cells, cells, 3))
        total += cv2.resize(coarse, (width, height), interpolation=cv2.INTER_CUBIC)
    return np.clip(128 + 45 * total, 0, 255).astype(np.uint8)


def pan(frames, height, width, step, seed=0):
    """A camera moving right by ``step`` pixels a frame: what is seen moves left."""
    wide = texture(height, width + frames * step, seed)
    return [np.ascontiguousarray(wide[:, i * step : i * step + width]) for i in range(frames)]


def write_packs(folder, clips, motion=None, max_mib=40):
    """Packs with one window for each named list of pictures; the index says where."""
    files = packing._Files(folder, max_bytes=max_mib * packing.MIB, crf=10)
    windows = []
    for name, pictures in clips.items():
        file, first = files.write(pictures)
        height, width = pictures[0].shape[:2]
        window = packing.PackedWindow(file, first, len(pictures), width, height, name, 0, 1, 25.0, motion or 1.0)
        windows.append(window)
    files.close()
    packing._write_index(folder, windows)
    return windows
