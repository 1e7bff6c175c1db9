"""Frames to the device and pictures back: at once on the CPU, beside the computing on CUDA.

Both ways are begun first and waited for later: ``upload`` and ``download`` return a function that hands
out the result. What happens between the two calls is what the copy hides behind. Overlapped copies need
pinned memory on the CPU's side; PyTorch's own allocator for it keeps blocks for reuse, and gives none
out again before the copies on it are over.
"""

from __future__ import annotations

import weakref
from collections.abc import Callable
from typing import Any, Protocol

import torch
from torch import Tensor

from ..ops.memory import Memory
from .picture import check_made, check_pixels, extremes, pack, restored, stored, to_picture, to_pixels, unpack

Pending = Callable[[], Tensor]
"""Waits for a copy, where that is needed, and returns what was copied. May be called again after it failed."""

PINNED_FRAMES = 4
"""Frames in pinned memory that a caller may hold; further ones are given to it in ordinary memory."""


class Transfer(Protocol):
    ahead: bool
    """Whether copies run while the next step computes, so that results are best asked for one step later."""

    def upload(self, pixels: Tensor) -> Pending:
        """``(H, W, C)`` pixels -> picture ``(1, C, H, W)`` float32 on the device. InputError comes with the result."""

    def download(self, picture: Tensor, like: Tensor) -> Pending:
        """``(C, H, W)`` picture -> pixels ``(H, W, C')`` on the CPU, of the dtype and channels of ``like``.

        DeviceError comes with the result, for a picture that is not finite.
        """


def transfer_for(device: torch.device) -> Transfer:
    return Overlapped(device) if device.type == "cuda" else Direct(device)


class Direct:
    """Converts when the result is asked for, into memory of pictures and frames that are no longer held."""

    ahead = False

    def __init__(self, device: torch.device) -> None:
        self._device = device
        self._memory = Memory()

    def upload(self, pixels: Tensor) -> Pending:
        return lambda: to_picture(pixels, self._device, self._memory.empty)

    def download(self, picture: Tensor, like: Tensor) -> Pending:
        def pixels() -> Tensor:
            check_made(extremes(picture))
            return to_pixels(picture, like, self._memory.empty)

        return pixels


class Overlapped:
    """Copies on two streams of their own, one for each way; conversions on the stream that computes.

    cuda: the module of streams and events. Nothing here makes the device wait for the CPU. Where its memory
    is too full for a second copy, the result is made when it is asked for.
    """

    ahead = True

    def __init__(self, device: torch.device, cuda: Any = torch.cuda) -> None:
        self._device = device
        self._cuda = cuda
        self._up, self._down = cuda.Stream(device), cuda.Stream(device)
        self._handed_out: list[weakref.ref[Tensor]] = []

    def upload(self, pixels: Tensor) -> Pending:
        if pixels.device.type != "cpu":
            return lambda: to_picture(pixels, self._device)
        copied = self._cuda.Event()
        try:
            with self._cuda.stream(self._up):
                there = _pinned(stored(pixels)).to(self._device, non_blocking=True)
                copied.record(self._up)
        except torch.cuda.OutOfMemoryError:
            return lambda: to_picture(pixels, self._device)

        def picture() -> Tensor:
            check_pixels(pixels)
            computing = self._cuda.current_stream(self._device)
            computing.wait_event(copied)
            there.record_stream(computing)  # the copies' stream must not use its memory again before this one has
            return unpack(there, pixels.dtype)

        return picture

    def download(self, picture: Tensor, like: Tensor) -> Pending:
        made, copied = self._cuda.Event(), self._cuda.Event(blocking=True)
        try:
            there, found = pack(picture, like), extremes(picture)
        except torch.cuda.OutOfMemoryError:
            return lambda: Direct(torch.device("cpu")).download(picture.cpu(), like)()
        made.record(self._cuda.current_stream(self._device))
        checked, here = _pinned_like(found), _pinned_like(there)
        with self._cuda.stream(self._down):
            self._down.wait_event(made)
            here.copy_(there, non_blocking=True)
            checked.copy_(found, non_blocking=True)
            copied.record(self._down)
        there.record_stream(self._down)
        found.record_stream(self._down)

        def pixels() -> Tensor:
            copied.synchronize()
            check_made(checked)
            return self._given(restored(here, like.dtype))

        return pixels

    def _given(self, pixels: Tensor) -> Tensor:
        """In ordinary memory when the caller keeps what it gets: pinned memory is taken from the whole machine."""
        self._handed_out = [held for held in self._handed_out if held() is not None]
        if len(self._handed_out) >= PINNED_FRAMES:
            return pixels.clone()
        self._handed_out.append(weakref.ref(pixels))
        return pixels


def _pinned(pixels: Tensor) -> Tensor:
    """A pinned copy, or the same tensor if it is pinned. Where there is none to be had, copies are merely slower."""
    try:
        return pixels.contiguous().pin_memory()
    except RuntimeError:
        return pixels


def _pinned_like(pixels: Tensor) -> Tensor:
    try:
        return torch.empty(pixels.shape, dtype=pixels.dtype, pin_memory=True)
    except RuntimeError:
        return torch.empty(pixels.shape, dtype=pixels.dtype)
