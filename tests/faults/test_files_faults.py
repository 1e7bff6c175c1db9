"""Faults in runs over whole files: kills, signals, full and vanishing disks, clocks that jump, damage and change."""

import errno
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from fractions import Fraction as F
from pathlib import Path

import numpy as np
import pytest
import torch
from places import ROOT
from video.clips import info

from comfy_fusionfft.contract import Frame
from comfy_fusionfft.errors import Cancelled, InputError, MediaError
from comfy_fusionfft.files import inspect_file, interpolate_file
from comfy_fusionfft.host import PlainHost
from comfy_fusionfft.video import open_clip, segments, write_clip, write_images

QUICK = {"flow": "dis", "method": "rife"}
TARGETS = ["out.mp4", "out.mkv", "out"]


@pytest.fixture(autouse=True)
def _small_pieces(monkeypatch):
    monkeypatch.setattr(segments, "SEGMENT_FRAMES", 8)
    monkeypatch.setattr(write_images, "IMAGES_PER_PIECE", 8)


def moving(count: int, seed: int = 1) -> list[Frame]:
    tiles = np.random.default_rng(seed).integers(0, 255, (12, 20, 3))
    ground = np.kron(tiles, np.ones((6, 6, 1))).astype(np.uint8)
    return [Frame(torch.from_numpy(ground[:48, 2 * i : 2 * i + 64].copy()), F(i, 24)) for i in range(count)]


def clip_at(path: Path, seed: int = 1, count: int = 12) -> Path:
    like = info(path.parent, rate=F(24))
    return write_clip(path, moving(count, seed), like=like, rate=F(24), codec="ffv1", overwrite=True).path


@pytest.fixture
def source(tmp_path):
    return clip_at(tmp_path / "in.mkv")


def content(path: Path):
    return {file.name: file.read_bytes() for file in path.iterdir()} if path.is_dir() else path.read_bytes()


def whole(source: Path, name: str, **settings):
    """What a run without a fault makes; it is a run of another folder."""
    target = source.parent / "whole" / name
    return content(interpolate_file(source, target, overwrite=True, **{**QUICK, **settings}).path)


def host_that(act, at: int) -> PlainHost:
    """Does ``act()`` when so many output frames are written."""

    def tell(done, total):
        if total is not None and done == at:
            act()

    return PlainHost("cpu", "float32", on_progress=tell)


# ------------------------------------------------------------------------------------------- killed and resumed


@pytest.mark.parametrize(("name", "settings", "every"), [
    ("out.mp4", {}, 16), ("out", {"multi": 3}, 40),
])  # fmt: skip
def test_killed_at_every_point_and_resumed_is_the_same_to_the_byte(tmp_path, source, name, settings, every):
    script = ROOT / "tests" / "faults" / "kill_points.py"
    command = [sys.executable, str(script), str(tmp_path), name, json.dumps({**QUICK, **settings}), str(every)]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    said = subprocess.run(command, check=True, capture_output=True, text=True, cwd=ROOT, env=environment).stdout
    figures = json.loads(said)
    assert figures["points"] >= 2 and not figures["different"], figures
    assert set(figures["phases"]) == {"begin", "survey", "frames", "publish", *(["join"] if name != "out" else [])}


if sys.platform != "linux":
    del test_killed_at_every_point_and_resumed_is_the_same_to_the_byte


