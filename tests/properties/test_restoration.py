"""Restorers of arbitrary clips: as many frames, four times the size, of the same type, in range, always the same."""

from __future__ import annotations

from functools import cache

import torch
from families.ftvsr_nets import tiny_net
from hypothesis import given, settings
from hypothesis import strategies as st
from properties.arbitrary import LONG, allowed, clips, cuts, host, rounding, same_bytes
from small_nets import FMANET

from comfy_fusionfft import api
from comfy_fusionfft.families import every_family
from comfy_fusionfft.families.fmanet.net import FMANet


@cache
def restorer(name: str) -> torch.nn.Module:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(3)
        net = FMANet(FMANET) if name == "fmanet" else tiny_net()
    net.family = next(family for family in every_family() if family.name == name)
    return host().place(net)


@st.composite
def jobs(draw: st.DrawFn):
    clip = draw(clips(counts=st.integers(1, 6), area=1024 if LONG else 256))
    name = draw(st.sampled_from(("fmanet", "ftvsr")))
    told = {"ends": draw(st.sampled_from(("replicate", "reflect")))}
    if name == "ftvsr":
        chunk = draw(st.integers(1, 4))
        told = {"chunk": chunk, "context": draw(st.integers(0, 2)), "blend": draw(st.integers(0, chunk // 2))}
    return clip, name, {**told, "cuts": draw(cuts(clip.count)), "tile": draw(st.sampled_from(("auto", "none", 128)))}


@settings(max_examples=settings.default.max_examples // 2)
@given(jobs())
def test_what_comes_out(job):
    clip, name, told = job
    source = clip.frames()
    before = [frame.pixels.clone() for frame in source]

    def restored():
        return list(api.restore(source, restorer(name), host=host(), **told))

    out = restored()
    assert [frame.seconds for frame in out] == [frame.seconds for frame in source]
    assert all(same_bytes(frame.pixels, copy) for frame, copy in zip(source, before, strict=True)), "an input changed"
    assert all(same_bytes(a.pixels, b.pixels) for a, b in zip(out, restored(), strict=True)), "it differs"
    low, high = allowed(source)
    room = rounding(source)
    for frame in out:
        assert frame.pixels.shape == (4 * clip.height, 4 * clip.width, clip.channels)
        assert (frame.pixels.dtype, frame.pixels.device.type, frame.original) == (clip.dtype, "cpu", False)
        if clip.dtype.is_floating_point:
            assert torch.isfinite(frame.pixels).all()
            assert low - room <= frame.pixels.double().min() and frame.pixels.double().max() <= high + room
            if clip.channels == 4:
                assert frame.pixels[..., 3].min() >= 0 and frame.pixels[..., 3].max() <= 1
