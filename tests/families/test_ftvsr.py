"""FTVSR: parity with recorded outputs of the authors' code, recognition, and its parts by definition.

Golden weights are synthetic, drawn tensor by tensor in the order of the published key list, so a wrong name, shape or
order shows as a wrong picture.
"""

import ast
import subprocess
import sys
from collections import OrderedDict
from functools import cache

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from families.ftvsr_nets import TINY, tiny_net
from places import ROOT, shared_dir

from comfy_fusionfft import checkpoints, downloads
from comfy_fusionfft.cli import main
from comfy_fusionfft.contract import Miss
from comfy_fusionfft.errors import CheckpointError, DownloadError, InputError
from comfy_fusionfft.families.ftvsr import FAMILY, FTVSRConfig
from comfy_fusionfft.families.ftvsr.config import canonical, detect, metadata
from comfy_fusionfft.families.ftvsr.frequency import attention
from comfy_fusionfft.families.ftvsr.net import FTVSR, in_blocks
from comfy_fusionfft.families.ftvsr.shelf import Shelf
from comfy_fusionfft.families.ftvsr.trajectory import SURROUNDINGS, KeyFrames, as_picture, as_rows, surroundings
from comfy_fusionfft.ops.dct import patterns

GOLDEN = np.load(ROOT / "tests" / "golden" / "ftvsr" / "golden.npz")
TOLERANCE = 2e-5
CLIPS = {"a": (4, 64, 64, 3), "b": (3, 45, 64, 1), "c": (2, 45, 63, 3)}
DCT = ("FTT.dct.dct_conv.weight", "FTT.rdct.reverse_dct_conv.weight")


def keys() -> list[tuple[str, tuple[int, ...]]]:
    lines = (line.split(" ", 1) for line in GOLDEN["keys"].tobytes().decode().splitlines() if line)
    return [(name, ast.literal_eval(shape)) for name, shape in lines]


def drawn(number: int, name: str, shape: tuple[int, ...]) -> torch.Tensor:
    noise = np.random.RandomState(number).standard_normal(shape)
    if name.endswith(("norm1.weight", "norm2.weight")):
        noise = 1 + 0.1 * noise
    elif len(shape) > 1:
        last = name.startswith("spynet.") and name.endswith("basic_module.4.conv.weight")
        noise *= (0.4 if ".main.2." in name else 0.5 if last else 1) / np.sqrt(np.prod(shape[1:]))
    else:
        noise *= 0.05
    return torch.from_numpy(noise).float()


@cache
def golden_net() -> FTVSR:
    net = FTVSR(FTVSRConfig(keyframe_step=3)).eval()
    kept = (*DCT, "spynet.mean", "spynet.std")
    state = {name: drawn(number, name, shape) for number, (name, shape) in enumerate(keys()) if name not in kept}
    net.load_state_dict(state | {name: net.state_dict()[name] for name in kept})
    return net.to(memory_format=torch.channels_last).requires_grad_(False)


def golden_frames(count: int, height: int, width: int) -> list[torch.Tensor]:
    random = np.random.RandomState(12345)
    coarse = random.rand(1, 3, 8, 8)
    frames = (np.clip(coarse + 0.15 * i * (random.rand(1, 3, 8, 8) - 0.5), 0, 1) for i in range(count))
    return [F.interpolate(torch.from_numpy(f).float(), (height, width), mode="bilinear") for f in frames]


@cache
@torch.inference_mode()
def run_golden(clip: str) -> dict[str, torch.Tensor]:
    """The pictures, and on the way what the first network made and all motion found."""
    count, height, width, step = CLIPS[clip]
    net, flows, first = golden_net(), [], []
    net.config = FTVSRConfig(keyframe_step=step)
    hooks = [
        net.spynet.register_forward_hook(lambda module, seen, flow: flows.append(flow)),
        net.FTT.dct.register_forward_pre_hook(lambda module, seen: first.append(seen[0])),
    ]
    try:
        out = list(net.restored(golden_frames(count, height, width)))
    finally:
        for hook in hooks:
            hook.remove()
    pairs = count - 1
    small, large = flows[: 2 * pairs], flows[2 * pairs :]
    made = {"out": out, "stage1": first[: 2 * count : 2], "lrflow_bw": small[::2], "lrflow_fw": small[1::2]}
    made["hrflow_fw"] = [flow[..., ::4, ::4] for flow in large[1::2]]
    return {f"{name}_{clip}": torch.stack(each, 1) for name, each in made.items()}


