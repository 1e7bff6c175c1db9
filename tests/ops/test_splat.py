"""Splatting: where pixels land, what they weigh, and what is lost."""

import pytest
import torch

from comfy_fusionfft.ops.splat import splat_average, splat_blend, splat_sum, splat_sum_fast


def constant_flow(x: float, y: float, height: int, width: int, batch: int = 1) -> torch.Tensor:
    return torch.tensor([x, y]).view(1, 2, 1, 1).expand(batch, 2, height, width)


def by_hand(values: torch.Tensor, flow: torch.Tensor) -> torch.Tensor:
    """The definition, one pixel and one corner at a time."""
    batch, _, height, width = values.shape
    out = torch.zeros_like(values)
    for b in range(batch):
        for y in range(height):
            for x in range(width):
                to_x, to_y = x + float(flow[b, 0, y, x]), y + float(flow[b, 1, y, x])
                for ty in range(height):
                    for tx in range(width):
                        share = max(0.0, 1 - abs(to_x - tx)) * max(0.0, 1 - abs(to_y - ty))
                        out[b, :, ty, tx] += share * values[b, :, y, x]
    return out


def test_matches_the_definition_across_the_border_too():
    values, flow = torch.randn(2, 3, 5, 7), 3 * torch.randn(2, 2, 5, 7)
    torch.testing.assert_close(splat_sum(values, flow), by_hand(values, flow), atol=1e-5, rtol=1e-5)


def test_a_whole_pixel_shift_moves_the_picture_and_leaves_a_hole():
    image = torch.rand(1, 3, 6, 8)
    mean, coverage = splat_average(image, constant_flow(2, -1, 6, 8))
    torch.testing.assert_close(mean[..., :-1, 2:], image[..., 1:, :-2])
    assert (coverage[..., :-1, 2:] == 1).all()
    assert (coverage[..., -1, :] == 0).all() and (mean[..., -1, :] == 0).all()
    assert (coverage[..., :2] == 0).all()


def test_a_collision_is_averaged_by_weight():
    values = torch.tensor([[[[10.0, 0.0, 40.0]]]])
    flow = torch.zeros(1, 2, 1, 3)
    flow[0, 0, 0, 0], flow[0, 0, 0, 1], flow[0, 0, 0, 2] = 1, 9, -1
    weight = torch.tensor([[[[1.0, 1.0, 2.0]]]])
    mean, coverage = splat_average(values, flow, weight)
    torch.testing.assert_close(mean[0, 0, 0], torch.tensor([0.0, 30.0, 0.0]))
    torch.testing.assert_close(coverage[0, 0, 0], torch.tensor([0.0, 3.0, 0.0]))


@pytest.mark.parametrize("far", [1e9, -1e9, float("inf")])
def test_what_leaves_the_picture_is_lost_however_far(far):
    assert splat_sum(torch.ones(1, 1, 4, 4), constant_flow(far, far, 4, 4)).sum() == 0


@pytest.mark.parametrize("size", [(1, 1), (1, 6), (5, 1), (2, 3), (37, 50), (120, 214)])
def test_the_fast_sum_is_the_sum(size):
    values, flow = torch.randn(2, 3, *size), 3 * torch.randn(2, 2, *size)
    torch.testing.assert_close(splat_sum_fast(values, flow), splat_sum(values, flow), atol=3e-4, rtol=1e-4)
    share = torch.tensor([0.3, 0.8]).view(2, 1, 1, 1)
    made, want = splat_sum_fast(values, flow, share), splat_sum(values, share * flow)
    torch.testing.assert_close(made, want, atol=3e-4, rtol=1e-4)
    assert made.is_contiguous() or 1 in size


@pytest.mark.parametrize("far", [1e9, -1e9, float("inf")])
@pytest.mark.parametrize("size", [(4, 4), (1, 5)])
def test_the_fast_sum_loses_what_leaves_the_picture(far, size):
    assert splat_sum_fast(torch.ones(1, 1, *size), constant_flow(far, far, *size)).sum() == 0


@pytest.mark.parametrize("size", [(5, 6), (1, 7)])
def test_the_fast_sum_has_the_sum_s_gradients(size):
    values = torch.randn(2, 2, *size)
    flow = 0.3 + 0.4 * torch.rand(2, 2, *size)  # away from the kinks at whole pixels
    probe, share = torch.randn(2, 2, *size), torch.tensor([0.7, 0.9]).view(2, 1, 1, 1)
    gradients = []
    for sums in (lambda v, f: splat_sum_fast(v, f, share), lambda v, f: splat_sum(v, share * f)):
        leaves = [each.clone().requires_grad_() for each in (values, flow)]
        (sums(*leaves) * probe).sum().backward()
        gradients.append([leaf.grad for leaf in leaves])
    for fast, plain in zip(*gradients, strict=True):
        torch.testing.assert_close(fast, plain, atol=1e-4, rtol=1e-4)


def test_a_single_pixel_and_half_precision():
    mean, coverage = splat_average(torch.full((1, 1, 1, 1), 0.5).half(), torch.zeros(1, 2, 1, 1).half())
    assert mean.dtype == torch.float32
    assert mean.item() == 0.5
    assert coverage.item() == 1


def test_gradients_agree_with_finite_differences():
    values = torch.randn(1, 2, 5, 6, requires_grad=True)
    flow = (0.3 + 0.4 * torch.rand(1, 2, 5, 6)).requires_grad_()  # away from the kinks at whole pixels
    probe = torch.randn(1, 2, 5, 6)
    (splat_sum(values, flow) * probe).sum().backward()
    for leaf in (values, flow):
        push = torch.randn_like(leaf)
        with torch.no_grad():
            sums = []
            for sign in (1, -1):
                moved = leaf + sign * 1e-2 * push
                picture = splat_sum(moved, flow) if leaf is values else splat_sum(values, moved)
                sums.append((picture * probe).sum())
        assert (leaf.grad * push).sum().item() == pytest.approx((sums[0] - sums[1]).item() / 2e-2, rel=0.02, abs=0.02)


def test_blend_finds_the_picture_between_two_shifted_ones_and_fills_holes():
    scene = torch.rand(1, 3, 8, 24)
    img0, middle, img1 = (scene[..., k : k + 12] for k in (8, 6, 4))
    flow = constant_flow(4, 0, 8, 12)
    torch.testing.assert_close(splat_blend(img0, img1, flow, -flow, 0.5), middle)
    torch.testing.assert_close(splat_blend(img0, img1, flow, -flow, 0.0), img0)
