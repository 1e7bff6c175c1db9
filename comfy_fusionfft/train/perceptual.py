"""Perceptual distance in the features of an image classifier, where its weights are at hand.

SqueezeNet 1.1 (Iandola et al., 2016) from a safetensors file with the names of its Caffe original
(``conv1.weight``, ``fire2/squeeze1x1.weight``, …): third-party weights that are not part of this project.
"""

from __future__ import annotations

from pathlib import Path

import torch
import torch.nn.functional as F
from safetensors.torch import load_file
from torch import Tensor, nn

from ..errors import CheckpointError, InputError

_MEAN_BGR = (104.0, 117.0, 123.0)
_LEVELS = (("conv1",), ("fire2", "fire3"), ("fire4", "fire5"))
"""Features are compared after each of these groups; a pooling step lies before all but the first."""


class Perceptual(nn.Module):
    """``forward(made, truth)``: pictures ``(B, 3, H, W)`` RGB 0..1 -> scalar; gradients reach ``made`` alone.

    Raises InputError when the file is missing, CheckpointError when it holds something else.
    """

    def __init__(self, path: str | Path) -> None:
        super().__init__()
        if not Path(path).is_file():
            raise InputError(f"{path} does not exist: perceptual loss needs SqueezeNet 1.1 weights, or leave it off")
        state = {name: tensor.float() for name, tensor in load_file(path).items()}
        missing = [n for group in _LEVELS for n in group if not any(key.startswith(n) for key in state)]
        if missing:
            raise CheckpointError(f"{path} is not SqueezeNet 1.1: it has no {missing[0]}; give its Caffe weights")
        for name, tensor in state.items():
            self.register_buffer(name.replace(".", "|"), tensor, persistent=False)
        self.register_buffer("mean", torch.tensor(_MEAN_BGR).view(3, 1, 1), persistent=False)

    def forward(self, made: Tensor, truth: Tensor) -> Tensor:
        with torch.no_grad():
            wanted = self._features(truth)
        distances = [(a - b).abs().mean() for a, b in zip(self._features(made), wanted, strict=True)]
        return torch.stack(distances).mean()

    def _features(self, picture: Tensor) -> list[Tensor]:
        """Feature vectors of unit length at each level: strength of contrast does not count, kind does."""
        x, found = picture.flip(1) * 255 - self.mean, []
        for level, group in enumerate(_LEVELS):
            if level:
                x = F.max_pool2d(x, 3, 2, ceil_mode=True)
            for name in group:
                x = self._conv(name, x, stride=2) if name == "conv1" else self._fire(name, x)
            found.append(F.normalize(x, dim=1))
        return found

    def _fire(self, name: str, x: Tensor) -> Tensor:
        x = self._conv(f"{name}/squeeze1x1", x)
        return torch.cat((self._conv(f"{name}/expand1x1", x), self._conv(f"{name}/expand3x3", x)), dim=1)

    def _conv(self, name: str, x: Tensor, stride: int = 1) -> Tensor:
        weight, bias = getattr(self, f"{name}|weight"), getattr(self, f"{name}|bias")
        return F.conv2d(x, weight, bias, stride, padding=weight.shape[-1] // 2).relu()
