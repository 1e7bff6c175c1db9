"""RIFE 4.0 to 4.26: parity with recorded outputs of the authors' code, recognition, and the contract.

Golden weights are synthetic, drawn tensor by tensor in the order of the published key lists, so a wrong
name, shape or order shows as a wrong picture.
"""

import ast
import json
from functools import cache

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from places import ROOT, shared_dir

from comfy_fusionfft import checkpoints
from comfy_fusionfft.contract import Flow, Miss
from comfy_fusionfft.errors import InputError
from comfy_fusionfft.families.rife import FAMILY, RIFEConfig, RIFEFlow
from comfy_fusionfft.families.rife.config import canonical, describe, detect
from comfy_fusionfft.families.rife.lean import applies, lean_flow, seen
from comfy_fusionfft.families.rife.net import IFNet
from comfy_fusionfft.ops.pad import crop, pad_to
from comfy_fusionfft.ops.warp import blend

GOLDEN = np.load(ROOT / "tests" / "golden" / "rife" / "golden.npz")
META = json.loads(GOLDEN["meta"].tobytes())
LAYOUTS = [name.removeprefix("keys_RIFE_") for name in GOLDEN if name.startswith("keys_RIFE_4")]
ENTRIES = sorted({name.rpartition("__")[0] for name in GOLDEN if "__" in name})
TOLERANCES = {"out": 5e-5, "flow": 5e-4, "mask": 5e-4}
LATE_NAMES = {"4.0large": "4.0", "4.26": "4.25"}
"""Entries that share another entry's key list."""


def keys(layout: str) -> list[tuple[str, tuple[int, ...]]]:
    lines = GOLDEN[f"keys_RIFE_{layout}"].tobytes().decode().splitlines()
    return [(name, ast.literal_eval(shape)) for name, shape in (line.split(" ", 1) for line in lines)]


def synthetic_weights(version: str) -> dict[str, torch.Tensor]:
    published = version.removesuffix("large")
    state = {}
    for number, (name, shape) in enumerate(keys(LATE_NAMES.get(version, version))):
        noise = np.random.RandomState(number).standard_normal(shape)
        if name.endswith("beta"):
            tensor = 1 + 0.1 * noise
        elif len(shape) == 1:
            slope = name.startswith("block") and name.endswith(".1.weight")
            tensor = noise * (META["prelu"] if slope else META["bias"])
        else:
            gain = META["conv"]
            if "lastconv" in name:
                gain = META["lastconv_over_scale"][published] / META["scales"][published][int(name[5])]
            elif name.endswith(".conv.weight"):
                gain = META["resconv_conv"]
            if version == "4.0large" and name == "block1.lastconv.weight":
                gain *= 24
            tensor = noise * gain / np.sqrt(np.prod(shape[1:]))
        state[name] = torch.from_numpy(tensor).float()
    return state


def golden_frames() -> tuple[torch.Tensor, torch.Tensor]:
    random = np.random.RandomState(12345)
    coarse = random.rand(1, 3, 8, 8)
    frames = (np.clip(coarse + 0.15 * i * (random.rand(1, 3, 8, 8) - 0.5), 0, 1) for i in range(2))
    return tuple(F.interpolate(torch.from_numpy(f).float(), (128, 192), mode="bilinear") for f in frames)


@cache
def golden_net(version: str, scales: str | None = None) -> IFNet:
    state = synthetic_weights(version)
    net = IFNet(detect(state, {} if scales is None else {"rife.scales": scales})).eval()
    net.load_state_dict(state)
    return net


@cache
@torch.no_grad()
def run_golden(entry: str, scales: str | None = None) -> dict[str, torch.Tensor]:
    version, t, scale, ensemble = entry.split("__")
    net, scale = golden_net(version, scales), float(scale[1:])
    (left, size), (right, _) = (pad_to(frame, net.config.modulus_at(scale), "zeros") for frame in golden_frames())
    flow = net(left, right, torch.tensor(float(t[1:])), scale=scale, ensemble=ensemble == "e1")
    results = {"out": blend(left, right, flow), "flow": flow.flow, "mask": flow.mask}
    return {name: crop(result, size)[0] for name, result in results.items()}


