"""Training of the choosing network: stored guesses, batches of them however turned, and that it learns to choose."""

import json
from dataclasses import replace

import numpy as np
import pytest
import torch
from safetensors import safe_open
from train.scenes import pan, write_packs

from comfy_fusionfft import api
from comfy_fusionfft.cli import main
from comfy_fusionfft.contract import Flow
from comfy_fusionfft.errors import InputError
from comfy_fusionfft.families.multiflow import MultiFlowConfig, candidates
from comfy_fusionfft.families.multiflow.candidates import SEARCHES, SHRINK, prepare, search
from comfy_fusionfft.families.multiflow.config import detect
from comfy_fusionfft.families.multiflow.flow import MultiFlow
from comfy_fusionfft.families.multiflow.recipe import STAGES, MultiFlowRecipe, blended
from comfy_fusionfft.host import PlainHost
from comfy_fusionfft.train.chains import links, path_of, read_chains
from comfy_fusionfft.train.data import is_held_out
from comfy_fusionfft.train.guess_data import CandidateSampler
from comfy_fusionfft.train.guess_validate import Validation
from comfy_fusionfft.train.guesses import FOLDER, add_candidates, window_candidates
from comfy_fusionfft.train.loop import Budget, train
from comfy_fusionfft.train.pack import read_index

STEP, COUNT, CROP = 2, 7, 64
SIZE = (72, 88)
SMALL = MultiFlowConfig(widths=(8, 12, 16), fine=8)
TINY = (replace(STAGES[0], batch=2, crop=CROP, rate=1e-2),)
INNER = (..., slice(20, -20), slice(20, -20))


def trained_on(window):
    return not is_held_out(window.clip)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("packs")
    write_packs(folder, {f"{i}.mp4": pan(COUNT, *SIZE, STEP, i) for i in range(14)}, motion=float(STEP))
    add_candidates(folder, spacings=(2, 4), wanted=trained_on)
    assert any(is_held_out(window.clip) for window in read_index(folder))
    return folder


def decibels(one, other):
    return -10 * (one - other)[INNER].square().mean((1, 2, 3)).log10()


# -------------------------------------------------------------------------------------------- what is stored


