"""NaN and infinite values: refused wherever something is made of them, never cleaned, by every part alike."""

from __future__ import annotations

from dataclasses import replace
from fractions import Fraction as F

import numpy as np
import pytest
import torch
from families.ftvsr_nets import tiny_net
from hypothesis import given
from hypothesis import strategies as st
from properties.arbitrary import FLOATS, Clip, clips, hows, network
from properties.arbitrary import host as cpu
from small_nets import FMANET

from comfy_fusionfft import api, families
from comfy_fusionfft.contract import Frame
from comfy_fusionfft.errors import DeviceError, InputError
from comfy_fusionfft.families.fmanet.net import FMANet
from comfy_fusionfft.flow_clip import collect
from comfy_fusionfft.flow_files import write_flow
from comfy_fusionfft.inference import FusionInference

BAD = st.sampled_from((float("nan"), float("inf"), float("-inf")))
SMALL = {"counts": st.integers(2, 4), "area": 400, "dtypes": FLOATS}
REFUSED = "holds NaN or infinite values: repair the clip or the node that made it, then run again"
NO_FLOW = "holds NaN or infinite values between frames .*: make it again"


@st.composite
def broken(draw: st.DrawFn) -> tuple[Clip, list[Frame]]:
    """A clip with one value somewhere that is no number."""
    clip = draw(clips(**SMALL))
    frames = clip.frames()
    number = draw(st.integers(0, clip.count - 1))
    place = tuple(draw(st.integers(0, side - 1)) for side in clip.shape)
    frames[number].pixels[place] = draw(BAD)
    return clip, frames


@given(broken(), hows())
def test_interpolation(case, how):
    clip, frames = case
    with pytest.raises(InputError, match=REFUSED):
        list(api.interpolate(frames, multi=2, rate=clip.rate, **how.arguments()))


@given(broken(), st.sampled_from(("paired", "neighbours")), st.booleans())
def test_swap_and_its_prior(case, kind, prior_is_broken):
    clip, frames = case
    whole = [replace(frame, seconds=frame.seconds + 1 / (2 * clip.rate)) for frame in clip.frames()]
    first, second = (whole, frames) if prior_is_broken else (frames, whole)
    with pytest.raises(InputError, match=REFUSED):
        list(api.spectral_swap(first, second, prior_kind=kind, host=cpu()))


@given(broken(), st.sampled_from(("fmanet", "ftvsr")))
def test_restoration(case, name):
    net = FMANet(FMANET).eval() if name == "fmanet" else tiny_net()
    net.family = next(family for family in families.every_family() if family.name == name)
    with pytest.raises(InputError, match=REFUSED):
        list(api.restore(case[1], net, host=cpu()))


@given(broken())
def test_flow_of_it_and_looking_for_cuts(case):
    _, frames = case
    with pytest.raises(InputError, match=REFUSED):
        list(api.extract_flow(frames, multi=2, flow="dis", host=cpu()))
    with pytest.raises(InputError, match=REFUSED):
        list(api.interpolate(frames, multi=1, cuts="auto", method="rife", flow="dis", host=cpu()))


@given(clips(**SMALL), BAD, st.sampled_from(("flow", "mask")), st.data())
def test_flow_that_is_none(tmp_path_factory, clip, value, part, data):
    """Held or from a folder, for fusion and for warping."""
    frames = clip.frames()
    pairs = list(api.extract_flow(frames, multi=2, flow="dis", host=cpu()))
    number = data.draw(st.integers(0, len(pairs) - 1))
    getattr(pairs[number].flow, part).view(-1)[data.draw(st.integers(0, clip.height * clip.width - 1))] = value
    held = collect(pairs, [F(k, 2) for k in range(2 * clip.count - 1)], lambda tensor: tensor)
    folder = tmp_path_factory.mktemp("flow") / "clip"
    write_flow(folder, pairs)
    for flow, settings in ((held, {}), (folder, {"multi": 2})):
        with pytest.raises(InputError, match=NO_FLOW):
            list(api.warp(frames, flow, host=cpu(), **settings))
        with pytest.raises(InputError, match=NO_FLOW):
            list(api.fuse(frames, flow, fusion=network("fusion"), host=cpu(), **settings))


@given(st.sampled_from((torch.float32, torch.float16, np.float32, np.float64)), BAD, st.booleans())
def test_two_pictures(dtype, value, second):
    pair = [torch.rand(3, 9, 8) for _ in range(2)]
    pair[second][1, 2, 3] = value
    if not isinstance(dtype, torch.dtype):
        pair = [picture.permute(1, 2, 0).numpy().astype(dtype) for picture in pair]
    with pytest.raises(InputError, match=REFUSED):
        FusionInference("none", "dis", host=cpu()).interpolate_frame(*pair, 0.5)


@given(clips(counts=st.just(3), area=100, dtypes=FLOATS), BAD)
def test_a_frame_that_only_passes_is_none_of_our_business(clip, value):
    """Originals are never looked at, let alone changed."""
    frames = clip.frames()
    frames[1].pixels[0, 0, 0] = value
    out = list(api.interpolate(frames, multi=1, flow="dis", method="rife", host=cpu()))
    assert all(a.pixels is b.pixels for a, b in zip(out, frames, strict=True))


@pytest.mark.parametrize("name", ["alpha", "lo", "hi"])
def test_a_swap_by_no_number(name):
    frames = Clip(2, 8, 8).frames()
    with pytest.raises(InputError, match="nan"):
        list(api.spectral_swap(frames, frames, prior_kind="paired", host=cpu(), **{name: float("nan")}))


@pytest.mark.parametrize("times", [(float("nan"),), (float("inf"),)])
def test_instants_that_are_no_numbers(times):
    with pytest.raises(InputError, match="give one or more positions"):
        list(api.interpolate(Clip(2, 8, 8).frames(), times=times, flow="dis", method="rife", host=cpu()))


@pytest.mark.parametrize("size", [1e25, 1e38])
def test_numbers_so_large_that_they_cannot_be_reckoned_with(size):
    """Finite ones come out, or a word."""
    frames = [replace(frame, pixels=(frame.pixels - 0.5) * size) for frame in Clip(3, 20, 24).frames()]
    with pytest.raises(DeviceError, match="a made picture holds NaN or infinite values: .* numbers beyond 1e15"):
        list(api.interpolate(frames, multi=2, flow="dis", fusion=network("fusion"), host=cpu()))
    with pytest.raises(DeviceError, match="a made picture holds NaN or infinite values: .* numbers beyond 1e15"):
        list(api.spectral_swap(frames[:1], frames[1:2], prior_kind="paired", host=cpu()))
