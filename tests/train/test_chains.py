"""Motion of the instants themselves, as a flow source finds it: stored beside the chains, and drawn from there."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from train.scenes import pan, write_packs
from train.test_fusion import CLEAN, COUNT, CROP, STEP, exact, psnr

from comfy_fusionfft.cli import main
from comfy_fusionfft.contract import Flow
from comfy_fusionfft.families.fusionfft.fuse import plain_answer
from comfy_fusionfft.families.fusionfft.recipe import FusionRecipe
from comfy_fusionfft.ops.dis import grey_bytes
from comfy_fusionfft.train.chain_data import Chains, ChainSampler
from comfy_fusionfft.train.chains import (
    FOUND,
    add_chains,
    add_found,
    instants,
    links,
    path_of,
    read_chains,
    window_found,
)
from comfy_fusionfft.train.data import is_held_out

SIZE = (72, 88)


class Exact:
    """A flow source that knows how far ``pan`` moves, and says of every instant which frame is nearer."""

    modulus = 32
    padding = "replicate"

    def __init__(self):
        self.asked = []

    def features(self, image, position=None):
        assert image.shape[-2] % self.modulus == image.shape[-1] % self.modulus == 0
        return grey_bytes(image)[:, : SIZE[1]]

    def flow(self, left, right, left_features, right_features, times):
        self.asked.append(times.tolist())
        ahead = torch.from_numpy(exact(left_features, right_features)[0, 0]).view(1, 2, 1, 1)
        t = times.view(-1, 1, 1, 1)
        flow = torch.cat((-t * ahead, (1 - t) * ahead), 1).expand(-1, -1, *left.shape[-2:])
        return Flow(flow, torch.logit(1 - t).expand(-1, 1, *left.shape[-2:]))


def trained_on(window):
    return not is_held_out(window.clip)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Chains of all windows that are trained on, and what the source found in most of them."""
    folder = tmp_path_factory.mktemp("packs")
    write_packs(folder, {f"{i}.mp4": pan(COUNT, *SIZE, STEP, i) for i in range(14)}, motion=float(STEP))
    add_chains(folder, exact, wanted=trained_on)
    add_found(folder, Exact(), wanted=trained_on, limit=9)
    return folder


# -------------------------------------------------------------------------------------------- what is stored


