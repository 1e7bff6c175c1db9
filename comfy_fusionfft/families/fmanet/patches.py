"""Parts of a picture, and what surrounds them as far as convolutions look.

A chain of n convolutions, none of which pads, makes a patch from the patch grown by n. What lies beyond the edges of
the picture must be zero for each of them anew, as padding would have it: then it does not matter how a picture was
divided.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

import torch.nn.functional as F
from torch import Tensor


class Patch(NamedTuple):
    """Rows ``top .. bottom-1`` and columns ``left .. right-1`` of a picture of ``height`` × ``width``; may reach
    beyond its edges."""

    top: int
    bottom: int
    left: int
    right: int
    height: int
    width: int

    @property
    def corner(self) -> tuple[int, int]:
        return self.top, self.left

    def grown(self, n: int) -> Patch:
        return self._replace(top=self.top - n, bottom=self.bottom + n, left=self.left - n, right=self.right + n)

    def enlarged(self, scale: int) -> Patch:
        """The same part of a picture so many times as large."""
        return Patch(*(scale * side for side in self))

    def cut(self, picture: Tensor) -> Tensor:
        """``(B, C, H, W)`` -> ``(B, C, h, w)``, a view where the patch lies within the picture."""
        top, bottom, left, right = self._beyond()
        inside = picture[..., self.top + top : self.bottom - bottom, self.left + left : self.right - right]
        return F.pad(inside, (left, right, top, bottom)) if any((top, bottom, left, right)) else inside

    def clear(self, part: Tensor) -> Tensor:
        """``(B, C, h, w)``, the patch's own: zero, in place, beyond the picture."""
        top, bottom, left, right = self._beyond()
        if top:
            part[..., :top, :] = 0
        if bottom:
            part[..., -bottom:, :] = 0
        if left:
            part[..., :left] = 0
        if right:
            part[..., -right:] = 0
        return part

    def _beyond(self) -> tuple[int, int, int, int]:
        sides = -self.top, self.bottom - self.height, -self.left, self.right - self.width
        return tuple(max(0, side) for side in sides)


def patches(height: int, width: int, side: int) -> Iterator[Patch]:
    """Patches of up to ``side`` × ``side``, which together are the picture."""
    for top in range(0, height, side):
        for left in range(0, width, side):
            yield Patch(top, min(top + side, height), left, min(left + side, width), height, width)
