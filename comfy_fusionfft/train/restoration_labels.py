"""Motion that a restoration network is shown as right: found between sharp pictures by whatever finds motion.

In: anything callable as ``Motion``; ``MotionOf`` makes one of a flow source, such as the embedded ones. Out: labels for
three or more instants at once.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from ..contract import FlowSource
from ..families.fusionfft.anchors import link
from ..ops.pad import crop, pad_to

Motion = Callable[[Tensor, Tensor], Tensor]
"""Two pictures ``(B, 3, H, W)``, RGB 0..1 -> motion from the first one's pixels to the second, ``(B, 2, H, W)``."""


@torch.no_grad()
def labels(motion: Motion, pictures: Tensor) -> Tensor:
    """``(B, 3, T, H, W)`` -> motion from the one in the middle to each, ``(B, 2, T, H, W)`` float32 pixels; none to
    itself."""
    instants = pictures.unbind(2)
    middle = instants[len(instants) // 2]
    still = middle.new_zeros(len(middle), 2, *middle.shape[-2:], dtype=torch.float32)
    ways = [still if each is middle else motion(middle, each).float().to(still) for each in instants]
    return torch.stack(ways, 2)


class MotionOf:
    """A flow source as a ``Motion``. device: where the source is."""

    def __init__(self, source: FlowSource, device: torch.device | str = "cpu"):
        self.source, self.device = source, torch.device(device)

    @torch.no_grad()
    def __call__(self, first: Tensor, second: Tensor) -> Tensor:
        source, found = self.source, []
        for pair in zip(first.split(1), second.split(1), strict=True):
            pictures = [pad_to(picture.to(self.device), source.modulus, source.padding)[0] for picture in pair]
            features = [source.features(picture) for picture in pictures]
            # Sources answer for instants between two pictures; the middle is where they are surest.
            half = source.flow(*pictures, *features, torch.tensor([0.5], device=self.device))
            found.append(crop(link(half.flow).ahead, first.shape[-2:]))
        return torch.cat(found)
