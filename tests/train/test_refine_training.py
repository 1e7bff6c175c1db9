"""Training of the refining network: it learns to mend flow that is wrong, from a teacher and from pictures."""

import json

import numpy as np
import pytest
import torch
from safetensors import safe_open
from train.scenes import pan, write_packs
from train.test_fusion import COUNT, STEP, exact

from comfy_fusionfft.cli import main
from comfy_fusionfft.families.refine.config import RefineConfig, detect
from comfy_fusionfft.families.refine.recipe import RefineRecipe, Stage, lesson_loss
from comfy_fusionfft.train.chain_data import ChainDraw, Chains, ChainSampler
from comfy_fusionfft.train.chains import add_chains, add_taught, path_of, read_chains
from comfy_fusionfft.train.data import is_held_out
from comfy_fusionfft.train.loop import Budget, train

SMALL = RefineConfig(features=8, state=8, width=16, radius=2, fine=8)
WRONG = 1.5


def wrong(source, target):
    return WRONG * exact(source, target)


def teacher(first, second):
    grey = [(picture[0].mean(0) * 255).numpy().astype(np.uint8) for picture in (first, second)]
    ways = exact(*grey), exact(*grey[::-1])
    return tuple(torch.from_numpy(way).permute(2, 0, 1)[None] for way in ways)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("packs")
    write_packs(folder, {f"{i}.mp4": pan(COUNT, 72, 88, STEP, i) for i in range(20)}, motion=float(STEP))
    trained = {"wanted": lambda window: not is_held_out(window.clip)}
    add_chains(folder, wrong, **trained)
    add_taught(folder, teacher, limit=8, **trained)
    return folder


def test_lessons_lie_beside_the_chains_and_leave_others_aside(folder):
    taught = Chains(folder, taught=True)
    assert len(taught.windows) == 8 < len(Chains(folder).windows)
    number = int(next(folder.glob("taught/*.safetensors")).stem)
    lesson, mine = (read_chains(path_of(folder, number, name))[0] for name in ("taught", "chains"))
    assert lesson.shape == mine.shape
    assert lesson.abs().max() > 3 and torch.allclose(mine.float(), WRONG * lesson.float(), atol=1e-2)


def test_however_turned_the_lesson_is_the_true_motion(folder):
    sampler = ChainSampler(Chains(folder, taught=True), seed=3)
    for _ in range(6):
        batch = sampler.draw(ChainDraw(batch=4, crop=64, border=8, spoilt=0, grain=0, anchors=(1.0,)))
        flow, trust = batch.taught
        inner = (..., slice(20, -20), slice(20, -20))
        given = batch.x.motion[:, 0].flatten(1, 2)[inner]
        assert torch.allclose(given, WRONG * flow.flow[inner], atol=0.3) and given.abs().mean() > 1
        assert trust[..., 20:-20, 20:-20].mean() > 0.9


def test_a_lesson_that_was_learnt_costs_least():
    wanted = torch.randn(2, 4, 32, 32)
    trust = torch.ones(2, 2, 32, 32)
    known = [torch.nn.functional.avg_pool2d(wanted, cell) for cell in (8, 2)]
    changes = [torch.cat((flow, torch.zeros_like(flow[:, :1])), 1) for flow in known]
    losses = [lesson_loss([share * change for change in changes], wanted, trust) for share in (1.0, 0.5, 0.0)]
    assert losses[0] < losses[1] < losses[2]
    nowhere = trust.clone()
    nowhere[:, 1] = 0
    changes[0][:, 2:4] += 5  # where the teacher is not sure, nothing is asked
    assert lesson_loss(changes, wanted, nowhere) == pytest.approx(float(losses[0]), abs=1e-4)


def test_it_learns_to_mend_flow_writes_and_goes_on(folder, tmp_path):
    stages = (Stage(batch=4, crop=64, rate=2e-2, spoilt=0.0),)

    def run(steps):
        torch.manual_seed(0)
        recipe = RefineRecipe(SMALL, stages)
        budget = Budget(steps=steps, validate_every=999, save_every=999)
        return recipe, train(recipe, folder, tmp_path, budget, device="cpu", precision="no")

    recipe, _ = run(120)
    batch = recipe.draw(recipe.sampler(folder, torch.device("cpu"), 9), stages[0])
    with torch.no_grad():
        learnt = float(recipe(batch, stages[0])[1]["lesson"])
        start = float(RefineRecipe(SMALL, stages)(batch, stages[0])[1]["lesson"])
    assert learnt < start - 0.4  # two thirds of the error are left, or less
    with safe_open(tmp_path / "refine.safetensors", "pt") as file:
        metadata, state = file.metadata(), {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    assert detect(state, metadata) == SMALL
    assert {"psnr", "psnr2", "gain2"} <= set(json.loads(metadata["validation"]))
    assert run(121)[1].step == 121


def test_without_lessons_pictures_are_the_whole_loss(folder):
    recipe = RefineRecipe(SMALL)
    batch = ChainSampler(Chains(folder), seed=1).draw(ChainDraw(batch=2, crop=64, border=8, anchors=(1.0,)))
    loss, terms = recipe(batch, Stage())
    assert float(loss.detach()) == pytest.approx(float(terms["distance"])) and float(terms["lesson"]) == 0


def test_command_line(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "packs").mkdir()
    write_packs(tmp_path / "packs", {f"{i}.mp4": pan(COUNT, 72, 88, STEP, i) for i in range(3)})
    words = ["train", "refine", "--packs", "packs", "--out", "run", "--steps", "1", "--batch", "2", "--crop", "64"]
    assert main([*words, "--device", "cpu", "--precision", "no"]) == 0
    assert "1 steps, 2 samples" in capsys.readouterr().err
    assert (tmp_path / "run" / "refine.safetensors").is_file()
    assert main([*words, "--teacher", "none.safetensors"]) == 1
    assert "no teacher weights at none.safetensors" in capsys.readouterr().err
