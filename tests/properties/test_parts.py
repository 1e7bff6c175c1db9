"""How the work is cut into batches, strips, tiles, steps and blocks does not show, but for a stated rounding."""

from __future__ import annotations

from unittest import mock

import torch
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from properties.arbitrary import How, allowed, clips, hows, network, same_bytes
from properties.arbitrary import host as cpu

from comfy_fusionfft import api
from comfy_fusionfft.flow_clip import collect
from comfy_fusionfft.interpolation import prepare
from comfy_fusionfft.pace import Pace

FEW = settings(max_examples=max(6, settings.default.max_examples // 4))
FLOW_METHODS = ("fusion", "rife", "recursive")
ROUNDING = 2e-3
"""Of the range. Networks round a picture differently in another batch or strip; motion that is found with it may differ
by a hundredth of a pixel, and noise has the steepest edges there are."""
PLAIN = {"counts": st.integers(2, 4), "dtypes": (torch.float32,), "contents": ("levels", "moving", "stripes", "flat")}


def made(frames, how: How, **asked) -> torch.Tensor:
    return torch.stack([frame.pixels for frame in api.interpolate(frames, **how.arguments(), **asked)])


def alike(a: torch.Tensor, b: torch.Tensor, frames) -> None:
    """Alpha divided out makes much of little: such pictures are compared with it."""
    if a.shape[-1] == 4:
        a, b = (torch.cat((x[..., :3] * x[..., 3:], x[..., 3:]), -1) for x in (a, b))
    low, high = allowed(frames)
    assert (a - b).abs().max() <= ROUNDING * (high - low)


@FEW
@given(clips(**PLAIN), hows(FLOW_METHODS), st.integers(1, 3))
def test_batches_of_instants(clip, how, limit):
    assume(how.precision == "float32")
    frames = clip.frames()
    whole = made(frames, how, multi=5)
    with mock.patch("comfy_fusionfft.engine.fit.BATCH_PIXELS", limit * clip.height * clip.width):
        alike(made(frames, how, multi=5), whole, frames)


@FEW
@given(clips(**PLAIN), hows(FLOW_METHODS), st.sampled_from((1, 100, 1000)))
def test_strips_of_rows(clip, how, pixels):
    assume(how.precision == "float32")
    frames = clip.frames()
    whole = made(frames, how, multi=2)
    with mock.patch("comfy_fusionfft.ops.strips.STRIP_PIXELS", pixels):
        alike(made(frames, how, multi=2), whole, frames)


@FEW
@given(clips(**PLAIN), st.integers(1, 5), st.sampled_from((16, 32, 64)), st.booleans())
def test_tiles_of_the_fusion_network(clip, anchors, tile, explained):
    frames = clip.frames()
    told = {"method": "fusion", "fusion": network("fusion"), "flow": "dis", "num_anchors": anchors, "maps": explained}
    whole, parts = (
        torch.stack([f.pixels for f in api.interpolate(frames, host=cpu(), tile=side, **told)]) for side in (0, tile)
    )
    alike(parts, whole, frames)


@FEW
@given(clips(**PLAIN), hows(FLOW_METHODS), st.data())
def test_going_on_behind_any_frame(clip, how, data):
    """With real models: what comes does not depend on what was made before."""
    frames = clip.frames()
    arguments = how.arguments()
    host, method, source = (arguments.pop(name) for name in ("host", "method", "flow"))
    model = api.load_method(method, source, host=host, **arguments)
    run = prepare(frames, Pace(multi=3), model, host, rate=clip.rate)
    whole = list(run.frames())
    done = data.draw(st.integers(1, len(whole)))
    rest = list(run.frames(after=whole[done - 1], done=done))
    assert len(rest) == len(whole) - done
    assert all(same_bytes(a.pixels, b.pixels) for a, b in zip(rest, whole[done:], strict=True))


@FEW
@given(clips(**PLAIN), hows(("fusion",)), st.sampled_from((1, 2, 3)))
def test_the_separate_blocks_are_the_whole(clip, how, multi):
    """Flow that is found first, held, and used later: the same picture."""
    arguments = how.arguments()
    frames, host, source = clip.frames(), arguments["host"], arguments["flow"]
    whole = list(api.interpolate(frames, multi=multi, **arguments))
    anchors = {name: arguments[name] for name in ("anchor_flow", "num_anchors")}
    pairs = api.extract_flow(frames, multi=multi, flow=source, host=host, **anchors)
    held = collect(pairs, [frame.position for frame in whole], lambda tensor: tensor)
    told = {name: value for name, value in arguments.items() if name not in ("flow", "method", "host")}
    fused = list(api.fuse(frames, held, host=host, **told))
    assert [frame.position for frame in fused] == [frame.position for frame in whole]
    parts, together = (torch.stack([frame.pixels for frame in each]) for each in (fused, whole))
    alike(parts, together, frames)
