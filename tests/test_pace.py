"""What users may ask of the output's time, what it means, and what excludes what."""

from fractions import Fraction as F

import pytest

from comfy_fusionfft.errors import InputError
from comfy_fusionfft.pace import Length, Pace, exact_rate
from comfy_fusionfft.retime import SpeedCurve
from comfy_fusionfft.timeline import At, Multiply, Rate

CLIP = Length(81, F(0), F(80, 16), F(1, 16))


def test_the_default_is_twice_as_many_frames():
    assert Pace().timing(None) == Multiply(2) and Pace(multi="2.5").timing(None) == Multiply(F(5, 2))
    assert Pace(fps="23.976").timing(None) == Rate(F(24000, 1001))
    assert Pace(times=[F(1, 2)]).timing(None) == At((F(1, 2),))


def test_slow_motion_keeps_the_rate_and_multiplies_the_frames():
    timing = Pace(slow=4).timing(F(16))
    assert timing.fps == 16 and timing.count(81, F(0), F(5)) == 321
    assert Pace(slow=2, multi=3).timing(F(16)).fps == 48
    assert Pace(speed=0.1).timing(F(16)).speed == SpeedCurve.constant_at(F(1, 10))


def test_a_speed_in_percentages_needs_the_length_and_one_in_seconds_does_not():
    assert Pace(speed="0:1, 100%:0.5").needs_length and not Pace(speed="0:1, 2:0.5").needs_length
    curve = Pace(speed="0:1, 100%:0.5").timing(F(16), CLIP).speed
    assert [key.seconds for key in curve.keys] == [0, 5]


@pytest.mark.parametrize("count", [1, 2, 50, 81, 121, 1000])
def test_a_count_is_met_exactly_from_the_first_frame_to_the_last(count):
    timing = Pace(count=count).timing(F(16), CLIP)
    assert timing.count(CLIP.frames, CLIP.first, CLIP.last) == count
    if count > 1:
        assert timing.rate(F(16)) == F(count - 1, 5) and timing.speed.constant == 1
        played = Pace(count=count, fps=24).timing(F(16), CLIP)
        assert played.fps == 24 and played.count(CLIP.frames, CLIP.first, CLIP.last) == count


def test_a_constant_clock_is_given_to_clips_that_lost_frames():
    assert Pace(multi=2).timing(F(24), constant=True) == Rate(F(48))


@pytest.mark.parametrize(
    ("pace", "said"),
    [
        ({"multi": 2, "fps": 60}, "multi and fps exclude one another: give one of them"),
        ({"times": [F(1)], "loop": True}, "times and loop exclude one another"),
        ({"count": 9, "slow": 2}, "count and slow exclude one another"),
        ({"slow": 2, "speed": 1}, "slow and speed exclude one another"),
        ({"count": 0}, "0 frames were asked for: give 1 or more"),
    ],
)
def test_what_excludes_one_another_says_so_at_once(pace, said):
    with pytest.raises(InputError, match=said):
        Pace(**pace)


@pytest.mark.parametrize(
    ("pace", "said"),
    [
        ({"slow": 0}, "slow 0 is not above 0"),
        ({"slow": "much"}, "slow 'much' is not a number"),
        ({"fps": "fast"}, "frame rate 'fast' is not a number"),
        ({"shutter": "half"}, "shutter 'half' is not a number"),
    ],
)
def test_numbers_that_are_none_say_so(pace, said):
    with pytest.raises(InputError, match=said):
        Pace(**pace).timing(F(16), CLIP)


def test_what_needs_a_rate_says_so_and_one_frame_cannot_become_many():
    with pytest.raises(InputError, match="the clip's frame rate is not known"):
        Pace(slow=2).timing(None)
    with pytest.raises(InputError, match="a clip of one frame cannot become 9"):
        Pace(count=9).timing(F(16), Length(1, F(0), F(0), F(1, 16)))


@pytest.mark.parametrize(
    ("text", "rate"), [(23.976, F(24000, 1001)), ("59.94", F(60000, 1001)), (16, 16), (12.5, F(25, 2))]
)
def test_the_ntsc_decimals_mean_their_exact_rates(text, rate):
    assert exact_rate(text) == rate
