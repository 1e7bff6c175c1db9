"""What only a GPU can show. Skipped, loudly, where there is none; FUSIONFFT_REQUIRE_GPU=1 makes that a failure."""

import os
from fractions import Fraction as F

import pytest
import torch

from comfy_fusionfft.api import interpolate
from comfy_fusionfft.contract import Frame, Reach
from comfy_fusionfft.engine import run
from comfy_fusionfft.engine.picture import pack, restored, stored, unpack
from comfy_fusionfft.families.multiflow.flow import MultiFlow
from comfy_fusionfft.families.multiflow.net import MultiFlowNet
from comfy_fusionfft.families.rife.config import RIFEConfig
from comfy_fusionfft.families.rife.flow import RIFEFlow
from comfy_fusionfft.families.rife.net import IFNet
from comfy_fusionfft.host import PlainHost
from comfy_fusionfft.ops.replay import Replay
from comfy_fusionfft.ops.splat import splat_average
from comfy_fusionfft.ops.warp import backward_warp
from comfy_fusionfft.timeline import Multiply

pytestmark = pytest.mark.gpu


@pytest.fixture(autouse=True)
def _gpu() -> None:
    if not torch.cuda.is_available():
        if os.environ.get("FUSIONFFT_REQUIRE_GPU") == "1":
            pytest.fail("FUSIONFFT_REQUIRE_GPU=1, but torch sees no CUDA device")
        pytest.skip("no CUDA device: GPU paths were NOT tested")


def test_warp_and_splat_agree_with_the_cpu():
    image, flow = torch.rand(2, 3, 65, 97), torch.randn(2, 2, 65, 97) * 5
    assert torch.allclose(backward_warp(image.cuda(), flow.cuda()).cpu(), backward_warp(image, flow), atol=1e-5)
    for a, b in zip(splat_average(image.cuda(), flow.cuda()), splat_average(image, flow), strict=True):
        assert torch.allclose(a.cpu(), b, atol=1e-4)


@pytest.mark.parametrize(("dtype", "tolerance"), [("float32", 2e-3), ("float16", 3e-2), ("bfloat16", 1e-1)])
def test_rife_agrees_with_the_cpu(dtype, tolerance):
    torch.manual_seed(0)
    agrees_with_the_cpu(RIFEFlow, IFNet(RIFEConfig()), dtype, tolerance)


@pytest.mark.parametrize(("dtype", "tolerance"), [("float32", 2e-3), ("float16", 1e-2), ("bfloat16", 3e-2)])
def test_multiflow_agrees_with_the_cpu(dtype, tolerance):
    torch.manual_seed(0)
    net = MultiFlowNet()
    torch.nn.init.normal_(net.choose.last.weight, std=0.1)
    agrees_with_the_cpu(MultiFlow, net, dtype, tolerance)


def agrees_with_the_cpu(kind, net, dtype, tolerance):
    frames = [Frame(torch.rand(100, 150, 3), F(i)) for i in range(3)]

    def made(host):
        source = kind(host.place(net), scale=1.0)
        return [f.pixels for f in interpolate(frames, multi=3, flow=source, host=host)]

    on_cpu = made(PlainHost("cpu", "float32"))
    on_gpu = made(PlainHost("cuda", dtype))
    for a, b in zip(on_cpu, on_gpu, strict=True):
        assert (a - b).abs().mean() < tolerance


@pytest.mark.parametrize("method", ["rife", "fusion"])
def test_maps_agree_with_the_cpu(method):
    torch.manual_seed(0)
    frames = [Frame(torch.rand(100, 150, 3), F(i)) for i in range(4)]

    def made(device):
        host = PlainHost(device, "float32")
        return list(interpolate(frames, multi=2, flow="dis", method=method, maps=True, host=host))

    for a, b in zip(made("cpu"), made("cuda"), strict=True):
        assert (a.maps is None) == (b.maps is None) and (a.confidence is None) == (b.confidence is None)
        if a.maps is not None:
            assert (a.maps - b.maps).abs().mean() < 2e-3 and abs(a.confidence - b.confidence) < 0.1


def test_memory_does_not_grow_with_the_clip():
    host = PlainHost("cuda")

    def peak(count):
        torch.cuda.reset_peak_memory_stats()
        frames = (Frame(torch.rand(180, 320, 3), F(i)) for i in range(count))
        for _ in interpolate(frames, multi=2, flow="rife", host=host):
            pass
        return torch.cuda.max_memory_allocated()

    peak(4)
    assert peak(60) <= peak(8) * 1.01


