import json
from dataclasses import replace

import numpy as np
import pytest
import torch
from safetensors import safe_open
from train.launch import two_processes
from train.scenes import pan, write_packs

from comfy_fusionfft.cli import main
from comfy_fusionfft.errors import InputError
from comfy_fusionfft.families.fusionfft.config import FusionConfig, detect
from comfy_fusionfft.families.fusionfft.fuse import plain_answer
from comfy_fusionfft.families.fusionfft.recipe import STAGES, FusionRecipe
from comfy_fusionfft.train import chain_data
from comfy_fusionfft.train.chain_data import ChainDraw, Chains, ChainSampler
from comfy_fusionfft.train.chain_validate import high_energy, instant
from comfy_fusionfft.train.chains import add_chains, halved, instants, links, path_of, read_chains
from comfy_fusionfft.train.data import is_held_out
from comfy_fusionfft.train.loop import Budget, train
from comfy_fusionfft.train.losses import distance_loss, edge_loss, spectrum_loss
from comfy_fusionfft.train.pack import read_index

STEP, COUNT, CROP = 2, 7, 64
SMALL = FusionConfig(base_channels=32, heads=2, points=2)
TINY = (replace(STAGES[0], crop=CROP, batch=2),)
CLEAN = ChainDraw(batch=4, crop=CROP, border=8, spoilt=0, grain=0, lone=0, anchors=(0.0, 1.0))


def exact(source, target):
    """The motion of ``pan``, told from the pictures: how far the second is shifted against the first."""
    shifts = range(-4 * STEP, 4 * STEP + 1)
    width = source.shape[1]
    inner = source[:, 10 : width - 10].astype(float)
    misses = [np.abs(inner - target[:, 10 + s : width - 10 + s]).mean() for s in shifts]
    flow = np.zeros((*source.shape, 2), np.float32)
    flow[..., 0] = shifts[int(np.argmin(misses))]
    return flow


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("packs")
    write_packs(folder, {f"{i}.mp4": pan(COUNT, 72, 88, STEP, i) for i in range(20)}, motion=float(STEP))
    add_chains(folder, exact, wanted=lambda window: not is_held_out(window.clip))
    return folder


@pytest.fixture(scope="module")
def chains(folder):
    return Chains(folder)


def psnr(a, b, border=16):
    inner = (..., slice(border, -border), slice(border, -border))
    return float(-10 * (a - b)[inner].square().mean().log10())


def test_chains_hold_both_ways_of_every_pair(folder, chains):
    assert links(5) == [(0, 2), (2, 4), (0, 3), (0, 4)]
    flow = chains.flow[0]
    assert flow.shape == (len(links(COUNT)), 2, 2, 36, 44) and flow.dtype == torch.float16
    for (a, b), (ahead, back) in zip(links(COUNT), flow, strict=True):
        assert torch.equal(ahead[0], torch.full_like(ahead[0], -STEP * (b - a)))
        assert torch.equal(back, -ahead)


def test_an_instant_for_every_frame_between_two_of_a_chain():
    assert instants(5, (2, 4)) == [(2, 0, 1), (2, 2, 3), (4, 0, 1), (4, 0, 2), (4, 0, 3)]


def test_spacings_are_read_from_the_file(tmp_path):
    write_packs(tmp_path, {"a.mp4": pan(5, 72, 88, STEP)})
    add_chains(tmp_path, exact, spacings=(4,))
    flow, spacings = read_chains(path_of(tmp_path, 0))
    assert spacings == (4,) and len(flow) == 1 and float(flow[0, 0, 0, 0, 0]) == -4 * STEP


def test_chains_go_on_where_they_stopped_and_stay_within_their_limit(folder, tmp_path):
    write_packs(tmp_path, {f"{i}.mp4": pan(COUNT, 72, 88, STEP, i) for i in range(3)})
    said = []
    assert add_chains(tmp_path, exact, limit=1) == 1
    assert add_chains(tmp_path, exact, max_mib=0, report=said.append) == 0
    assert said == ["chains: 0 MiB are full, 2 windows left out"]
    assert add_chains(tmp_path, exact) == 2 and add_chains(tmp_path, exact) == 0
    assert all(path_of(tmp_path, n).exists() for n in range(3))


def test_half_size_search_speaks_of_whole_pixels():
    flow = halved(exact)(*(picture[..., 0] for picture in pan(2, 72, 90, 4, 1)))
    assert flow.shape == (72, 90, 2) and np.allclose(flow[..., 0], -4) and not flow[..., 1].any()


def test_held_out_clips_are_not_trained_on(folder, chains):
    held = {window.clip for window in read_index(folder) if is_held_out(window.clip)}
    assert held and not held & {window.clip for window in chains.windows}


