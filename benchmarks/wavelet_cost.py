"""What WaveletVFI's threshold saves in time: places computed everywhere, gathered, or chosen level by level.

    python benchmarks/wavelet_cost.py [--sizes 256x448 1088x1920] [--shares 1 0.6 0.3 0.1] [--dtype float32] [--runs 3]

Without weights the network has random ones, whose details say nothing about real pictures: thresholds are therefore
searched that leave the wanted share of places of the finest level active at 256×448 (``shares``), and times are told as
ratios to computing everywhere, in turns in one run. ``levels`` are the three that can leave places out, ``network`` the
whole call; ``masked`` is how the network was published: one convolution over repeated features, multiplied by the mask.
With ``--weights FILE CLIP``, the shares and the cost that the file's network chooses on a clip are printed instead.

``--crossover``: where gathering stops to win, for each level alone, with places active at random in blocks of 16.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from statistics import median

import torch
import torch.nn.functional as F
from torch import Tensor

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from comfy_fusionfft.checkpoints import find, load
from comfy_fusionfft.engine import run
from comfy_fusionfft.families.waveletvfi.config import RATIOS
from comfy_fusionfft.families.waveletvfi.model import Middle, Report
from comfy_fusionfft.families.waveletvfi.net import WaveletVFI
from comfy_fusionfft.families.waveletvfi.sparse import Sparsity, bordered, lean
from comfy_fusionfft.host import DTYPES, PlainHost
from comfy_fusionfft.timeline import Multiply
from comfy_fusionfft.video import open_clip

WAYS = ("never", "always", "auto")
COLUMNS = (10, 22, 7, 10, 10, 8, 8, 11, 8)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--sizes", nargs="+", default=["256x448", "1088x1920"], metavar="HEIGHTxWIDTH")
    parser.add_argument("--shares", nargs="+", type=float, default=[1.0, 0.6, 0.3, 0.1])
    parser.add_argument("--dtype", choices=DTYPES, default="float32")
    parser.add_argument("--runs", type=int, default=3)
    parser.add_argument("--crossover", action="store_true")
    parser.add_argument("--weights", nargs=2, metavar=("FILE", "CLIP"))
    options = parser.parse_args()
    host = PlainHost("cpu", options.dtype)
    with torch.inference_mode():
        if options.weights:
            on_a_clip(*options.weights, host)
            return
        torch.manual_seed(0)
        net = host.place(random_network())
        for size in options.sizes:
            height, width = map(int, size.split("x"))
            (crossover if options.crossover else thresholds)(net, height, width, options.shares, options.runs)


def random_network() -> WaveletVFI:
    """Weights that hand on what they get at every layer, with details small beside the low band."""
    net = WaveletVFI()
    for name, weight in net.named_parameters():
        if weight.ndim > 1:
            gain = 0.03 if name.endswith("_h.weight") else 1.3
            torch.nn.init.normal_(weight, std=gain / weight[0].numel() ** 0.5)
        else:
            torch.nn.init.normal_(weight, std=0.003 if name.endswith("_h.bias") else 0.05)
    return net


def smooth_pair(height: int, width: int) -> tuple[Tensor, Tensor]:
    low = torch.rand(1, 3, 8, 8)
    pictures = (low, low + 0.15 * (torch.rand(1, 3, 8, 8) - 0.5))
    return tuple(F.interpolate(p.clamp(0, 1), (height, width), mode="bilinear") for p in pictures)


def thresholds(net: WaveletVFI, height: int, width: int, wanted: list[float], runs: int) -> None:
    left, right = smooth_pair(height, width)
    motion = net.ifnet(left, right)
    context = net.contextnet(left, right, motion)
    print(f"{width}×{height}, {net.conv1[0].weight.dtype}; seconds of computing everywhere, the others relative to it")
    names = (
        "threshold",
        "active 1/2 1/4 1/8",
        "cost",
        "levels s",
        "gathered",
        "chosen",
        "masked",
        "network s",
        "chosen",
    )
    print("".join(f"{name:>{width}}" for name, width in zip(names, COLUMNS, strict=True)))
    small = height * width < 1 << 19  # for large pictures the repeated features take a GiB
    few = [F.interpolate(each, (256, 448), mode="bilinear") for each in (left, right)]
    searched = net.contextnet(*few, net.ifnet(*few))  # for large pictures the search alone would take minutes
    for share in wanted:
        ratio = ratio_for(net, searched, share)
        ratios = torch.tensor([ratio])
        made = net.synthesis(context, ratios, Sparsity("never"))
        ways = [*map(Sparsity, WAYS), *([None] if small else [])]
        levels = in_turns([partial(net.synthesis, context, ratios, way) for way in ways], runs)
        whole = in_turns([partial(net, left, right, ratio, sparsity=way) for way in ways[:3:2]], runs)
        active = " ".join(f"{float(F.max_pool2d(m.float(), 3, 1, 1).mean()):.2f}" for m in made.masks)
        times = [levels[0], *(each / levels[0] for each in levels[1:3]), levels[-1] / levels[0] if small else None]
        times += [whole[0], whole[1] / whole[0]]
        row = [f"{ratio:.4f}", active, f"{float(made.cost):.2f}", *("-" if t is None else f"{t:.2f}" for t in times)]
        print("".join(f"{each:>{width}}" for each, width in zip(row, COLUMNS, strict=True)), flush=True)


def ratio_for(net: WaveletVFI, context: list, share: float) -> float:
    """The threshold that leaves about this share of the finest level's places active."""
    if share >= 1:
        return 0.0
    low, high = 0.0, 1.0
    for _ in range(12):
        ratio = (low + high) / 2
        mask = net.synthesis(context, torch.tensor([ratio]), Sparsity()).masks[0].float()
        low, high = (ratio, high) if float(F.max_pool2d(mask, 3, 1, 1).mean()) > share else (low, ratio)
    return high


