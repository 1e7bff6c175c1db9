"""How many frames come out, and when they are shown: exactly what multiplier, rate, speed or count say."""

from __future__ import annotations

from fractions import Fraction as F
from itertools import count as numbers
from itertools import pairwise, takewhile
from math import ceil, floor

import torch
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from properties.arbitrary import LONG, Clip, clips, cuts, host, paces, same_bytes

from comfy_fusionfft.contract import Frame, Reach
from comfy_fusionfft.interpolation import prepare
from comfy_fusionfft.pace import Pace, exact_rate
from comfy_fusionfft.retime import SpeedCurve, parse_speed
from comfy_fusionfft.timeline import Multiply, Rate

MANY = settings(max_examples=200 if not LONG else settings.default.max_examples)
frame_counts = st.integers(1, 40)
rates = st.builds(F, st.integers(1, 120_000), st.sampled_from((1, 2, 1000, 1001)))


class Mix:
    """Both neighbours, by time; asks for three frames on either side."""

    reach = Reach(before=3, after=3)

    def __call__(self, window):
        left = max(i for i, position in enumerate(window.positions) if position < window.times[0])
        start, end = window.positions[left], window.positions[left + 1]
        shares = [float((t - start) / (end - start)) for t in window.times]
        return torch.cat([torch.lerp(window.images[left], window.images[left + 1], share) for share in shares])


@MANY
@given(frame_counts, st.builds(lambda f: 1 + f, st.fractions(0, 16, max_denominator=60)))
def test_a_multiplier(frames, factor):
    timing = Multiply(factor)
    assert timing.count(frames, F(0), F(frames)) == floor((frames - 1) * factor) + 1


@MANY
@given(frame_counts, rates, rates, st.fractions(F(1, 8), 8, max_denominator=30))
def test_a_rate_and_a_constant_speed(frames, source, fps, speed):
    assume((frames - 1) / source * fps / speed < 10_000)
    last = (frames - 1) / source
    timing = Rate(fps, SpeedCurve.constant_at(speed))
    assert timing.count(frames, F(7, 3), F(7, 3) + last) == floor(last / speed * fps) + 1


@MANY
@given(st.data(), st.integers(2, 9), rates)
def test_a_curve_is_monotone_and_its_count_is_that_of_its_instants(data, frames, fps):
    keys = data.draw(
        st.dictionaries(st.fractions(0, 4, max_denominator=24), st.integers(1, 400), min_size=1, max_size=6)
    )
    curve = parse_speed(", ".join(f"{when}:{speed / 100}" for when, speed in keys.items()))
    last = data.draw(st.fractions(F(1, 24), 4, max_denominator=48))
    assume(last * fps < 60)
    shown = list(takewhile(lambda at: at <= last, (curve.source_seconds(k / fps) for k in range(6000))))
    assume(len(shown) < 6000)
    assert shown[0] == 0 and all(a < b for a, b in pairwise(shown))
    assert Rate(fps, curve).count(frames, F(0), last) == len(shown)


def expected(clip: Clip, asked: dict, cut: frozenset[int]) -> list[F]:
    """Positions of the output by definition, one by one."""
    last = (clip.count - 1) / clip.rate
    if asked.get("times") is not None:
        found = sorted(set(asked["times"]))
    elif asked.get("count") and asked.get("loop"):
        found = [F(k * clip.count, asked["count"]) for k in range(asked["count"])]
    elif asked.get("count"):
        found = [F(k * (clip.count - 1), max(1, asked["count"] - 1)) for k in range(asked["count"])]
    elif asked.get("loop"):
        multi = F(str(asked["multi"]))
        found = [k / multi for k in range(ceil(clip.count * multi))]
    elif set(asked) == {"multi"}:
        multi = F(str(asked["multi"]))
        found = [k / multi for k in range(floor((clip.count - 1) * multi) + 1)]
    else:
        pace = Pace(**asked)
        fps = F(str(asked["fps"])) if "fps" in asked else clip.rate * F(str(asked.get("multi", 1)))
        curve = pace.curve(clip.rate)
        shown = takewhile(lambda at: at <= last, (curve.source_seconds(k / fps) for k in numbers()))
        found = [at * clip.rate for at in shown]
    return [p for p in found if p.denominator == 1 or floor(p) + 1 not in cut]


@settings(max_examples=60 if not LONG else settings.default.max_examples)
@given(st.data(), clips(area=16, contents=("noise",), dtypes=(torch.float32, torch.uint8)))
def test_what_comes_out_and_when(data, clip):
    """With a cut that is skipped. A rate near an NTSC one would be taken for it, and is left out."""
    asked = data.draw(paces(clip))
    assume("fps" not in asked or exact_rate(asked["fps"]) == asked["fps"])
    cut = data.draw(cuts(clip.count))
    run = prepare(clip.frames(), Pace(**asked), Mix(), host(), rate=clip.rate, cuts=cut, at_cut="skip")
    out = list(run.frames())
    want = expected(clip, asked, cut)
    assert [frame.position for frame in out] == want
    assert all(a.seconds < b.seconds for a, b in pairwise(out))
    assert all(frame.seconds == clip.start for frame in out if frame.position == 0)
    if run.total is not None:
        assert run.total == len(out) or (cut and run.total > len(out))
    if out:
        resumes(run, out, data.draw(st.integers(1, len(out))))


def resumes(run, out: list[Frame], done: int) -> None:
    """From any frame on the rest is the rest, to the last bit."""
    rest = list(run.frames(after=out[done - 1], done=done))
    assert [(f.position, f.seconds, f.original) for f in rest] == [
        (f.position, f.seconds, f.original) for f in out[done:]
    ]
    assert all(same_bytes(a.pixels, b.pixels) for a, b in zip(rest, out[done:], strict=True))
