"""The public names, used as the README shows them."""

import numpy as np
import pytest
import torch

from comfy_fusionfft.dataset import RIFEDatasetMulti
from comfy_fusionfft.errors import InputError
from comfy_fusionfft.families.fusionfft.fuse import plain_answer
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


@pytest.fixture
def folder(tmp_path):
    import cv2

    (tmp_path / "clip").mkdir()
    for i in range(9):
        cv2.imwrite(str(tmp_path / "clip" / f"{i}.png"), picture(2.0 * i)[..., ::-1])
    return tmp_path / "clip"


def test_dataset_hands_over_nested_pairs_and_the_truth(folder, tmp_path):
    data = RIFEDatasetMulti([folder], steps=(2, 4), flow="dis", cache=tmp_path / "cache", num_anchors=3)
    assert len(data) == 4 + 6
    x, truth = data[1]  # frame 3 of 0 … 8, kept: 0 2 | 4 6 8
    assert x.frames.shape == (1, 3, 2, 3, 48, 64) and truth.shape == (1, 3, 48, 64)
    assert x.valid.tolist() == [[[True, True], [True, True], [False, True]]]
    assert float(x.time) == 0.5
    made, _ = plain_answer(x)
    inner = (..., slice(8, -8), slice(8, -8))
    averaged = x.frames[:, 0].mean(1)
    assert (made - truth)[inner].abs().mean() < 0.3 * (averaged - truth)[inner].abs().mean()
    assert float(data[4][0].time) == 0.25


def test_dataset_cache_is_bounded_and_gives_the_same_flow(folder, tmp_path):
    fresh = RIFEDatasetMulti([folder], flow="dis", cache_flows=False, precompute_flows=False)
    cached = RIFEDatasetMulti([folder], flow="dis", cache=tmp_path / "cache")
    files = list((tmp_path / "cache").iterdir())
    assert len(files) == 4  # one for each interval: links are read from the same flow
    for (a, _), (b, _) in zip((fresh[i] for i in range(4)), (cached[i] for i in range(4)), strict=True):
        assert (a.motion - b.motion).abs().max() < 0.05
    full = RIFEDatasetMulti([folder], flow="dis", cache=tmp_path / "small", cache_bytes=1)
    assert len(list((tmp_path / "small").iterdir())) == 1 and len(full) == 4
    with pytest.raises(InputError, match="none of 1 clips is longer than 20 frames"):
        RIFEDatasetMulti([folder], steps=(20,), flow="dis", cache_flows=False)
