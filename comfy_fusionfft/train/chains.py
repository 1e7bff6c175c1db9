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
from fractions import Fraction
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import torch
import torch.nn.functional as F
from safetensors import safe_open
from safetensors.torch import save_file

from ..contract import FlowSource
from ..ops.pad import crop, pad_to
from .pack import MIB, PackedWindow, decode, read_index

FOLDER = "chains"
FOUND = "found"
"""Motion of the instants between, by the source that the network shall work with."""
SPACINGS = (2, 3, 4)
SHRINK = 2

Search = Callable[[np.ndarray, np.ndarray], np.ndarray]
"""Grey ``(H, W)`` uint8 twice -> motion from the first to the second, ``(H, W, 2)`` float32 pixels."""


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

    search: how motion is found, ``ops.dis.DenseInverseSearch()`` for one. spacings: the d above. how: see ``add``.
    """
    return add(packs_dir, FOLDER, lambda stack: window_chains(stack, search, spacings), spacings, **how)


def add_found(
    packs_dir: Path,
    source: FlowSource,
    *,
    spacings: tuple[int, ...] = SPACINGS,
    device: torch.device | str = "cpu",
    **how: Any,
) -> int:
    """The same with what a flow source, placed on ``device``, says of the instants themselves, masks included."""
    return add(packs_dir, FOUND, lambda stack: window_found(stack, source, spacings, device), spacings, **how)


def add(
    packs_dir: Path,
    folder: str,
    motion: Callable[[np.ndarray], torch.Tensor],
    spacings: tuple[int, ...] = SPACINGS,
    *,
    limit: int | None = None,
    max_mib: int = 4096,
    wanted: Callable[[PackedWindow], bool] = lambda window: True,
    report: Callable[[str], None] = lambda line: None,
) -> int:
    """Store ``motion`` of the windows' frames ``(count, H, W, 3)`` uint8 RGB, a tensor whose first axis is that of
    ``links(count, spacings)``, in ``folder`` -> files written.

    Of ``limit`` windows at most and until ``max_mib`` are full. Windows come in a fixed random order, so that a part
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


@torch.inference_mode()
def window_found(
    stack: np.ndarray,
    source: FlowSource,
    spacings: tuple[int, ...] = SPACINGS,
    device: torch.device | str = "cpu",
) -> torch.Tensor:
    """``(count, H, W, 3)`` uint8 RGB -> ``(P + I, 5, H/2, W/2)`` float16: flow and mask at the middle of each of the
    P ``links``, then at each of the I ``instants``, in pixels of the packed picture."""
    height, width = stack.shape[1:3]
    pictures = torch.from_numpy(stack).to(device).permute(0, 3, 1, 2).float() / 255
    padded = [pad_to(picture, source.modulus, source.padding)[0] for picture in pictures.split(1)]
    features = [source.features(picture) for picture in padded]
    found: dict[tuple[int, int], dict[Fraction, torch.Tensor]] = {}
    for a, b in links(len(stack), spacings):
        times = [Fraction(step, b - a) for step in range(1, b - a)]
        times += [] if Fraction(1, 2) in times else [Fraction(1, 2)]
        asked = torch.tensor([float(time) for time in times], device=device)
        motion = torch.cat(source.flow(padded[a], padded[b], features[a], features[b], asked), 1)
        small = F.avg_pool2d(crop(motion, (height // SHRINK * SHRINK, width // SHRINK * SHRINK)), SHRINK)
        found[a, b] = dict(zip(times, small.half(), strict=True))
    middles = [found[pair][Fraction(1, 2)] for pair in links(len(stack), spacings)]
    others = [found[a, a + d][Fraction(k - a, d)] for d, a, k in instants(len(stack), spacings)]
    return torch.stack(middles + others).cpu()
