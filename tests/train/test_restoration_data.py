"""Samples of joint restoration: runs of sharp frames, their blur and reduction, and folders that come blurred."""

import cv2
import numpy as np
import pytest
import torch
import torch.nn.functional as F
from train.scenes import pan, write_packs

from comfy_fusionfft.errors import InputError
from comfy_fusionfft.families.dis import DISFlow
from comfy_fusionfft.train.data import Packs, is_held_out
from comfy_fusionfft.train.restoration_blur import BlurDraw, BlurSampler, exposed, plans, reduced, spoilt
from comfy_fusionfft.train.restoration_clips import PackedClips
from comfy_fusionfft.train.restoration_labels import MotionOf, labels
from comfy_fusionfft.train.restoration_reds import REDS4, RedsSampler, find_reds, is_reds
from comfy_fusionfft.train.restoration_validate import RestorationValidation

SMALL = BlurDraw(batch=6, patch=16, taps=(1, 3), shrinks=(1.0,))


def even(brightness, side=64):
    """Frames of one brightness each."""
    return [np.full((side, side, 3), value, np.uint8) for value in brightness]


@pytest.fixture(scope="module")
def ramp(tmp_path_factory):
    """Windows whose frame n has the brightness 15 · (5 n mod 17), which tells its number; neighbours are far apart."""
    folder = tmp_path_factory.mktemp("ramp")
    clips = {f"{i}.mp4": even([15 * (5 * n % 17) for n in range(17)]) for i in range(2)}
    write_packs(folder, clips, motion=2.0)
    return folder


@pytest.fixture(scope="module")
def moving(tmp_path_factory):
    folder = tmp_path_factory.mktemp("moving")
    write_packs(folder, {f"{i}.mp4": pan(9, 72, 88, 2, i) for i in range(14)}, motion=2.0)
    return folder


def test_a_shutter_averages_light():
    frames = torch.rand(5, 3, 6, 7)
    light = sum(frame.double() ** 2.2 for frame in frames) / 5
    torch.testing.assert_close(exposed(frames).double(), light ** (1 / 2.2), atol=1e-6, rtol=1e-5)
    torch.testing.assert_close(exposed(frames, linear=False), sum(frames) / 5)
    assert torch.equal(exposed(frames[:1]), frames[0])
    edge = torch.stack([torch.zeros(3, 2, 2), torch.ones(3, 2, 2)])
    assert exposed(edge).mean() > 0.7 > exposed(edge, linear=False).mean()


