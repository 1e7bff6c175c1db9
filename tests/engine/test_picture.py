import pytest
import torch

from comfy_fusionfft.engine.picture import to_picture, to_pixels
from comfy_fusionfft.errors import InputError

CPU = torch.device("cpu")


@pytest.mark.parametrize("dtype", [torch.uint8, torch.uint16, torch.float16, torch.float32])
@pytest.mark.parametrize("channels", [1, 3])
def test_round_trip_is_exact(dtype, channels):
    peak = {torch.uint8: 255, torch.uint16: 65535}.get(dtype)
    values = torch.randint(0, peak + 1, (5, 7, channels)) if peak else torch.rand(5, 7, channels)
    pixels = values.to(dtype)
    back = to_pixels(to_picture(pixels, CPU)[0], pixels)
    assert back.dtype == dtype and back.shape == pixels.shape
    tolerance = 1e-7 if channels == 1 and dtype == torch.float32 else 0  # grey is the mean of three equal channels
    assert (back.to(torch.float32) - pixels.to(torch.float32)).abs().max() <= tolerance


def test_integers_are_rounded_and_clipped_not_truncated():
    like = torch.zeros(1, 1, 3, dtype=torch.uint8)
    picture = torch.tensor([0.9 / 255, -0.2, 1.3]).view(3, 1, 1)
    assert to_pixels(picture, like).flatten().tolist() == [1, 0, 255]


def test_floats_keep_values_beyond_one():
    pixels = torch.tensor([[[2.5, -0.25, 0.5]]])
    assert torch.equal(to_pixels(to_picture(pixels, CPU)[0], pixels), pixels)


def test_alpha_mixes_premultiplied():
    """Half-way between opaque red and transparent green is half-opaque *red*: hidden colour must not leak."""
    red = torch.tensor([[[255, 0, 0, 255]]], dtype=torch.uint8)
    clear_green = torch.tensor([[[0, 255, 0, 0]]], dtype=torch.uint8)
    mixed = (to_picture(red, CPU)[0] + to_picture(clear_green, CPU)[0]) / 2
    assert to_pixels(mixed, red).flatten().tolist() == [255, 0, 0, 128]


def test_bad_shapes_and_values_are_refused():
    with pytest.raises(InputError, match="need .*1, 3 or 4 channels"):
        to_picture(torch.zeros(4, 4, 2), CPU)
    with pytest.raises(InputError, match="NaN or infinite"):
        to_picture(torch.full((4, 4, 3), float("inf")), CPU)


@pytest.mark.parametrize("dtype", [torch.uint8, torch.uint16, torch.float16, torch.float32])
@pytest.mark.parametrize("channels", [1, 3, 4])
def test_strips_join_without_a_seam(dtype, channels, monkeypatch):
    """A picture that is converted a few rows at a time is the one converted whole."""
    peak = {torch.uint8: 255, torch.uint16: 65535}.get(dtype, 1)
    pixels = (torch.rand(23, 17, channels) * peak).to(dtype)
    picture = to_picture(pixels, CPU)[0] * 1.3 - 0.1
    want = to_pixels(picture, pixels)
    for limit in (1, 7 * 17):
        monkeypatch.setattr("comfy_fusionfft.ops.strips.STRIP_PIXELS", limit)
        assert torch.equal(to_picture(pixels, CPU)[0] * 1.3 - 0.1, picture)
        assert torch.equal(to_pixels(picture, pixels).double(), want.double())


def test_memory_order_of_the_pixels_does_not_matter():
    pixels = torch.rand(6, 5, 3)
    planes = pixels.permute(2, 0, 1).contiguous().permute(1, 2, 0)
    assert torch.equal(to_picture(planes, CPU), to_picture(pixels, CPU))
    assert to_pixels(to_picture(planes, CPU)[0], planes).is_contiguous()


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32, torch.float64])
@pytest.mark.parametrize("value", [float("nan"), float("inf"), float("-inf")])
def test_one_bad_value_is_found_wherever_it_is(dtype, value):
    pixels = torch.rand(37, 29, 3).to(dtype)
    to_picture(pixels, CPU)
    for _ in range(10):
        bad = pixels.clone()
        bad.view(-1)[int(torch.randint(bad.numel(), ()))] = value
        with pytest.raises(InputError, match="NaN or infinite"):
            to_picture(bad, CPU)


def test_the_largest_finite_values_are_no_infinity():
    pixels = torch.full((4, 4, 3), torch.finfo(torch.float32).max)
    assert torch.equal(to_pixels(to_picture(pixels, CPU)[0], pixels), pixels)
