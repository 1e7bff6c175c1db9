"""Batches for a fusion network: crops of chains of frames, their motion, and the true picture between two.

In: packs (``train.pack``) with motion along chains (``train.chains``), frames as bytes in memory, motion
memory-mapped. Out: ``ChainBatch``.

What a network meets in use and must be robust to is varied here: one to ``MAX_ANCHORS`` anchors, a side
that is missing as at a clip's end, motion brought to the instant in two ways, motion that is wrong in
places, played backwards, turned, brighter or darker, grainy.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor

from ..contract import Flow
from ..errors import InputError
from ..families.fusionfft.anchors import link
from ..families.fusionfft.inputs import FusionInput, from_links
from ..ops.intermediate import intermediate_flow
from .chains import FOLDER, FOUND, SHRINK, instants, links, read_chains
from .data import is_held_out
from .pack import PackedWindow, decode, read_index

ANCHORS = (0.12, 0.33, 0.47, 0.05, 0.03)
MANNERS = (0.6, 0.3, 0.1)
"""How often motion is carried to the instant, with the stored links; with links taken from motion carried to
the middle of their intervals, as when interpolating; merely scaled by time, with such links."""


@dataclass(frozen=True, slots=True)
class ChainBatch:
    """Training samples on one device.

    x: what the network is given. truth: ``(B, 3, H, W)`` 0..1, without added grain.
    grainy: the same with the grain that was added to the frames, of the same strength but its own.
    weight: ``(B, 1, H, W)``: the border of a crop counts less, since motion leads out of it.
    """

    x: FusionInput
    truth: Tensor
    grainy: Tensor
    weight: Tensor


@dataclass(frozen=True, slots=True)
class ChainDraw:
    """How batches look.

    batch: samples. crop: their side in pixels, a multiple of 16. border: pixels that count less.
    anchors: chance of a batch with 1, 2, 3, … anchors.
    lone: chance that a side of all farther anchors is missing. spoilt: share of samples with spoilt motion.
    grain: share with added grain. found: share of batches with what a flow source found at the instants, where the
    windows have it.
    """

    batch: int = 4
    crop: int = 192
    border: int = 24
    anchors: tuple[float, ...] = ANCHORS
    lone: float = 0.08
    spoilt: float = 0.3
    grain: float = 0.2
    found: float = 0.0


class Chains:
    """Windows of a folder of packs that have chains; those of held-out clips are left aside.

    frames: ``(count, 3, H, W)`` uint8 of each. flow, spacings: see ``train.chains``. found: also what a flow
    source found at the instants, in which case windows without it are left aside. stored: folder of the motion, in
    units of ``unit`` pixels; where each pair has several answers, the first counts as its motion.
    """

    def __init__(self, folder: Path, *, found: bool = False, stored: str = FOLDER, unit: int = 1):
        index = read_index(folder)
        paths = {int(path.stem): path for path in sorted((folder / stored).glob("*.safetensors"))}
        others = {int(path.stem): path for path in (folder / FOUND).glob("*.safetensors")} if found else {}
        chosen = {index[n]: n for n in paths if not is_held_out(index[n].clip) and (not found or n in others)}
        if not chosen:
            raise InputError(f"{folder} has no {stored} to train on; `fusionfft train` finds them first")
        frames = {
            chosen[window]: torch.from_numpy(stack).permute(0, 3, 1, 2).contiguous()
            for window, stack in decode(folder, chosen)
        }
        self.windows: list[PackedWindow] = list(chosen)
        self.frames = [frames[n] for n in chosen.values()]
        read = [read_chains(paths[n]) for n in chosen.values()]
        self.flow, self.spacings = [flow for flow, _ in read], [spacings for _, spacings in read]
        self.found = [read_chains(others[n])[0] for n in chosen.values()] if found else None
        self._unit = unit

    def speed(self, window: int) -> Tensor:
        """Mean length of the motion of each pair, left to right, in pixels: ``(P,)``."""
        ahead = self.flow[window].flatten(1, -4)[:, 0, :, ::4, ::4].float()
        return self._unit * ahead.square().sum(1).sqrt().mean((1, 2))

    def known(self, window: int) -> dict[tuple[int, int], int]:
        """(left, right) frame -> place in the window's flow."""
        pairs = links(self.windows[window].count, self.spacings[window])
        return {pair: at for at, pair in enumerate(pairs)}


