"""FTVSR as a restorer for the engine (``contract.Restorer``): a stretch of a clip in, four times as large, out.

All frames of a stretch help each other, so a clip is worked on in chunks that overlap: frames at a chunk's ends, which
lack help from one side, are not shown (``context``) or mixed with those of the next chunk (``blend``). The network sees
colour only; alpha is enlarged beside it.

It looks at pictures as a whole: in tiles, the engine's last resort when memory runs out, they come out different.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal, get_args

import torch
from torch import Tensor

from ...contract import Span, Window
from ...errors import InputError
from ...ops import dct
from ...ops.limits import limit_, limits
from ...ops.pad import crop, pad_to
from .config import COLOURS
from .net import FTVSR, resized
from .shelf import Shelf
from .trajectory import SURROUNDINGS

CHUNK, CONTEXT, BLEND = 24, 3, 2
"""With synthetic weights, the picture at a chunk's end differs from that of an uncut clip three times as much as one
from its middle; where these are cut and mixed, by as much as elsewhere."""
Padding = Literal["replicate", "reference"]
_WORKING_BYTES, _WORKING_NUMBERS = 6400, 700
"""For a small picture's pixel, in float32 and in the precision of the weights: as measured, at 96×64 to 320×180."""
_ALWAYS_NUMBERS = 1 << 25
"""Whatever the size: weights in other layouts."""


class Restore:
    """Every frame of a clip, four times as high and wide.

    net: placed where it shall run.
    chunk, context, blend: frames that a step makes, sees beyond those on each side, and has in common with the next.
    padding: ``replicate``: pictures grow to whole patches before they are worked on, and are cropped afterwards;
        ``reference``: as published: at most 15 rows and columns at the bottom and right are left without help from
        other frames, and pictures below 16×16 are refused.
    check: called between frames of every pass, for a call takes long; what it raises ends the call.
    """

    scale = 4

    def __init__(
        self,
        net: FTVSR,
        *,
        chunk: int = CHUNK,
        context: int = CONTEXT,
        blend: int = BLEND,
        padding: Padding = "replicate",
        check: Callable[[], None] | None = None,
    ) -> None:
        if chunk < 1 or context < 0 or not 0 <= blend <= chunk // 2:
            raise InputError(
                f"chunks of {chunk} frames with a context of {context} and {blend} blended: use 1 or more, 0 or more, "
                f"and at most half a chunk; {CHUNK}, {CONTEXT} and {BLEND} are the defaults"
            )
        if padding not in get_args(Padding):
            raise InputError(f"padding {padding!r} is not known: use {', '.join(get_args(Padding))}")
        self.net, self.padding = net, padding
        self.span = Span(makes=chunk, context=context, blend=blend)
        self._shelf = Shelf(check=check)

    def __call__(self, window: Window) -> Tensor:
        pictures = window.images
        height, width = pictures[0].shape[2:]
        frames = [picture[:, :3] for picture in pictures]
        if self.padding == "replicate":
            frames = [pad_to(frame, self.net.config.modulus)[0] for frame in frames]
        size = (self.scale * height, self.scale * width)
        restored = pictures[0].new_empty(len(window.times), pictures[0].shape[1], *size)
        numbers = {position: number for number, position in enumerate(window.times)}
        for position, picture, made in zip(
            window.positions, pictures, self.net.restored(frames, self._shelf), strict=True
        ):
            if position in numbers:
                self._finish(crop(made, size), picture, restored[numbers[position]][None])
        return restored

    def _finish(self, made: Tensor, picture: Tensor, into: Tensor) -> None:
        into[:, :3] = made
        if picture.shape[1] > 3:
            into[:, 3:] = resized(picture[:, 3:])
        limit_(into, limits(picture))

    def working_bytes(self, height: int, width: int) -> int:
        config, one = self.net.config, self.net.conv_last.weight.element_size()
        if self.padding == "replicate":
            height, width = (-(-side // config.modulus) * config.modulus for side in (height, width))
        pixels, frames = height * width, self.span.makes + 2 * self.span.context
        # Bytes for a small picture's pixel: of what is kept of a frame, and of what is remembered of a key frame.
        features, coefficients = config.channels * one, config.coefficients * one * self.scale**2 // dct.PATTERNS
        remembered = -(-frames // config.keyframe_step) * (1 + len(SURROUNDINGS)) * features
        first, then = 2 * (features + coefficients) * frames + remembered, 3 * coefficients * frames
        large = COLOURS * 4 * self.scale**2
        held = 0 if self._shelf.away else max(first, then) + large * frames
        made = (large + large // COLOURS) * self.span.makes  # with alpha
        return pixels * (held + made + _WORKING_BYTES + _WORKING_NUMBERS * one) + _ALWAYS_NUMBERS * one

    def shrink(self) -> bool:
        """Keep what waits in the memory of the CPU from now on; False: it is there already."""
        home = self.net.conv_last.weight.device
        if home.type == "cpu" or self._shelf.away is not None:
            return False
        self._shelf.away = torch.device("cpu")
        return True
