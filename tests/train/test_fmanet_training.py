"""Training of FMA-Net: its losses, which half a stage changes, that it goes on where it stopped, and that it learns."""

import os
import signal
from dataclasses import replace

import pytest
import torch
from safetensors import safe_open
from train.launch import two_processes
from train.scenes import pan, write_packs
from train.test_restoration_data import write_reds

from comfy_fusionfft import checkpoints
from comfy_fusionfft.cli import main
from comfy_fusionfft.errors import InputError
from comfy_fusionfft.families.fmanet import FMANetConfig
from comfy_fusionfft.families.fmanet.net import Degradation, Restoration
from comfy_fusionfft.families.fmanet.recipe import STAGES, FMANetRecipe
from comfy_fusionfft.train import loop
from comfy_fusionfft.train.data import Packs
from comfy_fusionfft.train.loop import Budget, train
from comfy_fusionfft.train.restoration_blur import BlurDraw, BlurSampler, Restorations
from comfy_fusionfft.train.restoration_reds import RedsSampler

SMALL = FMANetConfig(
    *(18, 3, 9, 1, 1, 6),
    dense_blocks=1,
    dense_layers=1,
    growth=4,
    hidden=18,
    degradation_kernel=8,
    restoration_kernel=3,
)
FIRST, SECOND = (replace(stage, batch=2, patch=16, rate=2e-3) for stage in STAGES)


def small_recipe(motion=None):
    return FMANetRecipe(SMALL, (FIRST, SECOND), motion)


def standing(first, second):
    return torch.zeros(len(first), 2, *first.shape[-2:])


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("packs")
    write_packs(folder, {f"{i}.mp4": pan(9, 72, 88, 2, i) for i in range(14)}, motion=2.0)
    return folder


@pytest.fixture(scope="module")
def batch(folder):
    return BlurSampler(Packs(folder), seed=0).draw(BlurDraw(batch=2, patch=16, taps=(3,), shrinks=(1.0,)))


def weights(recipe):
    return {name: p.detach().clone() for name, p in recipe.net.named_parameters()}


def test_losses_as_written_down():
    """Every term summed number by number."""
    h, w = 2, 3
    x, small, y = torch.rand(1, 3, 3, h, w), torch.rand(1, 3, 3, h, w), torch.rand(1, 3, 3, 4 * h, 4 * w)
    found = torch.randn(2, 1, 2, h, w)
    degradation = Degradation(
        *(None, None, None),
        image_flow=torch.randn(1, 3, 3, h, w),
        anchor=torch.rand(1, 3, 3, h, w),
        recon=torch.rand(1, 3, h, w),
        sharp_warped=torch.rand(1, 3, 3, 4 * h, 4 * w),
    )
    restoration = Restoration(
        torch.rand(1, 3, 4 * h, 4 * w), torch.rand(1, 3, 3, h, w), None, torch.rand(1, 3, 3, h, w)
    )
    answers = iter(found)
    recipe = small_recipe(lambda first, second: next(answers))
    recipe.net.degradation = lambda given, truth: degradation
    recipe.net.restoration = lambda given, made: restoration

    def mean(terms):
        terms = [float(term) for term in terms]
        return sum(map(abs, terms)) / len(terms)

    bgr = (2, 1, 0)
    places = [(c, i, j) for c in range(3) for i in range(h) for j in range(w)]
    larger = [(c, i, j) for c in range(3) for i in range(4 * h) for j in range(4 * w)]
    times = range(3)
    blurred = mean(degradation.recon[0, c, i, j] - x[0, bgr[c], 1, i, j] for c, i, j in places)
    warped = mean(degradation.sharp_warped[0, c, t, i, j] - y[0, bgr[c], 1, i, j] for c, i, j in larger for t in times)
    anchor = mean(degradation.anchor[0, c, t, i, j] - small[0, bgr[c], t, i, j] for c, i, j in places for t in times)
    ways = [found[0, 0], torch.zeros(2, h, w), found[1, 0]]
    flow = mean(degradation.image_flow[0, c, t, i, j] - ways[t][c, i, j] for c, i, j in places if c < 2 for t in times)
    first = blurred + 0.1 * warped + 1e-4 * flow + 0.1 * anchor
    restored = mean(restoration.picture[0, c, i, j] - y[0, bgr[c], 1, i, j] for c, i, j in larger)
    together = mean(restoration.warped[0, c, t, i, j] - x[0, bgr[c], 1, i, j] for c, i, j in places for t in times)
    known = mean(restoration.anchor[0, c, t, i, j] - small[0, bgr[c], t, i, j] for c, i, j in places for t in times)

    loss, terms = recipe(Restorations(x, small, y), STAGES[0])
    assert float(loss) == pytest.approx(first, rel=1e-5)
    assert float(terms["flow"]) == pytest.approx(flow, rel=1e-5)
    answers = iter(found)
    loss, terms = recipe(Restorations(x, small, y), STAGES[1])
    assert float(loss) == pytest.approx(restored + 0.1 * together + 0.1 * known + 0.1 * first, rel=1e-5)
    assert terms["loss"] == loss and not terms["loss"].requires_grad


