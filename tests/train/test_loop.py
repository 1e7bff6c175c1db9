import json
import os
import signal
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors import safe_open
from train.launch import two_processes
from train.scenes import pan, write_packs

from comfy_fusionfft.errors import CheckpointError, InputError
from comfy_fusionfft.families.rife.config import RIFEConfig
from comfy_fusionfft.families.rife.recipe import STAGES, RIFERecipe
from comfy_fusionfft.train import loop, state
from comfy_fusionfft.train.loop import Budget, schedule, stage_at, train
from comfy_fusionfft.train.optimizer import optimizer_for, orthogonal

ROOT = Path(__file__).resolve().parents[2]
SMALL = RIFEConfig(widths=(16, 16, 16, 16, 16), head_width=4)
TINY = tuple(replace(stage, crop=64, shrinks=(1.0,), batch=2, synthetic=0.5) for stage in STAGES)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("packs")
    # "0.mp4" … "19.mp4": enough names for one to be held out.
    write_packs(folder, {f"{i}.mp4": pan(5, 64, 80, 2, i) for i in range(20)}, motion=2.0)
    return folder


def run(folder, out, steps, **options):
    torch.manual_seed(0)
    recipe = RIFERecipe(SMALL, TINY)
    progress = train(recipe, folder, out, Budget(steps=steps, validate_every=99, save_every=99), device="cpu",
                     precision="no", **options)  # fmt: skip
    return recipe, progress


def test_it_trains_and_writes(folder, tmp_path):
    recipe, progress = run(folder, tmp_path, 6)
    assert progress.step == 6 and progress.samples == 12
    with safe_open(tmp_path / "rife.safetensors", "pt") as file:
        metadata = file.metadata()
        assert set(file.keys()) == set(recipe.net.state_dict())
        assert file.get_tensor("block0.conv0.0.0.weight").dtype == torch.float16
    assert metadata["family"] == "rife" and metadata["steps"] == "6" and metadata["samples"] == "12"
    assert metadata["rife.scales"] == "16 8 4 2 1"
    assert json.loads(metadata["validation"])["averaging"] > 10
    assert list((tmp_path / "sheets").glob("*.png")) and list((tmp_path / "log").rglob("events*"))


def test_resumed_equals_uninterrupted(folder, tmp_path):
    whole, _ = run(folder, tmp_path / "whole", 6)
    stop_after = 3
    calls = []

    def interrupt(line):
        calls.append(line)

    seen = loop.stage_at

    def counted(plan, fraction):
        if round(fraction * 6) == stop_after:
            os.kill(os.getpid(), signal.SIGTERM)
        return seen(plan, fraction)

    loop.stage_at = counted
    try:
        _, progress = run(folder, tmp_path / "parts", 6, report=interrupt)
    finally:
        loop.stage_at = seen
    assert progress.step == stop_after + 1
    assert any("stopped at step 4; the state is in" in line for line in calls)
    resumed, progress = run(folder, tmp_path / "parts", 6)
    assert progress.step == 6
    for (name, a), b in zip(whole.net.named_parameters(), resumed.net.parameters(), strict=True):
        torch.testing.assert_close(a, b, atol=1e-6, rtol=1e-5, msg=name)


def test_state_comes_in_small_files(tmp_path):
    tensors = {f"t{i}": torch.full((2**20,), float(i)) for i in range(9)}  # 4 MiB each
    state.save_state(tmp_path / "state", tensors, {"step": 3})
    state.save_state(tmp_path / "state", tensors, {"step": 4})
    files = list((tmp_path / "state").glob("*.safetensors"))
    assert len(files) == 3 and all(file.stat().st_size <= 16 * 2**20 for file in files)
    loaded, numbers = state.load_state(tmp_path / "state")
    assert numbers == {"step": 4} and torch.equal(loaded["t8"], tensors["t8"])
    assert not list(tmp_path.glob("*.old")) and not list(tmp_path.glob("*.new"))
    files[0].write_bytes(b"broken")
    with pytest.raises(CheckpointError, match="cannot be read .*; remove the folder to start anew"):
        state.load_state(tmp_path / "state")
    sizes = {"a": 10, "big": 100, "b": 10, "c": 10, "d": 20}
    groups = state.shards({name: torch.zeros(size) for name, size in sizes.items()}, limit=100)
    assert groups == [["a"], ["big"], ["b", "c"], ["d"]]
    assert state.load_state(tmp_path / "none") is None


def test_schedule_and_stages():
    assert schedule(0) < schedule(0.02) == 1 > schedule(0.5) > schedule(1) > 0
    assert stage_at(STAGES, 0.3)[0].name == "coarse"
    assert stage_at(STAGES, 0.7) == (STAGES[1], pytest.approx(0.5))
    assert stage_at(STAGES, 1.0) == (STAGES[2], pytest.approx(1.0))
    assert stage_at(STAGES[1:2], 0.25) == (STAGES[1], 0.25)


def test_what_cannot_be_asked(folder, tmp_path):
    with pytest.raises(InputError, match="give minutes or steps, not both"):
        Budget(minutes=1, steps=1)
    with pytest.raises(InputError, match="No stage named final; this recipe has coarse, fine, whole"):
        run(folder, tmp_path, 1, stages=("final",))


def test_updates_are_orthogonal():
    matrices = torch.randn(3, 24, 100)
    values = torch.linalg.svdvals(orthogonal(matrices))
    assert values.min() > 0.5 and values.max() < 1.4
    assert torch.linalg.svdvals(orthogonal(matrices.mT)).min() > 0.5


def test_every_parameter_has_one_optimiser_group():
    net = RIFERecipe(SMALL).net
    groups = optimizer_for(net, 1e-4).param_groups
    seen = [id(p) for group in groups for p in group["params"]]
    assert sorted(seen) == sorted(map(id, net.parameters()))
    assert groups[0]["matrix"] and all(p.ndim == 4 for p in groups[0]["params"])


def small_recipe():
    return RIFERecipe(SMALL, TINY)


def test_two_processes(folder, tmp_path):
    two_processes("train.test_loop", folder, tmp_path)