def errors(entry: str, recorded, reduction: int, scales: str | None = None) -> dict[str, float]:
    stride = (5 if entry.endswith("e1") else 3) * reduction
    results = run_golden(entry, scales)
    return {
        name: float(np.abs(result[:, ::stride, ::stride].numpy() - recorded[f"{entry}__{name}"]).max())
        for name, result in results.items()
    }


@pytest.mark.golden
@pytest.mark.parametrize("entry", ENTRIES)
def test_golden(entry):
    for name, error in errors(entry, GOLDEN, reduction=3).items():
        assert error < TOLERANCES[name], name


def test_every_layout_has_a_golden_entry():
    versions = {entry.partition("__")[0] for entry in ENTRIES}
    assert len(LAYOUTS) == 17
    assert versions == {*LAYOUTS, *LATE_NAMES}


FULL_SET = shared_dir() and shared_dir() / "specs" / "golden" / "golden_RIFE.npz"
if FULL_SET and FULL_SET.is_file():
    FULL = np.load(FULL_SET)

    @pytest.mark.golden
    @pytest.mark.parametrize("entry", ENTRIES)
    def test_golden_at_full_density(entry):
        for name, error in errors(entry, FULL, reduction=1).items():
            assert error < TOLERANCES[name], name

    def test_golden_inputs_are_the_recorded_ones():
        for name, frame in zip(("in0", "in1"), golden_frames(), strict=True):
            np.testing.assert_allclose(frame[0].numpy(), FULL[name], atol=1e-6)


@pytest.mark.golden
def test_golden_notices_the_wrong_scales():
    entry = "4.25.lite__t0.25__s1__e0"
    assert errors(entry, GOLDEN, 3, scales="16 8 4 2 1")["out"] > 1e-2


# -- recognition ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("spelling", ["own", "upstream", "comfyui"])
def test_layout_is_recognised_in_every_spelling(layout, spelling):
    rename = {
        "own": lambda name: name,
        "upstream": lambda name: f"module.{name}",
        "comfyui": lambda name: "flownet." + (f"blocks.{name[5:]}" if name.startswith("block") else name),
    }[spelling]
    published = keys(layout) + keys("extras_4.25")
    state = canonical({rename(name): torch.empty(shape, device="meta") for name, shape in published})
    config = detect(state, {})
    with torch.device("meta"):
        wanted = IFNet(config).state_dict()
    assert {name: t.shape for name, t in state.items()} == {name: t.shape for name, t in wanted.items()}
    assert canonical(state) == state
    assert list(config.scales) == META["scales"][layout]


def test_configuration_in_physical_terms():
    def of(layout):
        return detect({name: torch.empty(shape, device="meta") for name, shape in keys(layout)}, {})

    assert of("4.25") == RIFEConfig()
    assert of("4.0").modulus == 64
    assert of("4.0").accumulates_mask
    assert (of("4.2").modulus, of("4.2").prelu, of("4.2").body, of("4.2").shuffle) == (32, False, "plain", False)
    assert (of("4.6").accumulates_mask, of("4.7").accumulates_mask) == (True, False)
    assert (of("4.7").head, of("4.10").head, of("4.13").head) == ("two", "four", "named")
    assert (of("4.14.lite").groups, of("4.13").groups) == (2, 1)
    assert (of("4.20").can_ensemble, of("4.21").can_ensemble) == (True, False)
    assert (of("4.25.lite").modulus, of("4.25.lite").scales) == (128, (32, 16, 8, 4, 1))
    assert (of("4.26.heavy").head_planes, of("4.26.heavy").carried_planes) == (16, 8)
    assert [of("4.25").modulus_at(s) for s in (0.25, 0.5, 1, 2, 4)] == [256, 128, 64, 64, 64]


