"""Strided convolutions that make a single column, in bfloat16 on a CPU."""

import pytest
import torch
import torch.nn.functional as F

from comfy_fusionfft.ops.convolution import Conv2d, conv2d


def leave_rubbish() -> None:
    """Memory that is taken next holds NaN."""
    del [torch.full((size,), float("nan")) for size in (16, 64, 200, 1000, 5000, 20000, 100000) * 6][:]


@pytest.mark.parametrize(("kernel", "padding"), [(3, 1), (4, 1), (2, 0)])
@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last])
@pytest.mark.parametrize("width", [2, 3, 5])
def test_it_reads_nothing_but_its_input(kernel, padding, layout, width):
    x, weight, bias = torch.randn(1, 12, 26, width), torch.randn(16, 12, kernel, kernel) / 10, torch.randn(16)
    x, weight, bias = (tensor.bfloat16() for tensor in (x, weight, bias))
    want = F.conv2d(x.float(), weight.float(), bias.float(), 2, padding)
    x, weight = (tensor.contiguous(memory_format=layout) for tensor in (x, weight))
    with torch.inference_mode():
        for _ in range(4):
            leave_rubbish()
            made = conv2d(x, weight, bias, 2, padding)
            assert made.dtype == torch.bfloat16
            torch.testing.assert_close(made.float(), want, atol=0.05, rtol=0.02)


def test_the_module_is_torchs_own():
    own, theirs = Conv2d(3, 8, 3, 2, 1), torch.nn.Conv2d(3, 8, 3, 2, 1)
    theirs.load_state_dict(own.state_dict())
    x = torch.randn(2, 3, 9, 2)
    assert torch.equal(own(x), theirs(x))
