"""Flow of a whole clip in memory: the separate blocks give the very pictures of the whole."""

from fractions import Fraction as F

import pytest
import torch

from comfy_fusionfft import api, flow_clip, timeline
from comfy_fusionfft.contract import Flow, Frame
from comfy_fusionfft.engine import fit
from comfy_fusionfft.errors import InputError
from comfy_fusionfft.host import PlainHost
from comfy_fusionfft.pace import Pace

CPU = PlainHost("cpu", "float32")


def clip(count=5, height=37, width=50):
    y, x = torch.meshgrid(torch.arange(height).float(), torch.arange(width).float(), indexing="ij")
    for i in range(count):
        shift = 2 * i + 0.3 * i * i
        planes = [0.5 + 0.25 * torch.sin((x - shift) / 4 + c) + 0.25 * torch.cos(y / 3) for c in range(3)]
        yield Frame(torch.stack(planes, -1), F(i))


def instants(count=5, **pace):
    return timeline.instants(Pace(**pace).timing(None), [F(i) for i in range(count)])


def held(count=5, flow="dis", half=False, anchors=None, **pace):
    flows = api.extract_flow(clip(count), flow=flow, host=CPU, **pace, **(anchors or {}))
    return flow_clip.collect(flows, instants(count, **pace), lambda t: t.half() if half else t)


def chained(flow, alpha, **settings):
    fused = [
        Frame(frame.pixels, position)
        for frame, position in zip(
            api.fuse(clip(), flow, spectral_alpha=0, host=CPU, **settings), flow.positions(), strict=True
        )
    ]
    return list(api.spectral_swap(fused, clip(), alpha=alpha, host=CPU))


@pytest.mark.parametrize("flow", ["dis", "rife"])
@pytest.mark.parametrize("pace", [{"multi": 2}, {"multi": 4}, {"fps": F(5, 2)}, {"fps": F(2, 3)}], ids=str)
def test_blocks_one_after_the_other_equal_the_whole(flow, pace):
    whole = list(api.interpolate(clip(), flow=flow, method="fusion", spectral_alpha=0.4, host=CPU, **pace))
    blocks = chained(held(flow=flow, **pace), 0.4)
    assert [frame.original for frame in whole] == [frame.seconds.denominator == 1 for frame in blocks]
    for one, other in zip(whole, blocks, strict=True):
        assert torch.equal(one.pixels, other.pixels)


def test_nested_anchors_are_part_of_the_flow():
    anchors = {"anchor_flow": "nested", "num_anchors": 2}
    flow = held(anchors=anchors)
    assert flow.nested and sorted({right - left for left, right in flow.pairs.tolist()}) == [1, 3]
    whole = list(api.interpolate(clip(), flow="dis", method="fusion", spectral_alpha=0.4, host=CPU, **anchors))
    for one, other in zip(whole, chained(flow, 0.4, num_anchors=2), strict=True):
        assert torch.equal(one.pixels, other.pixels)
    with pytest.raises(InputError, match="no pair of frames"):
        list(api.fuse(clip(7), held(7, anchors=anchors), num_anchors=3, host=CPU))


def test_batches_do_not_change_flow(monkeypatch):
    together = held(multi=8)
    monkeypatch.setattr(fit, "BATCH_PIXELS", 2 * 37 * 50)
    apart = held(multi=8)
    for one, other in zip(together.flow, apart.flow, strict=True):
        assert one.shape == (7, 4, 37, 50) and torch.equal(one, other)


def test_running_out_of_memory_halves_then_tiles():
    class Hungry(PlainHost):
        def is_oom(self, error):
            return isinstance(error, MemoryError)

    class Source:
        modulus, padding, asked = 1, "replicate", []

        def features(self, image, position=None):
            return None

        def flow(self, left, right, a, b, times):
            self.asked.append((len(times), *left.shape[-2:]))
            if len(times) * left.shape[-2] * left.shape[-1] > 160 * 160:
                raise MemoryError
            return Flow(torch.ones(len(times), 4, *left.shape[-2:]), torch.zeros(len(times), 1, *left.shape[-2:]))

    frames = [Frame(torch.rand(300, 300, 3), F(i)) for i in range(2)]
    (found,) = api.extract_flow(frames, flow=Source(), multi=4, host=Hungry("cpu", "float32"))
    assert Source.asked[0] == (1, 300, 300) and (1, 150, 150) in Source.asked
    assert torch.allclose(found.flow.flow, torch.ones(3, 4, 300, 300), atol=1e-6)


def test_half_precision_is_half_the_size_and_nearly_the_same():
    whole, half = held(), held(half=True)
    assert half.bytes * 2 == whole.bytes
    for one, other in zip(chained(whole, 0), chained(half, 0), strict=True):
        assert (one.pixels - other.pixels).abs().max() < 0.02


def test_a_single_frame_has_no_flow_and_passes():
    flow = held(1)
    assert flow.flow == () and flow.frames == 1 and flow.positions() == (F(0),)
    (only,) = api.fuse(clip(1), flow, host=CPU)
    assert torch.equal(only.pixels, next(clip(1)).pixels)


def test_fractions_survive():
    flow = held(4, fps=F(60000, 1001))
    assert flow.positions() == tuple(instants(4, fps=F(60000, 1001)))


def test_foreign_values_are_refused():
    flow = held(3)
    assert flow_clip.checked(tuple(flow), 3, (37, 50)).frames == 3
    for value in (None, flow.flow[0], (1, 2, 3, 4, 5), tuple(flow)[:4], (flow.mask, *flow[1:])):
        with pytest.raises(InputError, match="connect the FLOW of RIFE Flow"):
            flow_clip.checked(value)
    with pytest.raises(InputError, match="clip of 3 frames, the images are 4"):
        flow_clip.checked(flow, 4)
    with pytest.raises(InputError, match="FLOW is 50×37, the images are 50×38"):
        flow_clip.checked(flow, 3, (38, 50))


def test_warp_moves_without_a_network():
    flow = held()
    near = list(api.warp(clip(), flow, side="near", host=CPU))
    left, right, both = (list(api.warp(clip(), flow, side=side, host=CPU)) for side in ("left", "right", "blend"))
    shares = list(flow_clip.left_shares(flow))
    for index in range(9):
        if index % 2 == 0:
            assert both[index].original and shares[index] == 1
            continue
        assert torch.equal(near[index].pixels, left[index].pixels)
        mixed = torch.lerp(right[index].pixels, left[index].pixels, shares[index][..., None])
        assert torch.allclose(both[index].pixels, mixed, atol=1e-3)
        truth = (near[index - 1].pixels + near[index + 1].pixels) / 2
        assert (left[index].pixels - right[index].pixels).abs().mean() < (near[index - 1].pixels - truth).abs().mean()
    with pytest.raises(InputError, match="use blend, left, right, near"):
        api.warp(clip(), flow, side="top", host=CPU)
