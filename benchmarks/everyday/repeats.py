"""Precision and recall of repeated frames, and how even motion is without them, on real clips held by known patterns.

    python benchmarks/everyday/repeats.py --clips DIR [--split dev] [--cache DIR] [--interpolate 4]

From every clip of INDEX.tsv that moves, up to 96 frames in a row are shown by each pattern: drawings on twos and
threes, mixed holds, rates filled up (24 to 30, 24 to 60, 15 to 60) and random stutters; then they go through H.264 at
CRF 18 to 35, a quarter under film grain. A repeat is *in motion* where the picture after it differs by two levels or
more from the one it repeats; of others nobody sees whether they were left out.

Evenness is the spread (standard deviation over mean) of the motion in each interval of an output at twice the clip's
rate: what an interpolator makes that moves things uniformly from frame to frame. Motion is known, from the clip before
it was held. ``--interpolate`` measures as many clips for each pattern for real: DIS flow, blended, and motion found in
the output.
"""

from __future__ import annotations

import argparse
import sys
from collections import defaultdict
from collections.abc import Mapping, Sequence
from fractions import Fraction
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).resolve().parents[2]
sys.path[:0] = [str(ROOT), str(Path(__file__).resolve().parent)]

import cv2
import numpy as np
import torch
from assemble import PATTERNS, as_frames, hold, listed, load, recode, worn

from comfy_fusionfft.survey import Edit, Repeats, Survey, edited, find_repeats, make_edit, survey

CRFS = (18, 23, 28, 35)
LOOKS = ("plain", "plain", "plain", "grain")
RATE = 24
LONGEST, LEAST_FRAMES, LEAST_MOTION = 96, 40, 1.0


class Case(NamedTuple):
    """A clip held by a pattern. path: how far things have moved at each of its frames, pixels. visible: repeats in
    motion."""

    name: str
    pattern: str
    crf: int
    look: str
    frames: np.ndarray
    repeats: frozenset[int]
    visible: frozenset[int]
    path: np.ndarray


def cases(clips: Path, split: str, cache: Path | None, seed: int) -> list[Case]:
    random = np.random.default_rng(seed)
    rows = {path.name: row for path, row in listed(clips, split)}
    made = []
    for source in load(clips, split, cache):
        row = rows[source.name]
        first, end = max(source.runs, key=lambda run: run[1] - run[0])
        if (
            end - first < LEAST_FRAMES
            or float(row["median_motion"]) < LEAST_MOTION
            or float(row["dup_fraction"]) > 0.004
        ):
            continue
        clean = source.frames[first : min(end, first + LONGEST)]
        steps = survey(as_frames(clean)).motion.astype(float)
        for pattern in PATTERNS:
            frames, repeats, shown = hold(clean, pattern, random)
            look, crf = LOOKS[random.integers(len(LOOKS))], CRFS[random.integers(len(CRFS))]
            visible = frozenset(n for n in repeats if _differs(frames, shown, n))
            coded = recode(worn(frames, look, random), crf)
            path = np.cumsum(steps)[shown]
            made.append(Case(source.name, pattern, crf, look, coded, frozenset(repeats), visible, path))
    return made


def _differs(frames: np.ndarray, shown: np.ndarray, number: int) -> bool:
    after = int(np.searchsorted(shown, shown[number], "right"))
    if after == len(shown):
        return False
    return float(np.abs(frames[number].astype(np.int16) - frames[after]).mean()) >= 2


def unevenness(case: Case, edit: Edit | None) -> float:
    """Spread of motion in the intervals of an output at twice the rate, frames moving uniformly in between."""
    if edit is None:
        places, times = case.path, np.arange(len(case.path)) / RATE
    else:
        kept = [edit.source_index(n) for n in range(edit.kept)]
        places = case.path[kept]
        own = (Fraction(source, RATE) for source in kept)
        times = np.array([float(edit.seconds.get(n, time)) for n, time in enumerate(own)])
    at = np.arange(0, times[-1], 0.5 / RATE)
    steps = np.diff(np.interp(at, times, places))
    return float(steps.std() / max(steps.mean(), 1e-6))


