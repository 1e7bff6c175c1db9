"""The most memory that a piece of work takes at once.

On the CPU: growth of the process's resident memory over what it held before. Linux keeps a high-water mark that can be
reset; elsewhere the mark since the start of the process has to do, which hides a peak lower than an earlier one. On
CUDA: all that torch holds there, weights included, since that is what has to fit.
"""

from __future__ import annotations

import ctypes
import gc
import resource
import sys
from pathlib import Path

STATUS, CLEAR = Path("/proc/self/status"), Path("/proc/self/clear_refs")
MIB = 2**20


class Peak:
    """``mib()``: how much more than at ``Peak()`` was in use at once since."""

    def __init__(self, device: str) -> None:
        self._cuda = device.startswith("cuda")
        gc.collect()
        if self._cuda:
            import torch

            torch.cuda.empty_cache()
            torch.cuda.reset_peak_memory_stats()
            return
        _give_back()
        self._resettable = _reset()
        self._before = _status("VmRSS") if self._resettable else _maximum()

    def mib(self) -> float:
        if self._cuda:
            import torch

            return torch.cuda.max_memory_allocated() / MIB
        now = _status("VmHWM") if self._resettable else _maximum()
        return max(0, now - self._before) / MIB


def _give_back() -> None:
    """Freed memory that the allocator keeps would hide what the work takes."""
    try:
        ctypes.CDLL(None).malloc_trim(0)
    except (OSError, AttributeError):  # no glibc
        return


def _reset() -> bool:
    try:
        CLEAR.write_text("5")
        return _status("VmHWM") > 0
    except (OSError, KeyError):
        return False


def _status(name: str) -> int:
    fields = dict(line.split(":", 1) for line in STATUS.read_text().splitlines() if ":" in line)
    return int(fields[name].split()[0]) * 1024


def _maximum() -> int:
    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit
