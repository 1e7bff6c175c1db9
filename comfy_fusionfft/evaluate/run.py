"""The protocol.

Of every clip in a folder every 2nd frame is kept (2×), and separately every 4th (4×) and every 8th (8×); frames
in between are made and scored at a longer side of 720 px, to which all frames are area-reduced *before* anything
is made. Clips too short for a drop have no row for it. Benchmark pictures (``benchmarks.py``) have protocols of
their own. Our methods run through ``api.interpolate`` as users run them; the baselines are computed beside them
on the very same frames.

A score of a clip is the mean over its instants; a score of a method is the mean over clips. Answers are
rounded to 8 bits first, which is what a user's file would hold.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from itertools import groupby
from pathlib import Path
from typing import Any

import numpy as np

from .. import api
from ..contract import FlowSource, Host
from ..errors import InputError
from ..host import PlainHost
from ..quality import MotionFromEnds, high_band_energy_ratio, psnr, ssim
from .baselines import MAKERS, Maker, splatting
from .benchmarks import find_benchmarks
from .intervals import Interval, Source, clip_sources
from .ours import Ours, Remembering
from .report import WORST, Report, Score, judged
from .sheets import Sheet
from .table import title

DROPS = (2, 4, 8)
INSTANTS = 6
LONGEST_SIDE = 720
BASELINES = tuple(MAKERS)


def evaluate(
    clips_dir: str | Path | None = None,
    *,
    benchmarks: str | Path | None = None,
    drops: Sequence[int] = DROPS,
    instants: int = INSTANTS,
    longest_side: int = LONGEST_SIDE,
    flows: Sequence[str | FlowSource] = ("auto",),
    methods: Sequence[str] = ("auto",),
    baselines: Sequence[str] = BASELINES,
    teacher: str | Path | None = None,
    sheets: str | Path | None = None,
    host: Host | None = None,
    progress: Callable[[int, int, str], None] | None = None,
    **settings: Any,
) -> Report:
    """Score every clip of ``clips_dir``, or every picture of the sets in ``benchmarks``.

    clips_dir: videos and frame folders; ``usable_segments`` of an ``INDEX.tsv`` in it or above it are kept to.
    benchmarks: a folder as ``benchmarks.py`` describes it; drops, instants and longest_side have no say there.
    drops: keep one of these many frames. instants: frames scored per clip and drop, spread evenly; 0: all.
    longest_side: pixels frames are reduced to, never enlarged.
    flows, methods: every combination is measured, named ``method:flow``. A method may carry settings of its
        own: ``fusion:num_anchors=1:spectral_alpha=0``. settings: for all methods, see api.load_method. The last
        method is the one that is judged: its worst frames are listed, and the clips where it is worse.
    teacher: weights of the teacher network, measured with plain splatting.
    sheets: folder for a PNG per clip or benchmark with its worst instants, and ``worst.png`` with those of all.
    progress: called with clips done, clips in all, and the name of the next.

    Clips are streamed. Raises InputError when there is nothing to measure.
    """
    if (clips_dir is None) == (benchmarks is None):
        raise InputError("evaluate needs either a folder of clips or a folder of benchmark pictures: give one of them")
    host = host or PlainHost()
    if benchmarks is not None:
        sources, references, titles = find_benchmarks(Path(benchmarks))
        protocol: dict[str, Any] = {"benchmarks": titles}
    else:
        if not drops or min(drops) < 2:
            raise InputError(f"drops {list(drops)}: give numbers of 2 and above, such as 2,4")
        sources, references = clip_sources(Path(clips_dir), drops, instants, longest_side), []
        protocol = {"drops": list(drops), "instants": instants, "longest_side": longest_side, "clips": len(sources)}
    makers: dict[str, Maker] = {name: MAKERS[name]() for name in baselines}
    if teacher is not None:
        makers["teacher-splat"] = splatting(teacher, host)
    for flow in flows:
        source = Remembering(api.load_flow(flow, host=host) if isinstance(flow, (str, Path)) else flow)
        name = Path(flow).stem if isinstance(flow, (str, Path)) else type(flow).__name__
        for method in methods:
            makers[f"{method}:{name}"] = Ours(source, method, host, settings)
    scores = _measure(sources, makers, _rival(list(makers)), host, sheets, progress)
    if not scores:
        raise InputError(f"no clip in {clips_dir} has {min(drops) + 1} usable frames in a row: give longer clips")
    return Report(tuple(scores), protocol, tuple(references))


def _measure(
    sources: Sequence[Source],
    makers: dict[str, Maker],
    rival: str | None,
    host: Host,
    sheets: str | Path | None,
    progress: Callable[[int, int, str], None] | None,
) -> list[Score]:
    scores: list[Score] = []
    worst = Sheet(rows=WORST, patch="error")
    numbered = enumerate(sources)
    for name, members in groupby(numbered, key=lambda item: item[1].sheet):
        sheet = Sheet()
        for number, source in members:
            if progress:
                progress(number, len(sources), source.name)
            for interval in source.intervals():
                for wanted in interval.wanted:
                    host.raise_if_cancelled()
                    found, answers = _scored(source, interval, wanted, makers)
                    scores += found
                    if sheets is not None:
                        _show(found, answers, interval.frames[wanted], rival, sheet, worst)
        if sheet.worst:
            sheet.write(Path(sheets) / f"{name}.png")
    if worst.worst:
        worst.write(Path(sheets) / "worst.png")
    if progress:
        progress(len(sources), len(sources), "")
    return scores


def _scored(
    source: Source, interval: Interval, wanted: int, makers: dict[str, Maker]
) -> tuple[list[Score], dict[str, np.ndarray]]:
    """One frame made by everyone: a score each, and the pictures by method."""
    truth = interval.frames[wanted] / np.float64(255)
    motion = MotionFromEnds(tuple(end / np.float64(255) for end in interval.pair), truth)
    place = (source.group, source.name, interval.drop, interval.name(wanted))
    scores, answers = [], {}
    for name, make in makers.items():
        start = time.perf_counter()
        answers[name] = make(interval, wanted)
        took = time.perf_counter() - start
        made = answers[name] / np.float64(255)
        measured = (psnr(made, truth), ssim(made, truth), high_band_energy_ratio(made, truth), motion.error(made))
        scores.append(Score(*place, name, *measured, took))
    return scores, answers


def _show(
    scores: list[Score],
    answers: dict[str, np.ndarray],
    truth: np.ndarray,
    rival: str | None,
    sheet: Sheet,
    worst: Sheet,
) -> None:
    """Offer a frame to its clip's sheet, beside the rival, and to the sheet of all, beside the best other method."""
    bad, by_method = judged(scores), {score.method: score for score in scores}
    for target, rank, other in (
        (sheet, bad.ours.psnr, by_method.get(rival)),
        (worst, bad.lead, bad.best),
    ):
        shown = [bad.ours] if other is None else [bad.ours, other]
        target.add(rank, title(bad), truth, {f"{s.psnr:.2f} dB {s.method}": answers[s.method] for s in shown})


def _rival(names: Sequence[str]) -> str | None:
    """What the last method is shown beside: the first one of ours on the same flow, else the last baseline."""
    ours = [name for name in names if ":" in name]
    own_flow = [name for name in ours[:-1] if name.rpartition(":")[2] == ours[-1].rpartition(":")[2]]
    others = [name for name in names if ":" not in name]
    return next(iter(own_flow), None) or next(reversed(others), None)
