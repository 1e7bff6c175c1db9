"""Nothing piles up over many runs, and nothing stays once a model is gone."""

from __future__ import annotations

import gc
import weakref
from pathlib import Path

import numpy as np
import pytest
import torch
from properties.arbitrary import Clip, How, host, network

from comfy_fusionfft import api
from comfy_fusionfft.ops import spectral

RUNS, EVERY = 500, 20
PAGE = 4096
KINDS = (
    How("rife", "rife"),
    How("fusion", "rife", settings=(("fusion", "small"),)),
    How("recursive", "dis"),
    How("fusion", "multiflow", settings=(("fusion", "none"),)),
    How("waveletvfi"),
)


def tiny(number: int) -> Clip:
    return Clip(3, 16 + number % 5, 20 + number % 3, channels=(3, 4, 1)[number % 3], seed=number)


def run(how: How, number: int) -> list[weakref.ref]:
    """One small interpolation; what it made, to see it die."""
    clip = tiny(number)
    made = list(api.interpolate(clip.frames(), multi=2, rate=clip.rate, **how.arguments()))
    return [weakref.ref(frame.pixels) for frame in made]


def resident() -> int:
    """Bytes of this process in memory."""
    return int(Path("/proc/self/statm").read_text().split()[1]) * PAGE


def slope(values: list[int]) -> float:
    """The middle of all slopes between two of the values (Theil and Sen): a few outliers do not move it."""
    values, places = np.asarray(values, dtype=np.float64), np.arange(len(values))
    first, second = np.triu_indices(len(values), 1)
    return float(np.median((values[second] - values[first]) / (places[second] - places[first])))


@pytest.mark.skipif(not Path("/proc/self/statm").is_file(), reason="reads /proc: this system has none")
def test_nothing_grows_over_500_runs():
    """What Python holds stays the same number of objects; what the process holds grows by less than 4 KiB a run."""
    alive: list[weakref.ref] = []
    objects, bytes_ = [], []
    for number in range(RUNS):
        alive += run(KINDS[number % len(KINDS)], number)
        if number >= RUNS // 5 and number % EVERY == 0:  # caches are full by then
            gc.collect()
            objects.append(len(gc.get_objects()))
            bytes_.append(resident())
            assert not any(made() is not None for made in alive)
            alive.clear()
    assert slope(objects) <= 1, f"{slope(objects):.1f} objects in {EVERY} runs"
    assert slope(bytes_) / EVERY <= 4096, f"{slope(bytes_) / EVERY:.0f} bytes a run"


def tensors() -> dict[int, torch.Tensor]:
    gc.collect()
    return {id(thing): thing for thing in gc.get_objects() if type(thing) is torch.Tensor}


def fresh(name: str) -> torch.nn.Module:
    """A network of its own, not the one that all tests share."""
    return network.__wrapped__(name)


@pytest.mark.parametrize("name", ["rife", "rife carrying", "multiflow", "fusion", "waveletvfi"])
def test_nothing_stays_after_a_model_is_gone(name):
    net = fresh(name)
    settings = {"method": "rife", "flow": net, "host": host()}
    if name == "fusion":
        settings = {"method": "fusion", "flow": "dis", "fusion": net, "host": host()}
    elif name == "waveletvfi":
        settings = {"method": "waveletvfi", "weights": net, "host": host()}
    if settings["method"] == "rife":
        settings["flow"] = api.load_flow(net, host=settings["host"])
    clip = tiny(0)
    stream = api.interpolate(clip.frames(), multi=2, rate=clip.rate, **settings)
    made = list(stream)
    watched = [weakref.ref(thing) for thing in (net, *net.parameters(), *(f.pixels for f in made))]
    del net, settings, stream, made
    spectral.radial_ramp.cache_clear()
    gc.collect()
    left = [ref() for ref in watched if ref() is not None]
    assert not left, f"{len(left)} of {len(watched)} live on, held by {gc.get_referrers(left[0])[:3]}"


@pytest.mark.parametrize("how", KINDS, ids=lambda how: f"{how.method} on {how.source}")
def test_a_run_that_is_left_in_the_middle_leaves_nothing(how):
    run(how, 0)
    before = set(tensors())
    clip = tiny(0)
    stream = api.interpolate(clip.frames(), multi=4, rate=clip.rate, **how.arguments())
    next(stream), next(stream)
    stream.close()
    del stream, clip
    spectral.radial_ramp.cache_clear()
    left = [tensor.shape for number, tensor in tensors().items() if number not in before]
    assert not left