def crossover(net: WaveletVFI, height: int, width: int, wanted: list[float], runs: int) -> None:
    print(f"{width}×{height}, {net.conv1[0].weight.dtype}: time of gathering over time of computing everywhere")
    print(f"{'level':>6}" + "".join(f"{share:>8.0%}" for share in wanted))
    for level in (3, 2, 1):
        step, detail = net.get_submodule(f"conv{level}"), net.get_submodule(f"conv{level}_h")
        h, w = height >> level, width >> level
        like = step[0].weight
        context = [torch.randn(1, step.context // 3, h, w).to(like.dtype) for _ in range(3)]
        context = [each.contiguous(memory_format=torch.channels_last) for each in context]
        coarse = bordered(step[0].in_channels - step.context, h // 2, w // 2, like, clear=True)
        coarse[..., 1:-1, 1:-1].normal_()
        row = []
        for share in wanted:
            blocks = torch.rand(1, 1, -(-h // 16), -(-w // 16))
            blocks = F.interpolate(blocks, scale_factor=16)[..., :h, :w]
            wide = (blocks <= blocks.flatten().quantile(share)).float()
            level_run = partial(lean, step, detail, context, coarse, wide.bool(), wide, keep=level > 1)
            ways = [partial(level_run, gather=gather) for gather in (False, True)]
            everywhere, gathered = in_turns(ways, runs)
            row.append(gathered / everywhere)
        print(f"{level:>6}" + "".join(f"{ratio:>8.2f}" for ratio in row))


def on_a_clip(file: str, clip: str, host: PlainHost) -> None:
    net = host.place(load(find(file, kind="interpolation")).module)
    print(f"{'threshold':>10}{'used':>8}{'active 1/2 1/4 1/8':>22}{'cost':>7}{'frames':>8}")
    for threshold in ("auto", *RATIOS):
        reports: list[Report] = []
        model = Middle(net, threshold=threshold, watch=reports.append)
        for _ in run(open_clip(clip), model, Multiply(2), host):
            if len(reports) == 24:
                break
        means = [sum(float(r.masks[k].float().mean()) for r in reports) / len(reports) for k in range(3)]
        used = sum(float(r.ratio) for r in reports) / len(reports)
        cost = sum(float(r.cost) for r in reports) / len(reports)
        active = " ".join(f"{mean:.2f}" for mean in means)
        print(f"{threshold!s:>10}{used:>8.4f}{active:>22}{cost:>7.2f}{len(reports):>8}")


def in_turns(ways: list[Callable[[], object]], runs: int) -> list[float]:
    """Median seconds of each, one after the other in every round, so that a busy neighbour slows all of them."""
    spent: list[list[float]] = [[] for _ in ways]
    for round_ in range(runs + 1):
        for way, times in zip(ways, spent, strict=True):
            start = time.perf_counter()
            way()
            if round_:
                times.append(time.perf_counter() - start)
    return [median(times) for times in spent]


if __name__ == "__main__":
    main()
