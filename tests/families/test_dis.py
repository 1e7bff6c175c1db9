from functools import partial

import cv2
import numpy as np
import pytest
import torch

from comfy_fusionfft.errors import InputError
from comfy_fusionfft.families.dis import DISFlow
from comfy_fusionfft.ops.warp import blend


def texture(height, width, seed=0):
    rng = np.random.default_rng(seed)
    coarse = rng.random((height // 8 + 3, width // 8 + 3, 3), dtype=np.float32)
    return cv2.resize(coarse, (width, height), interpolation=cv2.INTER_CUBIC).clip(0, 1)


def picture(array):
    return torch.from_numpy(np.ascontiguousarray(array)).permute(2, 0, 1)[None]


@pytest.fixture
def pair():
    """A window on a texture that moves by (6, -4): what it shows slides left by 6 and down by 4."""
    wide = texture(140, 180)
    return picture(wide[20:116, 20:148]), picture(wide[16:112, 26:154])


def test_flow_of_a_known_shift(pair):
    source = DISFlow()
    times = torch.tensor([0.25, 0.5])
    flow, mask = source.flow(*pair, None, None, times)
    assert flow.shape == (2, 4, 96, 128) and flow.dtype == torch.float32
    assert mask.shape == (2, 1, 96, 128) and mask.dtype == torch.float32
    inner = flow[:, :, 16:-16, 16:-16].mean((2, 3))
    for found, t in zip(inner, times.tolist(), strict=True):
        # content moves by (-6, 4) per unit of time, so it is found at +t·6 on the left, (1 - t)·-6 on the right
        expected = torch.tensor([6 * t, -4 * t, -6 * (1 - t), 4 * (1 - t)])
        assert (found - expected).abs().max() < 0.2


def test_mask_is_the_time_inside_and_turns_at_the_edges(pair):
    mask = DISFlow().flow(*pair, None, None, torch.tensor([0.25, 0.5])).mask.sigmoid()[..., 30:-30, :]
    assert mask[..., 30:-30].mean((1, 2, 3)).tolist() == pytest.approx([0.75, 0.5], abs=0.02)
    # What enters on the right is seen by the right picture alone; what leaves on the left, by the left one.
    assert mask[1, ..., -1].median() < 0.15 and mask[1, ..., 0].median() > 0.85


def test_blend_beats_averaging(pair):
    wide = texture(140, 180)
    truth = picture(wide[18:114, 23:151])
    made = blend(*pair, DISFlow().flow(*pair, None, None, torch.tensor([0.5])))
    error = (made - truth).square().mean()
    assert error < 0.05 * (sum(pair) / 2 - truth).square().mean()


def test_features_are_what_is_searched_and_results_repeat(pair):
    source = DISFlow()
    features = [source.features(p) for p in pair]
    assert features[0].pixels.dtype == np.uint8 and features[0].pixels.shape == (96, 128)
    first = source.flow(*pair, *features, torch.tensor([0.5]))
    source.flow(*[p[..., :50, :60] for p in pair], None, None, torch.tensor([0.5]))  # another size in between
    again = DISFlow().flow(*pair, None, None, torch.tensor([0.5]))
    assert torch.equal(first.flow, again.flow) and torch.equal(first.mask, again.mask)


def test_a_pair_is_searched_once_and_threads_change_nothing(pair, request):
    request.addfinalizer(partial(torch.set_num_threads, torch.get_num_threads()))
    torch.set_num_threads(1)
    alone = DISFlow().flow(*pair, None, None, torch.tensor([0.3, 0.6]))
    torch.set_num_threads(3)
    source = DISFlow()
    features = [source.features(p) for p in pair]
    source.flow(*pair, *features, torch.tensor([0.3]))
    source.searches = ()  # the second instant needs none
    later = source.flow(*pair, *features, torch.tensor([0.6]))
    torch.testing.assert_close(later.flow[0], alone.flow[1])
    torch.testing.assert_close(later.mask[0], alone.mask[1])


@pytest.mark.parametrize("size", [(1, 1), (1, 200), (7, 5), (15, 40), (16, 16), (47, 49), (300, 3)])
def test_any_size(size):
    image = picture(texture(*size))
    flow, mask = DISFlow().flow(image, image, None, None, torch.tensor([0.5]))
    assert flow.shape == (1, 4, *size) and mask.shape == (1, 1, *size)
    assert flow.abs().max() < 1e-2 and torch.isfinite(mask).all()


@pytest.mark.parametrize("scale", [0.25, 0.5, 2.0])
def test_scale_keeps_the_units(pair, scale):
    flow, _ = DISFlow(scale=scale).flow(*pair, None, None, torch.tensor([0.5]))
    assert flow.shape[-2:] == (96, 128)
    inner = flow[0, :, 24:-24, 24:-24].mean((1, 2))
    assert (inner - torch.tensor([3.0, -2.0, -3.0, 2.0])).abs().max() < 0.6


def test_wrong_options_are_explained():
    with pytest.raises(InputError, match="use ultrafast, fast, medium"):
        DISFlow(preset="best")
    with pytest.raises(InputError, match="scale of 0"):
        DISFlow(scale=0)
