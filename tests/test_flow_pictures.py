"""Pictures of motion: colours mean what the key says, arrows point along the motion, anchors are the right frames."""

import pytest
import torch

from comfy_fusionfft.drawing import Canvas, text_width
from comfy_fusionfft.errors import InputError
from comfy_fusionfft.flow_pictures import (
    BOTH,
    LEFT,
    RIGHT,
    arrows,
    colour,
    common_speed,
    grid_step,
    occlusion,
)
from comfy_fusionfft.flow_timeline import ABSENT, CHOSEN, anchors_at, lay_out, timeline

DIRECTIONS = {"right": (1, 0), "down": (0, 1), "left": (-1, 0), "up": (0, -1)}


def moving(x: float, y: float, size: tuple[int, int] = (64, 96), count: int = 1) -> torch.Tensor:
    """Everything moves by (x, y) from the left to the right frame; seen from the middle."""
    half = torch.tensor([-x / 2, -y / 2, x / 2, y / 2])
    return half.view(1, 4, 1, 1).expand(count, 4, *size).clone()


def clip(frames: int, factor: int, wide: int = 1) -> tuple[torch.Tensor, tuple[torch.Tensor, ...], torch.Tensor]:
    """pairs, timesteps and instants of a multiplied clip; ``wide``: nested pairs whose flow was found."""
    inside = torch.arange(1, factor, dtype=torch.float64) / factor
    found = []
    for i in range(frames - 1):
        for k in range(wide):
            if i - k >= 0 and i + 1 + k < frames:
                found.append(((i - k, i + 1 + k), (inside + k) / (2 * k + 1)))
    pairs = torch.tensor([pair for pair, _ in found], dtype=torch.int64).reshape(-1, 2)
    return pairs, tuple(t for _, t in found), torch.arange((frames - 1) * factor + 1, dtype=torch.float64) / factor


def wheel_of(key_picture: torch.Tensor) -> tuple[int, int, int]:
    """Centre and radius of the wheel in a picture that is white elsewhere: its coloured rows and columns."""
    tinted = (key_picture.amax(-1) - key_picture.amin(-1)) > 0.25
    rows, columns = tinted.any(1).nonzero()[:, 0], tinted.any(0).nonzero()[:, 0]
    top, bottom, left, right = (int(v) for v in (rows[0], rows[-1], columns[0], columns[-1]))
    return (left + right) // 2, (top + bottom) // 2, (bottom - top) // 2


@pytest.mark.parametrize("direction", DIRECTIONS)
def test_the_wheel_shows_the_colour_of_each_direction_where_that_direction_points(direction: str) -> None:
    dx, dy = DIRECTIONS[direction]
    still = colour(torch.zeros(1, 4, 800, 800), fastest=10)[0]
    x, y, radius = wheel_of(still)
    place = 0.8
    shown = colour(moving(10 * place * dx, 10 * place * dy), fastest=10)[0, 5, 5]
    on_wheel = still[y + round(place * radius * dy), x + round(place * radius * dx)]
    assert (shown - on_wheel).abs().max() < 0.2, f"{direction}: {shown.tolist()} but the key has {on_wheel.tolist()}"


def test_one_scale_serves_a_clip_and_what_does_not_move_is_white() -> None:
    flow = torch.cat((moving(0, 0), moving(4, 0), moving(12, 0)))
    assert common_speed([flow]) == 12
    assert common_speed([moving(13, 0), flow[:1]]) == 15, "a round number from the fastest on"
    assert common_speed([torch.zeros(1, 4, 8, 8)]) == 1, "noise in a still clip is not blown up"
    assert common_speed([]) == 1
    shown = colour(flow)[:, 0, 0]
    assert torch.equal(shown[0], torch.ones(3))
    assert torch.allclose(shown[1], torch.tensor([1, 2 / 3, 2 / 3]), atol=1e-3), "a third of the speed, a third of red"
    assert torch.allclose(shown[2], torch.tensor([1.0, 0, 0]), atol=1e-3)


def test_half_precision_and_numbers_that_are_none_are_drawn() -> None:
    flow = moving(6, -3)
    half = flow.half()
    half[0, :, 3, 3] = float("nan")
    for draw in (colour, arrows):
        assert torch.isfinite(draw(half)).all()
    assert (colour(flow)[0, 10, 10] - colour(half)[0, 10, 10]).abs().max() < 0.01