def test_the_network_sees_bgr_and_motion_sees_rgb(batch):
    seen = {}
    recipe = small_recipe(lambda first, second: seen.setdefault("motion", (first, second)) and standing(first, second))
    real = recipe.net.degradation
    recipe.net.degradation = lambda x, y=None: seen.update(x=x, y=y) or real(x, y)
    recipe(batch, FIRST)
    recipe.net.degradation = real
    assert torch.equal(seen["x"][:, 0], batch.x[:, 2]) and torch.equal(seen["y"][:, 0], batch.y[:, 2])
    assert torch.equal(seen["motion"][0], batch.small[:, :, 1]) and torch.equal(seen["motion"][1], batch.small[:, :, 0])
    one = Restorations(*(part[:1] for part in batch))
    made = recipe.predict(one, SECOND)
    assert torch.allclose(made.picture.flip(1), recipe.net(one.x.flip(1)), atol=1e-5)


@pytest.mark.parametrize("stage", [FIRST, SECOND], ids=["degradation", "restoration"])
def test_a_stage_teaches_what_it_should(stage, batch):
    recipe = small_recipe(standing)
    recipe(batch, stage)[0].backward()
    moved = {name for name, p in recipe.net.named_parameters() if p.grad is not None and p.grad.any()}
    known = {name for name, _ in recipe.net.named_parameters()}
    expected = {name for name in known if stage.restores or name.startswith("degradation_learning_network.")}
    assert moved == expected
    assert {id(p) for module in recipe.learns(stage) for p in module.parameters()} == {
        id(p) for name, p in recipe.net.named_parameters() if name in expected
    }


def test_the_first_stage_leaves_the_restoration_net_alone(folder, tmp_path):
    recipe = small_recipe()
    before = weights(recipe)
    how = {"device": "cpu", "precision": "no", "decay": 0.0, "stages": ("degradation",)}
    train(recipe, folder, tmp_path, Budget(steps=3, validate_every=99, save_every=99), **how)
    for name, value in weights(recipe).items():
        assert torch.equal(value, before[name]) is name.startswith("restoration_network."), name
    saved = checkpoints.load(tmp_path / "fmanet.safetensors").module.state_dict()
    for name, value in saved.items():
        if name.startswith("restoration_network."):
            assert torch.equal(value.half(), before[name].half()), name


def test_rates_of_both_halves_are_each_stages_own(folder, tmp_path, monkeypatch):
    """The second stage does not begin at the rate the first has fallen to."""
    rates, made = [], []
    real = loop.optimizer_for
    monkeypatch.setattr(loop, "optimizer_for", lambda *args: made.append(real(*args)) or made[-1])
    recipe = small_recipe()
    recipe.register_forward_pre_hook(
        lambda module, inputs: rates.append((inputs[1].name, {group["lr"] for group in made[0].param_groups}))
    )
    train(recipe, folder, tmp_path, Budget(steps=10, validate_every=99, save_every=99), device="cpu", precision="no")
    assert [name for name, _ in rates] == ["degradation"] * 4 + ["restoration"] * 6
    assert all(len(each) == 1 for _, each in rates)
    (rates,) = zip(*(each for _, each in rates), strict=True)
    assert rates[3] < 0.5 * rates[1]
    assert rates[5] > 0.9 * SECOND.rate > rates[3]
    assert rates[9] < rates[5]


def test_resumed_equals_uninterrupted(folder, tmp_path, monkeypatch):
    def run(out, **how):
        torch.manual_seed(0)
        recipe, budget = small_recipe(standing), Budget(steps=6, validate_every=99, save_every=99)
        return recipe, train(recipe, folder, out, budget, device="cpu", precision="no", **how)

    whole, _ = run(tmp_path / "whole")
    seen = loop.stage_at

    def interrupted(plan, fraction):
        if round(6 * fraction) == 3:
            os.kill(os.getpid(), signal.SIGTERM)
        return seen(plan, fraction)

    with monkeypatch.context() as patch:
        patch.setattr(loop, "stage_at", interrupted)
        _, progress = run(tmp_path / "parts")
    assert progress.step == 4
    resumed, progress = run(tmp_path / "parts")
    assert progress.step == 6
    for (name, one), (_, other) in zip(weights(whole).items(), weights(resumed).items(), strict=True):
        assert torch.equal(one, other), name


def test_a_few_steps_on_one_sample_lower_the_loss(batch):
    recipe, sample = small_recipe(), Restorations(*(part[:1] for part in batch))
    optimizer = torch.optim.Adam(recipe.parameters(), lr=3e-3)
    losses = {}
    for stage, steps in ((FIRST, 15), (SECOND, 25)):
        for _ in range(steps):
            optimizer.zero_grad()
            loss, terms = recipe(sample, stage)
            loss.backward()
            optimizer.step()
            losses.setdefault(stage.name, []).append(float(terms["loss"]))
    assert losses["degradation"][-1] < 0.6 * losses["degradation"][0]
    assert losses["restoration"][-1] < 0.5 * losses["restoration"][0]
    assert terms["psnr"] > 17


