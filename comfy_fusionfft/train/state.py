"""Training state on disk: safetensors shards small enough to carry, and one JSON file.

``state/`` holds ``state-<nn>.safetensors``, at most ``SHARD_MIB`` each unless a single tensor is larger, and
``state.json`` with the numbers. A save is written beside the old one and swapped in whole, so a stop in the middle
loses nothing.
"""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

from safetensors.torch import load_file, save_file
from torch import Tensor

from ..errors import CheckpointError

SHARD_MIB = 16
_NUMBERS = "state.json"


def save_state(folder: Path, tensors: dict[str, Tensor], numbers: dict[str, Any]) -> None:
    """Replace the state in ``folder``."""
    fresh, old = folder.with_name(folder.name + ".new"), folder.with_name(folder.name + ".old")
    shutil.rmtree(fresh, ignore_errors=True)
    fresh.mkdir(parents=True)
    for number, names in enumerate(shards(tensors)):
        shard = {name: tensors[name].detach().cpu().contiguous() for name in names}
        save_file(shard, fresh / f"state-{number:02d}.safetensors")
    (fresh / _NUMBERS).write_text(json.dumps(numbers, indent=1))
    shutil.rmtree(old, ignore_errors=True)
    if folder.exists():
        folder.rename(old)
    fresh.rename(folder)
    shutil.rmtree(old, ignore_errors=True)


def load_state(folder: Path) -> tuple[dict[str, Tensor], dict[str, Any]] | None:
    """-> tensors and numbers, or None where nothing was saved. Raises CheckpointError when it is incomplete."""
    old = folder.with_name(folder.name + ".old")
    if not folder.exists() and old.exists():
        old.rename(folder)
    if not folder.exists():
        return None
    try:
        numbers = json.loads((folder / _NUMBERS).read_text())
        tensors: dict[str, Tensor] = {}
        for path in sorted(folder.glob("state-*.safetensors")):
            tensors |= load_file(path)
    except Exception as error:
        raise CheckpointError(
            f"Training state in {folder} cannot be read ({error}); remove the folder to start anew"
        ) from error
    return tensors, numbers


def shards(tensors: dict[str, Tensor], limit: int = SHARD_MIB * 2**20 - 2**16) -> list[list[str]]:
    """Names grouped so that each group's tensors stay below ``limit`` bytes, where there are several; the rest is for
    headers."""
    groups: list[list[str]] = [[]]
    used = 0
    for name, tensor in tensors.items():
        size = tensor.numel() * tensor.element_size()
        if groups[-1] and used + size > limit:
            groups.append([])
            used = 0
        groups[-1].append(name)
        used += size
    return groups