@pytest.mark.parametrize("direction", DIRECTIONS)
def test_arrows_have_their_head_where_things_move_to(direction: str) -> None:
    dx, dy = DIRECTIONS[direction]
    size = (540, 540)
    step = grid_step(*size)
    middle = step * 9
    flow = torch.zeros(1, 4, *size)
    window = slice(middle - step // 2, middle + step // 2 + 1)
    flow[..., window, window] = moving(40 * dx, 40 * dy, (step + 1, step + 1))
    picture = arrows(flow, fastest=40, key=False)[0]
    rows, columns = ((picture.amax(-1) - picture.amin(-1)) > 0.3).nonzero().T
    assert len(rows) > 30
    # The head is wider than the shaft: more of the arrow's pixels lie towards its tip.
    for place, toward in ((columns, dx), (rows, dy)):
        lean = float(place.double().mean() - (place.min() + place.max()) / 2)
        assert lean * toward > 1 if toward else abs(lean) < 1, f"{direction}: leans by {lean}"


def test_arrows_grow_with_speed_and_are_absent_where_nothing_moves() -> None:
    ground = torch.full((1, 180, 180, 3), 0.4)
    assert torch.equal(
        arrows(torch.zeros(1, 4, 180, 180), ground, key=False), arrows(moving(0.2, 0, (180, 180)), ground, key=False)
    )
    tinted = [
        int((a.amax(-1) - a.amin(-1) > 0.3).sum())
        for a in (arrows(moving(v, 0, (180, 180)), fastest=20, key=False) for v in (3, 6, 9))
    ]
    assert 0 < tinted[0] < tinted[1] < tinted[2]


@pytest.mark.parametrize("shade", [0.0, 0.5, 1.0])
def test_arrows_are_readable_over_any_picture(shade: float) -> None:
    ground = torch.full((1, 180, 180, 3), shade)
    picture = arrows(moving(8, 8, (180, 180)), ground, key=False)[0]
    brightness = picture.mean(-1)
    assert brightness.amin() < 0.1 and (picture.amax(-1) - picture.amin(-1)).amax() > 0.6, "outline and colour"


def test_a_pixel_has_the_colour_of_the_frame_it_is_taken_from() -> None:
    mask = torch.tensor([20.0, 0.0, -20.0]).view(3, 1, 1, 1).expand(3, 1, 64, 96)
    shown = occlusion(mask, moving(0, 0, count=3))[:, 5, 5]
    assert torch.allclose(shown, torch.tensor([LEFT, BOTH, RIGHT]), atol=1e-3)


def test_stripes_lie_where_a_view_leaves_its_frame() -> None:
    mask = torch.zeros(1, 1, 60, 120)
    plain = occlusion(mask, moving(0, 0, (60, 120)), key=False)
    moved = occlusion(mask, moving(40, 0, (60, 120)), key=False)  # 20 px to each side
    striped = (moved != plain).any(-1)[0]
    assert striped[:, :19].any() and striped[:, -19:].any() and not striped[:, 21:-21].any()
    left, right = striped[:20, :19], striped[:20, -19:]
    # / for the left frame, \ for the right one: a step down goes a step back, or a step on.
    assert torch.equal(left[1:, :-1], left[:-1, 1:]) and torch.equal(right[1:, 1:], right[:-1, :-1])
    assert not torch.equal(left[1:, 1:], left[:-1, :-1])


@pytest.mark.parametrize("size", [(16, 16), (64, 64), (64, 200), (1080, 1920)])
def test_keys_stay_in_the_corner(size: tuple[int, int]) -> None:
    flow = moving(5, 0, size)
    for with_key, without in (
        (colour(flow), colour(flow, key=False)),
        (arrows(flow), arrows(flow, key=False)),
        (occlusion(flow[:, :1], flow), occlusion(flow[:, :1], flow, key=False)),
    ):
        assert with_key.shape == (1, *size, 3) and with_key.dtype == torch.float32
        assert with_key.amin() >= 0 and with_key.amax() <= 1
        rows, columns = (with_key != without).any(-1)[0].nonzero().T
        if min(size) >= 64:
            assert len(rows), "no key"
            assert rows.min() >= size[0] * 0.3 and columns.min() >= size[1] * 0.3


def test_wrong_shapes_are_refused() -> None:
    with pytest.raises(InputError, match=r"^flow of shape \(1, 2, 8, 8\): give \(T, 4, H, W\)"):
        colour(torch.zeros(1, 2, 8, 8))
    with pytest.raises(InputError, match=r"^background of shape \(1, 8, 9, 3\): give \(1 or 1, 8, 8, 3\)"):
        arrows(torch.zeros(1, 4, 8, 8), torch.zeros(1, 8, 9, 3))
    with pytest.raises(InputError, match=r"^mask \(2, 1, 8, 8\) and flow \(1, 4, 8, 8\) differ"):
        occlusion(torch.zeros(2, 1, 8, 8), torch.zeros(1, 4, 8, 8))


def test_anchors_are_nested_around_their_instant() -> None:
    pairs, timesteps, _ = clip(10, 4)
    first, second, third = anchors_at(pairs, timesteps, 4.25, 3)
    assert [(a.left, a.right, a.span) for a in (first, second, third)] == [(4, 5, 1), (3, 6, 3), (2, 7, 5)]
    assert [a.timestep for a in (first, second, third)] == pytest.approx([0.25, 1.25 / 3, 2.25 / 5])
    assert all(a.has_left and a.has_right for a in (first, second, third))
    assert [a.stored for a in (first, second, third)] == [True, False, False], "wider pairs are chained"


def test_at_the_ends_chained_anchors_keep_the_side_that_exists_and_found_ones_are_whole_or_absent() -> None:
    chained = anchors_at(*clip(10, 2)[:2], 1.5, 3)
    assert [(a.has_left, a.has_right) for a in chained] == [(True, True), (True, True), (False, True)]
    nested = anchors_at(*clip(10, 2, wide=3)[:2], 1.5, 3)
    assert [(a.has_left, a.has_right, a.stored) for a in nested] == [(True,) * 3, (True,) * 3, (False,) * 3]
    last = anchors_at(*clip(10, 2)[:2], 8.5, 3)
    assert [(a.has_left, a.has_right) for a in last] == [(True, True), (True, False), (True, False)]


def test_a_chain_ends_where_flow_is_missing() -> None:
    pairs, timesteps, _ = clip(6, 2)
    cut = pairs[:, 0] != 3  # no flow from frame 3 to 4
    kept = tuple(t for t, there in zip(timesteps, cut.tolist(), strict=True) if there)
    found = anchors_at(pairs[cut], kept, 2.5, 2)
    assert [(a.has_left, a.has_right) for a in found] == [(True, True), (True, False)]


def test_a_source_frame_has_no_anchors() -> None:
    pairs, timesteps, instants = clip(5, 2)
    assert anchors_at(pairs, timesteps, 2.0, 3) == ()
    assert lay_out(pairs, timesteps, instants, 4).anchors == ()


@pytest.mark.parametrize("frames", [1, 2, 7, 300])
@pytest.mark.parametrize("width", [320, 1280])
def test_the_axis_shows_the_chosen_instant_with_its_anchors_at_a_readable_scale(frames: int, width: int) -> None:
    pairs, timesteps, instants = clip(frames, 2)
    for chosen in {0, len(instants) // 3, len(instants) - 1, max(len(instants) - 2, 0)}:
        layout = lay_out(pairs, timesteps, instants, chosen, width=width)
        assert layout.frames == frames and layout.chosen == instants[chosen]
        for frame in [layout.chosen, *(f for a in layout.anchors for f in (a.left, a.right))]:
            assert layout.first <= frame <= layout.last and 0 < layout.x(frame) < width
        # Frame numbers stay apart; half a tile of a neighbour may not show at the edges.
        assert layout.spacing > text_width("299", 8) and layout.x(layout.last + 0.5) == pytest.approx(width)
        assert layout.whole == (frames < 300)
        assert all(layout.first - 0.5 <= v <= layout.last + 0.5 for v in layout.instants)


def test_drawings_of_all_instants_of_a_clip_have_one_size() -> None:
    pairs, timesteps, instants = clip(40, 2)
    shapes = {timeline(pairs, timesteps, instants, k, width=640).shape for k in (0, 1, 40, 77, 78)}
    assert len(shapes) == 1


def test_the_drawing_has_the_chosen_instant_and_greyed_anchors() -> None:
    pairs, timesteps, instants = clip(2, 2)
    picture = timeline(pairs, timesteps, instants, 1, width=800)
    layout = lay_out(pairs, timesteps, instants, 1, width=800)
    column = picture[:, int(layout.x(0.5))]
    assert ((column - torch.tensor(CHOSEN)).abs().amax(-1) < 0.1).sum() > 20
    absent = ((picture - torch.tensor(ABSENT)).abs().amax(-1) < 0.02).sum(0).nonzero()[:, 0]
    assert absent.min() < layout.x(-1) and absent.max() > layout.x(2), "pairs beyond the clip are drawn grey"


def test_small_pictures_of_the_source_frames_are_drawn_where_their_frames_lie() -> None:
    pairs, timesteps, instants = clip(3, 2)
    images = torch.zeros(3, 20, 30, 3)
    images[1, ..., 0] = 1
    picture = timeline(pairs, timesteps, instants, 1, width=800, images=images)
    red = ((picture[..., 0] > 0.9) & (picture[..., 1] < 0.1)).sum(0).nonzero()[:, 0].double()
    assert float(red.mean()) == pytest.approx(lay_out(pairs, timesteps, instants, 1, width=800).x(1), abs=8)


def test_the_timeline_refuses_what_it_cannot_draw() -> None:
    pairs, timesteps, instants = clip(3, 2)
    with pytest.raises(InputError, match=r"^instant 9 was asked for, the output has 5: give 0 to 4"):
        timeline(pairs, timesteps, instants, 9)
    with pytest.raises(InputError, match="^there are no instants to draw"):
        timeline(pairs, timesteps, instants[:0])


def test_shapes_lie_where_they_are_put_and_have_soft_edges() -> None:
    canvas = Canvas(20, 10, (0, 0, 0))
    canvas.box(4, 2, 10.5, 8, (1, 1, 1))
    column = canvas.pixels()[5, :, 0]
    assert column[3] < 0.2 and (column[5:9] == 1).all() and 0.3 < column[10] < 0.8 and column[12] == 0


def test_text_is_as_tall_as_asked_for() -> None:
    for height in (8, 20, 60):
        canvas = Canvas(100, 100, (0, 0, 0))
        canvas.text("H", 20, 50, height, (1, 1, 1))
        rows = canvas.pixels()[..., 0].max(1) > 0.3
        assert abs(rows.sum() - height) <= 2 and abs(rows.nonzero()[0].mean() - 49.5) <= 1.5
