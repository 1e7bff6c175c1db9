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
    motion,
    motion_error,
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


def test_ssim_without_borders_counts_whole_windows_alone(picture):
    other = picture.copy()
    other[:5] = other[:, -5:] = 0.0  # nothing there is the middle of a whole window, but windows reach it
    assert ssim(other[5:, :-5], picture[5:, :-5], borders=False) == pytest.approx(1.0)
    assert ssim(other, picture, borders=False) > ssim(other, picture)
    window = np.outer(*[cv2.getGaussianKernel(11, 1.5)[:, 0]] * 2)[..., None]
    a, b = 0.5 * picture[:11, :11], picture[:11, :11]
    mean_a, mean_b = ((window * x).sum((0, 1)) for x in (a, b))
    var_a, var_b = ((window * x * x).sum((0, 1)) - m * m for x, m in ((a, mean_a), (b, mean_b)))
    covariance = (window * a * b).sum((0, 1)) - mean_a * mean_b
    score = (2 * mean_a * mean_b + 1e-4) * (2 * covariance + 9e-4)
    score /= (mean_a**2 + mean_b**2 + 1e-4) * (var_a + var_b + 9e-4)
    assert ssim(a, b, borders=False) == pytest.approx(score.mean(), rel=1e-9)
    with pytest.raises(InputError, match=r"shape \(10, 83, 3\): SSIM without borders needs 11 pixels"):
        ssim(picture[:10], picture[:10], borders=False)


def test_energy_ratio_sees_blur_grain_and_only_the_band():
    x = np.mgrid[0:64, 0:64][1]
    low = np.repeat(0.2 * np.sin(2 * np.pi * x / 8)[..., None], 3, axis=2)  # 0.125 cycles per pixel
    high = np.repeat(0.1 * np.sin(2 * np.pi * (x * 24 / 64))[..., None], 3, axis=2)  # 0.375 cycles per pixel
    assert high_band_energy_ratio(0.5 + low + 0.5 * high, 0.5 + low + high) == pytest.approx(0.25, rel=1e-6)
    assert high_band_energy_ratio(0.5 + 3 * low + high, 0.5 + low + high) == pytest.approx(1.0, rel=1e-6)
    assert np.isnan(high_band_energy_ratio(0.5 + high, 0.5 + low))
    # Both peaks of a real sine: one lies in the half spectrum, amplitude/2 · pixels.
    assert high_band_energy(high) == pytest.approx((0.05 * 64 * 64) ** 2, rel=1e-6)


def pan(picture, size, step, count=3):
    """Views of ``size`` of a larger picture that moves by ``step`` pixels to the right from each to the next."""
    height, width = size
    wide = cv2.resize(picture, (width + 2 * step * count, height), interpolation=cv2.INTER_CUBIC).clip(0, 1)
    return [wide[:, step * (count - k) : step * (count - k) + width] for k in range(count)]


def test_temporal_of_is_zero_for_the_truth_and_measures_a_lag(picture):
    truth = pan(picture, (120, 160), 2)
    assert temporal_of(truth, truth) == 0.0
    assert temporal_of([truth[0]] * 3, truth) == pytest.approx(2.0, abs=0.4)
    assert temporal_of(iter(truth), iter(truth)) == 0.0  # streams will do
    with pytest.raises(InputError, match="1 made and 1 true pictures: need two sequences of at least 2"):
        temporal_of(truth[:1], truth[:1])
    with pytest.raises(InputError, match="one ends after 2 pictures: need equally long ones"):
        temporal_of(truth[:2], truth)
    with pytest.raises(InputError, match="two of the same shape"):
        temporal_of([p[:-1] for p in truth], truth)


def test_temporal_of_is_farneback_flow_of_bytes_without_the_margins(picture):
    truth = pan(picture, (120, 160), 2)
    made = [cv2.GaussianBlur(p, (0, 0), 2.0) + 0.02 * k for k, p in enumerate(truth)]

    def flow(before, after):
        greys = [
            cv2.cvtColor(np.round(p.clip(0, 1) * 255).astype(np.uint8), cv2.COLOR_RGB2GRAY) for p in (before, after)
        ]
        return cv2.calcOpticalFlowFarneback(*greys, None, 0.5, 3, 15, 3, 5, 1.2, 0)

    lengths = [
        np.sqrt(((flow(made[k], made[k + 1]) - flow(truth[k], truth[k + 1])) ** 2).sum(2))[12:-12, 16:-16].mean()
        for k in range(2)
    ]  # 120 - 96 = 24 and 160 - 128 = 32 are left out
    assert temporal_of(made, truth) == pytest.approx(np.mean(lengths), rel=1e-6) and min(lengths) > 0.01


@pytest.mark.parametrize(
    ("size", "kept"),
    [((48, 80), (32, 64)), ((47, 79), (47, 32)), ((112, 111), (96, 64)), ((176, 160), (160, 128)), ((9, 11), (9, 11))],
)
def test_what_counts_of_a_flow_is_a_multiple_of_32_that_leaves_at_least_16(picture, size, kept):
    flow = motion(*pan(picture, size, 1, 2))
    assert flow.shape == (*kept, 2)
    assert motion_error(flow + np.float32([3, 4]), flow) == pytest.approx(5.0, rel=1e-5)


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