def test_packs_without_chains_say_what_to_do(tmp_path):
    write_packs(tmp_path, {"a.mp4": pan(COUNT, 72, 88, STEP)})
    with pytest.raises(InputError, match="has no chains to train on; `fusionfft train` finds them"):
        Chains(tmp_path)


@pytest.mark.parametrize("manner", [(1.0, 0.0, 0.0), (0.0, 1.0, 0.0), (0.0, 0.0, 1.0)])
def test_motion_leads_to_the_truth_however_turned(chains, monkeypatch, manner):
    monkeypatch.setattr(chain_data, "MANNERS", manner)
    sampler = ChainSampler(chains, seed=1)
    for _ in range(6):
        batch = sampler.draw(CLEAN)
        assert batch.x.valid[:, 0].all()
        made, views = plain_answer(batch.x)
        assert psnr(made, batch.truth) > 37  # 25 dB when mirrored frames keep their motion
        wrong = plain_answer(batch.x._replace(motion=-batch.x.motion))[0]
        assert psnr(wrong, batch.truth) < 30
        for view in views[:, 0].unbind(1):
            assert psnr(view, batch.truth) > 35


def test_chained_motion_leads_to_the_farther_frames(chains):
    sampler = ChainSampler(chains, seed=2)
    seen = 0
    for _ in range(6):
        batch = sampler.draw(CLEAN)
        far = batch.x.motion[:, 1]  # (B, side, 2, S, S)
        steps = torch.stack((batch.x.time + 1, 2 - batch.x.time), 1)
        near = torch.stack((batch.x.time, 1 - batch.x.time), 1)
        for n, side in batch.x.valid[:, 1].nonzero().tolist():
            ratio = far[n, side].abs().amax(0).median() / batch.x.motion[n, 0, side].abs().amax(0).median()
            assert float(ratio) == pytest.approx(float(steps[n, side] / near[n, side]), rel=0.02)
            seen += 1
    assert seen > 6


def test_the_same_seed_draws_the_same(chains):
    how = replace(CLEAN, spoilt=0.5, grain=0.5, lone=0.3, anchors=ChainDraw().anchors)
    first, second = ChainSampler(chains, seed=3), ChainSampler(chains, seed=3)
    first.draw(how), second.draw(how)
    other = ChainSampler(chains, seed=9)
    other.restore(first.state())
    batches = [each.draw(how) for each in (first, second, other)]
    for batch in batches[1:]:
        assert torch.equal(batch.x.motion, batches[0].x.motion) and torch.equal(batch.grainy, batches[0].grainy)


def test_a_missing_side_takes_all_farther_frames_of_it(chains):
    sampler = ChainSampler(chains, seed=4)
    valid = sampler.draw(replace(CLEAN, lone=1.0)).x.valid
    assert valid[:, 0].all() and not valid[:, 1:].any()


def test_grain_is_of_one_strength_but_another_in_every_frame(chains):
    sampler = ChainSampler(chains, seed=5)
    batch = sampler.draw(replace(CLEAN, batch=8, grain=1.0))
    grain = (batch.grainy - batch.truth).flatten(1)
    assert (grain.std(1) > 0).all()
    other = (batch.x.frames[:, 0, 0] - batch.truth).flatten(1)
    cosine = torch.nn.functional.cosine_similarity(grain - grain.mean(1, True), other - other.mean(1, True))
    assert cosine.abs().max() < 0.1


def test_losses_are_least_at_the_truth_and_weigh_samples_alike():
    truth = torch.rand(2, 3, 64, 64)
    weight = torch.ones(1, 1, 64, 64)
    for loss in (distance_loss, edge_loss):
        near, far = (loss(truth + e * torch.randn_like(truth), truth, weight) for e in (0.01, 0.1))
        assert loss(truth, truth, weight) < near < far
    error = torch.randn(1, 3, 64, 64)
    pair = torch.cat((0.02 * error, 0.2 * error))
    pair.requires_grad_()
    distance_loss(truth + pair, truth, weight).backward()
    pull = (pair.grad * pair.detach()).sum((1, 2, 3))
    assert 0.5 < float(pull[0] / pull[1]) < 1.0  # by the plain square it would be 0.01


def test_spectrum_asks_for_strength_of_texture_not_for_place():
    texture = torch.randn(1, 3, 128, 128) * 0.1 + 0.5
    moved, blurred = texture.roll((5, 9), (2, 3)), torch.nn.functional.avg_pool2d(texture, 3, 1, 1)
    other = torch.randn_like(texture) * 0.1 + 0.5
    assert spectrum_loss(moved, texture) < 0.05
    assert spectrum_loss(other, texture) < 0.15 * spectrum_loss(blurred, texture)