def errors(clip: str, recorded, stride: int) -> dict[str, float]:
    names = [name for name in recorded if name.endswith(f"_{clip}") and not name.startswith("in_")]
    made = run_golden(clip)
    return {name: float(np.abs(made[name][..., ::stride, ::stride].numpy() - recorded[name]).max()) for name in names}


@pytest.mark.golden
@pytest.mark.parametrize(("clip", "arrays"), [("a", 5), ("b", 5), ("c", 1)])
def test_golden(clip, arrays):
    found = errors(clip, GOLDEN, 7)
    assert max(found.values()) < TOLERANCE, found
    assert len(found) == arrays


FULL_SET = shared_dir() and shared_dir() / "specs" / "golden" / "golden_FTVSR.npz"
if FULL_SET and FULL_SET.is_file():
    FULL = np.load(FULL_SET)

    @pytest.mark.golden
    @pytest.mark.parametrize("clip", CLIPS)
    def test_golden_at_full_density(clip):
        found = errors(clip, FULL, 1)
        assert max(found.values()) < TOLERANCE, found

    @pytest.mark.parametrize("clip", CLIPS)
    def test_golden_inputs_are_the_recorded_ones(clip):
        frames = torch.stack(golden_frames(*CLIPS[clip][:3]), 1)
        np.testing.assert_allclose(frames.numpy(), FULL[f"in_{clip}"], atol=1e-6)


# -- recognition ----------------------------------------------------------------------------------------


def mmcv_file(state: dict[str, torch.Tensor], path) -> None:
    named = OrderedDict(step_counter=torch.zeros(1))
    named |= {f"generator.{name}": tensor for name, tensor in state.items()}
    optimizer = {"generator": {"state": {0: {"step": 5, "exp_avg": torch.zeros(3)}}, "param_groups": [{"lr": 1e-4}]}}
    torch.save({"meta": {"epoch": 1, "iter": 400_000}, "state_dict": named, "optimizer": optimizer}, path)


@pytest.mark.parametrize(
    ("spelling", "left_out"), [("", ()), ("generator.", DCT), ("module.generator.", DCT[:1]), ("_orig_mod.", ())]
)
def test_names_are_recognised_in_every_spelling(spelling, left_out):
    state = {name: torch.empty(shape, device="meta") for name, shape in keys() if name not in left_out}
    state = canonical({"step_counter": torch.zeros(1)} | {spelling + name: tensor for name, tensor in state.items()})
    config = detect(state, metadata(3))
    assert config == FTVSRConfig(keyframe_step=3)
    with torch.device("meta"):
        net = FTVSR(config)
    assert {name: t.shape for name, t in state.items()} == {name: t.shape for name, t in net.state_dict().items()}
    assert len(state) == 394
    assert sum(p.numel() for p in net.parameters()) + net.spynet.mean.numel() * 2 == 45_807_663 + 6
    assert canonical(state) == state


@pytest.mark.parametrize("step", [1, 3])
def test_the_published_layout_is_converted(tmp_path, step, capsys):
    net, source, target = tiny_net(), tmp_path / "FTVSR_REDS.pth", tmp_path / "ftvsr.safetensors"
    mmcv_file(net.state_dict(), source)
    assert main(["convert", str(source), str(target), "--keyframe-step", str(step)]) == 0
    assert f"FTVSR, FTVSRConfig(keyframe_step={step}, heads=4" in capsys.readouterr().err
    loaded = checkpoints.load(target)
    assert (loaded.family, loaded.config) == (FAMILY, tiny_net(keyframe_step=step).config)
    for name, tensor in net.state_dict().items():
        assert torch.equal(loaded.module.state_dict()[name], tensor)
    assert checkpoints.find(target, kind="restore") == target


def test_the_key_frame_step_must_be_said(tmp_path, capsys):
    source = tmp_path / "FTVSR_Vimeo90K.pth"
    mmcv_file(tiny_net().state_dict(), source)
    assert main(["convert", str(source), str(tmp_path / "net.safetensors")]) == 1
    told = capsys.readouterr().err
    assert f"{source} is an FTVSR network, but names and shapes do not tell how far its key frames lie apart" in told
    assert "`fusionfft convert … --keyframe-step 3` for weights trained on REDS, 1 for those trained on Vimeo" in told
    assert not (tmp_path / "net.safetensors").exists()
    for wrong in ("0", "-1", "x"):
        with pytest.raises(CheckpointError, match=f"with a key-frame step of '{wrong}': convert it again"):
            detect(tiny_net().state_dict(), {"ftvsr.keyframe_step": wrong})


