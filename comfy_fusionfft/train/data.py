"""Packs in memory, and batches drawn from them on the device they live on. No loader, no workers.

``Packs`` decodes every window once into bytes (3 bytes a pixel: 400 windows of nine 640x360 frames are
2.5 GB) on the CPU or straight on the GPU. ``Sampler.draw`` then cuts crops out of three frames a < k < b
of one window: the two outer ones are the input, the inner one is the truth at t = (k − a) / (b − a).

Where the packs have stored motion, the target flow at the instant k is the estimator's own answer for the
pairs (k, a) and (k, b): seen from the true frame, so neither projected nor assumed linear.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass, fields, replace
from pathlib import Path
from zlib import crc32

import torch
from torch import Tensor
from torch.nn import functional

from ..errors import InputError
from .flows import load_flows, pairs
from .pack import FLOW_SHRINK, PackedWindow, decode, read_index
from .synthetic import layers

MAX_SPAN = 8


@dataclass(frozen=True, slots=True)
class Batch:
    """Training samples, all ``float32`` on one device.

    img0, gt, img1: ``(B, 3, H, W)`` RGB 0..1; the inputs may carry noise that the truth does not.
    t: ``(B,)`` in (0, 1).
    flow: ``(B, 4, H, W)`` pixels, (t→0 x, y, t→1 x, y): what a network should find.
    trust: ``(B, 2, H, W)`` 0..1, how far to believe each of the two; all 0 when there is no target.
    """

    img0: Tensor
    gt: Tensor
    img1: Tensor
    t: Tensor
    flow: Tensor
    trust: Tensor


@dataclass(frozen=True, slots=True)
class Draw:
    """How batches look.

    batch: samples. crop: their side in pixels.
    shrinks: pictures are reduced by one of these factors before cropping, so one clip shows its motion at
        several sizes. Pictures too small for crop and
        factor are passed over; a factor too large for all is lowered until some fit.
    synthetic: share of samples whose motion is made up and exactly known.
    motion: largest length of the made-up motion, pixels.
    noise: largest standard deviation of the noise on the inputs.
    """

    batch: int = 8
    crop: int = 256
    shrinks: tuple[float, ...] = (1.0,)
    synthetic: float = 0.0
    motion: float = 24.0
    noise: float = 0.01


class Packs:
    """Every chosen window of a folder of packs, decoded.

    windows: their descriptions. frames: ``(count, 3, H, W)`` uint8 each, on ``device``.
    flows, trusts: stored motion as in ``train.flows``, or None for windows without.
    """

    def __init__(self, folder: Path, *, device: torch.device | str = "cpu", held_out: bool = False, part: int = 12):
        """Read all windows but those of every ``part``-th clip; ``held_out`` reads only these."""
        index = read_index(folder)
        chosen = {n: w for n, w in enumerate(index) if is_held_out(w.clip, part) == held_out}
        if not chosen:
            raise InputError(f"{folder} has no {'held-out' if held_out else 'training'} windows; pack more clips")
        number = {window: n for n, window in chosen.items()}
        self.device = torch.device(device)
        decoded = {
            number[window]: torch.from_numpy(stack).to(self.device).permute(0, 3, 1, 2).contiguous()
            for window, stack in decode(folder, chosen.values())
        }
        self.windows: list[PackedWindow] = list(chosen.values())
        self.frames: list[Tensor] = [decoded[n] for n in chosen]
        self.spans: tuple[int, ...] = ()
        place = {n: at for at, n in enumerate(chosen)}
        self.flows: list[Tensor | None] = [None] * len(chosen)
        self.trusts: list[Tensor | None] = [None] * len(chosen)
        for n, spans, flow, trust in load_flows(folder):
            if n in place:
                self.spans = spans
                self.flows[place[n]], self.trusts[place[n]] = flow.to(self.device), trust.to(self.device)

    def pair(self, window: int) -> dict[tuple[int, int], tuple[int, int]]:
        """(from, to) -> place of that motion in the window's stored flow: (pair, direction)."""
        if self.flows[window] is None:
            return {}
        known = enumerate(pairs(self.windows[window].count, self.spans))
        return {ends: (n, way) for n, (a, b) in known for way, ends in enumerate(((a, b), (b, a)))}


