"""Spectral swap of arbitrary clips: count, range, determinism, and what alpha and band mean."""

from __future__ import annotations

from dataclasses import replace

import torch
from hypothesis import assume, given
from hypothesis import strategies as st
from properties.arbitrary import FLOATS, allowed, clips, host, rounding, same_bytes

from comfy_fusionfft import api

settings = st.fixed_dictionaries(
    {
        "alpha": st.sampled_from((0.4, 0.0, 1.0)),
        "lo": st.sampled_from((0.25, 0.0, 0.71)),
        "soft": st.booleans(),
        "clamp_gain": st.booleans(),
        "prior_kind": st.sampled_from(("neighbours", "nearest", "paired")),
    }
)


@given(clips(), clips(), settings, st.sampled_from((0.0, 0.15)), st.fractions(0, 2, max_denominator=4))
def test_what_comes_out(clip, other, asked, width, later):
    prior = replace(other, count=clip.count, height=clip.height, width=clip.width, start=clip.start, rate=clip.rate)
    asked = {**asked, "hi": asked["lo"] + width}
    source = [replace(frame, seconds=frame.seconds + later / clip.rate) for frame in clip.frames()]
    lends = prior.frames()
    before = [frame.pixels.clone() for frame in (*source, *lends)]

    def swapped():
        return list(api.spectral_swap(source, lends, host=host(), **asked))

    out = swapped()
    assert [frame.seconds for frame in out] == [frame.seconds for frame in source]
    assert all(same_bytes(frame.pixels, copy) for frame, copy in zip((*source, *lends), before, strict=True))
    assert all(same_bytes(a.pixels, b.pixels) for a, b in zip(out, swapped(), strict=True))
    for made, frame in zip(out, source, strict=True):
        assert (made.pixels.shape, made.pixels.dtype) == (frame.pixels.shape, clip.dtype)
        if made.original or not asked["alpha"]:
            assert same_bytes(made.pixels, frame.pixels)
        elif clip.dtype.is_floating_point:
            room = rounding(source)
            peak = {torch.uint8: 255, torch.uint16: 65535}.get(prior.dtype, 1)
            edges = [(low / peak, high / peak) if group is lends else (low, high)
                     for group in (source, lends) for low, high in [allowed(group)]]  # fmt: skip
            low, high = min(low for low, _ in edges), max(high for _, high in edges)
            room = max(room, rounding(lends) if peak == 1 else 0)
            room = max(room, torch.finfo(clip.dtype).eps * max(abs(low), abs(high)))
            assert torch.isfinite(made.pixels).all()
            assert low - room <= made.pixels.double().min() and made.pixels.double().max() <= high + room
    if asked["alpha"]:  # what is shown at the very time of a frame of the prior passes, unless they go in pairs
        shown = {frame.seconds for frame in lends}
        paired = asked["prior_kind"] == "paired"
        assert [frame.original for frame in out] == [not paired and frame.seconds in shown for frame in out]


@given(clips(counts=st.just(1), dtypes=FLOATS), st.sampled_from((0.25, 0.5)))
def test_what_lends_to_itself_stays_itself(clip, lo):
    """Its own strength changes nothing but the last digits."""
    assume(clip.content != "denormal")
    (frame,) = clip.frames()
    (made,) = api.spectral_swap([frame], [frame], prior_kind="paired", alpha=1, lo=lo, hi=lo, host=host())
    size = float(frame.pixels.double().abs().max()) + 1
    step = max(torch.finfo(clip.dtype).eps, 1e-5)
    want = frame.pixels.double()
    if clip.channels == 4:  # straight colour of what cannot be seen is free
        alpha = want[..., 3:].clamp(0, 1)
        assert ((made.pixels.double()[..., :3] - want[..., :3]) * alpha).abs().max() <= 4 * step * size
    else:
        assert (made.pixels.double() - want).abs().max() <= 4 * step * size


@given(clips(counts=st.integers(1, 3)))
def test_no_alpha_is_no_change(clip):
    frames = clip.frames()
    out = list(api.spectral_swap(frames, frames, alpha=0, prior_kind="paired", host=host()))
    assert all(same_bytes(a.pixels, b.pixels) for a, b in zip(out, frames, strict=True))
