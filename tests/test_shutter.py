"""Exposure: a mean of light, within one shot, of whatever type the pixels are."""

from fractions import Fraction as F

import numpy as np
import pytest
import torch

from comfy_fusionfft.contract import Frame
from comfy_fusionfft.shutter import expose


def frame(value, position, seconds, dtype=torch.uint8, channels=3):
    return Frame(torch.full((2, 3, channels), value, dtype=dtype), F(seconds), False, F(position))


def exposed(samples, **options):
    return list(expose(samples, F(10), F(0), **options))


@pytest.mark.parametrize(("dtype", "top"), [(torch.uint8, 255), (torch.uint16, 65535), (torch.float32, 1.0)])
def test_black_and_white_mix_as_light_does(dtype, top):
    """Two thirds of the light of white are 84 % of its level, not 67 %."""
    samples = [frame(0, F(5, 6), F(5, 60), dtype), frame(top, 1, F(6, 60), dtype), frame(top, F(7, 6), F(7, 60), dtype)]
    (out,) = exposed(samples)
    assert out.seconds == F(1, 10) and out.position == 1 and not out.original and out.pixels.dtype == dtype
    share = float(out.pixels.float().mean()) / top
    assert share == pytest.approx(1.055 * (2 / 3) ** (1 / 2.4) - 0.055, abs=0.003)


def test_equal_samples_stay_what_they_are_and_a_lone_one_passes_untouched():
    level = torch.arange(256, dtype=torch.uint8).reshape(16, 16, 1).repeat(1, 1, 3)
    same = [Frame(level, F(s, 60), False, F(s, 6)) for s in (5, 6, 7)]
    alone = Frame(level, F(2, 10), True, F(2))
    first, second = exposed([*same, alone])
    assert torch.equal(first.pixels, level) and second is alone


def test_nothing_of_another_shot_shines_in():
    """A cut before frame 2: what is nearer to frame 1 belongs to the shot before."""
    samples = [frame(10, F(4, 3), F(16, 60)), frame(200, F(8, 5), F(18, 60)), frame(200, F(9, 5), F(20, 60))]
    (mixed,), (kept,) = exposed(samples), exposed(samples, cuts={2})
    assert int(mixed.pixels[0, 0, 0]) < 190 and int(kept.pixels[0, 0, 0]) == 200


def test_a_picture_whose_middle_lies_beyond_the_end_is_not_made():
    samples = [frame(9, 1, F(6, 60)), frame(9, F(7, 6), F(7, 60)), frame(9, F(11, 6), F(11, 60))]
    assert [f.seconds for f in exposed(samples)] == [F(1, 10)]


def test_alpha_is_mixed_as_cover_and_colour_behind_it_is_kept():
    red = torch.tensor([255, 0, 0, 255], dtype=torch.uint8).expand(2, 2, 4)
    nothing = torch.zeros(2, 2, 4, dtype=torch.uint8)
    (out,) = exposed([Frame(nothing, F(5, 60), False, F(5, 6)), Frame(red, F(6, 60), False, F(1))])
    assert out.pixels[0, 0].tolist() == [255, 0, 0, 128]
    assert np.isfinite(out.pixels.float().numpy()).all()
