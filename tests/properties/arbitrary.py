"""Arbitrary clips, paces and models: what the properties are tried on.

A clip is drawn as a size, a type and a kind of content with a seed, not pixel by pixel: what fails shrinks to a small
one all the same. Networks have few random weights, are made once, and answer with motion that one can see.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from fractions import Fraction as F
from functools import cache
from typing import Any

import torch
import torch.nn.functional as functional
from hypothesis import settings
from hypothesis import strategies as st

from comfy_fusionfft.contract import Frame
from comfy_fusionfft.errors import DeviceError
from comfy_fusionfft.families import every_family
from comfy_fusionfft.families.fusionfft import FusionConfig
from comfy_fusionfft.families.fusionfft.net import FusionNet
from comfy_fusionfft.families.multiflow import MultiFlowConfig
from comfy_fusionfft.families.multiflow.net import MultiFlowNet
from comfy_fusionfft.families.rife import RIFEConfig
from comfy_fusionfft.families.rife.net import IFNet
from comfy_fusionfft.families.waveletvfi import WaveletVFIConfig
from comfy_fusionfft.families.waveletvfi.net import WaveletVFI
from comfy_fusionfft.host import PlainHost

LONG = settings.default.max_examples > 100
LARGEST_SIDE = 700
AREA = 96 * 96 if LONG else 40 * 40
"""Pixels of a picture, for time's sake."""

FLOATS = (torch.float32, torch.float16, torch.bfloat16, torch.float64)
INTEGERS = (torch.uint8, torch.uint16)
CONTENTS = ("noise", "levels", "moving", "flat", "stripes", "negative", "highlights", "denormal", "impulse", "large")
LARGE = 60_000.0
"""What float16 just holds."""


@dataclass(frozen=True)
class Clip:
    """How to make a clip; the frames themselves are made anew for every use."""

    count: int
    height: int
    width: int
    channels: int = 3
    dtype: torch.dtype = torch.float32
    content: str = "noise"
    layout: str = "contiguous"
    seed: int = 0
    start: F = F(0)
    rate: F = F(24)

    def frames(self) -> list[Frame]:
        dice = torch.Generator().manual_seed(self.seed)
        return [self.frame(number, dice) for number in range(self.count)]

    def frame(self, number: int, dice: torch.Generator) -> Frame:
        pixels = _CONTENT[self.content](self, number, dice)
        if self.dtype in INTEGERS:
            peak = torch.iinfo(self.dtype).max
            pixels = pixels.double().clamp(0, 1).mul(peak).round().to(torch.int32).to(self.dtype)
        else:
            pixels = pixels.to(self.dtype)
        return Frame(_LAYOUT[self.layout](pixels), self.start + number / self.rate)

    @property
    def shape(self) -> tuple[int, int, int]:
        return self.height, self.width, self.channels


def _random(clip: Clip, dice: torch.Generator) -> torch.Tensor:
    return torch.rand(clip.shape, generator=dice)


def _moving(clip: Clip, number: int, dice: torch.Generator) -> torch.Tensor:
    """A smooth texture that moves, and turns corners."""
    fixed = torch.Generator().manual_seed(clip.seed)
    cells = torch.rand(1, clip.channels, 6, 6, generator=fixed)
    wide = functional.interpolate(cells, (clip.height + 16, clip.width + 16), mode="bicubic")[0].clamp(0, 1)
    down, right = (number * number) % 16, (2 * number) % 16
    return wide[:, down : down + clip.height, right : right + clip.width].permute(1, 2, 0)


def _stripes(clip: Clip, number: int, dice: torch.Generator) -> torch.Tensor:
    places = torch.arange(clip.height)[:, None] + torch.arange(clip.width) + number
    return (places % 2).float()[..., None].expand(clip.shape)


def _impulse(clip: Clip, number: int, dice: torch.Generator) -> torch.Tensor:
    pixels = torch.zeros(clip.shape)
    pixels[number % clip.height, number % clip.width] = 1
    return pixels


_CONTENT: dict[str, Callable[[Clip, int, torch.Generator], torch.Tensor]] = {
    "noise": lambda clip, number, dice: _random(clip, dice),
    "levels": lambda clip, number, dice: _random(clip, dice).mul(255).round() / 255,
    "moving": _moving,
    "flat": lambda clip, number, dice: torch.full(clip.shape, 0.25 * (number % 5)),
    "stripes": _stripes,
    "negative": lambda clip, number, dice: _random(clip, dice) * 3 - 2,
    "highlights": lambda clip, number, dice: _random(clip, dice).pow(4) * 200,
    "denormal": lambda clip, number, dice: _random(clip, dice) * 1e-40,
    "impulse": _impulse,
    "large": lambda clip, number, dice: (_random(clip, dice) - 0.5) * 2 * LARGE,
}


def _every_other(pixels: torch.Tensor) -> torch.Tensor:
    held = pixels.new_zeros(2 * pixels.shape[0], 2 * pixels.shape[1], pixels.shape[2])
    held[::2, ::2] = pixels
    return held[::2, ::2]


