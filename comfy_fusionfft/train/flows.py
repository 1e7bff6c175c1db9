"""Motion targets beside the packs: computed once, because a teacher costs more than the student's step.

``flows-<nn>.safetensors`` hold two tensors for each window, named by its place in the index:

- ``<n>.flow`` ``(P, 2, 2, h, w)`` float16: for each of P frame pairs (i, j) the motion i→j and j→i, in
  pixels of the packed picture, on a grid ``FLOW_SHRINK`` times smaller;
- ``<n>.trust`` ``(P, 2, h, w)`` uint8: 255 where going there and back ends where it began, 0 where it
  does not (occlusion, or an estimator that is wrong).

The pairs are those of ``pairs(count, spans)``; ``spans`` is in the files' metadata.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path

import cv2
import numpy as np
import torch
from safetensors import safe_open
from safetensors.torch import save_file
from torch import Tensor
from torch.nn import functional

from ..errors import InputError
from ..ops.dis import DenseInverseSearch
from ..ops.warp import backward_warp
from .pack import FLOW_SHRINK, MIB, Bidirectional, decode, read_index


def pairs(count: int, spans: tuple[int, ...]) -> list[tuple[int, int]]:
    """Frame pairs (i, i + span) of a window, span by span."""
    return [(first, first + span) for span in spans for first in range(count - span)]


def add_flows(
    packs_dir: Path,
    flow: Bidirectional,
    *,
    spans: tuple[int, ...] = (1, 2, 4),
    max_mib: int = 40,
    batch: int = 4,
    reduce: int = 1,
    device: torch.device | str = "cpu",
    report: Callable[[str], None] = lambda line: None,
) -> int:
    """Estimate motion for every window of the packs and store it beside them -> bytes written.

    device: where ``flow`` wants its pictures. reduce: 1, 2 or 4: look at pictures this much smaller, which
        costs the square of it less.
    """
    windows = read_index(packs_dir)
    number = {window: index for index, window in enumerate(windows)}
    for stale in packs_dir.glob("flows-*.safetensors"):
        stale.unlink()
    held: dict[str, Tensor] = {}
    files = written = 0

    def flush() -> None:
        nonlocal held, files
        if held:
            save_file(held, packs_dir / f"flows-{files:02d}.safetensors", metadata={"spans": json.dumps(spans)})
        held, files = {}, files + 1

    for done, (window, stack) in enumerate(decode(packs_dir, windows)):
        pictures = torch.from_numpy(stack).to(device).permute(0, 3, 1, 2).float() / 255
        motion, trust = _window_flows(pictures, pairs(window.count, spans), flow, batch, reduce)
        size = motion.numel() * 2 + trust.numel()
        if held and sum(t.numel() * t.element_size() for t in held.values()) + size > max_mib * MIB - MIB // 4:
            flush()
        held[f"{number[window]}.flow"], held[f"{number[window]}.trust"] = motion, trust
        written += size
        if done % 10 == 0:
            report(f"flows: {done}/{len(windows)} windows")
    flush()
    return written


def load_flows(packs_dir: Path) -> Iterator[tuple[int, tuple[int, ...], Tensor, Tensor]]:
    """-> (window number, spans, flow ``(P, 2, 2, h, w)`` float16, trust ``(P, 2, h, w)`` uint8)."""
    for path in sorted(packs_dir.glob("flows-*.safetensors")):
        with safe_open(path, "pt") as file:
            spans = tuple(json.loads(file.metadata()["spans"]))
            for name in file.keys():  # noqa: SIM118 (not a mapping)
                if name.endswith(".flow"):
                    index = name.removesuffix(".flow")
                    yield int(index), spans, file.get_tensor(name), file.get_tensor(f"{index}.trust")


def dis_bidirectional(img0: Tensor, img1: Tensor) -> tuple[Tensor, Tensor]:
    """OpenCV's DIS flow (medium preset) as an estimator that needs no weights. See ``pack.Bidirectional``."""
    search = DenseInverseSearch()  # which extends sizes that OpenCV's own search crashes on

    def grey(image: Tensor) -> np.ndarray:
        rgb = (image.permute(1, 2, 0) * 255).round().clamp(0, 255).byte().contiguous().cpu().numpy()
        return cv2.cvtColor(rgb, cv2.COLOR_RGB2GRAY)

    def both(a: np.ndarray, b: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        if min(a.shape) < 16:
            raise InputError(f"Pictures of {a.shape[1]}x{a.shape[0]} are too small for DIS; need at least 16x16")
        return search(a, b), search(b, a)

    results = [both(grey(a), grey(b)) for a, b in zip(img0, img1, strict=True)]
    forward, backward = (torch.from_numpy(np.stack(side)).permute(0, 3, 1, 2) for side in zip(*results, strict=True))
    return forward.to(img0.device), backward.to(img0.device)


def agreement(there: Tensor, back: Tensor) -> Tensor:
    """How near x + there + back(x + there) comes to x, as trust 0..1: ``(B, 1, h, w)`` of ``(B, 2, h, w)`` flows.

    Flows are in pixels of the picture, on a grid ``FLOW_SHRINK`` times smaller. A slip of 5 % of the motion
    plus a pixel halves the trust.
    """
    miss = there + backward_warp(back, there / FLOW_SHRINK)
    allowed = 1 + 0.05 * torch.linalg.vector_norm(there, dim=1, keepdim=True)
    return torch.exp2(-(torch.linalg.vector_norm(miss, dim=1, keepdim=True) / allowed).square())


def _window_flows(
    pictures: Tensor, wanted: list[tuple[int, int]], flow: Bidirectional, batch: int, reduce: int
) -> tuple[Tensor, Tensor]:
    motion, trust = [], []
    small = functional.avg_pool2d(pictures, reduce)
    for start in range(0, len(wanted), batch):
        first, second = zip(*wanted[start : start + batch], strict=True)
        with torch.inference_mode():
            forward, backward = (
                functional.avg_pool2d(way.float().cpu(), FLOW_SHRINK // reduce) * reduce
                for way in flow(small[list(first)], small[list(second)])
            )
            agree = torch.cat([agreement(forward, backward), agreement(backward, forward)], 1)
        motion.append(torch.stack([forward, backward], 1).half())
        trust.append((agree * 255).round().to(torch.uint8))
    return torch.cat(motion).contiguous(), torch.cat(trust).contiguous()