PLAIN = {"head": "none", "head_width": 0, "head_planes": 0, "carried_planes": 0, "out_planes": 6}
FOUR = {"widths": (16, 12, 8, 8), "scales": (8, 4, 2, 1)}
TINY = {
    "first": RIFEConfig(**FOUR, **PLAIN | {"out_planes": 5}, body="plain", prelu=True, shuffle=False),
    "plain": RIFEConfig(**FOUR, **PLAIN | {"out_planes": 5}, body="plain", shuffle=False),
    "residual": RIFEConfig(**FOUR, **PLAIN),
    "two": RIFEConfig(**FOUR, head="two", head_width=6, head_planes=4, carried_planes=0, out_planes=6),
    "four": RIFEConfig(**FOUR, head="four", head_width=6, head_planes=8, carried_planes=0, out_planes=6),
    "groups": RIFEConfig(**FOUR, head_width=6, carried_planes=0, out_planes=6, groups=2),
    "carried": RIFEConfig(**FOUR, head_width=6),
    "five": RIFEConfig(widths=(16, 12, 8, 8, 8), head_width=6),
    "lite": RIFEConfig(widths=(16, 12, 8, 8, 24), scales=(32, 16, 8, 4, 1), head_width=6),
    "other scales": RIFEConfig(widths=(16, 12, 8, 8, 8), scales=(32, 8, 4, 2, 1), version="mine"),
}


@pytest.mark.parametrize("flavour", TINY)
def test_saved_and_reloaded_with_the_same_config(flavour, tmp_path):
    net = IFNet(TINY[flavour])
    path = checkpoints.save(net.state_dict(), tmp_path / "net.safetensors", family=FAMILY, config=net.config)
    loaded = checkpoints.load(path)
    assert loaded.family is FAMILY
    assert loaded.config == net.config
    assert all(torch.equal(loaded.module.state_dict()[name], tensor) for name, tensor in net.state_dict().items())


def state_of(config: RIFEConfig) -> dict[str, torch.Tensor]:
    with torch.device("meta"):
        return IFNet(config).state_dict()


def test_metadata_wins_over_the_rule_for_scales():
    state = state_of(TINY["lite"])
    assert detect(state, {}).scales == (32, 16, 8, 4, 1)
    overridden = detect(state, {"rife.scales": "16, 8, 4, 2, 1", "rife.version": "core"})
    assert (overridden.scales, overridden.version) == ((16, 8, 4, 2, 1), "core")
    assert describe(overridden) == {"rife.scales": "16 8 4 2 1", "rife.version": "core"}


@pytest.mark.parametrize("scales", ["16 8 4 2", "16 8 4 3 1", "16 8 4 2 0", "fast", "16 8 4 -2 1", ""])
def test_impossible_scales_are_a_miss(scales):
    miss = detect(state_of(TINY["five"]), {"rife.scales": scales})
    assert miss == Miss(f"metadata rife.scales is {scales!r}, 5 powers of two up to 64 are needed")


def test_misses_name_what_is_missing():
    assert detect({}, {}) == Miss("no tensor block0.conv0.0.0.weight")
    state = state_of(TINY["four"])
    three = {name: tensor for name, tensor in state.items() if not name.startswith("block3")}
    assert detect(three, {}) == Miss("3 blocks, 4.x has 4 or 5")
    without = {name: tensor for name, tensor in state.items() if "convblock" not in name}
    assert detect(without, {}) == Miss("no tensor block0.convblock.0.0.weight")
    headless = {name: tensor for name, tensor in state.items() if not name.startswith("encode")}
    assert detect(headless, {}) == Miss("block0 takes 23 planes, its encoder implies 7")
    odd = state | {"block1.conv0.0.0.weight": torch.empty(6, 31, 3, 3, device="meta")}
    assert detect(odd, {}) == Miss("block1 takes 31 planes, which its 6 output planes do not explain")
    vector = state | {"block0.conv0.0.0.weight": torch.empty(8, device="meta")}
    assert detect(vector, {}) == Miss("block0.conv0.0.0.weight is not a convolution")
    narrow = state | {"block0.lastconv.0.weight": torch.empty(16, 16, 4, 4, device="meta")}
    assert "4 output planes cannot be built" in detect(narrow, {}).why


