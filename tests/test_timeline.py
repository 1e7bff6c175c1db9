"""The timeline is exact arithmetic: counts, instants and plans are checked against first principles."""

from fractions import Fraction as F
from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from comfy_fusionfft.errors import TimelineError
from comfy_fusionfft.retime import SpeedCurve
from comfy_fusionfft.timeline import At, Interval, Multiply, Rate


def instants(timing, stamps):
    """All instants of a clip whose frames are shown at ``stamps``."""
    out = []
    for index, (left, right) in enumerate(pairwise(stamps)):
        out += timing.inside(Interval(index, left, right, stamps[0]))
    out += timing.last(len(stamps) - 1, stamps[-1], stamps[0])
    return out


@pytest.mark.parametrize("factor", range(1, 19))
@pytest.mark.parametrize("frames", [1, 2, 3, 10])
def test_multiply_makes_f_minus_1_times_n_plus_1(factor, frames):
    stamps = [F(i, 24) for i in range(frames)]
    made = instants(Multiply(factor), stamps)
    assert len(made) == (frames - 1) * factor + 1 == Multiply(factor).count(frames, stamps[0], stamps[-1])
    assert [m.position for m in made] == [F(k, factor) for k in range(len(made))]
    assert [m.seconds for m in made] == [F(k, 24 * factor) for k in range(len(made))]


def test_multiply_keeps_a_variable_clock():
    made = instants(Multiply(2), [F(0), F(1, 10), F(1, 2)])
    assert [m.seconds for m in made] == [0, F(1, 20), F(1, 10), F(3, 10), F(1, 2)]


def test_rate_is_exact_over_ten_thousand_frames():
    stamps = [F(1, 3) + i * F(1001, 24000) for i in range(10_000)]
    made = instants(Rate(F(60)), stamps)
    assert len(made) == Rate(F(60)).count(10_000, stamps[0], stamps[-1])
    for k, (position, seconds) in enumerate(made):
        assert seconds == stamps[0] + F(k, 60)
        assert position == F(k, 60) * F(24000, 1001)
    assert made[-1].seconds <= stamps[-1] < made[-1].seconds + F(1, 60)


def test_rate_equal_to_the_source_passes_every_frame():
    stamps = [F(i, 25) for i in range(7)]
    assert [m.position for m in instants(Rate(F(25)), stamps)] == list(range(7))


def test_rate_below_the_source_and_through_repeated_timestamps():
    assert [m.position for m in instants(Rate(F(10)), [F(i, 30) for i in range(7)])] == [0, 3, 6]
    assert [m.position for m in instants(Rate(F(2)), [F(0), F(0), F(1)])] == [1, F(3, 2), 2]


def test_rate_of_one_frame_is_that_frame():
    assert [m.position for m in instants(Rate(F(60)), [F(5)])] == [0]


def test_at_gives_exactly_the_positions_asked_for():
    timing = At((F(7, 3), F(0), F(1, 2)))
    assert [m.position for m in instants(timing, [F(i) for i in range(4)])] == [0, F(1, 2), F(7, 3)]


def test_at_beyond_the_clip_says_so():
    with pytest.raises(TimelineError, match=r"time 9/2 lies beyond the last frame, 3: remove it"):
        instants(At((F(9, 2),)), [F(i) for i in range(4)])


@pytest.mark.parametrize(
    ("make", "text"),
    [
        (lambda: Multiply(0), "multiplier 0 is not a number of 1 or more"),
        (lambda: Multiply(0.5), "multiplier 0.5 is not a number of 1 or more: use 2, 2.5"),
        (lambda: Multiply("two"), "multiplier two is not a number"),
        (lambda: Rate(F(24), shutter=F(3, 2)), "shutter 1.5 is not from 0 to 1"),
        (lambda: Rate(F(24), shutter=F(1, 2), samples=4), "4 samples: use an odd number"),
        (lambda: Rate(F(0)), "frame rate 0 is not above 0"),
        (lambda: At(()), "give one or more positions"),
        (lambda: At((F(-1),)), "positions of 0 and above"),
    ],
)
def test_bad_timings_say_what_to_use(make, text):
    with pytest.raises(TimelineError, match=text):
        make()


def seconds_of(timing, seconds):
    """(position, seconds) of everything a timing wants of a clip, interval by interval, as a run does it."""
    found = []
    for index in range(len(seconds) - 1):
        found += timing.inside(Interval(index, seconds[index], seconds[index + 1], seconds[0]))
    return found + list(timing.last(len(seconds) - 1, seconds[-1], seconds[0]))


def test_a_fractional_multiplier_is_exact_and_keeps_every_fifth_original():
    timing = Multiply(2.5)
    positions = [m.position for m in seconds_of(timing, [F(i, 24) for i in range(9)])]
    assert positions == [F(2 * k, 5) for k in range(21)] and len(positions) == timing.count(9, F(0), F(8, 24))
    assert timing.rate(F(24)) == 60


def test_film_to_sixty_is_frame_exact_over_ten_thousand_frames():
    """No drift: output k shows k / 60 s, its place in the source is that times 24000/1001, to the last digit."""
    source, timing = F(24000, 1001), Rate(F(60))
    seconds = [7 + i / source for i in range(10_000)]
    found = seconds_of(timing, seconds)
    assert len(found) == timing.count(10_000, seconds[0], seconds[-1]) == int(9999 / source * 60) + 1
    for k in (0, 1, 2, 3, 12345, len(found) - 1):
        assert found[k] == (k * source / 60, 7 + F(k, 60))
    assert all(b.seconds - a.seconds == F(1, 60) for a, b in pairwise(found))


@settings(max_examples=60, deadline=None)
@given(
    steps=st.lists(st.integers(1, 9), min_size=1, max_size=12),
    fps=st.fractions(F(1, 3), F(40), max_denominator=1001),
    speeds=st.lists(st.fractions(F(1, 8), F(4), max_denominator=50), min_size=1, max_size=4),
    start=st.fractions(F(-5), F(5), max_denominator=7),
)
def test_any_rate_of_any_clock_at_any_speed_is_what_the_map_says(steps, fps, speeds, start):
    """Found interval by interval, the instants are those of the one formula over the whole clip, none twice."""
    seconds = [start]
    for step in steps:
        seconds.append(seconds[-1] + F(step, 10))
    curve = SpeedCurve(tuple((F(i, 2), speed) for i, speed in enumerate(speeds)))
    timing = Rate(fps, curve)
    found = seconds_of(timing, seconds)
    assert len(found) == timing.count(len(seconds), seconds[0], seconds[-1])
    for k, (position, shown) in enumerate(found):
        assert shown == start + k / fps
        index = min(int(position), len(seconds) - 2)
        at = seconds[index] + (position - index) * (seconds[index + 1] - seconds[index])
        assert at - start == curve.source_seconds(k / fps)


def test_a_shutter_spreads_an_odd_number_of_instants_around_each_picture():
    timing = Rate(F(10), shutter=F(1, 2), samples=3)
    found = seconds_of(timing, [F(i, 5) for i in range(4)])
    offsets = [F(-1, 6), F(0), F(1, 6)]
    want = [k + offset for k in range(7) for offset in offsets]
    assert [m.seconds * 10 for m in found] == [w for w in want if 0 <= w <= 6]
    assert timing.count(4, F(0), F(3, 5)) == 7
