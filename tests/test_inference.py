"""The public names, used as the README shows them."""

import numpy as np
import pytest
import torch

from comfy_fusionfft.errors import InputError
from comfy_fusionfft.host import PlainHost
from comfy_fusionfft.inference import FusionInference, build_fusion_net, check_gradients


def picture(shift, height=48, width=64):
    y, x = np.mgrid[:height, :width].astype(np.float32)
    planes = [127 + 60 * np.sin((x - shift) / 5 + c) + 60 * np.cos(y / 4) for c in range(3)]
    return np.stack(planes, -1).clip(0, 255).astype(np.uint8)


@pytest.fixture(scope="module")
def model():
    return FusionInference("none", "dis", UHD=False, scale=1.0, host=PlainHost("cpu", "float32"))


def test_one_frame_between_two(model):
    made = model.interpolate_frame(picture(0), picture(4), timestep=0.5)
    assert made.dtype == np.uint8 and made.shape == (48, 64, 3)
    error = np.abs(made.astype(float) - picture(2))[8:-8, 8:-8].mean()
    assert error < 4


def test_neighbours_bend_motion(model):
    """Under acceleration the true middle frame is off the straight line; neighbours show by how much."""
    at = [picture(2.0 * s * s) for s in (0, 1, 2, 3)]
    truth = picture(2.0 * 1.5 * 1.5).astype(float)
    straight = model.interpolate_frame(at[1], at[2])
    bent = model.interpolate_frame(at[1], at[2], before=at[:1], after=at[3:])
    inner = (slice(12, -12), slice(12, -12))
    assert np.abs(bent - truth)[inner].mean() < 0.8 * np.abs(straight - truth)[inner].mean()


def test_tensors_come_back_as_tensors(model):
    a, b = (torch.from_numpy(picture(s)).permute(2, 0, 1)[None] / 255 for s in (0, 4))
    made = model.interpolate_frame(a, b, 0.25)
    assert made.shape == a.shape and made.dtype == a.dtype
    assert torch.equal(model.interpolate_frame(a, b, 0), a) and torch.equal(model.interpolate_frame(a, b, 1), b)


def test_settings_are_plain_floats(model):
    before = model.interpolate_frame(picture(0), picture(4))
    model.spectral_alpha = 1.0
    assert model.spectral_alpha == 1.0
    after = model.interpolate_frame(picture(0), picture(4))
    model.spectral_alpha = 0.3
    assert not np.array_equal(before, after)


def test_bad_input_is_said(model):
    with pytest.raises(InputError, match="timestep 1.5 is outside 0 to 1"):
        model.interpolate_frame(picture(0), picture(4), 1.5)
    with pytest.raises(InputError, match=r"6 anchors asked for: use 1 to 5"):
        build_fusion_net(num_anchors=6)


def test_build_and_check_gradients():
    net = build_fusion_net(num_anchors=3, base_channels=32, use_temporal_guidance=True)
    with pytest.raises(InputError, match="parameters without a gradient: trajectory"):
        check_gradients(net)
    for parameter in net.parameters():
        parameter.grad = torch.ones_like(parameter)
    assert set(check_gradients(net)) == {name for name, _ in net.named_parameters()}
    next(net.parameters()).grad[...] = float("nan")
    with pytest.raises(InputError, match="not finite"):
        check_gradients(net)
