"""Dense inverse search: exact where a texture slides, for any size, always the same."""

import cv2
import numpy as np
import pytest
import torch
from train.scenes import texture

from comfy_fusionfft.errors import InputError
from comfy_fusionfft.ops.dis import SMALLEST_SIDE, DenseInverseSearch, grey_bytes


def sliding(height, width, dx, dy):
    """Two windows on a texture: what the first shows is found ``(dx, dy)`` farther in the second."""
    wide = cv2.cvtColor(texture(height + 32, width + 32, 3), cv2.COLOR_RGB2GRAY)
    return tuple(np.ascontiguousarray(wide[y : y + height, x : x + width]) for y, x in ((16, 16), (16 - dy, 16 - dx)))


@pytest.mark.parametrize("preset", ["ultrafast", "fast", "medium"])
def test_a_slide_is_found(preset):
    flow = DenseInverseSearch(preset)(*sliding(96, 128, 6, -4))
    assert flow.shape == (96, 128, 2) and flow.dtype == np.float32
    assert np.abs(flow[16:-16, 16:-16] - (6, -4)).mean() < 0.1


@pytest.mark.parametrize("size", [(1, 1), (1, 200), (7, 5), (15, 40), (16, 16), (47, 49), (300, 3)])
def test_any_size_and_what_is_still_stays(size):
    picture = cv2.cvtColor(texture(64, 320), cv2.COLOR_RGB2GRAY)
    picture = np.ascontiguousarray(np.resize(picture, size))
    flow = DenseInverseSearch()(picture, picture)
    assert flow.shape == (*size, 2) and flow.flags["C_CONTIGUOUS"]
    assert np.abs(flow).max() < 1e-2


def test_small_pictures_are_searched_as_if_extended():
    """The motion of a picture below the limit is that of the same picture with its edge repeated."""
    small = sliding(SMALLEST_SIDE - 8, 64, 2, 1)
    larger = [np.pad(picture, ((0, 8), (0, 0)), mode="edge") for picture in small]
    search = DenseInverseSearch()
    assert np.array_equal(search(*small), search(*larger)[: SMALLEST_SIDE - 8])


def test_it_repeats_whatever_was_searched_before_and_with_any_number_of_threads(request):
    before = cv2.getNumThreads()
    request.addfinalizer(lambda: cv2.setNumThreads(before))
    pair, search, found = sliding(200, 264, 5, 3), DenseInverseSearch(), []
    for threads in (1, 3, 1):
        cv2.setNumThreads(threads)
        found.append(search(*pair))
        search(*sliding(96, 128, 1, 1))  # another size in between
    assert np.array_equal(found[0], found[1]) and np.array_equal(found[0], found[2])


@pytest.mark.parametrize("size", [(48, 48), (48, 96), (96, 128), (216, 332), (256, 520)])
def test_halved_pictures_give_the_halved_motion(size):
    pair = sliding(*size, 5, 3)
    whole = DenseInverseSearch()(*pair)
    half = (size[1] // 2, size[0] // 2)
    want = cv2.resize(whole, half, interpolation=cv2.INTER_AREA) / 2
    made = DenseInverseSearch(halved=True)(*(cv2.resize(each, half, interpolation=cv2.INTER_AREA) for each in pair))
    assert made.shape == want.shape and np.abs(made - want).max() < 1e-4


def test_wider_strides_and_fewer_rounds_are_another_search():
    pair = sliding(96, 128, 6, -4)
    usual = DenseInverseSearch()(*pair)
    assert np.array_equal(DenseInverseSearch(stride=3, rounds=5)(*pair), usual)
    for other in (DenseInverseSearch(stride=5), DenseInverseSearch(rounds=1)):
        found = other(*pair)
        assert not np.array_equal(found, usual)
        assert np.abs(found[16:-16, 16:-16] - (6, -4)).mean() < 0.1


def test_presets_that_do_not_end_at_half_refuse_halved_pictures():
    with pytest.raises(InputError, match="DIS preset 'fast' does not end at half the size: use medium"):
        DenseInverseSearch("fast", halved=True)


def test_an_unknown_preset_is_explained():
    with pytest.raises(InputError, match="DIS preset 'best' is not known: use ultrafast, fast, medium"):
        DenseInverseSearch("best")


def test_grey_is_luma_rounded_and_clamped():
    colours = torch.tensor([[1.0, 0, 0], [0, 1, 0], [0, 0, 1], [1, 1, 1], [0, 0, 0], [2, 2, 2], [-1, -1, -1]])
    image = colours.T.reshape(1, 3, 1, -1)
    grey = grey_bytes(image)
    assert grey.dtype == np.uint8 and grey.tolist() == [[76, 150, 29, 255, 0, 255, 0]]
    assert np.array_equal(grey_bytes(image.half()), grey)
