"""Precision and recall of cut detection, to the frame, on clips cut together from pieces of real ones.

    python benchmarks/everyday/cuts.py --clips DIR [--split dev] [--count 32] [--cache DIR] [--scenedetect PYTHON]

``DIR`` holds an INDEX.tsv. Every assembled clip joins 24 pieces of 1 to 60 frames, a third of them of the clip before,
with flashes, strobing and fades inside, through H.264 at CRF 18 to 35; a quarter is darkened, a quarter has film grain.
The clips themselves are measured too: false cuts in them, and real ones missed. ``--scenedetect``: an interpreter with
PySceneDetect, to measure it on the same frames.

A ``smooth`` join of two pieces of one clip is neither asked for nor held against anyone: there is nothing to see.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
import time
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from itertools import pairwise
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).resolve().parents[2]
sys.path[:0] = [str(ROOT), str(Path(__file__).resolve().parent)]

import cv2
import numpy as np
import torch
from assemble import HEIGHT, WIDTH, Assembly, Source, as_frames, cut_together, load, recode, score, worn

from comfy_fusionfft.survey import Survey, find_cuts, survey
from comfy_fusionfft.survey.cuts import usual_worst

CRFS = (18, 23, 28, 35)
LOOKS = ("plain", "plain", "dark", "grain")
OURS = "fusionfft"


class Case(NamedTuple):
    """A clip to find cuts in. look: how its frames were worn."""

    frames: np.ndarray
    cuts: tuple[int, ...]
    smooth: frozenset[int]
    kinds: Mapping[int, str]
    traps: tuple[tuple[int, str], ...]
    look: str


def assembled(sources: list[Source], count: int, seed: int) -> Iterable[Case]:
    random = np.random.default_rng(seed)
    for number in range(count):
        made: Assembly = cut_together(sources, random, 24)
        look = LOOKS[number // len(CRFS) % len(LOOKS)]
        frames = recode(worn(made.frames, look, random), CRFS[number % len(CRFS)])
        kinds = dict(zip(made.cuts, made.kinds, strict=True))
        smooth = frozenset(cut for cut, kind in kinds.items() if kind == "smooth")
        yield Case(frames, tuple(cut for cut in made.cuts if cut not in smooth), smooth, kinds, made.traps, look)


def whole(sources: list[Source]) -> Iterable[Case]:
    for source in sources:
        cuts = tuple(first for first, _ in source.runs[1:])
        yield Case(source.frames, cuts, frozenset(), dict.fromkeys(cuts, "single clip"), (), "plain")


def by_number(seen: Survey, frames: np.ndarray) -> dict[str, np.ndarray]:
    """Each number a cut could be told from, alone: set against what is usual around where that helps."""
    thumbnails = [cv2.resize(frame, (160, 90), interpolation=cv2.INTER_AREA) for frame in frames]
    histograms = [cv2.calcHist([t], [0, 1, 2], None, [8, 8, 8], [0, 256] * 3) / t[..., 0].size for t in thumbnails]
    apart = [0.0] + [1 - float(np.minimum(a, b).sum()) for a, b in pairwise(histograms)]
    apart, change, missed = np.array(apart, np.float32), np.log(seen.change + 0.3), 1 - seen.explained
    return {
        "difference of thumbnails against what is usual": change - usual_worst(change, -1.2),
        "difference of histograms against what is usual": apart - usual_worst(apart, 0.0),
        "unexplained by motion": missed,
        "unexplained by motion against what is usual": missed - usual_worst(missed, 0.05),
    }


def scenedetect(python: str, cases: Sequence[Case]) -> list[dict[str, list[int]]]:
    with tempfile.TemporaryDirectory() as folder:
        paths = []
        for number, case in enumerate(cases):
            paths.append(str(Path(folder) / f"{number}.npz"))
            np.savez(paths[-1], frames=case.frames)
        script = Path(__file__).with_name("scenedetect_cuts.py")
        ran = subprocess.run([python, str(script), *paths], check=True, capture_output=True, text=True)
    return [json.loads(line) for line in ran.stdout.splitlines()]


def table(rows: Mapping[str, Mapping[str, float]]) -> None:
    print(f"{'':58} precision  recall      F1  right  found   true")
    for name, row in rows.items():
        print(
            f"{name:58}    {row['precision']:.4f}  {row['recall']:.4f}  {row['f1']:.4f}"
            f"  {row['right']:5d}  {row['found']:5d}  {row['true']:5d}"
        )


def total(cases: Sequence[Case], found: Sequence[Iterable[int]]) -> Mapping[str, float]:
    """The score of all clips together; smooth joins are taken out of what was found."""
    got = {(n, cut) for n, cuts in enumerate(found) for cut in cuts if cut not in cases[n].smooth}
    return score(got, {(n, cut) for n, case in enumerate(cases) for cut in case.cuts})


def best(cases: Sequence[Case], numbers: Sequence[np.ndarray]) -> Mapping[str, float]:
    """The score at the threshold that is best for these very clips: what one number could reach at most."""
    edges = np.unique(np.quantile(np.concatenate(numbers), np.linspace(0.9, 0.9999, 200)))
    rows = (total(cases, [np.flatnonzero(values > edge).tolist() for values in numbers]) for edge in edges)
    return max(rows, key=lambda row: row["f1"])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--clips", type=Path, required=True, help="folder with an INDEX.tsv and the clips it lists")
    parser.add_argument("--split", default="dev", help="which clips of the index (default dev)")
    parser.add_argument("--count", type=int, default=32, help="clips to assemble (default 32)")
    parser.add_argument("--seed", type=int, default=11)
    parser.add_argument("--cache", type=Path, help="where small copies of the clips are kept")
    parser.add_argument("--scenedetect", metavar="PYTHON", help="an interpreter that has PySceneDetect")
    args = parser.parse_args()
    torch.set_num_threads(1)
    cv2.setNumThreads(1)
    sources = load(args.clips, args.split, args.cache)
    for title, cases in (
        (f"{args.count} clips assembled from '{args.split}'", list(assembled(sources, args.count, args.seed))),
        (f"the {len(sources)} clips of '{args.split}' themselves", list(whole(sources))),
    ):
        began = time.perf_counter()
        seen = [survey(as_frames(case.frames)) for case in cases]
        speed = sum(len(case.frames) for case in cases) / (time.perf_counter() - began)
        found = [find_cuts(one) for one in seen]
        print(f"\n{title}: {sum(len(case.frames) for case in cases)} frames of {WIDTH}x{HEIGHT}, {speed:.0f} frames/s")
        rows = {OURS: total(cases, found)}
        numbers = [by_number(one, case.frames) for one, case in zip(seen, cases, strict=True)]
        rows |= {f"{name}, at its best": best(cases, [one[name] for one in numbers]) for name in numbers[0]}
        if args.scenedetect:
            theirs = scenedetect(args.scenedetect, cases)
            rows |= {name: total(cases, [one[name] for one in theirs]) for name in theirs[0]}
        table(rows)
        details(cases, found)


def details(cases: Sequence[Case], found: Sequence[Sequence[int]]) -> None:
    """Where we are right and wrong."""
    kinds, looks = defaultdict(lambda: [0, 0]), defaultdict(lambda: [0, 0, 0])
    false, traps = [], defaultdict(lambda: [0, 0])
    for number, (case, cuts) in enumerate(zip(cases, found, strict=True)):
        for cut, kind in case.kinds.items():
            kinds[kind][0] += cut in cuts
            kinds[kind][1] += 1
        wrong = set(cuts) - set(case.kinds)
        looks[case.look][0] += len(set(cuts) & set(case.cuts))
        looks[case.look][1] += len(set(cuts) - case.smooth)
        looks[case.look][2] += len(case.cuts)
        for first, what in case.traps:
            traps[what][0] += bool(wrong & set(range(first - 1, first + 14)))
            traps[what][1] += 1
        false += [(number, cut) for cut in sorted(wrong)]
    print("found, by kind: ", ", ".join(f"{kind} {a} of {b}" for kind, (a, b) in sorted(kinds.items())))
    print(
        "precision, recall: ",
        ", ".join(f"{k} {a / max(1, b):.3f} {a / max(1, c):.3f}" for k, (a, b, c) in looks.items()),
    )
    if traps:
        print("taken for a cut: ", ", ".join(f"{what} {a} of {b}" for what, (a, b) in sorted(traps.items())))
    print("false cuts (clip, frame): ", false)


if __name__ == "__main__":
    main()
