"""The protocol.

Of every clip in a folder every 2nd frame is kept (2×), and separately every 4th (4×); frames in between are
made and scored at a longer side of 720 px, to which all frames are area-reduced *before* anything is made.
Our methods run through ``api.interpolate`` as users run them; the baselines are computed beside them on the
very same frames.

A score of a clip is the mean over its instants; a score of a method is the mean over clips. Answers are
rounded to 8 bits first, which is what a user's file would hold.
"""

from __future__ import annotations

import time
from collections import defaultdict
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from .. import api
from ..contract import FlowSource, Host
from ..errors import InputError
from ..host import PlainHost
from ..quality import high_band_energy_ratio, psnr, ssim
from .baselines import MAKERS, Maker, splatting
from .intervals import find_clips, intervals, read_segments
from .ours import Ours, Remembering
from .report import Report, Row, mean_row
from .sheets import Sheet

DROPS = (2, 4)
INSTANTS = 6
LONGEST_SIDE = 720
BASELINES = tuple(MAKERS)


def evaluate(
    clips_dir: str | Path,
    *,
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
    """Score every clip of ``clips_dir``.

    clips_dir: videos and frame folders; ``usable_segments`` of an ``INDEX.tsv`` in it or above it are kept to.
    drops: keep one of these many frames. instants: frames scored per clip and drop, spread evenly; 0: all.
    longest_side: pixels frames are reduced to, never enlarged.
    flows, methods: every combination is measured, named ``method:flow``. A method may carry settings of its
        own: ``fusion:num_anchors=1:spectral_alpha=0``. settings: for all methods, see api.load_method.
    teacher: weights of the teacher network, measured with plain splatting.
    sheets: folder for a PNG per clip with its worst instants.
    progress: called with clips done, clips in all, and the name of the next.

    Clips are streamed. Raises InputError when there is nothing to measure.
    """
    clips_dir, host = Path(clips_dir), host or PlainHost()
    if not drops or min(drops) < 2:
        raise InputError(f"drops {list(drops)}: give numbers of 2 and above, such as 2,4")
    paths = find_clips(clips_dir)
    segments = read_segments(clips_dir)
    makers: dict[str, Maker] = {name: MAKERS[name]() for name in baselines}
    if teacher is not None:
        makers["teacher-splat"] = splatting(teacher, host)
    for flow in flows:
        source = Remembering(api.load_flow(flow, host=host) if isinstance(flow, (str, Path)) else flow)
        name = Path(flow).stem if isinstance(flow, (str, Path)) else type(flow).__name__
        for method in methods:
            makers[f"{method}:{name}"] = Ours(source, method, host, settings)

    rows: list[Row] = []
    for number, path in enumerate(paths):
        if progress:
            progress(number, len(paths), path.name)
        scores: dict[tuple[int, str], list[Row]] = defaultdict(list)
        sheet = Sheet(next(reversed(makers)), _rival(list(makers), flows))
        for interval in intervals(path, segments.get(path.name), drops, instants, longest_side):
            for wanted in interval.wanted:
                host.raise_if_cancelled()
                truth, answers = interval.frames[wanted], {}
                for name, make in makers.items():
                    start = time.perf_counter()
                    answers[name] = make(interval, wanted)
                    took = time.perf_counter() - start
                    scores[interval.drop, name].append(
                        _score(path.name, interval.drop, name, answers[name], truth, took)
                    )
                sheet.add(f"x{interval.drop} frame {wanted}", truth, answers)
        rows += [mean_row(path.name, drop, name, found) for (drop, name), found in scores.items()]
        if sheets is not None and sheet.worst:
            Path(sheets).mkdir(parents=True, exist_ok=True)
            sheet.write(Path(sheets) / f"{path.stem}.png")
    if progress:
        progress(len(paths), len(paths), "")
    if not rows:
        raise InputError(f"no clip in {clips_dir} has {min(drops) + 1} usable frames in a row: give longer clips")
    names = list(makers)
    rows.sort(key=lambda row: ([p.name for p in paths].index(row.clip), row.drop, names.index(row.method)))
    protocol = {"drops": list(drops), "instants": instants, "longest_side": longest_side, "clips": len(paths)}
    return Report(tuple(rows), protocol)


def _rival(names: Sequence[str], flows: Sequence[str | FlowSource]) -> str | None:
    """What the last method is shown beside: the first one of ours on the same flow, else the last baseline."""
    ours = [name for name in names if ":" in name]
    own_flow = [name for name in ours[:-1] if name.rpartition(":")[2] == ours[-1].rpartition(":")[2]]
    others = [name for name in names if ":" not in name]
    return next(iter(own_flow), None) or next(reversed(others), None)


def _score(clip: str, drop: int, method: str, made: np.ndarray, truth: np.ndarray, seconds: float) -> Row:
    a, b = made / np.float64(255), truth / np.float64(255)
    return Row(clip, drop, method, psnr(a, b), ssim(a, b), high_band_energy_ratio(a, b), 1, seconds)
