"""Samples of compressed video: what H.264 does, which clips it is done to, reductions, short clips, folders."""

import builtins
import sys

import cv2
import numpy as np
import pytest
import torch
from train.scenes import pan, texture, write_packs

from comfy_fusionfft.errors import InputError
from comfy_fusionfft.train import restoration_compressed as samples
from comfy_fusionfft.train.compression import CRFS, compressed
from comfy_fusionfft.train.data import Packs, is_held_out
from comfy_fusionfft.train.restoration_blur import reduced
from comfy_fusionfft.train.restoration_clips import PackedClips, Size
from comfy_fusionfft.train.restoration_compressed import (
    CompressedSampler,
    CompressionDraw,
    Place,
    around,
    mirrored,
    sample,
    thinned,
)
from comfy_fusionfft.train.restoration_reds import find_reds
from comfy_fusionfft.train.restoration_septuplets import Septuplets, is_septuplets

SMALL = CompressionDraw(batch=4, patch=16, frames=5)


def bytes_of(pictures):
    return torch.from_numpy(np.stack(pictures)).permute(0, 3, 1, 2)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("packs")
    write_packs(folder, {f"{i}.mp4": pan(7, 72, 88, 2, i) for i in range(4)}, motion=2.0)
    return folder


@pytest.fixture(scope="module")
def packs(folder):
    return Packs(folder, part=10**9)


def test_more_is_lost_at_a_larger_factor():
    frames = bytes_of([picture.mean(2, keepdims=True).repeat(3, 2).astype(np.uint8) for picture in pan(8, 48, 64, 3)])
    made = {crf: compressed(frames, crf) for crf in CRFS}
    assert all(each.shape == frames.shape and each.dtype == torch.uint8 for each in made.values())
    lost = [(made[crf].float() - frames.float()).square().mean() for crf in CRFS]
    assert 0 < lost[0] < 0.5 * lost[1] < 0.25 * lost[2] and lost[0] < 4
    # Frames are not shuffled: each resembles its own more than the next.
    for n in range(7):
        own, other = ((made[15][n].float() - frames[m].float()).abs().mean() for m in (n, n + 1))
        assert own < 0.5 * other
    assert torch.equal(compressed(frames, 25), made[25])


@pytest.mark.parametrize("size", [(17, 31), (16, 16), (1, 3)], ids=str)
def test_odd_sizes_come_back_as_they_were(size):
    frames = bytes_of([texture(64, 64)[: size[0], : size[1]]] * 3)
    made = compressed(frames, 15)
    assert made.shape == frames.shape
    assert (made.float() - frames.float()).abs().mean() < 12


def test_without_pyav_packs_are_read_and_compression_says_what_is_missing(folder, monkeypatch):
    real = builtins.__import__

    def refused(name, *args, **settings):
        if name == "av" or name.startswith("av."):
            raise ImportError(name)
        return real(name, *args, **settings)

    for name in [name for name in sys.modules if name == "av" or name.startswith("av.")]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setattr(builtins, "__import__", refused)
    packs = Packs(folder, part=10**9)
    x, _ = sample(PackedClips(packs), Place(0, range(3), 0, 0, 64, None), "bicubic")
    assert x.shape == (3, 3, 16, 16)
    with pytest.raises(InputError, match="PyAV is not installed, and clips are compressed through it: install it with"):
        compressed(packs.frames[0], 25)


def test_half_of_the_clips_are_compressed_and_qualities_are_drawn_alike(packs, monkeypatch):
    drawn = []

    def noted(clips, place, reduction):
        drawn.append((place.crf, len(place.frames)))
        return torch.zeros(5, 3, 16, 16), torch.zeros(5, 3, 64, 64)

    monkeypatch.setattr(samples, "sample", noted)
    sampler = CompressedSampler(PackedClips(packs), seed=1)
    for _ in range(60):
        sampler.draw(CompressionDraw(batch=20, patch=16, frames=5))
    crfs = [crf for crf, _ in drawn]
    assert len(drawn) == 1200 and {count for _, count in drawn} == {5}  # one draw for all frames of a clip
    assert 0.46 < 1 - crfs.count(None) / 1200 < 0.54  # where 37.5 % would be 0.375
    for crf in CRFS:
        assert 0.13 < crfs.count(crf) / 1200 < 0.205
    assert set(crfs) == {None, *CRFS}


