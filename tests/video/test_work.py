"""The journal and the lock: what counts after a crash, and who may write."""

import json
import os
import subprocess
import sys
import time
from fractions import Fraction

import pytest
from places import ROOT
from video import slow_writer
from video.clips import info, noise
from video.slow_writer import FRAMES, frames, write

from comfy_fusionfft.errors import MediaError
from comfy_fusionfft.video import open_clip, open_work, segments, write_clip, write_images


@pytest.fixture(autouse=True)
def _small_pieces(monkeypatch):
    monkeypatch.setattr(segments, "SEGMENT_FRAMES", 8)
    monkeypatch.setattr(write_images, "IMAGES_PER_PIECE", 8)


def begun(target, done: int = 24):
    """Work of a run that failed behind ``done`` frames -> its folder."""

    def stream(start):
        yield from frames()[:done]
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        write(target, None, stream)
    (folder,) = (
        entry for entry in target.parent.glob(f".{target.name}.*.work") if len(entry.name) == len(target.name) + 15
    )
    return folder


def done(target, key: str = "same") -> int:
    with open_work(target, key) as work:
        return work.done


def test_notes_are_remembered(tmp_path):
    begun(tmp_path / "out.mkv")
    with open_work(tmp_path / "out.mkv", "same") as work:
        assert work.recall("edit") is None
        work.remember("edit", "first\nline")
        work.remember("edit", '{"frames": 24, "ä": 1}')
    with open_work(tmp_path / "out.mkv", "same") as work:
        assert work.recall("edit") == '{"frames": 24, "ä": 1}'
        assert work.notes == {"edit": '{"frames": 24, "ä": 1}'}
        assert (work.done, work.last.seconds, work.last.position) == (24, frames()[23].seconds, Fraction(23, 3))


def test_nothing_is_left_of_work_that_was_only_opened(tmp_path):
    with open_work(tmp_path / "new" / "out.mkv", "same") as work:
        work.remember("edit", "text")
        assert (work.done, work.last, work.plan) == (0, None, None)
    assert list((tmp_path / "new").iterdir()) == []


@pytest.mark.parametrize("name", ["out.mkv", "out"])
@pytest.mark.parametrize(("damage", "expected"), [
    (lambda data: data[:-1], 8), (lambda data: data + b"\0", 8), (lambda data: b"", 8),
    (lambda data: data[:50] + bytes([data[50] ^ 1]) + data[51:], 8), (None, 8), (lambda data: data, 24),
])  # fmt: skip
def test_only_whole_files_count(tmp_path, name, damage, expected):
    folder = begun(tmp_path / name)
    file = folder / ("000001.packets" if name == "out.mkv" else "images/0000011.png")
    if damage is None:
        file.unlink()
    else:
        file.write_bytes(damage(file.read_bytes()))
    assert done(tmp_path / name) == expected
    assert write(tmp_path / name, None).frames == FRAMES
    assert [entry.name for entry in tmp_path.iterdir()] == [name]


