"""Every frame of a clip made anew at its own instant, such as larger and sharper.

``restore`` is a generator from end to end, as ``run`` is: it holds the frames that a step sees and the pictures that
two steps share, whatever the length of the clip. A shot is restored as if it were a clip of its own.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator
from fractions import Fraction
from functools import partial
from itertools import islice
from typing import NamedTuple

from torch import Tensor

from ..contract import Ends, Frame, Host, Position, Restorer, Span
from ..errors import InputError
from .fit import Fitted
from .promises import Promise, kept
from .room import Tile, room_for
from .run import alike
from .shortage import in_words
from .store import Store, StoreWindow
from .transfer import Pending, transfer_for


def restore(
    frames: Iterable[Frame],
    restorer: Restorer,
    host: Host,
    *,
    cuts: Collection[int] = (),
    tile: Tile = "auto",
    done: int = 0,
    total: int | None = None,
) -> Iterator[Frame]:
    """Frames in, as many frames out, ``restorer.scale`` times as high and wide, of the clip's dtype and channels.

    frames: where they are to be read from anywhere, a clip or sequence with ``frames(start)``.
    cuts: numbers of source frames that begin a new shot: nothing is looked up across a cut.
    tile: work on pictures in overlapping squares of this side; ``none``: on whole ones; ``auto``: as memory demands.
        A network that looks at a picture as a whole makes slightly different ones in tiles.
    done: frames made earlier, which are not made again; what follows them does not depend on it.
    total: number of frames, for progress only.

    Raises InputError for a clip without frames or with frames of different shapes, DeviceError when memory does not
    suffice, and whatever the host raises on cancel.
    """
    shot = max((cut for cut in cuts if cut <= done), default=0)
    step = _step_that_makes(done, shot, restorer.span)
    seen_first = max(shot, step - restorer.span.context)
    source = frames.frames(seen_first) if hasattr(frames, "frames") else islice(frames, seen_first, None)
    steps = _Run(restorer, host, cuts, alike(source), seen_first, tile)
    with in_words(host):
        for number, frame in enumerate(kept(steps.promised(shot, step, done), steps.transfer.ahead), done + 1):
            host.progress(number, total, frame.pixels)
            yield frame


def _step_that_makes(frame: int, shot: int, span: Span) -> int:
    """The first frame of the first step, within the shot that begins at ``shot``, that has a part in ``frame``."""
    stride = span.makes - span.blend
    return shot + max(0, (frame - shot - span.makes) // stride + 1) * stride


class _Run:
    """What lasts from step to step."""

    def __init__(
        self,
        restorer: Restorer,
        host: Host,
        cuts: Collection[int],
        source: Iterator[Frame],
        first: int,
        tile: Tile,
    ) -> None:
        self.transfer = transfer_for(host.device)
        self._span, self._host, self._cuts, self._source = restorer.span, host, cuts, source
        self._restorer, self._tile = restorer, tile
        self._fitted: Fitted | None = None
        self._store = Store(self.transfer)
        self._newest = first - 1

    def promised(self, shot: int, start: int, done: int) -> Iterator[Promise | None]:
        """All frames from number ``done`` on; the first step is at ``start``, in the shot that begins at ``shot``."""
        span = self._span
        carried: dict[int, Tensor] = {}
        self._read_to(start)
        if self._newest < start and not done:
            raise InputError("the clip has no frames: check the input file or folder")
        while self._newest >= start:
            self._host.raise_if_cancelled()
            self._read_to(start + span.makes + span.context)
            end = min((cut for cut in self._cuts if shot < cut <= self._newest), default=self._newest + 1)
            step = Step(shot, start, min(start + span.makes, end), end)
            over = step.stop == end
            settled = step.stop if over else step.stop - span.blend
            made = self._made(step)
            for number, picture in enumerate(made, start):
                if number in carried:
                    picture = carried.pop(number).lerp(picture, (number - start + 1) / (span.blend + 1))
                if number >= settled:
                    carried[number] = picture.clone()  # not a part of what would keep the whole step alive
                elif number >= done:
                    yield self._promise(number, picture)
                del picture
            del made
            yield None
            shot, start = end if over else shot, settled
            self._read_to(start)
            oldest = start - (0 if over else span.context)
            self._store.forget(lambda position, oldest=oldest: position < oldest)

    def _made(self, step: Step) -> Iterator[Tensor]:
        """The step's pictures in order."""
        window = StoreWindow(self._store, step.sees(self._span), step.makes(), lambda left: ())
        height, width = self._store.frame(Fraction(step.start)).pixels.shape[:2]
        if self._fitted is None:
            room = room_for(self._restorer, self._host, height, width, self._tile)
            self._fitted = Fitted(self._restorer, self._host, whole=True, tile=room.tile)
        for _, pictures in self._fitted(window, height, width):
            yield from pictures.unbind()

    def _promise(self, number: int, picture: Tensor) -> Promise:
        source = self._store.frame(Fraction(number))
        channels = max(3, source.pixels.shape[2])
        return partial(_frame, self.transfer.download(picture[:channels], source.pixels), source.seconds, number)

    def _read_to(self, index: int) -> None:
        while self._newest < index and (frame := next(self._source, None)) is not None:
            self._newest += 1
            self._store.add(Fraction(self._newest), frame)


class Step(NamedTuple):
    """Frames ``start`` to ``stop`` - 1 are made, of a shot that begins at ``shot`` and is known up to ``known`` - 1."""

    shot: int
    start: int
    stop: int
    known: int

    def makes(self) -> tuple[Position, ...]:
        return tuple(Fraction(number) for number in range(self.start, self.stop))

    def sees(self, span: Span) -> tuple[Position, ...]:
        wanted = range(self.start - span.context, self.stop + span.context)
        seen = (_within(number, self.shot, self.known - 1, span.ends) for number in wanted)
        return tuple(Fraction(number) for number in seen if number is not None)


def _within(number: int, first: int, last: int, ends: Ends) -> int | None:
    """The frame that stands for ``number`` in a shot of the frames ``first`` to ``last``."""
    if first <= number <= last or ends == "none":
        return number if first <= number <= last else None
    if ends == "replicate" or first == last:
        return min(max(number, first), last)
    period = 2 * (last - first)
    place = (number - first) % period
    return first + min(place, period - place)


def _frame(picture: Pending, seconds: Fraction, number: int) -> Frame:
    return Frame(picture(), seconds, original=False, position=Fraction(number))
