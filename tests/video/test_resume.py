"""Runs that are killed, stopped or fail, and go on: the finished file has the bytes of a run without a stop."""

import errno
import os
import signal
import subprocess
import sys
from fractions import Fraction
from pathlib import Path

import pytest
from places import ROOT
from video import slow_writer
from video.clips import encode, info, noise, with_tone, yuv
from video.slow_writer import FRAMES, frames, write

from comfy_fusionfft.errors import Cancelled, InputError, MediaError
from comfy_fusionfft.video import open_clip, open_work, segments, write_clip, write_images

TARGETS = ["out.mp4", "out.mkv", "out"]


@pytest.fixture(autouse=True)
def _small_pieces(monkeypatch):
    monkeypatch.setattr(segments, "SEGMENT_FRAMES", 8)
    monkeypatch.setattr(write_images, "IMAGES_PER_PIECE", 8)


@pytest.fixture(scope="module")
def tone(tmp_path_factory):
    folder = tmp_path_factory.mktemp("tone")
    return with_tone(folder / "tone.mp4", encode(folder / "v.mp4", [yuv((90, 128, 128))] * 5, "yuv420p", "libx264"))


def content(target: Path) -> dict[str, bytes]:
    files = sorted(target.iterdir()) if target.is_dir() else [target]
    return {file.name: file.read_bytes() for file in files}


def sound_for(target: Path, tone: Path) -> Path | None:
    return tone if target.suffix == ".mp4" else None


def kill(target: Path, sound: Path | None, moment: str) -> None:
    """Start a run, and kill it when it has come to ``moment``."""
    command = [sys.executable, slow_writer.__file__, str(target), str(sound or ""), moment]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([*sys.path, str(ROOT)])}
    with subprocess.Popen(command, stdout=subprocess.PIPE, env=environment, cwd=ROOT) as run:
        assert run.stdout.readline() == b"halted\n"
        run.send_signal(signal.SIGKILL)
    assert run.returncode == -signal.SIGKILL


@pytest.mark.parametrize(("name", "moments"), [
    ("out.mp4", ["3", "21", "mux"]), ("out.mkv", ["20", "mux"]), ("out", ["13", "29"]),
])  # fmt: skip
def test_killed_and_resumed_is_the_same_to_the_byte(tmp_path, tone, name, moments):
    (tmp_path / "a").mkdir()
    whole, target = tmp_path / "a" / name, tmp_path / name
    sound = sound_for(target, tone)
    write(whole, sound)
    for moment in moments:
        kill(target, sound, moment)
        assert not target.exists()
        with open_work(target, "same") as work:
            expected = FRAMES if moment == "mux" else int(moment) // 8 * 8
            assert work.done == expected
            if expected:
                frame = frames()[expected - 1]
                assert (work.last.position, work.last.seconds) == (frame.position, frame.seconds)
    seen = []
    written = write(target, sound, on_frame=lambda count, frame: seen.append(count))
    assert seen == list(range(expected + 1, FRAMES + 1))
    assert (written.frames, written.seconds) == (FRAMES, Fraction(159, 100))
    assert content(target) == content(whole)
    assert sorted(entry.name for entry in tmp_path.iterdir()) == sorted(["a", name])
    assert len(list(open_clip(target))) == FRAMES


@pytest.mark.parametrize("name", TARGETS)
@pytest.mark.parametrize("error", [Cancelled("stop"), KeyboardInterrupt()])
def test_stopped_by_the_user(tmp_path, tone, name, error):
    (tmp_path / "a").mkdir()
    write(tmp_path / "a" / name, sound_for(tmp_path / name, tone))
    kept = 19 if name == "out" else 16
    with pytest.raises(Cancelled) as stopped:
        write(tmp_path / name, sound_for(tmp_path / name, tone), raising(error, 19))
    partial = tmp_path / name.replace("out", "out.partial")
    assert str(stopped.value) == (
        f"stopped after 19 frames: they are in {partial}; "
        f"{kept} finished frames are kept: run the same command again to go on"
    )
    assert len(list(open_clip(partial))) == 19
    with open_work(tmp_path / name, "same") as work:
        assert work.done == kept
    write(tmp_path / name, sound_for(tmp_path / name, tone))
    assert content(tmp_path / name) == content(tmp_path / "a" / name)
    assert sorted(entry.name for entry in tmp_path.iterdir()) == sorted(["a", name, partial.name])


