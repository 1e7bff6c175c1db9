import cv2
import numpy as np
import pytest
from survey.clips import as_frames, of
from train.scenes import pan, texture

from comfy_fusionfft.survey import cut_probability, find_cuts, survey

SIZE = (90, 160)


def scene(frames, step, seed):
    return pan(frames, *SIZE, step, seed)


def test_a_cut_is_where_a_new_scene_begins():
    assert find_cuts(of([*scene(12, 3, 1), *scene(9, 3, 2), *scene(12, 3, 3)])) == (12, 21)


@pytest.mark.parametrize("at", [1, 2, 29, 30])
def test_cuts_next_to_the_ends(at):
    pictures = [*scene(at, 3, 1), *scene(31 - at, 3, 2)]
    assert find_cuts(of(pictures)) == (at,)


@pytest.mark.parametrize("frames", [1, 2, 3])
def test_a_shot_of_a_few_frames(frames):
    pictures = [*scene(12, 3, 1), *scene(frames, 3, 2), *scene(12, 3, 3)]
    assert find_cuts(of(pictures)) == (12, 12 + frames)


def test_a_frame_of_another_scene_in_the_middle_of_one():
    pictures = scene(24, 3, 1)
    pictures[12] = texture(*SIZE, 9)
    assert find_cuts(of(pictures)) == (12, 13)


@pytest.mark.parametrize("step", [1, 8, 16])
def test_fast_motion_is_no_cut(step):
    assert find_cuts(of(scene(20, step, 1))) == ()


def test_a_shaking_camera_is_no_cut():
    random = np.random.default_rng(0)
    wide = texture(SIZE[0] + 40, SIZE[1] + 40, 4)
    corners = abs(np.cumsum(random.integers(-9, 10, (40, 2)), 0) % 80 - 40)
    assert find_cuts(of([np.ascontiguousarray(wide[y : y + SIZE[0], x : x + SIZE[1]]) for y, x in corners])) == ()


FLASHES = {
    "white": lambda p: np.full_like(p, 255),
    "black": lambda p: np.zeros_like(p),
    "bright": lambda p: np.clip(p.astype(int) * 2 + 40, 0, 255).astype(np.uint8),
    "dim": lambda p: p // 4,
}


@pytest.mark.parametrize("frames", [1, 2, 3])
@pytest.mark.parametrize("kind", FLASHES)
def test_a_flash_is_no_cut(kind, frames):
    pictures = scene(30, 2, 1)
    pictures[14 : 14 + frames] = [FLASHES[kind](p) for p in pictures[14 : 14 + frames]]
    assert find_cuts(of(pictures)) == ()


def test_a_strobe_is_no_cut():
    pictures = scene(30, 2, 1)
    assert find_cuts(of([p // 4 if n % 2 and n > 8 else p for n, p in enumerate(pictures)])) == ()


def test_a_cut_through_a_white_frame_is_one():
    pictures = [*scene(12, 2, 1), np.full((*SIZE, 3), 255, np.uint8), *scene(12, 2, 2)]
    assert set(find_cuts(of(pictures))) & {12, 13}


@pytest.mark.parametrize("goal", [0, 255])
def test_a_fade_is_no_cut(goal):
    pictures = [p.astype(float) for p in scene(36, 2, 1)]
    share = np.clip(1 - np.abs(np.arange(36) - 18) / 8, 0, 1)
    faded = [(p * (1 - s) + goal * s).astype(np.uint8) for p, s in zip(pictures, share, strict=True)]
    assert find_cuts(of(faded)) == ()


def test_a_dissolve_is_no_cut():
    share = np.clip((np.arange(36) - 12) / 12, 0, 1)
    both = zip(scene(36, 2, 1), scene(36, 2, 2), share, strict=True)
    assert find_cuts(of([(a * (1 - s) + b * s).astype(np.uint8) for a, b, s in both])) == ()


def test_cuts_in_the_dark():
    assert find_cuts(of([p // 12 for p in [*scene(12, 3, 1), *scene(12, 3, 2)]])) == (12,)


def test_cuts_under_grain():
    random = np.random.default_rng(0)
    pictures = [*pan(12, 270, 480, 6, 1), *pan(12, 270, 480, 6, 2)]
    noise = [random.normal(0, 25, (270, 480, 1)) for _ in pictures]
    grainy = [np.clip(p + n, 0, 255).astype(np.uint8) for p, n in zip(pictures, noise, strict=True)]
    assert find_cuts(of(grainy)) == (12,)


def test_a_jump_within_a_scene():
    wide = texture(SIZE[0], 600, 1)
    at = [*range(0, 36, 3), *range(300, 336, 3)]
    assert find_cuts(of([np.ascontiguousarray(wide[:, x : x + SIZE[1]]) for x in at])) == (12,)


def test_the_threshold_is_a_probability():
    seen = of([*scene(12, 3, 1), *scene(12, 3, 2)])
    likely = cut_probability(seen)
    assert likely.shape == (24,) and likely[0] == 0 and likely[12] > 0.95 and np.delete(likely, 12).max() < 0.05
    assert find_cuts(seen, threshold=1.0) == ()


def test_size_of_the_frames_does_not_matter():
    pictures = [*pan(12, 270, 480, 6, 1), *pan(12, 270, 480, 6, 2)]
    small = [cv2.resize(p, (320, 180), interpolation=cv2.INTER_AREA) for p in pictures]
    assert find_cuts(survey(as_frames(pictures))) == find_cuts(survey(as_frames(small))) == (12,)
