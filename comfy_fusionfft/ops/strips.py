"""Work in strips of rows: what is made and used up within a strip stays in the cache of a CPU.

Large tensors that live for one step only are what makes picture work slow on a CPU: fresh memory has to be mapped and
zeroed page by page, and everything passes through main memory twice. A GPU hides both, and wants few large kernels.
"""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor

SHARED = 16
SMALL = 4096
"""Pixels that one core looks up before another one would have begun."""
STRIP_PIXELS = 64 * 1024
"""Places in a strip: a plane of float32 is a quarter of a MiB."""


def strip_rows(height: int, row_pixels: int, device: torch.device) -> int:
    """Rows of a strip, an even number that several threads can share; all rows where there is no cache to fit.

    row_pixels: places in a row, of all pictures together.
    """
    if device.type != "cpu" or height * row_pixels <= STRIP_PIXELS:
        return height + height % 2
    fitting = STRIP_PIXELS // row_pixels
    return fitting // SHARED * SHARED or max(2, fitting // 2 * 2)


def strips(height: int, rows: int) -> Iterator[slice]:
    """Slices of ``rows`` rows, the last one perhaps of fewer, over the rows 0 .. height-1."""
    for start in range(0, height, rows):
        yield slice(start, min(start + rows, height))


def in_bands(planes: Tensor, count: int | None = None) -> Tensor:
    """One picture ``(1, C, h, w)`` as ``count`` of fewer rows, ``(count, C, h / count, w)``, a view.

    For what many cores can do to many pictures, but one core alone does to one. Without a count it is chosen: an even
    number of rows in each, and no bands of pictures that are too small or already several.
    """
    if count is None:
        count = 1
        if len(planes) == 1 and planes.device.type == "cpu" and planes[0, 0].numel() > SMALL:
            count = next(n for n in range(torch.get_num_threads(), 0, -1) if n == 1 or planes.shape[2] % (2 * n) == 0)
    return planes if count == 1 else planes[0].unflatten(1, (count, -1)).transpose(0, 1)
