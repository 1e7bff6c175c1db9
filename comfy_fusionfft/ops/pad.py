"""Padding to the sizes a network accepts, at the right and bottom edge, and cropping back."""

from __future__ import annotations

from typing import Literal

import torch.nn.functional as F
from torch import Tensor


def pad_to(
    image: Tensor, modulus: int, mode: Literal["zeros", "replicate"] = "replicate"
) -> tuple[Tensor, tuple[int, int]]:
    """Extend ``(B, C, H, W)`` until height and width are multiples of ``modulus``.

    Returns the padded tensor (the very same one when nothing was missing) and the original ``(H, W)``.
    Unlike reflection, both modes work whatever the size of the picture, down to 1×1.
    """
    height, width = image.shape[-2:]
    missing = (0, -width % modulus, 0, -height % modulus)  # left, right, top, bottom
    if any(missing):
        image = F.pad(image, missing, mode="replicate" if mode == "replicate" else "constant")
    return image, (height, width)


def crop(image: Tensor, size: tuple[int, int]) -> Tensor:
    """Undo ``pad_to``: the top left ``size = (H, W)`` of ``(..., H', W')``, as a view."""
    return image[..., : size[0], : size[1]]
