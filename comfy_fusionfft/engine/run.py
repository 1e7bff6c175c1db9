"""Pull frames, plan steps, make pictures, emit in order, forget.

``run`` is a generator from end to end: it holds the frames of one window and the pictures of one
interval, whatever the length of the clip. Where copies run beside the computing, frames come a step later.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Collection, Iterable, Iterator
from dataclasses import replace
from fractions import Fraction
from functools import partial

from ..contract import Frame, Host, Model, Position
from ..errors import InputError
from ..timeline import Instant, Interval, Timing, plan, shot_around
from .fit import Fitted
from .store import Store, StoreWindow
from .transfer import Pending, Transfer, transfer_for


def run(
    frames: Iterable[Frame],
    model: Model,
    timing: Timing,
    host: Host,
    *,
    cuts: Collection[int] = (),
    total: int | None = None,
) -> Iterator[Frame]:
    """Frames in, frames at the timing's instants out.

    Source frames that fall on an output instant pass through untouched; made frames have the source's
    dtype and channels. ``cuts``: indices of source frames that begin a new shot; nothing is looked up across a
    cut, and between the two frames of one the nearer is shown again. ``total``: expected output frames, for
    progress only. Raises InputError for a clip without frames or with frames of different shapes, TimelineError
    for instants the model cannot make, DeviceError when memory does not suffice, and whatever the host raises on
    cancel.
    """
    transfer = transfer_for(host.device)
    promised = _promised(frames, model, timing, host, cuts, transfer)
    promises = _a_step_late(promised) if transfer.ahead else filter(None, promised)
    # map keeps no promise, and so no picture, while the next step needs room
    for done, frame in enumerate(map(_kept, promises), 1):
        host.progress(done, total, frame.pixels)
        yield frame


Promise = Callable[[], Frame]
"""Hands out a frame, whose work has begun."""


def _kept(promise: Promise) -> Frame:
    return promise()


def _a_step_late(promised: Iterator[Promise | None]) -> Iterator[Promise]:
    """Every promise once the step after it has begun, so that the device is not idle while a frame is waited for."""
    held: deque[Promise] = deque()
    stop: BaseException | None = None
    while stop is None:
        promise = None
        try:
            promise = next(promised)
        except BaseException as reason:  # the user's wish to stop, too: what was made before is kept
            stop = reason
        if promise is not None:
            held.append(promise)
        while promise is None and held:
            yield held.popleft()
    if not isinstance(stop, StopIteration):
        raise stop


def _promised(
    frames: Iterable[Frame],
    model: Model,
    timing: Timing,
    host: Host,
    cuts: Collection[int],
    transfer: Transfer,
) -> Iterator[Promise | None]:
    """All frames in order; None where the next step has begun, or an interval without one is over."""
    store = Store(transfer)
    fitted = Fitted(model, host)
    source = alike(frames)
    newest = -1

    def read_to(index: int) -> None:
        nonlocal newest
        while newest < index and (frame := next(source, None)) is not None:
            newest += 1
            store.add(Fraction(newest), frame)

    read_to(0)
    if newest < 0:
        raise InputError("the clip has no frames: check the input file or folder")
    first = store.frame(Fraction(0)).seconds

    def instants(start: Position) -> tuple[Position, ...]:
        ends = (store.frame(start).seconds, store.frame(start + 1).seconds)
        return _between(timing.inside(Interval(int(start), *ends, first)), int(start))

    index = 0
    while True:
        host.raise_if_cancelled()
        read_to(index + model.reach.after)
        if newest == index:
            break
        left, right = store.frame(Fraction(index)), store.frame(Fraction(index + 1))
        interval = Interval(index, left.seconds, right.seconds, first)
        if index + 1 in cuts:
            yield from _held(interval, timing, left, right)
        else:
            shot = shot_around(index, cuts, newest)
            yield from _interval(interval, store, transfer, fitted, timing, instants, shot)
        index += 1
        oldest = index - model.reach.before + 1
        store.forget(lambda p, oldest=oldest: p < oldest or p.denominator != 1)

    final = store.frame(Fraction(index))
    for instant in timing.last(index, final.seconds, first):
        yield partial(replace, final, seconds=instant.seconds)


def _held(interval: Interval, timing: Timing, left: Frame, right: Frame) -> Iterator[Promise | None]:
    """Output frames of an interval that is a cut: the two shots have nothing in common to interpolate."""
    for position, seconds in timing.inside(interval):
        share = position - interval.index
        yield partial(replace, left if share < Fraction(1, 2) else right, seconds=seconds, original=share == 0)
    yield None


def _interval(
    interval: Interval,
    store: Store,
    transfer: Transfer,
    fitted: Fitted,
    timing: Timing,
    inside: Callable[[Position], tuple[Position, ...]],
    shot: tuple[int, int],
) -> Iterator[Promise | None]:
    """Output frames of one interval, in order, as soon as each is made."""
    instants = list(timing.inside(interval))
    like = store.frame(Fraction(interval.index))
    height, width = like.pixels.shape[:2]
    made: dict[Position, Pending] = {}

    def ready() -> Iterator[Promise]:
        while instants:
            position, seconds = instants[0]
            if position == interval.index:
                yield partial(replace, like, seconds=seconds)
            elif position in made:
                yield partial(_frame, made.pop(position), seconds)
            else:
                return
            instants.pop(0)

    yield from ready()
    steps = plan(interval.index, inside(Fraction(interval.index)), fitted.model.reach, shot)
    for number, step in enumerate(steps):
        needed_later = {need for later in steps[number + 1 :] for need in later.needs}
        wanted = {instant.position for instant in instants}
        for positions, pictures in fitted(StoreWindow(store, step.needs, step.makes, inside), height, width):
            for position, picture in zip(positions, pictures, strict=True):
                if position in needed_later:
                    store.add_made(position, picture)
                if position in wanted:
                    made[position] = transfer.download(picture, like.pixels)
            del picture, pictures
            yield None
            yield from ready()
    if not steps:
        yield None


def _frame(pixels: Pending, seconds: Fraction) -> Frame:
    return Frame(pixels(), seconds, original=False)


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
