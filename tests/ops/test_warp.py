"""Backward warping and padding."""

import pytest
import torch
import torch.nn.functional as F

from comfy_fusionfft.ops.pad import crop, pad_to
from comfy_fusionfft.ops.warp import backward_warp


def constant_flow(x: float, y: float, height: int, width: int) -> torch.Tensor:
    return torch.tensor([x, y]).view(1, 2, 1, 1).expand(1, 2, height, width)


def test_zero_flow_returns_the_picture():
    image = torch.rand(2, 3, 17, 23)
    torch.testing.assert_close(backward_warp(image, torch.zeros(2, 2, 17, 23)), image, atol=1e-5, rtol=0)


def test_whole_pixels_shift_and_the_border_continues():
    image = torch.rand(1, 1, 5, 7)
    warped = backward_warp(image, constant_flow(2, 1, 5, 7))
    torch.testing.assert_close(warped[..., :4, :5], image[..., 1:, 2:], atol=1e-5, rtol=0)
    torch.testing.assert_close(warped[..., 4, :5], image[..., 4, 2:], atol=1e-5, rtol=0)
    torch.testing.assert_close(warped[..., :4, 6], image[..., 1:, 6], atol=1e-5, rtol=0)


def test_half_a_pixel_is_the_mean_of_two():
    image = torch.rand(1, 2, 6, 6)
    warped = backward_warp(image, constant_flow(0.5, 0, 6, 6))
    torch.testing.assert_close(warped[..., :5], (image[..., :5] + image[..., 1:]) / 2, atol=1e-5, rtol=0)


def test_equals_border_mode_for_motion_far_outside():
    image, flow = torch.rand(2, 3, 9, 13), torch.randn(2, 2, 9, 13) * 20
    y, x = torch.meshgrid(torch.arange(9.0), torch.arange(13.0), indexing="ij")
    grid = torch.stack(((x + flow[:, 0]) * 2 / 12 - 1, (y + flow[:, 1]) * 2 / 8 - 1), dim=-1)
    expected = F.grid_sample(image, grid, padding_mode="border", align_corners=True)
    torch.testing.assert_close(backward_warp(image, flow), expected, atol=1e-5, rtol=0)


@pytest.mark.parametrize("size", [(1, 1), (1, 6), (6, 1)])
def test_single_rows_and_columns(size):
    image = torch.rand(1, 3, *size)
    torch.testing.assert_close(backward_warp(image, torch.zeros(1, 2, *size)), image)
    assert torch.isfinite(backward_warp(image, torch.randn(1, 2, *size) * 5)).all()


def test_one_picture_by_many_flows():
    image, flows = torch.rand(1, 3, 8, 8), torch.randn(4, 2, 8, 8)
    expected = torch.cat([backward_warp(image, flow[None]) for flow in flows])
    torch.testing.assert_close(backward_warp(image, flows), expected)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision_pictures_keep_exact_coordinates(dtype):
    image = (torch.arange(4096) % 2).to(dtype).expand(1, 1, 4, 4096)
    warped = backward_warp(image, constant_flow(1, 0, 4, 4096))
    assert warped.dtype == dtype
    # In half-precision coordinates neighbouring columns would fall together here.
    torch.testing.assert_close(warped[..., :-1], image[..., 1:], atol=2e-3, rtol=0)


def test_gradients_reach_picture_and_flow():
    image = torch.rand(1, 1, 6, 6, requires_grad=True)
    flow = torch.full((1, 2, 6, 6), 0.3, requires_grad=True)
    backward_warp(image, flow).square().sum().backward()
    assert image.grad.abs().sum() > 0
    assert flow.grad.abs().sum() > 0


@pytest.mark.parametrize("size", [(1, 1), (5, 64), (65, 3)])
@pytest.mark.parametrize("mode", ["zeros", "replicate"])
def test_padding_and_back(size, mode):
    image = torch.rand(1, 3, *size) + 0.5
    padded, original = pad_to(image, 64, mode)
    assert original == size
    assert padded.shape[-2] % 64 == 0
    assert padded.shape[-1] % 64 == 0
    assert torch.equal(crop(padded, original), image)
    corner = image[..., -1, -1] if mode == "replicate" or padded.shape == image.shape else torch.zeros(1, 3)
    assert torch.equal(padded[..., -1, -1], corner)


def test_nothing_to_pad_copies_nothing():
    image = torch.rand(1, 3, 64, 128)
    assert pad_to(image, 64)[0] is image
