"""Two runs at once in one process, over the same networks, sources and models."""

import threading

import cv2
import numpy as np
import pytest
import torch
from faults.test_run_memory import HOST, clip, levels, random_network
from small_nets import FMANET

from comfy_fusionfft import api
from comfy_fusionfft.families import fmanet, waveletvfi
from comfy_fusionfft.ops.dis import DenseInverseSearch
from comfy_fusionfft.ops.memory import Memory
from comfy_fusionfft.ops.replay import Graph, Replay
from comfy_fusionfft.timeline import Multiply


def at_once(*works):
    """What each gives, all begun together."""
    gate, found = threading.Barrier(len(works)), [None] * len(works)

    def go(number):
        gate.wait()
        try:
            found[number] = works[number]()
        except BaseException as error:
            found[number] = error

    threads = [threading.Thread(target=go, args=(number,)) for number in range(len(works))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for each in found:
        if isinstance(each, BaseException):
            raise each
    return found


def running(model, frames, multi):
    return lambda: levels(api.run(frames, model, Multiply(multi), HOST))


MODELS = {
    "fusion on rife": lambda: api.load_method("fusion", api.load_flow("rife", host=HOST), host=HOST),
    "blend on chosen flow": lambda: api.load_method("rife", api.load_flow("auto", host=HOST), host=HOST),
    "blend on dis": lambda: api.load_method("rife", api.load_flow("dis", host=HOST), host=HOST),
    "wavelet": lambda: api.load_method(
        "waveletvfi", None, host=HOST, weights=random_network(waveletvfi, waveletvfi.WaveletVFIConfig())
    ),
}


@pytest.mark.parametrize("name", MODELS)
def test_one_model_serves_two_clips_at_once(name):
    model = MODELS[name]()
    works = [running(model, clip(3, 24, 32), 2), running(model, clip(3, 32, 24), 2)]
    alone = [work() for work in works]
    for together, expected in zip(at_once(*works), alone, strict=True):
        assert torch.equal(together, expected)


def test_one_restorer_serves_two_clips_at_once():
    restorer = api.load_restorer(random_network(fmanet, FMANET), host=HOST)
    works = [lambda f=f: levels(api.restore(f, restorer, host=HOST)) for f in (clip(3), clip(3, 32, 24))]
    alone = [work() for work in works]
    for together, expected in zip(at_once(*works), alone, strict=True):
        assert torch.equal(together, expected)


def test_a_search_is_shared():
    """OpenCV's works in memory of its own, and ends the process where two use it at once."""
    search, random = DenseInverseSearch("ultrafast"), np.random.default_rng(0)
    pictures = [cv2.GaussianBlur(random.integers(0, 256, s).astype(np.uint8), (0, 0), 2) for s in ((60, 80), (90, 50))]
    pairs = [(picture, np.roll(picture, 2, 1)) for picture in pictures]
    alone = [DenseInverseSearch("ultrafast")(*pair) for pair in pairs]
    works = [lambda pair=pair: [search(*pair) for _ in range(40)] for pair in pairs]
    for together, expected in zip(at_once(*works), alone, strict=True):
        assert all(np.array_equal(each, expected) for each in together)


def test_memory_is_lent_to_one_at_a_time():
    memory = Memory()

    def work(mark):
        for _ in range(3000):
            mine = memory.empty(16).fill_(mark)
            if not bool((mine == mark).all()):
                return False
            del mine
        return True

    assert at_once(*(lambda mark=mark: work(mark) for mark in range(4))) == [True] * 4


def test_a_recorded_graph_is_replayed_by_one_at_a_time(monkeypatch):
    """Its inputs lie in one place, whoever gives them."""
    monkeypatch.setattr("comfy_fusionfft.ops.replay._replayable", lambda tensor: True)

    def record(function, inputs):
        kept, result = [torch.empty_like(tensor) for tensor in inputs], torch.empty_like(inputs[0])
        return Graph(kept, lambda: result.copy_(function(kept)), result)

    double = Replay(lambda tensor: tensor * 2, record=record)

    def work(value):
        with torch.inference_mode():
            given = torch.full((50,), float(value))
            return all(torch.equal(double(given), given * 2) for _ in range(400))

    assert at_once(*(lambda value=value: work(value) for value in range(4))) == [True] * 4
