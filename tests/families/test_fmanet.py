"""FMA-Net: parity with recorded outputs of the authors' code, recognition, work in patches, filters, and the contract.

Golden weights are synthetic, drawn tensor by tensor in the order of the published key list, so a wrong name, shape or
order shows as a wrong picture.
"""

import ast
from collections import Counter
from fractions import Fraction
from functools import cache
from types import SimpleNamespace

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from places import ROOT, shared_dir

from comfy_fusionfft import checkpoints, downloads
from comfy_fusionfft.cli import main
from comfy_fusionfft.contract import Frame, Miss
from comfy_fusionfft.engine.restore import restore
from comfy_fusionfft.errors import Cancelled, CheckpointError, DownloadError, InputError
from comfy_fusionfft.families.fmanet import FAMILY, FMANetConfig
from comfy_fusionfft.families.fmanet.config import DEGRADATION, RESTORATION, TRAINING_HEADS, canonical, detect
from comfy_fusionfft.families.fmanet.filtering import enlarge, filtered, shrink, summing_to_one
from comfy_fusionfft.families.fmanet.lean import LeanFMANet
from comfy_fusionfft.families.fmanet.model import Restore
from comfy_fusionfft.families.fmanet.net import FMANet
from comfy_fusionfft.families.fmanet.patches import Patch, patches
from comfy_fusionfft.families.fmanet.warping import warp_frames, warp_groups
from comfy_fusionfft.host import PlainHost

GOLDEN = np.load(ROOT / "tests" / "golden" / "fmanet" / "golden.npz")
TOLERANCE = 1e-4
TINY = FMANetConfig(
    channels=12, pairs=3, blocks=2, attention=1, heads=2, dense_blocks=2, dense_layers=2, growth=4, hidden=10,
    degradation_kernel=8, restoration_kernel=3,
)  # fmt: skip


def keys() -> list[tuple[str, tuple[int, ...]]]:
    lines = (line.split(" ", 1) for line in GOLDEN["keys"].tobytes().decode().splitlines() if line)
    return [(name, ast.literal_eval(shape)) for name, shape in lines]


@cache
def published_weights() -> dict[str, torch.Tensor]:
    state = {}
    for number, (name, shape) in enumerate(keys()):
        noise = np.random.RandomState(number).standard_normal(shape)
        if name.endswith(("temperature", "body.weight")):
            noise = 1 + 0.1 * noise
        elif len(shape) > 1:
            noise *= (1.25 if "conv_f." in name or "f_conv" in name else 0.6) / np.sqrt(np.prod(shape[1:]))
        else:
            noise *= 0.05
        state[name] = torch.from_numpy(noise).float()
    return state


@cache
def golden_net(dtype=torch.float32) -> FMANet:
    net = FMANet(detect(published_weights(), {})).eval().requires_grad_(False)
    net.load_state_dict(published_weights())
    return net.to(dtype)


def golden_frames(height=32, width=40, seed=12345) -> torch.Tensor:
    random = np.random.RandomState(seed)
    coarse = random.rand(1, 3, 8, 8)
    frames = (np.clip(coarse + 0.15 * i * (random.rand(1, 3, 8, 8) - 0.5), 0, 1) for i in range(3))
    made = [F.interpolate(torch.from_numpy(each).float(), (height, width), mode="bilinear") for each in frames]
    return torch.stack(made, 2)


@cache
@torch.no_grad()
def run_golden() -> dict[str, torch.Tensor]:
    net, x, y = golden_net(), golden_frames(), golden_frames(128, 160, seed=777)
    blur = net.degradation(x, y)
    made = net.restoration(x, blur)
    return {
        "D_F_mean": blur.features.mean((3, 4)),
        "D_KD": blur.kernels[:, ::37],
        "D_fY": blur.image_flow,
        "D_f": blur.flow,
        "out_recon": blur.recon,
        "out_hr_warp": blur.sharp_warped,
        "out_image_flow": blur.image_flow[:, :2],
        "out_F_sharp_D": blur.anchor,
        "out_output": made.picture,
        "out_lr_warp": made.warped,
        "out_F_sharp_R": made.anchor,
    }


