"""The guesses of all pairs of a folder of packs, found once: what the network is trained on."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import cv2
import numpy as np
import torch

from ..families.multiflow.candidates import prepare, search
from .chains import SPACINGS, add, links

FOLDER = "candidates"


def add_candidates(packs_dir: Path, *, spacings: tuple[int, ...] = SPACINGS, **how: Any) -> int:
    """Find and store what is missing -> files written. how: see ``train.chains.add``."""
    return add(packs_dir, FOLDER, lambda stack: window_candidates(stack, spacings), spacings, **how)


def window_candidates(stack: np.ndarray, spacings: tuple[int, ...] = SPACINGS) -> torch.Tensor:
    """``(count, H, W, 3)`` uint8 RGB -> ``(P, K, 2, 2, H/2, W/2)`` float16, pixels of the half-size picture."""
    greys = [prepare(cv2.cvtColor(picture, cv2.COLOR_RGB2GRAY)) for picture in stack]
    found = [search(greys[a], greys[b]).astype(np.float16) for a, b in links(len(stack), spacings)]
    return torch.from_numpy(np.array(found)).permute(0, 1, 2, 5, 3, 4).contiguous()
