"""What the hardware can do, what a made frame needs of it, and how far from that floor we are.

    python benchmarks/roofline.py [--device cpu] [--sizes 512x896 1080x1920] [--runs 5]

Ceilings, measured here: copying memory (bytes read plus written), a large matrix product in each precision, and
bilinear looking up, planes of a smooth warp. A frame needs so many operations of convolutions and matrix products
(counted while they run), so many looked-up values, and at least its two neighbours read and itself written. The floor
is the sum of the first two, which no hardware overlaps here on a CPU, or the third if that were longer.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Callable
from fractions import Fraction
from pathlib import Path
from statistics import median

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.utils.flop_counter import FlopCounterMode

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from comfy_fusionfft import api
from comfy_fusionfft.contract import Frame
from comfy_fusionfft.host import DTYPES, PlainHost

PATHS = {"RIFE": {"flow": "rife", "method": "rife"}, "FusionFFT": {"flow": "auto", "method": "fusion"}}
FRAMES = 7
"""Of a clip: as many as three anchors look at, and the ones before and after."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--sizes", nargs="+", default=["512x896", "1080x1920"], metavar="HEIGHTxWIDTH")
    parser.add_argument("--runs", type=int, default=5)
    options = parser.parse_args()
    device = torch.device(options.device)
    dtypes = {"cpu": ("float32", "bfloat16")}.get(device.type, ("float16", "bfloat16"))
    with torch.inference_mode():
        copied, looked_up = copying(device, options.runs), looking_up(device, options.runs)
        rates = {dtype: multiplying(device, DTYPES[dtype], options.runs) for dtype in dtypes}
        print(f"copying {copied / 1e9:.1f} GB/s, looking up {looked_up / 1e9:.2f} G values/s, multiplying", end=" ")
        print(", ".join(f"{dtype} {rate / 1e9:.0f} Gflop/s" for dtype, rate in rates.items()))
        print(
            f"{'':<10}{'size':<12}{'precision':<10}{'Gflop':>8}{'M looked up':>13}{'floor ms':>10}{'ms':>8}{'share':>8}"
        )
        for name, settings in PATHS.items():
            for size in options.sizes:
                height, width = map(int, size.split("x"))
                for dtype in dtypes:
                    flops, values = needed(height, width, settings)
                    floor = max(flops / rates[dtype] + values / looked_up, 36 * height * width / copied)
                    spent = seconds_per_frame(height, width, PlainHost(str(device), dtype), settings, options.runs)
                    work = f"{flops / 1e9:>8.1f}{values / 1e6:>13.0f}"
                    pace = f"{1e3 * floor:>10.1f}{1e3 * spent:>8.1f}{floor / spent:>8.2f}"
                    print(f"{name:<10}{size:<12}{dtype:<10}{work}{pace}", flush=True)


def copying(device: torch.device, runs: int) -> float:
    """Bytes per second, read plus written, far beyond any cache."""
    source = torch.rand(64 * 2**20, device=device)
    target = torch.empty_like(source)
    return 2 * source.numel() * 4 / timed(lambda: target.copy_(source), device, runs)


def multiplying(device: torch.device, dtype: torch.dtype, runs: int) -> float:
    """Operations per second of a large matrix product."""
    side = 2048 if device.type == "cpu" else 8192
    a, b = torch.randn(2, side, side, device=device).to(dtype)
    return 2 * side**3 / timed(lambda: a @ b, device, runs)


def looking_up(device: torch.device, runs: int) -> float:
    """Values per second of warping seven planes, as RIFE does, by every core."""
    height, width, cores = 512, 896, 8
    picture = torch.rand(1, 7, height, width, device=device).expand(cores, -1, -1, -1)
    shift = torch.nn.functional.interpolate(torch.rand(1, 2, 8, 14, device=device) / 16, (height // cores, width))
    x = torch.linspace(-1, 1, width, device=device).expand(height, -1)
    y = torch.linspace(-1, 1, height, device=device)[:, None].expand(-1, width)
    grid = torch.stack((x, y), -1).view(cores, -1, width, 2) + shift.permute(0, 2, 3, 1)
    warp = lambda: F.grid_sample(picture, grid, padding_mode="border", align_corners=True)  # noqa: E731
    return 7 * height * width / timed(warp, device, runs)


def needed(height: int, width: int, settings: dict[str, str]) -> tuple[float, float]:
    """Operations and looked-up values of a made frame, from a small clip: both grow with the number of pixels."""
    small = (256, 448)
    clip, values = frames(*small), 0
    original = F.grid_sample

    def counted(picture: Tensor, grid: Tensor, *args: object, mode: str = "bilinear", **kwargs: object) -> Tensor:
        nonlocal values
        made = original(picture, grid, *args, mode=mode, **kwargs)
        values += made.numel() * (4 if mode == "bicubic" else 1)  # sixteen neighbours instead of four
        return made

    F.grid_sample = counted
    try:
        with FlopCounterMode(display=False) as counter:
            made = sum(
                not frame.original for frame in api.interpolate(clip, host=PlainHost("cpu", "float32"), **settings)
            )
    finally:
        F.grid_sample = original
    scale = height * width / (small[0] * small[1]) / made
    return counter.get_total_flops() * scale, values * scale


def seconds_per_frame(height: int, width: int, host: PlainHost, settings: dict[str, str], runs: int) -> float:
    clip = frames(height, width)

    def run() -> int:
        return sum(not frame.original for frame in api.interpolate(clip, host=host, **settings))

    return timed(run, host.device, max(1, runs // 2)) / (FRAMES - 1)


def frames(height: int, width: int) -> list[Frame]:
    """A smooth texture that pans."""
    coarse = torch.rand(1, 3, height // 16 + 2, width // 16 + 2, generator=torch.Generator().manual_seed(0))
    texture = F.interpolate(coarse, scale_factor=16, mode="bicubic").clamp(0, 1)[0].permute(1, 2, 0)
    return [Frame(texture[i : i + height, 2 * i : 2 * i + width].contiguous(), Fraction(i)) for i in range(FRAMES)]


def timed(work: Callable[[], object], device: torch.device, runs: int) -> float:
    """Seconds, the median after one warm-up."""
    seconds = []
    for _ in range(runs + 1):
        start = time.perf_counter()
        work()
        if device.type == "cuda":
            torch.cuda.synchronize()
        seconds.append(time.perf_counter() - start)
    return median(seconds[1:])


if __name__ == "__main__":
    main()