NAMES = [name for name in GOLDEN if name != "keys"]


def error(name: str, recorded: np.ndarray, stride: int) -> float:
    result = run_golden()[name].numpy()
    return float(np.abs((result[..., ::stride, ::stride] if result.size > 1000 else result) - recorded).max())


@pytest.mark.golden
def test_golden():
    errors = {name: error(name, GOLDEN[name], 3) for name in NAMES}
    assert max(errors.values()) < TOLERANCE, errors
    assert len(errors) == 11


FULL_SET = shared_dir() and shared_dir() / "specs" / "golden" / "golden_FMANet.npz"
if FULL_SET and FULL_SET.is_file():
    FULL = np.load(FULL_SET)

    @pytest.mark.golden
    def test_golden_at_full_density():
        assert set(NAMES) | {"x", "y"} == set(FULL)
        errors = {name: error(name, FULL[name], 1) for name in NAMES}
        assert max(errors.values()) < TOLERANCE, errors

    def test_golden_inputs_are_the_recorded_ones():
        np.testing.assert_allclose(golden_frames().numpy(), FULL["x"], rtol=0, atol=1e-6)
        np.testing.assert_allclose(golden_frames(128, 160, seed=777).numpy(), FULL["y"], rtol=0, atol=1e-6)


# -- recognition ----------------------------------------------------------------------------------------


def published_files(folder, state, prefix=""):
    """As training leaves them: each half beside its optimiser's and its schedule's state."""
    files = []
    for letter, half in (("D", DEGRADATION), ("R", RESTORATION)):
        weights = {prefix + name.removeprefix(half): t for name, t in state.items() if name.startswith(half)}
        moments = {0: {"step": torch.tensor(7.0), "exp_avg": torch.ones(3)}}
        content = {
            "epoch": 400,
            f"model_{letter}_state_dict": weights,
            f"optimizer_{letter}_state_dict": {"state": moments, "param_groups": [{"lr": 2e-4, "params": [0]}]},
            f"scheduler_{letter}_state_dict": {"milestones": Counter({260: 1, 360: 1}), "gamma": 0.5},
        }
        files.append(folder / f"model_{letter}_best.pt")
        torch.save(content, files[-1])
    return files


def test_the_published_pair_becomes_one_file(tmp_path, capsys):
    sources, target = published_files(tmp_path, published_weights()), tmp_path / "fmanet.safetensors"
    assert main(["convert", *map(str, sources), str(target)]) == 0
    assert "FMA-Net, FMANetConfig(channels=90, frames=3, pairs=9" in capsys.readouterr().err
    loaded = checkpoints.load(target)
    assert (loaded.family, loaded.config) == (FAMILY, FMANetConfig())
    assert sum(p.numel() for p in loaded.module.parameters()) == 9_766_503
    state = loaded.module.state_dict()
    assert len(state) == 585 and all(torch.equal(state[name], t) for name, t in published_weights().items())
    assert loaded.metadata["fusionfft.source"] == "model_D_best.pt model_R_best.pt"
    assert loaded.metadata["fusionfft.source_sha256"].split() == [checkpoints.file_sha256(path) for path in sources]
    assert checkpoints.find(target, kind="restore") == target
    with pytest.raises(CheckpointError, match=r"is a restore network \(FMA-Net\)"):
        checkpoints.find(target, kind="flow")


def test_where_the_published_pair_is_and_what_it_may_be_used_for(tmp_path):
    with pytest.raises(DownloadError, match="fmanet cannot be downloaded by a program") as told:
        downloads.get("fmanet", tmp_path)
    assert "open https://github.com/KAIST-VICLab/FMA-Net" in str(told.value)
    assert f"`fusionfft convert model_D_best.pt model_R_best.pt {tmp_path}/fmanet.safetensors`" in str(told.value)
    assert "LICENSE is MIT, but its README allows code and checkpoint for research and education only" in str(
        told.value
    )


@pytest.fixture
def state() -> dict[str, torch.Tensor]:
    return FMANet(TINY).state_dict()