def test_saved_and_reloaded_with_the_same_config(tmp_path):
    net = tiny_net(heads=2, keyframe_step=5)
    path = checkpoints.save(net.state_dict(), tmp_path / "net.safetensors", family=FAMILY, config=net.config)
    assert checkpoints.load(path).config == net.config
    assert checkpoints.convert(path, tmp_path / "again.safetensors")
    assert checkpoints.load(tmp_path / "again.safetensors").config == net.config


def test_a_transform_that_drifted_is_kept_and_one_that_is_absent_computed(tmp_path):
    state = tiny_net().state_dict()
    drifted = state | {DCT[0]: state[DCT[0]] + 0.01}
    path = checkpoints.save(drifted, tmp_path / "drifted.safetensors", family=FAMILY, config=TINY)
    assert torch.equal(checkpoints.load(path).module.state_dict()[DCT[0]], drifted[DCT[0]])
    mmcv_file({name: tensor for name, tensor in state.items() if name not in DCT}, tmp_path / "net.pth")
    path = checkpoints.convert(tmp_path / "net.pth", tmp_path / "net.safetensors", metadata=metadata(1))
    loaded = checkpoints.load(path).module.state_dict()
    assert all(torch.equal(loaded[name], patterns(3)) for name in DCT)


def test_a_file_must_hold_all_and_nothing_else(tmp_path):
    state = tiny_net().state_dict()
    for changed, told in (
        (state | {"generator.surplus": torch.zeros(1)}, r"1 unknown \(surplus\)"),
        ({name: t for name, t in state.items() if name != "fusion.bias"}, r"1 missing \(fusion\.bias\)"),
    ):
        mmcv_file(changed, tmp_path / "net.pth")
        with pytest.raises(CheckpointError, match=f"is no complete FTVSR network: {told}"):
            checkpoints.convert(tmp_path / "net.pth", tmp_path / "net.safetensors", metadata=metadata(3))


def test_what_is_missing_is_named():
    state = tiny_net().state_dict()
    assert detect({}, {}) == Miss("no tensor feat_extractor.main.0.weight")
    without = {name: t for name, t in state.items() if not name.startswith("LTAM.")}
    assert detect(without, {}) == Miss("no tensor LTAM.fusion.weight")
    odd = {"upsample2.upsample_conv.weight": torch.zeros(24, 8, 3, 3)}
    assert "upsample2 makes 24 planes; doubling 8" in detect(state | odd, {}).why
    odd = {"FTT.ftta.layer_q.weight": torch.zeros(100, 100)}
    assert "tokens of 100 numbers are no 8×8 blocks of 16" in detect(state | odd, {}).why
    assert detect(state, {"ftvsr.heads": "3"} | metadata(1)) == Miss("128 numbers are not 3 heads")


def test_how_to_get_weights_is_told():
    for name, step in (("ftvsr-reds", 3), ("ftvsr-vimeo90k", 1)):
        with pytest.raises(
            DownloadError, match=rf"Google Drive .*/{name}\.safetensors --keyframe-step {step}`; the code"
        ):
            downloads.get(name)


def test_listing_the_family_needs_no_torch():
    code = "import sys, comfy_fusionfft.families.ftvsr; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=False).returncode == 0


