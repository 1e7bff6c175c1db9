import json
from dataclasses import replace
from fractions import Fraction
from itertools import pairwise

import numpy as np
import pytest
from survey.clips import as_frames, of
from train.scenes import pan

from comfy_fusionfft.errors import InputError
from comfy_fusionfft.survey import Edit, EvenTimes, Line, edited, find_repeats, make_edit, survey

SIZE = (90, 160)
STEP = Fraction(1, 24)


def held(count, pattern, seed=1):
    pictures = pan(count, *SIZE, 4, seed)
    return [p for n, p in enumerate(pictures) for _ in range(pattern[n % len(pattern)])]


def run(pictures, **options):
    """What an edit makes of pictures: it, and the instants of the frames it keeps, in source frames."""
    edit = make_edit(of(pictures), dedupe=True, **options)
    frames = list(edited(as_frames(pictures), edit))
    assert len(frames) == edit.kept
    return edit, frames, [frame.seconds / STEP for frame in frames]


def test_nothing_to_do():
    pictures = pan(12, *SIZE, 4, 1)
    edit, frames, times = run(pictures)
    assert edit.kept == 12 and times == list(range(12)) and edit.cuts == () and not edit.changes
    assert all(frame.original for frame in frames)


def test_repeats_stay_unless_asked():
    seen = of(held(12, [2]))
    assert not make_edit(seen).changes and make_edit(seen, dedupe=True).changes


def test_twos_keep_their_instants_and_the_clip_its_length():
    _, frames, times = run(held(12, [2]))
    # The very last frame is a repeat: it stays, so that the clip ends when it did.
    assert times == [*range(0, 24, 2), 23]
    assert frames[-1].pixels.equal(frames[-2].pixels)


def test_a_rate_filled_up_is_spread_evenly():
    edit, frames, times = run(held(24, [1, 1, 1, 2]))
    assert edit.kept == 25 and times[0] == 0 and times[-1] == 29
    steps = np.diff([float(t) for t in times[:-1]])
    assert steps.min() > 1.15 and steps.max() < 1.35 and len(set(np.round(steps, 9))) == 1
    motion = [float((a.pixels.float() - b.pixels.float()).abs().mean()) for a, b in pairwise(frames)]
    assert min(motion[:-1]) > 5 and motion[-1] == 0


def test_no_frame_is_moved_by_more_than_a_frame():
    edit, _, times = run([*held(24, [1, 1, 1, 2]), *held(24, [3, 2])[6:]], cuts="none")
    assert max(abs(float(t) - edit.source_index(n)) for n, t in enumerate(times)) <= 1
    assert all(b > a for a, b in pairwise(times))


def test_lost_frames_leave_the_instants_alone():
    pictures = pan(40, *SIZE, 4, 1)
    for lost in range(4, 40, 5):
        pictures[lost] = pictures[lost - 1]
    edit, _, times = run(pictures)
    assert times == [n for n in range(40) if n % 5 != 4 or n == 39] and len(edit.seconds) == 0


def test_every_shot_begins_and_ends_when_it_did():
    edit, _, times = run([*held(12, [2], 1), *held(12, [2], 2)])
    assert edit.cuts == (13,) and times[12:14] == [23, 24]


def test_an_irregular_clock_stays():
    pictures = pan(24, *SIZE, 4, 1)
    pictures[10] = pictures[9]
    frames = [*as_frames(pictures)]
    frames = [replace(f, seconds=f.seconds + Fraction(n % 3, 100)) for n, f in enumerate(frames)]
    edit = make_edit(survey(frames), dedupe=True)
    kept = list(edited(frames, edit))
    assert [f.seconds for f in kept] == [f.seconds for n, f in enumerate(frames) if n != 10]


