from dataclasses import replace

import pytest
import torch
import torch.nn.functional as F
from train.scenes import pan

from comfy_fusionfft.families.rife.config import RIFEConfig
from comfy_fusionfft.families.rife.recipe import STAGES, RIFERecipe, flow_loss, picture_loss
from comfy_fusionfft.train.data import Batch
from comfy_fusionfft.train.optimizer import optimizer_for

SMALL = RIFEConfig(widths=(16, 16, 16, 8, 8))
COARSE, FINE, WHOLE = STAGES


def batch(size=64, count=2, step=4):
    """Pans of ``step`` pixels from first to last, the middle in between."""
    clips = [pan(3, size, size, step // 2, seed) for seed in range(count)]
    img0, gt, img1 = (torch.stack([torch.from_numpy(c[i]).permute(2, 0, 1) / 255 for c in clips]) for i in range(3))
    flow = torch.zeros(count, 4, size, size)
    flow[:, 0], flow[:, 2] = step / 2, -step / 2
    return Batch(img0, gt, img1, torch.full((count,), 0.5), flow, torch.ones(count, 2, size, size))


@pytest.mark.parametrize("stage", STAGES, ids=lambda s: s.name)
def test_a_stage_trains_its_blocks_alone(stage):
    recipe = RIFERecipe(SMALL)
    loss, terms = recipe(batch(128), stage)
    loss.backward()
    moved = {name.split(".")[0] for name, p in recipe.net.named_parameters() if p.grad is not None and p.grad.any()}
    blocks = {f"block{i}" for i in range(*stage.trained)}
    assert moved == blocks | ({"encode"} if stage.encoder else set())
    assert {"loss", "flow", "picture", "miss_px", "psnr"} <= terms.keys()


def test_the_whole_chain_is_the_network():
    """What the last stage trains is what inference runs."""
    torch.manual_seed(3)
    recipe, sample = RIFERecipe(SMALL), batch(128)
    mine = recipe.levels(sample.img0, sample.img1, sample.t, WHOLE)
    theirs = recipe.net(sample.img0, sample.img1, sample.t, all_levels=True)
    for level, flow in zip(mine, theirs, strict=True):
        torch.testing.assert_close(level.whole, flow.flow, atol=1e-4, rtol=1e-4)
        mask = F.interpolate(level.mask, size=flow.mask.shape[-2:], mode="bilinear")
        torch.testing.assert_close(mask, flow.mask, atol=1e-4, rtol=1e-4)


def test_quarter_pictures_stand_for_whole_ones():
    """Coarse blocks, blind to encodings, find on a quarter-size picture a quarter of the flow."""
    torch.manual_seed(0)
    recipe = RIFERecipe(SMALL)
    with torch.no_grad():
        for block in recipe.net.blocks:
            block.lastconv[0].weight.mul_(4)
    small = torch.rand(1, 3, 16, 16)
    whole = F.interpolate(small, size=(512, 512), mode="bicubic", align_corners=True).clamp(0, 1)
    sample = Batch(whole, whole, whole.roll(8, -1), torch.tensor([0.5]), *2 * [torch.zeros(1, 4, 1, 1)])
    quarter = replace(sample, img0=F.avg_pool2d(sample.img0, 4), img1=F.avg_pool2d(sample.img1, 4))
    full = recipe.levels(sample.img0, sample.img1, sample.t, replace(COARSE, scale=1.0))[-1].whole
    shrunk = recipe.levels(quarter.img0, quarter.img1, sample.t, COARSE)[-1].whole
    grown = 4 * F.interpolate(shrunk, size=full.shape[-2:], mode="bilinear")
    assert full.std() > 0.05
    assert (grown - full).square().mean().sqrt() < 0.15 * full.std()


def test_a_few_steps_on_one_batch_lower_the_loss():
    torch.manual_seed(0)
    recipe, sample = RIFERecipe(SMALL), batch(64, step=8)
    optimizer = torch.optim.AdamW(recipe.parameters(), lr=3e-3)
    losses = []
    for _ in range(60):
        optimizer.zero_grad()
        loss, terms = recipe(sample, COARSE)
        loss.backward()
        optimizer.step()
        losses.append(float(terms["miss_px"]))
    assert losses[0] > 3
    assert losses[-1] < 0.3 * losses[0]


def test_flow_loss_trusts_what_it_is_told():
    target, trust = torch.zeros(1, 4, 8, 8), torch.ones(1, 2, 8, 8)
    assert flow_loss(target, target, trust) == 0
    wrong = target.clone()
    wrong[:, :2] = 3
    assert flow_loss(wrong, target, trust) > 0.5
    trust[:, 0] = 0
    assert flow_loss(wrong, target, trust) < 0.1
    assert flow_loss(wrong, target, torch.zeros(1, 2, 8, 8)) == 0


def test_picture_loss():
    a = torch.rand(1, 3, 16, 16)
    assert picture_loss(a, a) < 2e-3
    assert picture_loss(a + 0.1, a) == pytest.approx(0.1, rel=0.01)


def test_prediction_takes_any_size():
    recipe = RIFERecipe(SMALL).eval()
    img0, img1 = torch.rand(2, 1, 3, 50, 77)
    for stage in (COARSE, WHOLE):
        made, flow = recipe.predict(img0, img1, torch.tensor([0.25]), stage)
        assert made.shape == (1, 3, 50, 77) and flow.flow.shape == (1, 4, 50, 77)


def test_a_block_begins_blind_to_brightness():
    """Flat frames, however bright, say nothing; frames that differ say more than what they share."""
    recipe = RIFERecipe(SMALL)
    first = recipe.net.block0.conv0[0][0].weight
    assert first[:, :6].mean((2, 3)).abs().max() < 1e-5
    half = len(first) // 2
    torch.testing.assert_close(first[:half, :3], -first[:half, 3:6])
    torch.testing.assert_close(first[half:, :3], first[half:, 3:6])


def test_coarse_blocks_stay_deaf_to_encodings_until_they_are_given():
    """Else stage ``fine`` would disturb what stage ``coarse`` has learnt without them."""
    recipe = RIFERecipe(SMALL)
    optimizer = optimizer_for(recipe.net, 1e-4)
    for stage, silent in ((COARSE, True), (WHOLE, False)):
        for _ in range(2):
            optimizer.zero_grad()
            recipe(batch(128), stage)[0].backward()
            optimizer.step()
        assert bool((recipe.net.block1.conv0[0][0].weight[:, 6:14] == 0).all()) is silent
