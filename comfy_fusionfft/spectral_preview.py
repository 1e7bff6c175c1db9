"""Pictures for tuning a spectral swap by eye: a few frames of one run, kept small and ready.

The swap is ``base + alpha · delta``, so a viewer that has both pictures follows alpha by itself. A frame's
``analyse`` results are kept; another lo or hi then costs a ramp, one inverse transform and one encoding.

Frames are ``(H, W, 3)`` uint8. Pictures leave as JPEG without chroma subsampling, because most of a delta is
finer than a halved chroma could hold. A delta is signed: level 128 is no change, ±127 is ± its ``peak``.
"""

from __future__ import annotations

import hashlib
import math
import secrets
import threading
from collections import OrderedDict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import cv2
import torch
from torch import Tensor

from .errors import InputError
from .ops import spectral

MAX_FRAMES = 24
NODE_BYTES = 192 << 20
TOTAL_BYTES = 512 << 20
QUALITY = 98
"""At 95 the fine detail of a weak delta is off by 40 % of its mean, at 98 by 18 % and 1.7 times the bytes."""
BIN = 0.01
"""Width of the profile's rings in cycles per pixel."""

Profile = dict[str, list[float]]


class Made(NamedTuple):
    """A frame that was made between two others: where it is, and which frames of the prior lend to it.

    number: index in the clip. position: instant in source frames. left, right: indices in the prior.
    share: 0 = all strength from the left one, 1 = from the right one.
    """

    number: int
    position: float
    left: int
    right: int
    share: float


@dataclass(frozen=True, eq=False)
class PreviewFrame:
    """One made frame and its lenders, ``(H, W, 3)`` uint8 on the CPU; neighbours share their lenders."""

    base: Tensor
    left: Tensor
    right: Tensor
    share: float
    number: int
    position: float


class SpectralPreview:
    """The frames of one run. Every method may be called from any thread."""

    def __init__(self, frames: Sequence[PreviewFrame]) -> None:
        self.frames = tuple(frames)
        self.nbytes = sum(t.nbytes for t in {id(t): t for f in frames for t in (f.base, f.left, f.right)}.values())
        self._lock = threading.Lock()
        self._strength: dict[int, Tensor] = {}
        self._analysed: tuple[int, Tensor, Tensor] | None = None

    def identity(self, node: str, secret: bytes = b"") -> str:
        """A name that only the same pictures on the same node have, 32 hexadecimal digits.

        Without ``secret`` (up to 64 bytes) nobody can tell it, not even who has the pictures.
        """
        digest = hashlib.blake2b(node.encode("utf-8", "surrogatepass"), digest_size=16, key=secret)
        seen: dict[int, int] = {}  # lenders are shared: each is read once, then named by its place in this order
        for frame in self.frames:
            digest.update(f"{frame.number} {frame.position} {frame.share} {tuple(frame.base.shape)}".encode())
            for picture in (frame.base, frame.left, frame.right):
                if id(picture) not in seen:
                    seen[id(picture)] = len(seen)
                    digest.update(picture.numpy())
                digest.update(b"%d" % seen[id(picture)])
        return digest.hexdigest()

    def base(self, frame: int) -> tuple[bytes, Profile]:
        """JPEG of the frame before the swap, and mean strength by frequency (see ``_profile``)."""
        picture = self.frames[frame].base
        with self._lock, torch.inference_mode():
            spectrum, gain = self._analyse(frame)
            profile = _profile(spectrum, gain)
        return _jpeg(picture.permute(2, 0, 1)), profile

    def delta(
        self,
        frame: int,
        lo: float = spectral.LO,
        hi: float = spectral.HI,
        soft: bool = True,
        clamp_gain: bool = True,
    ) -> tuple[bytes, float]:
        """JPEG of what a full swap adds, 128 + 127 · delta / peak, and that peak (1 = black to white)."""
        size = self.frames[frame].base.shape[:2]
        with self._lock, torch.inference_mode():
            spectrum, gain = self._analyse(frame)
            change = spectral.swap(spectrum, gain, size, lo, hi, soft=soft, clamp_gain=clamp_gain)[0]  # 3 H W
            low, high = torch.aminmax(change)
            peak = max(-float(low), float(high))
            levels = change.mul_(127 / peak if peak else 0).add_(128.5).to(torch.uint8)
        return _jpeg(levels), peak

    def forget(self) -> None:
        """Drop what is only kept for speed (ten times the size of a frame's pixels)."""
        with self._lock:
            self._strength, self._analysed = {}, None

    def _analyse(self, number: int) -> tuple[Tensor, Tensor]:
        if self._analysed is None or self._analysed[0] != number:
            self._analysed = None  # let go first: there is room for one
            frame = self.frames[number]
            lenders = {id(picture): picture for picture in (frame.left, frame.right)}
            self._strength = {
                key: self._strength[key] if key in self._strength else spectral.magnitude(_picture(picture))
                for key, picture in lenders.items()
            }
            lent = torch.lerp(self._strength[id(frame.left)], self._strength[id(frame.right)], frame.share)
            self._analysed = number, *spectral.analyse(_picture(frame.base), lent)
        return self._analysed[1:]


