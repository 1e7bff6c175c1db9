"""Flow of a whole clip, pair by pair: the first of the separate blocks."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from fractions import Fraction
from typing import NamedTuple

import torch
from torch import Tensor

from ..contract import Flow, FlowSource, Frame, Host, Position, Reach, Window
from ..ops.between import flow_between, link_time
from ..timeline import Interval, Timing
from .fit import Fitted, batch_limit
from .run import alike
from .shortage import in_words
from .store import Store, StoreWindow
from .transfer import transfer_for


class PairFlow(NamedTuple):
    """Flow for ``times`` (fractions of the pair's span, ascending) between frames ``left`` and ``right``."""

    left: int
    right: int
    times: tuple[Fraction, ...]
    flow: Flow


@dataclass(frozen=True, slots=True)
class _Asking:
    """A source as a model: flow and mask in one tensor, so that batches, tiles and memory are the engine's."""

    source: FlowSource
    reach: Reach = Reach()

    def __call__(self, window: Window) -> Tensor:
        return torch.cat(flow_between(self.source, window, 0, 1, window.times), dim=1)


def find_flow(
    frames: Iterable[Frame],
    source: FlowSource,
    timing: Timing,
    host: Host,
    *,
    nested: int = 1,
    total: int | None = None,
) -> Iterator[PairFlow]:
    """The flow that the timing's instants need, on the host's device, of the frames' own size.

    Intervals without an instant of their own get flow for their middle, which wider anchors are chained by.
    nested: also the wider pairs up to this anchor around every interval with instants, each after the
        nearest one. 2·nested frames are held at a time. total: number of frames, for progress only.
    """
    with in_words(host):
        yield from _found_for_all(frames, source, timing, host, nested, total)


def _found_for_all(
    frames: Iterable[Frame], source: FlowSource, timing: Timing, host: Host, nested: int, total: int | None
) -> Iterator[PairFlow]:
    store = Store(transfer_for(host.device))
    asking = Fitted(_Asking(source), host)
    clip = alike(frames)
    newest = -1

    def read_to(index: int) -> None:
        nonlocal newest
        while newest < index and (frame := next(clip, None)) is not None:
            newest += 1
            store.add(Fraction(newest), frame)

    read_to(0)
    first = store.frame(Fraction(0)).seconds if newest == 0 else Fraction(0)
    index = 0
    while True:
        read_to(index + nested)
        if newest <= index:
            return
        left, right = store.frame(Fraction(index)), store.frame(Fraction(index + 1))
        inside = timing.inside(Interval(index, left.seconds, right.seconds, first))
        wanted = sorted({instant.position for instant in inside} - {Fraction(index)})
        for k in range(nested if wanted else 1):
            start, end = index - k, index + 1 + k
            if start < 0 or end > newest:
                break
            instants = tuple(wanted) or (index + Fraction(1, 2),)
            ends = (Fraction(start), Fraction(end))
            window = StoreWindow(store, ends, instants, lambda start, instants=instants: instants)
            times = tuple((t - start) / (end - start) for t in instants)
            yield PairFlow(start, end, times, _found(asking, window, left))
        index += 1
        oldest = index - nested + 1
        store.forget(lambda position, oldest=oldest: position < oldest)
        host.progress(index, total and total - 1, right.pixels)


def _found(asking: Fitted, window: StoreWindow, like: Frame) -> Flow:
    height, width = like.pixels.shape[:2]
    limit = batch_limit(height, width)
    parts = {}
    for batch in _batches(window, limit):
        asked = StoreWindow(window.store, window.positions, batch, window.instants)
        for positions, made in asking(asked, height, width):
            parts |= dict(zip(positions, made, strict=True))
    both = torch.stack([parts[t] for t in window.times])
    return Flow(both[:, :4], both[:, 4:])


def _batches(window: StoreWindow, limit: int) -> Iterator[tuple[Position, ...]]:
    """The instants in the very groups in which fusion asks: the middle one first, for its link, then the rest.

    Networks may round a picture differently in another batch; like this separate blocks and the whole agree.
    """
    start, end = window.positions
    times, held = window.times, None
    if end - start == 1:
        held = link_time(start, times)
        yield (held,)
    for first in range(0, len(times), limit):
        if batch := tuple(t for t in times[first : first + limit] if t != held):
            yield batch