def test_one_of_the_two_files_names_the_other(state, tmp_path):
    first, second = published_files(tmp_path, state)
    together = "`fusionfft convert model_D_best.pt model_R_best.pt fmanet.safetensors`"
    for alone, half, lacking in ((first, "degradation", second), (second, "restoration", first)):
        with pytest.raises(CheckpointError) as told:
            checkpoints.convert(alone, tmp_path / "x.safetensors")
        wanted = f"{alone} is the {half} half of an FMA-Net alone; give the other one, {lacking.name}, as well: "
        assert str(told.value) == wanted + together
    with pytest.raises(CheckpointError, match=r"has a tensor model_D_state_dict\..*, as another of the files has"):
        checkpoints.convert([first, first], tmp_path / "x.safetensors")
    assert not (tmp_path / "x.safetensors").exists()


@pytest.mark.parametrize("prefix", ["", "module."])
def test_files_in_any_order(prefix, state, tmp_path):
    target = checkpoints.convert(published_files(tmp_path, state, prefix)[::-1], tmp_path / "net.safetensors")
    loaded = checkpoints.load(target)
    assert loaded.config == TINY
    assert all(torch.equal(loaded.module.state_dict()[name], t) for name, t in state.items())


def test_what_only_training_needs_may_be_missing(state, tmp_path):
    bare = {name: tensor for name, tensor in state.items() if not name.startswith(TRAINING_HEADS)}
    assert len(state) - len(bare) == 6
    config = detect(bare, {})
    assert config == FMANetConfig(**{**vars(TINY), "training_heads": False})
    path = checkpoints.save(bare, tmp_path / "net.safetensors", family=FAMILY, config=config)
    net = checkpoints.load(path).module
    x = torch.rand(1, 3, 3, 6, 7)
    assert net.degradation(x).anchor is None
    with pytest.raises(InputError, match="this FMA-Net has no training heads: start from weights"):
        net.degradation(x, torch.rand(1, 3, 3, 24, 28))
    whole = FMANet(TINY)
    whole.load_state_dict(state)
    net.load_state_dict(bare)
    assert torch.equal(net(x), whole(x))
    del state[f"{RESTORATION}a_conv.2.weight"]
    checkpoints.save(state, tmp_path / "torn.safetensors", family=FAMILY, config=TINY)
    with pytest.raises(CheckpointError, match=r"no complete FMA-Net network: 1 missing \(restoration_network.a_conv.2"):
        checkpoints.load(tmp_path / "torn.safetensors")


def test_what_is_missing_is_named(state):
    assert detect({}, {}) == Miss("no tensor degradation_learning_network.feature_extractor.0.weight")
    without = {name: t for name, t in state.items() if "r_conv" not in name}
    assert detect(without, {}) == Miss("no tensor restoration_network.r_conv.2.weight")
    odd = state | {f"{DEGRADATION}d_conv.2.weight": torch.zeros(60, 12, 1, 3, 3)}
    assert "makes 60 planes, which is no square kernel" in detect(odd, {}).why
    odd = state | {f"{RESTORATION}upsample.conv2.weight": torch.zeros(108, 12, 3, 3)}
    assert "makes 108 planes; doubling 12 takes 48" in detect(odd, {}).why
    assert canonical(canonical(state)) == canonical(state)


def test_errors_say_what_to_do():
    net = FMANet(TINY)
    with pytest.raises(InputError, match=r"frames of \(1, 3, 5, 8, 8\); this FMA-Net needs \(B, 3, 3, H, W\)"):
        net(torch.zeros(1, 3, 5, 8, 8))
    with pytest.raises(InputError, match=r"sharp frames of .* for blurred ones of .*: need 4 times"):
        net.degradation(torch.zeros(1, 3, 3, 8, 8), torch.zeros(1, 3, 3, 16, 16))
    with pytest.raises(InputError, match="ends 'none' are not known: use replicate or reflect"):
        Restore(net, ends="none")


# -- moving and filtering -------------------------------------------------------------------------------