# -- behaviour ------------------------------------------------------------------------------------------


def pair(count: int = 1, size: tuple[int, int] = (64, 128)) -> tuple[torch.Tensor, torch.Tensor]:
    coarse = torch.rand(2, count, 3, 8, 8)
    return tuple(F.interpolate(frames, size, mode="bilinear") for frames in coarse)


def tiny_net(flavour: str) -> IFNet:
    net = IFNet(TINY[flavour]).eval()
    for name, tensor in net.named_parameters():
        if "lastconv" in name:
            tensor.data *= 30  # motion of some pixels
    return net


def assert_same(a: Flow, b: Flow, atol: float = 1e-4) -> None:
    torch.testing.assert_close(a.flow, b.flow, atol=atol, rtol=0)
    torch.testing.assert_close(a.mask, b.mask, atol=atol, rtol=0)


@pytest.mark.parametrize("flavour", TINY)
@torch.no_grad()
def test_one_pair_for_many_instants_equals_one_by_one(flavour):
    net, (left, right) = tiny_net(flavour), pair(size=(128, 128))
    times = torch.tensor([0.125, 0.5, 0.75])
    together = net(left, right, times)
    apart = [net(left, right, t) for t in times]
    assert_same(together, Flow(*map(torch.cat, zip(*apart, strict=True))))
    assert together.flow.shape == (3, 4, 128, 128)
    assert together.mask.shape == (3, 1, 128, 128)
    assert not torch.allclose(apart[0].flow, apart[1].flow)


@torch.no_grad()
def test_instants_may_differ_per_sample():
    net, (left, right) = tiny_net("five"), pair(2)
    times = torch.tensor([0.25, 0.75])
    both = net(left, right, times)
    for i in range(2):
        single = net(left[i : i + 1], right[i : i + 1], times[i])
        assert_same(Flow(both.flow[i : i + 1], both.mask[i : i + 1]), single)


@torch.no_grad()
def test_given_features_replace_the_encoder(monkeypatch):
    net, (left, right) = tiny_net("five"), pair()
    expected = net(left, right, torch.tensor([0.25, 0.5]))
    features = net.encode(left), net.encode(right)
    assert features[0].shape == (1, 4, 64, 128)
    calls = []
    net.encode.register_forward_hook(lambda *_: calls.append(1))
    assert_same(net(left, right, torch.tensor([0.25, 0.5]), *features), expected, atol=0)
    assert not calls
    net(left, right, torch.linspace(0.1, 0.9, 5))
    assert len(calls) == 2  # once per frame, however many instants
    assert tiny_net("residual").encode(left) is None


@torch.no_grad()
@pytest.mark.parametrize("flavour", ["plain", "residual", "two", "groups"])
def test_ensemble_does_not_prefer_a_side(flavour):
    net, (left, right) = tiny_net(flavour), pair()
    there = net(left, right, torch.tensor(0.3), ensemble=True)
    back = net(right, left, torch.tensor(0.7), ensemble=True)
    assert_same(there, Flow(back.flow.roll(2, 1), -back.mask), atol=1e-3)
    assert not torch.allclose(there.flow, net(left, right, torch.tensor(0.3)).flow, atol=1e-2)


@torch.no_grad()
def test_large_motion_of_one_sample_leaves_the_others_alone():
    net, (left, right) = golden_net("4.0large"), golden_frames()
    flat = torch.full_like(left, 0.5)
    lefts, rights = torch.cat((left, flat)), torch.cat((right, flat))
    both = net(lefts, rights, torch.tensor(0.5))
    for i in range(2):
        single = net(lefts[i : i + 1], rights[i : i + 1], torch.tensor(0.5))
        assert_same(Flow(both.flow[i : i + 1], both.mask[i : i + 1]), single)


