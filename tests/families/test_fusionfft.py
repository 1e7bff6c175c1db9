"""FusionFFT: motion chained over neighbouring intervals, the quadratic form, and the fusion network.

Clips here are textures on known paths; the flow source reads the frame's number from its first pixel and
answers from the table of paths, assuming straight motion between two frames as real sources do.
"""

from dataclasses import dataclass, field, replace
from fractions import Fraction

import pytest
import torch
import torch.nn.functional as F
from torch.utils.flop_counter import FlopCounterMode

from comfy_fusionfft.api import EMBEDDED_FUSION
from comfy_fusionfft.checkpoints import embedded, load
from comfy_fusionfft.contract import Flow, Frame, Miss
from comfy_fusionfft.engine import run
from comfy_fusionfft.errors import InputError
from comfy_fusionfft.families.fusionfft import FAMILY, FusionConfig
from comfy_fusionfft.families.fusionfft.anchors import chain, link
from comfy_fusionfft.families.fusionfft.attention import REACH, RING, PyramidCrossAttention
from comfy_fusionfft.families.fusionfft.blocks import (
    AdaptiveFrequencyDecoupling,
    TemporalGuidanceModule,
    Upsample,
    time_code,
)
from comfy_fusionfft.families.fusionfft.fuse import Fuse, plain_answer
from comfy_fusionfft.families.fusionfft.grain import NoiseInject
from comfy_fusionfft.families.fusionfft.inputs import FusionInput, from_links, from_nested, nest
from comfy_fusionfft.families.fusionfft.net import APRON, FusionNet
from comfy_fusionfft.families.fusionfft.rearrange import halved, shuffle, unshuffle
from comfy_fusionfft.families.fusionfft.trajectory import bend
from comfy_fusionfft.host import PlainHost
from comfy_fusionfft.ops.warp import backward_warp
from comfy_fusionfft.timeline import At, Multiply

SMALL = FusionConfig(base_channels=32)