class EveryThird:
    """Now and then less than any number."""

    def __init__(self):
        self.asked = 0

    def __lt__(self, other):
        self.asked += 1
        return self.asked % 3 == 1


def test_trained_watched_saved_and_loaded(folder, tmp_path, monkeypatch):
    recipe, lines = small_recipe(standing), []
    monkeypatch.setattr(loop, "LOG_SECONDS", EveryThird())
    budget = Budget(steps=5, validate_every=2, save_every=9)
    progress = train(recipe, folder, tmp_path, budget, device="cpu", precision="no", report=lines.append)
    first, second = (line for line in lines if " step " in line)  # the second one speaks of both stages
    assert "blurred" in first and "flow" in first and "restored" not in first
    assert "step 4" in second and "blurred" in second and "restored" in second
    stages = [entry["stage"] for entry in progress.history]
    assert stages == ["degradation", "restoration", "restoration"]
    for entry in progress.history:
        assert 0 < entry["psnr"] < entry["bicubic"] < 60 and 0 < entry["blurred"] < 60 and entry["reduced"] > 20
    assert progress.best == max(entry["psnr"] for entry in progress.history)
    assert list((tmp_path / "sheets").glob("*.png"))
    path = tmp_path / "fmanet.safetensors"
    assert checkpoints.load(path).config == SMALL
    with safe_open(path, "pt") as file:
        assert file.metadata()["recipe"] == '["degradation", "restoration"]'


def test_folders_like_reds(tmp_path):
    write_reds(tmp_path / "reds", (0, 1, 2, 3, 4, 5), ("sharp", "blur_bicubic/X4"))
    recipe = small_recipe()
    recipe.stages = tuple(replace(stage, patch=12) for stage in recipe.stages)
    assert isinstance(recipe.sampler(tmp_path / "reds", torch.device("cpu"), 0), RedsSampler)
    budget = Budget(steps=3, validate_every=9, save_every=9)
    progress = train(recipe, tmp_path / "reds", tmp_path / "out", budget, device="cpu", precision="no")
    assert progress.samples == 6
    with safe_open(tmp_path / "out" / "fmanet.safetensors", "pt") as file:
        assert file.metadata()["data"] == "clips reds, 5 of them, REDS4 left out"


def test_half_precision_leaves_what_is_compared_alone(batch):
    recipe = small_recipe(standing).eval()
    with torch.no_grad(), torch.autocast("cpu", torch.bfloat16):
        half, terms = recipe(batch, SECOND)
    with torch.no_grad():
        whole, _ = recipe(batch, SECOND)
    assert half.dtype == torch.float32 and all(term.dtype == torch.float32 for term in terms.values())
    assert float(half) == pytest.approx(float(whole), rel=0.02)


def test_two_processes(folder, tmp_path):
    two_processes("train.test_fmanet_training", folder, tmp_path)


def test_networks_that_cannot_be_trained():
    with pytest.raises(InputError, match="This network sees 5 frames; the samples have 3"):
        FMANetRecipe(replace(SMALL, channels=90, frames=5))
    with pytest.raises(InputError, match=r"lack what only training needs \(a_conv, f_conv\): start from a file"):
        FMANetRecipe(replace(SMALL, training_heads=False))


def test_command_line(folder, tmp_path, capsys):
    size = ["--channels", "18", "--blocks", "1", "--dense-blocks", "1", "--growth", "4"]
    common = ["--packs", str(folder), "--batch", "1", "--patch", "16", "--device", "cpu", "--precision", "no"]
    new = ["train", "fmanet", *common, "--out", str(tmp_path / "new"), "--steps", "2", "--flow", "dis"]
    assert main([*new, *size]) == 0, capsys.readouterr().err
    path = tmp_path / "new" / "fmanet.safetensors"
    config = checkpoints.load(path).config
    assert (config.channels, config.blocks, config.dense_blocks, config.growth, config.hidden) == (18, 1, 1, 4, 47)
    assert (config.degradation_kernel, config.restoration_kernel, config.training_heads) == (20, 5, True)
    tuned = ["train", "fmanet", *common, "--out", str(tmp_path / "tuned"), "--from", str(path), "--flow", "none"]
    assert main([*tuned, "--steps", "1", "--stages", "restoration"]) == 0, capsys.readouterr().err
    assert "restoration 0% step 1" in (said := capsys.readouterr().err)
    assert "rate 4e-07" in said  # a tenth of 2e-4, at the beginning of the rise: a fiftieth
    assert main([*tuned, "--steps", "1", "--channels", "36"]) != 0
    assert "--channels is for a new network; the one of --from has its own" in capsys.readouterr().err
    assert main([*new, "--channels", "40"]) != 0
    assert "40 channels: use a multiple of 18, such as 36, 54 or 90 (default 90)" in capsys.readouterr().err
    assert main([*new, "--reds", str(tmp_path)]) != 0
    assert "training needs --packs DIR, --clips DIR or --reds DIR: give one of them" in capsys.readouterr().err
    assert main([*new[:2], *new[4:], "--patch", "8"]) != 0
    assert "patches of 8 pixels: use 16 or more (default 64)" in capsys.readouterr().err