def test_reduction_is_bicubic_with_antialiasing_and_bytes():
    picture = torch.rand(3, 32, 40)

    def weight(x):  # the cubic with a = -1/2
        x = abs(x)
        return 1.5 * x**3 - 2.5 * x**2 + 1 if x < 1 else -0.5 * x**3 + 2.5 * x**2 - 4 * x + 2 if x < 2 else 0.0

    def matrix(size):
        rows = [[weight((4 * k + 1.5 - n) / 4) for n in range(size)] for k in range(size // 4)]
        return torch.tensor([[w / sum(row) for w in row] for row in rows])

    small = matrix(32) @ picture @ matrix(40).T
    assert (reduced(picture) - small.clamp(0, 1)).abs().max() <= 0.502 / 255
    assert torch.equal(reduced(picture) * 255, (reduced(picture) * 255).round())


def test_what_is_spoilt_and_what_is_kept():
    run = torch.rand(9, 3, 32, 32)
    x, small, y = spoilt(run, 3)
    assert torch.equal(y, run[[1, 4, 7]])
    for n in range(3):
        assert torch.equal(x[n], reduced(exposed(run[3 * n : 3 * n + 3])))
        assert torch.equal(small[n], reduced(run[3 * n + 1]))
    x, small, y = spoilt(run[:3], 1)
    assert torch.equal(x, small) and torch.equal(y, run[:3])


def test_drawn_blur_is_the_mean_of_the_frames_around(ramp):
    sampler = BlurSampler(Packs(ramp), seed=1)
    seen, ways = set(), set()
    for _ in range(8):
        x, small, y = sampler.draw(SMALL)
        assert x.shape == small.shape == (6, 3, 3, 16, 16) and y.shape == (6, 3, 3, 64, 64)
        levels = y.mean((1, 3, 4)) * 17
        assert (levels - levels.round()).abs().max() < 0.1
        assert (small.mean((1, 3, 4)) - levels / 17).abs().max() < 0.01
        frames = 7 * levels.round() % 17  # 7 · 5 = 1 mod 17
        steps = frames.diff(dim=1)
        assert torch.equal(steps[:, 0], steps[:, 1])
        for centre, blurred, step in zip(frames, x.mean((1, 3, 4)), steps[:, 0], strict=True):
            around = torch.stack([5 * (centre + k) % 17 / 17 for k in (-1, 0, 1)])
            open_for_3 = around.pow(2.2).mean(0).pow(1 / 2.2)
            sharp, wide = ((blurred - each).abs().max() for each in (around[1], open_for_3))
            taps = 1 if sharp < wide else 3
            assert min(sharp, wide) < 0.01 and taps <= abs(step) <= 2 * taps
            seen.add((taps, int(abs(step))))
            ways.add(bool(step > 0))
    assert {taps for taps, _ in seen} == {1, 3} and len(seen) > 3
    assert ways == {True, False}  # played backwards, too


def test_the_same_seed_draws_the_same_and_goes_on(moving):
    packs = Packs(moving)
    one, other = BlurSampler(packs, seed=3), BlurSampler(packs, seed=3)
    how = BlurDraw(batch=3, patch=12, taps=(1, 3), shrinks=(1.0, 1.4))
    for _ in range(3):
        assert all(map(torch.equal, one.draw(how), other.draw(how)))
    resumed = BlurSampler(packs, seed=9)
    resumed.restore(one.state())
    assert all(map(torch.equal, one.draw(how), resumed.draw(how)))
    assert not torch.equal(one.draw(how).y, BlurSampler(packs, seed=4).draw(how).y)


def test_small_and_large_pictures_are_turned_alike(moving):
    for seed in range(4):
        x, small, y = BlurSampler(Packs(moving), seed=seed).draw(SMALL)
        again = torch.stack([torch.stack([reduced(frame) for frame in sample.unbind(1)], 1) for sample in y])
        assert (again - small).abs().max() <= 1.01 / 255
        assert (x - small).abs().mean() < 0.05


def test_pictures_reduced_first_show_more(ramp, moving):
    how = BlurDraw(batch=4, patch=12, taps=(1,), shrinks=(1.5,))
    x, *_, y = BlurSampler(Packs(moving), seed=0).draw(how)
    assert x.shape[-1] == 12 and y.shape[-1] == 48
    clips = PackedClips(Packs(moving))
    assert {plan.shrink for plan in plans(clips, BlurDraw(patch=12, shrinks=(1.0, 1.5, 1.6)))[0]} == {1.0, 1.5}


def test_what_moves_too_fast_is_not_blurred(tmp_path):
    windows = write_packs(tmp_path, {"slow.mp4": even(range(9)), "fast.mp4": even(range(9))}, motion=2.0)
    clips = PackedClips(Packs(tmp_path, part=10**9))
    assert [w.clip for w in clips.packs.windows] == [w.clip for w in windows]
    clips.motion = [2.0, 9.0]
    found, weights = plans(clips, BlurDraw(patch=16, taps=(1, 3), shrinks=(1.0,)))
    assert {(clips.packs.windows[p.clip].clip, p.taps) for p in found} == {
        *(("slow.mp4", 1), ("slow.mp4", 3), ("fast.mp4", 1))
    }
    assert len(weights) == 3 and bool((weights > 0).all())
    clips.motion = [9.0, 9.0]
    with pytest.raises(InputError, match=r"moves more than 8 pixels a frame, which would blur into ghosts: pack"):
        plans(clips, BlurDraw(patch=16, taps=(1, 3), shrinks=(1.0,)))


def test_every_length_of_blur_is_drawn(moving):
    packs = Packs(moving)
    clips = PackedClips(packs)
    clips.motion = [0.1] * (len(clips.motion) - 1) + [6.0]  # one of many moves
    _, weights = plans(clips, BlurDraw(patch=16, taps=(3,), shrinks=(1.0,)))
    # It is blurred over 3 pixels, and as likely as all others together, to which 0.6 is due.
    assert float(weights[-1] / weights.sum()) == pytest.approx(1 / 1.6, rel=1e-6)


def test_packs_that_will_not_do(tmp_path):
    write_packs(tmp_path, {"a.mp4": even(range(7), 40)}, motion=1.0)
    sampler = BlurSampler(Packs(tmp_path, part=10**9))
    with pytest.raises(InputError, match="Patches of 16 need sharp pictures of 64 pixels, and the packed ones have 40"):
        sampler.draw(SMALL)
    with pytest.raises(InputError, match=r"have 7 frames at most; blur over 3 frames at 3 instants needs 9: pack with"):
        sampler.draw(BlurDraw(patch=8, taps=(1, 3, 5)))
    assert sampler.draw(BlurDraw(batch=2, patch=8, taps=(1,))).x.shape == (2, 3, 3, 8, 8)


def test_labels_lead_from_the_middle():
    pictures = torch.stack([torch.from_numpy(p).permute(2, 0, 1) / 255 for p in pan(3, 72, 88, 3)], 1)[None]
    found = labels(MotionOf(DISFlow()), pictures)
    assert found.shape == (1, 2, 3, 72, 88) and not found[:, :, 1].any()
    inner = found[0, :, :, 16:-16, 16:-16].median(-1)[0].median(-1)[0]
    torch.testing.assert_close(inner, torch.tensor([[3.0, 0, -3], [0, 0, 0]]), atol=0.25, rtol=0)
    asked = []
    labels(lambda a, b: asked.append((a, b)) or torch.zeros(1, 2, 72, 88), pictures)
    assert [torch.equal(a, pictures[:, :, 1]) for a, _ in asked] == [True, True]
    assert torch.equal(asked[0][1], pictures[:, :, 0]) and torch.equal(asked[1][1], pictures[:, :, 2])


# --- folders laid out as REDS -----------------------------------------------------------------------


def picture(clip, frame, height, width, step):
    """Red tells clip and frame, green the column and blue the row, in pixels of the sharp picture."""
    rows, columns = np.mgrid[0:height, 0:width] * step
    red = np.full_like(rows, 10 * clip + frame)
    return np.stack([rows, columns, red], -1).astype(np.uint8)  # BGR


def write_reds(folder, clips, trees, frames=5, split="train"):
    for tree in trees:
        factor = 4 if tree.endswith("X4") else 1
        for clip in clips:
            place = folder / f"{split}_{tree}" / f"{clip:03d}"
            place.mkdir(parents=True)
            for frame in range(frames):
                image = picture(clip, frame, 48 // factor, 72 // factor, factor)
                ok, data = cv2.imencode(".png", image)
                assert ok
                (place / f"{frame:08d}.png").write_bytes(data.tobytes())


def check(sampler, patch=8, rounds=6):
    """Draws fit together -> names of the clips drawn."""
    drawn = set()
    for _ in range(rounds):
        x, small, y = (part * 255 for part in sampler.draw(4, patch))
        assert x.shape == small.shape == (4, 3, 3, patch, patch) and y.shape[-1] == 4 * patch
        numbers = y[:, 0].mean((-1, -2)).round()
        drawn |= {f"{int(number) // 10:03d}" for number in numbers.flatten()}
        assert (numbers.diff(dim=1).abs() == 1).all()
        for part in (x, small):
            assert torch.equal(part[:, 0].mean((-1, -2)).round(), numbers)
            inner = (slice(None), slice(1, None), slice(None), slice(1, -1), slice(1, -1))
            place = F.avg_pool3d(y[:, 1:], (1, 4, 4)) - 1.5
            assert (part[:, 1:] - place)[inner[:1] + inner[2:3] * 2 + inner[3:]].abs().max() < 2.1
    return drawn


def test_reds_folders(tmp_path):
    everything = ("sharp", "sharp_bicubic/X4", "blur_bicubic/X4")
    write_reds(tmp_path, (0, 1, 2, 3, 4, 5, 11, 15, 20), everything)
    assert is_reds(tmp_path) and not is_reds(tmp_path / "train_sharp")
    known = {"001", "002", "003", "004", "005"}
    kept, held = ({clip.name for clip in find_reds(tmp_path, held_out=out)} for out in (False, True))
    assert kept | held == known and not kept & held and not REDS4 & (kept | held)
    clips = find_reds(tmp_path)
    assert not any(name in path.parts for clip in clips for path in (*clip.sharp, *clip.spoilt) for name in REDS4)
    assert check(RedsSampler(clips, seed=2)) == kept
    one, other = RedsSampler(clips, seed=3), RedsSampler(clips, seed=3)
    one.draw(2, 8)
    other.restore(one.state())
    assert all(map(torch.equal, one.draw(2, 8), other.draw(2, 8)))
    with pytest.raises(
        InputError, match="Patches of 16 need sharp pictures of 64 pixels, and those of the folder have"
    ):
        one.draw(2, 16)


def test_what_is_not_stored_is_reduced_here(tmp_path):
    write_reds(tmp_path, (1, 2, 7), ("sharp", "blur"))
    assert check(RedsSampler(find_reds(tmp_path), seed=2), rounds=3) <= {"001", "002", "007"}


def test_validation_clips_are_watched(tmp_path):
    for split, clips in (("train", (0, 1, 2)), ("val", (0, 3))):
        write_reds(tmp_path / split, clips, ("sharp", "blur_bicubic/X4"), split=split)
    assert [clip.name for clip in find_reds(tmp_path)] == ["001", "002"]
    held = find_reds(tmp_path, held_out=True)
    assert [clip.name for clip in held] == ["000", "003"]  # its 000 is another clip than that of REDS4
    assert all("val_sharp" in path.parts for clip in held for path in clip.sharp)
    kept = RestorationValidation.of_reds(tmp_path, "cpu")
    assert [sample.y.shape for sample in kept.samples] == [(1, 3, 3, 48, 48)] * 2
    assert [sample.x.shape for sample in kept.samples] == [(1, 3, 3, 12, 12)] * 2


def test_folders_that_do_not_fit_together(tmp_path):
    with pytest.raises(InputError, match="No train_sharp in"):
        find_reds(tmp_path)
    write_reds(tmp_path, (1, 2), ("sharp",))
    with pytest.raises(InputError, match="has neither train_blur_bicubic/X4 nor train_blur; add one beside"):
        find_reds(tmp_path)
    write_reds(tmp_path, (1, 2), ("blur_bicubic/X4",))
    missing = tmp_path / "train_blur_bicubic" / "X4" / "002" / "00000003.png"
    data = missing.read_bytes()
    missing.unlink()
    with pytest.raises(InputError, match=r"X4.002 has not the 5 pictures of .*train_sharp.002: copy it again"):
        find_reds(tmp_path)
    missing.write_bytes(data)
    first = missing.with_name("00000000.png")
    first.write_bytes((tmp_path / "train_sharp" / "002" / "00000000.png").read_bytes())
    with pytest.raises(InputError, match="is not a quarter of the size of"):
        find_reds(tmp_path)
    first.write_bytes(b"no picture")
    with pytest.raises(InputError, match="is no PNG picture: copy it again"):
        find_reds(tmp_path)


def test_windows_watched_are_held_out_and_blurred(moving, tmp_path):
    kept = RestorationValidation.of_packs(moving, "cpu")
    held = Packs(moving, held_out=True).windows
    assert len(kept.samples) == len(held) > 0
    for x, small, y in kept.samples:
        assert y.shape == (1, 3, 3, 72, 72) and x.shape == small.shape == (1, 3, 3, 18, 18)
        assert (x - small).abs().mean() > 0.002
    write_packs(tmp_path, {"trained.mp4": even(range(9))}, motion=1.0)
    assert not is_held_out("trained.mp4") and RestorationValidation.of_packs(tmp_path, "cpu") is None
