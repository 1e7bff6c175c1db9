"""Training of WaveletVFI: what is drawn, its losses, the temperature, and that it learns in both stages."""

from dataclasses import replace

import pytest
import torch
import torch.nn.functional as F
from safetensors import safe_open
from train.launch import two_processes
from train.scenes import pan, write_packs

from comfy_fusionfft import checkpoints
from comfy_fusionfft.cli import main
from comfy_fusionfft.contract import Flow
from comfy_fusionfft.families.waveletvfi import WaveletVFIConfig
from comfy_fusionfft.families.waveletvfi.recipe import STAGES, WaveletVFIRecipe, bands, census, charbonnier
from comfy_fusionfft.ops.warp import blend
from comfy_fusionfft.train.data import Packs
from comfy_fusionfft.train.loop import Budget, train
from comfy_fusionfft.train.middles import Middles, MiddleSampler

SMALL = WaveletVFIConfig(
    pyramid=(8, 12, 16, 16), decoders=(12, 16, 16, 24), context=(6, 8, 10, 12), features=(12, 16, 24, 36)
)
STATIC, DYNAMIC = (replace(stage, batch=2, crop=64, rate=3e-3) for stage in STAGES)


def small_recipe() -> WaveletVFIRecipe:
    return WaveletVFIRecipe(SMALL, (STATIC, DYNAMIC))


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("packs")
    write_packs(folder, {f"{i}.mp4": pan(5, 72, 88, 2, i) for i in range(14)}, motion=2.0)
    return folder


def batch(size=64, count=2, step=2) -> Middles:
    clips = [pan(3, size, size, step, seed) for seed in range(count)]
    return Middles(
        *(torch.stack([torch.from_numpy(clip[i]).permute(2, 0, 1) / 255 for clip in clips]) for i in range(3))
    )


def test_only_middles_are_drawn(folder):
    sampler = MiddleSampler(Packs(folder), seed=3)
    assert sampler._triples
    assert all(b - k == k - a for _, a, k, b, *_ in sampler._triples)
    again = MiddleSampler(Packs(folder), seed=3)
    for _ in range(6):
        one, other = sampler.draw_middles(2, 64), again.draw_middles(2, 64)
        assert all(map(torch.equal, one, other))
        assert one.gt.shape == one.img0.shape == one.img1.shape == (2, 3, 64, 64)


def test_losses():
    a, b = torch.rand(2, 3, 24, 24), torch.rand(2, 3, 24, 24)
    assert charbonnier(a, a).tolist() == pytest.approx([1e-3] * 2, rel=1e-3)
    assert charbonnier(a + 0.2, a).tolist() == pytest.approx([0.2] * 2, rel=1e-3)
    assert census(a, a).tolist() == [0, 0]
    assert (census(a, a[:, [2, 0, 1]]) < 1e-6).all()  # sees brightness alone
    assert (census(a, b) > 10 * census(a, a + 0.001 * b)).all()
    inner = torch.zeros(2, 1, 24, 24)
    inner[..., 4:-4, 4:-4] = 1
    assert (census(a + 0.1, a) > 0).all()  # the border is padded with black
    truth = bands(a[..., :16, :16])
    assert truth[0].shape == (2, 3, 1, 1) and [d.shape[-1] for d in truth[1]] == [8, 4, 2, 1]
    assert torch.allclose(truth[0][..., 0, 0], 16 * a[..., :16, :16].mean((2, 3)), atol=1e-4)


def test_census_as_written_down():
    """Pixel by pixel, against the definition."""
    made, truth = torch.rand(2, 1, 3, 9, 10)

    def sign(picture, y, x, dy, dx):
        grey = F.pad(picture.mean(1)[0], (3, 3, 3, 3))
        v = grey[y + 3 + dy, x + 3 + dx] - grey[y + 3, x + 3]
        return v / (0.81 + v * v) ** 0.5

    total = 0.0
    for y in range(3, 6):
        for x in range(3, 7):
            for dy in range(-3, 4):
                for dx in range(-3, 4):
                    square = (sign(made, y, x, dy, dx) - sign(truth, y, x, dy, dx)) ** 2
                    total += square / (0.1 + square) / 49
    assert float(census(made, truth)) == pytest.approx(float(total) / 90, rel=1e-4)


def test_the_temperature_falls_and_is_used(monkeypatch):
    recipe, used = small_recipe(), []
    real = F.gumbel_softmax
    monkeypatch.setattr(F, "gumbel_softmax", lambda logits, tau: used.append(tau) or real(logits, tau))
    for recipe.part in (0.0, 0.1, 0.25, 0.3, 0.9):
        terms = recipe(batch(), DYNAMIC)[1]
        assert float(terms["temperature"]) == pytest.approx(used[-1])
    assert used == pytest.approx([1, 0.8, 0.5, 0.4, 0.4])