@pytest.mark.parametrize("flavour", TINY)
def test_training_reaches_every_weight(flavour):
    net, (left, right) = IFNet(TINY[flavour]).train(), pair(size=(128, 128))
    levels = net(left, right, torch.tensor(0.5), all_levels=True)
    assert len(levels) == len(net.config.widths)
    assert_same(levels[-1], net(left, right, torch.tensor(0.5)), atol=0)
    sum(level.flow.square().mean() + blend(left, right, level).mean() for level in levels).backward()
    assert all(p.grad is not None and torch.isfinite(p.grad).all() for p in net.parameters())
    assert all(p.grad.abs().sum() > 0 for p in net.block0.convblock.parameters())


@torch.no_grad()
@pytest.mark.parametrize("scale", [0.5, 2.0, 4.0])
def test_user_scale(scale):
    net = tiny_net("five")
    modulus = net.config.modulus_at(scale)
    left, right = pair(size=(modulus, 2 * modulus))
    flow = net(left, right, torch.tensor(0.5), scale=scale)
    assert flow.flow.shape == (1, 4, modulus, 2 * modulus)
    assert not torch.allclose(flow.flow, net(left, right, torch.tensor(0.5), scale=1.0).flow, atol=1e-3)


@torch.no_grad()
@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.bfloat16, 0.3), (torch.float16, 0.05)])
def test_half_precision_convolutions_keep_float32_motion(dtype, tolerance):
    net, (left, right) = golden_net("4.25"), golden_frames()
    expected = net(left, right, torch.tensor(0.5))
    half = IFNet(net.config).to(dtype).eval()
    half.load_state_dict(net.state_dict())
    assert half.encode(left).dtype == dtype
    flow = half(left, right, torch.tensor(0.5))
    assert flow.flow.dtype == flow.mask.dtype == torch.float32
    assert (flow.flow - expected.flow).abs().mean() < tolerance


def test_blend_mixes_what_the_mask_says():
    left, right = torch.zeros(1, 3, 4, 4), torch.ones(1, 3, 4, 4)
    mask = torch.tensor([-20.0, 0.0, 20.0]).view(3, 1, 1, 1).expand(3, 1, 4, 4)
    mixed = blend(left, right, Flow(torch.zeros(3, 4, 4, 4), mask))
    assert mixed.shape == (3, 3, 4, 4)
    torch.testing.assert_close(mixed[:, 0, 0, 0], torch.tensor([1.0, 0.5, 0.0]))


def test_errors_say_what_to_do():
    net, (left, right) = tiny_net("five"), pair()
    with pytest.raises(InputError, match="a 96×64 frame; pad it to multiples of 64 for this RIFE network"):
        net(left[..., :96], right[..., :96], torch.tensor(0.5))
    with pytest.raises(InputError, match="RIFE needs two of one size"):
        net(left, right[..., :64], torch.tensor(0.5))
    with pytest.raises(InputError, match=r"at scale 0\.3; choose one of 0\.25, 0\.5, 1, 2, 4"):
        net(left, right, torch.tensor(0.5), scale=0.3)
    with pytest.raises(InputError, match="it works without ensemble only"):
        net(left, right, torch.tensor(0.5), ensemble=True)
    with pytest.raises(InputError, match="turn it off"):
        RIFEFlow(net, ensemble=True)


LEAN = {flavour: config for flavour, config in TINY.items() if applies(config, 1.0)}


def test_most_layouts_run_lean():
    assert len(LEAN) >= len(TINY) - 2
    assert not applies(RIFEConfig(), 2.0)  # the finest block would look at an enlarged picture
    assert applies(RIFEConfig(), 0.25)


def planes_of(net: IFNet, image: torch.Tensor) -> torch.Tensor:
    encoding = net.encode(image)
    return image if encoding is None else torch.cat((image, encoding.float()), 1)


