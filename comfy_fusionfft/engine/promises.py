"""Frames whose work has begun: where copies run beside the computing they are handed out a step later."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator

from ..contract import Frame

Promise = Callable[[], Frame]
"""Hands out a frame, whose work has begun."""


def kept(promised: Iterator[Promise | None], ahead: bool) -> Iterator[Frame]:
    """The frames in order. None among the promises: the next step has begun, or what belongs together is over.

    ahead: keep every promise once the step after it has begun, so that the device is not idle while it is waited for.
    """
    promises = _a_step_late(promised) if ahead else filter(None, promised)
    # map keeps no promise, and so no picture, while the next step needs room
    return map(_kept, promises)


def _kept(promise: Promise) -> Frame:
    return promise()


def _a_step_late(promised: Iterator[Promise | None]) -> Iterator[Promise]:
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
    try:
        if not isinstance(stop, StopIteration):
            raise stop
    finally:
        del stop  # it holds this frame, and so all that was at work, until somebody collects garbage
