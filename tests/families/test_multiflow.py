"""Flow chosen among several searches: what they find, what is carried to an instant, who is followed, the source."""

from functools import partial

import cv2
import numpy as np
import pytest
import torch
import torch.nn.functional as F
from train.scenes import pan, texture

from comfy_fusionfft import api, checkpoints
from comfy_fusionfft.contract import Frame, Miss
from comfy_fusionfft.errors import CheckpointError, InputError
from comfy_fusionfft.families.multiflow import FAMILY, MultiFlowConfig, candidates
from comfy_fusionfft.families.multiflow.candidates import COUNT, SEARCHES, SHRINK
from comfy_fusionfft.families.multiflow.config import canonical, detect
from comfy_fusionfft.families.multiflow.flow import MultiFlow
from comfy_fusionfft.families.multiflow.net import MultiFlowNet, attempt, compare, enlarged, look
from comfy_fusionfft.host import PlainHost
from comfy_fusionfft.ops import strips as ops_strips
from comfy_fusionfft.ops.intermediate import flow_to_times
from comfy_fusionfft.ops.memory import Memory
from comfy_fusionfft.ops.warp import backward_warp, blend
from comfy_fusionfft.quality import psnr

SMALL = MultiFlowConfig(widths=(8, 12, 16), fine=8)
CPU = PlainHost("cpu", "float32")
HALF = torch.tensor([0.5])
SLIDE = (6, -4)


def awake():
    """A network that has an opinion: untrained ones answer nothing."""
    torch.manual_seed(0)
    net = MultiFlowNet(SMALL).eval()
    torch.nn.init.normal_(net.choose.last.weight, std=0.3)
    return net


def picture(array):
    return torch.from_numpy(np.ascontiguousarray(array)).permute(2, 0, 1)[None].float() / 255


def sliding(height=128, width=160, share=1.0):
    """Two windows on a texture, the second shows what the first does moved by ``SLIDE``; and one a ``share`` on."""
    wide = texture(height + 48, width + 48, 3)
    dx, dy = SLIDE
    places = ((24, 24), (24 - dy, 24 - dx), (24 - round(share * dy), 24 - round(share * dx)))
    return [np.ascontiguousarray(wide[y : y + height, x : x + width]) for y, x in places]


def greys(*pictures):
    return [candidates.prepare(cv2.cvtColor(each, cv2.COLOR_RGB2GRAY)) for each in pictures]


@pytest.fixture(scope="module")
def found():
    """``(1, K, 2, 2, h, w)`` of a slide."""
    return torch.from_numpy(candidates.search(*greys(*sliding()[:2]))).permute(0, 1, 4, 2, 3)[None]


# ---------------------------------------------------------------------------------------------- what is found


def test_what_is_prepared_has_four_sizes():
    (made,) = greys(texture(64, 96))
    margin = candidates.MARGIN
    assert [each.shape for each in made] == [(32, 48), (32 + margin, 48 + margin), (32, 48), (16, 24)]
    assert all(each.dtype == np.uint8 for each in made)


def test_levelling_takes_away_light_and_contrast():
    grey = cv2.cvtColor(texture(96, 96), cv2.COLOR_RGB2GRAY)
    darker = (40 + 0.5 * grey).astype(np.uint8)
    assert np.abs(candidates.level(darker) - candidates.level(grey).astype(float)).mean() < 6
    assert np.abs(darker - grey.astype(float)).mean() > 20
    assert np.ptp(candidates.level(np.full((32, 32), 90, np.uint8))) == 0


@pytest.mark.parametrize("kind", range(len(SEARCHES)), ids=SEARCHES)
def test_every_search_finds_a_slide_both_ways(found, kind):
    assert found.shape == (1, len(SEARCHES), 2, 2, 64, 80) and found.dtype == torch.float32
    there, back = found[0, kind, ..., 12:-12, 12:-12]
    want = torch.tensor(SLIDE).view(2, 1, 1) / SHRINK
    most = {"quarter": 0.25, "levelled": 0.05, "polynomials": 0.05}.get(SEARCHES[kind], 0.02)
    assert (there - want).abs().mean() < most and (back + want).abs().mean() < most


def test_searches_repeat(found):
    again = candidates.search(*greys(*sliding()[:2]))
    assert np.array_equal(again, found[0].permute(0, 1, 3, 4, 2).numpy())


