"""IMAGE batches as clips of frames, and back."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from fractions import Fraction
from typing import Any

import torch
from torch import Tensor

from ..comfy_fusionfft.contract import Frame, Position
from ..comfy_fusionfft.errors import InputError
from ..comfy_fusionfft.video.clip import reduced_size
from . import comfy_host


class Batch(Sequence[Frame]):
    """An IMAGE ``(B, H, W, C)`` as frames that can be read again and from anywhere, ``fps`` of them a second.

    Raises InputError for what is no batch of pictures; the pixels are looked at when the frames are used.
    """

    def __init__(self, images: Tensor, fps: Fraction, positions: tuple[Position, ...] | None = None) -> None:
        _check_kind(images)
        if images.ndim != 4 or not len(images):
            raise InputError(f"images of shape {tuple(images.shape)}: connect a batch of at least one image")
        if images.shape[3] not in (1, 3, 4):
            raise InputError(f"images of {images.shape[3]} channels: connect grey, RGB or RGBA images (1, 3 or 4)")
        self.images = images
        self.fps = fps
        self._positions = positions

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, number: int) -> Frame:
        place = self._positions[number] if self._positions else Fraction(range(len(self))[number])
        return Frame(self.images[number], place / self.fps)

    def frames(self, start: int = 0, longest_side: int | None = None) -> Iterator[Frame]:
        """From this number on. longest_side: see video.Clip."""
        for number in range(start, len(self)):
            frame = self[number]
            yield frame if longest_side is None else Frame(_small(frame.pixels, longest_side), frame.seconds)


def clip(images: Tensor, fps: Fraction = Fraction(1), positions: tuple[Position, ...] | None = None) -> Batch:
    """The batch as a clip; ``positions``: the instants of its frames, where they are not 0, 1, 2, …"""
    return Batch(images, fps, positions)


def batch(frames: Iterable[Frame], total: int, like: Tensor) -> Tensor:
    """``total`` frames as one IMAGE of the size of ``like``."""
    return filled(comfy_host.empty_images(total, like), frames)


def filled(images: Tensor, frames: Iterable[Frame]) -> Tensor:
    """The IMAGE with as many frames as it has room for, written into place one by one."""
    made = 0
    for made, frame in enumerate(frames, 1):
        images[made - 1] = frame.pixels
    assert made == len(images), f"{made} frames came, {len(images)} were announced"
    return images


def size(images: Tensor) -> tuple[int, int]:
    """Height and width. Raises InputError for what is no picture: a graph may hold any value in place of a link."""
    _check_kind(images)
    return tuple(images.shape[1:3])


def count(images: Tensor) -> int:
    """How many pictures, with the same check."""
    _check_kind(images)
    return len(images)


def empty_mask(total: int, like: Tensor) -> Tensor:
    """``(total, H, W)`` in float32, where masks live."""
    return torch.empty((total, *like.shape[1:3]), dtype=torch.float32)


def _check_kind(images: Any) -> None:
    if not isinstance(images, Tensor):
        raise InputError(f"a {type(images).__name__} is connected as images: connect a batch of images")


def _small(pixels: Tensor, longest_side: int) -> Tensor:
    import cv2

    height, width = pixels.shape[:2]
    small = reduced_size(width, height, longest_side)
    if small == (width, height):
        return pixels
    reduced = cv2.resize(pixels.float().cpu().numpy(), small, interpolation=cv2.INTER_AREA)
    return torch.from_numpy(reduced).reshape(small[1], small[0], -1)
