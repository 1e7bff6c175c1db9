"""Trajectory attention: what key frames knew about what a patch shows now.

Every few frames one is remembered, as patches of 4×4 pixels: rows of channels · 16 numbers. Where each patch of the
frame at hand was in each key frame is followed from frame to frame, in whole patches; of all it finds there a patch
takes what resembles it most.

Source: C. Liu et al., "Learning Trajectory-Aware Transformer for Video Super-Resolution", CVPR 2022.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ...ops.precision import exactly
from .config import PATCH
from .layers import Convolution
from .shelf import Shelf

SURROUNDINGS = ((4, 0), (6, 1), (8, 2))
"""What is remembered of a patch: itself, and more around it shrunk to its size. Side, and pixels beyond it."""
_SMALLEST = 1e-12


class Looks(NamedTuple):
    """A frame as it is compared. rows: ``(B · patches, C · 16)``. scale: of each row, to length 1, float32."""

    rows: Tensor
    scale: Tensor


def looks(features: Tensor) -> Looks:
    rows = as_rows(features)
    return Looks(rows, rows.float().norm(dim=1).clamp_min(_SMALLEST).reciprocal())


def as_rows(features: Tensor) -> Tensor:
    """``(B, C, H, W)`` -> its whole patches, ``(B · ⌊H/4⌋ · ⌊W/4⌋, C · 16)``: channel, row, column."""
    height, width = (side // PATCH for side in features.shape[2:])
    patches = features[..., : PATCH * height, : PATCH * width].unflatten(3, (width, PATCH))
    return patches.unflatten(2, (height, PATCH)).permute(0, 2, 4, 1, 3, 5).reshape(-1, features.shape[1] * PATCH**2)


def as_picture(rows: Tensor, like: Tensor) -> Tensor:
    """``as_rows`` undone, of the size of ``like``: zero beyond whole patches."""
    height, width = (side // PATCH for side in like.shape[2:])
    patches = rows.view(len(like), height, width, -1, PATCH, PATCH).permute(0, 3, 1, 4, 2, 5)
    picture = patches.reshape(len(like), -1, PATCH * height, PATCH * width)
    return F.pad(picture, (0, like.shape[3] - picture.shape[3], 0, like.shape[2] - picture.shape[2]))


def surroundings(state: Tensor, side: int, beyond: int) -> Tensor:
    """Patches of ``state`` that have grown to ``side`` by pixels ``beyond`` them, shrunk to 4×4: as ``as_rows``."""
    if side == PATCH:
        return as_rows(state)
    size = state.shape[2:]
    windows = F.pad(state, (beyond,) * 4).unfold(2, side, PATCH).unfold(3, side, PATCH)  # B C y x row column
    apart = windows.permute(0, 1, 2, 4, 3, 5).flatten(4, 5).flatten(2, 3)
    missing = [each * side // PATCH - there for each, there in zip(size, apart.shape[2:], strict=True)]
    apart = F.pad(apart, (0, missing[1], 0, missing[0]))
    return as_rows(F.adaptive_avg_pool2d(apart, size))


class KeyFrames:
    """What is remembered of a pass over a clip, and where the patches of the frame at hand were then.

    count: key frames there will be. shelf: where to keep them.
    """

    def __init__(self, count: int, shelf: Shelf) -> None:
        self._count, self._home = count, shelf.away
        self._rows, self._scales = shelf.row(count), []
        self._places: list[Tensor] = []
        self._known: Tensor | None = None

    def add(self, features: Tensor, state: Tensor) -> None:
        """Remember the frame at hand."""
        rows, scale = looks(features)
        patches = len(rows)
        if self._known is None:
            shape = (self._count, len(SURROUNDINGS), patches, rows.shape[1])
            self._known = rows.new_empty(shape, dtype=state.dtype, device=self._home or rows.device)
        for number, (side, beyond) in enumerate(SURROUNDINGS):
            self._known[len(self._scales), number].copy_(surroundings(state, side, beyond))
        self._rows[len(self._scales)] = rows
        self._scales.append(scale)
        self._places.append(torch.arange(patches, device=rows.device))

    def move(self, flow: Tensor) -> None:
        """Go on to the next frame; ``flow (B, 2, H, W)`` leads from it to the one before."""
        height, width = (side // PATCH for side in flow.shape[2:])
        x, y = (F.adaptive_avg_pool2d(flow, (height, width)) / PATCH).unbind(1)
        x = (x + torch.arange(width, device=x.device)).clamp(0, width - 1).round().long()
        y = (y + torch.arange(height, device=y.device)[:, None]).clamp(0, height - 1).round().long()
        first = torch.arange(len(flow), device=flow.device).view(-1, 1, 1) * (height * width)
        before = (first + y * width + x).flatten()
        self._places = [places[before] for places in self._places]

    def best(self, features: Tensor) -> tuple[Tensor, tuple[Tensor, ...]]:
        """Of all key frames, for each patch of ``features``, the one that resembles it most.

        -> how much it does, ``(B · patches,)`` float32, up to 1; and its ``SURROUNDINGS``, each as ``as_rows``.
        """
        assert self._known is not None
        rows, scale = looks(features)
        rows, best, chosen = rows.float(), None, None
        for number, (length, places) in enumerate(zip(self._scales, self._places, strict=True)):
            there = _picked(self._rows[number], places).float()
            likeness = (rows * there).sum(1) * scale * length[places]
            if best is None:
                best, chosen = likeness, places
            else:
                better = likeness > best
                best = torch.where(better, likeness, best)
                chosen = torch.where(better, places + number * len(SURROUNDINGS) * len(rows), chosen)
        flat = self._known.flatten(0, 2)
        return best, tuple(_picked(flat, chosen + part * len(rows)) for part in range(len(SURROUNDINGS)))


def _picked(rows: Tensor, places: Tensor) -> Tensor:
    """``rows[places]``, where ``places`` are, wherever the rows are kept."""
    return rows.index_select(0, places.to(rows.device)).to(places.device)


class TrajectoryAttention(nn.Module):
    """LTAM: adds what key frames knew to what is carried along."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.fusion = Convolution(len(SURROUNDINGS) * channels, channels)

    def forward(self, features: Tensor, keyframes: KeyFrames, state: Tensor) -> Tensor:
        """features, state: ``(B, C, H, W)`` of the frame at hand -> the latter anew."""
        with exactly(features.device):
            likeness, known = keyframes.best(features)
        found = self.fusion(torch.cat([as_picture(rows, state) for rows in known], 1))
        share = likeness[:, None].expand(-1, PATCH**2).to(found.dtype)
        return found * as_picture(share, found) + state