@pytest.mark.parametrize("name", TARGETS)
def test_failures_keep_what_is_finished_and_say_so(tmp_path, name):
    kept = 19 if name == "out" else 16
    with pytest.raises(InputError, match=rf"^mine; {kept} finished frames are kept: run the same command again"):
        write(tmp_path / name, None, raising(InputError("mine"), 19))
    with pytest.raises(ZeroDivisionError) as foreign:
        write(tmp_path / name, None, raising(ZeroDivisionError("theirs"), 25))
    assert str(foreign.value) == "theirs"
    if sys.version_info >= (3, 11):
        assert "run the same command again" in foreign.value.__notes__[0]
    assert len(list(tmp_path.iterdir())) == 1
    assert write(tmp_path / name, None).frames == FRAMES
    assert [entry.name for entry in tmp_path.iterdir()] == [name]


@pytest.mark.parametrize("name", TARGETS)
def test_failure_before_anything_is_finished_leaves_nothing(tmp_path, name):
    with pytest.raises(ZeroDivisionError):
        write(tmp_path / name, None, raising(ZeroDivisionError(), 0 if name == "out" else 7))
    assert list(tmp_path.iterdir()) == []


def test_full_disk_keeps_what_is_finished(tmp_path, monkeypatch):
    original = segments.SegmentWriter.finish

    def finish(self):
        if "000002" in self.path.name:
            raise OSError(errno.ENOSPC, "No space left on device")
        original(self)

    monkeypatch.setattr(segments.SegmentWriter, "finish", finish)
    text = r"disk full while writing .*out\.mkv: free space or choose another folder; 16 finished frames are kept"
    with pytest.raises(MediaError, match=text):
        write(tmp_path / "out.mkv", None)
    monkeypatch.undo()
    assert write(tmp_path / "out.mkv", None).frames == FRAMES


def test_impossible_requests_leave_no_work(tmp_path):
    with pytest.raises(MediaError, match="quality 99 does not exist"):
        write(tmp_path / "out.mp4", None, quality=99)
    assert list(tmp_path.iterdir()) == []


def test_output_may_exist_until_it_is_replaced(tmp_path):
    write_clip(tmp_path / "out.mp4", noise(2), like=info(tmp_path))
    with pytest.raises(InputError, match="mine"):
        write(tmp_path / "out.mp4", None, raising(InputError("mine"), 19), overwrite=True)
    assert len(list(open_clip(tmp_path / "out.mp4"))) == 2
    write(tmp_path / "out.mp4", None, overwrite=True)
    assert len(list(open_clip(tmp_path / "out.mp4"))) == FRAMES


@pytest.mark.parametrize(("codec", "name"), [
    ("h264", "out.mov"), ("hevc", "out.mp4"), ("av1", "out.mkv"),
    ("vp9", "out.webm"), ("prores", "out.mov"), ("ffv1", "out.avi"),
])  # fmt: skip
@pytest.mark.parametrize("rate", [None, Fraction(30000, 1001)])
def test_segments_play_as_one_stream_would(tmp_path, monkeypatch, codec, name, rate):
    """The same frames at the same times whether cut in segments or not: every codec, with and without a steady rate."""
    clips = []
    for length in (7, 1000):
        monkeypatch.setattr(segments, "SEGMENT_FRAMES", length)
        path = tmp_path / str(length) / name
        write_clip(
            path,
            frames(),
            like=info(tmp_path),
            codec=codec,
            rate=rate,
            quality=0 if codec != "prores" and codec != "ffv1" else None,
        )
        clips.append(open_clip(path))
    cut, uncut = (list(clip) for clip in clips)
    assert [frame.seconds for frame in cut] == [frame.seconds for frame in uncut]
    assert len(cut) == FRAMES
    for before, after, source in zip(cut, uncut, frames(), strict=True):
        error = (before.pixels.float() - source.pixels.float()).square().mean()
        assert error <= (after.pixels.float() - source.pixels.float()).square().mean() * 1.5 + 1
    assert float(clips[0].info.rate) == pytest.approx(float(clips[1].info.rate), rel=0 if rate else 0.02)


def raising(error: BaseException, at: int):
    def stream(start: int):
        for number, frame in enumerate(frames(start), start):
            if number == at:
                raise error
            yield frame

    return stream