def test_middles_of_all_pairs_then_all_instants_in_whole_pixels():
    source, stack = Exact(), np.stack(pan(COUNT, *SIZE, STEP, 1))
    made = window_found(stack, source, (2, 3))
    pairs, between = links(COUNT, (2, 3)), instants(COUNT, (2, 3))
    assert made.shape == (len(pairs) + len(between), 5, SIZE[0] // 2, SIZE[1] // 2) and made.dtype == torch.float16
    shares = [(b - a, 0.5) for a, b in pairs] + [(d, (k - a) / d) for d, a, k in between]
    for planes, (d, t) in zip(made.float(), shares, strict=True):
        want = torch.tensor([t * d * STEP, 0, -(1 - t) * d * STEP, 0, float(torch.tensor(1 - t).logit())])
        assert torch.allclose(planes, want.view(5, 1, 1).expand_as(planes), atol=1e-2)
    # one question for each pair, and the middle is asked for once
    assert [len(times) for times in source.asked] == [1, 1, 1, 3, 3]


def test_an_odd_picture_loses_its_last_row_and_column():
    stack = np.stack(pan(3, 71, SIZE[1], STEP, 1))[:, :, :-1]
    assert window_found(stack, Exact(), (2,)).shape == (2, 5, 35, 43)


def test_found_goes_on_where_it_stopped(folder, tmp_path):
    write_packs(tmp_path, {f"{i}.mp4": pan(COUNT, *SIZE, STEP, i) for i in range(3)})
    said = []
    assert add_found(tmp_path, Exact(), limit=1) == 1
    assert add_found(tmp_path, Exact(), max_mib=0, report=said.append) == 0
    assert said == ["found: 0 MiB are full, 2 windows left out"]
    assert add_found(tmp_path, Exact()) == 2 and add_found(tmp_path, Exact()) == 0
    flow, spacings = read_chains(path_of(tmp_path, 1, FOUND))
    assert len(flow) == len(links(COUNT, spacings)) + len(instants(COUNT, spacings))


def test_windows_without_it_are_left_aside(folder):
    assert len(Chains(folder, found=True).windows) == 9 < len(Chains(folder).windows)
    sampler = FusionRecipe().sampler(folder, torch.device("cpu"), 0)
    assert sampler.chains.found is not None


# --------------------------------------------------------------------------------------------------- batches


@pytest.mark.parametrize("share", [0.0, 1.0], ids=["links", "found"])
@pytest.mark.parametrize("anchors", [1, 2])
def test_motion_leads_to_the_truth_however_turned(folder, share, anchors):
    chosen = (*[0.0] * (anchors - 1), 1.0)
    sampler = ChainSampler(Chains(folder, found=True), seed=1)
    directions = set()
    for _ in range(8):
        batch = sampler.draw(replace(CLEAN, anchors=chosen, found=share))
        x = batch.x
        assert x.valid[:, 0].all() and x.motion.shape == (4, anchors, 2, 2, CROP, CROP)
        made, views = plain_answer(x)
        assert psnr(made, batch.truth) > 37
        assert psnr(plain_answer(x._replace(motion=-x.motion))[0], batch.truth) < 30
        for view in views[:, 0].unbind(1):
            assert psnr(view, batch.truth) > 35
        inner = x.motion[:, 0, 1, :, 20:-20, 20:-20].mean((2, 3))
        directions |= {(int(axis), bool(way[axis] > 0)) for way in inner for axis in way.abs().argmax()[None]}
    assert len(directions) == 4  # mirrored, transposed, played backwards


def test_motion_and_mask_are_cut_where_the_pictures_are(folder):
    sampler = ChainSampler(Chains(folder, found=True), seed=7)
    place = torch.stack(torch.meshgrid(*map(torch.arange, SIZE), indexing="ij"))  # (2, H, W): y, x
    sampler.chains.frames[0] = torch.cat((place, place[:1])).to(torch.uint8).expand(COUNT, -1, -1, -1)
    planes = place[[0, 1, 0, 1, 0], ::2, ::2].float()
    sampler.chains.found[0] = planes.expand(len(sampler.chains.found[0]), -1, -1, -1)
    seen = set()
    for _ in range(8):
        frames, _, _, flow, mask, _ = sampler._cut((0, 2, 2, 3), 1, CROP, True)
        corner = frames[0, :, ::2, ::2].float()
        assert torch.equal(flow[0, 0], corner[:2]) and torch.equal(flow[0, 1], corner[:2])
        assert torch.equal(mask, corner[:1])
        seen.add(tuple(corner[:2, 0, 0].tolist()))
    assert len(seen) > 3


def test_mask_and_time_turn_together(folder):
    sampler = ChainSampler(Chains(folder, found=True), seed=2)
    times = []
    for _ in range(6):
        x = sampler.draw(replace(CLEAN, found=1.0)).x
        left = x.mask.sigmoid().mean((1, 2, 3))
        assert torch.allclose(left, 1 - x.time, atol=1e-2)
        times += x.time.tolist()
    assert min(times) < 0.3 and max(times) > 0.7


def test_found_motion_leads_on_to_the_farther_frames(folder):
    sampler = ChainSampler(Chains(folder, found=True), seed=3)
    seen = 0
    for _ in range(6):
        x = sampler.draw(replace(CLEAN, found=1.0)).x
        far, near = x.motion[:, 1], x.motion[:, 0]
        steps = torch.stack((x.time + 1, 2 - x.time), 1)
        shares = torch.stack((x.time, 1 - x.time), 1)
        for n, side in x.valid[:, 1].nonzero().tolist():
            ratio = far[n, side].abs().amax(0).median() / near[n, side].abs().amax(0).median()
            assert float(ratio) == pytest.approx(float(steps[n, side] / shares[n, side]), rel=0.02)
            seen += 1
    assert seen > 6


def test_a_share_of_the_batches_has_it(folder):
    """Links and found motion are told apart by the mask: only the source's is even."""
    sampler = ChainSampler(Chains(folder, found=True), seed=4)
    even = [
        bool((x.mask.std((1, 2, 3)) < 1e-3).all())
        for x in (sampler.draw(replace(CLEAN, found=0.5)).x for _ in range(30))
    ]
    assert 6 < sum(even) < 26
    without = ChainSampler(Chains(folder), seed=4)
    assert without.draw(replace(CLEAN, found=1.0)).x.motion.isfinite().all()


# ---------------------------------------------------------------------------------------------- command line


def test_command_line_asks_the_source_that_the_network_shall_work_with(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "packs").mkdir()
    write_packs(tmp_path / "packs", {f"{i}.mp4": pan(5, *SIZE, STEP, i) for i in range(2)})
    words = ["train", "fusionfft", "--packs", "packs", "--epochs", "0.01", "--batch-size", "1", "--num-anchors", "2"]
    words += ["--base-channels", "32", "--steps", "2", "--crop", "64", "--mixed-precision", "no", "--device", "cpu"]
    assert main([*words, "--out", "plain", "--flow", "dis"]) == 0
    assert not (tmp_path / "packs" / FOUND).exists()
    assert main([*words, "--out", "usual"]) == 0
    stored = sorted((tmp_path / "packs" / FOUND).glob("*.safetensors"))
    assert len(stored) == 2
    flow, spacings = read_chains(stored[0])
    assert spacings == (2,) and float(flow[0, 0].float().median()) == pytest.approx(STEP, abs=0.2)
