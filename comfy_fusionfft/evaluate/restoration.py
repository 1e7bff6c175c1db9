"""Measure restoration: give small pictures, blurred, compressed or neither, compare what comes out with the large ones.

What is common to all sets: pictures are rounded to 8 bits, as a user's file would hold them, and SSIM is taken over
windows that lie within what is compared. tOF is taken between neighbouring scored frames, on whole pictures
(``quality.temporal_of``). A score of a clip is the mean over its frames; a score of a method is the mean over clips.

What differs (``restoration_scoring.py``): where blur is removed too, PSNR and SSIM are taken on RGB, 4 pixels inside
the border, and the first and the last frame of a clip are restored but not scored. Where sharp pictures are enlarged,
all frames and borders count, RGB on REDS and luma on Vid4.

Which sets there are and how they lie on disk: ``restoration_sets.py``. Clips of one's own are blurred and reduced
here: a frame is given as the light of ``blur`` neighbouring frames around it, reduced by 4. Where things move far from
frame to frame that shows them several times, which no camera does: clips of slow motion or of many frames per second
say most. With ``blur`` 1 they are reduced alone.

Small pictures can be compressed before they are restored, as videos are: ``video.compressed``.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import asdict, replace
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np

from .. import api
from ..contract import Frame, Host, Restorer
from ..engine import Tile
from ..errors import InputError
from ..host import PlainHost
from ..quality import motion, motion_error
from ..train.restoration_blur import SCALE
from ..video.compressed import check_crf
from .intervals import reduced
from .restoration_baselines import BASELINES
from .restoration_pairs import PairSource, clip_pairs, compressed
from .restoration_report import FrameScore, RestorationReport
from .restoration_sets import find_sets

LONGEST_SIDE = 720


def evaluate_restoration(
    sets: str | Path | None = None,
    *,
    clips: str | Path | None = None,
    weights: Sequence[str | Path | Restorer] = (),
    baselines: Sequence[str] = tuple(BASELINES),
    blur: int = 5,
    every: int | None = None,
    linear: bool = True,
    crf: Sequence[int | None] = (None,),
    only: Sequence[str] = (),
    frames: int = 0,
    longest_side: int = LONGEST_SIDE,
    tile: Tile = "auto",
    host: Host | None = None,
    progress: Callable[[int, int, str], None] | None = None,
    **settings: Any,
) -> RestorationReport:
    """Score restorers on every set in ``sets``, or on every clip in ``clips``.

    sets: a folder as ``restoration_sets.py`` describes it.
    clips: videos and frame folders; of ``usable_segments`` of an ``INDEX.tsv`` in it or above it the longest counts.
    weights: files, names of files in the searched folders, or restorers; the last one is compared with the others.
    baselines: ``bicubic``, ``sharpened``: what else is measured. settings: for all weights, see api.load_restorer.
    blur: of clips, an odd number of frames for which the shutter is open. every: frames from one opening to the next;
        None: ``blur``, a shutter that hardly closes. linear: mean of light, not of stored values. longest_side: pixels
        that clips are reduced to, by area, before anything else.
    crf: what H.264 does to the small pictures, one after the other: its rate factor, 0 (best) to 51; None: nothing.
    only: names of sets that are measured, of those in ``sets``; none: all.
    frames: scored ones per clip, from its middle; 0: all. tile: see api.restore.
    progress: called with clips done, clips in all, and the name of the next.

    Clips are streamed, all methods side by side. Raises InputError when there is nothing to measure.
    """
    if (sets is None) == (clips is None):
        raise InputError("restoration is measured either on a folder of sets or on a folder of clips: give one of them")
    every = blur if every is None else every
    if blur < 1 or blur % 2 == 0 or every < 1:
        raise InputError(f"blur {blur}, every {every}: give an odd number of frames, such as 5, and 1 or more")
    for factor in filter(None, crf):
        check_crf(factor)
    host = host or PlainHost()
    protocol: dict[str, Any] = {"scale": SCALE, "frames": frames, "crf": list(crf)}
    if sets is not None:
        sources, published, protocol["sets"] = find_sets(Path(sets), frames, only)
    else:
        how = {"blur": blur, "every": every, "linear": linear, "longest_side": longest_side}
        sources, published = clip_pairs(Path(clips), frames=frames, **how), []
        protocol |= how
    protocol["scoring"] = {source.group: asdict(source.scoring) for source in sources}
    sources = [source if factor is None else _compressed(source, factor) for factor in crf for source in sources]
    restorers = _restorers(weights, baselines, host, settings)
    scores: list[FrameScore] = []
    for number, source in enumerate(sources):
        if progress:
            progress(number, len(sources), f"{source.group} {source.name}".strip())
        scores += _measure(source, restorers, host, tile)
    if progress:
        progress(len(sources), len(sources), "")
    if not scores:
        raise InputError(f"no clip in {sets or clips} has 3 frames to restore in a row: give longer clips")
    return RestorationReport(tuple(scores), protocol, tuple(published))


def _compressed(source: PairSource, crf: int) -> PairSource:
    group = f"{source.group} crf{crf}".strip()
    return replace(source, group=group, pairs=lambda: compressed(source.pairs(), crf))


def _restorers(
    weights: Sequence[str | Path | Restorer], baselines: Sequence[str], host: Host, settings: dict[str, Any]
) -> dict[str, Restorer]:
    if unknown := [name for name in baselines if name not in BASELINES]:
        raise InputError(f"baseline {unknown[0]!r} is not known: use {', '.join(BASELINES)}")
    found: dict[str, Restorer] = {name: BASELINES[name] for name in baselines}
    for each in weights:
        named = isinstance(each, (str, Path))
        name = Path(each).stem if named else type(each).__name__
        if name in found:
            raise InputError(f"two methods are called {name}: their scores would be mixed up; rename a file")
        found[name] = api.load_restorer(each, host=host, **settings) if named else each
    if not found:
        raise InputError("nothing to measure: give weights or baselines")
    for name, restorer in found.items():
        if restorer.scale != SCALE:
            raise InputError(f"{name} enlarges {restorer.scale} times: what is measured here needs {SCALE}")
    return found


def _measure(source: PairSource, restorers: dict[str, Restorer], host: Host, tile: Tile) -> list[FrameScore]:
    """All frames of a clip that are scored, method by method for each."""
    reading = _Clocked(source.pairs())
    pairs, *streams = _shared(reading, 1 + len(restorers))
    first = next(pairs, None)
    if first is None:
        return []
    answers = {
        name: _Restored((pair.low for pair in stream), reading, restorer, host, tile)
        for (name, restorer), stream in zip(restorers.items(), streams, strict=True)
    }
    scores: list[FrameScore] = []
    true_before: np.ndarray | None = None
    before: dict[str, np.ndarray] = {}
    for number, (pair, *made) in enumerate(zip(chain([first], pairs), *answers.values(), strict=True)):
        if not number and not source.scoring.ends:
            continue
        truth = pair.truth / np.float64(255)
        true_motion = None if true_before is None else motion(true_before, truth)
        for (name, answer), frame in zip(answers.items(), made, strict=True):
            picture = reduced(frame, max(frame.pixels.shape)) / np.float64(255)
            tof = None if true_motion is None else motion_error(motion(before[name], picture), true_motion)
            quality = source.scoring.scores(picture, truth)
            scores.append(FrameScore(source.group, source.name, number, name, *quality, tof, answer.seconds))
            before[name] = picture
        true_before = truth
    if not source.scoring.ends:
        scores = scores[: -len(restorers)]
    # A step that makes many frames takes all its time at the first of them, which may not even be scored.
    shares = {name: answers[name].total / (number + 1) for name, each in restorers.items() if each.span.makes > 1}
    return [replace(score, seconds=shares.get(score.method, score.seconds)) for score in scores]


def _shared(items: Iterator[Any], readers: int) -> list[Iterator[Any]]:
    """The same items for each reader, kept until the last one has had them; ``itertools.tee`` keeps dozens longer."""
    waiting: list[deque[Any]] = [deque() for _ in range(readers)]

    def stream(own: deque[Any]) -> Iterator[Any]:
        while True:
            if not own:
                try:
                    item = next(items)
                except StopIteration:
                    return
                for each in waiting:
                    each.append(item)
                del item
            yield own.popleft()

    return [stream(own) for own in waiting]


class _Clocked:
    """An iterator that knows how long it has taken so far."""

    def __init__(self, items: Iterable[Any]) -> None:
        self._items, self.total = iter(items), 0.0

    def __iter__(self) -> Iterator[Any]:
        return self

    def __next__(self) -> Any:
        start = time.perf_counter()
        try:
            return next(self._items)
        finally:
            self.total += time.perf_counter() - start


class _Restored:
    """A method's frames; ``seconds`` says what the newest took, without the reading that it may have caused, and
    ``total`` what all of them did."""

    def __init__(self, lows: Iterator[Frame], reading: _Clocked, restorer: Restorer, host: Host, tile: Tile) -> None:
        self._frames = _Clocked(api.restore(lows, restorer, host=host, tile=tile))
        self._reading, self.seconds, self.total = reading, 0.0, 0.0

    def __iter__(self) -> Iterator[Frame]:
        return self

    def __next__(self) -> Frame:
        before = self._frames.total - self._reading.total
        frame = next(self._frames)
        self.seconds = self._frames.total - self._reading.total - before
        self.total += self.seconds
        return frame
