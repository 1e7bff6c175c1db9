"""What only a GPU can show. Skipped, loudly, where there is none; FUSIONFFT_REQUIRE_GPU=1 makes that a failure."""

import os
from fractions import Fraction as F

import pytest
import torch

from comfy_fusionfft.api import interpolate
from comfy_fusionfft.contract import Frame
from comfy_fusionfft.families.multiflow.flow import MultiFlow
from comfy_fusionfft.families.multiflow.net import MultiFlowNet
from comfy_fusionfft.families.rife.config import RIFEConfig
from comfy_fusionfft.families.rife.flow import RIFEFlow
from comfy_fusionfft.families.rife.net import IFNet
from comfy_fusionfft.host import PlainHost
from comfy_fusionfft.ops.splat import splat_average
from comfy_fusionfft.ops.warp import backward_warp

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
