"""Motion at an instant between two frames: geometry, visibility, batching."""

import math

import pytest
import torch

from comfy_fusionfft.ops.intermediate import flow_consistency, flow_to_times, intermediate_flow
from comfy_fusionfft.ops.warp import backward_warp

SIZE = 40
MOVE = 8


def square_moving_right() -> tuple[torch.Tensor, ...]:
    """A square at columns 10..19 of frame 0 moves right by 8 over a still background; exact flows and colours."""
    img0, img1 = torch.zeros(1, 1, SIZE, SIZE), torch.zeros(1, 1, SIZE, SIZE)
    flow01, flow10 = torch.zeros(1, 2, SIZE, SIZE), torch.zeros(1, 2, SIZE, SIZE)
    img0[..., 10:30, 10:20] = img1[..., 10:30, 10 + MOVE : 20 + MOVE] = 1
    flow01[:, 0, 10:30, 10:20] = MOVE
    flow10[:, 0, 10:30, 10 + MOVE : 20 + MOVE] = -MOVE
    return img0, img1, flow01, flow10


def random_smooth_flow(batch: int) -> torch.Tensor:
    coarse = 6 * torch.randn(batch, 2, 4, 4)
    return torch.nn.functional.interpolate(coarse, (24, 32), mode="bilinear", align_corners=True)


@pytest.mark.parametrize("t", [0.125, 0.5, 0.8])
def test_uniform_motion_is_cut_at_t_and_only_time_decides(t):
    motion = torch.tensor([3.0, -2.0]).view(1, 2, 1, 1)
    flow01 = motion.expand(1, 2, 30, 30)
    flow, mask = intermediate_flow(flow01, -flow01, torch.tensor([t]))
    torch.testing.assert_close(flow[:, :2], (-t * motion).expand_as(flow01), atol=1e-5, rtol=0)
    torch.testing.assert_close(flow[:, 2:], ((1 - t) * motion).expand_as(flow01), atol=1e-5, rtol=0)
    inner = mask[..., 8:-8, 8:-8]
    torch.testing.assert_close(inner, torch.full_like(inner, math.log((1 - t) / t)), atol=1e-4, rtol=0)


@pytest.mark.parametrize("t", [0.25, 0.5, 0.75])
def test_a_moving_square_is_found_where_it_is_at_t(t):
    img0, img1, flow01, flow10 = square_moving_right()
    true = torch.zeros_like(img0)
    start = 10 + int(MOVE * t)
    true[..., 10:30, start : start + 10] = 1

    def error(to_left, to_right, share):
        got = backward_warp(img0, to_left) * share + backward_warp(img1, to_right) * (1 - share)
        return (got - true).abs()

    flow, mask = intermediate_flow(flow01, flow10, torch.tensor([t]))
    ours = error(flow[:, :2], flow[:, 2:], mask.sigmoid())
    linear = error(
        t * t * flow10 - t * (1 - t) * flow01, (1 - t) ** 2 * flow01 - t * (1 - t) * flow10, torch.tensor(1 - t)
    )
    assert ours[..., start + 1 : start + 9].max() < 1e-4  # the square itself is whole
    assert ours.mean() < linear.mean() / 3
    assert ours.max() < 0.45


def test_the_mask_turns_to_the_frame_that_sees_the_place():
    _, _, flow01, flow10 = square_moving_right()
    mask = intermediate_flow(flow01, flow10, torch.tensor([0.5])).mask[0, 0, 20]
    # The square is at 14..23. Ahead of it, 24..27 is background that frame 1 no longer shows; behind it,
    # 10..13 is background that frame 0 did not show yet.
    assert mask[26] > 1
    assert mask[11] < -1
    assert abs(mask[18]) < 0.1 and abs(mask[35]) < 0.1


def test_confidence_is_high_on_what_both_frames_show_and_nothing_in_holes():
    _, _, flow01, flow10 = square_moving_right()
    _, confidence = flow_to_times(flow01, flow10, torch.tensor([0.5]))
    assert confidence.shape == (1, 2, SIZE, SIZE)
    left, right = confidence[0, :, 20]
    assert left[18] > 0.99 and right[18] > 0.99
    assert left[12] == 0 and right[25] == 0
    assert right[11] < 0.1 and left[26] < 0.1  # seen once: nothing confirms it


def test_swapping_the_frames_swaps_the_answer():
    flow01, flow10 = random_smooth_flow(2)[:, None]
    flow, mask = intermediate_flow(flow01, flow10, torch.tensor([0.3]))
    swapped, unmask = intermediate_flow(flow10, flow01, torch.tensor([0.7]))
    torch.testing.assert_close(swapped, torch.cat((flow[:, 2:], flow[:, :2]), dim=1), atol=1e-4, rtol=1e-4)
    torch.testing.assert_close(unmask, -mask, atol=1e-4, rtol=1e-4)


def test_times_and_pairs_are_batched():
    flow01, flow10, times = random_smooth_flow(3), random_smooth_flow(3), torch.tensor([0.2, 0.5, 0.9])
    one_pair = intermediate_flow(flow01[:1], flow10[:1], times)
    one_time = intermediate_flow(flow01, flow10, times[1:2])
    each = intermediate_flow(flow01, flow10, times)
    assert each.flow.shape == (3, 4, 24, 32) and each.mask.shape == (3, 1, 24, 32)
    for n in range(3):
        for got, pair, time in ((one_pair, 0, n), (one_time, n, 1), (each, n, n)):
            alone = intermediate_flow(flow01[pair : pair + 1], flow10[pair : pair + 1], times[time : time + 1])
            torch.testing.assert_close(got.flow[n : n + 1], alone.flow, atol=1e-4, rtol=1e-4)
            torch.testing.assert_close(got.mask[n : n + 1], alone.mask, atol=1e-4, rtol=1e-4)


def test_counts_that_do_not_fit_are_refused():
    with pytest.raises(ValueError, match=r"with 3 times: give flows of one shape, and one pair, one time"):
        intermediate_flow(torch.zeros(2, 2, 4, 4), torch.zeros(2, 2, 4, 4), torch.tensor([0.2, 0.5, 0.7]))


@pytest.mark.parametrize("size", [(1, 1), (2, 3)])
def test_tiny_half_precision_input_and_the_ends_of_time_stay_finite_float32(size):
    flow01 = torch.randn(1, 2, *size).half()
    (flow, mask), confidence = flow_to_times(flow01, -flow01, torch.tensor([0.0, 1.0]))
    for tensor in (flow, mask, confidence):
        assert tensor.dtype == torch.float32 and tensor.isfinite().all()
    assert mask[0].min() > 5 and mask[1].max() < -5


def test_consistency_is_one_half_at_the_occlusion_limit():
    still, slip = torch.zeros(1, 2, 6, 6), torch.zeros(1, 2, 6, 6)
    assert (flow_consistency(still, still) == 1).all()
    slip[:, 0] = (0.5 / 0.99) ** 0.5  # slip² = 0.01·slip² + 0.5
    torch.testing.assert_close(flow_consistency(still, slip), torch.full((1, 1, 6, 6), 0.5))
