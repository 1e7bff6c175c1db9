"""What a run ran on."""

from __future__ import annotations

import os
import platform
from pathlib import Path
from typing import Any

MATRIX_UNITS = ("avx2", "avx512f", "avx512_bf16", "amx_bf16")


def describe() -> dict[str, Any]:
    """CPU, its cores and the instructions that matter, memory and system."""
    info = _fields(Path("/proc/cpuinfo"))
    flags = info.get("flags", "").split()
    memory = _fields(Path("/proc/meminfo")).get("MemTotal", "0").split()[0]
    return {
        "cpu": info.get("model name") or platform.processor() or platform.machine(),
        "cores": os.cpu_count(),
        "instructions": [name for name in MATRIX_UNITS if name in flags],
        "memory_gib": round(int(memory) / 2**20, 1) or None,
        "system": f"{platform.system()} {platform.release()}",
    }


def _fields(path: Path) -> dict[str, str]:
    """``name : value`` lines, the first of each name; empty where the system has no such file."""
    try:
        lines = path.read_text(errors="replace").splitlines()
    except OSError:
        return {}
    found: dict[str, str] = {}
    for each in lines:
        name, _, value = each.partition(":")
        found.setdefault(name.strip(), value.strip())
    return found