class PreviewStore:
    """Runs that can be looked at, by token: one per node, the least recently used ones leave first."""

    def __init__(self, total_bytes: int = TOTAL_BYTES, node_bytes: int = NODE_BYTES) -> None:
        self.total_bytes, self.node_bytes = total_bytes, node_bytes
        self._lock = threading.Lock()
        self._secret = secrets.token_bytes(32)
        self._runs: OrderedDict[str, tuple[str, SpectralPreview]] = OrderedDict()

    def add(self, node: str, preview: SpectralPreview) -> str:
        """Keep a node's newest run instead of its older one -> token.

        Runs that differ in alpha or the band alone have the same token: a host that remembers results may announce
        the older one again, and its pictures are still there, as are the spectra of those looked at.
        """
        token = preview.identity(node, self._secret)
        with self._lock:
            known = self._runs.get(token, (node, preview))
            self._runs = OrderedDict((t, run) for t, run in self._runs.items() if run[0] != node)
            self._runs[token] = known
            while len(self._runs) > 1 and sum(run.nbytes for _, run in self._runs.values()) > self.total_bytes:
                self._runs.popitem(last=False)
        return token

    def drop(self, node: str) -> None:
        """Forget a node's run."""
        with self._lock:
            self._runs = OrderedDict((t, run) for t, run in self._runs.items() if run[0] != node)

    def get(self, token: str) -> SpectralPreview | None:
        """The run, or None when it has left. Only this one keeps its spectra: people tune one node at a time."""
        with self._lock:
            if token not in self._runs:
                return None
            self._runs.move_to_end(token)
            others = [run for other, (_, run) in self._runs.items() if other != token]
            preview = self._runs[token][1]
        for run in others:
            run.forget()
        return preview

    def publish(
        self,
        node: str,
        images: Tensor,
        prior: Tensor,
        made: Iterable[tuple[int, float, int, int, float]],
        *,
        alpha: float,
        lo: float,
        hi: float,
        soft: bool,
        clamp_gain: bool,
    ) -> dict[str, Any]:
        """Keep some frames of a run -> what a viewer needs to know, ready for JSON.

        images ``(N, H, W, C)``, prior ``(M, H, W, C)`` floats 0..1 (the base, before any swap; C = 1, 3, or 4
        whose alpha is left out); made: ``Made`` rows. The token is None when no frame was made.
        """
        if images.shape[1:3] != prior.shape[1:3]:
            raise InputError(
                f"images are {images.shape[2]}×{images.shape[1]}, the prior is {prior.shape[2]}×{prior.shape[1]}: "
                "resize one of them"
            )
        height, width = images.shape[1:3]
        chosen = choose([Made(*row) for row in made], height * width * 3, self.node_bytes)
        lenders = {index: _pixels(prior[index]) for row in chosen for index in (row.left, row.right)}
        frames = [
            PreviewFrame(_pixels(images[m.number]), lenders[m.left], lenders[m.right], m.share, m.number, m.position)
            for m in chosen
        ]
        token = None
        if frames:
            token = self.add(node, SpectralPreview(frames))
        else:
            self.drop(node)
        return {
            "token": token,
            "width": width,
            "height": height,
            "count": images.shape[0],
            "frames": [{"number": frame.number, "position": float(frame.position)} for frame in frames],
            "alpha": float(alpha),
            "lo": float(lo),
            "hi": float(hi),
            "soft": bool(soft),
            "clamp_gain": bool(clamp_gain),
        }


