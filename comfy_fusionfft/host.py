"""PlainHost: where the work runs when no ComfyUI is around (command line, tests, plain Python)."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn

from .errors import Cancelled, DeviceError
from .free_memory import free_memory

DEVICES = ("cuda", "xpu", "mps", "cpu")
DTYPES = {"float32": torch.float32, "float16": torch.float16, "bfloat16": torch.bfloat16}
OOM_SIGNS = (
    *("out of memory", "can't allocate memory", "not enough memory", "bad_alloc", "can't start new thread"),
    *("_ALLOC_FAILED", "could not create a primitive"),  # CUDA's libraries; oneDNN
)
"""What RuntimeErrors say that mean a lack of memory."""
_OPENCV_NO_MEMORY = -4


class PlainHost:
    """A device, a precision, a progress callback and a cancel switch (contract.Host).

    device: ``auto`` (the first of cuda, xpu, mps, cpu that is there) or a torch device name.
    dtype: ``auto`` (float16 on cuda and xpu; bfloat16 on a CPU with hardware for it; else float32) or
        one of ``DTYPES``. It is the precision of convolutions alone.
    on_progress: called as ``on_progress(done, total)`` after each output frame; on_preview: with its ``(H, W, C)``
        pixels, of the clip's own type.
    """

    def __init__(
        self,
        device: str = "auto",
        dtype: str = "auto",
        on_progress: Callable[[int, int | None], None] | None = None,
        on_preview: Callable[[Tensor], None] | None = None,
    ) -> None:
        self.device = _pick_device(device)
        self.dtype = _pick_dtype(dtype, self.device)
        self._on_progress, self._on_preview = on_progress, on_preview
        self._cancelled = False

    def place(self, module: nn.Module) -> nn.Module:
        # channels_last is what the matrix units of CPUs and GPUs read without a copy
        module = module.to(device=self.device, dtype=self.dtype, memory_format=torch.channels_last)
        return module.eval().requires_grad_(False)

    def progress(self, done: int, total: int | None, preview: Tensor | None = None) -> None:
        if self._on_progress is not None:
            self._on_progress(done, total)
        if self._on_preview is not None and preview is not None:
            self._on_preview(preview)

    def cancel(self) -> None:
        """Ask the run to stop at its next step; safe to call from a signal handler or another thread."""
        self._cancelled = True

    def raise_if_cancelled(self) -> None:
        if self._cancelled:
            raise Cancelled("stopped by the user")

    def is_oom(self, error: BaseException) -> bool:
        if isinstance(error, (MemoryError, torch.cuda.OutOfMemoryError)):
            return True
        if type(error).__module__ == "cv2":
            return getattr(error, "code", None) == _OPENCV_NO_MEMORY
        return isinstance(error, RuntimeError) and any(sign in str(error) for sign in OOM_SIGNS)

    def free(self) -> None:
        if self.device.type in ("cuda", "xpu", "mps"):
            getattr(torch, self.device.type).empty_cache()

    def free_bytes(self) -> int | None:
        if self.device.type == "cuda":
            free, _ = torch.cuda.mem_get_info(self.device)
            kept = torch.cuda.memory_reserved(self.device) - torch.cuda.memory_allocated(self.device)
            return free + kept
        return free_memory() if self.device.type == "cpu" else None


def _available(kind: str) -> bool:
    if kind == "cpu":
        return True
    module = getattr(torch.backends, "mps", None) if kind == "mps" else getattr(torch, kind, None)
    return module is not None and module.is_available()


def _pick_device(name: str) -> torch.device:
    if name == "auto":
        return torch.device(next(kind for kind in DEVICES if _available(kind)))
    try:
        device = torch.device(name)
    except RuntimeError:
        device = None
    if device is None or device.type not in DEVICES:
        raise DeviceError(f"device {name!r} is not known: use auto, cuda, cuda:1, xpu, mps or cpu")
    count = getattr(getattr(torch, device.type, None), "device_count", lambda: 1)
    if not _available(device.type) or (device.index or 0) >= max(1, count()):
        here = ", ".join(kind for kind in DEVICES if _available(kind))
        raise DeviceError(f"device {name!r} is not available on this machine: use auto or one of {here}")
    return device


def _pick_dtype(name: str, device: torch.device) -> torch.dtype:
    if name == "auto":
        if device.type in ("cuda", "xpu"):
            return torch.float16
        return torch.bfloat16 if device.type == "cpu" and _cpu_has_bfloat16() else torch.float32
    if name not in DTYPES:
        raise DeviceError(f"precision {name!r} is not known: use auto, {', '.join(DTYPES)}")
    if name == "bfloat16" and device.type == "cpu" and not _cpu_has_bfloat16():
        raise DeviceError(
            "this CPU has no bfloat16 arithmetic, which would be slower than float32: use float32 or auto"
        )
    return DTYPES[name]


def _cpu_has_bfloat16() -> bool:
    # Emulated bfloat16 is slower than float32, so only matrix hardware counts. The probes are private
    # in torch and came one after the other: a missing one means no.
    probes = ("_is_amx_tile_supported", "_is_avx512_bf16_supported")
    return any(getattr(torch.cpu, probe, lambda: False)() for probe in probes)
