"""Overlapped copies on streams that only write down what was asked of them: order is all that can go wrong."""

from contextlib import contextmanager

import pytest
import torch

from comfy_fusionfft.engine.picture import to_picture, to_pixels
from comfy_fusionfft.engine.transfer import PINNED_FRAMES, Direct, Overlapped, transfer_for
from comfy_fusionfft.errors import DeviceError, InputError

CPU = torch.device("cpu")


class Streams:
    """torch.cuda's streams and events; ``log`` has what happened to which of them."""

    def __init__(self):
        self.log = []
        self.now = computing = self._stream("compute")
        names = iter(("up", "down"))
        self.Stream = lambda device: self._stream(next(names))
        self.Event = lambda blocking=False: self._event()
        self.current_stream = lambda device: self.now
        self.computing = computing
        self.count = 0

    @contextmanager
    def stream(self, stream):
        before, self.now = self.now, stream
        yield
        self.now = before

    def _stream(self, name):
        class Stream:
            wait_event = staticmethod(lambda event: self.log.append((name, "waits", event.number)))

        Stream.name = name
        return Stream

    def _event(self):
        self.count += 1
        number = self.count

        class Event:
            record = staticmethod(lambda stream: self.log.append((stream.name, "records", number)))
            synchronize = staticmethod(lambda: self.log.append(("cpu", "waits", number)))

        Event.number = number
        return Event


@pytest.fixture
def streams(monkeypatch):
    streams = Streams()
    monkeypatch.setattr(torch.Tensor, "record_stream", lambda tensor, stream: streams.log.append((stream.name, "uses")))
    return streams


@pytest.fixture(params=[torch.uint8, torch.uint16, torch.float16, torch.float32])
def pixels(request):
    peak = {torch.uint8: 255, torch.uint16: 65535}.get(request.param, 1)
    return (torch.rand(9, 7, 3) * peak).to(request.param)


def test_each_device_has_its_way():
    assert isinstance(transfer_for(CPU), Direct) and not Direct.ahead
    assert isinstance(transfer_for(torch.device("mps")), Direct)
    assert Overlapped.ahead


def test_upload_is_begun_at_once_and_computing_waits_for_it_alone(streams, pixels):
    pending = Overlapped(CPU, streams).upload(pixels)
    assert streams.log == [("up", "records", 1)]
    assert torch.equal(pending(), to_picture(pixels, CPU))
    assert streams.log[1:] == [("compute", "waits", 1), ("compute", "uses")]


def test_download_follows_the_computing_and_only_the_taker_waits(streams, pixels):
    picture = torch.rand(3, 9, 7) * 1.2 - 0.1
    pending = Overlapped(CPU, streams).download(picture, pixels)
    begun = [
        ("compute", "records", 1),
        ("down", "waits", 1),
        ("down", "records", 2),
        ("down", "uses"),
        ("down", "uses"),
    ]
    assert streams.log == begun
    want = to_pixels(picture, pixels)
    got = pending()
    assert got.dtype == pixels.dtype and torch.equal(got.double(), want.double())
    assert streams.log[len(begun) :] == [("cpu", "waits", 2)]


def test_bad_pixels_are_refused_when_the_picture_is_wanted(streams):
    pending = Overlapped(CPU, streams).upload(torch.full((4, 4, 3), float("nan")))
    with pytest.raises(InputError, match="NaN or infinite"):
        pending()


def test_a_full_device_falls_back_to_converting_on_demand(streams, monkeypatch):
    transfer = Overlapped(CPU, streams)
    pixels, picture = torch.rand(4, 5, 3), torch.rand(3, 4, 5)

    def full(*args):
        raise torch.cuda.OutOfMemoryError("CUDA out of memory")

    monkeypatch.setattr("comfy_fusionfft.engine.transfer.pack", full)
    assert torch.equal(transfer.download(picture, pixels)(), to_pixels(picture, pixels))
    monkeypatch.setattr("comfy_fusionfft.engine.transfer._pinned", full)
    assert torch.equal(transfer.upload(pixels)(), to_picture(pixels, CPU))


def test_frames_that_are_kept_leave_pinned_memory(streams, monkeypatch):
    pinned = []

    def pin(tensor):
        pinned.append(torch.empty_like(tensor))
        return pinned[-1]

    monkeypatch.setattr("comfy_fusionfft.engine.transfer._pinned_like", pin)
    transfer = Overlapped(CPU, streams)
    like = torch.zeros(4, 5, 3)

    def taken():
        got = transfer.download(torch.rand(3, 4, 5), like)()
        return got, got.data_ptr() == pinned.pop().data_ptr()

    dropped = [taken()[1] for _ in range(3 * PINNED_FRAMES)]
    assert all(dropped)
    kept = [taken() for _ in range(2 * PINNED_FRAMES)]
    assert [is_pinned for _, is_pinned in kept] == [True] * PINNED_FRAMES + [False] * PINNED_FRAMES


def test_pictures_and_frames_reuse_the_memory_of_those_no_longer_held():
    transfer = Direct(CPU)
    pixels = torch.rand(8, 9, 3)
    first = transfer.upload(pixels)()
    place = first.data_ptr()
    view = first[0, :, 2:4]
    del first
    other = transfer.upload(pixels)()
    assert other.data_ptr() != place  # a view still shows the first
    del view
    assert transfer.upload(pixels)().data_ptr() == place


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
@pytest.mark.parametrize("dtype", [torch.uint8, torch.float32])
def test_a_made_picture_that_is_not_finite_is_said_when_it_is_taken(streams, value, dtype):
    """Among integers nobody could tell it from black."""
    picture, like = torch.rand(3, 9, 7), torch.zeros(9, 7, 3, dtype=dtype)
    picture[1, 2, 3] = value
    for transfer in (Direct(CPU), Overlapped(CPU, streams)):
        pending = transfer.download(picture, like)
        with pytest.raises(DeviceError, match="a made picture holds NaN or infinite values: run again in float32"):
            pending()
