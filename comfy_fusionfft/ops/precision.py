"""Parts of a network that stay exact where the rest of it is brought to half precision."""

from __future__ import annotations

from collections.abc import Callable
from typing import ClassVar

import torch
from torch import Tensor, nn

_AUTOCAST = ("cpu", "cuda", "xpu")
"""Devices that every version of PyTorch knows autocast for; elsewhere even switching it off is an error."""


def exactly(device: torch.device) -> torch.autocast:
    """A context in which autocast is off."""
    return torch.autocast(device.type if device.type in _AUTOCAST else "cpu", enabled=False)


class Float32(nn.Module):
    """Keeps its weights float32 where a network is brought to one of the types ``refused``."""

    refused: ClassVar[tuple[torch.dtype, ...]] = (torch.float16, torch.bfloat16)

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> nn.Module:
        def kept(tensor: Tensor) -> Tensor:
            made = fn(tensor)
            if made.dtype not in self.refused:
                return made
            return torch.empty_like(made, dtype=torch.float32).copy_(tensor)  # on the device, in the layout of ``made``

        return super()._apply(kept, recurse)