def test_every_group_of_channels_moves_by_its_own_flow():
    features, flow = torch.rand(1, 2, 6, 5, 7), torch.zeros(1, 2, 9, 5, 7)
    flow[:, :, 2::3] = 50.0  # masks: all of it
    flow[:, 1, 3] = 2.0  # second frame, second group: two pixels to the right
    flow[:, 1, 8] = -50.0  # third group: nothing
    made = warp_groups(features, flow)
    torch.testing.assert_close(made[:, 0], features[:, 0])
    torch.testing.assert_close(made[0, 1, :2], features[0, 1, :2])
    torch.testing.assert_close(made[0, 1, 2:4, :, :5], features[0, 1, 2:4, :, 2:])
    assert not made[0, 1, 2:4, :, 5:].any() and not made[0, 1, 4:].abs().max() > 1e-12
    part = warp_groups(features, flow[..., 1:4, 2:6], (1, 2))
    torch.testing.assert_close(part, made[..., 1:4, 2:6])


def test_a_flow_moves_larger_frames_as_far():
    frames, flow = torch.rand(1, 1, 3, 24, 32), torch.zeros(1, 1, 3, 6, 8)
    flow[:, :, 0], flow[:, :, 2] = 0.5, 50.0
    made, seen = warp_frames(frames, flow, 4)
    torch.testing.assert_close(made[..., :30], frames[..., 2:], atol=1e-5, rtol=0)
    assert seen.shape == (1, 1, 1, 24, 32) and not seen[..., 31].any()


def test_filters_are_products_of_kernels_and_surroundings():
    frames, kernels = torch.rand(2, 3, 3, 6, 5), torch.randn(2, 3, 4 * 9, 6, 5)
    taps = summing_to_one(kernels, 2)
    torch.testing.assert_close(taps.sum((1, 3)), torch.ones(2, 4, 6, 5))
    padded = F.pad(frames.flatten(0, 1), (1, 1, 1, 1), mode="replicate")
    around = F.unfold(padded, 3).view(2, 3, 3, 9, 6, 5)  # B T C taps h w
    wanted = F.pixel_shuffle(torch.einsum("btckhw,btskhw->bcshw", around, taps).flatten(1, 2), 2)
    torch.testing.assert_close(enlarge(frames, kernels, 2), wanted)


def test_shrinking_is_a_weighted_mean():
    sharp, kernels = torch.full((1, 3, 3, 24, 20), 0.7), torch.randn(1, 3, 64, 6, 5)
    weights = torch.rand(1, 3, 1, 24, 20)
    torch.testing.assert_close(shrink(sharp * weights, weights, kernels, 4), torch.full((1, 3, 6, 5), 0.7))
    kernels[:] = -100.0
    kernels[:, 1, 2 * 8 + 3] = 100.0  # one tap of the middle frame: with a border of 2, row 0 and column 1 of each 4×4
    sharp = torch.rand(1, 3, 3, 24, 20)
    made = shrink(sharp, torch.ones(1, 3, 1, 24, 20), kernels, 4)
    torch.testing.assert_close(made, sharp[:, 1, :, ::4, 1::4], atol=1e-5, rtol=0)