def test_samples_are_reduced_and_compressed_cuts_of_the_clip(packs):
    clips = PackedClips(packs)
    place = Place(1, range(1, 5), 4, 12, 64, None)
    x, y = sample(clips, place, "bicubic")
    truth = packs.frames[1][1:5, :, 4:68, 12:76].float() / 255
    assert torch.equal(y, truth)
    small = torch.stack([reduced(picture) for picture in truth])
    assert torch.equal(x[..., 2:-2, 2:-2], small[..., 2:-2, 2:-2])  # beyond, the pictures around take part
    spoilt, same = sample(clips, place._replace(crf=35), "bicubic")
    assert torch.equal(same, y) and not torch.equal(spoilt, x)
    around_it = torch.stack([reduced(picture.float() / 255) for picture in packs.frames[1][1:5, :, :, 8:80]])
    shown = compressed((around_it * 255).round().to(torch.uint8), 35)
    assert torch.equal(spoilt, shown[..., 1:17, 1:17].float() / 255)


def test_what_the_encoder_sees_lies_in_the_picture_and_around_the_patch():
    size = Size(7, 402, 311)
    for y in range(0, 402 - 64, 4):
        for x in (0, 4, 60, 124, 244):
            top, left, side = around(size, Place(0, range(3), y, x, 64, None))
            assert side == 64 + 2 * 4 * 16 and top % 4 == left % 4 == 0
            assert 0 <= top <= y and y + 64 <= top + side <= 402
            assert 0 <= left <= x and x + 64 <= left + side <= 311
    assert around(Size(7, 72, 90), Place(0, range(3), 8, 24, 64, None)) == (0, 16, 72)


def test_gaussian_reduction_keeps_every_fourth_pixel_from_the_second_on():
    picture = torch.rand(3, 21, 30)
    kernel = np.exp(-((np.arange(12) - 5.5) ** 2) / (2 * 1.6**2))  # OpenCV's own even kernels are no Gaussians
    kernel /= kernel.sum()
    plain = picture.permute(1, 2, 0).numpy().astype(np.float64)
    # an even kernel whose middle lies half a pixel after the one that is kept
    blurred = cv2.sepFilter2D(plain, -1, kernel, kernel, anchor=(5, 5), borderType=cv2.BORDER_REPLICATE)
    kept = torch.from_numpy(blurred[1::4, 1::4][:5, :7]).permute(2, 0, 1)
    made = thinned(picture)
    assert made.shape == (3, 5, 7)
    assert (made - kept).abs().max() <= 0.502 / 255


def test_short_clips_are_played_forth_and_back(packs):
    forth = list(range(7))
    assert mirrored(7, 28) == 2 * (forth + forth[::-1])
    assert mirrored(7, 5) == forth[:5] and mirrored(3, 7) == [0, 1, 2, 2, 1, 0, 0]
    sampler = CompressedSampler(PackedClips(packs), seed=0)
    x, y = sampler.draw(CompressionDraw(batch=2, patch=16, frames=28))
    assert x.shape == (2, 3, 28, 16, 16) and y.shape == (2, 3, 28, 64, 64)
    for run in (x, y):
        assert torch.equal(run[:, :, :14], run[:, :, 14:]) and torch.equal(run, run.flip(2))
        assert not torch.equal(run[:, :, 0], run[:, :, 6])


def test_the_same_seed_draws_the_same_and_goes_on(packs):
    one, other = (CompressedSampler(PackedClips(packs), seed=3) for _ in range(2))
    for _ in range(2):
        assert all(map(torch.equal, one.draw(SMALL), other.draw(SMALL)))
    resumed = CompressedSampler(PackedClips(packs), seed=9)
    resumed.restore(one.state())
    assert all(map(torch.equal, one.draw(SMALL), resumed.draw(SMALL)))


