"""Strips cover a picture, each row once."""

import torch

from comfy_fusionfft.ops.strips import STRIP_PIXELS, in_bands, strip_rows, strips


def test_strips_cover_every_row_once():
    rows = [row for part in strips(101, 16) for row in range(part.start, part.stop)]
    assert rows == list(range(101))
    assert [part.stop - part.start for part in strips(101, 16)] == [16] * 6 + [5]


def test_rows_of_a_strip():
    cpu, other = torch.device("cpu"), torch.device("meta")
    assert strip_rows(1080, STRIP_PIXELS // 40, cpu) == 32
    assert strip_rows(1080, STRIP_PIXELS // 5, cpu) == 4
    assert strip_rows(6, 16, cpu) == 6
    assert strip_rows(1080, 10 * STRIP_PIXELS, cpu) == 2  # never none
    assert strip_rows(1080, STRIP_PIXELS, other) >= 1080


def test_bands_are_views_in_order(monkeypatch):
    monkeypatch.setattr(torch, "get_num_threads", lambda: 4)
    planes = torch.rand(1, 3, 18, 512)
    bands = in_bands(planes)
    assert bands.shape == (3, 3, 6, 512)  # four would have an odd number of rows, which none may shrink by two
    assert torch.equal(bands.transpose(0, 1).reshape(planes.shape), planes)
    bands[1, 2, 0, 5] = 7
    assert planes[0, 2, 6, 5] == 7
    assert in_bands(planes, 9).shape == (9, 3, 2, 512)
    assert in_bands(planes[..., :8]).shape == (1, 3, 18, 8)
    assert in_bands(planes.expand(2, -1, -1, -1)).shape == (2, 3, 18, 512)