def choose(made: Sequence[Made], picture_bytes: int, budget: int, most: int = MAX_FRAMES) -> list[Made]:
    """As many evenly spaced rows as fit with their lenders, the first and the last among them; at least one."""
    for count in range(min(most, len(made)), 1, -1):
        rows = [made[round(i * (len(made) - 1) / (count - 1))] for i in range(count)]
        pictures = count + len({index for row in rows for index in (row.left, row.right)})
        if pictures * picture_bytes <= budget:
            return rows
    return [made[len(made) // 2]] if made else []


def _picture(pixels: Tensor) -> Tensor:
    return pixels.permute(2, 0, 1).unsqueeze(0).float().div_(255)  # 1 3 H W


def _pixels(image: Tensor) -> Tensor:
    """``(H, W, C)`` floats of any device -> ``(H, W, 3)`` uint8."""
    colour = image[..., :3] if image.shape[-1] >= 3 else image[..., :1].expand(-1, -1, 3)
    levels = colour.float().nan_to_num(0, posinf=1).mul(255).round_().clamp_(0, 255)
    return levels.to(torch.uint8).cpu().contiguous()


def _jpeg(levels: Tensor) -> bytes:
    """``(3, H, W)`` uint8 RGB -> JPEG."""
    bgr = cv2.merge([plane.contiguous().numpy() for plane in levels.flip(0)])
    settings = (cv2.IMWRITE_JPEG_QUALITY, QUALITY)
    settings += (cv2.IMWRITE_JPEG_SAMPLING_FACTOR, cv2.IMWRITE_JPEG_SAMPLING_FACTOR_444)
    return cv2.imencode(".jpg", bgr, settings)[1].tobytes()


def _profile(spectrum: Tensor, gain: Tensor) -> Profile:
    """Mean strength over rings of equal frequency and over channels, in decibels.

    frequency: the rings' middles. base, prior: the two strengths. raised: the stronger of the two, frequency
    by frequency, which is what a swap that never weakens aims at. Means of strength (not of power), so that
    the swap's own profile is exactly the mix of base and prior (or raised).
    """
    strength = spectrum.abs()
    prior = strength * (1 + gain)
    fy = torch.fft.fftfreq(spectrum.shape[-2])[:, None]
    fx = torch.linspace(0, 0.5, spectrum.shape[-1])
    ring = torch.hypot(fy, fx).div_(BIN).long().flatten()
    rings = math.ceil(math.sqrt(0.5) / BIN)
    members = torch.bincount(ring, minlength=rings)
    seen = members > 0

    def decibels(values: Tensor) -> list[float]:
        mean = torch.bincount(ring, values[0].mean(0).flatten(), minlength=rings)[seen] / members[seen]
        return [round(value, 2) for value in (20 * mean.clamp_min(1e-9).log10()).tolist()]

    middles = ((torch.arange(rings) + 0.5) * BIN)[seen]
    return {
        "frequency": [round(value, 4) for value in middles.tolist()],
        "base": decibels(strength),
        "prior": decibels(prior),
        "raised": decibels(torch.maximum(strength, prior)),
    }
