import numpy as np
from train.scenes import texture

from comfy_fusionfft.train.choose import SHARES, Seen, Slot, choose, find_slots, octave
from comfy_fusionfft.train.survey import Clip, look


def slots(clip, *motions):
    return [Slot(clip, tuple(range(9 * n, 9 * n + 9)), 1, motion) for n, motion in enumerate(motions)]


def test_octaves():
    assert [octave(motion) for motion in (0, 0.4, 0.5, 0.9, 1, 3.9, 16, 31, 32, 500)] == [0, 0, 1, 1, 2, 3, 6, 6, 7, 7]
    assert octave(1e9) == len(SHARES) - 1


def test_rare_motion_comes_first():
    crowd = [slot for n in range(8) for slot in slots(f"slow{n}", *[1.5] * 10)]
    mixed = slots("mixed", *[1.5] * 10, 3, 6, 12, *[1.5] * 10)
    picked = [slot for slot in choose(crowd + mixed, 2) if slot.clip == "mixed"]
    assert {slot.motion for slot in picked} == {1.5, 3, 6, 12} or {slot.motion for slot in picked} == {3, 6, 12}


def test_octaves_are_filled_evenly():
    offered = [slot for n in range(12) for slot in slots(f"{n}", *[1.2] * 12, *[2.5] * 4, *[5] * 3, *[10] * 3)]
    counts = np.bincount([octave(slot.motion) for slot in choose(offered, 4)], minlength=6)[2:6]
    assert counts.sum() == 48 and counts.max() - counts.min() <= 1


def test_every_clip_gives_one_and_none_more_than_twice_the_average():
    offered = slots("still", 0.2) + slots("fast", *[9] * 30) + slots("a", *[1] * 3) + slots("b", *[1] * 3)
    picked = choose(offered, 2)
    counts = {clip: sum(slot.clip == clip for slot in picked) for clip in ("still", "fast", "a", "b")}
    assert len(picked) == 8 and min(counts.values()) >= 1 and max(counts.values()) <= 4


def test_windows_of_one_speed_are_spread_over_the_clip():
    starts = [slot.frames[0] for slot in choose(slots("one", *[2] * 11), 3)]
    assert starts == [0, 45, 90]


def test_the_choice_does_not_hang_on_the_order():
    offered = [slot for n in range(5) for slot in slots(f"{n}", *np.geomspace(0.3, 20, 9).tolist())]
    assert choose(offered, 2) == choose(offered[::-1], 2)


def test_seen_pictures_are_known_again():
    prints = np.eye(4, dtype=np.float16)
    seen = Seen({"old": prints[:2]})
    assert seen.match(prints[1:3], needed=1) == "old" and seen.match(prints[1:3], needed=2) is None
    seen.add("new", prints[2:])
    assert seen.match(prints[2:], needed=2) == "new" and Seen().match(prints, needed=1) is None


def test_a_still_clip_offers_nothing_but_a_mouth_that_moves_does(tmp_path):
    ground, thing = texture(96, 128, 1), texture(16, 16, 2)
    frames = [ground.copy() for _ in range(12)]
    for number, frame in enumerate(frames):
        frame[40:56, 40 + 2 * number : 56 + 2 * number] = thing
    looks = {Clip(tmp_path / "still.mp4"): look([texture(96, 128, 3)] * 12), Clip(tmp_path / "mouth.mp4"): look(frames)}
    lines = []
    found = find_slots(looks, {}, 5, 96, lines.append)
    assert [slot.clip for slot in found] == ["mouth.mp4"]
    assert "still.mp4: left out or moved: 1 still" in lines
