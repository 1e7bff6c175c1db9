"""Motion between two pictures of a window: padded for the source, of the pictures' own size afterwards."""

from fractions import Fraction as F

import pytest
import torch

from comfy_fusionfft.contract import Flow
from comfy_fusionfft.ops.between import flow_between, link_time


class Window:
    def __init__(self, *images):
        self.images, self.positions, self.memo = images, tuple(F(i) for i in range(len(images))), {}

    def once(self, name, positions, make):
        return self.memo.setdefault((name, positions), make())


class Source:
    modulus, padding = 16, "replicate"

    def features(self, image, position=None):
        return tuple(image.shape), position

    def flow(self, left, right, left_features, right_features, times):
        self.seen = left, left_features, right_features, times
        rows = torch.arange(float(left.shape[-2]))[:, None].expand(left.shape[-2:])
        return Flow(rows.expand(len(times), 4, -1, -1), rows.expand(len(times), 1, -1, -1))


@pytest.mark.parametrize("size", [(7, 3), (16, 32), (1, 1)])
def test_the_source_sees_padded_pictures_and_nobody_else_does(size):
    source, picture = Source(), torch.rand(1, 4, *size) * 3 - 1
    flow, mask = flow_between(source, Window(picture, picture), 0, 1, (F(1, 4), F(1, 2)))
    padded, left_features, right_features, times = source.seen
    assert padded.shape[1] == 3 and all(side % 16 == 0 for side in padded.shape[-2:])
    assert padded.min() >= 0 and padded.max() <= 1  # what lies beyond is not motion's business
    assert torch.equal(padded[..., -1, -1], picture[:, :3, -1, -1].clamp(0, 1))
    assert left_features == (tuple(padded.shape), 0) and right_features[1] == 1
    assert times.tolist() == [0.25, 0.5]
    assert flow.shape == (2, 4, *size) and mask.shape == (2, 1, *size)
    assert flow[0, 0, :, 0].tolist() == list(range(size[0]))  # the top left part


def test_times_are_shares_of_wider_pairs_too():
    source, pictures = Source(), [torch.rand(1, 3, 4, 4) for _ in range(4)]
    flow_between(source, Window(*pictures), 0, 3, (F(3, 2),))
    assert source.seen[3].tolist() == [0.5]


def test_an_interval_is_linked_at_its_own_instant_nearest_the_middle():
    assert link_time(F(3), (F(13, 4), F(18, 5), F(31, 8))) == F(18, 5)
    assert link_time(F(3), ()) == F(7, 2)
