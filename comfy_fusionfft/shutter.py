"""Motion blur as a camera makes it: an output picture is the mean of instants spread over its exposure.

Light adds up, so the mean is taken of linear light (sRGB's curve, whatever the clip's own is) and of premultiplied
colour. Instants beyond a cut do not take part.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Collection, Iterable, Iterator
from dataclasses import replace
from fractions import Fraction
from itertools import groupby
from math import floor

import numpy as np
import torch

from .contract import Frame, Position


def expose(frames: Iterable[Frame], fps: Fraction, began: Fraction, cuts: Collection[int] = ()) -> Iterator[Frame]:
    """One frame of all that lie within half an output interval of k / fps seconds, for every k that is among them.

    frames: ascending, at ``timeline.Rate``'s instants with a shutter. began: seconds of the first source frame.
    cuts: numbers of the source frames that begin a new shot. A frame alone in its exposure passes untouched; others
    keep the place, the confidence and the maps of the middle one.
    """
    ordered = sorted(cuts)

    def shot(position: Position) -> int:
        return bisect_right(ordered, floor(position + Fraction(1, 2)))

    for number, group in groupby(frames, lambda frame: round((frame.seconds - began) * fps)):
        light: dict[int, tuple[np.ndarray, int]] = {}
        middle = None
        for frame in group:
            if frame.seconds == began + number / fps:
                middle = frame
            here = shot(frame.position)
            total, count = light.get(here, (0.0, 0))
            light[here] = (total + _light(frame.pixels), count + 1)
        if middle is None:  # the clip ended within its exposure
            continue
        total, count = light[shot(middle.position)]
        yield middle if count == 1 else replace(middle, pixels=_pixels(total / count, middle.pixels), original=False)


def _light(pixels: torch.Tensor) -> np.ndarray:
    """``(H, W, C)`` pixels -> linear light, float32, colour premultiplied."""
    if pixels.is_floating_point():
        light = pixels.float().numpy().copy()
        colour = light[..., :3]
        colour[...] = _linear(colour)
    else:
        samples = pixels.numpy()
        top = np.iinfo(samples.dtype).max
        table = np.arange(top + 1, dtype=np.float32) / np.float32(top)
        light = _linear(table)[samples]
        if samples.shape[2] == 4:
            light[..., 3] = table[samples[..., 3]]
    if light.shape[2] == 4:
        light[..., :3] *= light[..., 3:].clip(0, 1, out=light[..., 3:])
    return light


def _pixels(light: np.ndarray, like: torch.Tensor) -> torch.Tensor:
    if light.shape[2] == 4:
        alpha = light[..., 3:]
        light[..., :3] = np.where(alpha > 0, light[..., :3] / np.maximum(alpha, 1e-6), 0)
    light[..., :3] = _encoded(light[..., :3])
    if like.is_floating_point():
        return torch.from_numpy(light).to(like.dtype)
    dtype = like.numpy().dtype
    top = np.float32(np.iinfo(dtype).max)
    return torch.from_numpy((light * top + np.float32(0.5)).clip(0, top).astype(dtype))


def _linear(values: np.ndarray) -> np.ndarray:
    size = np.abs(values)
    return np.copysign(np.where(size <= 0.04045, size / 12.92, ((size + 0.055) / 1.055) ** 2.4), values)


def _encoded(light: np.ndarray) -> np.ndarray:
    size = np.abs(light)
    return np.copysign(np.where(size <= 0.0031308, size * 12.92, 1.055 * size ** (1 / 2.4) - 0.055), light)
