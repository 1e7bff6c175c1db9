"""Comparing places: how alike the features of two pictures are around every point (a cost volume)."""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor


def correlate(first: Tensor, second: Tensor, radius: int, tile: int = 8) -> Tensor:
    """Mean over channels of ``first(x, y) · second(x + dx, y + dy)`` for every shift of up to ``radius`` pixels.

    ``(B, C, H, W)`` twice -> ``(B, (2·radius+1)², H, W)``, dx running fastest; zero beyond the border.
    ``tile`` changes the speed only: each tile of ``first`` meets the window of ``second`` around it in one
    matrix product, which takes three times the needed multiplications but no pass over memory per shift.
    """
    batch, channels, height, width = first.shape
    rows, columns = -(-height // tile), -(-width // tile)
    bottom, right = rows * tile - height, columns * tile - width
    side, window = 2 * radius + 1, tile + 2 * radius

    tiles = F.pad(first, (0, right, 0, bottom)).unfold(2, tile, tile).unfold(3, tile, tile)
    tiles = tiles.permute(0, 2, 3, 4, 5, 1).reshape(-1, tile * tile, channels)
    windows = F.pad(second, (radius, radius + right, radius, radius + bottom))
    windows = windows.unfold(2, window, tile).unfold(3, window, tile)  # (B, C, rows, columns, window, window)
    windows = windows.permute(0, 2, 3, 1, 4, 5).reshape(-1, channels, window * window)
    products = tiles @ windows  # (B·rows·columns, tile², window²)

    # Pixel (y, x) of a tile needs the window's places (y + dy, x + dx): a view with one more step per pixel.
    row, place = window * window, products.shape[1] * window * window
    scores = products.as_strided(
        (batch, side, side, rows, tile, columns, tile),
        (rows * columns * place, window, 1, columns * place, tile * row + window, place, row + 1),
    )
    return scores.reshape(batch, side * side, rows * tile, columns * tile)[..., :height, :width] / channels
