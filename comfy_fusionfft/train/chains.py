"""Motion along chains of frames beside the packs, computed once: what a fusion network is trained on.

A window's frames 0, d, 2d, … stand for a clip whose frames lie d apart; those between them are the truth.
For a few d the motion between neighbours of such a chain is found both ways, on whole pictures, as when
interpolating, and stored at half resolution, which is the finest that DIS computes:
``chains/<window>.safetensors`` holds ``flow (P, 2, 2, h, w)`` float16, in pixels of the packed picture, for
each of the P pairs of ``links(count, spacings)`` the motion from left to right and back. The spacings are in
the files' metadata.

A file for each window: an interrupted run goes on where it stopped, and files are read memory-mapped.
"""

from __future__ import annotations

import json
import os
import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import torch
import torch.nn.functional as F
from safetensors import safe_open
from safetensors.torch import save_file

from .pack import MIB, PackedWindow, decode, read_index

FOLDER = "chains"
TAUGHT = "taught"
"""The same of a teacher, to learn from."""
SPACINGS = (2, 3, 4)
SHRINK = 2

Search = Callable[[np.ndarray, np.ndarray], np.ndarray]
"""Grey ``(H, W)`` uint8 twice -> motion from the first to the second, ``(H, W, 2)`` float32 pixels."""
Bidirectional = Callable[[torch.Tensor, torch.Tensor], tuple[torch.Tensor, torch.Tensor]]
"""RGB ``(1, 3, H, W)`` 0..1 twice -> motion forth and back, each ``(1, 2, H, W)`` pixels (``teacher.Teacher``)."""


def links(count: int, spacings: tuple[int, ...] = SPACINGS) -> list[tuple[int, int]]:
    """Neighbours in the chains of a window of ``count`` frames, spacing by spacing."""
    return [(a, a + d) for d in spacings for a in range(0, count - d, d)]


def instants(count: int, spacings: tuple[int, ...] = SPACINGS) -> list[tuple[int, int, int]]:
    """(spacing, left frame, true frame) for every frame of a window that lies between two of a chain."""
    return [(d, a, k) for d in spacings for a in range(0, count - d, d) for k in range(a + 1, a + d)]


def path_of(packs_dir: Path, window: int, folder: str = FOLDER) -> Path:
    return packs_dir / folder / f"{window:05d}.safetensors"


def add_chains(packs_dir: Path, search: Search, *, spacings: tuple[int, ...] = SPACINGS, **how: Any) -> int:
    """Find and store motion of what is missing -> files written.

    search: how motion is found, ``DISFlow().search`` for one. spacings: the d above. how: see ``_add``.
    """
    return _add(packs_dir, FOLDER, lambda stack: window_chains(stack, search, spacings), spacings, **how)


def add_taught(packs_dir: Path, teacher: Bidirectional, *, spacings: tuple[int, ...] = SPACINGS, **how: Any) -> int:
    """The same with a teacher's motion, of colour pictures and both ways at once."""
    return _add(packs_dir, TAUGHT, lambda stack: window_taught(stack, teacher, spacings), spacings, **how)


def _add(
    packs_dir: Path,
    folder: str,
    motion: Callable[[np.ndarray], torch.Tensor],
    spacings: tuple[int, ...],
    *,
    limit: int | None = None,
    max_mib: int = 4096,
    wanted: Callable[[PackedWindow], bool] = lambda window: True,
    report: Callable[[str], None] = lambda line: None,
) -> int:
    """Of ``limit`` windows at most and until ``max_mib`` are full. Windows come in a fixed random order, so that a part
    of them is as varied as the whole."""
    (packs_dir / folder).mkdir(exist_ok=True)
    index = read_index(packs_dir)
    missing = [n for n, window in enumerate(index) if wanted(window) and not path_of(packs_dir, n, folder).exists()]
    random.Random(0).shuffle(missing)
    place = {index[n]: n for n in missing[:limit]}
    stacks = {place[window]: stack for window, stack in decode(packs_dir, list(place))}
    full = sum(path.stat().st_size for path in (packs_dir / folder).iterdir())
    written = 0
    for n in missing[:limit]:
        if full > max_mib * MIB:
            report(f"{folder}: {max_mib} MiB are full, {len(stacks) - written} windows left out")
            break
        path = path_of(packs_dir, n, folder)
        part = path.with_suffix(f".{os.getpid()}.part")  # several processes may be at it
        save_file({"flow": motion(stacks[n])}, part, metadata={"spacings": json.dumps(spacings)})
        part.replace(path)
        written += 1
        full += path.stat().st_size
        if written % 10 == 0:
            report(f"{folder}: {written}/{len(stacks)} windows")
    return written


def halved(search: Search) -> Search:
    """The same search on pictures of half the size, as larger ones are interpolated."""

    def found(source: np.ndarray, target: np.ndarray) -> np.ndarray:
        height, width = source.shape
        small = (max(1, width // 2), max(1, height // 2))
        flow = search(*(cv2.resize(picture, small, interpolation=cv2.INTER_AREA) for picture in (source, target)))
        return cv2.resize(flow, (width, height)) * np.float32((width / small[0], height / small[1]))

    return found


def read_chains(path: Path) -> tuple[torch.Tensor, tuple[int, ...]]:
    """-> flow, memory-mapped, and its spacings."""
    with safe_open(path, "pt") as file:
        spacings = (file.metadata() or {}).get("spacings")
        return file.get_tensor("flow"), tuple(json.loads(spacings)) if spacings else SPACINGS


def window_chains(stack: np.ndarray, search: Search, spacings: tuple[int, ...] = SPACINGS) -> torch.Tensor:
    """``(count, H, W, 3)`` uint8 RGB -> ``(P, 2, 2, H/2, W/2)`` float16."""
    greys = [cv2.cvtColor(picture, cv2.COLOR_RGB2GRAY) for picture in stack]
    height, width = greys[0].shape
    size = (width // SHRINK, height // SHRINK)

    def small(flow: np.ndarray) -> np.ndarray:
        return cv2.resize(flow, size, interpolation=cv2.INTER_AREA).astype(np.float16)

    pairs = links(len(stack), spacings)
    found = [[small(search(greys[a], greys[b])), small(search(greys[b], greys[a]))] for a, b in pairs]
    return torch.from_numpy(np.array(found)).permute(0, 1, 4, 2, 3).contiguous()


def window_taught(stack: np.ndarray, teacher: Bidirectional, spacings: tuple[int, ...] = SPACINGS) -> torch.Tensor:
    """As ``window_chains``."""
    pictures = torch.from_numpy(stack).permute(0, 3, 1, 2).float() / 255
    pairs = links(len(stack), spacings)
    with torch.inference_mode():
        found = [torch.cat(teacher(pictures[a : a + 1], pictures[b : b + 1])) for a, b in pairs]
        return torch.stack([F.avg_pool2d(flow, SHRINK).half() for flow in found])
