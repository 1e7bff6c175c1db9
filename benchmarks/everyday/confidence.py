"""How well confidence predicts the error of made frames, and when holding a real frame would have been better.

    python benchmarks/everyday/confidence.py --clips DIR [--models fusion:auto rife:dis] [--instants 4] [--fit]

Of every clip every 2nd, 4th and 8th frame is kept, and dropped ones are made, at a longer side of 720 px, as
``fusionfft evaluate`` does it. The predicted PSNR of a frame is compared with its true one over frames (rank and linear
correlation, mean absolute error, bias; within a clip: the mean of its own rank correlations), and confidence with the
true error over the cells of a picture (rank correlation, and the area under the ROC curve of finding the worst 5 %).
``--fit`` prints weights for ``ops/confidence.py`` fitted on these clips instead: run it on clips that are not those of
the table.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from fractions import Fraction
from itertools import pairwise
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT))

from comfy_fusionfft import api
from comfy_fusionfft.contract import Frame, Model
from comfy_fusionfft.engine.store import Store, StoreWindow
from comfy_fusionfft.engine.transfer import transfer_for
from comfy_fusionfft.evaluate.intervals import Interval, find_clips, intervals, read_segments
from comfy_fusionfft.host import PlainHost
from comfy_fusionfft.ops import confidence

DROPS = (2, 4, 8)
WORST = 0.05
HOLD_EDGES = (0, 16, 18, 20, 22, 24, 27, 30, 35, 99)


@dataclass
class Shot:
    """One made frame: PSNR in dB predicted, true, and of the nearer real frame shown instead; local figures."""

    clip: str
    drop: int
    predicted: float
    true: float
    held: float
    local: float
    auroc: float
    seen: tuple[Tensor, float, Tensor]
    """For fitting: evidence ``(K, h, w)``, time, squared error ``(h, w)``."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--clips", type=Path, required=True)
    parser.add_argument("--models", nargs="+", default=["fusion:auto", "rife:dis"], help="METHOD:FLOW")
    parser.add_argument("--instants", type=int, default=4, help="frames per clip and drop")
    parser.add_argument("--only", nargs="*", default=[], help="beginnings of names of clips")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--fit", action="store_true")
    options = parser.parse_args()
    host = PlainHost(options.device, "float32")
    models = {}
    for name in options.models:
        method, flow = name.split(":")
        models[name] = api.load_method(method, api.load_flow(flow, host=host), host=host, explain=True)
    found: dict[str, list[Shot]] = {name: [] for name in models}
    segments = read_segments(options.clips)
    for path in find_clips(options.clips):
        if options.only and not path.name.startswith(tuple(options.only)):
            continue
        print(path.name, file=sys.stderr, flush=True)
        for interval in intervals(path, segments.get(path.name), DROPS, options.instants, 720):
            for wanted in interval.wanted:
                for name, model in models.items():
                    found[name].append(measured(model, path.stem, interval, wanted, host))
    if options.fit:
        fit([shot for shots in found.values() for shot in shots])
        return
    for name, shots in found.items():
        print(f"\n{name}\n" + "\n".join((*correlations(shots), "", *holding(shots))))


@torch.inference_mode()
def measured(model: Model, clip: str, interval: Interval, wanted: int, host: PlainHost) -> Shot:
    store = Store(transfer_for(host.device))
    for index, number in enumerate(interval.kept):
        store.add(Fraction(index), Frame(torch.from_numpy(interval.frames[number]), Fraction(index)))
    left = interval.kept.index(interval.left)
    around = range(max(0, left - model.reach.before + 1), min(len(interval.kept), left + 1 + model.reach.after))
    time = left + Fraction(wanted - interval.left, interval.drop)
    recorded = []
    original = confidence.expected
    confidence.expected = lambda evidence, share, **how: (
        recorded.append((evidence[0].cpu(), share)) or original(evidence, share, **how)
    )
    try:
        window = StoreWindow(store, tuple(Fraction(i) for i in around), (time,), lambda start: (time,))
        made = model(window)[0].cpu()
    finally:
        confidence.expected = original
    colour, maps = (made[:3].clamp(0, 1) * 255).round() / 255, made[3:]
    truth, *ends = (torch.from_numpy(p).permute(2, 0, 1) / 255 for p in (interval.frames[wanted], *interval.pair))
    planes = torch.stack(((colour - truth).square().mean(0), 1 - maps[1]))[None]
    error, doubt = confidence.shrunk(confidence.shrunk(planes))[0]
    held = ends[interval.time(wanted) > 0.5]
    return Shot(
        clip,
        interval.drop,
        confidence.predicted_psnr(maps.permute(1, 2, 0)),
        psnr(colour, truth),
        psnr(held, truth),
        spearman(doubt.flatten(), error.flatten()),
        auroc(doubt.flatten(), error.flatten() >= error.flatten().quantile(1 - WORST)),
        (*recorded[0], error),
    )