def interpolated(case: Case, edit: Edit) -> tuple[float, float]:
    """The same of real outputs, before and after: motion is found again in them."""
    from comfy_fusionfft.api import interpolate

    def spread(frames: list) -> float:
        out = interpolate(frames, fps=2 * RATE, flow="dis", method="rife")
        motion = survey(out).motion[2:-2]
        return float(motion.std() / motion.mean())

    return spread(list(as_frames(case.frames))), spread(list(edited(as_frames(case.frames), edit)))


def row(name: str, tally: Sequence[int]) -> str:
    right, found, true, seen, visible = tally
    precision, recall = right / max(1, found), right / max(1, true)
    if not true:
        return f"{name:14} {'':>9}  {'':>6}  {'':>9}    {right:5d}  {found:5d}  {true:5d}"
    return (
        f"{name:14} {precision:9.4f}  {recall:6.4f}  {seen / max(1, visible):9.4f}    {right:5d}  {found:5d}  {true:5d}"
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--clips", type=Path, required=True, help="folder with an INDEX.tsv and the clips it lists")
    parser.add_argument("--split", default="dev", help="which clips of the index (default dev)")
    parser.add_argument("--seed", type=int, default=5)
    parser.add_argument("--cache", type=Path, help="where small copies of the clips are kept")
    parser.add_argument("--interpolate", type=int, default=0, help="clips per pattern to interpolate for real")
    args = parser.parse_args()
    torch.set_num_threads(1)
    cv2.setNumThreads(1)
    measured = [(case, *look(case)) for case in cases(args.clips, args.split, args.cache, args.seed)]
    print(f"{len(measured)} clips of 96 frames or less, held by {len(PATTERNS)} patterns\n")
    print(f"{'':14} precision  recall  in motion    right  found   true")
    for name, group in groups([case for case, *_ in measured]).items():
        tally = [0, 0, 0, 0, 0]
        for number in group:
            case, _, repeats, _ = measured[number]
            found = set(np.flatnonzero(repeats.repeated).tolist())
            counts = (found & case.repeats, found, case.repeats, found & case.visible, case.visible)
            tally = [old + len(new) for old, new in zip(tally, counts, strict=True)]
        print(row(name, tally))
    print(
        f"\n{'':14} unevenness: held  without repeats    spread evenly"
        + ("   found in outputs" if args.interpolate else "")
    )
    for pattern in PATTERNS:
        those = [(case, edit, repeats) for case, _, repeats, edit in measured if case.pattern == pattern]
        before = np.median([unevenness(case, None) for case, _, _ in those])
        after = np.median([unevenness(case, edit) for case, edit, _ in those])
        even = [any(stretch.even for stretch in repeats.stretches) for _, _, repeats in those]
        line = f"{pattern:14} {before:17.3f}  {after:15.3f}    {sum(even):3d} of {len(even):3d}"
        if args.interpolate and pattern != "untouched":
            moving = sorted(those, key=lambda those: -those[0].path[-1])[: args.interpolate]
            real = np.array([interpolated(case, edit) for case, edit, _ in moving])
            line += f"       {np.median(real[:, 0]):.3f} -> {np.median(real[:, 1]):.3f}"
        print(line, flush=True)


def look(case: Case) -> tuple[Survey, Repeats, Edit]:
    seen = survey(as_frames(case.frames, RATE))
    repeats = find_repeats(seen)
    return seen, repeats, make_edit(seen, cuts="none", dedupe=True, repeats=repeats)


def groups(made: Sequence[Case]) -> Mapping[str, list[int]]:
    """Numbers of the cases by pattern, by quality, by look, and all."""
    found: dict[str, list[int]] = defaultdict(list)
    for name in (*PATTERNS, *(f"CRF {crf}" for crf in CRFS), "plain", "grain", "all"):
        for number, case in enumerate(made):
            if name in (case.pattern, f"CRF {case.crf}", case.look, "all"):
                found[name].append(number)
    return found


if __name__ == "__main__":
    main()
