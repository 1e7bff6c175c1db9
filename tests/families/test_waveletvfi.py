"""WaveletVFI: parity with recorded outputs of the authors' code, recognition, leaving out places, and the contract.

Golden weights are synthetic, drawn tensor by tensor in the order of the published key list, so a wrong name, shape or
order shows as a wrong picture.
"""

import ast
import re
from fractions import Fraction
from functools import cache
from itertools import pairwise

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from places import ROOT, shared_dir

from comfy_fusionfft import checkpoints
from comfy_fusionfft.contract import Frame, Miss
from comfy_fusionfft.engine import run
from comfy_fusionfft.errors import CheckpointError, InputError, TimelineError
from comfy_fusionfft.families.waveletvfi import FAMILY, WaveletVFIConfig
from comfy_fusionfft.families.waveletvfi.config import RATIOS, canonical, detect
from comfy_fusionfft.families.waveletvfi.model import Middle, Report
from comfy_fusionfft.families.waveletvfi.net import WaveletVFI, active
from comfy_fusionfft.families.waveletvfi.sparse import Sparsity
from comfy_fusionfft.host import PlainHost
from comfy_fusionfft.timeline import Multiply

GOLDEN = np.load(ROOT / "tests" / "golden" / "waveletvfi" / "golden.npz")
TOLERANCE = 2e-5
NEVER, ALWAYS = Sparsity("never"), Sparsity("always")
WAYS = {"by definition": None, "everywhere": NEVER, "gathered": ALWAYS, "chosen": Sparsity()}
TINY = WaveletVFIConfig(
    pyramid=(8, 8, 12, 16), decoders=(8, 12, 16, 16), context=(4, 6, 8, 10), features=(8, 12, 16, 30)
)


def keys() -> list[tuple[str, tuple[int, ...]]]:
    lines = (line.split(" ", 1) for line in GOLDEN["keys"].tobytes().decode().splitlines() if line)
    return [(name, ast.literal_eval(rest.rpartition(" ")[0])) for name, rest in lines]


@cache
def published_weights() -> dict[str, torch.Tensor]:
    state = {}
    for number, (name, shape) in enumerate(keys()):
        noise = np.random.RandomState(number).standard_normal(shape)
        if len(shape) > 1:
            noise *= (0.03 if re.fullmatch(r"conv\d_h\.weight", name) else 1.3) / np.sqrt(np.prod(shape[1:]))
        elif re.fullmatch(r"conv\d_h\.bias", name):
            noise *= 0.003
        else:
            noise *= 0.3 if name == "conv4_l.bias" else 0.05
        state[name] = torch.from_numpy(noise).float()
    return state


@cache
def golden_net() -> WaveletVFI:
    state = canonical(published_weights())
    net = WaveletVFI(detect(state, {})).eval()
    net.load_state_dict(state)
    return net


def golden_frames(height=96, width=128) -> tuple[torch.Tensor, torch.Tensor]:
    random = np.random.RandomState(12345)
    coarse = random.rand(1, 3, 8, 8)
    frames = (np.clip(coarse + 0.15 * i * (random.rand(1, 3, 8, 8) - 0.5), 0, 1) for i in range(2))
    return tuple(F.interpolate(torch.from_numpy(f).float(), (height, width), mode="bilinear") for f in frames)


@cache
@torch.no_grad()
def run_golden(way: str) -> dict[str, torch.Tensor]:
    net, results = golden_net(), {}
    for ratio in (*RATIOS, None):
        made, motion = net(*golden_frames(), ratio, sparsity=WAYS[way])
        results[f"out_{ratio}"] = made.picture.clamp(0, 1)
        results[f"mask_{ratio}"] = made.masks[0].float().mean()
        if ratio == RATIOS[-1]:
            results |= {f"th{ratio}_w{level}_h": made.details[level - 1] for level in (4, 3, 2, 1)}
            results |= {f"th{ratio}_w4_l": made.low, f"th{ratio}_cost": made.cost[:, None]}
    results |= {"flow_t0": motion.flow[:, :2], "flow_t1": motion.flow[:, 2:], "logits": motion.logits}
    results |= {"occ": motion.mask.sigmoid(), "merge": merged(motion)}
    return results


