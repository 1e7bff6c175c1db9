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
from comfy_fusionfft.train import flows, pack, survey


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
    read(monkeypatch)
    return folder


def read(monkeypatch, **pictures):
    """Have clips read from ``FakeClip.pictures``, with these added."""
    FakeClip.pictures = FakeClip.pictures | {f"{name}.mp4": frames for name, frames in pictures.items()}
    for module in (pack, survey):
        monkeypatch.setattr(module, "open_clip", FakeClip)


def fill(folder, *names):
    folder.mkdir(exist_ok=True)
    for name in names:
        (folder / f"{name}.mp4").touch()
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


def test_older_packs_are_read(tmp_path):
    (made,) = write_packs(tmp_path, {"pan": pan(5, 64, 96, 4)})
    index = json.loads((tmp_path / "packs.json").read_text())
    for name in ("motion_90", "motion_99"):
        del index["windows"][0][name]
    (tmp_path / "packs.json").write_text(json.dumps(index | {"format": 1}))
    assert pack.read_index(tmp_path) == [made]
    assert made.motion_90 is None and made.motion_99 is None


def test_motion_of_a_part_shows_in_the_percentiles(tmp_path, monkeypatch):
    ground, thing = texture(96, 128, 1), texture(24, 24, 2)
    frames = [ground.copy() for _ in range(9)]
    for number, frame in enumerate(frames):
        frame[40:64, 20 + 3 * number : 44 + 3 * number] = thing
    read(monkeypatch, part=frames)
    (window,) = pack.pack(fill(tmp_path / "clips", "part"), tmp_path / "packs", frames=5)
    assert window.stride == 2 and window.motion < 0.5 and 4 < window.motion_99 < 9
    assert window.motion <= window.motion_90 <= window.motion_99


def test_an_index_that_overlooks_a_cut_is_not_believed(tmp_path, monkeypatch):
    folder = fill(tmp_path / "clips", "two")
    (folder / "INDEX.tsv").write_text("name\tsplit\tusable_segments\ntwo.mp4\ttrain\t0-25\n")
    read(monkeypatch, two=[*pan(13, 96, 128, 4, 1), *pan(13, 96, 128, 4, 5)])
    lines = []
    made = pack.pack(folder, tmp_path / "packs", frames=5, report=lines.append)
    assert [window.start for window in made] == [0, 5, 13, 18]
    assert "two.mp4: left out or moved: 1 with a cut" in lines
    assert "4 windows to choose from; left out or moved: 1 with a cut" in lines


def test_a_repeat_amid_motion_is_kept_out(tmp_path, monkeypatch):
    frames = pan(24, 96, 128, 4)
    frames[11] = frames[10]  # a frame lost on the way: the next step is twice as long
    read(monkeypatch, stuck=frames)
    lines = []
    made = pack.pack(fill(tmp_path / "clips", "stuck"), tmp_path / "packs", frames=5, report=lines.append)
    assert all(window.start + 5 <= 11 or window.start >= 11 for window in made) and len(made) == 4
    assert "stuck.mp4: left out or moved: 1 with a repeat" in lines


def test_repeats_that_fill_up_a_frame_rate_are_skipped(tmp_path, monkeypatch):
    single = pan(30, 96, 128, 4)
    # 20 frames a second shown as 25: one in five stands for two
    read(monkeypatch, filled=[frame for n, frame in enumerate(single) for _ in range(1 + (n % 4 == 3))])
    made = pack.pack(fill(tmp_path / "clips", "filled"), tmp_path / "packs", frames=9, crf=4)
    assert len(made) == 3 and made[0].fps == pytest.approx(20, abs=0.8)
    for _, stack in pack.decode(tmp_path / "packs", made):
        first = min(range(30), key=lambda n: np.abs(stack[0].mean(-1) - single[n].mean(-1)).mean())
        expected = np.stack(single[first : first + 9])
        assert np.abs(stack.mean(-1) - expected.mean(-1)).mean() < 3


def test_the_same_footage_is_packed_once(tmp_path, monkeypatch):
    large = pan(20, 192, 256, 6)
    # Re-encoded: smaller, darker, with black borders, and beginning later.
    small = [np.pad(cv2.resize(frame, (128, 96)) // 4 * 3 + 8, ((16, 16), (0, 0), (0, 0))) for frame in large[3:]]
    read(monkeypatch, a_copy=small, origin=large, other=pan(20, 96, 128, 4, 7))
    lines = []
    folder = fill(tmp_path / "clips", "a_copy", "origin", "other")
    made = pack.pack(folder, tmp_path / "packs", frames=5, report=lines.append)
    assert {window.clip for window in made} == {"origin.mp4", "other.mp4"}
    assert "a_copy.mp4: left out or moved: 3 duplicate: in origin.mp4" in lines


def test_what_is_measured_on_is_not_packed(tmp_path, monkeypatch):
    frames = pan(20, 96, 128, 4)
    kept_out = [frame // 4 * 3 + 8 for frame in frames[12:14]]
    read(monkeypatch, long=frames, short=kept_out)
    folder, dev = fill(tmp_path / "clips", "long"), fill(tmp_path / "dev", "short")
    (dev / "INDEX.tsv").write_text("name\tsplit\tusable_segments\nshort.mp4\tdev\t0-1\n")
    lines = []
    made = pack.pack(folder, tmp_path / "packs", frames=5, exclude=dev, report=lines.append)
    assert [window.start for window in made] == [0, 5, 15]
    assert "long.mp4: left out or moved: 1 excluded: in short.mp4" in lines
    read(monkeypatch, short=frames)
    with pytest.raises(InputError, match=r"has 5 frames in a row without a cut that .*dev does not show; lower"):
        pack.pack(folder, tmp_path / "none", frames=5, exclude=dev)
    with pytest.raises(InputError, match=r"No clips in .*empty; need video files"):
        pack.pack(folder, tmp_path / "none", exclude=fill(tmp_path / "empty"))


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
    with pytest.raises(InputError, match="has format 99, this version reads 1 to 2; pack the clips again"):
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
