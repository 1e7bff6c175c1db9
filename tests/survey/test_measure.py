from fractions import Fraction

import numpy as np
import pytest
import torch
from survey.clips import as_frames, of
from train.scenes import pan, texture

from comfy_fusionfft.contract import Frame
from comfy_fusionfft.errors import InputError
from comfy_fusionfft.survey import find_cuts, find_repeats, make_edit, survey
from comfy_fusionfft.survey.times import Times


def test_a_few_numbers_per_frame():
    seen = of(pan(8, 96, 160, 4))
    assert len(seen) == 8 and (seen.width, seen.height) == (160, 96)
    assert seen.explained[0] == 1 and seen.motion[0] == seen.change[0] == 0
    assert seen.explained[1:].min() > 0.95
    # 4 of 160 pixels
    assert float(np.median(seen.motion[1:])) == pytest.approx(2.5, abs=0.3)
    for name in ("explained", "change", "stir", "hum", "motion", "light", "bridge"):
        values = getattr(seen, name)
        assert values.shape == (8,) and values.dtype == np.float32 and np.isfinite(values).all()


def test_motion_is_a_share_of_the_picture_whatever_its_size():
    small, large = of(pan(4, 96, 160, 4)), of(pan(4, 480, 800, 20))
    assert float(small.motion[1:].mean()) == pytest.approx(float(large.motion[1:].mean()), rel=0.15)


@pytest.mark.parametrize("frames", [1, 2])
def test_clips_of_a_frame_or_two(frames):
    seen = of(pan(frames, 96, 128, 3))
    assert len(seen) == frames and find_cuts(seen) == ()
    assert make_edit(seen, dedupe=True).kept == frames


@pytest.mark.parametrize("size", [(1, 1), (2, 700), (16, 16), (480, 8)])
def test_any_size(size):
    seen = of([texture(*size, seed) for seed in range(5)])
    assert len(seen) == 5 and find_repeats(seen, find_cuts(seen)).repeated.shape == (5,)


def test_black_all_through():
    seen = of([np.zeros((90, 160, 3), np.uint8)] * 30)
    assert find_cuts(seen) == () and make_edit(seen, dedupe=True).kept == 30


KINDS = {
    "uint16": lambda p: p.astype(np.uint16) * 257,
    "float32": lambda p: p.astype(np.float32) / 255,
    "float16": lambda p: torch.from_numpy(p.astype(np.float32) / 255).half(),
    "bfloat16": lambda p: torch.from_numpy(p.astype(np.float32) / 255).bfloat16(),
    "float64": lambda p: torch.from_numpy(p.astype(np.float64) / 255),
    "rgba": lambda p: np.dstack([p, np.full(p.shape[:2], 255, np.uint8)]),
}


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("height", [96, 400])
def test_every_kind_of_pixels_tells_the_same(kind, height):
    pictures = [*pan(4, height, height * 2, 3), *pan(4, height, height * 2, 3, 7)]
    plain, other = of(pictures), of([KINDS[kind](picture) for picture in pictures])
    assert find_cuts(other) == find_cuts(plain) == (4,)
    assert np.allclose(other.explained, plain.explained, atol=0.02)
    assert np.allclose(other.stir, plain.stir, atol=1.5)


def test_grey_is_what_its_colour_would_be():
    grey = [picture.mean(-1, keepdims=True).astype(np.uint8) for picture in pan(4, 96, 128, 3)]
    assert np.allclose(of(grey).stir, of([g.repeat(3, -1) for g in grey]).stir)


def test_what_is_behind_alpha_does_not_count():
    random = np.random.default_rng(0)
    clear = np.zeros((96, 128, 1), np.uint8)
    seen = of([np.dstack([random.integers(0, 256, (96, 128, 3), np.uint8), clear]) for _ in range(6)])
    assert seen.change.max() == 0


def test_the_same_twice():
    pictures = pan(6, 96, 128, 5)
    first, second = of(pictures), of(pictures)
    assert all(np.array_equal(getattr(first, name), getattr(second, name)) for name in ("explained", "stir", "motion"))


def test_progress_counts_frames():
    counts = []
    survey(as_frames(pan(5, 32, 32, 1)), progress=counts.append)
    assert counts == [1, 2, 3, 4, 5]


@pytest.mark.parametrize("wrong", [float("nan"), float("inf")])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float16])
def test_pixels_that_are_not_finite(wrong, dtype):
    good = torch.rand(300, 600, 3).to(dtype)
    bad = good.clone()
    bad[151, 333, 1] = wrong
    with pytest.raises(InputError, match="frame 1 holds NaN or infinite values: repair the clip"):
        survey(Frame(pixels, Fraction(n)) for n, pixels in enumerate((good, bad)))


def test_errors_say_what_is_needed():
    with pytest.raises(InputError, match="no frames to survey: give a clip with at least one"):
        survey([])
    with pytest.raises(InputError, match=r"frame 0 of shape \(4, 4, 2\): need .* 1, 3 or 4 channels"):
        of([np.zeros((4, 4, 2), np.uint8)])
    with pytest.raises(InputError, match="frame 1 is 8x4, the frames before it are 4x4: give frames of one size"):
        of([np.zeros((4, 4, 3), np.uint8), np.zeros((4, 8, 3), np.uint8)])
    pixels = torch.zeros(4, 4, 3)
    with pytest.raises(InputError, match="frame 1 is shown at 1 s, the one before it at 1 s: give frames in the order"):
        survey([Frame(pixels, Fraction(1)), Frame(pixels, Fraction(1))])


def test_instants_stay_exact():
    values = [Fraction(0), Fraction(1001, 24000), Fraction(-1, 3), Fraction(1, 10**30), Fraction(2**70, 7)]
    times = Times(values)
    assert list(times) == values and times[-1] == values[-1] and list(times[1:3]) == values[1:3]
    assert times == Times(values) and times != Times(values[:-1])
    with pytest.raises(IndexError):
        times[5]
