"""Memory that runs out at every kind of place where a run takes some: it goes on with less, or says what to do."""

import gc
import json
import os
import subprocess
import sys
import weakref
from fractions import Fraction as F
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from faults.starving import FULL, Starve, Watch, cpu_full, operations, spread
from places import ROOT
from small_nets import FMANET
from video.clips import info

from comfy_fusionfft import api
from comfy_fusionfft.contract import Frame
from comfy_fusionfft.engine import shortage
from comfy_fusionfft.errors import DeviceError
from comfy_fusionfft.families import fmanet, waveletvfi
from comfy_fusionfft.host import PlainHost
from comfy_fusionfft.timeline import Multiply
from comfy_fusionfft.video import open_clip, write_clip, write_video

HOST = PlainHost("cpu", "float32")
SAYS = r"^out of memory on cpu.*: close other programs that use this device, choose another, or make the clip smaller$"


def clip(count=2, height=24, width=32):
    random = torch.Generator().manual_seed(1)
    wide = torch.randint(0, 256, (height // 8, width // 8 + count, 3), generator=random).to(torch.uint8).numpy()
    wide = cv2.resize(wide, None, fx=8, fy=8, interpolation=cv2.INTER_CUBIC)
    return [Frame(torch.from_numpy(wide[:, 3 * k : 3 * k + width].copy()), F(k, 10)) for k in range(count)]


def random_network(family, config):
    torch.manual_seed(3)
    net = HOST.place(family.FAMILY.build(config))
    net.family = family.FAMILY
    return net


@pytest.fixture(scope="module")
def fused():
    source = api.load_flow("rife", host=HOST)
    model = api.load_method("fusion", source, host=HOST)
    return lambda: list(api.run(clip(), model, Multiply(4), HOST))


@pytest.fixture(scope="module")
def searched():
    model = api.load_method("rife", api.load_flow("auto", host=HOST), host=HOST)
    return lambda: list(api.run(clip(), model, Multiply(4), HOST))


@pytest.fixture(scope="module")
def wavelet():
    net = random_network(waveletvfi, waveletvfi.WaveletVFIConfig())
    model = api.load_method("waveletvfi", None, host=HOST, weights=net)
    return lambda: list(api.run(clip(), model, Multiply(2), HOST))


@pytest.fixture(scope="module")
def restored():
    restorer = api.load_restorer(random_network(fmanet, FMANET), host=HOST)
    return lambda: list(api.restore(clip(), restorer, host=HOST))


@pytest.fixture(scope="module")
def swapped():
    frames = clip()
    return lambda: list(api.spectral_swap(frames, frames, prior_kind="paired", host=HOST))


@pytest.fixture(scope="module")
def flowing():
    source = api.load_flow("rife", host=HOST)
    return lambda: list(api.extract_flow(clip(), flow=source, multi=4, host=HOST))


PLACES = {
    "upload": ("fused", "engine/picture:to_picture"),
    "flow": ("fused", "families/rife"),
    "chosen flow": ("searched", "families/multiflow"),
    "fuse": ("fused", "families/fusionfft"),
    "FFT": ("fused", "ops/spectral"),
    "wavelet": ("wavelet", "families/waveletvfi"),
    "restore": ("restored", "families/fmanet"),
    "download": ("fused", "engine/picture:to_pixels"),
    "swap": ("swapped", "ops/spectral"),
    "separate flow": ("flowing", "engine/flow:_found"),
}
GOES_ON = ("upload", "flow", "chosen flow", "fuse", "FFT")
"""With three instants at once: one at a time next."""


def levels(frames):
    return torch.stack([frame.pixels for frame in frames]).int()


@pytest.mark.parametrize("name", GOES_ON)
def test_short_once_and_the_run_goes_on_with_less(request, name):
    """Wherever in the phase it happens; PyTorch's own convolutions round differently, by at most one level of 255."""
    run, place = request.getfixturevalue(PLACES[name][0]), PLACES[name][1]
    with Watch(""):  # what is kept for good, such as folded weights, is kept now
        undisturbed = levels(run())
    for after, error in zip(spread(operations(place, run), 2), FULL, strict=True):
        with Starve(place, after, error) as starve:
            made = levels(run())
        assert starve.failed == 1
        assert (made - undisturbed).abs().max() <= 1, after
    assert torch.equal(levels(run()), undisturbed)


@pytest.mark.parametrize("name", PLACES)
def test_short_for_good_says_what_to_do(request, name):
    run, place = request.getfixturevalue(PLACES[name][0]), PLACES[name][1]
    with Watch("") as watch:
        undisturbed = run()
    for after, error in zip(spread(operations(place, run), 2), FULL, strict=True):
        with pytest.raises(DeviceError, match=SAYS), Starve(place, after, error, times=10**6) as starve:
            run()
        assert starve.failed and starve.total < 2 * watch.total
    again = run()
    assert len(again) == len(undisturbed)
    if name != "separate flow":
        assert torch.equal(levels(again), levels(undisturbed))


class Remembering(Starve):
    """Knows which of the tensors made since live on."""

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        made = super().__torch_dispatch__(func, types, args, kwargs)
        for each in made if isinstance(made, (tuple, list)) else [made]:
            if isinstance(each, torch.Tensor) and not isinstance(each, torch.nn.Parameter):
                self.made.append(weakref.ref(each))
        return made

    def alive(self):
        return sum(ref() is not None for ref in self.made)


@pytest.mark.parametrize("name", ["flow", "fuse", "FFT", "wavelet", "restore", "download"])
def test_nothing_of_a_failed_run_is_held(request, name):
    """Without the help of the garbage collector, which may come much later."""
    run, place = request.getfixturevalue(PLACES[name][0]), PLACES[name][1]
    with Watch(""):  # what is kept for good, such as grids, is kept now
        run()
    middle = operations(place, run) // 2
    gc.collect()
    gc.disable()
    try:
        starve = Remembering(place, middle, cpu_full, times=10**6)
        starve.made = []
        with starve, pytest.raises(DeviceError):
            run()
        assert len(starve.made) > 20
        assert starve.alive() <= 2  # a network may have folded a convolution anew
    finally:
        gc.enable()


@pytest.mark.parametrize("load", [
    lambda: api.load_flow("rife", host=HOST),
    lambda: api.load_method("fusion", object(), host=HOST),
])  # fmt: skip
@pytest.mark.parametrize("place", ["tensor_file:empty", "host:place"])
def test_loading_says_what_to_do(load, place):
    for after in spread(operations(place, load), 2):
        with pytest.raises(DeviceError, match="memory.*close other programs"), Starve(place, after, times=10**6):
            load()
    load()


@pytest.mark.parametrize("name", ["out.mkv", "out"])
def test_writing_says_what_to_do_and_leaves_nothing(tmp_path, monkeypatch, name):
    frames = clip(4)
    like = info(tmp_path, width=32, height=24)
    codec = "ffv1" if name.endswith("mkv") else None

    def full(*args, **options):
        np.empty(2**60, np.uint8)

    with monkeypatch.context() as patched:
        patched.setattr(write_video.VideoWriter, "_encode", full)
        patched.setattr("comfy_fusionfft.video.write_images.ImageWriter.add", full)
        with pytest.raises(DeviceError, match=r"^memory ran out while .*out.* was being written: close other programs"):
            write_clip(tmp_path / name, iter(frames), like=like, codec=codec)
    assert list(tmp_path.iterdir()) == []
    assert write_clip(tmp_path / name, iter(frames), like=like, codec=codec).frames == 4
    assert len(list(open_clip(tmp_path / name))) == 4


def test_every_library_s_way_to_say_it_is_known():
    with pytest.raises(cv2.error) as opencv:
        cv2.resize(np.zeros((2, 2), np.uint8), (2**30, 2**20))
    assert HOST.is_oom(opencv.value)
    with pytest.raises(cv2.error) as other:
        cv2.resize(np.zeros((0, 2), np.uint8), (3, 3))
    assert not HOST.is_oom(other.value)
    with pytest.raises(MemoryError) as numpy:
        np.empty(2**55, np.uint8)
    assert HOST.is_oom(numpy.value)
    with pytest.raises(RuntimeError) as pytorch:
        torch.empty(2**50)
    assert HOST.is_oom(pytorch.value)
    for text in ("cuFFT error: CUFFT_ALLOC_FAILED", "CUDA error: CUBLAS_STATUS_ALLOC_FAILED", "std::bad_alloc"):
        assert HOST.is_oom(RuntimeError(text))
    assert HOST.is_oom(RuntimeError("could not create a primitive"))


def test_a_thread_that_makes_no_kernels_any_more_is_gone_around(fused, monkeypatch):
    """oneDNN fails in it for good once it failed; from the next run on, another thread has that to do."""
    undisturbed = levels(fused())
    monkeypatch.setattr(shortage, "_thread", type(shortage._thread)())

    def no_kernel():
        return RuntimeError("could not create a primitive")

    with Starve("families/rife", 5, no_kernel):
        made = levels(fused())
    assert (made - undisturbed).abs().max() <= 1
    assert torch.backends.mkldnn.enabled
    threads = []
    monkeypatch.setattr(shortage.threading, "Thread", lambda *a, **k: threads.append(1) or original(*a, **k))
    assert torch.equal(levels(fused()), undisturbed) and threads


original = shortage.threading.Thread


def test_a_process_with_too_little_memory_goes_on_or_says_so_and_recovers():
    """The system itself refuses memory, wherever that hits."""
    script = Path(__file__).with_name("limited_run.py")
    one_core = {"OMP_NUM_THREADS": "1", "OMP_WAIT_POLICY": "passive", "PYTHONPATH": str(ROOT)}
    done = subprocess.run(
        [sys.executable, str(script)], capture_output=True, text=True, env=os.environ | one_core, timeout=120
    )
    assert done.returncode == 0, done.stderr[-2000:]
    *limited, free = map(json.loads, done.stdout.splitlines())
    assert free == {"frames": 3, "difference": 0}
    for told in limited:
        assert told.get("error", "out of memory on cpu").startswith("out of memory on cpu")
        assert told.get("difference", 0) <= 2 and (told.get("frames", 3) == 3)
    assert any("error" in told for told in limited)