@pytest.mark.parametrize(("damage", "expected"), [
    (lambda data: data[:-1], 16),  # the last line is torn
    (lambda data: data[: data.index(b"\n", len(data) // 2) + 9], 8),
    (lambda data: data[:5], 0),
    (lambda data: b"", 0),
    (lambda data: b"\xff\xfe" + data, 0),
    (lambda data: data.replace(b'"size": ', b'"size": 1', 1), 0),
    (lambda data: data.replace(b'"frames"', b'"frame"'), 0),
    (lambda data: data + b"[]\n" + data, 24),
])  # fmt: skip
def test_a_torn_journal_counts_up_to_the_tear(tmp_path, damage, expected):
    journal = begun(tmp_path / "out.mkv") / "journal"
    journal.write_bytes(damage(journal.read_bytes()))
    assert done(tmp_path / "out.mkv") == expected
    assert write(tmp_path / "out.mkv", None).frames == FRAMES
    assert len(list(open_clip(tmp_path / "out.mkv"))) == FRAMES


def test_left_overs_of_a_torn_run_are_removed(tmp_path):
    folder = begun(tmp_path / "out.mkv")
    for name in ("000003.packets.part", "000007.packets", "whole.mkv", "journal.new"):
        (folder / name).write_bytes(b"torn")
    with open_work(tmp_path / "out.mkv", "same"):
        names = sorted(entry.name for entry in folder.iterdir())
    assert names == ["000000.packets", "000001.packets", "000002.packets", "journal", "lock"]


def test_another_key_is_other_work(tmp_path):
    begun(tmp_path / "out.mkv")
    assert done(tmp_path / "out.mkv", "other") == 0
    assert done(tmp_path / "out.mkv") == 24


def test_equal_names_of_different_keys_are_told_apart(tmp_path):
    folder = begun(tmp_path / "out.mkv")
    with open_work(tmp_path / "out.mkv", "other") as work:
        stranger = work.folder
    folder.rename(stranger)
    assert done(tmp_path / "out.mkv", "other") == 0


def test_packets_of_another_build_do_not_count(tmp_path):
    journal = begun(tmp_path / "out.mkv") / "journal"
    journal.write_text(journal.read_text().replace('"made_with": ["', '"made_with": ["0.'))
    assert done(tmp_path / "out.mkv") == 0


def test_two_runs_on_one_target(tmp_path):
    begun(tmp_path / "out.mkv")
    text = rf"out\.mkv is being written by another run \(process {os.getpid()}\): wait until it ends"
    with open_work(tmp_path / "out.mkv", "same"):
        for key in ("same", "other"):
            with pytest.raises(MediaError, match=text):
                open_work(tmp_path / "out.mkv", key)
        open_work(tmp_path / "out", "same").close()
        open_work(tmp_path / "out.mkv.mkv", "same").close()
    assert done(tmp_path / "out.mkv") == 24  # refusing took nothing away


def test_two_processes_on_one_target(tmp_path):
    target = tmp_path / "out.mkv"
    command = [sys.executable, slow_writer.__file__, str(target), "", "9"]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([*sys.path, str(ROOT)])}
    with subprocess.Popen(command, stdout=subprocess.PIPE, env=environment, cwd=ROOT) as run:
        run.stdout.readline()
        with pytest.raises(MediaError, match=rf"is being written by another run \(process {run.pid}\)"):
            open_work(target, "other")
        write_clip(target, noise(2), like=info(tmp_path))  # finishing leaves living work alone
        assert len(list(tmp_path.glob(".*.work"))) == 1
        run.kill()
    assert done(target) == 8


def test_dead_work_goes_when_the_target_is_finished(tmp_path):
    begun(tmp_path / "out.mkv")
    begun(tmp_path / "out")
    write(tmp_path / "out.mkv", None, key="other")
    names = sorted(entry.name for entry in tmp_path.iterdir())
    assert len(names) == 2 and names[0].startswith(".out.") and names[1] == "out.mkv"  # and that of the other target


def test_work_that_is_not_to_be_kept(tmp_path):
    work = open_work(tmp_path / "out.mkv", "same", keep=False)

    def stream():
        yield from frames()[:24]
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        write_clip(tmp_path / "out.mkv", stream(), like=info(tmp_path), work=work)
    assert list(tmp_path.iterdir()) == []


def test_checking_what_is_there_is_quick(tmp_path):
    """A resumed run of many pieces starts in seconds."""
    folder = begun(tmp_path / "out.mkv")
    header, plan, piece, *_ = (folder / "journal").read_text().splitlines()
    pieces = [{"piece": {**json.loads(piece)["piece"], "first": number}} for number in range(2000)]
    for number in range(3, 2000):
        os.link(folder / "000000.packets", folder / f"{number:06d}.packets")
    for number in (1, 2):
        (folder / f"{number:06d}.packets").write_bytes((folder / "000000.packets").read_bytes())
    (folder / "journal").write_text("\n".join([header, plan, *map(json.dumps, pieces)]) + "\n")
    started = time.perf_counter()
    assert done(tmp_path / "out.mkv") == 16000
    assert time.perf_counter() - started < 5


def test_pieces_that_do_not_follow_one_another_do_not_count(tmp_path):
    journal = begun(tmp_path / "out.mkv") / "journal"
    lines = journal.read_text().splitlines()
    journal.write_text("\n".join([*lines[:3], lines[2], *lines[3:]]) + "\n")
    assert done(tmp_path / "out.mkv") == 8