def merged(motion):
    from comfy_fusionfft.contract import Flow
    from comfy_fusionfft.ops.warp import blend

    return blend(*golden_frames(), Flow(motion.flow, motion.mask))


NAMES = [name for name in GOLDEN if name != "keys"]


def error(way: str, name: str, recorded: np.ndarray, stride: int) -> float:
    result = run_golden(way)[name].numpy()
    return float(np.abs((result[..., ::stride, ::stride] if result.size > 1000 else result) - recorded).max())


@pytest.mark.golden
@pytest.mark.parametrize("way", WAYS)
def test_golden(way):
    errors = {name: error(way, name, GOLDEN[name], 3) for name in NAMES}
    assert max(errors.values()) < TOLERANCE, errors
    assert len(errors) == 21


FULL_SET = shared_dir() and shared_dir() / "specs" / "golden" / "golden_WaveletVFI.npz"
if FULL_SET and FULL_SET.is_file():
    FULL = np.load(FULL_SET)

    @pytest.mark.golden
    @pytest.mark.parametrize("way", WAYS)
    def test_golden_at_full_density(way):
        assert set(NAMES) | {"in0", "in1"} == set(FULL)
        errors = {name: error(way, name, FULL[name], 1) for name in NAMES}
        assert max(errors.values()) < TOLERANCE, errors

    def test_golden_inputs_are_the_recorded_ones():
        for name, frame in zip(("in0", "in1"), golden_frames(), strict=True):
            np.testing.assert_allclose(frame.numpy(), FULL[name], atol=1e-6)


# -- recognition ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("spelling", ["", "module.", "_orig_mod.module."])
def test_names_are_recognised_in_every_spelling(spelling):
    state = canonical({spelling + name: torch.empty(shape, device="meta") for name, shape in keys()})
    with torch.device("meta"):
        wanted = WaveletVFI(detect(state, {})).state_dict()
    assert {name: t.shape for name, t in state.items()} == {name: t.shape for name, t in wanted.items()}


def test_the_published_file_is_converted(tmp_path):
    """As it is: names of a wrapper, and the wavelet's constants."""
    source = tmp_path / "waveletvfi_latest.pth"
    torch.save({f"module.{name}": tensor for name, tensor in published_weights().items()}, source)
    target = checkpoints.convert(source, tmp_path / "waveletvfi.safetensors")
    loaded = checkpoints.load(target)
    assert loaded.family is FAMILY
    assert loaded.config == WaveletVFIConfig()
    assert sum(p.numel() for p in loaded.module.parameters()) == 19_411_151
    assert len(loaded.module.state_dict()) == 112 - 8
    for name, tensor in golden_net().state_dict().items():
        assert torch.equal(loaded.module.state_dict()[name], tensor)


def test_saved_and_reloaded_with_the_same_config(tmp_path):
    net = WaveletVFI(TINY)
    path = checkpoints.save(net.state_dict(), tmp_path / "net.safetensors", family=FAMILY, config=TINY)
    loaded = checkpoints.load(path)
    assert (loaded.family, loaded.config) == (FAMILY, TINY)
    assert checkpoints.find(path, kind="interpolation") == path
    with pytest.raises(CheckpointError, match=r"is an interpolation network \(WaveletVFI\)"):
        checkpoints.find(path, kind="flow")


def test_what_is_missing_is_named():
    state = WaveletVFI(TINY).state_dict()
    assert detect({}, {}) == Miss("no tensor ifnet.pconv1.0.0.weight")
    without = {name: t for name, t in state.items() if not name.startswith("conv2.")}
    assert detect(without, {}) == Miss("no tensor conv2.0.weight")
    assert "conv3 takes 41 planes" in detect(state | {"conv3.0.weight": torch.zeros(16, 41, 3, 3)}, {}).why
    choice = "ifnet.decoder4.classifier.5.weight"
    assert "among 7 thresholds, 4 are known" in detect(state | {choice: torch.zeros(7, 16)}, {}).why
    assert canonical(canonical(state)) == canonical(state)


