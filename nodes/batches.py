"""IMAGE batches as clips of frames, and back."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from fractions import Fraction

import torch
from torch import Tensor

from ..comfy_fusionfft.contract import Frame, Position
from ..comfy_fusionfft.errors import InputError
from . import comfy_host


def clip(images: Tensor, fps: Fraction = Fraction(1), positions: tuple[Position, ...] | None = None) -> Iterator[Frame]:
    """``(B, H, W, C)`` -> frames, ``fps`` of them a second, or at the instants given.

    Raises InputError for what is no batch of pictures; the pixels are looked at when the frames are used.
    """
    if images.ndim != 4 or not len(images):
        raise InputError(f"images of shape {tuple(images.shape)}: connect a batch of at least one image")
    if images.shape[3] not in (1, 3, 4):
        raise InputError(f"images of {images.shape[3]} channels: connect grey, RGB or RGBA images (1, 3 or 4)")
    for number in range(len(images)):
        yield Frame(images[number], (positions[number] if positions else Fraction(number)) / fps)


def batch(frames: Iterable[Frame], count: int, like: Tensor) -> Tensor:
    """``count`` frames as one IMAGE, written into place one by one."""
    images = comfy_host.empty_images(count, like)
    made = 0
    for made, frame in enumerate(frames, 1):
        images[made - 1] = frame.pixels
    assert made == count, f"{made} frames came, {count} were announced"
    return images


def size(images: Tensor) -> tuple[int, int]:
    return tuple(images.shape[1:3])


def empty_mask(count: int, like: Tensor) -> Tensor:
    """``(count, H, W)`` in float32, where masks live."""
    return torch.empty((count, *like.shape[1:3]), dtype=torch.float32)
