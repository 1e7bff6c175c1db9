"""What made pictures may hold, with and without alpha."""

import torch

from comfy_fusionfft.ops.limits import limit_, limited, limits


def test_normal_pictures_and_those_with_highlights():
    assert [float(x) for x in limits(torch.full((1, 3, 2, 2), 0.5))] == [0, 1]
    bright = torch.tensor([-1.0, 0.5, 7.0]).view(1, 3, 1, 1)
    assert [float(x) for x in limits(bright)] == [-1, 7]
    made = limited(torch.tensor([-5.0, 0.5, 9.0]).view(1, 3, 1, 1), limits(torch.zeros(1, 3, 1, 1)), limits(bright))
    assert made.flatten().tolist() == [-1, 0.5, 7]


def test_colour_keeps_within_its_alpha():
    """Half-transparent colour of 0.8 would be 1.6 once alpha is divided out."""
    made = torch.tensor([0.8, -0.2, 0.3, 0.5]).view(1, 4, 1, 1)
    limit_(made, limits(torch.zeros(1, 4, 1, 1)))
    assert made.flatten().tolist() == [0.5, 0, torch.tensor(0.3).item(), 0.5]
    beyond = torch.tensor([3.0, 0, 0, 1.5]).view(1, 4, 1, 1)
    assert limit_(beyond, limits(torch.zeros(1, 4, 1, 1))).flatten().tolist() == [1, 0, 0, 1]


def test_a_highlight_at_a_soft_edge_is_as_bright_as_it_was():
    soft = torch.tensor([2.0, 0, 0, 0.01]).view(1, 4, 1, 1)  # of 200
    torch.testing.assert_close(limits(soft)[1], torch.tensor(200.0))
    assert torch.equal(limited(soft, limits(soft)), soft)