@torch.no_grad()
@pytest.mark.parametrize("strip", [64 * 1024, 700], ids=["whole", "strips"])
@pytest.mark.parametrize("scale", [1.0, 0.5])
@pytest.mark.parametrize("flavour", LEAN)
def test_lean_equals_plain(flavour, scale, strip, monkeypatch):
    monkeypatch.setattr("comfy_fusionfft.ops.strips.STRIP_PIXELS", strip)
    net, (left, right) = tiny_net(flavour), pair(size=(256, 256))
    times = torch.tensor([0.125, 0.5, 0.75])
    frames = [seen(net, frame, scale) for frame in (left, right)]
    torch.testing.assert_close(frames[0].planes, planes_of(net, left), atol=1e-5, rtol=0)
    plain = net(left, right, times, scale=scale)
    assert plain.flow.abs().mean() > 0.1
    assert_same(lean_flow(net, *frames, times, scale), plain, atol=1e-3)


@torch.no_grad()
def test_lean_equals_plain_for_published_weights():
    """The picture of real networks: golden weights, motion of many pixels."""
    net, (left, right) = golden_net("4.25"), golden_frames()
    frames = (seen(net, left), seen(net, right))
    assert_same(lean_flow(net, *frames, torch.tensor([0.5])), net(left, right, torch.tensor(0.5)), atol=2e-3)


@torch.no_grad()
@pytest.mark.parametrize("flavour", LEAN)
def test_lean_off_the_cpu(flavour):
    """The branches for other devices, as far as one without numbers shows them."""
    net = tiny_net(flavour).to("meta", torch.bfloat16, memory_format=torch.channels_last)
    frames = [seen(net, torch.empty(1, 3, 256, 128, device="meta")) for _ in range(2)]
    flow, mask = lean_flow(net, *frames, torch.empty(3, device="meta"))
    assert flow.shape == (3, 4, 256, 128)
    assert mask.shape == (3, 1, 256, 128)
    assert {flow.device.type, mask.device.type} == {"meta"}
    assert flow.dtype == mask.dtype == torch.float32


@torch.no_grad()
def test_lean_follows_changed_weights():
    net, (left, right) = tiny_net("five"), pair()
    frames, time = (seen(net, left), seen(net, right)), torch.tensor([0.5])
    before = lean_flow(net, *frames, time)
    for layer in net.block4.convblock:
        layer.beta *= -1
    after = lean_flow(net, *frames, time)
    assert not torch.allclose(before.flow, after.flow, atol=1e-2)
    assert_same(after, net(left, right, time), atol=1e-3)


def test_coarse_blocks_keep_float32():
    net = IFNet(RIFEConfig())
    before = net.block0.conv0[0][0].weight.clone()
    net = net.to(torch.bfloat16, memory_format=torch.channels_last)
    kinds = [block.conv0[0][0].weight.dtype for block in net.blocks]
    assert kinds == [torch.float32] * 2 + [torch.bfloat16] * 3
    weight = net.block0.conv0[0][0].weight
    assert torch.equal(weight, before)  # not rounded on the way
    assert weight.is_contiguous(memory_format=torch.channels_last)
    assert net.encode.cnn0.weight.dtype == torch.bfloat16
    assert {p.dtype for p in net.half().parameters()} == {torch.float16}


@torch.no_grad()
@pytest.mark.parametrize("scale", [0.5, 2.0])
def test_flow_source(scale):
    source = RIFEFlow(tiny_net("five"), scale=scale)
    assert (source.modulus, source.padding) == (max(64, int(64 / scale)), "replicate")
    left, right = pair(size=(128, 128))
    times = torch.tensor([0.25, 0.5])
    features = source.features(left), source.features(right)
    flow = source.flow(left, right, *features, times)
    assert flow.flow.shape == (2, 4, 128, 128)
    assert not flow.flow.requires_grad
    assert_same(flow, source.net(left, right, times, scale=scale), atol=1e-3)
    assert_same(flow, source.flow(left, right, None, None, times), atol=0)
