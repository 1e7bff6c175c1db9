"""Bilinear enlarging of planes by powers of two, read row by row and only where it is needed.

Planes of a smaller picture have g pixels of the full one from cell to cell. What ``F.interpolate`` makes of them there
(bilinear, corners not aligned) is read at one of two kinds of sites, for some power of two s <= g:

- *cells*: the mean of every s×s pixels' middle, as shrinking the enlarged planes by s gives. Between cells bilinear
  enlarging is linear, and a middle never lies on one when s < g, so that the mean is one reading, not four;
- *places*: the pixels that shrinking by s reads, two in the middle of every s of a row and of a column.

For s = 1 both are all pixels; places of s = 2 are all pixels as well.
"""

from __future__ import annotations

from functools import lru_cache
from typing import Literal, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from .layout import empty_channels_last, write_channels_last

Sites = Literal["cells", "places"]


class Enlarged:
    """``planes (B, c, H / g, W / g)`` float32 of a picture of ``size (H, W)``, to be read at its sites."""

    def __init__(self, planes: Tensor, g: int, size: tuple[int, int], s: int, sites: Sites) -> None:
        self._key = (size[0], g, s, sites)
        self._there = g == s and (sites == "cells" or s == 1)
        if self._there:
            self._wide = planes
        elif sites == "cells" or s <= 2:
            width = size[1] // (s if sites == "cells" else 1)
            self._wide = F.interpolate(planes, (planes.shape[2], width), mode="bilinear")
        else:
            low, high, share = _taps(size[1], g, s, sites, planes.device)
            self._wide = torch.lerp(planes.index_select(3, low), planes.index_select(3, high), share)

    def rows(self, rows: slice) -> Tensor:
        """These rows of sites: ``(B, c, rows, sites in a row)``."""
        if self._there:
            return self._wide[:, :, rows]
        if self._wide.device.type == "cpu":
            weights, few = self._weighed(rows)
            return torch.bmm(weights, few).unflatten(0, self._wide.shape[:2])
        low, high, share = (each[rows] for each in _taps(*self._key, self._wide.device))
        return torch.lerp(self._wide.index_select(2, low), self._wide.index_select(2, high), share[:, None])

    def add_rows(self, rows: slice, to: Tensor) -> None:
        """``to += self.rows(rows)``, in one pass on a CPU."""
        if self._there or self._wide.device.type != "cpu":
            to += self.rows(rows)
        else:
            to.flatten(0, 1).baddbmm_(*self._weighed(rows))

    def _weighed(self, rows: slice) -> tuple[Tensor, Tensor]:
        """A product of small matrices blends rows several times faster than reading each of them twice."""
        first, weights = _row_weights(*self._key, rows.start, rows.stop)
        few = self._wide[:, :, first : first + weights.shape[1]].flatten(0, 1)
        return weights.expand(len(few), -1, -1), few


def convolve_doubled(planes: Tensor, weight: Tensor) -> Tensor:
    """``F.conv2d(doubled, weight, stride=2, padding=1)`` of planes doubled by bilinear enlarging; they are not doubled.

    planes: ``(B, I, h, w)`` float32. weight: ``(O, I, 3, 3)``, whose dtype is computed in. -> ``(B, O, h, w)``.
    """
    around = F.pad(planes.to(weight.dtype), (1, 1, 1, 1), mode="replicate")
    x = empty_channels_last(weight, *around.shape)
    write_channels_last(around, x)
    folded = weight.float().flatten(2) @ _doubling(weight.device)  # (O, I, 36)
    inner, top, left, corner = (taps.unflatten(2, (3, 3)).to(weight) for taps in folded.chunk(4, dim=2))
    made = F.conv2d(x, inner)
    made[:, :, :1] = F.conv2d(x[:, :, :3], top)
    made[..., :1] = F.conv2d(x[..., :3], left)
    made[..., :1, :1] = F.conv2d(x[..., :3, :3], corner)
    return made


@lru_cache(None)
def _doubling(device: torch.device) -> Tensor:
    """Taps of a convolution of doubled planes -> taps on the planes themselves, ``(9, 4·9)``: inside; in the first row,
    in the first column and in their corner, where the taps that lie outside see zeros."""
    along = torch.tensor([[0.75, 0.25, 0], [0.25, 0.75, 0], [0, 0.75, 0.25]])  # tap, plane
    first = along * torch.tensor([[0.0], [1], [1]])
    kinds = (torch.kron(rows, columns) for rows in (along, first) for columns in (along, first))
    inner, left, top, corner = kinds
    return torch.cat((inner, top, left, corner), dim=1).to(device)


@lru_cache(None)  # small, and CUDA graphs go on reading them
def places(side: int, s: int, device: torch.device) -> Tensor:
    """Coordinates of the places along a side, float32 pixels."""
    pixels = torch.arange(side, device=device, dtype=torch.float32)
    return pixels.view(-1, s)[:, s // 2 - 1 : s // 2 + 1].flatten() if s > 2 else pixels


class _Taps(NamedTuple):
    """Between which two cells a site lies, ``(n,)`` int64, and how much of the second one it takes."""

    low: Tensor
    high: Tensor
    share: Tensor


@lru_cache(None)
def _taps(side: int, g: int, s: int, sites: Sites, device: torch.device) -> _Taps:
    if sites == "places":
        at = places(side, s, device)
    else:
        at = (torch.arange(side // s, device=device, dtype=torch.float32) + 0.5) * s - 0.5
    at = ((at + 0.5) / g - 0.5).clamp(0, side // g - 1)
    low = at.long()
    return _Taps(low, (low + 1).clamp(max=side // g - 1), at - low)


@lru_cache(4096)
def _row_weights(side: int, g: int, s: int, sites: Sites, start: int, stop: int) -> tuple[int, Tensor]:
    """For some rows of sites: the first row of cells they read, and the weights of those, ``(sites, cells)``."""
    low, high, share = (each[start:stop] for each in _taps(side, g, s, sites, torch.device("cpu")))
    first = int(low[0])
    weights = torch.zeros(stop - start, int(high[-1]) + 1 - first)
    rows = torch.arange(stop - start)
    weights[rows, low - first] += 1 - share
    weights[rows, high - first] += share
    return first, weights