def psnr(made: Tensor, truth: Tensor) -> float:
    return -10 * float((made - truth).square().mean().clamp_min(1e-10).log10())


def correlations(shots: list[Shot]) -> Iterator[str]:
    yield "drop  frames   rank  linear  MAE dB  bias dB  within clip  local rank  local AUROC"
    for drop in (*DROPS, 0):
        some = [s for s in shots if drop in (0, s.drop)]
        if len(some) < 3:
            continue
        told, true = (torch.tensor([getattr(s, key) for s in some]) for key in ("predicted", "true"))
        within = []
        for clip in {s.clip for s in some}:
            here = torch.tensor([s.clip == clip for s in some])
            if here.sum() > 3:
                within.append(spearman(told[here], true[here]))
        yield (
            f"{drop or 'all':>4}{len(some):>8}{spearman(told, true):7.3f}{pearson(told, true):8.3f}"
            f"{(told - true).abs().mean():8.2f}{(told - true).mean():+9.2f}{np.mean(within or [np.nan]):13.3f}"
            f"{np.mean([s.local for s in some]):12.3f}{np.mean([s.auroc for s in some]):13.3f}"
        )


def holding(shots: list[Shot]) -> Iterator[str]:
    yield "predicted dB  frames  made dB  held dB  held better"
    for low, high in pairwise(HOLD_EDGES):
        some = [s for s in shots if low <= s.predicted < high]
        if some:
            made, held = (np.mean([getattr(s, key) for s in some]) for key in ("true", "held"))
            better = sum(s.held > s.true for s in some)
            yield f"{low:>5} .. {high:<3}{len(some):>8}{made:9.2f}{held:9.2f}{better:>8} of {len(some)}"


def ranks(values: Tensor) -> Tensor:
    return values.argsort().argsort().double()


def pearson(a: Tensor, b: Tensor) -> float:
    return float(torch.corrcoef(torch.stack((a.double(), b.double())))[0, 1])


def spearman(a: Tensor, b: Tensor) -> float:
    return pearson(ranks(a), ranks(b))


def auroc(score: Tensor, positive: Tensor) -> float:
    count, others = positive.sum(), (~positive).sum()
    return float((ranks(score)[positive].sum() - count * (count - 1) / 2) / (count * others))


def fit(shots: list[Shot]) -> None:
    """The mean error of a cell, and above all of a frame; a few wild clips must not turn it."""
    for name, chained in (("PAIR", False), ("CHAINED", True)):
        some = [s for s in shots if not chained or len(s.seen[0]) > 4]
        if not some:
            continue
        logs, errors = [], []
        for evidence, share, error in (s.seen for s in some):
            columns = confidence.logarithms(evidence[None, : 5 if chained else 4], share)
            planes = torch.cat([plane.expand(1, 1, *error.shape) for plane in columns.values()], dim=1)
            logs.append(planes[0].flatten(1).T[::3])
            errors.append(error.flatten()[::3].clamp_min(1e-7))
        keys = list(columns)
        seen, error = torch.cat(logs), torch.cat(errors)
        mean, spread = seen.mean(0), seen.std(0)
        seen = (seen - mean) / spread
        frame = torch.repeat_interleave(torch.arange(len(some)), torch.tensor([len(e) for e in errors]))
        count = torch.bincount(frame).float()
        true = torch.tensor([s.true for s in some]) * -np.log(10) / 10
        weights, constant = torch.zeros(len(keys), requires_grad=True), error.log().mean().requires_grad_()
        optimizer = torch.optim.Adam([weights, constant], lr=0.05)
        schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, 150, 1e-4)
        for _ in range(150):
            told = (seen @ weights + constant).clamp(-16, 0)
            cells = (((error / told.exp()).clamp_max(50) + told) / count[frame]).sum() / len(some)
            frames = (torch.zeros(len(some)).index_add(0, frame, told.exp()) / count).log()
            loss = cells + 20 * F.huber_loss(frames, true, delta=0.3) + 1e-3 * weights.square().sum()
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            schedule.step()
        scaled = (weights / spread).detach()
        settings = {"constant": constant.detach() - (scaled * mean).sum()} | dict(zip(keys, scaled, strict=True))
        print(f"{name} = Weights({', '.join(f'{k}={v.item():.3f}' for k, v in settings.items())})")


if __name__ == "__main__":
    main()
