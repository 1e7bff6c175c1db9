"""The spectral swap: against the textbook formulation, and for what it must never do."""

import math

import pytest
import torch
import torch.nn.functional as F

from comfy_fusionfft.ops import spectral


def picture(height: int = 60, width: int = 84, batch: int = 1) -> torch.Tensor:
    """Smooth shapes with texture on top."""
    coarse = F.interpolate(torch.rand(batch, 3, 6, 8), size=(height, width), mode="bicubic")
    return (0.8 * coarse + 0.1 * torch.rand(batch, 3, height, width)).clamp(0, 1)


def blurred(image: torch.Tensor) -> torch.Tensor:
    return F.avg_pool2d(F.pad(image, (1, 1, 1, 1), mode="replicate"), 3, 1)


def high_energy(image: torch.Tensor, lo: float = 0.32) -> float:
    spectrum = torch.fft.rfft2(image.mean(1))
    return float(spectrum.abs().square()[..., spectral.radial_ramp(image.shape[-2:], lo, lo, soft=False) > 0].sum())


@pytest.mark.parametrize("size", [(64, 64), (37, 50), (96, 65)])
def test_equals_the_swap_written_with_angles(size: tuple[int, int]) -> None:
    base, other, alpha = picture(*size), picture(*size), 0.3
    fy, fx = torch.fft.fftfreq(size[0])[:, None], torch.fft.fftfreq(size[1])
    share = ((torch.sqrt(fx**2 + fy**2) - 0.32) / (0.5 - 0.32)).clamp(0, 1)
    mask = 0.5 - 0.5 * torch.cos(math.pi * share)
    x, p = torch.fft.fft2(base), torch.fft.fft2(other)
    mixed = x.abs() * (1 - mask * alpha) + p.abs() * mask * alpha
    expected = torch.fft.ifft2(mixed * torch.exp(1j * x.angle())).real
    change = spectral.delta(base, spectral.magnitude(other, margin=0), 0.32, 0.5, clamp_gain=False, margin=0)
    torch.testing.assert_close(base + alpha * change, expected, atol=1e-5, rtol=0)


def test_is_linear_in_alpha_by_construction_and_nothing_below_lo() -> None:
    base, prior = picture(64, 64), spectral.magnitude(picture(64, 64), margin=0)
    change = spectral.delta(base, prior, 0.32, 0.5, margin=0)
    below = spectral.radial_ramp((64, 64), 0.32, 0.5) == 0
    assert torch.fft.rfft2(change)[..., below].abs().max() < 1e-4
    assert change.abs().max() > 1e-3


def test_its_own_strength_changes_nothing() -> None:
    base = picture()
    assert spectral.delta(base, spectral.magnitude(base)).abs().max() < 1e-5


def test_a_blurred_prior_does_not_remove_detail_unless_asked_to() -> None:
    base = picture()
    prior = spectral.magnitude(blurred(base))
    kept = base + spectral.delta(base, prior)
    assert high_energy(kept) > 0.98 * high_energy(base)
    assert high_energy(base + spectral.delta(base, prior, clamp_gain=False)) < 0.5 * high_energy(base)


def test_detail_lost_by_warping_comes_back_from_frames_that_are_not_aligned() -> None:
    sharp = picture(96, 96)
    base, neighbour = blurred(sharp), sharp.roll((5, -7), (2, 3))
    swapped = base + spectral.delta(base, spectral.magnitude(neighbour))
    assert high_energy(base) < 0.2 * high_energy(sharp)
    assert 0.5 < high_energy(swapped) / high_energy(sharp) < 1.5


@pytest.mark.parametrize("size", [(1, 1), (1, 40), (17, 3), (33, 129)])
def test_any_size_and_channels_as_batch(size: tuple[int, int]) -> None:
    base, other = torch.rand(2, 4, *size), torch.rand(2, 4, *size)
    change = spectral.delta(base, spectral.magnitude(other))
    assert change.shape == base.shape
    single = spectral.delta(base[1:, 2:3], spectral.magnitude(other[1:, 2:3]))
    torch.testing.assert_close(change[1:, 2:3], single)


def test_one_prior_serves_several_pictures_and_the_ramp_is_made_once() -> None:
    base, prior = picture(50, 70, 3), spectral.magnitude(picture(50, 70))
    change = spectral.delta(base, prior)
    torch.testing.assert_close(change[2:], spectral.delta(base[2:], prior))
    assert spectral.radial_ramp((66, 96), 0.25, 0.4) is spectral.radial_ramp((66, 96), 0.25, 0.4)


@pytest.mark.parametrize("size", [(90, 130), (37, 300), (20, 20)])
def test_strength_is_that_of_the_picture_continued_by_its_mirror_image(size: tuple[int, int]) -> None:
    image = picture(*size)

    def continued(rows: torch.Tensor) -> torch.Tensor:
        extra = spectral._extra(rows.shape[-2], spectral.MARGIN)
        share = (torch.arange(extra) + 1.0)[:, None] / (extra + 1)
        return torch.cat((rows, rows[..., -extra:, :].flip(-2).lerp(rows[..., :extra, :].flip(-2), share)), dim=-2)

    plainly = torch.fft.rfft2(continued(continued(image).mT).mT, norm="ortho").abs()
    torch.testing.assert_close(spectral.magnitude(image), plainly, atol=1e-5, rtol=1e-4)


def test_black_pictures_and_half_precision_stay_finite_float32() -> None:
    change = spectral.delta(torch.zeros(1, 3, 32, 32), spectral.magnitude(torch.zeros(1, 3, 32, 32)))
    assert change.abs().max() == 0
    half = picture().half()
    made = spectral.delta(half, spectral.magnitude(half))
    assert made.dtype == torch.float32 and torch.isfinite(made).all()


def test_edges_that_do_not_match_their_opposites_do_not_leak_into_the_band() -> None:
    """A ramp has no detail, but wraps around with a step: prior and base differ in that step alone."""
    ramp = torch.linspace(0, 1, 96).expand(1, 3, 96, 96)
    flat = torch.full_like(ramp, 0.5)
    leak = spectral.delta(flat + 0.01 * torch.rand_like(flat), spectral.magnitude(ramp))
    without = spectral.delta(flat + 0.01 * torch.rand_like(flat), spectral.magnitude(ramp, margin=0), margin=0)
    assert leak.abs().max() < 0.25 * without.abs().max()


def test_the_documented_shares_of_the_spectrum() -> None:
    """68 % of the bins lie above 0.32 cycles per pixel, 21 % above 0.5."""
    full = torch.hypot(torch.fft.fftfreq(256)[:, None], torch.fft.fftfreq(256))
    assert float((full > 0.32).float().mean()) == pytest.approx(0.68, abs=0.01)
    assert float((full > 0.50).float().mean()) == pytest.approx(0.21, abs=0.01)
