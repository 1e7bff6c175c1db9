"""Whatever the clip, the pace and the method: how many frames come out, which of them, and what they hold."""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import torch
from hypothesis import event, example, given
from hypothesis import strategies as st
from properties.arbitrary import PRECISIONS, Clip, How, allowed, clips, cuts, hows, paces, rounding, same_bytes

from comfy_fusionfft import api
from comfy_fusionfft.contract import Frame


@st.composite
def jobs(draw):
    """A clip, how it is interpolated, and what else is asked for."""
    clip, how = draw(clips()), draw(hows())
    asked = draw(paces(clip, halves=how.halves))
    if not asked.get("loop") or clip.count > 1:
        asked["cuts"] = draw(cuts(clip.count))
        asked["at_cut"] = draw(st.sampled_from(("hold", "skip")))
    asked["maps"] = draw(st.booleans())
    asked["hold_below"] = draw(st.sampled_from((None, None, 30.0)))
    return clip, how, asked


def made(frames: list[Frame], clip: Clip, how: How, asked: dict[str, Any]) -> list[Frame]:
    return list(api.interpolate(frames, rate=clip.rate, **how.arguments(), **asked))


ONE_COLUMN = How("waveletvfi", settings=(("threshold", 0),), precision=PRECISIONS[-1])
BENT = How("fusion", settings=(("fusion", "none"),))
SOFT_EDGES = How("fusion", "rife", settings=(("fusion", "small"), ("num_anchors", 3), ("spectral_alpha", 1.0)))
PLAIN = {"maps": False, "hold_below": None}


@example((Clip(3, 251, 3, content="flat"), ONE_COLUMN, {"multi": 4, **PLAIN}))
@example((Clip(6, 85, 1, 4, content="highlights"), ONE_COLUMN, {"multi": 2, **PLAIN, "maps": True}))
@example((Clip(3, 33, 8, 4, content="impulse"), SOFT_EDGES, {"multi": 2, **PLAIN}))
@example((Clip(3, 9, 8, 4, content="negative"), SOFT_EDGES, {"multi": 2, **PLAIN}))
@example((Clip(3, 26, 27, 4, content="negative"), BENT, {"fps": 96, "shutter": 0.25, "samples": 5, **PLAIN}))
@example((Clip(3, 9, 8, 4, content="negative"), ONE_COLUMN, {"multi": 2, **PLAIN}))
@given(jobs())
def test_what_comes_out(job):
    clip, how, asked = job
    source = clip.frames()
    before = [frame.pixels.clone() for frame in source]
    out = made(source, clip, how, asked)
    event(f"{how.method} on {how.source}")

    assert all(same_bytes(frame.pixels, copy) for frame, copy in zip(source, before, strict=True)), "an input changed"
    assert all(a.seconds < b.seconds and a.position <= b.position for a, b in pairwise(out))
    low, high = allowed(source)
    room = rounding(source)
    for frame in out:
        pixels = frame.pixels
        assert (pixels.shape, pixels.dtype, pixels.device.type) == (source[0].pixels.shape, clip.dtype, "cpu")
        if frame.original:
            assert frame.position.denominator == 1
            assert same_bytes(pixels, source[int(frame.position)].pixels)
        elif clip.dtype.is_floating_point:
            assert torch.isfinite(pixels).all()
            assert low - room <= pixels.double().min() and pixels.double().max() <= high + room
        if asked["maps"] and frame.maps is not None:
            assert frame.maps.shape == (clip.height, clip.width, 2) and frame.maps.dtype == torch.float32
            assert frame.maps.min() >= 0 and frame.maps.max() <= 1 and 0 <= frame.confidence <= 70
    whole = [frame for frame in out if frame.position.denominator == 1]
    assert all(frame.original for frame in whole) or asked.get("shutter")

    again = made(clip.frames(), clip, how, asked)
    assert [f.seconds for f in again] == [f.seconds for f in out]
    assert all(same_bytes(a.pixels, b.pixels) for a, b in zip(again, out, strict=True)), "it differs the second time"