class ChainSampler:
    """Draws batches; the same seed over the same windows draws the same ones."""

    def __init__(self, chains: Chains, *, device: torch.device | str = "cpu", seed: int = 0):
        self.chains, self.device = chains, torch.device(device)
        self._choice = torch.Generator().manual_seed(seed)
        self._noise = torch.Generator().manual_seed(seed + 1)
        self._instants, self._weights = self._candidates()
        sides = [min(w.width, w.height) for w in chains.windows]
        self._sides = torch.tensor([sides[instant[0]] for instant in self._instants])

    def state(self) -> dict[str, Tensor]:
        return {"choice": self._choice.get_state(), "noise": self._noise.get_state()}

    def restore(self, state: dict[str, Tensor]) -> None:
        self._choice.set_state(state["choice"].cpu())
        self._noise.set_state(state["noise"].cpu())

    def _candidates(self) -> tuple[list[tuple[int, int, int, int]], Tensor]:
        """Every (window, spacing, left frame, true frame), and weights that favour no speed of motion."""
        found, lengths = [], []
        for n, window in enumerate(self.chains.windows):
            known = self.chains.known(n)
            speed = self.chains.speed(n)
            for d, a, k in instants(window.count, self.chains.spacings[n]):
                found.append((n, d, a, k))
                lengths.append(float(speed[known[a, a + d]]))
        octave = torch.tensor(lengths).clamp(0.25, 64).log2().floor().long() + 2
        population = torch.bincount(octave, minlength=9).double()
        share = torch.tensor([0.3, 0.6, 1, 1.2, 1.4, 1.4, 1.2, 0.7, 0.3], dtype=torch.double)
        return found, (share / population.clamp(min=30))[octave]

    def fitting(self, crop: int) -> Tensor:
        """Weights of the instants, 0 for those in pictures that crops of this side do not fit in."""
        weights = self._weights * (self._sides >= crop)
        if not float(weights.sum()):
            raise InputError(f"Crops of {crop} do not fit in the packed pictures; choose a smaller crop")
        return weights

    def place(self, window: PackedWindow, crop: int) -> tuple[tuple, tuple]:
        """Where to cut a crop: an index into pictures, and the same into planes of ``1 / SHRINK`` of their size."""
        y, x = (
            SHRINK * int(torch.randint((side - crop) // SHRINK + 1, (), generator=self._choice))
            for side in (window.height, window.width)
        )
        half = (..., slice(y // SHRINK, (y + crop) // SHRINK), slice(x // SHRINK, (x + crop) // SHRINK))
        return (..., slice(y, y + crop), slice(x, x + crop)), half

    def border_weight(self, crop: int, border: int) -> Tensor:
        """``(1, 1, S, S)``: the border of a crop counts less, since motion leads out of it."""
        weight = torch.full((1, 1, crop, crop), 0.2, device=self.device)
        weight[..., border:-border, border:-border] = 1
        return weight

    def draw(self, how: ChainDraw) -> ChainBatch:
        """A batch on the device. See ``ChainBatch`` and ``ChainDraw``."""
        weights = self.fitting(how.crop)
        anchors = 1 + int(torch.multinomial(torch.tensor(how.anchors), 1, generator=self._choice))
        picks = torch.multinomial(weights, how.batch, replacement=True, generator=self._choice).tolist()
        found = self.chains.found is not None and bool(self._flags(1, how.found))
        parts = [self._cut(self._instants[pick], anchors, how.crop, found) for pick in picks]
        stacked = (torch.stack(each).to(self.device) for each in zip(*parts, strict=True))
        frames, valid, truth, flow, mask, time = stacked
        frames, truth = frames.float().div_(255), truth.float().div_(255)
        valid = self._drop(valid, how.lone)
        flow = self._spoil(flow.float(), how.spoilt)
        frames, valid, truth, flow, mask, time = self._turn(frames, valid, truth, flow, mask.float(), time)
        frames, truth, grainy = self._shade(frames, truth, how.grain)
        weight = self.border_weight(how.crop, how.border)
        x = self._found_input(frames, valid, flow, mask, time) if found else self._input(frames, valid, flow, time)
        return ChainBatch(x, truth, grainy, weight)

    def _cut(self, instant: tuple[int, int, int, int], anchors: int, crop: int, found: bool) -> tuple[Tensor, ...]:
        """-> frames ``(2N, 3, S, S)``, valid ``(2N,)``, truth, flow ``(2N-1, 2, 2, S/2, S/2)``, mask
        ``(1, S/2, S/2)`` and time. Flow is between frames, and the mask nothing; or, where ``found``, from the middles
        of the intervals and from the instant to the frames."""
        n, d, a, k = instant
        window, frames = self.chains.windows[n], self.chains.frames[n]
        known = self.chains.known(n)
        stored = self.chains.found[n][:, :4].unflatten(1, (2, 2)) if found else self.chains.flow[n]
        at, half = self.place(window, crop)
        places = [a + (m + 1 - anchors) * d for m in range(2 * anchors)]
        exists = [0 <= place < window.count for place in places]
        blank = torch.zeros(3, crop, crop, dtype=torch.uint8)
        stack = torch.stack([frames[p][at] if there else blank for p, there in zip(places, exists, strict=True)])
        still = torch.zeros(2, 2, crop // SHRINK, crop // SHRINK, dtype=stored.dtype)
        pairs = [known.get((p, p + d)) for p in places[:-1]]
        flow = torch.stack([still if pair is None else stored[pair][half] for pair in pairs])
        mask = still[0, :0]
        if found:
            own = len(known) + instants(window.count, self.chains.spacings[n]).index((d, a, k))
            flow[anchors - 1] = stored[own][half]
            mask = self.chains.found[n][own, 4:][half]
        return stack, torch.tensor(exists), frames[k][at], flow, mask, torch.tensor((k - a) / d)

    def _flags(self, count: int, chance: float) -> Tensor:
        return (torch.rand(count, generator=self._choice) < chance).to(self.device)

    def _drop(self, valid: Tensor, chance: float) -> Tensor:
        """Now and then all farther frames of a side are missing, as at the end of a clip or at a cut."""
        anchors = valid.shape[1] // 2
        left, right = self._flags(len(valid), chance)[:, None], self._flags(len(valid), chance)[:, None]
        place = torch.arange(2 * anchors, device=self.device)
        return valid & ~(left & (place < anchors - 1)) & ~(right & (place > anchors))

    def _spoil(self, flow: Tensor, chance: float) -> Tensor:
        """Some samples' motion blurred, wavy, or shifted in blocks: sources of motion err in all these ways."""
        chosen = self._flags(len(flow), chance).nonzero().flatten().tolist()
        side = flow.shape[-1]
        for n in chosen:
            kind = int(torch.randint(3, (), generator=self._choice))
            part = flow[n].flatten(0, 1)  # (links · ways, 2, S/2, S/2)
            length = part.abs().mean().clamp(0.5, 8) * 0.25
            if kind == 0:
                blurred = F.avg_pool2d(part, 5, 1, 2, count_include_pad=False)
                part = torch.lerp(part, blurred, float(torch.rand((), generator=self._noise)))
            elif kind == 1:
                cells = int(torch.randint(4, 25, (), generator=self._choice))
                noise = torch.randn(*part.shape[:2], cells, cells, generator=self._noise).to(part.device)
                strength = length * torch.rand((), generator=self._noise).to(part.device)
                part = part + F.interpolate(noise * strength, (side, side), mode="bicubic", align_corners=False)
            else:
                cells = side // 8
                noise = torch.randn(*part.shape[:2], cells, cells, generator=self._noise).to(part.device)
                rare = torch.rand(part.shape[0], 1, cells, cells, generator=self._noise).to(part.device) < 0.08
                part = part + F.interpolate(noise * rare * 3 * length, (side, side), mode="nearest")
            flow[n] = part.view_as(flow[n])
        return flow

    def _turn(
        self, frames: Tensor, valid: Tensor, truth: Tensor, flow: Tensor, mask: Tensor, time: Tensor
    ) -> tuple[Tensor, ...]:
        """The whole batch mirrored, flipped, transposed; single samples played backwards."""
        mirror, flip, transpose = (self._flags(3, 0.5)).tolist()
        sign = torch.ones(2, 1, 1, device=flow.device)
        for axis, chosen in ((-1, mirror), (-2, flip)):
            if chosen:
                frames, truth, flow, mask = (each.flip(axis) for each in (frames, truth, flow, mask))
                sign[-1 - axis] = -1
        flow = flow * sign
        if transpose:
            frames, truth, flow, mask = frames.mT, truth.mT, flow.mT.flip(-3), mask.mT
        back = self._flags(len(frames), 0.5)
        wide = back[:, None, None, None, None]
        frames = torch.where(wide, frames.flip(1), frames)
        flow = torch.where(wide[..., None], flow.flip(1, 2), flow)
        valid = torch.where(back[:, None], valid.flip(1), valid)
        mask = torch.where(wide[..., 0], -mask, mask)  # a logit
        return frames, valid, truth, flow, mask, torch.where(back, 1 - time, time)

    def _shade(self, frames: Tensor, truth: Tensor, chance: float) -> tuple[Tensor, Tensor, Tensor]:
        """Gain, order of the colours, and in some samples grain, another one in every frame."""
        batch = len(frames)
        gain = (0.7 + 0.4 * torch.rand(batch, 1, 1, 1, generator=self._noise)).to(self.device)
        order = torch.randperm(3, generator=self._choice).tolist()
        frames, truth = frames[:, :, order] * gain[:, None], truth[:, order] * gain
        strength = 0.03 * torch.rand(batch, 1, 1, 1, generator=self._noise).square().to(self.device)
        strength = strength * self._flags(batch, chance)[:, None, None, None]
        if not bool(strength.any()):
            return frames, truth, truth
        stack = torch.cat((frames, truth[:, None]), dim=1)
        fine = torch.randn(batch, stack.shape[1], 1, *stack.shape[-2:], generator=self._noise).to(self.device)
        # Grain is larger than a pixel: half of it blurred.
        grain = fine + 2 * F.avg_pool2d(fine.flatten(0, 1), 3, 1, 1).view_as(fine)
        stack = stack + strength[:, None] * grain
        return stack[:, :-1], truth, stack[:, -1]

    def _input(self, frames: Tensor, valid: Tensor, flow: Tensor, time: Tensor) -> FusionInput:
        """flow ``(B, 2N-1, 2, 2, S/2, S/2)``: intervals in order of time, left to right and back."""
        middle = flow.shape[1] // 2
        ahead, back = _enlarge(flow[:, middle]).unbind(1)
        ahead, back = ahead.contiguous(), back.contiguous()
        manner = int(torch.multinomial(torch.tensor(MANNERS), 1, generator=self._choice))
        if manner == 2:
            t = time.view(-1, 1, 1, 1)
            near = Flow(torch.cat((t * back, (1 - t) * ahead), dim=1), torch.logit(1 - t).expand_as(ahead[:, :1]))
        else:
            near = intermediate_flow(ahead, back, time)
        sides = torch.stack((flow[:, :middle].flip(1), flow[:, middle + 1 :]), dim=1)  # (B, 2, N-1, 2, 2, h, w)
        if manner and middle:
            small = sides.flatten(0, 2) / SHRINK
            half = torch.full((1,), 0.5, device=flow.device)
            ways = link(intermediate_flow(small[:, 0].contiguous(), small[:, 1].contiguous(), half).flow)
            sides = torch.stack(ways, 1).view_as(sides) * SHRINK
        return from_links(frames, valid, near, _enlarge(sides[:, 0, :, 1]), _enlarge(sides[:, 1, :, 0]), time)

    @staticmethod
    def _found_input(frames: Tensor, valid: Tensor, flow: Tensor, mask: Tensor, time: Tensor) -> FusionInput:
        """flow ``(B, 2N-1, 2, 2, S/2, S/2)``: from the middles of the intervals, the nearest from the instant."""
        middle = flow.shape[1] // 2
        planes = torch.cat((flow[:, middle].flatten(1, 2), mask), 1)
        planes = F.interpolate(planes, scale_factor=SHRINK, mode="bilinear")
        sides = torch.stack((flow[:, :middle].flip(1), flow[:, middle + 1 :]), 1)  # (B, 2, N-1, 2, 2, h, w)
        if middle:
            ways = link(sides.flatten(0, 2).flatten(1, 2) / SHRINK)
            sides = torch.stack(ways, 1).view_as(sides) * SHRINK
        near = Flow(planes[:, :4], planes[:, 4:])
        return from_links(frames, valid, near, _enlarge(sides[:, 0, :, 1]), _enlarge(sides[:, 1, :, 0]), time)


def _enlarge(flow: Tensor) -> Tensor:
    """``(B, n, ..., h, w)`` -> ``SHRINK`` times as high and wide; values stay."""
    if not flow.numel():
        return flow.new_zeros(*flow.shape[:-2], SHRINK * flow.shape[-2], SHRINK * flow.shape[-1])
    planes = F.interpolate(flow.flatten(1, -3), scale_factor=SHRINK, mode="bilinear")
    return planes.view(*flow.shape[:-2], *planes.shape[-2:])
