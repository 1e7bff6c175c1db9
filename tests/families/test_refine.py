"""The refining network: starts at the flow it is given, looks past it, and is a flow source like any other."""

import pytest
import torch

from comfy_fusionfft import api, checkpoints
from comfy_fusionfft.contract import Flow, Frame, Miss
from comfy_fusionfft.errors import CheckpointError, InputError
from comfy_fusionfft.families.dis import DISFlow
from comfy_fusionfft.families.refine import FAMILY, RefineConfig
from comfy_fusionfft.families.refine.config import canonical, detect
from comfy_fusionfft.families.refine.flow import RefinedFlow
from comfy_fusionfft.families.refine.net import RefineNet, compare
from comfy_fusionfft.host import PlainHost

SMALL = RefineConfig(features=8, state=8, width=16, radius=2, fine=8)
CPU = PlainHost("cpu", "float32")


def awake(config=SMALL):
    """A network whose corrections are not zero."""
    torch.manual_seed(0)
    net = RefineNet(config).eval()
    for layer in (net.estimator.correct, net.fine.correct):
        torch.nn.init.normal_(layer.weight, std=0.5)
    return net


def given(batch=1, height=32, width=48):
    generator = torch.Generator().manual_seed(1)
    pictures = [torch.rand(batch, 3, height, width, generator=generator) for _ in range(2)]
    flow = 4 * torch.randn(batch, 4, height, width, generator=generator)
    mask = torch.randn(batch, 1, height, width, generator=generator)
    return *pictures, Flow(flow, mask), torch.linspace(0.2, 0.8, batch)


def test_untrained_it_returns_what_it_was_given():
    left, right, flow, time = given(2)
    out = RefineNet(SMALL)(left, right, flow, time)
    assert torch.equal(out.flow, flow.flow) and torch.equal(out.mask, flow.mask)
    assert out.flow.dtype == torch.float32


def test_one_pair_serves_many_instants_and_features_may_be_given():
    net, (left, right, flow, time) = awake(), given(3)
    left, right = left[:1], right[:1]
    with torch.no_grad():
        together = net(left, right, flow, time, net.features(left), net.features(right))
        for i in range(3):
            alone = net(left, right, Flow(flow.flow[i : i + 1], flow.mask[i : i + 1]), time[i : i + 1])
            assert torch.allclose(alone.flow[0], together.flow[i], atol=1e-4)
            assert torch.allclose(alone.mask[0], together.mask[i], atol=1e-5)
    assert (together.flow - flow.flow).abs().mean() > 0.01


def test_everything_learns():
    net, (left, right, flow, time) = awake(), given(2)
    out = net(left, right, flow, time)
    (out.flow.square().mean() + out.mask.square().mean()).backward()
    assert all(p.grad is not None and p.grad.abs().sum() > 0 for p in net.parameters())


def test_weights_in_half_precision_leave_flow_in_float():
    net, (left, right, flow, time) = awake(), given()
    with torch.no_grad():
        whole = net(left, right, flow, time)
        half = net.bfloat16()(left, right, flow, time)
    assert half.flow.dtype == torch.float32
    assert (half.flow - whole.flow).abs().max() < 0.1 * (whole.flow - flow.flow).abs().max()


def test_likeness_is_a_cosine_of_the_shifted_place():
    first, second = torch.randn(1, 5, 9, 11), torch.randn(1, 5, 9, 11)
    scores = compare(first, second, 2)
    assert scores.shape == (1, 25, 9, 11)
    for dy, dx in ((0, 0), (-2, 1), (2, 2)):
        there = second[0, :, 4 + dy, 5 + dx]
        want = torch.nn.functional.cosine_similarity(first[0, :, 4, 5], there, 0)
        assert torch.allclose(scores[0, (dy + 2) * 5 + dx + 2, 4, 5], want, atol=1e-5)


@pytest.mark.parametrize("config", [SMALL, RefineConfig(), RefineConfig(radius=4, levels=(8, 4, 2, 1))])
def test_its_size_is_read_off_a_file(config, tmp_path):
    state = {f"module.{k}": v for k, v in RefineNet(config).state_dict().items()}
    assert detect(canonical(state), FAMILY.describe(config)) == config
    path = checkpoints.save(canonical(state), tmp_path / "a.safetensors", family=FAMILY, config=config)
    loaded = checkpoints.load(path)
    assert loaded.family is FAMILY and loaded.config == config and loaded.module.family is FAMILY


def test_what_is_missing_is_named():
    state = RefineNet(SMALL).state_dict()
    assert detect({k: v for k, v in state.items() if k != "fine.enter.weight"}, {}) == Miss(
        "no tensor fine.enter.weight"
    )
    state["estimator.enter.weight"] = state["estimator.enter.weight"][:, :-1]
    assert "does not explain" in detect(state, {}).why or "do not explain" in detect(state, {}).why


def test_an_incomplete_file_is_refused(tmp_path):
    state = RefineNet(SMALL).state_dict()
    del state["encoder.second.bias"]
    path = checkpoints.save(state, tmp_path / "a.safetensors", family=FAMILY, config=SMALL)
    with pytest.raises(CheckpointError, match=r"1 missing \(encoder.second.bias\)"):
        checkpoints.load(path)


def clip(count=3, height=64, width=96):
    y, x = torch.meshgrid(torch.arange(height).float(), torch.arange(width).float(), indexing="ij")
    for i in range(count):
        planes = [0.5 + 0.2 * torch.sin((x - 3 * i) / 5 + c) + 0.2 * torch.cos(y / 4) for c in range(3)]
        yield Frame(torch.stack(planes, -1), i)


@pytest.mark.parametrize("scale", [0.5, 1.0, 2.0])
def test_as_a_source_it_is_its_seed_until_it_has_learnt(scale):
    seed = DISFlow(scale=scale)
    plain = list(api.interpolate(clip(), method="rife", flow=seed, multi=3, host=CPU))
    source = RefinedFlow(RefineNet(SMALL), seed, scale=scale)
    same = list(api.interpolate(clip(), method="rife", flow=source, multi=3, host=CPU))
    for one, other in zip(plain, same, strict=True):
        assert torch.allclose(one.pixels, other.pixels, atol=2e-4)


def test_files_are_loaded_by_name_and_seeded(tmp_path):
    net = awake()
    path = checkpoints.save(net.state_dict(), tmp_path / "mine.safetensors", family=FAMILY, config=SMALL)
    source = api.load_flow(path, host=CPU, scale=0.5)
    assert isinstance(source, RefinedFlow) and isinstance(source.seed, DISFlow)
    assert source.scale == source.seed.scale == 0.5 and source.modulus == 32
    again = api.load_flow(CPU.place(checkpoints.load(path).module), host=CPU)
    made = [list(api.interpolate(clip(), method="rife", flow=each, host=CPU)) for each in (again, path)]
    for one, other in zip(*made, strict=True):
        assert torch.equal(one.pixels, other.pixels)
    with pytest.raises(InputError, match="turn ensemble off"):
        api.load_flow(path, host=CPU, ensemble=True)