class Sampler:
    """Draws batches; two samplers with the same seed over the same packs draw the same ones."""

    def __init__(self, packs: Packs, *, seed: int = 0):
        self.packs = packs
        self._choice = torch.Generator().manual_seed(seed)
        self._noise = torch.Generator(packs.device).manual_seed(seed + 1)
        self._triples, self._weights = self._candidates()
        sides = [min(window.width, window.height) for window in packs.windows]
        self._sides = torch.tensor([sides[triple[0]] for triple in self._triples])

    def state(self) -> dict[str, Tensor]:
        return {"choice": self._choice.get_state(), "noise": self._noise.get_state()}

    def restore(self, state: dict[str, Tensor]) -> None:
        self._choice.set_state(state["choice"].cpu())
        self._noise.set_state(state["noise"].cpu())

    def draw(self, how: Draw) -> Batch:
        """A batch on the device of the packs. See ``Batch`` and ``Draw``."""
        shrink = how.shrinks[int(torch.randint(len(how.shrinks), (), generator=self._choice))]
        largest = int(self._sides.max())
        side = min(round(how.crop * shrink / FLOW_SHRINK), largest // FLOW_SHRINK) * FLOW_SHRINK
        if side < how.crop:
            raise InputError(
                f"Crops of {how.crop} do not fit in packed pictures of {largest} pixels;"
                " choose a smaller crop or pack with a larger height"
            )
        weights = self._weights * (self._sides >= side)
        picks = torch.multinomial(weights, how.batch, replacement=True, generator=self._choice).tolist()
        cuts = [self._cut(self._triples[pick], side, how.crop) for pick in picks]
        stacks, t, flow, trust = zip(*cuts, strict=True)
        device = self.packs.device
        pictures = torch.stack(stacks)  # (B, 3 instants, 3, crop, crop)
        flow = _enlarge(torch.stack(flow).float(), how.crop) * (how.crop / side)
        trust = _enlarge(torch.stack(trust).float().div_(255), how.crop)
        times = torch.tensor(t, dtype=torch.float32).to(device, non_blocking=True)
        batch = Batch(pictures[:, 0], pictures[:, 1], pictures[:, 2], times, flow, trust)
        count = round(how.batch * how.synthetic)
        if count:
            made = Batch(*layers(batch.gt, count, how.motion, self._noise))
            batch = Batch(*(torch.cat([a, b[count:]]) for a, b in zip(_parts(made), _parts(batch), strict=True)))
        return self._disturb(turn(batch, *self._flags(how.batch, 4)), how.noise)

    def _flags(self, batch: int, count: int) -> Iterable[Tensor]:
        flags = torch.randint(2, (count, batch, 1, 1, 1), generator=self._choice, dtype=torch.bool)
        return flags.to(self.packs.device, non_blocking=True)

    def _disturb(self, batch: Batch, noise: float) -> Batch:
        """Brightness, contrast and balance, the same for the three pictures; noise on the inputs alone."""
        count, device = len(batch.t), batch.t.device

        def around(centre: float, spread: float, channels: int) -> Tensor:
            r = torch.rand(count, channels, 1, 1, generator=self._noise, device=device)
            return centre + spread * (2 * r - 1)

        gain, balance, lift = around(1, 0.15, 1), around(1, 0.05, 3), around(0, 0.08, 1)
        gt, img0, img1 = (
            image.mul(gain * balance).add_(lift).clamp_(0, 1) for image in (batch.gt, batch.img0, batch.img1)
        )
        if noise:
            strength = noise * torch.rand(count, 1, 1, 1, generator=self._noise, device=device) ** 2
            for image in (img0, img1):
                image.add_(strength * torch.randn(image.shape, generator=self._noise, device=device))
        return replace(batch, img0=img0, gt=gt, img1=img1)

    def _candidates(self) -> tuple[list[tuple], Tensor]:
        """Every usable (window, a, k, b), and weights that favour no speed of motion over another."""
        triples, lengths = [], []
        for n, window in enumerate(self.packs.windows):
            known = self.packs.pair(n)
            speed = None if not known else self.packs.flows[n].float().square().sum(2).sqrt().mean((-1, -2)).cpu()
            for a in range(window.count):
                for b in range(a + 2, min(window.count, a + MAX_SPAN + 1)):
                    for k in range(a + 1, b):
                        if not known:
                            triples.append((n, a, k, b, None, None))
                            lengths.append(window.motion * (b - a))
                        elif (k, a) in known and (k, b) in known:
                            triples.append((n, a, k, b, known[k, a], known[k, b]))
                            lengths.append(float(speed[known[k, a]] + speed[known[k, b]]))
        # Octaves of motion between 1/2 and 64 pixels count alike; standing pictures teach little.
        octave = torch.tensor(lengths).clamp(0.5, 64).log2().floor().long() + 1
        population = torch.bincount(octave, minlength=8).double()
        share = torch.tensor([0.3, 0.6, 1, 1, 1, 1, 1, 0.6], dtype=torch.double)
        return triples, (share / population.clamp(min=1))[octave]

    def _cut(self, triple: tuple, side: int, crop: int) -> tuple[Tensor, float, Tensor, Tensor]:
        n, a, k, b, left, right = triple
        window, frames = self.packs.windows[n], self.packs.frames[n]
        step, cells = FLOW_SHRINK, side // FLOW_SHRINK
        y, x = (
            int(torch.randint((size - side) // step + 1, (), generator=self._choice))
            for size in (window.height, window.width)
        )
        at = (..., slice(y * step, y * step + side), slice(x * step, x * step + side))
        # Reduced one by one: a batch of whole crops in float32 does not fit in a processor's cache.
        stack = torch.stack([_reduce(frames[i][at].float().div_(255), crop) for i in (a, k, b)])
        if left is None:
            none = torch.zeros(6, cells, cells, device=self.packs.device)
            return stack, (k - a) / (b - a), none[:4], none[4:]
        at = (..., slice(y, y + cells), slice(x, x + cells))
        flow = torch.cat([self.packs.flows[n][way][at] for way in (left, right)])
        trust = torch.stack([self.packs.trusts[n][way][at] for way in (left, right)])
        return stack, (k - a) / (b - a), flow, trust


def is_held_out(clip: str, part: int = 12) -> bool:
    """Whether a clip is kept for validation: by its name, so that more clips change nothing for the others."""
    return crc32(clip.encode()) % part == 0


def turn(batch: Batch, mirror: Tensor, flip: Tensor, transpose: Tensor, reverse: Tensor) -> Batch:
    """Each sample mirrored, flipped, transposed and played backwards where its flags ``(B, 1, 1, 1)`` say so.

    Motion and time follow. Crops must be square.
    """
    pictures = [batch.img0, batch.gt, batch.img1, batch.flow, batch.trust]
    for flag, turned in ((mirror, lambda p: p.flip(-1)), (flip, lambda p: p.flip(-2)), (transpose, lambda p: p.mT)):
        pictures = [torch.where(flag, turned(p), p) for p in pictures]
    img0, gt, img1, flow, trust = pictures
    one = torch.ones_like(flow[:, :1, :1, :1])
    flow = flow * torch.cat([torch.where(mirror, -one, one), torch.where(flip, -one, one)] * 2, dim=1)
    flow = torch.where(transpose, flow[:, [1, 0, 3, 2]], flow)
    return Batch(
        img0=torch.where(reverse, img1, img0),
        gt=gt,
        img1=torch.where(reverse, img0, img1),
        t=torch.where(reverse.flatten(), 1 - batch.t, batch.t),
        flow=torch.where(reverse, flow.roll(2, 1), flow),
        trust=torch.where(reverse, trust.flip(1), trust),
    )


def _parts(batch: Batch) -> list[Tensor]:
    return [getattr(batch, field.name) for field in fields(batch)]


def _reduce(picture: Tensor, side: int) -> Tensor:
    factor = picture.shape[-1] / side
    if factor == 1:
        return picture
    if math.isclose(factor, round(factor)):
        return functional.avg_pool2d(picture, round(factor))
    return functional.interpolate(picture[None], (side, side), mode="bilinear", antialias=True)[0]


def _enlarge(planes: Tensor, side: int) -> Tensor:
    if planes.shape[-1] == side:
        return planes
    return functional.interpolate(planes, (side, side), mode="bilinear", align_corners=False)
