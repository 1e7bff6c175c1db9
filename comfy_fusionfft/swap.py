"""Spectral swap over whole clips: a stream of frames, and another one that lends its fine detail."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from fractions import Fraction
from math import ceil, floor
from typing import Literal, NamedTuple, get_args

import torch
from torch import Tensor

from .contract import Frame, Host
from .engine import in_words
from .engine.picture import check_made, extremes, to_picture, to_pixels
from .errors import InputError
from .ops import spectral
from .ops.limits import limit_, limits

PriorKind = Literal["neighbours", "nearest", "paired"]
"""Which frames of the prior lend to a picture: the two around its time, mixed by time; the nearer one of
them; or, for a prior that runs along frame by frame, the one with the same number."""
PRIOR_KINDS: tuple[str, ...] = get_args(PriorKind)


class Lenders(NamedTuple):
    """Frames of the prior, by number, and the share of the right one's strength."""

    left: int
    right: int
    share: float


def lenders(positions: Sequence[Fraction], count: int, kind: PriorKind) -> list[Lenders | None]:
    """Who lends to the pictures at ``positions`` (in frames of the prior); None for one that passes untouched."""
    if kind == "paired":
        return [Lenders(min(i, count - 1), min(i, count - 1), 0.0) for i in range(len(positions))]
    found: list[Lenders | None] = []
    for position in positions:
        left, right = (min(max(side(position), 0), count - 1) for side in (floor, ceil))
        share = _share(position, Fraction(left), Fraction(right), kind)
        found.append(None if position in (left, right) else Lenders(left, right, share))
    return found


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
    prior_kind: PriorKind = "neighbours",
    total: int | None = None,
) -> Iterator[Frame]:
    """See ``api.spectral_swap``. Both streams ascend in time; two frames of the prior are held."""
    spectral.check_settings(alpha, lo, hi)
    if prior_kind not in PRIOR_KINDS:
        raise InputError(f"prior kind {prior_kind!r} is not known: use {', '.join(PRIOR_KINDS)}")
    with in_words(host):
        lending = _Lending(prior, host.device)
        for number, frame in enumerate(frames):
            host.raise_if_cancelled()
            left, right = lending.paired(number) if prior_kind == "paired" else lending.around(frame.seconds)
            if frame.pixels.shape[:2] != left.pixels.shape[:2]:
                raise InputError(
                    f"frame {number} is {frame.pixels.shape[1]}×{frame.pixels.shape[0]}, the prior is "
                    f"{left.pixels.shape[1]}×{left.pixels.shape[0]}: resize one of them"
                )
            if alpha and (prior_kind == "paired" or frame.seconds not in (left.seconds, right.seconds)):
                share = _share(frame.seconds, left.seconds, right.seconds, prior_kind)
                with torch.inference_mode():
                    picture = to_picture(frame.pixels, host.device)
                    strength = torch.lerp(lending.strength(left), lending.strength(right), share)
                    change = spectral.delta(picture[:, :3], strength, lo, hi, soft=soft, clamp_gain=clamp_gain)
                    allowed = limits(picture), lending.limits(left), lending.limits(right)
                    if picture.shape[1] == 4:
                        change *= picture[:, 3:]
                    made = picture.clone()  # grey pixels are a picture of three channels that share their memory
                    made[:, :3].add_(change, alpha=alpha)
                    made = limit_(made, *allowed)
                    check_made(extremes(made))
                    frame = Frame(to_pixels(made[0], frame.pixels), frame.seconds, original=False)
            host.progress(number + 1, total, frame.pixels)
            yield frame


class _Lending:
    """The two frames of a prior that are needed now, and what was computed from them."""

    def __init__(self, prior: Iterable[Frame], device: torch.device) -> None:
        self._device = device
        self._rest = iter(prior)
        first = next(self._rest, None)
        if first is None:
            raise InputError("the prior has no frames: give the clip whose detail is to be lent")
        self._left = self._right = first
        self._number = 0
        self._known: dict[int, tuple[Tensor, tuple[Tensor, Tensor]]] = {}

    def around(self, seconds: Fraction) -> tuple[Frame, Frame]:
        if self._number == 0:
            self._step(keep=True)
        while seconds > self._right.seconds and self._step():
            pass
        return self._left, self._right

    def paired(self, number: int) -> tuple[Frame, Frame]:
        if number > self._number and not self._step() and self._number > 0:
            raise InputError(
                f"the prior has {self._number + 1} frames and the clip more: a paired prior needs as many, or one for "
                "all"
            )
        return self._right, self._right

    def strength(self, frame: Frame) -> Tensor:
        return self._facts(frame)[0]

    def limits(self, frame: Frame) -> tuple[Tensor, Tensor]:
        return self._facts(frame)[1]

    def _facts(self, frame: Frame) -> tuple[Tensor, tuple[Tensor, Tensor]]:
        if id(frame) not in self._known:
            picture = to_picture(frame.pixels, self._device)
            self._known[id(frame)] = spectral.magnitude(picture[:, :3]), limits(picture)
        return self._known[id(frame)]

    def _step(self, *, keep: bool = False) -> bool:
        following = next(self._rest, None)
        if following is None:
            return False
        if not keep:
            self._known.pop(id(self._left), None)
        self._left, self._right = self._right, following
        self._number += 1
        return True


def _share(at: Fraction, left: Fraction, right: Fraction, kind: PriorKind) -> float:
    share = min(max(float((at - left) / (right - left)), 0.0), 1.0) if right > left else 0.0
    return float(share > 0.5) if kind == "nearest" else share
