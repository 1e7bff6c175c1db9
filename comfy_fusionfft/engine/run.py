"""Pull frames, plan steps, make pictures, emit in order, forget.

``run`` is a generator from end to end: it holds the frames of one window and the pictures of one
interval, whatever the length of the clip. Where copies run beside the computing, frames come a step later.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Iterator
from dataclasses import dataclass, replace
from fractions import Fraction
from functools import partial
from itertools import dropwhile
from typing import Any, Literal

import torch

from ..contract import Frame, Host, Model, Position
from ..errors import InputError
from ..ops.confidence import predicted_psnr
from ..timeline import Instant, Interval, Part, Timing
from .fit import Fitted
from .promises import Promise, kept
from .shortage import in_words
from .steps import plan, shot_around
from .store import Store, StoreWindow
from .transfer import Pending, Transfer, transfer_for

AtCut = Literal["hold", "skip"]
_MAPS = torch.empty(0, 0, 2)
"""What the maps of a frame are like."""


@dataclass(frozen=True, slots=True)
class Manner:
    """What is done where nothing can be interpolated, and what is told about the rest.

    cuts: numbers of source frames that begin a new shot: nothing is looked up across a cut.
    at_cut: between the two frames of a cut ``hold`` shows the nearer one again, ``skip`` shows nothing.
    hold_below: made frames whose predicted PSNR is below so many dB are replaced by the nearer source frame.
    maps: made frames carry their occlusion and confidence.
    """

    cuts: Collection[int] = ()
    at_cut: AtCut = "hold"
    hold_below: float | None = None
    maps: bool = False


_PLAIN, _ALL = Manner(), Part()


def run(
    frames: Iterable[Frame],
    model: Model,
    timing: Timing,
    host: Host,
    *,
    manner: Manner = _PLAIN,
    part: Part = _ALL,
    total: int | None = None,
    done: int = 0,
) -> Iterator[Frame]:
    """Frames in, frames at the timing's instants out.

    Source frames that fall on an output instant pass through untouched; made frames have the source's dtype and
    channels. ``part``: the frames are not all of the clip's, or not all of their intervals are to be made; what is
    made does not depend on it as long as frames come from ``reach.before - 1`` before its start on. Where a model
    puts out two planes more than a picture has, they are its maps (contract.Frame). ``total``: expected output
    frames, ``done``: those made earlier, both for progress only.

    Raises InputError for a clip without frames or with frames of different shapes, TimelineError for instants the
    model cannot make, DeviceError when memory does not suffice, and whatever the host raises on cancel.
    """
    transfer = transfer_for(host.device)
    promised = _promised(frames, model, timing, host, manner, part, transfer)
    made = kept(promised, transfer.ahead)
    new = dropwhile(lambda frame: part.after is not None and frame.seconds <= part.after, made)
    with in_words(host):
        for number, frame in enumerate(new, done + 1):
            host.progress(number, total, frame.pixels)
            yield frame


def _promised(
    frames: Iterable[Frame],
    model: Model,
    timing: Timing,
    host: Host,
    manner: Manner,
    part: Part,
    transfer: Transfer,
) -> Iterator[Promise | None]:
    """All frames in order; None where the next step has begun, or an interval without one is over."""
    store = Store(transfer)
    fitted = Fitted(model, host)
    source = alike(frames)
    newest = part.first - 1

    def read_to(index: int) -> None:
        nonlocal newest
        while newest < index and (frame := next(source, None)) is not None:
            newest += 1
            store.add(Fraction(newest), frame)

    index = part.start
    read_to(index)
    if newest < index:
        raise InputError("the clip has no frames: check the input file or folder")
    first = store.frame(Fraction(0)).seconds if part.began is None else part.began

    def instants(start: Position) -> tuple[Position, ...]:
        ends = (store.frame(start).seconds, store.frame(start + 1).seconds)
        return _between(timing.inside(Interval(int(start), *ends, first)), int(start))

    while part.stop is None or index < part.stop:
        host.raise_if_cancelled()
        read_to(index + model.reach.after)
        if newest == index:
            break
        left, right = store.frame(Fraction(index)), store.frame(Fraction(index + 1))
        interval = Interval(index, left.seconds, right.seconds, first)
        if index + 1 in manner.cuts:
            yield from _held(interval, timing, left, right, manner)
        else:
            shot = shot_around(index, manner.cuts, newest, min(part.first, 0))
            yield from _Stretch(interval, store, transfer, fitted, manner).made(timing, instants, shot)
        index += 1
        oldest = index - model.reach.before + 1
        store.forget(lambda p, oldest=oldest: p < oldest or p.denominator != 1)

    if part.stop is None:
        final = store.frame(Fraction(index))
        for position, seconds in timing.last(index, final.seconds, first):
            yield partial(replace, final, seconds=seconds, position=position)


def _held(interval: Interval, timing: Timing, left: Frame, right: Frame, manner: Manner) -> Iterator[Promise | None]:
    """Output frames of an interval that is a cut: the two shots have nothing in common to interpolate."""
    for instant in timing.inside(interval):
        if manner.at_cut == "hold" or instant.position == interval.index:
            yield partial(_nearer, interval, instant, left, right)
    yield None


def _nearer(interval: Interval, instant: Instant, left: Frame, right: Frame, **told: Any) -> Frame:
    """The source frame that is nearer to the instant, shown there."""
    position, seconds = instant
    share = position - interval.index
    near = left if share < Fraction(1, 2) else right
    return replace(near, seconds=seconds, position=position, original=share == 0, **told)


@dataclass(frozen=True, slots=True)
class _Stretch:
    """One interval and what its pictures are made with."""

    interval: Interval
    store: Store
    transfer: Transfer
    fitted: Fitted
    manner: Manner

    def made(
        self, timing: Timing, inside: Callable[[Position], tuple[Position, ...]], shot: tuple[int, int]
    ) -> Iterator[Promise | None]:
        """Output frames of the interval, in order, as soon as each is made."""
        index = self.interval.index
        instants = list(timing.inside(self.interval))
        left = self.store.frame(Fraction(index))
        channels = max(3, left.pixels.shape[2])
        pictures: dict[Position, tuple[Pending, Pending | None]] = {}

        def ready() -> Iterator[Promise]:
            while instants:
                instant = instants[0]
                if instant.position == index:
                    yield partial(replace, left, seconds=instant.seconds, position=instant.position)
                elif instant.position in pictures:
                    yield self._promise(instant, *pictures.pop(instant.position))
                else:
                    return
                instants.pop(0)

        yield from ready()
        steps = plan(index, inside(Fraction(index)), self.fitted.model.reach, shot)
        for number, step in enumerate(steps):
            needed_later = {need for later in steps[number + 1 :] for need in later.needs}
            wanted = {instant.position for instant in instants}
            window = StoreWindow(self.store, step.needs, step.makes, inside)
            for positions, batch in self.fitted(window, *left.pixels.shape[:2]):
                for position, picture in zip(positions, batch, strict=True):
                    colour, maps = picture[:channels], picture[channels:]
                    if position in needed_later:
                        self.store.add_made(position, colour)
                    if position in wanted:
                        told = self.transfer.download(maps, _MAPS) if len(maps) else None
                        pictures[position] = (self.transfer.download(colour, left.pixels), told)
                del picture, batch, colour, maps
                yield None
                yield from ready()
        if not steps:
            yield None

    def _promise(self, instant: Instant, picture: Pending, maps: Pending | None) -> Promise:
        if maps is None:
            return partial(_frame, instant, picture)
        right = self.store.frame(Fraction(self.interval.index + 1))
        left = self.store.frame(Fraction(self.interval.index))
        return partial(_explained, self.interval, instant, picture, maps, left, right, self.manner)


def _frame(instant: Instant, picture: Pending) -> Frame:
    return Frame(picture(), instant.seconds, original=False, position=instant.position)


def _explained(
    interval: Interval,
    instant: Instant,
    picture: Pending,
    pending: Pending,
    left: Frame,
    right: Frame,
    manner: Manner,
) -> Frame:
    maps = pending()
    told = {"confidence": predicted_psnr(maps), "maps": maps if manner.maps else None}
    if manner.hold_below is not None and told["confidence"] < manner.hold_below:
        return _nearer(interval, instant, left, right, **told)
    return replace(_frame(instant, picture), **told)


def _between(instants: Iterable[Instant], index: int) -> tuple[Position, ...]:
    return tuple(sorted({instant.position for instant in instants if instant.position > index}))


def alike(frames: Iterable[Frame]) -> Iterator[Frame]:
    """The frames as they come; InputError at the first whose shape or type differs from the clip's."""
    shape = dtype = None
    for number, frame in enumerate(frames):
        if shape is None:
            shape, dtype = frame.pixels.shape, frame.pixels.dtype
        elif (frame.pixels.shape, frame.pixels.dtype) != (shape, dtype):
            raise InputError(
                f"frame {number} is {_words(frame.pixels.shape)} {frame.pixels.dtype}, but the clip began with "
                f"{_words(shape)} {dtype}: all frames of a clip must be alike, so resize or split it"
            )
        yield frame


def _words(shape: tuple[int, ...]) -> str:
    return f"{shape[1]}×{shape[0]} with {shape[2]} channel(s)"