@pytest.mark.parametrize(("number", "ended"), [(signal.SIGTERM, -signal.SIGTERM), (signal.SIGINT, 1)])
def test_signals_keep_what_is_finished(tmp_path, source, number, ended):
    """From plain Python. SIGTERM ends it at once; SIGINT keeps a playable part, too."""
    command = [sys.executable, str(ROOT / "tests" / "slow_interpolate.py"), str(source)]
    target = tmp_path / "out.mp4"
    with subprocess.Popen(
        [*command, str(target), json.dumps(QUICK), "18"], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as process:
        for line in process.stdout:
            if int(line) == 18:
                process.send_signal(number)
                break
        error = process.communicate()[1]
    assert process.returncode == ended
    assert not target.exists() and list(tmp_path.glob(".out.mp4.*.work/000001.packets"))
    partial = tmp_path / "out.partial.mp4"
    assert partial.exists() == (number == signal.SIGINT) == ("Cancelled: stopped after" in error)
    assert interpolate_file(source, target, **QUICK).frames == 23
    assert content(target) == whole(source, "out.mp4")
    assert not list(tmp_path.glob(".out.mp4*"))


@pytest.mark.parametrize("name", TARGETS)
def test_another_input_under_the_old_name_is_not_mixed_with_the_old_one(tmp_path, source, name):
    with pytest.raises(ZeroDivisionError):
        interpolate_file(source, tmp_path / name, host=host_that(lambda: 1 / 0, 19), **QUICK)
    clip_at(source, seed=2)
    os.utime(source, (time.time() + 10,) * 2)
    written = interpolate_file(source, tmp_path / name, **QUICK)
    assert content(written.path) == whole(source, name)
    assert sorted(entry.name for entry in tmp_path.iterdir()) == sorted(["in.mkv", name, "whole"])


# ------------------------------------------------------------------------------------------------ clocks


@pytest.mark.parametrize(("name", "jump"), [("out.mp4", -3), ("out.mkv", 3), ("out", 0)], ids=["back", "on", "still"])
def test_clocks_that_jump_by_days_change_nothing(tmp_path, source, monkeypatch, name, jump):
    expected, at = whole(source, name), [1e9]

    def now():
        at[0] += jump * 86400
        return at[0]

    for clock in ("time", "monotonic", "perf_counter"):
        monkeypatch.setattr(time, clock, now)
    with pytest.raises(ZeroDivisionError):
        interpolate_file(source, tmp_path / name, host=host_that(lambda: 1 / 0, 17), **QUICK)
    for file in tmp_path.glob(".*.work/**/*"):  # as if made in the far future
        os.utime(file, (4e9, 4e9))
    seen = []
    host = PlainHost("cpu", "float32", on_progress=lambda done, total: seen.append(done))
    interpolate_file(source, tmp_path / name, host=host, **QUICK)
    assert seen[0] == 17, "what was finished is neither lost nor made again"
    assert content(tmp_path / name) == expected
    assert not list(tmp_path.glob(".out*"))


# ----------------------------------------------------------------------------------- places that fail


@pytest.mark.parametrize("name", ["out.mp4", "out"])
def test_a_folder_that_vanishes_meanwhile(tmp_path, source, name):
    place = tmp_path / "place"
    with pytest.raises(
        MediaError, match=r"cannot be written any more .*: its folder is gone or was emptied, run again"
    ):
        interpolate_file(source, place / name, host=host_that(lambda: shutil.rmtree(place), 10), **QUICK)
    assert not (place / name).exists()
    assert interpolate_file(source, place / name, **QUICK).frames == 23
    assert content(place / name) == whole(source, name)
    assert [entry.name for entry in place.iterdir()] == [name]


def test_a_source_that_vanishes_meanwhile_does_not_cost_what_is_finished(tmp_path, source):
    away = tmp_path / "away.mkv"
    expected = whole(source, "out.mkv")
    silent = host_that(lambda: source.rename(away), 10)
    interpolate_file(source, tmp_path / "out.mkv", host=silent, **QUICK)  # an open file can be read on
    assert content(tmp_path / "out.mkv") == expected
    with pytest.raises(MediaError, match=r"in\.mkv does not exist: give a video file"):
        interpolate_file(source, tmp_path / "again.mkv", **QUICK)


@pytest.mark.parametrize(("name", "place", "reason"), [
    ("out.mp4", "journal", errno.ENOSPC), ("out.mkv", "000001.packets.part", errno.ENOSPC),
    ("out.mkv", "whole.mkv", errno.ENOSPC), ("out", "0000009.png", errno.ENOSPC),
    ("out.mkv", "journal", errno.EROFS), ("out.mp4", "whole.mp4", errno.EROFS), ("out", "0000009.png", errno.EIO),
])  # fmt: skip
def test_a_disk_that_fails_keeps_what_is_finished(tmp_path, source, monkeypatch, name, place, reason):
    """At every kind of write: journal, segment, the finished file, image."""
    failing = [True]

    def fail(file):
        if failing[0] and Path(os.fsdecode(file)).name == place:
            raise OSError(reason, os.strerror(reason))

    def guarded(of, attribute):
        original = getattr(of, attribute)

        def call(self, *arguments, **options):
            # the journal is appended to when a piece is finished: fail there, and not when it is begun
            if place != "journal" or (arguments[:1] == ("a",) and b'"piece"' in self.read_bytes()):
                fail(self)
            return original(self, *arguments, **options)

        monkeypatch.setattr(of, attribute, call)

    guarded(Path, "open")
    guarded(Path, "write_bytes")
    assembled = files_mux().av.open

    def opened(file, *arguments, **options):
        fail(str(file).removeprefix("file:"))
        return assembled(file, *arguments, **options)

    monkeypatch.setattr(files_mux().av, "open", opened)
    text = (
        "disk full while writing .*: free space" if reason == errno.ENOSPC else "cannot be written .*: choose another"
    )
    with pytest.raises(
        MediaError, match=rf"{text}.*; \d+ finished frames are kept: run the same command again to go on"
    ):
        interpolate_file(source, tmp_path / name, host=PlainHost("cpu", "float32"), **QUICK)
    assert not (tmp_path / name).exists()
    failing[0] = False
    seen = []
    host = PlainHost("cpu", "float32", on_progress=lambda done, total: seen.append(done))
    interpolate_file(source, tmp_path / name, host=host, **QUICK)
    assert not seen or seen[0] > 8, "what was finished is not made again"
    assert content(tmp_path / name) == whole(source, name)
    assert not list(tmp_path.glob(".out*"))


def files_mux():
    from comfy_fusionfft.video import mux

    return mux


def _mounted(folder: Path, options: str) -> bool:
    command = ["mount", "-t", "tmpfs", "-o", options, "none", str(folder)]
    return shutil.which("mount") is not None and subprocess.run(command, capture_output=True).returncode == 0


@pytest.fixture
def disk(tmp_path):
    """A real disk of 64 KiB and 24 files; only root has such."""
    folder = tmp_path / "disk"
    folder.mkdir()
    assert _mounted(folder, "size=64k,nr_inodes=24")
    yield folder
    subprocess.run(["umount", "-l", str(folder)], check=True)


def change(disk: Path, options: str) -> None:
    subprocess.run(["mount", "-o", f"remount,{options}", str(disk)], check=True)


@pytest.mark.parametrize(("name", "limits"), [
    ("out.mp4", "size=8k"), ("out.mp4", "size=20k"), ("out.mkv", "size=64k"), ("out.mkv", "nr_inodes=5"),
    ("out", "size=96k"), ("out", "nr_inodes=9"),
])  # fmt: skip
def test_real_disks_fail(disk, source, name, limits):
    options = {**QUICK, "codec": "ffv1"} if name == "out.mkv" else QUICK
    expected = whole(source, name, **options)
    target = disk / name
    change(disk, limits)
    with pytest.raises(MediaError, match=f"^disk full while writing {target}: free space or choose another folder"):
        interpolate_file(source, target, **options)
    assert not target.exists()
    change(disk, "size=4m,nr_inodes=999")
    interpolate_file(source, target, **options)
    assert content(target) == expected
    assert [entry.name for entry in disk.iterdir()] == [name]


def _can_mount() -> bool:
    import tempfile

    if sys.platform != "linux" or os.geteuid() != 0:
        return False
    with tempfile.TemporaryDirectory() as folder:
        if not _mounted(Path(folder), "size=64k"):
            return False
        return subprocess.run(["umount", folder], capture_output=True).returncode == 0


if not _can_mount():
    del test_real_disks_fail


# ------------------------------------------------------------------------------------ damaged sources


def spoil(path: Path, number: int) -> None:
    """The payload of this frame of a Matroska file of FFV1, whose checksums find it out."""
    import av

    with av.open(str(path)) as container:
        payload = next(bytes(p) for k, p in enumerate(container.demux(video=0)) if k == number)
    data = bytearray(path.read_bytes())
    assert data.count(payload) == 1
    at = data.index(payload)
    data[at : at + len(payload)] = bytes(byte ^ 0x55 for byte in payload)
    path.write_bytes(data)


def test_a_frame_that_does_not_decode_is_left_out_and_told(tmp_path):
    """Stated rule: damage with pictures behind it is passed over; times stay, so that sound and length do, too."""
    source = clip_at(tmp_path / "in.mkv")
    spoil(source, 5)
    clip = open_clip(source)
    assert [frame.seconds for frame in clip] == [F(k, 24) for k in range(12) if k != 5]
    note = "1 damaged picture was left out of in.mkv, the first before frame 5 of those that are whole"
    assert clip.notes == (note,)
    written = interpolate_file(source, tmp_path / "out.mp4", **QUICK)
    assert written.notes.count(note) == 1 and written.frames == 21
    assert note in inspect_file(source)
    spoil(source, 10)  # the one before the last: what other threads had made must not be lost with it
    clip = open_clip(source)
    assert len(list(clip)) == 10 and len(list(clip.frames(3, 16))) == 7
    assert clip.notes == (
        "2 damaged pictures were left out of in.mkv, the first before frame 5 of those that are whole",
    )


def test_an_image_that_does_not_decode_stops_the_run_and_keeps_what_is_finished(tmp_path):
    """Stated rule: a missing image would shift all that follow; it is named, and can be put right."""
    folder = tmp_path / "in"
    write_clip(folder, moving(12), like=info(tmp_path))
    good = (folder / "0000009.png").read_bytes()
    times = (folder / "0000009.png").stat().st_mtime_ns
    expected = whole(folder, "out.mkv", cuts=())
    (folder / "0000009.png").write_bytes(good[: len(good) // 2] + bytes(len(good) - len(good) // 2))
    os.utime(folder / "0000009.png", ns=(times, times))
    with pytest.raises(MediaError, match=r"0000009\.png is not a readable image .*; 16 finished frames are kept"):
        interpolate_file(folder, tmp_path / "out.mkv", cuts=(), **QUICK)
    (folder / "0000009.png").write_bytes(good)
    os.utime(folder / "0000009.png", ns=(times, times))
    assert content(interpolate_file(folder, tmp_path / "out.mkv", cuts=(), **QUICK).path) == expected


# ------------------------------------------------------------------------------------------- side files


@pytest.mark.parametrize("kind", ["timeline", "report", "plot"])
def test_side_files_that_cannot_be_are_said_before_the_long_run(tmp_path, source, kind):
    for path, text in (
        (tmp_path / "no" / "a.png", "no does not exist, a.png was to go there"),
        (tmp_path, "is a folder"),
    ):
        with pytest.raises(InputError, match=text):
            interpolate_file(source, tmp_path / "out.mkv", **{kind: path}, **QUICK)
    assert [entry.name for entry in tmp_path.iterdir()] == ["in.mkv"]


@pytest.mark.parametrize("kind", ["timeline", "report", "plot"])
def test_a_full_disk_for_side_files_does_not_cost_the_video(tmp_path, source, monkeypatch, kind):
    path, part = tmp_path / "side.png", tmp_path / ".side.part.png"
    path.write_bytes(b"the old one")
    part.symlink_to("/dev/full")
    with pytest.raises(
        MediaError, match=r"side\.png cannot be written \(No space left on device\): choose another place"
    ):
        interpolate_file(source, tmp_path / "out.mkv", **{kind: path}, **QUICK)
    assert path.read_bytes() == b"the old one" and not part.exists()
    assert len(list(open_clip(tmp_path / "out.mkv"))) == 23


if not Path("/dev/full").exists():
    del test_a_full_disk_for_side_files_does_not_cost_the_video


def test_cancelled_before_the_first_frame_leaves_nothing(tmp_path, source):
    host = PlainHost("cpu", "float32")
    host.cancel()
    with pytest.raises(Cancelled):
        interpolate_file(source, tmp_path / "out.mkv", host=host, **QUICK)
    assert [entry.name for entry in tmp_path.iterdir()] == ["in.mkv"]