def test_validation_asks_as_when_interpolating():
    stack = np.stack(pan(13, 96, 128, STEP, 7))
    for middle, d, time in ((6, 2, 0.5), (4, 4, 0.5), (5, 4, 0.75), (6, 4, 0.25)):
        x, truth = instant(stack, middle, d, 3, "cpu")
        assert float(x.time) == time and x.frames.dtype == torch.uint8
        made, _ = plain_answer(x._replace(frames=x.frames.float() / 255), quadratic=False)
        assert psnr(made, truth) > 33
    assert x.valid[0].tolist() == [[True, True], [True, False], [False, False]]  # frames 5, 9; 1, 13; -3, 17 of 13


def test_high_energy_falls_when_blurred():
    picture = torch.rand(1, 3, 64, 64)
    assert high_energy(torch.nn.functional.avg_pool2d(picture, 3, 1, 1)) < 0.2 * high_energy(picture)


def test_it_trains_writes_and_goes_on(folder, tmp_path):
    def run(steps):
        torch.manual_seed(0)
        recipe = FusionRecipe(SMALL, TINY)
        budget = Budget(steps=steps, validate_every=99, save_every=99)
        return recipe, train(recipe, folder, tmp_path, budget, device="cpu", precision="no")

    recipe, progress = run(3)
    assert progress.samples == 6
    with safe_open(tmp_path / "fusionfft.safetensors", "pt") as file:
        metadata, state = file.metadata(), {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    assert detect(state, metadata) == SMALL
    assert all(tensor.dtype == torch.float16 for tensor in state.values())
    scores = json.loads(metadata["validation"])
    assert {"psnr", "psnr2", "gain2", "quadratic2", "better2", "energy"} <= set(scores)
    assert list((tmp_path / "sheets").glob("*.png"))
    _, progress = run(4)
    assert progress.step == 4
    moved = recipe.net.decoder.gates.weight.detach().abs().max()
    assert 0 < float(moved) < 3 * TINY[0].rate * recipe.gentle[recipe.net.decoder.gates] * 1.5


def test_optional_losses_enter_with_their_weights(chains):
    batch = ChainSampler(chains, device="cpu", seed=1).draw(CLEAN)
    stage = TINY[0]

    def loss(stage, perceptual=None):
        torch.manual_seed(0)
        return float(FusionRecipe(SMALL, TINY, perceptual)(batch, stage)[0].detach())

    plain = loss(stage)
    constant = lambda made, truth: made.mean() * 0 + 2.0  # noqa: E731
    assert loss(stage, constant) == pytest.approx(plain + 2.0 * stage.perceptual)
    # before anything is learnt the picture is the bent plain blend: log of a small distance, far below 0
    assert loss(replace(stage, prior=0.1)) < plain - 0.1


def small_recipe():
    return FusionRecipe(SMALL, TINY)


def test_two_processes(folder, tmp_path):
    two_processes("train.test_fusion", folder, tmp_path)


def test_command_line_packs_finds_flow_and_trains(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "packs").mkdir()
    write_packs(tmp_path / "packs", {f"{i}.mp4": pan(COUNT, 72, 88, STEP, i) for i in range(4)})
    words = ["train", "fusionfft", "--packs", "packs", "--out", "run", "--epochs", "0.05", "--batch_size", "2"]
    words += ["--num_anchors", "2", "--base_channels", "32", "--steps", "2", "3", "--crop", "64", "--lr", "1e-3"]
    words += ["--no-use-temporal-guidance", "--mixed_precision", "no", "--device", "cpu", "--UHD"]
    assert main(words) == 0
    # 4 windows of 3 instants two apart and 4 three apart; 28 · 0.05 / 2 steps
    said = capsys.readouterr().err
    assert "1 steps, 2 samples" in said and "the perceptual loss is off" in said
    with safe_open(tmp_path / "run" / "fusionfft.safetensors", "pt") as file:
        assert not any("guidance" in name for name in file.keys())  # noqa: SIM118


def test_command_line_wants_one_source_and_one_to_five_anchors(capsys):
    assert main(["train", "fusionfft", "--out", "run", "--minutes", "1"]) == 1
    assert "training needs --packs DIR or --clips DIR" in capsys.readouterr().err
    assert main(["train", "fusionfft", "--out", "run", "--minutes", "1", "--gt_path", "x", "--num_anchors", "6"]) == 1
    assert "6 anchors asked for: use 1 to 5" in capsys.readouterr().err
