"""The YUV arithmetic against numbers from the definition."""

import numpy as np
import pytest

from comfy_fusionfft.video.colour import LUMA_WEIGHTS, Colour, levels_to_full, rgb_to_yuv, yuv_to_rgb

# 10-bit limited-range levels of 100 % white, black, red and blue, from ITU-R BT.709 and BT.2020.
KNOWN = {
    (1, (65535, 65535, 65535)): (940, 512, 512),
    (1, (0, 0, 0)): (64, 512, 512),
    (1, (65535, 0, 0)): (250, 409, 960),
    (1, (0, 0, 65535)): (127, 960, 471),
    (9, (65535, 0, 0)): (294, 387, 960),
    (9, (0, 0, 65535)): (116, 960, 476),
}


@pytest.mark.parametrize(("matrix", "rgb"), list(KNOWN))
def test_published_levels(matrix, rgb):
    planes = rgb_to_yuv(np.array([[rgb]], np.uint16), 10, Colour(matrix=matrix, range="limited"))
    assert tuple(int(plane[0, 0]) for plane in planes) == KNOWN[matrix, rgb]


@pytest.mark.parametrize("bits", [10, 12, 16])
@pytest.mark.parametrize("levels_range", ["limited", "full"])
@pytest.mark.parametrize("matrix", sorted(LUMA_WEIGHTS))
def test_back_and_forth(matrix, levels_range, bits):
    rgb = np.random.default_rng(bits).integers(0, 65536, (32, 32, 3)).astype(np.uint16)
    colour = Colour(matrix=matrix, range=levels_range)
    back = yuv_to_rgb(rgb_to_yuv(rgb, bits, colour), bits, colour)
    # Half a level of luma and of chroma, through the largest coefficients, and float32 for 16 bits.
    assert np.abs(back.astype(int) - rgb).max() <= 2 * 65535 / (219 * 2 ** (bits - 8)) + 1


def test_full_scale_of_grey_levels():
    limited, full = Colour(range="limited"), Colour(range="full")
    assert levels_to_full(np.array([0, 16, 235, 255], np.uint8), 8, limited).tolist() == [0, 0, 255, 255]
    assert levels_to_full(np.array([0, 64, 940], np.uint16), 10, limited).tolist() == [0, 0, 65535]
    assert levels_to_full(np.array([0, 1023], np.uint16), 10, full).tolist() == [0, 65535]


def test_unknown_colour_is_decided_by_height():
    assert Colour().as_yuv(719) == Colour(matrix=6, range="limited")
    assert Colour(range="full").as_yuv(720) == Colour(matrix=1, range="full")
    assert Colour(matrix=8).as_yuv(480).matrix == 6
