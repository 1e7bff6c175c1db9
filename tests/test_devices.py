"""The branches for devices other than the CPU, as far as a device without numbers can show them: they run, and what
comes out has the right shape, type and place. ``test_gpu.py`` compares the numbers where there is a GPU."""

import pytest
import torch

from comfy_fusionfft.contract import Flow
from comfy_fusionfft.families.fusionfft.inputs import FusionInput
from comfy_fusionfft.families.fusionfft.net import FusionNet
from comfy_fusionfft.families.multiflow import candidates
from comfy_fusionfft.families.multiflow.net import MultiFlowNet, look
from comfy_fusionfft.ops import confidence, spectral
from comfy_fusionfft.ops.warp import blend

META = torch.device("meta")


@pytest.fixture(autouse=True)
def _no_gradients():
    with torch.no_grad():
        yield


def empty(*shape: int, dtype: torch.dtype = torch.float32) -> torch.Tensor:
    return torch.empty(shape, dtype=dtype, device=META)


def check(made: torch.Tensor, *shape: int) -> None:
    assert (made.shape, made.dtype, made.device) == (shape, torch.float32, META)


@pytest.mark.parametrize("tile", [None, 64])
@pytest.mark.parametrize("listed", [False, True])
@pytest.mark.parametrize("channels", [3, 4])
def test_fusion(tile, listed, channels):
    net = FusionNet().to(META, torch.bfloat16, memory_format=torch.channels_last).eval()
    pictures = empty(1, 3, 2, channels, 100, 150)
    frames = [empty(1, channels, 100, 150)] * 6 if listed else pictures
    valid = torch.ones(2, 3, 2, dtype=torch.bool, device=META)
    x = FusionInput(frames, empty(2, 3, 2, 2, 100, 150), empty(2, 1, 100, 150), valid, empty(2))
    check(net(x, tile=tile), 2, channels, 100, 150)


def test_multiflow():
    net = MultiFlowNet().to(META, torch.float16, memory_format=torch.channels_last).eval()
    found, time, picture = empty(1, 6, 2, 2, 48, 64), empty(1), look(empty(1, 3, 96, 128))
    guesses = candidates.at_times(found, time, candidates.weights(found))
    flow, mask = net.found(picture, picture, *guesses, time)
    check(flow, 1, 4, 96, 128)
    check(mask, 1, 1, 96, 128)


def test_swap_and_blend():
    picture = empty(1, 3, 100, 150)
    check(spectral.delta(picture, spectral.magnitude(picture)), 1, 3, 100, 150)
    check(blend(picture, picture, Flow(empty(2, 4, 100, 150), empty(2, 1, 100, 150))), 2, 3, 100, 150)


@pytest.mark.parametrize("farther", [0, 2])
def test_confidence(farther):
    made, frames = empty(1, 3, 90, 150), [confidence.shrunk(empty(1, 3, 90, 150))] * 2
    ways = [empty(1, 2, 90, 150)] * (2 + farther)
    check(confidence.maps(made, frames, ways, empty(1, 1, 90, 150), 0.25), 1, 2, 90, 150)
