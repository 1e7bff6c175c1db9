import cv2
import numpy as np
import pytest
from train.scenes import pan, texture

from comfy_fusionfft.train import survey


def grey(picture):
    return cv2.cvtColor(survey.shrink(picture, survey.SIDE), cv2.COLOR_RGB2GRAY)


def test_cuts_and_repeats_break_runs():
    first, second = pan(8, 96, 128, 3, 1), pan(8, 96, 128, 3, 5)
    view = survey.look([*first, *second, second[-1], second[-1]])
    assert view.runs() == ((0, 8), (8, 16))
    assert view.runs(((2, 6), (7, 18))) == ((2, 6), (8, 16))
    assert view.motion.shape == (17, 2) and 2 < np.median(view.motion) < 4


@pytest.mark.parametrize("step", [1, 8, 16])
def test_neither_slow_nor_fast_motion_is_a_cut_or_a_repeat(step):
    assert survey.look(pan(20, 192, 256, step)).runs() == ((0, 20),)


def test_a_still_clip_repeats_nothing():
    assert survey.look([texture(96, 128)] * 6).runs() == ((0, 6),)


def test_motion_in_one_corner_is_not_a_repeat():
    ground, thing = texture(96, 128, 1), texture(12, 12, 2)
    frames = [ground.copy() for _ in range(12)]
    for number, frame in enumerate(frames):
        frame[4:16, 4 + 2 * number : 16 + 2 * number] = thing
    frames[7] = frames[6]
    assert survey.look(frames).runs() == ((0, 7), (7, 12))


def test_motion_is_of_thumbnails():
    view = survey.look(pan(6, 192, 256, 8))
    assert (view.side, view.short) == (192, 96)
    assert float(np.median(view.motion)) == pytest.approx(4, abs=0.7)


@pytest.mark.parametrize("frames", [1, 2])
def test_clips_of_a_frame_or_two(frames):
    view = survey.look(pan(frames, 96, 128, 3))
    assert len(view.prints) == frames and view.runs() == () and view.pace == 1


def test_frames_shown_twice_are_numbered_once():
    twice = [frame for frame in pan(12, 96, 128, 4) for _ in range(2)]
    view = survey.look(twice)
    assert view.numbers.tolist() == list(range(0, 24, 2))
    assert view.runs(((4, 24),)) == ((2, 12),) and 0.45 < view.pace < 0.6


def test_a_fingerprint_outlives_coding_but_tells_pictures_apart():
    picture = texture(360, 480, 3)
    stored = cv2.imdecode(cv2.imencode(".jpg", cv2.resize(picture, (240, 180)), [cv2.IMWRITE_JPEG_QUALITY, 15])[1], 1)
    bordered = np.pad(stored // 2 + 16, ((40, 40), (0, 0), (0, 0)))
    original = survey.fingerprint(grey(picture))
    assert original @ survey.fingerprint(grey(stored)) > survey.SAME
    assert original @ survey.fingerprint(grey(bordered)) > survey.SAME
    assert all(original @ survey.fingerprint(grey(texture(360, 480, seed))) < 0.7 for seed in range(4, 12))


def test_an_empty_picture_resembles_nothing():
    empty = np.full((96, 128), 60, np.uint8)
    assert not survey.fingerprint(empty).any()
    assert not survey.fingerprint(np.zeros((96, 128), np.uint8)).any()