def test_the_loop_says_how_far_a_stage_has_come(folder, tmp_path):
    recipe, heard = small_recipe(), []
    recipe.register_forward_pre_hook(lambda module, inputs: heard.append((inputs[1].name, module.part)))
    train(recipe, folder, tmp_path, Budget(steps=8, validate_every=99, save_every=99), device="cpu", precision="no")
    assert [name for name, _ in heard] == ["static"] * 6 + ["dynamic"] * 2
    assert [part for _, part in heard] == pytest.approx([i / 6 for i in range(6)] + [0, 0.5])


def test_a_stage_trains_what_it_should():
    for stage, choosing in ((STATIC, False), (DYNAMIC, True)):
        recipe = small_recipe()
        loss, terms = recipe(batch(), stage)
        loss.backward()
        moved = {name for name, p in recipe.net.named_parameters() if p.grad is not None and p.grad.any()}
        still = {name for name, _ in recipe.net.named_parameters()} - moved
        assert all("classifier" in name for name in still), still
        assert bool(still) is not choosing
        assert {"loss", "picture", "wavelet", "cost", "psnr"} <= terms.keys()


def test_what_an_answer_costs_teaches_the_classifier_alone():
    cheap, dear = ({}, {})
    for weight, grads in ((0.0, cheap), (1e6, dear)):
        torch.manual_seed(5)
        recipe = small_recipe()
        with torch.no_grad():  # details that thresholds leave out, or all cost the same
            for level in (1, 2, 3, 4):
                recipe.net.get_submodule(f"conv{level}_h").weight.mul_(200)
        torch.manual_seed(6)
        recipe(batch(), replace(DYNAMIC, cost=weight))[0].backward()
        grads |= {name: p.grad.clone() for name, p in recipe.net.named_parameters()}
    shared = {name for name in cheap if name.startswith(("conv", "contextnet", "ifnet.decoder1", "ifnet.decoder2"))}
    assert all(torch.equal(cheap[name], dear[name]) for name in shared)
    choice = "ifnet.decoder4.classifier.5.weight"
    assert dear[choice].norm() > 100 * cheap[choice].norm()


def test_a_few_steps_on_one_batch_lower_the_loss():
    recipe, sample = small_recipe(), batch()
    optimizer = torch.optim.AdamW(recipe.parameters(), lr=5e-3)
    decibels = []
    for step in range(60):
        optimizer.zero_grad()
        recipe.part = max(0.0, (step - 45) / 15)
        loss, terms = recipe(sample, STATIC if step < 45 else DYNAMIC)
        loss.backward()
        optimizer.step()
        decibels.append(float(terms["psnr"]))
    assert decibels[0] < 15
    assert decibels[44] > decibels[0] + 4
    assert decibels[-1] > decibels[44] - 0.5


def test_trained_saved_and_run(folder, tmp_path):
    recipe = small_recipe()
    progress = train(
        recipe, folder, tmp_path, Budget(steps=4, validate_every=2, save_every=9), device="cpu", precision="no"
    )
    assert progress.step == 4 and progress.history[-1]["stage"] == "dynamic"
    assert {"psnr", "averaging", "cost"} <= progress.history[-1].keys()
    path = tmp_path / "waveletvfi.safetensors"
    assert checkpoints.load(path).config == SMALL
    with safe_open(path, "pt") as file:
        assert file.metadata()["recipe"] == '["static", "dynamic"]'
    made, flow = recipe.predict(torch.rand(1, 3, 50, 77), torch.rand(1, 3, 50, 77), torch.tensor([0.5]), DYNAMIC)
    assert made.shape == (1, 3, 50, 77) and isinstance(flow, Flow)
    assert blend(torch.rand(1, 3, 50, 77), torch.rand(1, 3, 50, 77), flow).shape == made.shape


def test_half_precision_does_not_round_brightness():
    recipe, sample = small_recipe().eval(), batch()
    with torch.no_grad(), torch.autocast("cpu", torch.bfloat16):
        _, half = recipe(sample, STATIC)
        low = recipe.net(*sample[::2], 0.0)[0].low
    with torch.no_grad():
        _, whole = recipe(sample, STATIC)
        exact = recipe.net(*sample[::2], 0.0)[0].low
    assert low.dtype == torch.float32
    assert (low - exact).abs().max() / 16 < 1e-3
    assert abs(float(half["psnr"] - whole["psnr"])) < 0.05


def test_two_processes(folder, tmp_path):
    two_processes("train.test_waveletvfi_training", folder, tmp_path)


def test_the_command_checks_the_crop(folder, tmp_path, capsys):
    command = ["train", "waveletvfi", "--packs", str(folder), "--out", str(tmp_path), "--steps", "1", "--crop", "50"]
    assert main(command) != 0
    assert "crops of 50 pixels: use a multiple of 32 from 64 on" in capsys.readouterr().err
