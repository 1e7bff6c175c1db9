"""Spectral swap over whole clips: a stream of frames, and another one that lends its fine detail."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

import torch

from .contract import Frame, Host
from .engine.picture import to_picture, to_pixels
from .errors import InputError
from .ops import spectral


def swap_clip(
    frames: Iterable[Frame],
    prior: Iterable[Frame],
    host: Host,
    alpha: float,
    *,
    lo: float,
    hi: float,
    soft: bool,
    clamp_gain: bool,
) -> Iterator[Frame]:
    """See ``api.spectral_swap``. Both streams ascend in time; two frames of the prior are held."""
    if not 0 <= lo <= hi:
        raise InputError(f"the band from {lo} to {hi} cycles per pixel is upside down: give 0 <= lo <= hi, up to 0.71")
    lenders = iter(prior)
    left = next(lenders, None)
    if left is None:
        raise InputError("the prior has no frames: give the clip whose detail is to be lent")
    right = next(lenders, None) or left
    strength: dict[int, torch.Tensor] = {}

    def strength_of(frame: Frame) -> torch.Tensor:
        if id(frame) not in strength:
            strength[id(frame)] = spectral.magnitude(to_picture(frame.pixels, host.device)[:, :3])
        return strength[id(frame)]

    for number, frame in enumerate(frames):
        host.raise_if_cancelled()
        while frame.seconds > right.seconds and (following := next(lenders, None)) is not None:
            strength.pop(id(left), None)
            left, right = right, following
        if frame.pixels.shape[:2] != left.pixels.shape[:2]:
            raise InputError(
                f"frame {number} is {frame.pixels.shape[1]}×{frame.pixels.shape[0]}, the prior is "
                f"{left.pixels.shape[1]}×{left.pixels.shape[0]}: resize one of them"
            )
        if alpha and frame.seconds not in (left.seconds, right.seconds):
            span = right.seconds - left.seconds
            share = float((frame.seconds - left.seconds) / span) if span else 0.0
            with torch.inference_mode():
                picture = to_picture(frame.pixels, host.device)
                lent = torch.lerp(strength_of(left), strength_of(right), min(max(share, 0.0), 1.0))
                change = spectral.delta(picture[:, :3], lent, lo, hi, soft=soft, clamp_gain=clamp_gain)
                if picture.shape[1] == 4:
                    change = torch.cat((change * picture[:, 3:], torch.zeros_like(picture[:, 3:])), dim=1)
                frame = Frame(to_pixels((picture + alpha * change)[0], frame.pixels), frame.seconds, original=False)
        host.progress(number + 1, None, frame.pixels)
        yield frame