def smooth(count: int, height: int, width: int, scale: float) -> torch.Tensor:
    """Random vector fields ``(count, 2, H, W)`` that vary slowly."""
    cells = scale * torch.randn(count, 2, height // 8 + 2, width // 8 + 2)
    return F.interpolate(cells, size=(height, width), mode="bilinear", align_corners=True)


def sample(batch: int = 1, anchors: int = 3, height: int = 48, width: int = 64, channels: int = 3) -> FusionInput:
    frames = torch.rand(batch, anchors, 2, channels, height, width)
    motion = smooth(batch * anchors * 2, height, width, 3).view(batch, anchors, 2, 2, height, width)
    valid = torch.ones(batch, anchors, 2, dtype=torch.bool)
    time = 0.1 + 0.8 * torch.rand(batch)
    return FusionInput(frames, motion, torch.randn(batch, 1, height, width), valid, time)


def awake(config: FusionConfig = SMALL, strength: float = 0.03) -> FusionNet:
    """A network whose zero layers are not zero any more."""
    net = FusionNet(config).eval()
    with torch.no_grad():
        for parameter in net.parameters():
            if not parameter.any():
                parameter.normal_(std=strength / max(parameter[0].numel(), 1) ** 0.5)
        net.decoder.gates.bias[:4] = 1.0
    return net


def without(x: FusionInput, *anchors: int) -> FusionInput:
    valid = x.valid.clone()
    valid[:, list(anchors)] = False
    return x._replace(valid=valid)


# -- anchors ---------------------------------------------------------------------------------------------------


def test_a_link_starts_at_the_frames_own_pixels() -> None:
    """Zooming motion: position(q, s) = centre + (q - centre)·(1 + 0.2·s), seen from s = 0.5."""
    height, width = 40, 56
    grid = torch.stack(torch.meshgrid(torch.arange(width), torch.arange(height), indexing="xy")).float()
    from_centre = grid - torch.tensor([27.5, 19.5])[:, None, None]
    at_half = from_centre / 1.1  # where the point was at s = 0, for the pixel at s = 0.5
    flow = torch.cat((at_half - from_centre, 1.2 * at_half - from_centre))[None]
    found = link(flow)
    inner = (..., slice(6, -6), slice(6, -6))
    torch.testing.assert_close(found.ahead[0][inner], (0.2 * from_centre)[inner], atol=0.02, rtol=0)
    torch.testing.assert_close(found.back[0][inner], (from_centre / 1.2 - from_centre)[inner], atol=0.02, rtol=0)


def test_chaining_follows_the_point_and_stops_where_the_clip_does() -> None:
    flow = torch.tensor([-1.0, 0, 1, 0]).view(1, 4, 1, 1).expand(1, 4, 8, 8)
    back = torch.tensor([[[-3.0, 1], [-5, 0]]]).view(1, 2, 2, 1, 1).expand(1, 2, 2, 8, 8)
    ahead = torch.full((1, 2, 2, 8, 8), float("nan"))
    valid = torch.tensor([[[True, True], [True, False], [True, False]]])
    anchors = chain(flow, back, ahead, valid)
    assert anchors.motion[0, :, 0, :, 0, 0].tolist() == [[-1, 0], [-4, 1], [-9, 1]]
    assert anchors.motion[0, :, 1, :, 0, 0].tolist() == [[1, 0]] * 3


def test_frames_nest_around_the_instant() -> None:
    assert nest(torch.arange(6)[None])[0].tolist() == [[2, 3], [1, 4], [0, 5]]


# -- the closed quadratic form --------------------------------------------------------------------------------------


def accelerated(time: float, v: float, a: float, size: int = 40) -> tuple[FusionInput, torch.Tensor]:
    """Four frames of a texture at x(s) = v·s + a·s²/2 with a source of straight motion, and the true picture."""

    def at(s: float) -> float:
        return v * s + a * s * s / 2

    x = torch.arange(size).float()

    def picture(s: float) -> torch.Tensor:
        return (0.5 + 0.4 * torch.sin((x - at(s)) / 10)).expand(3, size, size)

    def flow(left: int, t: float) -> torch.Tensor:
        step = at(left + 1) - at(left)
        return torch.tensor([-t * step, 0, (1 - t) * step, 0]).view(1, 4, 1, 1).expand(1, 4, size, size)

    frames = torch.stack([picture(s) for s in (-1, 0, 1, 2)])[None]
    near = Flow(flow(0, time), torch.zeros(1, 1, size, size))
    back, ahead = link(flow(-1, 0.5)).back[:, None], link(flow(1, 0.5)).ahead[:, None]
    made = from_links(frames, torch.ones(1, 4, dtype=torch.bool), near, back, ahead, torch.tensor([time]))
    return made, picture(time)


@pytest.mark.parametrize("time", [0.25, 0.5, 0.8])
def test_the_quadratic_form_is_exact_for_constant_acceleration(time: float) -> None:
    x, truth = accelerated(time, v=2.0, a=1.6)
    closed = bend(x.anchors)
    torch.testing.assert_close(closed.mean[0, :, 5, 5], torch.tensor([1.6, 0.0]), atol=1e-4, rtol=0)
    assert closed.trust.min() > 0.99
    inner = (..., slice(6, -6))
    straight, _ = plain_answer(x, quadratic=False)
    bent, _ = plain_answer(x, quadratic=True)
    wrong, left = ((made[0] - truth)[inner].abs().max() for made in (straight, bent))
    assert left < 0.35 * wrong


def test_one_neighbour_is_enough_and_trusted_less() -> None:
    x, _ = accelerated(0.5, v=2.0, a=1.6)
    valid = x.valid.clone()
    valid[0, 1, 1] = False
    alone = bend(x._replace(valid=valid).anchors)
    torch.testing.assert_close(alone.mean, bend(x.anchors).mean, atol=1e-4, rtol=0)
    assert alone.trust.max() < 0.51
    none = bend(without(x, 1).anchors)
    assert not none.offset(x.time).any()


def test_ends_that_contradict_each_other_are_not_believed() -> None:
    x, _ = accelerated(0.5, v=2.0, a=1.6)
    motion = x.motion.clone()
    motion[:, 1, 1, 0] -= 3.2  # the right end now says -1.6
    assert bend(x._replace(motion=motion).anchors).offset(x.time).abs().max() < 1e-4


# -- the network ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("quadratic", [False, True])
@pytest.mark.parametrize("anchors", [1, 2, 3, 4, 5])
def test_at_the_start_the_answer_is_the_nearest_pairs(anchors: int, quadratic: bool) -> None:
    x = sample(2, anchors)
    with torch.no_grad():
        made = FusionNet(SMALL).eval()(x, quadratic=quadratic)
    expected, _ = plain_answer(x, quadratic=quadratic)
    torch.testing.assert_close(made, expected, atol=1e-6, rtol=0)


def test_gradients_reach_every_parameter_within_two_steps() -> None:
    net = FusionNet(SMALL)
    step = torch.optim.SGD(net.parameters(), lr=1e-3)
    x, target = sample(2), torch.rand(2, 3, 48, 64)
    for _ in range(2):
        step.zero_grad()
        F.l1_loss(net(x), target).backward()
        step.step()
    silent = [name for name, p in net.named_parameters() if p.grad is None or not p.grad.any()]
    assert silent == []
    assert all(torch.isfinite(p.grad).all() for p in net.parameters())


def test_gradients_stay_finite_without_some_anchors_and_in_mixed_precision() -> None:
    net, x = awake().train(), without(sample(2), 1, 2)
    frames, motion = x.frames.clone(), x.motion.clone()
    frames[:, 1:], motion[:, 1:] = float("nan"), float("nan")
    with torch.autocast("cpu", torch.bfloat16):
        made = net(x._replace(frames=frames, motion=motion))
        torch.testing.assert_close(FusionNet(SMALL)(sample_ := sample()), plain_answer(sample_)[0], atol=1e-5, rtol=0)
    assert made.dtype == torch.float32
    made.square().mean().backward()
    assert all(torch.isfinite(p.grad).all() for p in net.parameters())


@pytest.mark.parametrize("left_out", [(1,), (2,), (1, 2)])
def test_an_invalid_anchor_is_not_looked_at_even_if_it_is_nan(left_out: tuple[int, ...]) -> None:
    net, x = awake(), without(sample(), *left_out)
    calm = net(x)
    frames, motion = x.frames.clone(), x.motion.clone()
    frames[:, list(left_out)] = float("nan")
    motion[:, list(left_out)] = float("nan")
    torch.testing.assert_close(net(x._replace(frames=frames, motion=motion)), calm, atol=0, rtol=0)
    assert torch.isfinite(calm).all()


def test_leaving_out_the_widest_anchor_is_the_same_as_never_having_had_it() -> None:
    net, x = awake(), sample(anchors=3)
    fewer = FusionInput(x.frames[:, :2], x.motion[:, :2], x.mask, x.valid[:, :2], x.time)
    torch.testing.assert_close(net(without(x, 2)), net(fewer), atol=1e-5, rtol=0)


def test_every_anchor_counts_and_one_side_alone_too() -> None:
    net, x = awake(), sample(anchors=5)
    whole = net(x)
    for k in range(1, 5):
        assert (net(without(x, k)) - whole).abs().max() > 1e-5, f"anchor {k + 1} makes no difference"
    valid = x.valid.clone()
    valid[:, 1, 0] = False
    assert torch.isfinite(net(x._replace(valid=valid))).all()


def test_time_codes_tell_ends_and_spans_apart() -> None:
    time, span = torch.tensor([0.0, 1.0, 0.5, 0.5]), torch.tensor([1.0, 1.0, 1.0, 3.0])
    code = time_code(time, span)
    assert (code[0] - code[1]).abs().max() > 0.5
    assert (code[2] - code[3]).abs().max() > 0.5


def test_what_happens_far_away_does_not_matter() -> None:
    """No normalisation or pooling over space: a change in one corner leaves the other alone."""
    net, x = awake(), sample(height=64, width=640)
    frames = x.frames.clone()
    frames[..., :16] = 1
    difference = (net(x._replace(frames=frames)) - net(x)).abs().amax((0, 1, 2))
    assert difference[:16].max() > 0.01
    assert difference[420:].max() < 1e-5


@pytest.mark.parametrize("size", [(256 + 48, 320), (263, 401)])
@pytest.mark.parametrize("anchors", [1, 3])
@pytest.mark.parametrize("channels", [3, 4])
def test_strips_are_the_whole(size: tuple[int, int], anchors: int, channels: int) -> None:
    """With gradients the picture is one strip, and everything is written as plainly as can be."""
    net, x = awake(FusionConfig()), sample(1, anchors, *size, channels)
    plainly = net(x).detach()
    with torch.no_grad():
        suited, small, smallest = (net(x, tile=tile) for tile in (None, 200, 16))
        plain, _ = plain_answer(x)
    assert (plainly - plain).abs().max() > 0.05, "the network must do something for this to mean anything"
    for made in (suited, small, smallest):
        torch.testing.assert_close(made, plainly, atol=1e-4, rtol=0)


def test_several_instants_of_the_same_frames() -> None:
    net, x = awake(), sample(3, 2, 40, 72)
    x = x._replace(frames=x.frames[:1])
    plainly = net(x).detach()
    with torch.no_grad():
        torch.testing.assert_close(net(x), plainly, atol=1e-4, rtol=0)
        torch.testing.assert_close(net(x._replace(frames=x.pictures)), net(x), atol=0, rtol=0)


def test_half_precision_is_as_near_in_strips_as_it_is_plainly() -> None:
    net, x = awake(FusionConfig()), sample(1, 3, 160, 224)
    exact = net(x).detach()
    net.to(torch.bfloat16, memory_format=torch.channels_last)
    plainly = net(x).detach()
    with torch.no_grad():
        made = net(x, tile=128)
    assert (made - plainly).square().mean().sqrt() < 1.1 * (plainly - exact).square().mean().sqrt()


@pytest.mark.parametrize("size", [(16, 16), (17, 31), (5, 7), (1, 1), (100, 101)])
def test_any_size(size: tuple[int, int]) -> None:
    made = awake()(sample(1, 2, *size))
    assert made.shape == (1, 3, *size)
    assert torch.isfinite(made).all()


def test_padding_does_not_reach_the_centre() -> None:
    """Nor the border, where motion stays inside: beyond it, a continued picture has something to look at."""
    net, x = awake(), sample(height=250, width=250)
    x.motion[..., 200:, :] = x.motion[..., 200:] = 0
    net.trajectory.correct.requires_grad_(False).weight.zero_()
    net.trajectory.correct.bias.zero_()
    larger = FusionInput(
        *(F.pad(part.flatten(0, -4), (0, 6, 0, 6), mode="replicate").unflatten(0, part.shape[:-3]) for part in x[:3]),
        *x[3:],
    )
    torch.testing.assert_close(net(larger)[..., :250, :250], net(x), atol=5e-4, rtol=0)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_half_precision_weights(dtype: torch.dtype) -> None:
    net, x = awake(), sample()
    with torch.no_grad():
        exact = net(x)
        made = net.to(dtype)(x)
    assert made.dtype == torch.float32
    assert (made - exact).abs().mean() < 0.01
    fresh = FusionNet(SMALL).to(dtype)
    torch.testing.assert_close(fresh(x), plain_answer(x)[0], atol=1e-5, rtol=0)


def test_alpha_rides_along_and_nothing_outshines_it() -> None:
    x = sample(channels=4)
    x.frames[:, :, :, 3] = 0
    x.frames[:, :, :, :3] = 0
    made = awake()(x)
    assert made.shape[1] == 4
    assert made.abs().max() < 1e-6


def test_views_without_learning_are_weighed_as_the_mask_says() -> None:
    net, x = FusionNet(SMALL).eval(), sample(anchors=1)
    with torch.no_grad():
        net.decoder.score.weight.zero_()
        net.decoder.gates.bias[:4] = 1.0  # the mixture alone (four sub-pixels of its gate)
        torch.testing.assert_close(net(x), plain_answer(x)[0], atol=1e-6, rtol=0)


@pytest.mark.parametrize(("size", "anchors"), [((40, 50), 3), ((6, 7), 5), ((1, 1), 2), ((9, 1), 1), ((1, 8), 3)])
def test_attention_by_rows_of_a_table_is_the_same_as_by_sampling(size: tuple[int, int], anchors: int) -> None:
    attention = PyramidCrossAttention(16, heads=2, points=4).eval()
    torch.nn.init.normal_(attention.offsets.weight, std=0.5)
    features, prior = torch.randn(1, anchors, 16, *size), torch.randn(1, anchors)
    prior[:, 1:2] = -torch.inf
    sampled = attention(features, prior)
    with torch.no_grad():
        torch.testing.assert_close(attention(features, prior), sampled, atol=1e-4, rtol=0)


def test_guidance_of_one_is_guidance_of_many() -> None:
    part = TemporalGuidanceModule(8)
    torch.nn.init.normal_(part.modulate.weight)
    x, code = torch.randn(2, 8, 5, 6), torch.randn(2, 12)
    with torch.no_grad():
        alone = torch.cat([part(x[i : i + 1], code[i : i + 1]) for i in range(2)])
    torch.testing.assert_close(alone, part(x, code), atol=1e-5, rtol=0)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_rearranging_is_torchs_own(dtype: torch.dtype) -> None:
    fine, cells = torch.randn(2, 3, 6, 8).to(dtype), torch.randn(2, 12, 3, 4).to(dtype)
    with torch.no_grad():
        assert torch.equal(unshuffle(fine), F.pixel_unshuffle(fine, 2))
        assert torch.equal(shuffle(cells), F.pixel_shuffle(cells, 2))
    torch.testing.assert_close(halved(fine.float()), F.avg_pool2d(fine.float(), 2))
    part = Upsample(6, 4)
    torch.nn.init.normal_(part.conv.weight)
    plainly = part(torch.ones(1, 6, 3, 5))
    with torch.no_grad():
        torch.testing.assert_close(part(torch.ones(1, 6, 3, 5)), plainly)


# -- parts -------------------------------------------------------------------------------------------------------------


def test_low_and_high_frequencies_are_split_without_loss_whatever_is_learnt() -> None:
    part, x = AdaptiveFrequencyDecoupling(8), torch.randn(1, 8, 12, 14)
    for _ in range(2):
        low, high = part.split(x)
        torch.testing.assert_close(low + high, x)
        flat_low, flat_high = part.split(torch.ones_like(x))
        torch.testing.assert_close(flat_low, torch.ones_like(x))
        assert flat_high.abs().max() < 1e-5
        assert low.min() >= x.min() and low.max() <= x.max()
        torch.nn.init.normal_(part.kernel, std=3)


def test_upsampling_starts_without_a_checkerboard() -> None:
    made = Upsample(6, 4)(torch.randn(1, 6, 5, 5))
    assert made.shape == (1, 4, 10, 10)
    torch.testing.assert_close(made[..., ::2, ::2], made[..., 1::2, 1::2])


def test_attention_starts_on_a_ring_reads_keys_and_covers_every_anchor() -> None:
    attention = PyramidCrossAttention(16, heads=2, points=4).eval()
    radius = (attention.offsets.bias.view(-1, 2).tanh() * REACH).norm(dim=1)
    torch.testing.assert_close(radius, torch.full_like(radius, RING))
    features, prior = torch.randn(1, 5, 16, 6, 7), torch.zeros(1, 5)
    whole = attention(features, prior)
    for k in range(1, 5):
        prior = torch.zeros(1, 5)
        prior[0, k] = -torch.inf
        assert (attention(features, prior) - whole).abs().max() > 1e-4
    with torch.no_grad():  # other keys, same values and places
        attention.key_value.weight[:8] *= -3
    assert (attention(features, torch.zeros(1, 5)) - whole).abs().max() > 1e-3
    with torch.no_grad():  # weights sum to one: equal values come out as they are, for one anchor as for five
        attention.key_value.weight.zero_()
        attention.key_value.bias.fill_(1.0)
    one, five = (attention(features[:, :n], torch.zeros(1, n)) for n in (1, 5))
    torch.testing.assert_close(one, five)


def test_grain_is_that_of_one_view_and_a_flat_picture_has_none() -> None:
    part = NoiseInject()
    noisy = 0.5 + 0.1 * torch.randn(1, 40, 40)
    flat = torch.full_like(noisy, 0.5)
    assert part(torch.stack((flat, flat), 1)).abs().max() < 1e-6
    both = part(torch.stack((flat, noisy), 1))
    torch.testing.assert_close(both, part.band(noisy[:, None]))


@pytest.mark.parametrize("config", [SMALL, FusionConfig(), FusionConfig(96, points=6, use_temporal_guidance=False)])
def test_a_file_tells_its_own_configuration(config: FusionConfig) -> None:
    state = FAMILY.build(config).state_dict()
    wrapped = FAMILY.canonical({f"module._orig_mod.{name}": tensor for name, tensor in state.items()})
    assert list(wrapped) == list(state)
    assert FAMILY.detect(wrapped, FAMILY.describe(config)) == config
    FAMILY.build(config).load_state_dict(wrapped)
    del wrapped["encoder.stem.weight"]
    assert FAMILY.detect(wrapped, {}) == Miss("no tensor encoder.stem.weight")


@pytest.mark.parametrize("size", [(96, 128), (90, 150)])
def test_the_embedded_network_prints_no_raster_at_the_border(size) -> None:
    """Still frames of a smooth shade come back as they are; up to 6 of 255 levels were added at every 16th pixel."""
    net = load(embedded(EMBEDDED_FUSION)).module.eval().float()
    height, width = size
    shade = torch.linspace(0.5, 0.9, height)[:, None] + torch.linspace(0, 0.05, width)
    frames = shade.expand(1, 2, 3, height, width)
    still = torch.zeros(1, 1, 4, height, width)
    x = from_nested(frames, torch.ones(1, 2, dtype=torch.bool), still, still[:, 0, :1], torch.tensor([0.5]))
    with torch.no_grad():
        assert (net(x) - shade).abs().max() < 1 / 255


def test_cost() -> None:
    net, x = FusionNet().eval(), sample(1, 3, 128, 128)
    calls = []
    original = F.grid_sample
    with torch.no_grad(), pytest.MonkeyPatch.context() as patch:
        patch.setattr(F, "grid_sample", lambda *a, **k: calls.append(1) or original(*a, **k))
        with FlopCounterMode(display=False) as counted:
            net(x)
        per_pixel = counted.get_total_flops() / 2 / (128 + 2 * APRON) ** 2
    assert per_pixel < 46_000
    # Six frames are looked up twice and two once more; in attention, all anchors, heads and points are one table.
    assert len(calls) <= 2 * 6 + 2, "sampling is batched over heads and points"
    assert 2e6 <= sum(p.numel() for p in net.parameters()) <= 4e6
    assert not list(net.buffers()), "no caches"


# -- as a model for the engine ----------------------------------------------------------------------------------------


@dataclass
class Paths:
    """A source that knows where everything is: frame number -> position, number in the first pixel."""

    position: tuple[float, ...]
    modulus: int = 1
    padding: str = "replicate"
    calls: list = field(default_factory=list)

    def features(self, image: torch.Tensor, position: Fraction) -> int:
        assert round(float(image[0, 0, 0, 0]) * 255) == position
        return round(float(image[0, 0, 0, 0]) * 255)

    def flow(self, left, right, left_features: int, right_features: int, times: torch.Tensor) -> Flow:
        self.calls.append((left_features, right_features, tuple(times.tolist())))
        step = self.position[right_features] - self.position[left_features]
        t, zero = times.view(-1, 1, 1, 1), torch.zeros(len(times), 1, *left.shape[-2:])
        return Flow(torch.cat((zero - t * step, zero, zero + (1 - t) * step, zero), 1), zero)


def clip(position: tuple[float, ...], height: int = 24, width: int = 40):
    x = torch.arange(width).float()
    for number, at in enumerate(position):
        pixels = (0.5 + 0.3 * torch.sin((x - at) / 2)).expand(3, height, width).permute(1, 2, 0).clone()
        pixels[0, 0] = number / 255
        yield Frame(pixels, Fraction(number, 10))


def interpolated(fuse: Fuse, position: tuple[float, ...], timing=None) -> list[Frame]:
    return list(run(clip(position), fuse, timing or Multiply(2), PlainHost("cpu", "float32")))


BENT = tuple(0.8 * s * s / 2 for s in range(8))


@pytest.mark.parametrize("anchors", [1, 2, 3, 5])
def test_at_times_two_every_interval_is_asked_about_once(anchors: int) -> None:
    source = Paths(BENT)
    made = interpolated(Fuse(awake(), source, num_anchors=anchors, spectral_alpha=0), BENT)
    assert len(made) == 15
    assert source.calls == [(i, i + 1, (0.5,)) for i in range(7)]


def test_more_instants_cost_no_more_motion() -> None:
    source = Paths(BENT)
    interpolated(Fuse(None, source, spectral_alpha=0), BENT, Multiply(4))
    asked = [(left, t) for left, _, times in source.calls for t in times]
    assert len(asked) == len(set(asked)) == 7 * 3


def test_without_a_network_acceleration_is_followed_at_the_ends_of_the_clip_too() -> None:
    straight = interpolated(Fuse(None, Paths(BENT), quadratic=False, spectral_alpha=0), BENT)
    bent = interpolated(Fuse(None, Paths(BENT), spectral_alpha=0), BENT)
    for i in range(7):
        between = 0.8 * (i + 0.5) ** 2 / 2
        truth = 0.5 + 0.3 * torch.sin((torch.arange(40).float() - between) / 2)
        wrong, left = ((frames[2 * i + 1].pixels[8, 8:-8, 0] - truth[8:-8]).abs().max() for frames in (straight, bent))
        assert left < (0.6 if 0 < i < 6 else 0.8) * wrong


def test_every_anchor_is_a_different_pair_chained_or_nested() -> None:
    seen = {}

    class Spy(FusionNet):
        def forward(self, x: FusionInput, **options) -> torch.Tensor:
            numbers = [round(float(picture[0, 0, 0, 0]) * 255) for picture in x.pictures]
            seen[len(seen)] = numbers, x.valid[0].tolist(), x.motion
            return super().forward(x, **options)

    steady = tuple(2.0 * s for s in range(6))
    for flow in ("chained", "nested"):
        seen.clear()
        source = Paths(steady)
        interpolated(Fuse(Spy(SMALL).eval(), source, anchor_flow=flow, spectral_alpha=0), steady)
        frames, valid, motion = seen[2]
        assert frames == [2, 3, 1, 4, 0, 5] and valid == [[True, True]] * 3
        torch.testing.assert_close(motion[0, :, :, 0, 9, 20], torch.tensor([[-1.0, 1], [-3, 3], [-5, 5]]))
        frames, valid, _ = seen[0]
        assert frames == [0, 1, 0, 2, 0, 3]  # blank, never a copy: pixel 0 of a blank frame is 0
        one_sided = flow == "chained"  # a wide pair needs both of its frames
        assert valid == [[True, True], [False, one_sided], [False, one_sided]]
    assert (1, 4, (0.5,)) in source.calls


def test_settings_are_plain_and_alpha_is_linear() -> None:
    fuse = Fuse(None, Paths(BENT), spectral_alpha=0)
    pictures = []
    for alpha in (0.0, 0.5, 1.0):
        fuse.spectral_alpha = alpha
        pictures.append(interpolated(fuse, BENT, At((Fraction(5, 2),)))[0].pixels)
    torch.testing.assert_close(pictures[1], (pictures[0] + pictures[2]) / 2, atol=1e-6, rtol=0)
    assert (pictures[2] - pictures[0]).abs().max() > 1e-4
    fuse.spectral_prior = "warped"
    assert (interpolated(fuse, BENT, At((Fraction(5, 2),)))[0].pixels - pictures[2]).abs().max() > 1e-6


@pytest.mark.parametrize(
    ("options", "text"),
    [
        ({"num_anchors": 6}, "6 anchors asked for: use 1 to 5"),
        ({"anchor_flow": "wide"}, "anchor flow 'wide' is not known: use chained or nested"),
        ({"spectral_prior": "none"}, "spectral prior 'none' is not known: use neighbours or warped"),
    ],
)
def test_settings_that_do_not_exist(options: dict, text: str) -> None:
    with pytest.raises(InputError, match=text):
        Fuse(None, Paths(BENT), **options)


def test_nested_inputs_keep_their_order() -> None:
    flow = torch.arange(8.0).view(1, 2, 4, 1, 1).expand(1, 2, 4, 4, 4)
    x = from_nested(
        torch.rand(1, 4, 3, 4, 4),
        torch.ones(1, 4, dtype=torch.bool),
        flow,
        torch.zeros(1, 1, 4, 4),
        torch.tensor([0.5]),
    )
    assert x.motion[0, :, :, :, 0, 0].tolist() == [[[0, 1], [2, 3]], [[4, 5], [6, 7]]]
    torch.testing.assert_close(backward_warp(x.frames[:, 0, 0], torch.zeros(1, 2, 4, 4)), x.frames[:, 0, 0])


def test_short_of_memory_the_network_goes_to_smaller_squares_and_the_motion_stays_whole() -> None:
    class Hungry(FusionNet):
        def forward(self, x, **settings):
            tiles.append(settings["tile"])
            if settings["tile"] != 256:
                raise MemoryError
            return super().forward(x, **settings)

    tiles: list[int | None] = []
    torch.manual_seed(0)
    net = awake()
    source = Paths(BENT)
    plain = interpolated(Fuse(net, source, spectral_alpha=0, tile=256), BENT)
    asked = list(source.calls)
    net.__class__, source.calls = Hungry, []
    made = interpolated(Fuse(net, source, spectral_alpha=0), BENT)
    assert tiles[:4] == [None, 1024, 512, 256] and set(tiles[3:]) == {256}
    assert source.calls == asked
    for one, other in zip(plain, made, strict=True):
        # short of memory on a CPU, convolutions are PyTorch's own, which round differently
        torch.testing.assert_close(one.pixels, other.pixels, atol=1e-4, rtol=0)


@dataclass
class Overheard:
    """A model whose answers are kept as they are; the engine is given the pictures."""

    model: Fuse
    one_by_one: bool = False
    answers: dict[Fraction, torch.Tensor] = field(default_factory=dict)

    @property
    def reach(self):
        return self.model.reach

    def __call__(self, window) -> torch.Tensor:
        times = [(t,) for t in window.times] if self.one_by_one else [window.times]
        made = torch.cat([self.model(replace(window, times=some)) for some in times])
        self.answers |= dict(zip(window.times, made, strict=True))
        return made[:, :3]


def overheard(fuse: Fuse, position: tuple[float, ...], one_by_one: bool = False) -> torch.Tensor:
    heard = Overheard(fuse, one_by_one)
    interpolated(heard, position, Multiply(4))
    return torch.stack([heard.answers[time] for time in sorted(heard.answers)])


@pytest.mark.parametrize(
    "settings", [{}, {"num_anchors": 1}, {"anchor_flow": "nested", "spectral_prior": "warped"}, {"net": None}]
)
def test_explaining_adds_two_planes_and_leaves_the_picture_as_it_is(settings: dict) -> None:
    settings = {"net": awake(), "source": Paths(BENT), **settings}
    plain, told = (overheard(Fuse(**settings, explain=explain), BENT) for explain in (False, True))
    assert plain.shape == (21, 3, 24, 40) and told.shape == (21, 5, 24, 40) and told.dtype == torch.float32
    assert torch.equal(told[:, :3], plain)
    assert told[:, 3:].min() >= 0 and told[:, 3:].max() <= 1
    alone = overheard(Fuse(**settings, explain=True), BENT, one_by_one=True)
    torch.testing.assert_close(alone, told, atol=1e-5, rtol=0)


def test_confidence_does_not_depend_on_the_networks_strips() -> None:
    net = awake()
    whole, strips = (overheard(Fuse(net, Paths(BENT), explain=True, tile=tile), BENT) for tile in (0, 16))
    torch.testing.assert_close(strips, whole, atol=1e-4, rtol=0)


def test_motion_that_halts_is_doubted_where_anchors_show_it() -> None:
    steady = tuple(float(s) for s in range(8))
    torn = (-12.0, -7, -2, 3, 4, 9, 14, 19)  # halts between frames 3 and 4
    sure = {
        (anchors, position): overheard(Fuse(None, Paths(position), num_anchors=anchors, explain=True), position)[10, 4]
        for anchors in (1, 2)
        for position in (steady, torn)
    }
    assert sure[2, torn].mean() < sure[2, steady].mean() - 0.005
    assert torch.equal(sure[1, torn], sure[1, steady])
