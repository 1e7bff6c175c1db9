"""Reading enlarged planes where they are needed equals enlarging them and looking there."""

import pytest
import torch
import torch.nn.functional as F

from comfy_fusionfft.ops.enlarge import Enlarged, convolve_doubled, places

SIZE = (96, 64)


def shrunk(planes, s):
    return F.interpolate(planes, scale_factor=1 / s, mode="bilinear") if s > 1 else planes


@pytest.mark.parametrize(("g", "s"), [(g, s) for g in (1, 2, 4, 8, 16) for s in (1, 2, 4, 8, 16) if s <= g])
def test_cells_and_places(g, s):
    planes = torch.randn(2, 3, SIZE[0] // g, SIZE[1] // g)
    full = F.interpolate(planes, SIZE, mode="bilinear")
    if s < g or s == 1:
        cells = Enlarged(planes, g, SIZE, s, "cells")
        torch.testing.assert_close(cells.rows(slice(0, SIZE[0] // s)), shrunk(full, s), atol=1e-5, rtol=0)
    y, x = (places(side, s, torch.device("cpu")).long() for side in SIZE)
    expected = full[:, :, y][..., x]
    torch.testing.assert_close(
        Enlarged(planes, g, SIZE, s, "places").rows(slice(0, len(y))), expected, atol=1e-5, rtol=0
    )
    torch.testing.assert_close(shrunk(expected, min(s, 2)), shrunk(full, s), atol=1e-5, rtol=0)


def test_rows_may_be_read_in_any_strips_and_added():
    part = Enlarged(torch.randn(2, 3, 12, 8), 8, SIZE, 2, "cells")
    whole = part.rows(slice(0, 48))
    strips = [part.rows(slice(a, b)) for a, b in ((0, 1), (1, 20), (20, 48))]
    torch.testing.assert_close(torch.cat(strips, 2), whole, atol=1e-6, rtol=0)
    total = torch.ones(2, 3, 48, 32)
    part.add_rows(slice(5, 30), total[:, :, 5:30])
    torch.testing.assert_close(total[:, :, 5:30], whole[:, :, 5:30] + 1, atol=1e-6, rtol=0)
    assert (total[:, :, :5] == 1).all()
    assert (total[:, :, 30:] == 1).all()


@pytest.mark.parametrize("size", [(2, 2), (4, 4), (6, 10), (33, 17)])
@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float32, 1e-4), (torch.bfloat16, 0.25)])
def test_convolving_doubled_planes_without_doubling_them(size, dtype, tolerance):
    planes, weight = torch.randn(2, 9, *size), torch.randn(6, 9, 3, 3).to(dtype)
    doubled = F.interpolate(planes, scale_factor=2, mode="bilinear")
    expected = F.conv2d(doubled, weight.float(), stride=2, padding=1)
    made = convolve_doubled(planes, weight)
    assert made.dtype == dtype
    torch.testing.assert_close(made.float(), expected, atol=tolerance, rtol=0)