def test_cuts_by_hand():
    seen = of(held(12, [2]))
    assert make_edit(seen, cuts=[6, 18, 6]).cuts == (6, 18)
    assert make_edit(seen, cuts=()).cuts == make_edit(seen, cuts="none").cuts == ()
    # A cut into a repeat: the repeat begins a shot, and stays; so does the frame before the cut.
    edit = make_edit(seen, cuts=[7], dedupe=True)
    assert [edit.source_index(n) for n in range(5)] == [0, 2, 4, 6, 7] and edit.cuts == (4,)
    with pytest.raises(InputError, match="a cut at frame 24 was given, the clip has 24 frames: .* 1 to 23"):
        make_edit(seen, cuts=[24])
    with pytest.raises(InputError, match="cuts 'some' is not known: use auto, none, or the frames"):
        make_edit(seen, cuts="some")


def test_numbers_translate_both_ways():
    edit = Edit(10, np.array([1, 2, 5, 9]))
    kept = [0, 3, 4, 6, 7, 8]
    assert [edit.source_index(n) for n in range(edit.kept)] == kept
    assert [edit.kept_index(source) for source in kept] == list(range(6))
    assert [edit.kept_index(source) for source in (1, 2, 5, 9)] == [0, 0, 2, 5]
    with pytest.raises(InputError, match="kept frame 6 was asked for, the edit keeps 6: give 0 to 5"):
        edit.source_index(6)


def test_a_pass_may_start_in_the_middle():
    pictures = held(24, [1, 1, 1, 2])
    edit, whole, _ = run(pictures)
    for start in (0, 1, 7, edit.kept - 1):
        later = list(as_frames(pictures))[edit.source_index(start) :]
        rest = list(edited(later, edit, start=start))
        assert [f.seconds for f in rest] == [f.seconds for f in whole[start:]]
        assert all(a.pixels.equal(b.pixels) for a, b in zip(rest, whole[start:], strict=True))


def test_frames_stream():
    pictures = held(12, [2])
    edit = make_edit(of(pictures), dedupe=True)
    taken = []
    source = (taken.append(n) or frame for n, frame in enumerate(as_frames(pictures)))
    first = next(edited(source, edit))
    assert first.seconds == 0 and taken == [0]


def test_another_clip_than_the_surveyed_one():
    edit = make_edit(of(pan(8, *SIZE, 4, 1)))
    with pytest.raises(InputError, match="the clip goes on after its 8 surveyed frames: survey it again"):
        list(edited(as_frames(pan(9, *SIZE, 4, 1)), edit))
    with pytest.raises(InputError, match="the clip ends after 7 frames, its survey saw 8: survey it again"):
        list(edited(as_frames(pan(7, *SIZE, 4, 1)), edit))


def test_json_is_exact():
    edit = make_edit(of([*held(24, [1, 1, 1, 2]), *held(24, [2], 2)]), dedupe=True)
    again = Edit.from_json(edit.to_json())
    assert (again.frames, again.cuts, again.dropped.tolist()) == (edit.frames, edit.cuts, edit.dropped.tolist())
    assert len(edit.seconds) > 10 and dict(again.seconds) == dict(edit.seconds)
    assert "even" in json.loads(edit.to_json())
    plain = Edit(4, seconds={1: Fraction(1, 3)})
    assert dict(Edit.from_json(plain.to_json()).seconds) == {1: Fraction(1, 3)}
    for wrong in ("", "[]", '{"frames": 3}', '{"frames": 3, "dropped": [], "cuts": [], "even": [[0, 1]]}'):
        with pytest.raises(InputError, match="text that is no edit .* give what Edit.to_json wrote"):
            Edit.from_json(wrong)


def test_even_times_are_a_mapping():
    times = EvenTimes(
        [
            Line(0, 4, Fraction(0), Fraction(5)),
            Line(4, 5, Fraction(5), Fraction(6)),
            Line(7, 9, Fraction(8), Fraction(11)),
        ]
    )
    assert dict(times) == {1: Fraction(5, 4), 2: Fraction(5, 2), 3: Fraction(15, 4), 8: Fraction(19, 2)}
    assert len(times) == 4 and times.get(0) is None and times.get(4) is None and 100 not in times


def test_what_was_found_need_not_be_found_again():
    seen = of(held(12, [2]))
    found = find_repeats(seen)
    assert make_edit(seen, dedupe=True, repeats=found).dropped.tolist() == make_edit(seen, dedupe=True).dropped.tolist()
