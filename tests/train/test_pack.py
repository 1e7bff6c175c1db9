import csv
import json
from fractions import Fraction
from types import SimpleNamespace

import cv2
import numpy as np
import pytest
import torch
from train.scenes import pan, texture, write_packs

from comfy_fusionfft.errors import InputError
from comfy_fusionfft.train import flows, pack


class FakeClip:
    """Frames by the clip's name, in place of a decoder."""

    pictures: dict = {}

    def __init__(self, path):
        self._frames = self.pictures[path.name]
        height, width = self._frames[0].shape[:2]
        self.info = SimpleNamespace(width=width, height=height, rate=Fraction(25))

    def __iter__(self):
        return (SimpleNamespace(pixels=torch.from_numpy(frame)) for frame in self._frames)


@pytest.fixture
def clips(tmp_path, monkeypatch):
    folder = tmp_path / "clips"
    folder.mkdir()
    FakeClip.pictures = {"slow.mp4": pan(30, 64, 96, 2, 1), "fast.mp4": pan(30, 128, 96, 8, 2)}
    for name in FakeClip.pictures:
        (folder / name).touch()
    monkeypatch.setattr(pack, "open_clip", FakeClip)
    return folder


def test_round_trip(clips, tmp_path):
    out = tmp_path / "packs"
    made = pack.pack(clips, out, height=64, frames=5, windows_per_clip=2, crf=4)
    assert pack.read_index(out) == made
    assert {window.clip for window in made} == {"slow.mp4", "fast.mp4"}
    for window, stack in pack.decode(out, made):
        assert stack.shape == (5, window.height, window.width, 3)
        assert min(window.height, window.width) == 64
        originals = FakeClip.pictures[window.clip][window.start : window.start + 5 * window.stride : window.stride]
        expected = np.stack([pack.shrink(original, 64) for original in originals])
        # In luma: 4:2:0 halves the colours of so fine a texture.
        grey, wanted = stack.mean(-1), expected.mean(-1)
        assert np.abs(grey - wanted).mean() < 3 < np.abs(grey[1:] - wanted[:-1]).mean()


def test_index_decides_what_is_used(clips, tmp_path):
    with (clips / "INDEX.tsv").open("w", newline="") as file:
        rows = csv.writer(file, delimiter="\t")
        rows.writerow(["name", "split", "usable_segments", "median_motion", "source", "licence"])
        rows.writerow(["slow.mp4", "train", "3-12;20-29", "2.0", "here", "CC0"])
        rows.writerow(["fast.mp4", "dev", "0-29", "8.0", "here", "CC0"])
    made = pack.pack(clips, tmp_path / "packs", height=64, frames=5, windows_per_clip=4)
    assert {window.clip for window in made} == {"slow.mp4"}
    assert all(3 <= w.start <= 8 or 20 <= w.start <= 25 for w in made)
    assert made[0].licence == "CC0"


def test_files_stay_below_the_limit(tmp_path):
    noise = np.random.default_rng(0).integers(0, 256, (24, 256, 256, 3), np.uint8)
    made = write_packs(tmp_path, {f"{i}": list(noise[i * 4 : i * 4 + 4]) for i in range(6)}, max_mib=2)
    assert len({window.file for window in made}) > 1
    assert all(path.stat().st_size <= 2 * pack.MIB for path in tmp_path.glob("*.mp4"))
    assert len(list(pack.decode(tmp_path, made))) == 6


def test_survey_finds_cuts_and_repeats():
    first, second = pan(8, 96, 128, 3, 1), pan(8, 96, 128, 3, 5)
    segments, motion = pack.survey([*first, *second, second[-1], second[-1]])
    assert segments == ((0, 8), (8, 16))
    assert 2 < motion < 4


def test_windows_are_spread():
    assert pack.choose_starts([(0, 100)], 10, 3) == [10, 50, 80]
    assert pack.choose_starts([(0, 9), (20, 30)], 10, 3) == [20]


def test_errors_say_what_to_do(clips, tmp_path):
    empty = tmp_path / "empty"
    empty.mkdir()
    with pytest.raises(InputError, match="No clips in .*empty; need video files"):
        pack.pack(empty, tmp_path / "packs")
    with pytest.raises(InputError, match=r"No packs\.json in .*make packs with: fusionfft pack"):
        pack.read_index(empty)
    with pytest.raises(InputError, match="has 99 frames in a row without a cut; lower --frames"):
        pack.pack(clips, tmp_path / "packs", frames=99)
    (empty / "packs.json").write_text(json.dumps({"format": 99, "windows": []}))
    with pytest.raises(InputError, match="has format 99, this version reads 1; pack the clips again"):
        pack.read_index(empty)
    with pytest.raises(InputError, match="already holds packs"):
        pack.pack(clips, empty)


def test_stored_flows(tmp_path):
    write_packs(tmp_path, {"pan": pan(5, 64, 96, 4)})

    def known(img0, img1):
        still = torch.zeros(len(img0), 2, *img0.shape[-2:])
        still[:, 0] = 4
        return -still, still

    flows.add_flows(tmp_path, known, spans=(1, 2), max_mib=1)
    ((number, spans, flow, trust),) = flows.load_flows(tmp_path)
    assert (number, spans) == (0, (1, 2))
    assert flow.shape == (7, 2, 2, 16, 24) and flow.dtype == torch.float16
    assert torch.equal(flow[:, 0, 0], torch.full((7, 16, 24), -4.0).half())
    assert trust.shape == (7, 2, 16, 24) and trust.min() == 255
    assert all(path.stat().st_size <= pack.MIB for path in tmp_path.glob("flows-*"))


def test_a_clip_of_pictures_becomes_a_pack_with_motion(tmp_path):
    folder = tmp_path / "clips" / "pan"
    folder.mkdir(parents=True)
    for number, picture in enumerate(pan(12, 64, 96, 4)):
        cv2.imwrite(str(folder / f"{number:03d}.png"), np.ascontiguousarray(picture[..., ::-1]))
    (window,) = pack.pack(folder.parent, tmp_path / "packs", height=64, frames=9)
    assert window.clip == "pan" and window.motion == pytest.approx(4, abs=0.5)
    for reduce, tolerance in ((1, 1), (2, 2)):
        flows.add_flows(tmp_path / "packs", flows.dis_bidirectional, reduce=reduce)
        ((_, spans, flow, _),) = flows.load_flows(tmp_path / "packs")
        far = flows.pairs(9, spans).index((0, 4))
        assert float(flow[far, 0, 0].median()) == pytest.approx(-16, abs=tolerance)


def test_dis_finds_a_pan():
    first, second = (torch.from_numpy(p).permute(2, 0, 1)[None] / 255 for p in pan(2, 96, 128, 4))
    forward, backward = flows.dis_bidirectional(first, second)
    assert abs(float(forward[:, 0].median()) + 4) < 0.3
    assert abs(float(backward[:, 0].median()) - 4) < 0.3


def test_trust_is_lost_where_there_and_back_differ():
    there = torch.zeros(1, 2, 8, 8)
    there[:, 0] = 2
    assert flows.agreement(there, -there).min() == 1
    assert flows.agreement(there, there).max() < 0.01


def test_texture_is_reproducible():
    assert np.array_equal(texture(16, 16, 3), texture(16, 16, 3))