# -- its parts ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("size", [(16, 20), (17, 22), (19, 23)])
@pytest.mark.parametrize(("side", "beyond"), SURROUNDINGS)
def test_surroundings_are_windows_laid_out_and_shrunk(size, side, beyond):
    state = torch.randn(2, 3, *size)
    windows = F.unfold(state, side, padding=beyond, stride=4)
    laid = F.fold(windows, [each * side // 4 for each in size], side, stride=side)
    wanted = F.unfold(F.adaptive_avg_pool2d(laid, size), 4, stride=4)  # B C·16 patches
    torch.testing.assert_close(surroundings(state, side, beyond), wanted.mT.reshape(-1, 3 * 16))


def test_rows_are_patches_and_come_back():
    picture = torch.randn(2, 3, 9, 14)
    assert torch.equal(as_rows(picture)[5], picture[0, :, 4:8, 8:12].flatten())
    back = as_picture(as_rows(picture), picture)
    assert torch.equal(back[..., :8, :12], picture[..., :8, :12])
    assert not back[..., 8:, :].any() and not back[..., 12:].any()


def test_key_frames_are_followed_and_the_best_is_taken():
    """Against the definition: maps of places moved by nearest look-ups, and what they lead to compared."""
    batch, channels, height, width = 2, 3, 4, 5
    frames = torch.randn(4, batch, channels, 4 * height, 4 * width)
    states, flows = torch.randn_like(frames), 5 * torch.randn(4, batch, 2, 4 * height, 4 * width)
    identity = torch.stack(torch.meshgrid(torch.arange(width), torch.arange(height), indexing="xy")).float()
    extent = torch.tensor([width - 1, height - 1]).view(2, 1, 1)

    def sampled(picture: torch.Tensor, places: torch.Tensor, padding: str) -> torch.Tensor:
        grid = (2 * places / extent - 1).permute(0, 2, 3, 1)
        return F.grid_sample(picture, grid, "nearest", padding, align_corners=True)

    def maps(picture: torch.Tensor, side: int, beyond: int) -> torch.Tensor:
        return surroundings(picture, side, beyond).view(batch, height, width, -1).permute(0, 3, 1, 2)

    keyframes, places, known = KeyFrames(3, Shelf()), [], []
    for i in range(4):
        if i:
            keyframes.move(flows[i])
            moved = identity + F.adaptive_avg_pool2d(flows[i], (height, width)) / 4
            places = [sampled(each, moved, "border") for each in places]
            asked = F.normalize(maps(frames[i], 4, 0), dim=1)
            found = [
                [sampled(each, place, "zeros") for each in maps_] for maps_, place in zip(known, places, strict=True)
            ]
            alike = torch.stack([(asked * F.normalize(each[0], dim=1)).sum(1) for each in found])
            likeness, chosen = alike.max(0)
            made, taken = keyframes.best(frames[i])
            torch.testing.assert_close(made.view_as(likeness), likeness)
            for part, rows in enumerate(taken, 1):
                choice = torch.stack([each[part] for each in found]).gather(
                    0, chosen[None, :, None].expand(1, -1, channels * 16, -1, -1)
                )
                torch.testing.assert_close(rows.view(batch, height, width, -1).permute(0, 3, 1, 2), choice[0])
        if i != 1:
            keyframes.add(frames[i], states[i])
            places.append(identity.expand(batch, -1, -1, -1))
            known.append([maps(frames[i], 4, 0), *(maps(states[i], *how) for how in SURROUNDINGS)])
    assert len(chosen.unique()) == len(known) - 1 == 2


def test_attention_is_the_one_of_torch():
    ours = tiny_net().FTT.ftta.MultiheadAttention
    theirs = torch.nn.MultiheadAttention(128, 4, batch_first=True)
    theirs.load_state_dict(ours.state_dict())
    q, k, v = torch.randn(3, 2, 40, 128)
    torch.testing.assert_close(ours(q, k, v), theirs(q, k, v)[0], atol=1e-5, rtol=0)
    q, k, v = torch.randn(3, 2, 4, 40, 32)
    whole = attention(q, k, v)
    for rows in (1, 7, 40):
        torch.testing.assert_close(attention(q, k, v, rows), whole, atol=1e-6, rtol=0)


@torch.inference_mode()
def test_attention_leaves_out_what_is_no_whole_patch():
    ftta = tiny_net().FTT.ftta
    q, k = torch.randn(2, 1, 16, 19, 26)
    made = ftta(q, k, k)
    assert made.shape == q.shape
    assert made[..., :16, :24].all() and not made[..., 16:, :].any() and not made[..., 24:].any()
    torch.testing.assert_close(made[..., :16, :24], ftta(*(each[..., :16, :24] for each in (q, k, k))))
    with pytest.raises(InputError, match="a 52×14 picture is too small for FTVSR: it needs 16 or more, so pad it"):
        ftta(q[..., :7, :], k[..., :7, :], k[..., :7, :])


def test_pictures_grow_to_blocks_as_published():
    picture = torch.rand(1, 3, 20, 24) + 1
    down = in_blocks(picture)
    assert torch.equal(down, torch.cat((picture, picture[:, :, -4:]), 2))
    across = in_blocks(picture.mT)
    assert torch.equal(across, torch.cat((picture.mT, picture.mT[..., -4:]), 3))
    both = in_blocks(picture[..., :20])
    assert torch.equal(both[..., 20:, 20:], picture[..., 16:20, 16:20])
    assert not both[..., 20:, :20].any() and not both[..., :20, 20:].any()
    whole = torch.rand(1, 3, 16, 24)
    assert in_blocks(whole) is whole
