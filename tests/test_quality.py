import cv2
import numpy as np
import pytest
import torch

from comfy_fusionfft.errors import InputError
from comfy_fusionfft.quality import (
    PSNR_CEILING,
    MotionFromEnds,
    high_band_energy,
    high_band_energy_ratio,
    psnr,
    ssim,
    temporal_of,
)


@pytest.fixture
def picture():
    rng = np.random.default_rng(1)
    return cv2.GaussianBlur(rng.random((61, 83, 3)), (0, 0), 1.0).clip(0, 1)


def test_psnr_of_known_error(picture):
    assert psnr(picture + 0.1, picture) == pytest.approx(20.0, abs=1e-9)
    assert psnr(picture, picture) == PSNR_CEILING
    assert psnr(torch.full((4, 4, 3), 0.5), torch.full((4, 4, 3), 0.51)) == pytest.approx(40.0, abs=1e-3)


@pytest.mark.parametrize("noise", [0.02, 0.3])
@pytest.mark.parametrize("size", [(61, 83), (11, 40)])
def test_ssim_agrees_with_torchmetrics(picture, noise, size):
    metrics = pytest.importorskip("torchmetrics.image")
    picture = picture[: size[0], : size[1]]
    other = (picture + noise * np.random.default_rng(2).standard_normal(picture.shape)).clip(0, 1)
    reference = metrics.StructuralSimilarityIndexMeasure(data_range=1.0, gaussian_kernel=True, sigma=1.5)
    a, b = (torch.from_numpy(x).permute(2, 0, 1)[None] for x in (other, picture))
    assert ssim(other, picture) == pytest.approx(float(reference(a, b)), abs=1e-4)


def test_ssim_of_equal_and_tiny_pictures(picture):
    assert ssim(picture, picture) == pytest.approx(1.0)
    assert ssim(picture[:1, :1], picture[:1, :1]) == pytest.approx(1.0)
    assert ssim(picture[:7, :5] * 0.5, picture[:7, :5]) < 0.99


def test_energy_ratio_sees_blur_grain_and_only_the_band():
    x = np.mgrid[0:64, 0:64][1]
    low = np.repeat(0.2 * np.sin(2 * np.pi * x / 8)[..., None], 3, axis=2)  # 0.125 cycles per pixel
    high = np.repeat(0.1 * np.sin(2 * np.pi * (x * 24 / 64))[..., None], 3, axis=2)  # 0.375 cycles per pixel
    assert high_band_energy_ratio(0.5 + low + 0.5 * high, 0.5 + low + high) == pytest.approx(0.25, rel=1e-6)
    assert high_band_energy_ratio(0.5 + 3 * low + high, 0.5 + low + high) == pytest.approx(1.0, rel=1e-6)
    assert np.isnan(high_band_energy_ratio(0.5 + high, 0.5 + low))
    # Both peaks of a real sine: one lies in the half spectrum, amplitude/2 · pixels.
    assert high_band_energy(high) == pytest.approx((0.05 * 64 * 64) ** 2, rel=1e-6)


def test_temporal_of_is_zero_for_the_truth_and_measures_a_lag(picture):
    big = cv2.resize(picture, (160, 120), interpolation=cv2.INTER_CUBIC)
    truth = [np.roll(big, 2 * k, axis=1) for k in range(3)]
    still = [big] * 3
    assert temporal_of(truth, truth) == 0.0
    assert temporal_of(still, truth) == pytest.approx(2.0, abs=0.4)
    with pytest.raises(InputError, match="at least 2"):
        temporal_of(truth[:1], truth[:1])


def test_motion_from_ends_measures_how_far_a_frame_is_off(picture):
    big = cv2.resize(picture, (160, 120), interpolation=cv2.INTER_CUBIC)
    left, truth, right = (np.roll(big, shift, axis=1) for shift in (0, 3, 6))
    motion = MotionFromEnds((left, right), truth)
    assert motion.error(truth) == 0.0
    assert motion.error(np.roll(truth, 1, axis=1)) == pytest.approx(1.0, abs=0.3)
    assert motion.error(left) == pytest.approx(3.0, abs=0.5)
    assert motion.error(cv2.GaussianBlur(truth, (0, 0), 0.7)) < 0.1  # the measures of detail see that
    tiny = MotionFromEnds((left[:9, :11], right[:9, :11]), truth[:9, :11])
    assert tiny.error(truth[:9, :11]) == 0.0
    with pytest.raises(InputError, match="two of the same shape"):
        motion.error(truth[:-1])
    with pytest.raises(InputError, match="two of the same shape"):
        MotionFromEnds((left[:-1], right), truth)


def test_unequal_shapes_are_refused(picture):
    with pytest.raises(InputError, match="two of the same shape"):
        psnr(picture, picture[:-1])
