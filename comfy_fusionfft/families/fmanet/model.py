"""FMA-Net as a restorer for the engine (``contract.Restorer``): three frames in, and the middle one out, four times as
large.

The network sees colour only, blue first; here it is RGB, premultiplied where there is alpha. Alpha itself is enlarged
as any picture would be, for what blurred it nobody knows. Sharpening overshoots; pictures are kept within 0..1, or
within what highlights their frames have beyond.

Attention looks at whole pictures, so that a picture in tiles, the engine's last resort when memory runs out, comes out
a little different. The features of a frame are computed once, whatever windows it is seen in.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor

from ...contract import Span, Window
from ...errors import InputError
from ...ops.limits import limit_, limits
from ...ops.memory import Memory
from .lean import Features, LeanFMANet
from .net import FMANet

ENDS = ("replicate", "reflect")


class Restore:
    """Every frame from itself and its neighbours.

    net: placed where it shall run. ends: what stands for the neighbours that the first and the last frame of a shot
        lack: themselves, or the neighbour on the other side.
    check: called many times in a call; what it raises ends it.
    """

    def __init__(
        self,
        net: FMANet,
        *,
        ends: Literal["replicate", "reflect"] = "replicate",
        check: Callable[[], None] | None = None,
    ) -> None:
        if ends not in ENDS:
            raise InputError(f"ends {ends!r} are not known: use {' or '.join(ENDS)}")
        self.net, self.scale = net, net.config.scale
        self.span = Span(context=net.config.context, ends=ends)
        self._memory, self._check = Memory(blocks=32), check

    def __call__(self, window: Window) -> Tensor:
        lean = LeanFMANet(self.net, self._memory.empty, check=self._check)
        frames = lean.config.frames
        if len(window.images) != len(window.times) + frames - 1:
            raise InputError(f"{len(window.images)} frames for {len(window.times)}; FMA-Net sees {frames} for each")
        colours = [image[:, :3].flip(1) for image in window.images]
        features = [
            self._features(lean, window, position, colour)
            for position, colour in zip(window.positions, colours, strict=True)
        ]
        made = []
        for first in range(len(window.times)):
            seen = slice(first, first + frames)
            picture = lean.picture(colours[seen], features[seen]).flip(1)
            alpha = window.images[first + self.span.context][:, 3:]
            if alpha.shape[1]:
                picture = torch.cat((picture, F.interpolate(alpha, scale_factor=self.scale, mode="bicubic")), 1)
            made.append(limit_(picture, *map(limits, window.images[seen])))
        return made[0] if len(made) == 1 else torch.cat(made)

    def working_bytes(self, height: int, width: int) -> int:
        return LeanFMANet(self.net).working_bytes(height, width)

    @staticmethod
    def _features(lean: LeanFMANet, window: Window, position: object, colour: Tensor) -> Features:
        return window.once("fmanet features", (position,), lambda: lean.features(colour))
