"""The warped views of an instant, and what the fusion network sees of them, for some rows at a time."""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from ...ops.bicubic import bicubic_look_up
from ...ops.grid import pixel_places
from .inputs import FusionInput, blanked
from .rearrange import unshuffle_into

FINE = 2 * 3 + 2
"""Planes of the full resolution: the colours of two views, and how far each is from the plain answer."""
COARSE = 4 + 2 + 2 + 1
"""Planes of half the resolution: motion, which of it ends inside the picture, which views are valid, the mask."""
PLANES = 4 * FINE + COARSE


def warp_views(x: FusionInput, top: int = 0) -> list[Tensor]:
    """The frames of ``x`` along its motion, whose rows begin at ``top`` -> 2N views ``(B, C, H, W)``, 0 where invalid.

    One by one: together they would have to be copied first.
    """
    at_x, at_y = pixel_places(x.motion)
    ways, valid = x.motion.flatten(1, 2).unbind(1), x.valid.flatten(1).unbind(1)
    return [
        blanked(bicubic_look_up(picture.float(), way, at_x, at_y + top), there[:, None, None, None])
        for picture, way, there in zip(x.pictures, ways, valid, strict=True)
    ]


def blend(left: Tensor, right: Tensor, mask: Tensor) -> Tensor:
    """The nearest pair's plain answer ``(B, C, H, W)`` from its two views, mixed by the mask logit."""
    return torch.lerp(right, left, mask.sigmoid())


class Sight:
    """Makes what the network looks at, for one strip of rows after another, from the top of the picture to its end.

    size: H and W, both even. apron: cells of 2×2 pixels by which the picture is continued on all sides.
    dtype: what the network works in.
    """

    OVERLAP = 2
    """Rows that a strip begins with again; the first one begins with the apron instead, and the last one ends so."""

    def __init__(self, size: tuple[int, int], apron: int, dtype: torch.dtype) -> None:
        self._size, self._apron, self._dtype = size, apron, dtype
        self._above: Tensor | None = None

    def __call__(self, x: FusionInput, views: Sequence[Tensor], top: int) -> Tensor:
        """Rows of the input from ``top`` on, and their views -> ``(B·N, PLANES or one more, rows/2 + …, W/2 + …)``.

        One plane more, without meaning, makes their number even.
        """
        fine, coarse = self._fine(x, views).flatten(0, 1), self._coarse(x, top).flatten(0, 1)
        last = top + x.mask.shape[-2] == self._size[0]
        below = self._apron if last else 0
        if torch.is_grad_enabled():  # the picture is one strip then
            whole = torch.cat((F.pixel_unshuffle(fine, 2), coarse.to(fine.dtype)), dim=1)
            return F.pad(whole, (self._apron,) * 4, mode="replicate")
        above = self._apron if self._above is None else self.OVERLAP
        count, _, height, width = coarse.shape
        # Written once, where it stays: joining and padding planes whose number is odd takes longer than making them.
        cells = fine.new_empty(count, above + height + below, width + 2 * self._apron, PLANES + PLANES % 2)
        rows = cells[:, above : above + height]
        centre = rows[:, :, self._apron : -self._apron]
        unshuffle_into(centre[..., : 4 * FINE], fine)
        centre[..., 4 * FINE : PLANES] = coarse.permute(0, 2, 3, 1)
        centre[..., PLANES:] = 0
        rows[:, :, : self._apron] = centre[:, :, :1]
        rows[:, :, -self._apron :] = centre[:, :, -1:]
        cells[:, :above] = rows[:, :1] if self._above is None else self._above
        cells[:, above + height :] = rows[:, -1:]
        self._above = cells[:, -self.OVERLAP :]
        return cells.permute(0, 3, 1, 2)

    def _fine(self, x: FusionInput, views: Sequence[Tensor]) -> Tensor:
        """``(B, N, FINE, H, W)``."""
        colours = [view[:, :3] for view in views]
        plain = blend(colours[0], colours[1], x.mask)
        disputes = [
            blanked((colour - plain).abs_().mean(1, keepdim=True), there[:, None, None, None])
            for colour, there in zip(colours, x.valid.flatten(1).unbind(1), strict=True)
        ]
        planes = [part[i : i + 2] for i in range(0, len(views), 2) for part in (colours, disputes)]
        return torch.cat([p.to(self._dtype) for pair in planes for p in pair], dim=1).unflatten(1, (-1, FINE))

    def _coarse(self, x: FusionInput, top: int) -> Tensor:
        """``(B, N, COARSE, H/2, W/2)`` float32."""
        motion = x.motion[..., ::2, ::2]
        anchors, height, width = motion.shape[1], *motion.shape[-2:]
        at_x = motion[:, :, :, 0] + 2 * torch.arange(width, device=motion.device)
        at_y = motion[:, :, :, 1] + top + 2 * torch.arange(height, device=motion.device)[:, None]
        inside = (at_x >= 0) & (at_x <= self._size[1] - 1) & (at_y >= 0) & (at_y <= self._size[0] - 1)
        steps = torch.arange(anchors, device=motion.device)
        away = torch.stack((x.time[:, None] + steps, 1 - x.time[:, None] + steps), dim=2)  # frames from t to each
        speed = (motion / (32 * away[..., None, None, None])).tanh().flatten(2, 3)
        known = x.valid[..., None, None].expand(-1, -1, -1, height, width)
        mask = (x.mask[..., ::2, ::2] / 4).tanh()[:, None].expand(-1, anchors, -1, -1, -1)
        return torch.cat((speed, inside & known, known, mask), dim=2)
