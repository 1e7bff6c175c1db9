"""Where memory runs out: what is still possible then, and words for what is not."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, TypeVar

import torch

from ..contract import Host
from ..errors import DeviceError

Result = TypeVar("Result")

_NO_KERNEL = "could not create a primitive"
_REMEDY = "close other programs that use this device, choose another, or make the clip smaller"
_thread = threading.local()


@contextmanager
def in_words(host: Host) -> Iterator[None]:
    """DeviceError that says what to do, where memory runs out within; everything else passes."""
    try:
        yield
    except Exception as error:
        if not host.is_oom(error):
            raise
        host.free()
        reason = str(error).partition("\n")[0]
        raise DeviceError(f"out of memory on {host.device}{f' ({reason})' if reason else ''}: {_REMEDY}") from error


class Kernels:
    """Calls networks whose convolutions oneDNN writes, on CPUs, when it first meets them.

    Where it is short of memory for that it may half succeed and end the process. Where it fails it remembers so for as
    long as the thread lives, and refuses every convolution that is new. So a run that was short of memory once goes on
    with PyTorch's own convolutions, slower and the same but for rounding; later runs of such a thread begin in another.
    """

    def __init__(self, device: torch.device) -> None:
        self._device, self._short = device, False

    def __call__(self, call: Callable[[], Result]) -> Result:
        if not self._short:
            try:
                return _elsewhere(call) if getattr(_thread, "spoiled", False) else call()
            except RuntimeError as error:
                if _NO_KERNEL not in str(error):
                    raise
                _thread.spoiled = self._short = True
        with _without_onednn():
            return call()

    def ran_short(self) -> None:
        """Memory has run out: what comes next may need kernels that were not needed before."""
        self._short = self._device.type == "cpu"


@contextmanager
def _without_onednn() -> Iterator[None]:
    """The switch is the whole process's: the last one to leave turns it on again."""
    global _switched_off
    with _switch:
        _switched_off += 1
        torch.backends.mkldnn.enabled = False
    try:
        yield
    finally:
        with _switch:
            _switched_off -= 1
            torch.backends.mkldnn.enabled = not _switched_off


_switch, _switched_off = threading.Lock(), 0


def _elsewhere(call: Callable[[], Result]) -> Result:
    made: list[Any] = []
    failed: list[BaseException] = []

    def work() -> None:
        try:
            made.append(call())
        except BaseException as error:  # it belongs to the thread that waits
            failed.append(error)

    thread = threading.Thread(target=work, name="fusionfft-kernels")
    thread.start()
    thread.join()
    if failed:
        raise failed.pop()
    return made.pop()
