"""The sharp warp: exact where nothing is between pixels, sharper than bilinear where something is."""

import pytest
import torch

from comfy_fusionfft.ops.bicubic import bicubic_look_up, bicubic_warp
from comfy_fusionfft.ops.warp import backward_warp


def constant(x: float, y: float, height: int, width: int, batch: int = 1) -> torch.Tensor:
    return torch.tensor([x, y]).view(1, 2, 1, 1).expand(batch, 2, height, width)


def test_zero_flow_changes_nothing() -> None:
    image = torch.rand(1, 3, 37, 53)
    torch.testing.assert_close(bicubic_warp(image, constant(0, 0, 37, 53)), image, atol=1e-5, rtol=0)


def test_whole_pixels_are_moved_as_they_are_and_the_border_goes_on() -> None:
    image = torch.rand(1, 2, 20, 30)
    moved = bicubic_warp(image, constant(3, -2, 20, 30))
    torch.testing.assert_close(moved[..., 2:, :-3], image[..., :-2, 3:], atol=1e-5, rtol=0)
    torch.testing.assert_close(moved[..., 5, -1], image[..., 3, -1], atol=1e-5, rtol=0)


def test_half_a_pixel_keeps_more_detail_than_bilinear() -> None:
    x = torch.arange(64.0)
    image = torch.sin(2 * torch.pi * 0.3 * x).expand(1, 1, 16, 64)
    truth = torch.sin(2 * torch.pi * 0.3 * (x + 0.5))[8:-8]
    flow = constant(0.5, 0, 16, 64)
    sharp, dull = ((warp(image, flow)[0, 0, 8, 8:-8] - truth).abs().max() for warp in (bicubic_warp, backward_warp))
    assert sharp < 0.6 * dull


@pytest.mark.parametrize("size", [(1, 1), (1, 9), (3, 2)])
def test_tiny_pictures_one_picture_for_many_flows_and_half_precision(size: tuple[int, int]) -> None:
    image = torch.rand(1, 3, *size).half()
    made = bicubic_warp(image, constant(0.25, -4, *size, batch=2))
    assert made.shape == (2, 3, *size) and made.dtype == torch.float16
    assert torch.isfinite(made).all()


def test_some_rows_alone_are_those_of_the_whole() -> None:
    image, flow = torch.rand(1, 3, 20, 30), 4 * torch.randn(2, 2, 20, 30)
    x, y = torch.arange(30.0), torch.arange(20.0)
    part = bicubic_look_up(image, flow[:, :, 5:9], x, y[5:9])
    torch.testing.assert_close(part, bicubic_warp(image, flow)[:, :, 5:9], atol=1e-5, rtol=0)
