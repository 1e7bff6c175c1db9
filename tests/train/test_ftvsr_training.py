"""Training of FTVSR: its loss, what learns when, that it goes on where it stopped, and that it learns."""

import os
import shutil
import signal
from dataclasses import replace

import pytest
import torch
from safetensors import safe_open
from train.launch import two_processes
from train.scenes import pan, write_packs
from train.test_restoration_compressed import write_pictures, write_septuplets

from comfy_fusionfft import checkpoints
from comfy_fusionfft.cli import main
from comfy_fusionfft.errors import InputError
from comfy_fusionfft.families.ftvsr import FTVSRConfig
from comfy_fusionfft.families.ftvsr.recipe import RECIPES, FTVSRRecipe, recipe_for
from comfy_fusionfft.train import loop
from comfy_fusionfft.train.data import Packs
from comfy_fusionfft.train.loop import Budget, train
from comfy_fusionfft.train.restoration_clips import PackedClips
from comfy_fusionfft.train.restoration_compressed import Compressed, CompressedSampler, CompressionDraw

SMALL = FTVSRConfig(
    keyframe_step=2,
    heads=4,
    channels=8,
    extractor_blocks=1,
    blocks=1,
    coefficients=8,
    coefficient_extractor_blocks=1,
    coefficient_blocks=1,
    token=64,
    flow_levels=1,
)
TRANSFORMS = {"FTT.dct.dct_conv.weight", "FTT.rdct.reverse_dct_conv.weight"}


def small_recipe(name="reds", **changes):
    return recipe_for(name, SMALL, **{"batch": 2, "patch": 16, "frames": 2, "rate": 2e-3} | changes)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("packs")
    write_packs(folder, {f"{i}.mp4": pan(5, 72, 88, 2, i) for i in range(14)}, motion=2.0)
    return folder


@pytest.fixture(scope="module")
def batch(folder):
    return CompressedSampler(PackedClips(Packs(folder))).draw(CompressionDraw(1, 16, 3))


def weights(recipe):
    return {name: p.detach().clone() for name, p in recipe.net.named_parameters()}


def test_the_loss_as_written_down():
    x, y = torch.rand(1, 3, 2, 16, 16), torch.rand(1, 3, 2, 64, 64)
    made = torch.rand(1, 2, 3, 64, 64) * 1.4 - 0.2
    made[0, 0, :, :32] = y[0, :, 0, :32]
    recipe, seen = small_recipe(), []
    recipe.net.forward = lambda clip: seen.append(clip) or made
    loss, terms = recipe(Compressed(x, y), recipe.stages[0])
    assert torch.equal(seen[0], x.transpose(1, 2))
    differences = (made.double() - y.transpose(1, 2).double()).flatten().tolist()
    assert float(loss) == pytest.approx(sum((d * d + 1e-12) ** 0.5 for d in differences) / len(differences), rel=1e-6)
    errors = (made.clamp(0, 1) - y.transpose(1, 2)).double().square().mean((0, 2, 3, 4))
    assert float(terms["psnr"]) == pytest.approx(float((-10 * errors.log10()).mean()), rel=1e-5)
    assert terms["loss"] == loss and not terms["loss"].requires_grad


def test_both_recipes_as_published():
    reds, vimeo = RECIPES["reds"], RECIPES["vimeo"]
    assert (reds.keyframe_step, reds.decay, vimeo.keyframe_step, vimeo.decay) == (3, 0.0, 1, 0.05)
    assert reds.stage.alone * 400_000 == 10_000 and reds.stage.still * 400_000 == pytest.approx(2_000)
    assert vimeo.stage.alone == 0 and vimeo.stage.still * 400_000 == pytest.approx(5_000)
    for setting, frames in ((reds, 40), (vimeo, 28)):
        stage = setting.stage
        assert (stage.frames, stage.patch, stage.batch, stage.rate) == (frames, 64, 1, 2e-4)
    assert (reds.stage.reduction, vimeo.stage.reduction) == ("bicubic", "gaussian")
    assert small_recipe("vimeo").stages[0].drifts and not small_recipe("reds").stages[0].drifts


@pytest.mark.parametrize(
    ("name", "part", "learning"),
    [
        ("reds", 0.0, {"FTT"}),
        ("reds", 0.024, {"FTT"}),
        ("reds", 0.026, {"FTT", "spynet", "rest"}),
        ("vimeo", 0.012, {"FTT", "rest", "transforms"}),
        ("vimeo", 0.013, {"FTT", "spynet", "rest", "transforms"}),
    ],
)
def test_what_learns_when(name, part, learning, batch):
    recipe = small_recipe(name)
    recipe.part = part
    recipe(batch, recipe.stages[0])[0].backward()

    def kind(parameter):
        head = parameter.partition(".")[0]
        return "transforms" if parameter in TRANSFORMS else head if head in ("FTT", "spynet") else "rest"

    known = {parameter for parameter, _ in recipe.net.named_parameters()}
    moved = {parameter for parameter, p in recipe.net.named_parameters() if p.grad is not None and p.grad.any()}
    assert known >= TRANSFORMS and moved == {parameter for parameter in known if kind(parameter) in learning}
    # What learns later is not forgotten.
    recipe.part = 0.9
    recipe(batch, recipe.stages[0])[0].backward()
    still = {parameter for parameter, p in recipe.net.named_parameters() if p.grad is None}
    assert still == (TRANSFORMS if name == "reds" else set())