def test_runs_are_played_backwards_now_and_then(tmp_path):
    write_packs(tmp_path, {"0.mp4": [np.full((64, 64, 3), 20 * n, np.uint8) for n in range(7)]})
    sampler = CompressedSampler(PackedClips(Packs(tmp_path, part=10**9)))
    seen = set()
    for run in sampler.draw(CompressionDraw(batch=16, patch=16, frames=3, share=0.0)):
        steps = (run.mean((1, 3, 4)).diff(dim=1) * 255 / 20).round()
        assert torch.equal(steps[:, 0], steps[:, 1])
        seen.add(tuple(steps[:, 0].tolist()))
    assert len(seen) == 1 and set(seen.pop()) == {1.0, -1.0}  # both pictures alike


def test_too_small_pictures_are_told(packs):
    with pytest.raises(InputError, match="Patches of 32 need sharp pictures of 128 pixels, and these have 72 at most"):
        CompressedSampler(PackedClips(packs)).draw(CompressionDraw(batch=1, patch=32, frames=5))


# --- folders ----------------------------------------------------------------------------------------


def write_pictures(folder, pictures, name):
    folder.mkdir(parents=True)
    for number, image in enumerate(pictures):
        ok, data = cv2.imencode(".png", cv2.cvtColor(image, cv2.COLOR_RGB2BGR))
        assert ok
        (folder / name(number)).write_bytes(data.tobytes())


def write_septuplets(folder, names, tests=()):
    for number, name in enumerate([*names, *tests]):
        write_pictures(folder / "sequences" / name, pan(7, 64, 112, 2, number), lambda n: f"im{n + 1}.png")
    (folder / "sep_trainlist.txt").write_text("\n".join([*names, "00099/0001"]) + "\n")
    (folder / "sep_testlist.txt").write_text("\n".join(tests) + "\n")


def test_septuplets_of_the_training_list(tmp_path):
    names = [f"{video:05d}/{number:04d}" for video in range(1, 30) for number in (1, 2)]
    kept = [name for name in names if is_held_out(name[:5])]
    assert 0 < len(kept) < len(names)
    write_septuplets(tmp_path, names, ["00050/0001"])
    assert is_septuplets(tmp_path) and not is_septuplets(tmp_path / "sequences")
    clips, watched = Septuplets(tmp_path), Septuplets(tmp_path, held_out=True)
    assert sorted(clips.names + watched.names) == names  # neither those that are tested on nor those that are not there
    assert watched.names == kept and len(Septuplets(tmp_path, limit=3).names) <= 3
    assert set(clips.sizes) == {Size(7, 64, 112)}
    made = clips.cut(2, [6, 0], 0, 8, 64)
    whole = pan(7, 64, 112, 2, names.index(clips.names[2]))
    assert torch.equal(made, bytes_of([whole[6][:, 8:72], whole[0][:, 8:72]]))
    x, y = CompressedSampler(clips).draw(CompressionDraw(batch=2, patch=16, frames=28, reduction="gaussian"))
    assert x.shape == (2, 3, 28, 16, 16) and y.shape == (2, 3, 28, 64, 64)
    (tmp_path / "sequences" / clips.names[0] / "im3.png").unlink()
    with pytest.raises(InputError, match=r"im3\.png is missing: unpack the set again"):
        clips.cut(0, range(7), 0, 0, 64)
    with pytest.raises(InputError, match=r"No sep_trainlist\.txt in .*; name the folder that vimeo_septuplet\.zip"):
        Septuplets(tmp_path / "sequences")


def test_of_reds_sharp_pictures_will_do(tmp_path):
    for clip in (0, 1, 2, 15):
        write_pictures(tmp_path / "train_sharp" / f"{clip:03d}", pan(5, 64, 72, 2, clip), lambda n: f"{n:08d}.png")
    assert {clip.name for clip in find_reds(tmp_path, spoilt=False)} <= {"001", "002"}
    with pytest.raises(InputError, match="has neither train_blur_bicubic/X4 nor train_blur"):
        find_reds(tmp_path)