@pytest.mark.parametrize("stride", [1, 2])
def test_filters_have_the_right_gradients(stride):
    frames = torch.rand(1, 2, 2, stride * 2 + 3, stride * 3 + 3, dtype=torch.float64, requires_grad=True)
    kernels = torch.rand(1, 2, 2, 9, 3, 4, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(lambda f, k: filtered(f, k, 3, stride), (frames, kernels))


def test_a_network_is_placed():
    net, x = FMANet(TINY), torch.rand(1, 3, 3, 6, 7)
    wanted = net(x)
    placed = PlainHost("cpu", "float32").place(net)
    assert placed.restoration_network.d_conv[0].weight.shape == (12, 64, 3, 3, 3)
    torch.testing.assert_close(placed(x), wanted)
    assert placed.to(dtype=torch.bfloat16, memory_format=torch.channels_last)(x).dtype == torch.float32


def test_training_reaches_every_weight():
    net, x, y = FMANet(TINY).train(), torch.rand(2, 3, 3, 9, 8), torch.rand(2, 3, 3, 36, 32)
    blur = net.degradation(x, y)
    made = net.restoration(x, blur)
    sum(each.square().mean() for each in (*blur, *made)).backward()
    assert all(p.grad is not None and torch.isfinite(p.grad).all() and p.grad.any() for p in net.parameters())


# -- in patches -----------------------------------------------------------------------------------------


def lean_picture(net: FMANet, x: torch.Tensor, patch: int | None = None) -> torch.Tensor:
    lean = LeanFMANet(net, patch=patch)
    frames = [x[:, :, t] for t in range(x.shape[2])]
    return lean.picture(frames, [lean.features(frame) for frame in frames])


def tiny_net(seed=3) -> FMANet:
    torch.manual_seed(seed)
    net = FMANet(TINY).eval().requires_grad_(False)
    for block in (*net.degradation_learning_network.FRMA_blocks, *net.restoration_network.FRMA_blocks):
        block.conv_f[2].weight.mul_(20)  # motion of some pixels, part of it out of the picture
    return net


@pytest.mark.parametrize("size", [(1, 1), (1, 6), (5, 1), (2, 3), (17, 23), (24, 40)], ids=str)
@pytest.mark.parametrize("patch", [3, 8, 11, 64])
def test_the_same_numbers_in_patches(size, patch):
    net, x = tiny_net(), golden_frames(*size)
    with torch.no_grad():
        wanted, flow = net(x), net.degradation(x).flow
    assert size != (24, 40) or flow.abs().max() > 4
    torch.testing.assert_close(lean_picture(net, x, patch), wanted, atol=1e-5, rtol=0)


@pytest.mark.golden
def test_the_published_sizes_in_patches():
    made = lean_picture(golden_net(), golden_frames(), 20).numpy()
    np.testing.assert_allclose(made[..., ::3, ::3], GOLDEN["out_output"], atol=1e-5)


@pytest.mark.golden
def test_bfloat16_is_close():
    exact = run_golden()["out_output"]
    made = lean_picture(golden_net(torch.bfloat16), golden_frames())
    assert made.dtype == torch.float32
    assert -10 * torch.log10((made - exact).square().mean()) > 55


def test_patches_are_the_picture():
    counted = torch.zeros(1, 1, 13, 7)
    for patch in patches(13, 7, 5):
        patch.cut(counted).add_(1)
    assert torch.equal(counted, torch.ones_like(counted))
    picture = torch.rand(1, 2, 4, 3)
    wide = Patch(0, 4, 1, 3, 4, 3).grown(2)
    assert torch.equal(wide.cut(picture), F.pad(picture, (1, 2, 2, 2)))
    assert torch.equal(wide.clear(torch.ones(1, 1, 8, 6)), F.pad(torch.ones(1, 1, 4, 3), (1, 2, 2, 2)))


@torch.no_grad()
def test_off_the_cpu():
    """Another device's branches, as far as one without numbers shows them."""
    net = FMANet(TINY).to("meta", torch.float16, memory_format=torch.channels_last)
    made = lean_picture(net, torch.empty(1, 3, 3, 9, 7, device="meta"))
    assert (made.shape, made.dtype, made.device.type) == ((1, 3, 36, 28), torch.float32, "meta")


# -- as a restorer --------------------------------------------------------------------------------------


def clip(channels=3, size=(14, 19), count=4) -> list[Frame]:
    random = np.random.RandomState(1)
    low = torch.from_numpy(random.rand(count, channels, 4, 5)).float()
    pictures = F.interpolate(low, size, mode="bilinear").permute(0, 2, 3, 1).contiguous()
    return [Frame(picture, Fraction(i, 25)) for i, picture in enumerate(pictures)]


def restored(frames: list[Frame], restorer: Restore, **settings) -> list[torch.Tensor]:
    return [frame.pixels for frame in restore(frames, restorer, PlainHost("cpu", "float32"), **settings)]


def by_definition(net: FMANet, frames: list[Frame], numbers: tuple[int, int, int]) -> torch.Tensor:
    x = torch.stack([frames[n].pixels.permute(2, 0, 1).flip(0) for n in numbers], 1)[None]
    with torch.no_grad():
        return net(x)[0].flip(0).permute(1, 2, 0).clamp(0, 1)


@pytest.mark.parametrize(("ends", "first"), [("replicate", (0, 0, 1)), ("reflect", (1, 0, 1))])
def test_every_frame_from_itself_and_its_neighbours(ends, first):
    net, frames = tiny_net(), clip()
    made = restored(frames, FAMILY.restorer(net, ends=ends))
    assert [picture.shape for picture in made] == [(56, 76, 3)] * 4
    for picture, numbers in zip(made, (first, (0, 1, 2), (1, 2, 3)), strict=False):
        torch.testing.assert_close(picture, by_definition(net, frames, numbers), atol=1e-5, rtol=0)
    cut = restored(frames, Restore(net, ends=ends), cuts=[2])
    torch.testing.assert_close(cut[2:], restored(frames[2:], Restore(net, ends=ends)))
    assert not torch.allclose(cut[1], made[1])


def test_a_frames_features_are_made_once(monkeypatch):
    made, real = [], LeanFMANet.features
    monkeypatch.setattr(LeanFMANet, "features", lambda self, frame: made.append(frame) or real(self, frame))
    restored(clip(count=5), Restore(tiny_net()))
    assert len(made) == 5


def test_a_window_must_be_whole():
    window = SimpleNamespace(positions=(0, 1), images=(torch.zeros(1, 3, 4, 4),) * 2, times=(0,))
    with pytest.raises(InputError, match="2 frames for 1; FMA-Net sees 3 for each"):
        Restore(tiny_net())(window)


def test_alpha_is_enlarged():
    frames = clip(channels=4)
    made = restored(frames, Restore(tiny_net()))[1]
    wanted = F.interpolate(frames[1].pixels[None, None, ..., 3], scale_factor=4, mode="bicubic")[0, 0].clamp(0, 1)
    torch.testing.assert_close(made[..., 3], wanted, atol=1e-6, rtol=0)
    assert made[..., :3].max() <= 1 + 1e-5
    opaque = [Frame(torch.cat((f.pixels, torch.ones(14, 19, 1)), 2), f.seconds) for f in clip()]
    with_alpha = restored(opaque, Restore(tiny_net()))[1]
    torch.testing.assert_close(with_alpha[..., :3], restored(clip(), Restore(tiny_net()))[1], atol=1e-5, rtol=0)


def test_grey_stays_grey_and_highlights_survive():
    grey = [Frame(frame.pixels[..., :1], frame.seconds) for frame in clip()]
    assert restored(grey, Restore(tiny_net()))[0].shape == (56, 76, 1)
    net = tiny_net()
    sparkling = net.restoration_network.res_conv2.weight
    sparkling.copy_(1000 * torch.randn_like(sparkling))  # beyond anything its frames have
    made = restored(clip(), Restore(net))[1]
    assert (made.min(), made.max()) == (0, 1)
    bright = [Frame(frame.pixels * 3, frame.seconds) for frame in clip()]
    highest = max(float(frame.pixels.max()) for frame in bright[:3])
    assert float(restored(bright, Restore(net))[1].max()) == pytest.approx(highest)


def test_what_it_needs_grows_with_the_picture():
    small, large = (Restore(FMANet()).working_bytes(*size) for size in ((180, 320), (720, 1280)))
    assert 10 * small < large < 16 * small
    assert 4.5e9 < large < 6.5e9
    assert Restore(FMANet().bfloat16()).working_bytes(720, 1280) < 0.75 * large


def test_a_call_can_be_stopped_in_its_midst():
    calls = []

    def check():
        calls.append(None)
        if len(calls) == 5:
            raise Cancelled("enough")

    host = PlainHost("cpu", "float32")
    frames = [Frame(torch.rand(8, 8, 3), Fraction(i)) for i in range(2)]
    with pytest.raises(Cancelled, match="enough"):
        list(restore(frames, Restore(FMANet(TINY), check=check), host))
    assert len(calls) == 5
