"""Speed curves: exact, invertible, and honest about what cannot be."""

from fractions import Fraction as F

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from comfy_fusionfft.errors import TimelineError
from comfy_fusionfft.retime import REAL_TIME, SpeedCurve, parse_speed, sampled


def test_a_constant_speed_is_a_product():
    curve = parse_speed("0.25")
    assert curve.constant == F(1, 4) and curve.source_seconds(F(8)) == 2
    assert REAL_TIME.source_seconds(F(7, 3)) == F(7, 3)


def test_a_ramp_takes_the_time_of_its_mean_speed_and_is_exact():
    curve = parse_speed("0:1, 2:1, 3:0.5, 5:0.5")
    assert curve.source_seconds(F(2)) == 2
    # one second of source at a mean speed of 3/4 takes 4/3 s
    assert curve.source_seconds(2 + F(4, 3)) == 3
    assert curve.source_seconds(2 + F(2, 3)) == 2 + F(2, 3) - F(1, 2) * F(3, 8) * F(4, 9)
    assert curve.source_seconds(2 + F(4, 3) + 4) == 5
    assert curve.source_seconds(2 + F(4, 3) + 5) == F(11, 2)
    assert curve.constant is None


def test_a_picture_may_come_to_rest_and_go_on():
    curve = parse_speed("0:1 1:0 2:1")
    assert curve.source_seconds(F(2)) == 1 and curve.source_seconds(F(4)) == 2
    assert curve.source_seconds(F(2) + F(1, 100)) > 1


def test_speed_jumps_where_two_keys_meet():
    curve = parse_speed("0:1 2:1 2:0.5")
    assert curve.source_seconds(F(2)) == 2 and curve.source_seconds(F(4)) == 3 and curve.source_seconds(F(1)) == 1
    assert abs(curve.roughly_shown_at(F(3)) - 4) < 1e-9 and curve.constant is None


def test_keys_are_seconds_percentages_or_frames():
    curve = parse_speed("0s:1x; 50%:1/2, 48f:2", duration=F(2), rate=F(16))
    assert [tuple(key) for key in curve.keys] == [(0, 1), (1, F(1, 2)), (3, 2)]


@settings(max_examples=80, deadline=None)
@given(
    speeds=st.lists(st.fractions(F(1, 20), F(8), max_denominator=40), min_size=1, max_size=6),
    at=st.fractions(F(0), F(12), max_denominator=97),
)
def test_the_rough_inverse_is_the_inverse(speeds, at):
    curve = SpeedCurve(tuple((F(i), v) for i, v in enumerate(speeds)))
    source = curve.source_seconds(at)
    assert abs(curve.roughly_shown_at(source) - float(at)) < 1e-6 * (1 + float(at))
    assert curve.source_seconds(at + F(1, 1000)) > source


def test_a_sampled_curve_goes_through_its_speeds():
    curve = sampled([1, 1, 1, 0.25, 0.25], F(8))
    assert [tuple(key) for key in curve.keys] == [(0, 1), (4, 1), (6, F(1, 4)), (8, F(1, 4))]
    assert sampled([0.5, 0.5], F(3)).constant == F(1, 2) and sampled([0.5, 1], F(0)).constant == F(1, 2)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("fast", "speed 'fast' is neither a number such as 0.25 nor keys such as 0:1"),
        ("", "is neither a number"),
        ("0:1, 2", "is neither a number"),
        ("-1", "speed -1 at 0 s: use 0.001 to 1000 .backwards: reverse the clip first"),
        ("0:1, 1:0, 2:0, 3:1", "speed 0 from 1 to 2 s would never end"),
        ("0:0, 1:1", "the first and the last speed must be above 0"),
        ("50%:1", "the length of this clip is not known, so 50% cannot be placed"),
        ("9f:1", "the frame rate is not known, so frame 9f cannot be placed"),
    ],
)
def test_what_cannot_be_says_why(text, said):
    with pytest.raises(TimelineError, match=said):
        parse_speed(text)