_LAYOUT: dict[str, Callable[[torch.Tensor], torch.Tensor]] = {
    "contiguous": lambda pixels: pixels.contiguous(),
    "planes": lambda pixels: pixels.permute(2, 0, 1).contiguous().permute(1, 2, 0),
    "turned": lambda pixels: pixels.transpose(0, 1).contiguous().transpose(0, 1),
    "every other": _every_other,
}


@st.composite
def sizes(draw: st.DrawFn, area: int = AREA) -> tuple[int, int]:
    """Height and width, mostly small, now and then long and thin."""
    first = draw(st.one_of(st.integers(1, 33), st.integers(1, 33), st.integers(1, LARGEST_SIDE)))
    second = draw(st.integers(1, max(1, min(LARGEST_SIDE, area // first))))
    return (first, second) if draw(st.booleans()) else (second, first)


COUNTS = st.integers(1, 9)


@st.composite
def clips(
    draw: st.DrawFn,
    counts: st.SearchStrategy[int] = COUNTS,
    area: int = AREA,
    dtypes: tuple[torch.dtype, ...] = (*FLOATS, *INTEGERS),
    contents: tuple[str, ...] = CONTENTS,
) -> Clip:
    height, width = draw(sizes(area))
    return Clip(
        draw(counts),
        height,
        width,
        draw(st.sampled_from((3, 1, 4))),
        draw(st.sampled_from(dtypes)),
        draw(st.sampled_from(contents)),
        draw(st.sampled_from(sorted(_LAYOUT))),
        draw(st.integers(0, 2**16)),
        draw(st.sampled_from((F(0), F(-1, 3), F(1001, 24000), F(3600)))),
        draw(st.sampled_from((F(24), F(24000, 1001), F(1), F(60), F(25, 2)))),
    )


# ------------------------------------------------------------------------------------------------------------- pace


fractions = st.builds(F, st.integers(1, 12), st.integers(1, 5))
speeds = st.builds(F, st.integers(1, 40), st.just(10))


@st.composite
def curves(draw: st.DrawFn, seconds: F) -> str:
    """A speed curve in words, over a clip that lasts so long."""
    marks = draw(st.lists(st.integers(0, 8), min_size=1, max_size=4, unique=True))
    return ", ".join(f"{seconds * mark / 8}:{float(draw(speeds)):g}" for mark in sorted(marks))


@st.composite
def paces(draw: st.DrawFn, clip: Clip, *, halves: bool = False) -> dict[str, Any]:
    """Settings of ``pace.Pace`` that go together and make some dozens of frames at most.

    halves: only those that a model which makes middles alone can serve.
    """
    if halves:
        return {"multi": draw(st.sampled_from((1, 2, 4)))}
    lasts = (clip.count - 1) / clip.rate
    rate = st.builds(lambda share: clip.rate * share, st.builds(F, st.integers(1, 7), st.integers(1, 4)))
    kind = draw(st.sampled_from(("multi", "fps", "slow", "speed", "curve", "count", "loop", "times", "shutter")))
    if kind == "multi":
        return {"multi": draw(st.one_of(st.integers(1, 5), st.builds(lambda f: 1 + f / 3, fractions)))}
    if kind == "fps":
        return {"fps": draw(rate)}
    if kind == "slow":
        return {"slow": draw(st.builds(F, st.integers(1, 8), st.integers(1, 4))), "multi": draw(st.integers(1, 2))}
    if kind == "speed":
        return {"speed": draw(speeds), "fps": draw(rate)}
    if kind == "curve":
        return {"speed": draw(curves(lasts))}
    if kind == "count":
        return {"count": draw(st.integers(1, 20) if clip.count > 1 else st.just(1)), "loop": draw(st.booleans())}
    if kind == "loop":
        return {"loop": True, "multi": draw(st.sampled_from((1, 2, 3, 2.5)))}
    if kind == "times":
        inside = st.builds(lambda n: F(n, 12), st.integers(0, 12 * (clip.count - 1)))
        return {"times": tuple(draw(st.lists(inside, min_size=1, max_size=9)))}
    share = draw(st.sampled_from((0.25, 0.5, 1)))
    return {"fps": draw(rate), "shutter": share, "samples": draw(st.sampled_from((1, 3, 5)))}


@st.composite
def cuts(draw: st.DrawFn, count: int) -> frozenset[int]:
    return draw(st.frozensets(st.integers(1, count - 1), max_size=2)) if count > 1 else frozenset()


# ----------------------------------------------------------------------------------------------------------- models


def _precisions() -> tuple[str, ...]:
    """Those that this machine's CPU has, the usual one first."""
    try:
        PlainHost("cpu", "bfloat16")
    except DeviceError:
        return ("float32",)
    return ("float32", "float32", "bfloat16")


PRECISIONS = _precisions()


def host(precision: str = "float32") -> PlainHost:
    return PlainHost("cpu", precision)


@cache
def network(name: str, precision: str = "float32") -> torch.nn.Module:
    """In its place, as ``checkpoints.load`` gives it. With sleeping layers awake."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(5)
        net = _NETWORKS[name]()
        for parameter in net.parameters():
            if not parameter.any():
                torch.nn.init.normal_(parameter, std=0.03 / max(parameter[0].numel(), 1) ** 0.5)
    kind = "fusionfft" if name == "fusion" else name.partition(" ")[0]
    net.family = next(family for family in every_family() if family.name == kind)
    return host(precision).place(net)


_NETWORKS: dict[str, Callable[[], torch.nn.Module]] = {
    "rife": lambda: IFNet(
        RIFEConfig(
            (16, 8), (2, 1), head="none", head_width=0, head_planes=0, carried_planes=0, out_planes=6, body="residual"
        )
    ),
    "rife carrying": lambda: IFNet(RIFEConfig((16, 8), (4, 1), head_width=4)),
    "multiflow": lambda: MultiFlowNet(MultiFlowConfig(widths=(8, 12, 16), fine=8)),
    "waveletvfi": lambda: WaveletVFI(
        WaveletVFIConfig(
            pyramid=(8, 8, 12, 16), decoders=(8, 12, 16, 16), context=(4, 6, 8, 10), features=(8, 12, 16, 30)
        )
    ),
    "fusion": lambda: FusionNet(FusionConfig(base_channels=32)),
}
SOURCES = ("dis", "rife", "rife carrying", "multiflow")


@dataclass(frozen=True)
class How:
    """A method, and what it is told."""

    method: str
    source: str = "dis"
    scale: float = 1.0
    settings: tuple[tuple[str, Any], ...] = ()
    precision: str = "float32"

    @property
    def halves(self) -> bool:
        return self.method == "waveletvfi"

    def arguments(self) -> dict[str, Any]:
        """For ``api.interpolate``, with a flow source of its own."""
        from comfy_fusionfft import api

        settings: dict[str, Any] = dict(self.settings) | {"method": self.method, "host": host(self.precision)}
        if self.method == "waveletvfi":
            return settings | {"weights": network("waveletvfi", self.precision)}
        flow = "dis" if self.source == "dis" else network(self.source, self.precision)
        if settings.get("fusion") == "small":
            settings["fusion"] = network("fusion", self.precision)
        return settings | {"flow": api.load_flow(flow, host=settings["host"], scale=self.scale)}


@st.composite
def hows(draw: st.DrawFn, methods: tuple[str, ...] = ("fusion", "rife", "recursive", "waveletvfi")) -> How:
    method = draw(st.sampled_from(methods))
    precision = draw(st.sampled_from(PRECISIONS))
    if method == "waveletvfi":
        return How(method, settings=(("threshold", draw(st.sampled_from(("auto", 0, 0.01)))),), precision=precision)
    settings: dict[str, Any] = {}
    if method == "recursive":
        settings = {"history": draw(st.integers(1, 3)), "decay": draw(st.sampled_from((0.0, 2.5)))}
    if method == "fusion":
        lo = draw(st.sampled_from((0.25, 0.0, 0.7)))
        settings = {
            "fusion": draw(st.sampled_from(("small", "none"))),
            "num_anchors": draw(st.integers(1, 5)),
            "anchor_flow": draw(st.sampled_from(("chained", "nested"))),
            "spectral_alpha": draw(st.sampled_from((0.4, 0.0, 1.0))),
            "spectral_lo": lo,
            "spectral_hi": lo + draw(st.sampled_from((0.15, 0.0))),
            "spectral_prior": draw(st.sampled_from(("neighbours", "warped"))),
            "tile": draw(st.sampled_from((None, 0, 16, 64))),
        }
    scale = draw(st.sampled_from((1.0, 1.0, 0.5, 2.0, 0.25, 4.0)))
    return How(method, draw(st.sampled_from(SOURCES)), scale, tuple(settings.items()), precision)


def same_bytes(a: torch.Tensor, b: torch.Tensor) -> bool:
    """Equal to the last bit, the sign of zero included."""
    size = {1: torch.uint8, 2: torch.int16, 4: torch.int32, 8: torch.int64}[a.element_size()]
    return (
        a.dtype == b.dtype and a.shape == b.shape and torch.equal(a.contiguous().view(size), b.contiguous().view(size))
    )


def allowed(frames: list[Frame]) -> tuple[float, float]:
    """What a made frame may hold: 0 to 1, or as far beyond as the frames go; all there is of integers."""
    dtype = frames[0].pixels.dtype
    if dtype in INTEGERS:
        return 0, torch.iinfo(dtype).max
    extremes = [float(edge) for frame in frames for edge in frame.pixels.double().aminmax()]
    return min(0.0, *extremes), max(1.0, *extremes)


def rounding(frames: list[Frame]) -> float:
    """Some steps between neighbouring numbers, at the largest of them."""
    dtype = frames[0].pixels.dtype
    if dtype in INTEGERS:
        return 0
    step = max(torch.finfo(dtype).eps, torch.finfo(torch.float32).eps)
    return 4 * step * max(map(abs, allowed(frames)))