def test_guesses_are_those_of_every_pair_in_pixels_of_the_half(folder):
    stack = np.stack(pan(5, *SIZE, STEP, 3))
    made = window_candidates(stack, (2, 4))
    assert made.shape == (3, len(SEARCHES), 2, 2, SIZE[0] // 2, SIZE[1] // 2) and made.dtype == torch.float16
    for (a, b), pair in zip(links(5, (2, 4)), made.float(), strict=True):
        there = pair[0, :, :, 10:-10, 16:-16].mean((2, 3))
        want = torch.tensor([[-1.0, 0.0], [1.0, 0.0]]) * STEP * (b - a) / SHRINK
        assert torch.allclose(there, want, atol=0.1)
    grey = [np.rint(picture @ (0.299, 0.587, 0.114)).astype(np.uint8) for picture in stack[[0, 4]]]
    again = torch.from_numpy(search(*map(prepare, grey))).permute(0, 1, 4, 2, 3)
    assert (again - made[2]).abs().mean() < 0.05


def test_the_store_goes_on_where_it_stopped(folder, tmp_path):
    write_packs(tmp_path, {f"{i}.mp4": pan(3, *SIZE, STEP, i) for i in range(3)})
    said = []
    assert add_candidates(tmp_path, spacings=(2,), limit=1) == 1
    assert add_candidates(tmp_path, spacings=(2,), max_mib=0, report=said.append) == 0
    assert said == ["candidates: 0 MiB are full, 2 windows left out"]
    assert add_candidates(tmp_path, spacings=(2,)) == 2 and add_candidates(tmp_path, spacings=(2,)) == 0
    flow, spacings = read_chains(path_of(tmp_path, 2, FOLDER))
    assert spacings == (2,) and len(flow) == 1


# --------------------------------------------------------------------------------------------------- batches


def along(batch, kind, velocity=None):
    """Both frames brought to the instants along one guess."""
    velocity = candidates.at_times(batch.found, batch.time)[0] if velocity is None else velocity
    t = batch.time.view(-1, 1, 1, 1)
    flow = SHRINK * torch.cat((-t * velocity[:, kind], (1 - t) * velocity[:, kind]), 1)
    flow = torch.nn.functional.interpolate(flow, scale_factor=SHRINK, mode="bilinear")
    return blended(batch.left, batch.right, Flow(flow, torch.zeros_like(flow[:, :1])))[1]


def test_guesses_lead_to_the_truth_however_turned(folder):
    sampler = CandidateSampler(folder, seed=1)
    directions = set()
    for _ in range(12):
        batch = sampler.draw(4, CROP, border=8, grain=0)
        assert batch.found.shape == (4, len(SEARCHES), 2, 2, CROP // 2, CROP // 2)
        velocity = candidates.at_times(batch.found, batch.time)[0]
        for kind in (0, 1, 2, 3, 10, 11):  # the whole picture, in its margin, the plane: each both ways
            for view in along(batch, kind, velocity):
                assert decibels(view, batch.truth).min() > 33
        wrong = along(batch, 0, -velocity)
        assert max(decibels(view, batch.truth).max() for view in wrong) < 30
        mean = batch.found[:, 0, 0, :, 12:-12, 12:-12].mean((2, 3))
        directions |= {(int(axis), bool(way[axis] > 0)) for way in mean for axis in way.abs().argmax()[None]}
    assert len(directions) == 4  # mirrored, transposed, played backwards


def test_guesses_are_cut_where_the_pictures_are(folder):
    sampler = CandidateSampler(folder, seed=7)
    place = torch.stack(torch.meshgrid(*map(torch.arange, SIZE), indexing="ij"))  # (2, H, W): y, x
    sampler.chains.frames[0] = torch.cat((place, place[:1])).to(torch.uint8).expand(COUNT, -1, -1, -1)
    stored = sampler.chains.flow[0]
    sampler.chains.flow[0] = (place[:, ::2, ::2] / SHRINK).expand_as(stored)
    seen = set()
    for _ in range(8):
        pictures, found, time = sampler._part((0, 4, 0, 1), CROP)
        assert float(time) == 0.25
        assert torch.equal(found[0, 0] * SHRINK, pictures[0, :2, ::2, ::2].float())
        seen.add(tuple(pictures[0, :2, 0, 0].tolist()))
    assert len(seen) > 3


def test_instants_of_all_kinds_are_drawn(folder):
    sampler = CandidateSampler(folder, seed=2)
    times = torch.cat([sampler.draw(8, CROP).time for _ in range(6)])
    assert {round(float(time), 2) for time in times} == {0.25, 0.5, 0.75}


def test_the_same_seed_draws_the_same(folder):
    first, second, other = (CandidateSampler(folder, seed=seed) for seed in (3, 3, 9))
    first.draw(2, CROP), second.draw(2, CROP)
    other.restore(first.state())
    batches = [each.draw(2, CROP, grain=1.0) for each in (first, second, other)]
    for batch in batches[1:]:
        assert torch.equal(batch.left, batches[0].left) and torch.equal(batch.found, batches[0].found)


def test_the_border_counts_less(folder):
    weight = CandidateSampler(folder, seed=4).draw(1, CROP, border=10).weight[0, 0]
    assert weight[:10].max() == weight[:, -10:].max() == weight.min() < weight[10:-10, 10:-10].min() == 1


def test_packs_without_guesses_are_refused(tmp_path):
    write_packs(tmp_path, {"a.mp4": pan(COUNT, *SIZE, STEP)})
    with pytest.raises(InputError, match="to train on"):
        CandidateSampler(tmp_path)


# -------------------------------------------------------------------------------------------------- learning


def test_it_learns_to_leave_a_search_that_errs(folder):
    recipe = MultiFlowRecipe(SMALL, TINY)
    batch = recipe.draw(CandidateSampler(folder, seed=5), TINY[0])
    found = batch.found.clone()
    found[:, 0] += 3.0
    batch = replace(batch, found=found)
    optimizer = torch.optim.Adam(recipe.parameters(), lr=TINY[0].rate)
    losses, gains = [], []
    for _ in range(25):
        loss, terms = recipe(batch, TINY[0])
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(float(terms["loss"]))
        gains.append(float(terms["gain"]))
    assert min(losses[-5:]) < 0.9 * losses[0]
    assert gains[0] > 0 and max(gains[-5:]) > gains[0] + 1


def test_every_term_counts_with_its_weight(folder):
    recipe = MultiFlowRecipe(SMALL, TINY)
    batch = recipe.draw(CandidateSampler(folder, seed=6), TINY[0])
    weights = {"picture": 2.0, "decibels": 0.5, "views": 3.0, "guess": 5.0}
    loss, terms = recipe(batch, replace(TINY[0], **weights))
    want = 2 * terms["picture"] - 0.5 * terms["psnr"] + 3 * terms["alone"] + 5 * terms["guess"]
    assert float(loss.detach()) == pytest.approx(float(want), rel=1e-4)
    assert all(term.isfinite() and not term.requires_grad for term in terms.values())


def test_validation_is_of_held_out_clips_and_sees_what_was_gained(folder):
    kept = Validation.load(folder, "cpu")
    assert {d for *_, d in kept.samples} == {2, 4}
    scores, rows = kept.check(MultiFlowRecipe(SMALL).net)
    assert {"psnr", "psnr2", "gain2", "worst2", "psnr4", "gain4", "worst4"} == set(scores)
    assert scores["psnr"] > 25 and scores["worst2"] <= scores["gain2"] and rows
    better, _ = kept.check(lambda left, right, velocity, trust, mask, time: still(velocity))
    assert better["gain2"] < -3


def still(velocity):
    """A network that takes nothing to move."""
    size = [SHRINK * side for side in velocity.shape[-2:]]
    return Flow(torch.zeros(1, 4, *size), torch.zeros(1, 1, *size))


def test_packs_without_held_out_clips_have_no_validation(tmp_path):
    names = [name for name in (f"{i}.mp4" for i in range(20)) if not is_held_out(name)][:1]
    write_packs(tmp_path, {name: pan(COUNT, *SIZE, STEP) for name in names})
    assert Validation.load(tmp_path, "cpu") is None
    recipe = MultiFlowRecipe(SMALL, TINY)
    assert recipe.validate(recipe.validation(tmp_path, torch.device("cpu")), TINY[0]) == ({"psnr": 0.0}, [])


def test_it_trains_writes_and_goes_on(folder, tmp_path):
    def run(steps):
        torch.manual_seed(0)
        recipe = MultiFlowRecipe(SMALL, TINY)
        budget = Budget(steps=steps, validate_every=99, save_every=99)
        return recipe, train(recipe, folder, tmp_path, budget, device="cpu", precision="no")

    recipe, progress = run(3)
    assert progress.step == 3 and progress.samples == 6
    assert recipe.net.choose.last.weight.detach().abs().max() > 0
    with safe_open(tmp_path / "multiflow.safetensors", "pt") as file:
        metadata, state = file.metadata(), {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    assert detect(state, metadata) == SMALL
    assert all(tensor.dtype == torch.float16 for tensor in state.values())
    assert {"psnr", "psnr2", "gain2", "worst4"} <= set(json.loads(metadata["validation"]))
    assert list((tmp_path / "sheets").glob("*.png"))
    source = api.load_flow(tmp_path / "multiflow.safetensors", host=PlainHost("cpu", "float32"))
    assert isinstance(source, MultiFlow) and source.net.config == SMALL
    assert run(4)[1].step == 4


def test_command_line_finds_guesses_trains_and_starts_from_a_file(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "packs").mkdir()
    write_packs(tmp_path / "packs", {f"{i}.mp4": pan(5, *SIZE, STEP, i) for i in range(3)})
    words = ["train", "multiflow", "--packs", "packs", "--steps", "1", "--batch", "2", "--crop", "64", "--lr", "1e-3"]
    words += ["--device", "cpu", "--precision", "no"]
    assert main([*words, "--out", "run"]) == 0
    assert "1 steps, 2 samples" in capsys.readouterr().err
    assert len(list((tmp_path / "packs" / FOLDER).glob("*.safetensors"))) == 3
    assert main([*words, "--out", "next", "--from", "run/multiflow.safetensors"]) == 0
    states = [api.load_flow(f"{out}/multiflow.safetensors", host=PlainHost("cpu")).net for out in ("run", "next")]
    assert torch.allclose(*(net.enter.weight.float() for net in states), atol=0.02)


def test_command_line_wants_one_source_of_pictures(capsys):
    assert main(["train", "multiflow", "--out", "run", "--steps", "1"]) == 1
    assert "training needs --packs DIR or --clips DIR" in capsys.readouterr().err
