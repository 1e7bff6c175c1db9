import pytest
import torch
from safetensors.torch import save_file

from comfy_fusionfft.errors import CheckpointError, InputError
from comfy_fusionfft.train.perceptual import Perceptual

FIRES = {"fire2": (64, 16, 64), "fire3": (128, 16, 64), "fire4": (128, 32, 128), "fire5": (256, 32, 128)}


@pytest.fixture
def file(tmp_path):
    """SqueezeNet's names and shapes, random values."""
    state = {"conv1.weight": torch.randn(64, 3, 3, 3) / 5, "conv1.bias": torch.zeros(64)}
    for name, (before, squeezed, expanded) in FIRES.items():
        for part, shape in {
            "squeeze1x1": (squeezed, before, 1, 1),
            "expand1x1": (expanded, squeezed, 1, 1),
            "expand3x3": (expanded, squeezed, 3, 3),
        }.items():
            fan = shape[1] * shape[2] ** 2
            state[f"{name}/{part}.weight"] = torch.randn(shape) * (2 / fan) ** 0.5
            state[f"{name}/{part}.bias"] = torch.zeros(shape[0])
    save_file(state, tmp_path / "net.safetensors")
    return tmp_path / "net.safetensors"


def test_distance_is_zero_for_equals_and_grows_with_damage(file):
    net, picture = Perceptual(file), torch.rand(1, 3, 64, 64)
    noise = torch.randn_like(picture)
    assert float(net(picture, picture)) == 0
    near, far = (float(net(picture + s * noise, picture)) for s in (0.02, 0.2))
    assert 0 < near < far


def test_gradients_reach_the_made_picture_alone(file):
    made, truth = (torch.rand(1, 3, 33, 47, requires_grad=True) for _ in range(2))
    Perceptual(file)(made, truth).backward()
    assert made.grad.abs().sum() > 0 and truth.grad is None


def test_wrong_files_are_said(tmp_path):
    with pytest.raises(InputError, match="needs SqueezeNet 1.1 weights, or leave it off"):
        Perceptual(tmp_path / "missing.safetensors")
    save_file({"conv1.weight": torch.zeros(1)}, tmp_path / "other.safetensors")
    with pytest.raises(CheckpointError, match="is not SqueezeNet 1.1: it has no fire2"):
        Perceptual(tmp_path / "other.safetensors")
