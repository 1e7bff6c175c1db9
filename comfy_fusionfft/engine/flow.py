"""Flow of a whole clip, interval by interval: the first of the separate blocks."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from fractions import Fraction
from typing import NamedTuple

import torch

from ..contract import Flow, FlowSource, Frame, Host
from ..timeline import Interval, Timing
from .run import alike
from .store import Store


class IntervalFlow(NamedTuple):
    """Flow for ``times`` (fractions of the interval, ascending) between frames ``index`` and ``index + 1``."""

    index: int
    times: tuple[Fraction, ...]
    flow: Flow


def find_flow(frames: Iterable[Frame], source: FlowSource, timing: Timing, host: Host) -> Iterator[IntervalFlow]:
    """The flow that the timing's instants need, cropped to the frames' own size; two frames are held at a time.

    Intervals without an instant of their own get flow for their middle, which wider anchors are chained by.
    """
    store = Store(host.device, source.modulus, source.padding)
    index, first = -1, None
    for index, frame in enumerate(alike(frames)):
        store.add(Fraction(index), frame)
        first = frame if first is None else first
        if index == 0:
            continue
        host.raise_if_cancelled()
        left, right = Fraction(index - 1), Fraction(index)
        interval = Interval(index - 1, store.frame(left).seconds, frame.seconds, first.seconds)
        times = sorted({i.position - left for i in timing.inside(interval)} - {Fraction(0)}) or [Fraction(1, 2)]
        images = [store.picture(position)[:, :3].clamp(0, 1) for position in (left, right)]
        features = [
            store.once("features", (p,), lambda image=image, p=p: source.features(image, p))
            for p, image in zip((left, right), images, strict=True)
        ]
        local = torch.tensor([float(t) for t in times], device=host.device)
        height, width = frame.pixels.shape[:2]
        with torch.inference_mode():
            flow, mask = source.flow(*images, *features, local)
        yield IntervalFlow(index - 1, tuple(times), Flow(flow[..., :height, :width], mask[..., :height, :width]))
        store.forget(lambda position, right=right: position < right)
        host.progress(index, None, frame.pixels)
