"""Loading PyTorch and OpenCV for a command, and words for when that fails."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from ..errors import DeviceError
from ..free_memory import address_space

FIRST, AFTER_TORCH = 1_250_000_000, 500_000_000
"""Bytes of address space that must be left. With less, a library that is loaded may end the process without a word, or
make it wait for ever; PyTorch's builds for GPUs take more than this, and mostly say so themselves."""


@contextmanager
def explained() -> Iterator[None]:
    """Load PyTorch, then whatever is imported within. Raises DeviceError that says what is missing."""
    try:
        _require(FIRST)
        import torch  # noqa: F401

        _require(AFTER_TORCH)
        yield
    except ModuleNotFoundError as error:
        raise DeviceError(
            f"{error.name} is not installed for this Python: install PyTorch, then pip install -r requirements.txt"
        ) from error
    except (ImportError, MemoryError, SystemError) as error:  # the last is what Python makes of a lack of memory
        reason = str(error).partition("\n")[0] or "out of memory"
        remedy = "install them again" if address_space() is None else "raise the process's limit (ulimit -v)"
        raise DeviceError(f"PyTorch and OpenCV cannot be loaded ({reason}): {remedy}") from error


def _require(least: int) -> None:
    left = address_space()
    if left is not None and left < least:
        raise DeviceError(
            f"this process may take another {left / 1e9:.2f} GB of address space (ulimit -v), what is still to be "
            f"loaded takes up to {least / 1e9:.2f} GB and a clip some more: raise the limit"
        )
