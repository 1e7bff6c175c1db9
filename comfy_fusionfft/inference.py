"""The public names people script against: ``build_fusion_net``, ``FusionInference``, ``check_gradients``.

They are thin: one frame between two pictures in memory, without streams or files. Everything else, and
whole clips, is in ``api``.
"""

from __future__ import annotations

from collections.abc import Sequence
from fractions import Fraction
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import torch
from torch import Tensor, nn

from . import api
from .contract import Frame, Host
from .engine import run
from .errors import InputError
from .families.fusionfft import FusionConfig, FusionNet
from .host import PlainHost
from .timeline import At

Picture = TypeVar("Picture", np.ndarray, Tensor)


def build_fusion_net(num_anchors: int = 3, base_channels: int = 64, use_temporal_guidance: bool = True) -> FusionNet:
    """A fusion network with random weights, which answers like plain bent motion until it is trained.

    num_anchors: checked to be 1 to 5, and otherwise without effect: one network serves any number.
    """
    if not 1 <= num_anchors <= 5:
        raise InputError(f"{num_anchors} anchors asked for: use 1 to 5 (default 3)")
    return FusionNet(FusionConfig(base_channels=base_channels, use_temporal_guidance=use_temporal_guidance))


class FusionInference:
    """Makes the picture at any instant between two others.

    model_path: fusion weights, ``auto`` for the embedded ones. rife_model_dir: a RIFE file or a folder that
        holds one; ``auto``, ``dis`` or ``rife`` as everywhere. base_channels: read from the file; only checked.
    UHD: scale 1 becomes 0.5. scale: 0.25 to 4, the size of the picture that flow is searched on.

    ``spectral_alpha``, ``spectral_lo`` and ``spectral_hi`` may be set at any time: ``model.spectral_alpha = 0.3``.
    """

    def __init__(
        self,
        model_path: str | Path = "auto",
        rife_model_dir: str | Path = "auto",
        num_anchors: int = 3,
        base_channels: int | None = None,
        UHD: bool = True,
        scale: float = 0.5,
        host: Host | None = None,
    ) -> None:
        self.host = host or PlainHost()
        source = api.load_flow(_flow_file(rife_model_dir), host=self.host, scale=scale, uhd=UHD)
        self.model = api.load_method("fusion", source, host=self.host, fusion=model_path, num_anchors=num_anchors)
        own = getattr(getattr(self.model.net, "config", None), "base_channels", base_channels)
        if base_channels is not None and own != base_channels:
            raise InputError(f"{model_path} has {own} base channels, {base_channels} were asked for: leave it out")

    @property
    def spectral_alpha(self) -> float:
        """0..1: share of the real frames' high-band strength that made frames get."""
        return self.model.spectral_alpha

    @spectral_alpha.setter
    def spectral_alpha(self, value: float) -> None:
        self.model.spectral_alpha = float(value)

    @property
    def spectral_lo(self) -> float:
        """Cycles per pixel where the swap begins."""
        return self.model.spectral_lo

    @spectral_lo.setter
    def spectral_lo(self, value: float) -> None:
        self.model.spectral_lo = float(value)

    @property
    def spectral_hi(self) -> float:
        """Cycles per pixel from which on it is full."""
        return self.model.spectral_hi

    @spectral_hi.setter
    def spectral_hi(self, value: float) -> None:
        self.model.spectral_hi = float(value)

    def interpolate_frame(
        self,
        frame0: Picture,
        frame1: Picture,
        timestep: float | Fraction = 0.5,
        before: Sequence[Picture] = (),
        after: Sequence[Picture] = (),
    ) -> Picture:
        """The picture at ``timestep`` (0 to 1) between two, of their type and shape.

        Pictures: arrays ``(H, W, C)``, uint8, uint16 or float in 0..1, or tensors ``(C, H, W)`` or
        ``(1, C, H, W)`` in 0..1; C = 1, 3 or 4. before, after: further frames of the clip in order of time,
        ``before[-1]`` next to ``frame0``; with them motion may bend and hidden places be seen.
        """
        if not 0 <= timestep <= 1:
            raise InputError(f"timestep {timestep} is outside 0 to 1: 0 is frame0, 1 is frame1")
        pictures = [*before, frame0, frame1, *after]
        frames = [Frame(_pixels(p), Fraction(i)) for i, p in enumerate(pictures)]
        instant = len(before) + Fraction(timestep).limit_denominator(1_000_000)
        (made,) = run(frames, self.model, At((instant,)), self.host)
        return _like(made.pixels, frame0)


def check_gradients(net: nn.Module) -> dict[str, float]:
    """Name -> norm of the gradient of every parameter, after ``backward``.

    Raises InputError that names parameters without a gradient, or with one that is not finite: those do not
    learn, or break everything.
    """
    norms: dict[str, Any] = {n: None if p.grad is None else p.grad.float().norm() for n, p in net.named_parameters()}
    without = [name for name, norm in norms.items() if norm is None]
    broken = [name for name, norm in norms.items() if norm is not None and not torch.isfinite(norm)]
    if without or broken:
        parts = [f"{len(names)} parameters {what}: {', '.join(names[:5])}" for names, what in (
            (without, "without a gradient"), (broken, "with a gradient that is not finite")) if names]  # fmt: skip
        raise InputError("; ".join(parts) + " … check the loss and what is frozen")
    return {name: float(norm) for name, norm in norms.items()}


def _flow_file(place: str | Path) -> str | Path:
    folder = Path(place)
    if not folder.is_dir():
        return place
    files = sorted(folder.glob("*.safetensors"))
    if len(files) != 1:
        raise InputError(f"{folder} holds {len(files)} safetensors files: name the RIFE file itself")
    return files[0]


def _pixels(picture: np.ndarray | Tensor) -> Tensor:
    if isinstance(picture, np.ndarray):
        return torch.from_numpy(np.ascontiguousarray(picture if picture.ndim == 3 else picture[..., None]))
    tensor = picture[0] if picture.ndim == 4 and picture.shape[0] == 1 else picture
    if tensor.ndim != 3:
        raise InputError(f"a picture of shape {tuple(picture.shape)}: give (C, H, W) or (1, C, H, W)")
    return tensor.permute(1, 2, 0).cpu()


def _like(pixels: Tensor, picture: Picture) -> Picture:
    if isinstance(picture, np.ndarray):
        return pixels.numpy().reshape(picture.shape)
    return pixels.permute(2, 0, 1).reshape(picture.shape).to(picture.device)