@pytest.mark.parametrize("name", RECIPES)
def test_what_does_not_learn_is_left_as_it_was(name, folder, tmp_path, monkeypatch):
    monkeypatch.setattr(loop, "stage_at", lambda plan, fraction: (plan[0], 0.01))
    recipe = small_recipe(name)
    before = weights(recipe)
    budget = Budget(steps=2, validate_every=99, save_every=99)
    train(recipe, folder, tmp_path, budget, device="cpu", precision="no", decay=RECIPES[name].decay)
    for parameter, value in weights(recipe).items():
        still = parameter.startswith("spynet.") or (
            name == "reds" and (parameter in TRANSFORMS or not parameter.startswith("FTT."))
        )
        assert torch.equal(value, before[parameter]) is still, parameter


def test_motion_learns_at_an_eighth_of_the_rate(folder, tmp_path, monkeypatch):
    made, rates = [], []
    real = loop.optimizer_for
    monkeypatch.setattr(loop, "optimizer_for", lambda *args: made.append(real(*args)) or made[-1])
    recipe = small_recipe()
    names = {id(p): name for name, p in recipe.net.named_parameters()}

    def noted(module, inputs):
        groups = [(group["lr"], {names[id(p)] for p in group["params"]}) for group in made[0].param_groups]
        rates.append({name: rate for rate, members in groups for name in members})

    recipe.register_forward_pre_hook(noted)
    budget = Budget(steps=5, validate_every=99, save_every=99)
    train(recipe, folder, tmp_path, budget, device="cpu", precision="no")
    for step in rates:
        whole = step["conv_last.weight"]
        assert step.keys() == set(names.values())
        for name, rate in step.items():
            assert rate == pytest.approx(whole * (0.125 if name.startswith("spynet.") else 1)), name
    falling = [step["conv_last.weight"] for step in rates]
    assert falling[0] == pytest.approx(0.02 * 2e-3) and falling[1] > falling[2] > falling[3] > falling[4]


def test_resumed_equals_uninterrupted(folder, tmp_path, monkeypatch):
    def run(out, **how):
        torch.manual_seed(0)
        recipe, budget = small_recipe(batch=1), Budget(steps=4, validate_every=99, save_every=99)
        return recipe, train(recipe, folder, out, budget, device="cpu", precision="no", **how)

    whole, _ = run(tmp_path / "whole")
    seen = loop.stage_at

    def interrupted(plan, fraction):
        if round(4 * fraction) == 1:
            os.kill(os.getpid(), signal.SIGTERM)
        return seen(plan, fraction)

    with monkeypatch.context() as patch:
        patch.setattr(loop, "stage_at", interrupted)
        _, progress = run(tmp_path / "parts")
    assert progress.step == 2
    resumed, progress = run(tmp_path / "parts")
    assert progress.step == 4
    for (name, one), (_, other) in zip(weights(whole).items(), weights(resumed).items(), strict=True):
        assert torch.equal(one, other), name


def test_a_few_steps_on_one_sample_lower_the_loss(batch):
    recipe, sample = small_recipe(), batch
    recipe.part = 0.5
    optimizer = torch.optim.Adam(recipe.parameters(), lr=1e-2)
    losses = []
    for _ in range(12):
        optimizer.zero_grad()
        loss, terms = recipe(sample, recipe.stages[0])
        loss.backward()
        optimizer.step()
        losses.append(float(terms["loss"]))
    assert losses[-1] < 0.6 * losses[0]


def test_trained_watched_saved_and_loaded(folder, tmp_path):
    recipe = small_recipe()
    budget = Budget(steps=3, validate_every=2, save_every=9)
    progress = train(recipe, folder, tmp_path, budget, device="cpu", precision="no")
    assert [entry["stage"] for entry in progress.history] == ["reds", "reds"]
    for entry in progress.history:
        assert 0 < entry["psnr"] < entry["bicubic"] < 60
    assert progress.history[0]["bicubic"] == progress.history[1]["bicubic"]
    assert list((tmp_path / "sheets").glob("*.png"))
    path = tmp_path / "ftvsr.safetensors"
    loaded = checkpoints.load(path)
    assert loaded.config == SMALL
    for name, value in loaded.module.state_dict().items():
        assert torch.isfinite(value).all(), name
    with safe_open(path, "pt") as file:
        said = file.metadata()
    assert said["ftvsr.keyframe_step"] == "2" and said["recipe"] == '["reds"]'