@pytest.mark.parametrize("dtype", [torch.uint8, torch.uint16, torch.float16, torch.float32])
@pytest.mark.parametrize("channels", [1, 3])
def test_pixels_go_there_and_back_bit_for_bit(dtype, channels):
    peak = {torch.uint8: 256, torch.uint16: 65536}.get(dtype)
    levels = torch.arange(256 * 257 * channels) % peak if peak else torch.rand(256 * 257 * channels)
    pixels = levels.view(256, 257, channels).to(dtype)
    back = restored(pack(unpack(stored(pixels).cuda(), dtype)[0], pixels).cpu(), dtype)
    tolerance = 1e-6 if channels == 1 and not peak else 0  # grey is the mean of three equal channels
    assert back.dtype == dtype
    assert (back.double() - pixels.double()).abs().max() <= tolerance


class LeftAfterWork:
    """Hands out the left picture, but only after much computing: copies that do not wait for it show another."""

    reach = Reach()

    def __init__(self, rounds):
        self.rounds = rounds

    def __call__(self, window):
        left, right = window.images
        made = left
        for _ in range(self.rounds):
            made = torch.where(right > 2, made.flip(-1), made) + 0
        return made


@pytest.mark.parametrize("dtype", [torch.uint8, torch.uint16, torch.float32])
@pytest.mark.parametrize(("rounds", "keep"), [(0, True), (100, True), (100, False)])
def test_copies_beside_the_computing_never_show_another_frame(dtype, rounds, keep):
    peak = {torch.uint8: 255, torch.uint16: 65535}.get(dtype, 1)
    clip = [(torch.rand(540, 960, 3) * peak).to(dtype) for _ in range(8)]
    frames = (Frame(clip[i % 8], F(i)) for i in range(40))
    held = []
    for number, frame in enumerate(run(frames, LeftAfterWork(rounds), Multiply(2), PlainHost("cuda"))):
        if keep:
            held.append(frame.pixels)
        else:
            assert torch.equal(frame.pixels.double(), clip[number // 2 % 8].double())
    for number, pixels in enumerate(held):
        assert torch.equal(pixels.double(), clip[number // 2 % 8].double())


def test_the_engine_never_makes_the_device_wait():
    clip = [torch.rand(120, 160, 3) for _ in range(4)]
    list(run((Frame(p, F(i)) for i, p in enumerate(clip)), LeftAfterWork(1), Multiply(2), PlainHost("cuda")))
    torch.cuda.set_sync_debug_mode("error")
    try:
        list(run((Frame(p, F(i)) for i, p in enumerate(clip)), LeftAfterWork(1), Multiply(2), PlainHost("cuda")))
    finally:
        torch.cuda.set_sync_debug_mode("default")


def small_net():
    return torch.nn.Sequential(torch.nn.Conv2d(3, 16, 3), torch.nn.PReLU(16), torch.nn.Conv2d(16, 4, 3)).cuda()


def test_a_replayed_graph_gives_what_the_function_gives():
    net = small_net()
    fast = Replay(lambda x, shares: (net(x) * shares, x), net.parameters)
    made = []
    for number in range(12):
        size = (64, 48) if number % 3 else (48, 64)
        x, shares = torch.rand(2, 3, *size, device="cuda"), torch.rand(2, 1, 1, 1, device="cuda")
        with torch.inference_mode() if number % 2 else torch.no_grad():
            made.append((fast(x, shares), (net(x) * shares, x)))
    assert len(fast._graphs) == 2
    for got, want in made:
        for a, b in zip(got, want, strict=True):
            assert torch.allclose(a, b, rtol=1e-4, atol=1e-5)


def test_a_graph_does_not_outlive_the_place_of_its_weights():
    net = small_net()
    fast = Replay(net, net.parameters)
    x = torch.rand(1, 3, 40, 40, device="cuda")
    with torch.inference_mode():
        for _ in range(3):
            fast(x)
    net.cpu()
    torch.cuda.empty_cache()
    with torch.no_grad():
        for parameter in net.parameters():
            parameter.mul_(0.5)
    net.cuda()
    with torch.inference_mode():
        for _ in range(3):
            assert torch.allclose(fast(x), net(x), rtol=1e-4, atol=1e-5)


def test_what_waits_for_the_device_is_never_recorded_but_works():
    fast = Replay(lambda x: x * float(x.max()))
    with torch.inference_mode():
        for _ in range(4):
            x = torch.rand(5, 7, device="cuda")
            assert torch.allclose(fast(x), x * x.max())
    assert not fast._graphs and not fast._works
