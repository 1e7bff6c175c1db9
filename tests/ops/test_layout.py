"""Turning planes around changes no value."""

import pytest
import torch
import torch.nn.functional as F

from comfy_fusionfft.ops.layout import empty_channels_last, pixel_shuffled, planes_of, write_channels_last


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
def test_there_and_back_is_exact(dtype):
    planes = torch.randn(2, 7, 5, 9).to(dtype)
    picture = empty_channels_last(planes, 2, 7, 8, 9)
    picture[:] = 3
    write_channels_last(planes, picture[:, :, 2:7])
    assert picture.is_contiguous(memory_format=torch.channels_last)
    assert torch.equal(picture[:, :, 2:7], planes)
    assert (picture[:, :, :2] == 3).all()
    assert (picture[:, :, 7:] == 3).all()
    back = planes_of(planes.contiguous(memory_format=torch.channels_last))
    assert torch.equal(back, planes)
    assert back.is_contiguous()


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_pixel_shuffle(dtype):
    picture = torch.randn(2, 12, 5, 9).to(dtype).contiguous(memory_format=torch.channels_last)
    made = pixel_shuffled(picture)
    assert made.dtype == torch.float32
    assert torch.equal(made, F.pixel_shuffle(picture.float(), 2))