# -- leaving out places ---------------------------------------------------------------------------------


def tiny_net(details=30.0) -> WaveletVFI:
    """Details strong enough that thresholds leave some out, but not all."""
    torch.manual_seed(7)
    net = WaveletVFI(TINY).eval()
    with torch.no_grad():
        for level in (1, 2, 3, 4):
            net.get_submodule(f"conv{level}_h").weight.mul_(details)
    return net


def pair(batch=1, size=(64, 96)) -> tuple[torch.Tensor, torch.Tensor]:
    torch.manual_seed(2)
    small = torch.rand(2, batch, 3, size[0] // 8, size[1] // 8)
    return tuple(F.interpolate(each, size, mode="bicubic").clamp(0, 1) for each in small)


def shares(made) -> list[float]:
    return [float(mask.float().mean()) for mask in made.masks]


@torch.no_grad()
@pytest.mark.parametrize("strip", [1 << 22, 1024], ids=["whole", "strips"])
@pytest.mark.parametrize("ratio", [0.0, 0.4, 0.7, 0.99])
def test_the_same_numbers_either_way(ratio, strip, monkeypatch):
    monkeypatch.setattr("comfy_fusionfft.families.waveletvfi.sparse.STRIP_NUMBERS", strip)
    monkeypatch.setattr("comfy_fusionfft.families.waveletvfi.sparse.GATHERED", 100)
    net = tiny_net()
    plain = net(*pair(), ratio)[0]
    if ratio == 0.4:
        assert all(0.05 < share < 0.95 for share in shares(plain)), shares(plain)
    for sparsity in (NEVER, ALWAYS):
        made = net(*pair(), ratio, sparsity=sparsity)[0]
        torch.testing.assert_close(made.picture, plain.picture, atol=2e-5, rtol=0)
        assert all(torch.equal(mask, other) for mask, other in zip(made.masks, plain.masks, strict=True))
        for details, others in zip(made.details, plain.details, strict=True):
            torch.testing.assert_close(details, others, atol=2e-5, rtol=0)
        torch.testing.assert_close(made.cost, plain.cost)


@torch.no_grad()
def test_the_way_is_chosen_at_each_level(monkeypatch):
    ways, real = [], Sparsity.gathers

    def gathers(self, wide, dtype):
        ways.append((float(wide.mean()), real(self, wide, dtype)))
        return ways[-1][1]

    monkeypatch.setattr(Sparsity, "gathers", gathers)
    net = tiny_net()
    for ratio in (0.0, 0.4, 0.6, 0.8):
        net(*pair(), ratio, sparsity=Sparsity())
    assert len(ways) == 12
    assert {gathered for _, gathered in ways} == {True, False}
    assert max(share for share, gathered in ways if gathered) < min(share for share, gathered in ways if not gathered)


@torch.no_grad()
def test_masks_leave_out_small_details():
    net = tiny_net()
    counted = [shares(net(*pair(), ratio, sparsity=Sparsity())[0]) for ratio in (0.0, 0.3, 0.6, 0.9)]
    assert counted[0] == [1, 1, 1]
    assert all(a >= b for more, less in pairwise(counted) for a, b in zip(more, less, strict=True))
    low, details = torch.rand(1, 3, 8, 8), torch.zeros(1, 3, 3, 4, 4)
    low[0, 0, 0, :2] = torch.tensor([0.0, 1.0])
    details[0, 0, 2, 1, 3] = -0.5
    assert active(low, details, torch.tensor([0.4])).nonzero()[:, 2:].tolist() == [[2, 6], [2, 7], [3, 6], [3, 7]]
    assert not active(low, details, torch.tensor([0.5])).any()  # must exceed the threshold, not reach it


@torch.no_grad()
@pytest.mark.parametrize("sparsity", [None, Sparsity()])
def test_samples_do_not_influence_each_other(sparsity):
    net = tiny_net()
    lefts, rights = pair(3)
    lefts[1], rights[1] = 0.5, 0.5
    lefts[2] *= 0.1
    net.ifnet.decoder4.classifier[5].bias.copy_(torch.tensor([0.0, 0.1, 0.2, 0.3]))
    together, motion = net(lefts, rights, sparsity=sparsity)
    for i in range(3):
        alone, own = net(lefts[i : i + 1], rights[i : i + 1], sparsity=sparsity)
        torch.testing.assert_close(together.picture[i : i + 1], alone.picture, atol=1e-5, rtol=0)
        torch.testing.assert_close(motion.flow[i : i + 1], own.flow, atol=1e-5, rtol=0)
        torch.testing.assert_close(together.cost[i : i + 1], alone.cost)


@torch.no_grad()
def test_kernels_follow_changed_weights():
    net = tiny_net()
    before = net(*pair(), 0.0, sparsity=NEVER)[0].picture
    net.conv1[0].weight.mul_(-3)
    after = net(*pair(), 0.0, sparsity=NEVER)[0].picture
    assert not torch.allclose(before, after, atol=1e-3)
    torch.testing.assert_close(after, net(*pair(), 0.0)[0].picture, atol=2e-5, rtol=0)


@torch.no_grad()
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_half_precision_keeps_exact_what_all_builds_on(dtype):
    exact = golden_net()(*golden_frames(), 0.0, sparsity=NEVER)
    net = WaveletVFI().eval()
    net.load_state_dict(golden_net().state_dict())
    net = net.to(dtype=dtype, memory_format=torch.channels_last)
    low = torch.float32 if dtype == torch.bfloat16 else dtype
    assert {net.conv4_l.weight.dtype, net.ifnet.decoder3.conv6.weight.dtype, net.conv4[0].weight.dtype} == {low}
    assert net.conv1[0].weight.dtype == net.ifnet.decoder2.conv6.weight.dtype == dtype
    made, motion = net(*golden_frames(), 0.0, sparsity=NEVER)
    assert made.picture.dtype == motion.flow.dtype == torch.float32
    assert (made.picture - exact[0].picture).abs().mean() < 2e-3
    assert (motion.flow - exact[1].flow).abs().mean() < 0.05


@torch.no_grad()
def test_off_the_cpu():
    """Another device's branches, as far as one without numbers shows them."""
    net = WaveletVFI(TINY).to("meta", torch.bfloat16, memory_format=torch.channels_last)
    made, motion = net(*(torch.empty(1, 3, 64, 96, device="meta") for _ in range(2)), 0.01, sparsity=Sparsity())
    assert made.picture.shape == (1, 3, 64, 96)
    assert {made.picture.device.type, motion.flow.device.type} == {"meta"}


def test_errors_say_what_to_do():
    net = WaveletVFI(TINY)
    with pytest.raises(InputError, match="a 96×40 frame; pad it to multiples of 16 for WaveletVFI"):
        net(torch.zeros(1, 3, 40, 96), torch.zeros(1, 3, 40, 96))
    with pytest.raises(InputError, match="it needs two of one size"):
        net(torch.zeros(1, 3, 32, 96), torch.zeros(1, 3, 48, 96))
    for wrong in (-0.1, 1, "much", None):
        with pytest.raises(InputError, match=r"is not auto nor a share .*: use auto, 0, 0\.005, 0\.01, 0\.015"):
            Middle(net, threshold=wrong)


def test_training_reaches_every_weight():
    net = tiny_net().train()
    made, motion = net(*pair(), 0.0, sparsity=ALWAYS)
    (made.picture.square().mean() + motion.logits.square().mean()).backward()
    assert all(p.grad is not None and torch.isfinite(p.grad).all() and p.grad.any() for p in net.parameters())


# -- as a model -----------------------------------------------------------------------------------------


def clip(channels=3, size=(50, 77), count=3) -> list[Frame]:
    random = np.random.RandomState(1)
    low = torch.from_numpy(random.rand(count, channels, 6, 8)).float()
    pictures = F.interpolate(low, size, mode="bilinear").permute(0, 2, 3, 1).contiguous()
    return [Frame(picture, Fraction(i, 25)) for i, picture in enumerate(pictures)]


@pytest.mark.parametrize(("multi", "calls"), [(2, 2), (4, 6), (8, 14)])
def test_the_engine_halves(multi, calls):
    reports = []
    model = FAMILY.model(tiny_net(), threshold=0.3, watch=reports.append)
    made = list(run(clip(), model, Multiply(multi), PlainHost("cpu", "float32")))
    assert len(made) == 2 * multi + 1
    assert len(reports) == calls
    assert {report.position for report in reports} == {Fraction(i, multi) for i in range(2 * multi) if i % multi}
    assert all(frame.pixels.shape == (50, 77, 3) and torch.isfinite(frame.pixels).all() for frame in made)
    assert sum(frame.original for frame in made) == 3


def test_instants_that_halving_does_not_reach():
    with pytest.raises(TimelineError, match="this model makes only middles: use a multiplier of 2, 4, 8"):
        list(run(clip(), Middle(tiny_net()), Multiply(3), PlainHost("cpu", "float32")))


def one(model: Middle, frames: list[Frame]) -> torch.Tensor:
    return list(run(frames, model, Multiply(2), PlainHost("cpu", "float32")))[1].pixels


def test_a_report_shows_where_details_were_computed():
    reports: list[Report] = []
    one(Middle(tiny_net(), threshold=0.4, watch=reports.append), clip())
    report = reports[0]
    assert [tuple(mask.shape) for mask in report.masks] == [(25, 39), (13, 20), (7, 10)]
    assert float(report.ratio) == pytest.approx(0.4)
    assert 0 < float(report.cost) < 1
    for level in (1, 2, 3):
        picture = report.picture(level, 50, 77)
        assert picture.shape == (50, 77)
        assert torch.equal(picture[:: 2**level, :: 2**level], report.masks[level - 1].float())


def test_auto_reports_the_networks_choice():
    net, reports = tiny_net(), []
    with torch.no_grad():
        net.ifnet.decoder4.classifier[5].bias.copy_(torch.tensor([0.0, 0.0, 9.0, 0.0]))
    chosen = one(Middle(net, watch=reports.append), clip())
    assert float(reports[0].ratio) == pytest.approx(RATIOS[2])
    assert torch.equal(chosen, one(Middle(net, threshold=RATIOS[2]), clip()))


def test_alpha_goes_the_way_of_the_motion():
    frames = clip(channels=4)
    made = one(Middle(tiny_net(), threshold=0.0), frames)
    assert made.shape == (50, 77, 4)
    alphas = torch.stack([frame.pixels[..., 3] for frame in frames[:2]])
    assert alphas.amin() - 1e-5 <= made[..., 3].amin() and made[..., 3].amax() <= alphas.amax() + 1e-5
    assert made[..., :3].amax() <= 1 + 1e-5
    opaque = [Frame(torch.cat((f.pixels, torch.ones(50, 77, 1)), 2), f.seconds) for f in clip()]
    with_alpha = one(Middle(tiny_net(), threshold=0.0), opaque)
    torch.testing.assert_close(with_alpha[..., 3], torch.ones(50, 77), atol=1e-6, rtol=0)
    torch.testing.assert_close(with_alpha[..., :3], one(Middle(tiny_net(), threshold=0.0), clip()), atol=1e-5, rtol=0)


def test_highlights_stay_within_those_of_the_frames():
    bright = [Frame(f.pixels * 4, f.seconds) for f in clip()]
    made = one(Middle(tiny_net(), threshold=0.0), bright)
    assert 1 < made.max() <= max(f.pixels.max() for f in bright)
    assert one(Middle(tiny_net(), threshold=0.0), clip()).max() <= 1


def test_explained_pictures_are_the_same():
    plain = one(Middle(tiny_net(), threshold=0.0), clip())
    told = list(run(clip(), Middle(tiny_net(), threshold=0.0, explain=True), Multiply(2), PlainHost("cpu", "float32")))
    assert torch.equal(told[1].pixels, plain)
    assert 0 < told[1].confidence < 70
