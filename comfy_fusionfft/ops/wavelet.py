"""The Haar wavelet of pictures: 2×2 blocks as their sum and three differences, and back.

Both ways are orthonormal, so they keep the sum of squares, and each undoes the other up to rounding: exactly for whole
numbers. A constant picture v has a low band of 2v a level and no details.
"""

from __future__ import annotations

from torch import Tensor

from ..errors import InputError


def analyse(picture: Tensor) -> tuple[Tensor, Tensor]:
    """``(B, C, H, W)``, even sides -> low band ``(B, C, H/2, W/2)`` and details ``(B, C, 3, H/2, W/2)``.

    Details of a block: top minus bottom, left minus right, one diagonal minus the other.
    """
    height, width = picture.shape[-2:]
    if height % 2 or width % 2:
        raise InputError(f"a {width}×{height} picture; the Haar wavelet needs even sides, so pad it")
    top, bottom = picture[..., ::2, :], picture[..., 1::2, :]
    added, taken = (top + bottom) / 2, (top - bottom) / 2
    low, across = added[..., ::2] + added[..., 1::2], added[..., ::2] - added[..., 1::2]
    down, diagonal = taken[..., ::2] + taken[..., 1::2], taken[..., ::2] - taken[..., 1::2]
    details = low.new_empty(*low.shape[:2], 3, *low.shape[2:])
    for band, values in enumerate((down, across, diagonal)):
        details[:, :, band] = values
    return low, details


def synthesise(low: Tensor, details: Tensor) -> Tensor:
    """``analyse`` undone: ``(B, C, h, w)`` and ``(B, C, 3, h, w)`` -> ``(B, C, 2h, 2w)``."""
    down, across, diagonal = details.unbind(2)
    upper, lower = (low + down) / 2, (low - down) / 2
    left, right = (across + diagonal) / 2, (across - diagonal) / 2
    picture = low.new_empty(*low.shape[:2], 2 * low.shape[2], 2 * low.shape[3])
    picture[..., ::2, ::2] = upper + left
    picture[..., ::2, 1::2] = upper - left
    picture[..., 1::2, ::2] = lower + right
    picture[..., 1::2, 1::2] = lower - right
    return picture
