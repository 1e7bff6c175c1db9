"""Means over square surroundings, against pooling."""

import pytest
import torch
import torch.nn.functional as F

from comfy_fusionfft.ops.box import box_mean


@pytest.mark.parametrize("window", [3, 5, 9])
@pytest.mark.parametrize("size", [(1, 1), (2, 3), (4, 40), (33, 50)])
def test_it_is_pooling_that_does_not_count_what_lies_outside(window, size):
    planes = torch.randn(2, 3, *size)
    want = F.avg_pool2d(planes, window, 1, window // 2, count_include_pad=False)
    torch.testing.assert_close(box_mean(planes, window), want, atol=1e-6, rtol=1e-5)
