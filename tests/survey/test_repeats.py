import cv2
import numpy as np
import pytest
from survey.clips import of
from train.scenes import pan, texture

from comfy_fusionfft.survey import find_repeats
from comfy_fusionfft.survey.cadence import cadence

SIZE = (90, 160)


def held(pictures, counts):
    """Each picture as often as its count says."""
    return [p for p, count in zip(pictures, counts, strict=False) for _ in range(count)]


def recoded(pictures, quality=70):
    """Through JPEG, each a little differently, so that copies differ."""
    stored = [cv2.imencode(".jpg", p, [cv2.IMWRITE_JPEG_QUALITY, quality - n % 5])[1] for n, p in enumerate(pictures)]
    return [cv2.imdecode(data, cv2.IMREAD_COLOR) for data in stored]


def repeats(pictures, **options):
    found = find_repeats(of(pictures, **options))
    return np.flatnonzero(found.repeated).tolist(), found


CADENCES = {
    "on twos": [2] * 16,
    "on threes": [3] * 12,
    "on fours": [4] * 9,
    "on fives": [5] * 8,
    "every 5th frame repeated": [1, 1, 1, 2] * 8,
    "every 3rd frame repeated": [1, 2] * 12,
    "held 3:2": [3, 2] * 8,
}


@pytest.mark.parametrize("again", [list, recoded], ids=["exact", "recoded"])
@pytest.mark.parametrize("name", CADENCES)
def test_cadences(name, again):
    counts = CADENCES[name]
    starts = set(np.cumsum([0, *counts]).tolist())
    pictures = again(held(pan(len(counts), *SIZE, 4, 1), counts))
    where, found = repeats(pictures, rate=24 if max(counts) < 4 else 60)
    assert where == [n for n in range(len(pictures)) if n not in starts]
    assert [stretch.cadence for stretch in found.stretches] == [name]
    # A rate is filled up where motion is even from picture to picture though they are shown for unequal times.
    assert found.stretches[0].even == (len(set(counts)) > 1)


def test_frames_that_were_lost():
    pictures = pan(40, *SIZE, 4, 1)
    for lost in (7, 19, 20, 31):
        pictures[lost] = pictures[lost - 1]
    where, found = repeats(pictures)
    assert where == [7, 19, 20, 31]
    assert [(stretch.cadence, stretch.repeats, stretch.even) for stretch in found.stretches] == [
        ("3 single stutters", 4, False)
    ]


def test_lost_frames_in_step_keep_their_instants():
    pictures = pan(60, *SIZE, 4, 1)
    for lost in range(4, 60, 5):
        pictures[lost] = pictures[lost - 1]
    _, found = repeats(pictures)
    assert [stretch.even for stretch in found.stretches] == [False]


def test_held_drawings_under_fresh_grain():
    random = np.random.default_rng(0)
    pictures = held(pan(16, 180, 320, 8, 1), [2] * 16)
    grainy = [np.clip(p + random.normal(0, 10, (180, 320, 1)), 0, 255).astype(np.uint8) for p in pictures]
    where, _ = repeats(grainy)
    assert where == list(range(1, 32, 2))


@pytest.mark.parametrize("again", [list, recoded], ids=["exact", "recoded"])
def test_a_still_shot_repeats_nothing(again):
    where, found = repeats(again([texture(*SIZE)] * 40))
    assert where == [] and found.stretches == ()


def test_a_picture_that_stands_still_within_motion_stays():
    pictures = pan(24, *SIZE, 4, 1)
    where, found = repeats([*pictures[:12], *[pictures[11]] * 20, *pictures[12:]])
    assert where == [] and np.flatnonzero(found.still).tolist() == list(range(12, 32))


@pytest.mark.parametrize("step", [1, 2])
def test_a_slow_pan_repeats_nothing(step):
    wide = texture(360, 700, 1)
    pictures = [
        cv2.resize(wide[:, n * step : n * step + 640], (320, 180), interpolation=cv2.INTER_AREA) for n in range(30)
    ]
    assert repeats(pictures)[0] == []


def test_motion_that_turns_round_repeats_nothing():
    wide = texture(SIZE[0], SIZE[1] + 80, 1)
    at = (40 + 38 * np.sin(np.arange(60) / 4)).round().astype(int)
    where = repeats([np.ascontiguousarray(wide[:, x : x + SIZE[1]]) for x in at])[0]
    assert set(where) <= set((np.flatnonzero(np.diff(at) == 0) + 1).tolist())


def test_a_moving_part_is_not_a_repeat():
    ground, thing = texture(*SIZE, 1), texture(10, 10, 2)
    pictures = held(pan(16, *SIZE, 0, 1), [2] * 16)
    for number, picture in enumerate(pictures):
        pictures[number] = picture = ground.copy()
        picture[4:14, 4 + 2 * number : 14 + 2 * number] = thing
    assert repeats(pictures)[0] == []


def test_a_pan_behind_a_held_drawing_is_not_a_repeat():
    pictures, drawing = pan(32, *SIZE, 2, 1), texture(50, 60, 2)
    for number, picture in enumerate(pictures):
        picture[20:70, 40 + 4 * (number // 2) : 100 + 4 * (number // 2)] = drawing
    assert repeats(pictures)[0] == []


def test_repeats_do_not_cross_cuts():
    pictures = [*held(pan(12, *SIZE, 4, 1), [2] * 12), *held(pan(12, *SIZE, 4, 2), [2] * 12)]
    found = find_repeats(of(pictures), (24,))
    assert not found.repeated[24] and len(found) == 24
    assert [(s.first, s.cadence) for s in found.stretches] == [(0, "on twos"), (24, "on twos")]


@pytest.mark.parametrize(
    ("counts", "words"),
    [
        ([2, 2, 2, 2], "on twos"),
        ([8, 8, 8, 8], "every picture shown 8 times"),
        ([1] * 11 + [2], "a single stutter"),
        ([1, 2] + [1] * 9 + [2] + [1] * 5 + [3], "3 single stutters"),
        (([1] * 10 + [2]) * 4, "every 12th frame repeated"),
        ([3, 1, 2, 2, 1, 3, 2, 1, 3], "held 1 to 3 frames"),
    ],
)
def test_words(counts, words):
    assert cadence(np.array(counts)) == words
