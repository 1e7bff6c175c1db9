"""Replay with graphs that are recorded and repeated here, in ordinary memory: as strict as those of a device."""

import logging
from typing import NamedTuple

import pytest
import torch

from comfy_fusionfft.ops import replay
from comfy_fusionfft.ops.replay import GRAPHS, Graph, Replay, forget_graphs

pytestmark = pytest.mark.usefixtures("without_gradients")


class Pair(NamedTuple):
    sum: torch.Tensor
    product: torch.Tensor


@pytest.fixture
def without_gradients(monkeypatch):
    monkeypatch.setattr(replay, "_replayable", lambda tensor: True)
    with torch.no_grad():
        yield


class Recorder:
    """Records functions; a replay overwrites the one result, as a device's graph does."""

    def __init__(self):
        self.recorded = self.replayed = 0

    def __call__(self, function, inputs):
        self.recorded += 1
        kept = [torch.zeros_like(tensor) for tensor in inputs]
        result = function(kept)

        def again():
            self.replayed += 1
            flat = [result] if isinstance(result, torch.Tensor) else result
            fresh = function(kept)
            for old, new in zip(flat, [fresh] if isinstance(fresh, torch.Tensor) else fresh, strict=True):
                if old is not None:
                    old.copy_(new)

        return Graph(kept, again, result)


def both(a, b, share=1.0, extra=None):
    return Pair(a + b * share, a * b if extra is None else a * b + extra[0])


def test_from_the_second_call_on_a_graph_answers_the_same():
    recorder = Recorder()
    fast = Replay(both, record=recorder)
    made = []
    for _ in range(4):
        a, b = torch.rand(2, 3), torch.rand(2, 3)
        made.append((fast(a, b, share=0.5), both(a, b, 0.5)))
    assert (recorder.recorded, recorder.replayed) == (1, 3)
    for got, want in made:  # compared at the end: no later replay may reach into an earlier result
        assert isinstance(got, Pair)
        assert torch.equal(got.sum, want.sum) and torch.equal(got.product, want.product)


def test_nested_arguments_none_and_one_tensor_as_result():
    recorder = Recorder()
    fast = Replay(lambda parts, nothing: parts[0][0] + parts[1] if nothing is None else None, record=recorder)
    for _ in range(3):
        a, b = torch.rand(3), torch.rand(3)
        assert torch.equal(fast(((a,), b), None), a + b)
    assert recorder.replayed == 2


def test_shapes_types_and_settings_have_their_own_graphs_and_the_oldest_goes():
    recorder = Recorder()
    fast = Replay(both, record=recorder)
    sizes = [torch.rand(n) for n in range(1, GRAPHS + 1)]
    for _ in range(2):  # by turns, as batches of two and one follow each other
        for a in sizes:
            fast(a, a)
    assert recorder.recorded == GRAPHS and len(fast._graphs) == GRAPHS
    fast(sizes[0], sizes[0])  # now the newest
    for settings in ({}, {"share": 0.25}):
        for _ in range(4):
            fast(sizes[0].double(), sizes[0].double(), **settings)
    assert recorder.recorded > GRAPHS and len(fast._graphs) == GRAPHS
    before = recorder.replayed
    fast(sizes[0], sizes[0])
    assert recorder.replayed == before + 1  # still there
    fast(sizes[1], sizes[1])
    assert recorder.replayed == before + 1  # gone


def test_what_never_comes_back_and_what_drives_itself_out_is_hardly_recorded():
    recorder = Recorder()
    fast = Replay(both, record=recorder)
    for n in range(1, 20):
        fast(torch.rand(n), torch.rand(n))
    assert recorder.recorded == 0
    for _ in range(100):
        for n in range(1, GRAPHS + 3):
            a, b = torch.rand(n), torch.rand(n)
            assert torch.equal(fast(a, b).product, a * b)
    assert recorder.recorded < GRAPHS + 10


def test_what_cannot_be_recorded_is_called_for_good(caplog, monkeypatch):
    monkeypatch.setattr(torch.cuda, "current_stream", lambda device: 1 / 0)
    calls = []
    fast = Replay(lambda a: calls.append(1) or a + 1)
    with caplog.at_level(logging.DEBUG, "comfy_fusionfft.ops.replay"):
        for n in range(5):
            assert fast(torch.tensor([float(n)])).item() == n + 1
    assert len(calls) == 5 and len(caplog.records) == 1 and "no CUDA graph" in caplog.text


def test_gradients_other_devices_and_autocast_call_the_function(monkeypatch):
    recorder = Recorder()
    fast = Replay(both, record=recorder)
    a = torch.rand(3, requires_grad=True)
    with torch.enable_grad():
        for _ in range(3):
            fast(a, a).sum.sum().backward()
    assert a.grad is not None
    monkeypatch.setattr(torch, "is_autocast_enabled", lambda: True)
    for _ in range(3):
        fast(a, a)
    monkeypatch.undo()
    for _ in range(3):  # without the fixture's patch a CPU is no device to record on
        fast(a.detach(), a.detach())
    assert recorder.recorded == 0


def test_graphs_go_when_the_weights_have_moved():
    recorder = Recorder()
    net = torch.nn.Linear(3, 3)
    fast = Replay(net, net.parameters, recorder)
    x = torch.rand(2, 3)
    for _ in range(3):
        fast(x)
    net.load_state_dict({k: v + 1 for k, v in net.state_dict().items()})  # new values in the old place
    assert torch.equal(fast(x), net(x)) and recorder.recorded == 1
    net.weight.data = torch.rand(3, 3)
    for _ in range(3):
        assert torch.equal(fast(x), net(x))
    assert recorder.recorded == 2


def test_all_graphs_can_be_given_up_for_their_memory():
    recorder = Recorder()
    fast = Replay(both, record=recorder)
    a = torch.rand(3)
    for _ in range(3):
        fast(a, a)
    forget_graphs()
    assert not fast._graphs
    for _ in range(3):
        fast(a, a)
    assert recorder.recorded == 2
