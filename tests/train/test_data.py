import dataclasses

import pytest
import torch
from train.scenes import pan, write_packs

from comfy_fusionfft.errors import InputError
from comfy_fusionfft.ops.warp import backward_warp
from comfy_fusionfft.train import data, flows
from comfy_fusionfft.train.data import Batch, Draw, Packs, Sampler, turn
from comfy_fusionfft.train.synthetic import layers

STEP = 4


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Six clips that pan left by 4 pixels a frame, with exact stored flows."""
    folder = tmp_path_factory.mktemp("packs")
    write_packs(folder, {f"clip{i}": pan(9, 128, 160, STEP, i) for i in range(6)}, motion=STEP)

    def known(img0, img1):
        # The only thing that tells the span here is the pictures themselves.
        shifts = [
            min(range(0, 40, STEP), key=lambda s, a=a, b=b: _gap(a, b, s)) for a, b in zip(img0, img1, strict=True)
        ]
        flow = torch.zeros(len(img0), 2, *img0.shape[-2:])
        flow[:, 0] = torch.tensor(shifts)[:, None, None]
        return -flow, flow

    flows.add_flows(folder, known)
    return folder


def _gap(first, second, shift):
    width = first.shape[-1]
    return float((first[..., shift:] - second[..., : width - shift]).abs().mean())


def test_split_is_by_clip_and_complete(folder):
    kept = Packs(folder, held_out=True, part=3)
    trained = Packs(folder, part=3)
    assert {w.clip for w in kept.windows}.isdisjoint(w.clip for w in trained.windows)
    assert len(kept.windows) + len(trained.windows) == 6
    with pytest.raises(InputError, match="has no held-out windows; pack more clips"):
        Packs(folder, held_out=True, part=10**9)


@pytest.mark.parametrize("shrink", [1.0, 1.5, 2.0])
def test_target_flow_leads_to_the_truth(folder, shrink):
    sampler = Sampler(Packs(folder, part=10**9), seed=1)
    batch = sampler.draw(Draw(batch=16, crop=48, shrinks=(shrink,), noise=0))
    assert batch.flow.abs().amax() > STEP / shrink
    for image, flow in ((batch.img0, batch.flow[:, :2]), (batch.img1, batch.flow[:, 2:])):
        inside = 1 - _outside(flow)
        error = ((backward_warp(image, flow) - batch.gt).abs().mean(1, keepdim=True) * inside).sum() / inside.sum()
        still = ((image - batch.gt).abs().mean(1, keepdim=True) * inside).sum() / inside.sum()
        assert error < 0.01 < still


def _outside(flow):
    size = flow.shape[-1]
    grid = torch.stack(torch.meshgrid(torch.arange(size), torch.arange(size), indexing="xy")).float() + flow
    return ((grid < 0) | (grid > size - 1)).any(1, keepdim=True).float()


def test_time_matches_flow(folder):
    sampler = Sampler(Packs(folder, part=10**9), seed=2)
    batch = sampler.draw(Draw(batch=32, crop=64, noise=0))
    left, right = (batch.flow.unflatten(1, (2, 2)).square().sum(2).sqrt().mean((2, 3))).unbind(1)
    assert torch.allclose(left / (left + right), batch.t, atol=0.02)


def test_turns_keep_flow_true():
    torch.manual_seed(0)
    shape = (2, 3, 8, 8)
    flow, trust = torch.randn(2, 4, 8, 8), torch.rand(2, 2, 8, 8)
    batch = Batch(*(torch.rand(shape) for _ in range(3)), torch.tensor([0.25, 0.5]), flow, trust)
    no, yes = (torch.full((2, 1, 1, 1), flag) for flag in (False, True))
    reversed_ = turn(batch, no, no, no, yes)
    assert torch.equal(reversed_.flow, flow.roll(2, 1)) and torch.equal(reversed_.img0, batch.img1)
    assert torch.equal(reversed_.t, 1 - batch.t) and torch.equal(reversed_.trust, trust.flip(1))
    for flags in ((yes, no, no, no), (no, yes, no, no), (no, no, yes, no), (yes, yes, yes, yes)):
        once = turn(batch, *flags)
        warped = turn(dataclasses.replace(batch, gt=backward_warp(batch.img0, flow[:, :2])), *flags).gt
        source, way = (once.img1, once.flow[:, 2:]) if flags[3].all() else (once.img0, once.flow[:, :2])
        assert torch.allclose(backward_warp(source, way), warped, atol=1e-5)


def test_synthetic_motion_is_exact():
    pictures = torch.stack([torch.from_numpy(pan(1, 96, 96, 1, i)[0]).permute(2, 0, 1) / 255 for i in range(12)])
    img0, gt, img1, t, flow, trust = layers(pictures, 12, 10.0, torch.Generator().manual_seed(0))
    assert trust.min() == 1 and ((t > 0) & (t < 1)).all()
    for image, way in ((img0, flow[:, :2]), (img1, flow[:, 2:])):
        error = (backward_warp(image, way) - gt).abs().mean(1)
        seen = 1 - _outside(way)[:, 0]
        # Exact but for what the other layer hides, which is little, and for resampling.
        assert (error * seen).sum() / seen.sum() < 0.4 * (image - gt).abs().mean()
        assert ((error < 0.03) * seen).sum() / seen.sum() > 0.85


def test_same_seed_same_batches(folder):
    packs = Packs(folder, part=10**9)
    how = Draw(batch=4, crop=48, shrinks=(1.0, 2.0), synthetic=0.5)
    first, second = Sampler(packs, seed=3), Sampler(packs, seed=3)
    first.draw(how)
    second.restore(first.state())
    a, b = first.draw(how), second.draw(how)
    assert torch.equal(a.img0, b.img0) and torch.equal(a.flow, b.flow)


def test_windows_without_flows_have_no_target(tmp_path):
    write_packs(tmp_path, {"pan": pan(9, 64, 64, 2)})
    batch = Sampler(Packs(tmp_path, part=10**9)).draw(Draw(batch=4, crop=32))
    assert batch.trust.max() == 0 and batch.gt.std() > 0.01


def test_a_crop_that_does_not_fit(folder):
    with pytest.raises(InputError, match="Crops of 256 do not fit in packed pictures of 128 pixels"):
        Sampler(Packs(folder)).draw(Draw(crop=256))


def test_held_out_is_about_one_in_twelve():
    share = sum(data.is_held_out(f"{i}.mp4") for i in range(2400)) / 2400
    assert 0.06 < share < 0.11