def test_the_plane_knows_a_turning_zoom_to_the_corners():
    height, width = 128, 160
    first = texture(height, width, 3)
    matrix = cv2.getRotationMatrix2D((80, 64), 3, 1.05)
    second = cv2.warpAffine(first, matrix, (width, height), flags=cv2.INTER_CUBIC, borderMode=cv2.BORDER_REFLECT)
    made = candidates.search(*greys(first, second))[:, 0]
    place = np.stack(np.meshgrid(np.arange(width // 2), np.arange(height // 2)), -1) * 2 + 0.5
    true = (place @ matrix[:, :2].T + matrix[:, 2] - place) / SHRINK
    error = dict(zip(SEARCHES, np.linalg.norm(made - true, axis=-1), strict=True))
    assert error["plane"].mean() < 0.15 and error["plane"].max() < 0.5
    assert error["plane"].max() < 0.5 * error["whole"].max()


def test_without_a_common_motion_the_plane_is_the_first_search():
    random = np.random.default_rng(0)
    first, second = (random.integers(0, 256, (64, 64), dtype=np.uint8) for _ in range(2))
    made = candidates.search(candidates.prepare(first), candidates.prepare(second))
    assert np.array_equal(made[SEARCHES.index("plane")], made[0])


# ------------------------------------------------------------------------------------------- at the instant


@pytest.mark.parametrize("time", [0.25, 0.5, 0.9])
def test_even_motion_is_the_same_velocity_at_every_instant(time):
    motion = torch.tensor([4.0, -2.0]).view(2, 1, 1).expand(2, 24, 32)
    pairs = torch.stack((motion, -motion))[None, None].expand(1, len(SEARCHES), -1, -1, -1, -1)
    velocity, trust, mask = candidates.at_times(pairs, torch.tensor([time]))
    assert velocity.shape == (1, COUNT, 2, 24, 32) and trust.shape == (1, COUNT - 1, 24, 32)
    assert mask.shape == (1, 1, 24, 32)
    assert torch.allclose(velocity[:, :-1], motion.expand(1, COUNT - 1, -1, -1, -1), atol=1e-3)
    assert not velocity[:, -1].any()
    inner = (..., slice(6, -6), slice(6, -6))
    assert (trust[inner] > 0.99).all()
    assert torch.allclose(mask[inner].sigmoid(), torch.tensor(1 - time), atol=1e-3)


def test_instants_of_a_batch_do_not_mix(found):
    times = torch.tensor([0.2, 0.7])
    other = found * torch.linspace(0.5, 1.5, found[0].numel()).view_as(found)
    both = candidates.at_times(torch.cat((found, other)), times)
    for i, each in enumerate((found, other)):
        alone = candidates.at_times(each, times[i : i + 1])
        assert all(torch.allclose(a[i], b[0], atol=1e-5) for a, b in zip(both, alone, strict=True))


def test_guesses_are_each_search_carried_to_the_instant(found):
    """Against the formulation in plain words: flow to both frames by ``flow_to_times``, made a velocity."""
    t = torch.tensor([0.3])
    velocity, trust, mask = candidates.at_times(found, t)
    for kind, pair in enumerate(found[0]):
        (flow, plain_mask), sure = flow_to_times(pair[:1], pair[1:], t)
        want = torch.stack((flow[:, :2] / -0.3, flow[:, 2:] / 0.7), 1)
        assert torch.allclose(velocity[:, 2 * kind : 2 * kind + 2], want, atol=1e-4)
        assert torch.allclose(trust[:, 2 * kind : 2 * kind + 2], sure, atol=1e-5)
        if kind == 0:
            assert torch.allclose(mask, plain_mask, atol=1e-5)


def test_memory_and_weights_known_before_change_nothing(found):
    memory = Memory()
    for time in (0.3, 0.6):
        plain = candidates.at_times(found, torch.tensor([time]))
        again = candidates.at_times(found, torch.tensor([time]), candidates.weights(found), memory.empty)
        assert all(torch.equal(a, b) for a, b in zip(plain, again, strict=True))


# --------------------------------------------------------------------------------------------- the network


def tried(found, time=HALF):
    left, right = (picture(each) for each in sliding()[:2])
    return attempt(left, right, *candidates.at_times(found, time), time)


def plain_planes(left, right, velocity, trust, mask, time):
    """What the network looks at, a plane at a time."""
    looks = [look(left), look(right)]
    views = [
        [backward_warp(each, share * guess) for guess in velocity.unbind(1)]
        for each, share in zip(looks, (-time, 1 - time), strict=True)
    ]
    differences = torch.stack([(a - b).abs() for a, b in zip(*views, strict=True)], 2)  # (1, 2, COUNT, h, w)
    differences[:, 0] *= 8
    known = (
        differences.flatten(1, 2),
        ((velocity - velocity[:, :1]) / 4).tanh().flatten(1, 2),
        trust,
        views[0][0][:, :1],
        views[1][0][:, :1],
        time.view(1, 1, 1, 1).expand_as(mask),
        mask / 4,
        (velocity[:, 0] / 16).tanh(),
    )
    return torch.cat(known, 1), differences.mean(1)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_what_is_compared_in_strips_is_what_it_is_plane_by_plane(found, dtype, monkeypatch):
    monkeypatch.setattr(ops_strips, "STRIP_PIXELS", 9000)
    left, right = (picture(each) for each in sliding(120, 152)[:2])
    guesses = candidates.at_times(found[..., :60, :76].contiguous(), HALF)
    trial = compare(look(left), look(right), *guesses, HALF, dtype)
    planes, gaps = plain_planes(left, right, *guesses, HALF)
    assert trial.planes.shape == (1, planes.shape[1], 64, 80) and trial.planes.dtype == dtype
    want = F.pad(planes, (0, 4, 0, 4), mode="replicate")
    assert torch.allclose(trial.planes.float(), want, atol=1e-5 if dtype == torch.float32 else 0.04)
    assert torch.allclose(trial.gaps, gaps, atol=1e-5)


@pytest.mark.parametrize("size", [(128, 160), (120, 152)])
def test_strips_of_a_choice_are_those_of_the_whole(found, size, monkeypatch):
    left, right = (picture(each) for each in sliding(*size)[:2])
    guesses = candidates.at_times(found[..., : size[0] // 2, : size[1] // 2].contiguous(), HALF)
    net = awake()
    with torch.no_grad():
        choice = net.choice(attempt(left, right, *guesses, HALF), HALF)
        monkeypatch.setattr(ops_strips, "STRIP_PIXELS", 20 * size[1])
        flow, mask = net(left, right, *guesses, HALF)
    want = enlarged(choice.flow, choice.mask)
    assert torch.allclose(flow, want.flow, atol=1e-4) and torch.allclose(mask, want.mask, atol=1e-4)
    wrong = enlarged(choice.flow, choice.mask).flow.roll(1, -2)
    assert not torch.allclose(flow, wrong, atol=1e-2)


def misled(found, kind):
    """The same searches, of which only ``kind`` is right."""
    wrong = found + 9.0
    wrong[:, kind] = found[:, kind]
    return wrong


def test_where_nothing_tells_guesses_apart_it_starts_at_the_first_search(found):
    grey = torch.full((1, 3, 128, 160), 0.5)
    guesses = candidates.at_times(found, HALF)
    choice = MultiFlowNet(SMALL).choice(attempt(grey, grey, *guesses, HALF), HALF)
    shares = choice.weights.mean((0, 3, 4))
    assert shares[0, 0] == shares[0].max() > 0.3 and shares[1, 1] == shares[1].max() > 0.3
    assert torch.allclose(shares[0, 2:], shares[0, 2], atol=1e-5)
    assert torch.equal(choice.mask, guesses[2])


@pytest.mark.parametrize("kind", [0, 2, 5], ids=[SEARCHES[n] for n in (0, 2, 5)])
def test_at_the_start_it_already_follows_the_guess_that_fits(found, kind):
    choice = MultiFlowNet(SMALL).choice(tried(misled(found, kind)), HALF)
    assert choice.weights.shape == (1, 2, COUNT, 64, 80)
    assert torch.allclose(choice.weights.sum(2), torch.ones(1, 2, 64, 80), atol=1e-5)
    shares = choice.weights[..., 16:-16, 16:-16].mean((0, 1, 3, 4))
    right, other = shares[2 * kind : 2 * kind + 2].mean(), shares[2 * 3 : 2 * 3 + 2].mean()
    assert right > 3 * other


def test_flow_is_float32_at_the_picture_s_size_and_leads_to_both_frames(found):
    left, right, between = (picture(each) for each in sliding(share=0.5))
    with torch.no_grad():
        motion = MultiFlowNet(SMALL)(left, right, *candidates.at_times(found, HALF), HALF)
    assert motion.flow.shape == (1, 4, 128, 160) and motion.mask.shape == (1, 1, 128, 160)
    assert motion.flow.dtype == motion.mask.dtype == torch.float32
    inner = (..., slice(24, -24), slice(24, -24))
    dx, dy = SLIDE
    assert torch.allclose(motion.flow[inner].mean((0, 2, 3)), torch.tensor([-dx, -dy, dx, dy]) / 2, atol=0.4)
    assert psnr(blend(left, right, motion)[inner], between[inner]) > psnr(((left + right) / 2)[inner], between[inner])


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision_convolutions_keep_float32_motion(found, dtype):
    left, right = (picture(each) for each in sliding()[:2])
    guesses = candidates.at_times(found, HALF)
    net = awake()
    with torch.no_grad():
        whole, untrained = net(left, right, *guesses, HALF), MultiFlowNet(SMALL)(left, right, *guesses, HALF)
        half = net.to(dtype)(left, right, *guesses, HALF)
    assert half.flow.dtype == half.mask.dtype == torch.float32
    said = (whole.flow - untrained.flow).abs().mean()
    assert said > 0.05 and (half.flow - whole.flow).abs().mean() < 0.1 * said


def test_one_pair_serves_many_instants(found):
    net, times = awake(), torch.tensor([0.2, 0.5, 0.7])
    left, right = (picture(each) for each in sliding()[:2])
    with torch.no_grad():
        together = net(left, right, *candidates.at_times(found.expand(3, *found.shape[1:]), times), times)
        for i, time in enumerate(times.split(1)):
            alone = net(left, right, *candidates.at_times(found, time), time)
            assert torch.allclose(alone.flow[0], together.flow[i], atol=1e-3)
            assert torch.allclose(alone.mask[0], together.mask[i], atol=1e-3)


def test_everything_learns(found):
    net = awake()
    left, right = (picture(each) for each in sliding()[:2])
    out = net(left, right, *candidates.at_times(found, HALF), HALF)
    (out.flow.square().mean() + out.mask.square().mean()).backward()
    assert all(p.grad is not None and p.grad.abs().sum() > 0 for p in net.parameters())


# ----------------------------------------------------------------------------------------------- its files


@pytest.mark.parametrize("config", [SMALL, MultiFlowConfig()], ids=["small", "usual"])
def test_its_size_is_read_off_a_file(config, tmp_path):
    state = {f"module.{name}": tensor for name, tensor in MultiFlowNet(config).state_dict().items()}
    assert canonical(canonical(state)).keys() == MultiFlowNet(config).state_dict().keys()
    assert detect(canonical(state), FAMILY.describe(config)) == config
    path = checkpoints.save(canonical(state), tmp_path / "a.safetensors", family=FAMILY, config=config)
    loaded = checkpoints.load(path)
    assert loaded.family is FAMILY and loaded.config == config and loaded.module.family is FAMILY


def test_what_is_missing_is_named():
    state = MultiFlowNet(SMALL).state_dict()
    for name in ("enter.weight", "down.1.weight", "choose.last.weight"):
        less = {key: tensor for key, tensor in state.items() if key != name}
        assert detect(less, {}) == Miss(f"no tensor {name}")
    assert detect(state, {"multiflow.candidates": "0"}) == Miss(
        "it was trained on guesses of version 0, this one makes version 1"
    )


def test_an_incomplete_file_is_refused(tmp_path):
    state = MultiFlowNet(SMALL).state_dict()
    del state["body.1.second.bias"]
    path = checkpoints.save(state, tmp_path / "a.safetensors", family=FAMILY, config=SMALL)
    with pytest.raises(CheckpointError, match=r"1 missing \(body.1.second.bias\)"):
        checkpoints.load(path)


def test_the_embedded_one_is_the_default_and_beats_averaging():
    source = api.load_flow(host=CPU)
    assert isinstance(source, MultiFlow) and source.scale == 1
    assert checkpoints.identify(checkpoints.embedded(api.EMBEDDED_FLOW))[0] is FAMILY
    pictures = pan(3, 96, 128, 4, seed=5)
    (_, made, _) = api.interpolate(clip(pictures[::2]), method="rife", host=CPU)
    inner = (slice(16, -16), slice(16, -16))
    truth, averaged = pictures[1][inner] / 255, (pictures[0] / 510 + pictures[2] / 510)[inner]
    assert psnr(made.pixels[inner].float() / 255, truth) > psnr(averaged, truth) + 5


# --------------------------------------------------------------------------------------------- as a source


def clip(pictures):
    return [Frame(torch.from_numpy(each), index) for index, each in enumerate(pictures)]


def asked(source, left, right, times):
    return source.flow(left, right, source.features(left), source.features(right), times)


def test_many_instants_are_those_asked_for_one_by_one():
    source = MultiFlow(awake())
    left, right = (picture(each) for each in sliding()[:2])
    times = torch.tensor([0.25, 0.5, 0.75])
    together = asked(source, left, right, times)
    assert together.flow.shape == (3, 4, 128, 160) and not together.flow.requires_grad
    for i, time in enumerate(times.split(1)):
        alone = asked(source, left, right, time)
        assert torch.equal(alone.flow[0], together.flow[i]) and torch.equal(alone.mask[0], together.mask[i])


def test_a_pair_is_searched_once_whatever_is_asked_of_it(monkeypatch):
    searched = []
    search = candidates.search
    monkeypatch.setattr(candidates, "search", lambda *greys: searched.append(1) or search(*greys))
    source = MultiFlow(awake())
    left, right = (picture(each) for each in sliding()[:2])
    with torch.inference_mode():
        features = [source.features(each) for each in (left, right)]
        first = source.flow(left, right, *features, HALF)
    kept = first.flow.clone()
    third = source.flow(left, right, *features, torch.tensor([0.3]))
    assert len(searched) == 1 and not torch.equal(third.flow, first.flow)
    assert torch.equal(source.flow(left, right, *features, HALF).flow, kept) and torch.equal(first.flow, kept)
    source.flow(right, left, *reversed(features), HALF)
    assert len(searched) == 2


def test_searches_find_the_same_with_many_threads(found, request):
    request.addfinalizer(partial(torch.set_num_threads, torch.get_num_threads()))
    for threads in (1, 3):
        torch.set_num_threads(threads)
        again = candidates.search(*greys(*sliding()[:2]))
        assert np.array_equal(again, found[0].permute(0, 1, 3, 4, 2).numpy())


@pytest.mark.parametrize("scale", [0.25, 0.5, 2.0])
def test_scale_keeps_the_units(scale):
    source = MultiFlow(MultiFlowNet(SMALL), scale=scale)
    assert source.modulus == {0.25: 4, 0.5: 2, 2.0: 1}[scale] * SMALL.modulus
    left, right = (picture(each) for each in sliding(256, 256)[:2])
    flow, mask = asked(source, left, right, HALF)
    assert flow.shape == (1, 4, 256, 256) and mask.shape == (1, 1, 256, 256)
    dx, dy = SLIDE
    inner = flow[0, :, 64:-64, 64:-64].mean((1, 2))
    assert torch.allclose(inner, torch.tensor([-dx, -dy, dx, dy]) / 2, atol=0.6)


def test_scale_keeps_the_places():
    """Of a picture whose right half alone moves, the right half moves."""
    left, moved, _ = sliding(192, 256)
    moved[:, :128] = left[:, :128]
    flow, _ = asked(MultiFlow(MultiFlowNet(SMALL), scale=0.5), picture(left), picture(moved), HALF)
    still, moving = (flow[0, :, 48:-48, x].flatten(1).median(1).values for x in (slice(32, 96), slice(160, 224)))
    dx, dy = SLIDE
    assert still.abs().max() < 0.3
    assert torch.allclose(moving, torch.tensor([-dx, -dy, dx, dy]) / 2, atol=0.6)


@pytest.mark.parametrize("size", [(1, 1), (1, 40), (17, 33), (37, 50), (66, 31)])
def test_pictures_of_any_size(size):
    pictures = pan(2, *size, 1, seed=2)
    made = list(api.interpolate(clip(pictures), flow=MultiFlow(awake()), multi=3, method="rife", host=CPU))
    assert [tuple(frame.pixels.shape) for frame in made] == [(*size, 3)] * 4
    still = [pictures[0]] * 2
    source = MultiFlow(MultiFlowNet(SMALL))
    (_, between, _) = api.interpolate(clip(still), flow=source, method="rife", host=CPU)
    assert (between.pixels.int() - torch.from_numpy(still[0]).int()).abs().max() <= 2


@pytest.mark.parametrize("dtype", ["float32", "float16", "bfloat16"])
def test_a_file_runs_in_the_host_s_precision(dtype, tmp_path):
    path = checkpoints.save(awake().state_dict(), tmp_path / "mine.safetensors", family=FAMILY, config=SMALL)
    host = PlainHost("cpu", dtype)
    source = api.load_flow(path, host=host, scale=0.5)
    assert isinstance(source, MultiFlow) and source.scale == 0.5
    assert next(source.net.parameters()).dtype == host.dtype
    placed = host.place(checkpoints.load(path).module)
    flows = [
        asked(each, *map(picture, sliding(64, 64)[:2]), HALF)
        for each in (source, api.load_flow(placed, host=host, scale=0.5))
    ]
    assert torch.equal(*(each.flow for each in flows)) and flows[0].flow.dtype == torch.float32


def test_wrong_options_are_explained():
    net = MultiFlowNet(SMALL)
    net.family = FAMILY
    with pytest.raises(InputError, match="searches both ways anyway: turn ensemble off"):
        api.load_flow(net, host=CPU, ensemble=True)
    with pytest.raises(InputError, match=r"a scale of 0 was given: use 1, or 0\.5"):
        MultiFlow(net, scale=0)
