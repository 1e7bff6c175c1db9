"""Maps of confidence and occlusion: where they point, what they promise, and what they do not depend on."""

import math

import pytest
import torch

from comfy_fusionfft.ops import confidence
from comfy_fusionfft.ops.confidence import CELL, DOUBT, maps, predicted_psnr, shrunk


def textured(height: int = 64, width: int = 96) -> torch.Tensor:
    y, x = torch.meshgrid(torch.arange(height), torch.arange(width), indexing="ij")
    return (0.5 + 0.2 * torch.sin(x / 5) * torch.cos(y / 7)).expand(1, 3, -1, -1).clone()


def still(picture: torch.Tensor, sides: int = 2) -> list[torch.Tensor]:
    return [picture.new_zeros(1, 2, *picture.shape[-2:]) for _ in range(sides)]


def explain(made, left, right, ways=None, mask=None, share=0.5):
    mask = torch.zeros_like(made[:, :1]) if mask is None else mask
    return maps(made, [shrunk(left), shrunk(right)], ways or still(made), mask, share)


def test_views_that_agree_are_believed_and_a_patch_where_they_do_not_is_not() -> None:
    left = textured()
    right = left.clone()
    right[..., 16:32, 48:72] += 0.4
    sure = explain((left + right) / 2, left, right)[0, 1]
    assert sure[..., :40].min() > 0.9
    assert sure[18:30, 50:70].max() < sure[..., :40].min() - 0.2
    assert sure.min() >= 0 and sure.max() <= 1


def test_occlusion_needs_a_mask_that_leans_and_views_that_differ() -> None:
    left = textured()
    right = left.clone()
    right[..., 16:32, 48:72] += 0.4
    leaning = torch.zeros_like(left[:, :1])
    leaning[..., 8:40] = 9.0  # of one mind with the other side: shown by both
    leaning[..., 48:72] = 9.0
    occluded = explain(left, left, right, mask=leaning)[0, 0]
    assert occluded[20:28, 54:66].min() > 0.8
    assert occluded[44:, :].max() < 0.05 and occluded[:, :30].max() < 0.05
    assert explain(left, left, right)[0, 0].max() == 0


def test_a_mask_that_says_no_more_than_the_time_is_not_occlusion() -> None:
    left = textured()
    mask = torch.full_like(left[:, :1], math.log(3))
    assert explain(left, left, left + 0.4, mask=mask, share=0.25)[0, 0].max() < 1e-5


def test_what_lies_outside_of_a_frame_is_occluded() -> None:
    picture = textured()
    ways = still(picture)
    ways[0][:, 0] = -20.0
    occluded = explain(picture, picture, picture, ways)[0, 0]
    assert occluded[:, :18].min() == 1 and occluded[:, 24:].max() < 0.1


def test_motion_that_bends_differently_on_both_sides_is_doubted() -> None:
    picture = textured()
    steady, torn = still(picture, 4), still(picture, 4)
    torn[2][:, 0] = 10.0
    calm, wild = (explain(picture, picture, picture, ways)[0, 1].mean() for ways in (steady, torn))
    assert wild < calm - 0.005


def test_the_middle_of_an_interval_is_the_hardest() -> None:
    left, right = textured(), textured() + 0.1
    sure = [explain(left, left, right, share=share)[0, 1].mean() for share in (0.1, 0.3, 0.5)]
    assert sure[0] > sure[1] > sure[2]


def test_strips_do_not_change_the_maps(monkeypatch) -> None:
    torch.manual_seed(3)
    pictures = [torch.rand(1, 3, 62, 77) for _ in range(3)]
    ways = [5 * torch.randn(1, 2, 62, 77) for _ in range(4)]
    mask = torch.randn(1, 1, 62, 77)
    whole = explain(*pictures, ways, mask, 0.3)
    monkeypatch.setattr(confidence, "STRIP_PIXELS", 77)
    torch.testing.assert_close(explain(*pictures, ways, mask, 0.3), whole, atol=1e-6, rtol=0)


@pytest.mark.parametrize("size", [(1, 1), (2, 3), (5, 4), (17, 130)])
def test_any_size_has_maps(size) -> None:
    picture = torch.rand(1, 3, *size)
    made = explain(picture, picture, picture, still(picture, 4))
    assert made.shape == (1, 2, *size) and bool(made.isfinite().all())


def test_predicted_psnr_is_that_of_the_errors_that_confidence_stands_for() -> None:
    error = torch.tensor([[0.01, 0.03], [0.1, 0.2]])
    shown = torch.stack((torch.zeros(2, 2), torch.exp(-error / DOUBT)), dim=2)
    told = predicted_psnr(shown)
    assert isinstance(told, float)
    assert told == pytest.approx(-10 * math.log10(float(error.square().mean())), abs=1e-3)
    assert predicted_psnr(torch.ones(4, 4, 2)) == pytest.approx(70)
    assert predicted_psnr(torch.zeros(4, 4, 2)) == pytest.approx(0, abs=1e-4)


def test_shrinking_continues_odd_sides() -> None:
    picture = torch.tensor([[1.0, 3, 5], [1, 3, 5], [7, 7, 9]])[None, None]
    assert shrunk(picture)[0, 0].tolist() == [[2, 5], [7, 9]]
    assert CELL % 4 == 0