def test_what_is_watched_is_compressed_and_held_out(folder):
    recipe = small_recipe()
    kept = recipe.validation(folder, torch.device("cpu"))
    windows = Packs(folder, held_out=True)
    assert len(kept.samples) == len(windows.windows) > 0
    for (x, y), frames in zip(kept.samples, windows.frames, strict=True):
        assert x.shape == (1, 3, 5, 16, 16) and torch.equal(y[0], frames[:, :, 4:68, 12:76].transpose(0, 1) / 255)
    scores, rows = recipe.validate(kept, recipe.stages[0])
    recipe.predict = lambda sample: (_ for _ in ()).throw(AssertionError("nothing to predict"))
    assert scores["bicubic"] > 15 and rows and rows[0][2].shape == (2, 16, 16)
    assert recipe.validate(None, recipe.stages[0]) == ({"psnr": 0.0, "bicubic": 0.0}, [])


def test_folders_like_reds_and_septuplets(tmp_path):
    for clip in (0, 1, 2, 3):
        write_pictures(
            tmp_path / "reds" / "train_sharp" / f"{clip:03d}", pan(5, 64, 72, 2, clip), lambda n: f"{n:08d}.png"
        )
    write_septuplets(tmp_path / "vimeo", [f"{video:05d}/0001" for video in range(1, 4)])
    for name, frames, material in (
        ("reds", 4, "clips reds, 3 of them, REDS4 left out"),
        ("vimeo", 14, "septuplets vimeo, 3 of them"),
    ):
        recipe = small_recipe(name, frames=frames, batch=1)
        where = tmp_path / name
        x, y = recipe.draw(recipe.sampler(where, torch.device("cpu"), 0), recipe.stages[0])
        assert x.shape == (1, 3, frames, 16, 16) and y.shape == (1, 3, frames, 64, 64)
        assert torch.equal(y, y.flip(2)) is (name == "vimeo")  # seven frames, forth and back
        assert recipe.material(where) == material
    assert recipe.material(tmp_path) is None
    for clip in ("001", "002", "003"):
        shutil.rmtree(tmp_path / "reds" / "train_sharp" / clip)
    with pytest.raises(InputError, match="no clips to train on beside REDS4; add more of the set"):
        recipe.sampler(tmp_path / "reds", torch.device("cpu"), 0)


def test_half_precision_leaves_what_is_compared_alone(batch):
    recipe = small_recipe().eval()
    with torch.no_grad(), torch.autocast("cpu", torch.bfloat16):
        half, terms = recipe(batch, recipe.stages[0])
    with torch.no_grad():
        whole, _ = recipe(batch, recipe.stages[0])
    assert half.dtype == torch.float32 and all(term.dtype == torch.float32 for term in terms.values())
    assert float(half) == pytest.approx(float(whole), rel=0.05)


def test_two_processes(folder, tmp_path):
    two_processes("train.test_ftvsr_training", folder, tmp_path)


def test_what_cannot_be_trained():
    with pytest.raises(InputError, match=r"patches of 24 pixels: use a multiple of 16 \(default 64\)"):
        small_recipe(patch=24)
    with pytest.raises(InputError, match="samples of 1 frames: use 2 or more"):
        FTVSRRecipe(SMALL, (replace(RECIPES["reds"].stage, frames=1),))
    with pytest.raises(InputError, match="no recipe named 'red': use reds or vimeo"):
        recipe_for("red", SMALL)


def test_command_line(folder, tmp_path, capsys):
    size = ["--channels", "8", "--blocks", "1", "--extractor-blocks", "1", "--coefficients", "8", "--token", "64"]
    size += ["--coefficient-blocks", "1", "--coefficient-extractor-blocks", "1", "--flow-levels", "1"]
    common = ["--packs", str(folder), "--frames", "2", "--patch", "16", "--device", "cpu", "--precision", "no"]
    new = ["train", "ftvsr", *common, "--out", str(tmp_path / "new"), "--steps", "1", "--recipe", "vimeo"]
    assert main([*new, *size]) == 0, capsys.readouterr().err
    path = tmp_path / "new" / "ftvsr.safetensors"
    assert checkpoints.load(path).config == replace(SMALL, keyframe_step=1)
    tuned = ["train", "ftvsr", *common, "--out", str(tmp_path / "tuned"), "--from", str(path)]
    assert main([*tuned, "--steps", "1"]) == 0, capsys.readouterr().err
    assert "reds 0% step 1" in (said := capsys.readouterr().err)
    assert "rate 4e-07" in said  # a tenth of 2e-4, at the beginning of the rise: a fiftieth
    assert checkpoints.load(tmp_path / "tuned" / "ftvsr.safetensors").config.keyframe_step == 1
    for refused, text in (
        ([*tuned, "--steps", "1", "--keyframe-step", "3"], "--keyframe-step is for a new network; the one of --from"),
        ([*new, *size, "--vimeo", str(tmp_path)], "training needs --packs DIR, --clips DIR, --reds DIR or --vimeo DIR"),
        (
            [*new, "--coefficients", "24", "--token", "1024"],
            "tokens of 1024 numbers out of 24 channels: use",
        ),
        ([*new, "--token", "100"], "tokens of 100 numbers out of 512 channels: use a multiple of 64"),
        ([*new, "--blocks", "0"], "--blocks 0: use 1 or more"),
        ([*new[:4], "--patch", "24", *new[8:], *size], "patches of 24 pixels: use a multiple of 16"),
    ):
        assert main(refused) != 0
        assert text in capsys.readouterr().err
