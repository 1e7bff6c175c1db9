"""Whole files: what is asked for arrives in the file, with its sound and its notes, and a killed run goes on."""

import json
import subprocess
import sys
from fractions import Fraction as F
from itertools import pairwise
from pathlib import Path

import av
import numpy as np
import pytest
import torch
from places import ROOT
from video.clips import info, with_tone

from comfy_fusionfft.contract import Frame
from comfy_fusionfft.errors import Cancelled, InputError, OutputExistsError
from comfy_fusionfft.files import inspect_file, interpolate_file
from comfy_fusionfft.fingerprint import fingerprint
from comfy_fusionfft.host import PlainHost
from comfy_fusionfft.video import open_clip, write_clip

QUICK = {"flow": "dis", "method": "rife"}


def moving(count, shots=(0,), step=2):
    """A texture that moves; every shot has its own."""
    grounds = []
    for seed in shots:
        tiles = np.random.default_rng(seed).integers(0, 255, (16, 40, 3))
        grounds.append(np.kron(tiles, np.ones((6, 6, 1))).astype(np.uint8))
    for i in range(count):
        ground = grounds[i * len(shots) // count]
        yield Frame(torch.from_numpy(ground[4:68, step * i : step * i + 80].copy()), F(i, 24))


@pytest.fixture
def source(tmp_path):
    """Two seconds at 24 per second, a cut in the middle, with a tone."""
    silent = tmp_path / "silent.mp4"
    write_clip(silent, moving(48, (1, 2)), like=info(tmp_path, rate=F(24)), rate=F(24), quality=12)
    return with_tone(tmp_path / "in.mp4", silent, seconds=2.0)


def facts(path):
    """Frames, their times, seconds of sound."""
    frames = [frame.seconds for frame in open_clip(path)]
    with av.open(str(path)) as container:
        packets = container.demux(container.streams.audio) if container.streams.audio else ()
        sound = [float((p.pts + p.duration) * p.time_base) for p in packets if p.pts is not None]
    return len(frames), frames, max(sound, default=0.0)


def test_any_rate_keeps_the_sound_and_finds_the_cut(source, tmp_path):
    written = interpolate_file(source, tmp_path / "out.mp4", fps=60, **QUICK)
    count, seconds, sound = facts(written.path)
    assert count == 118 and seconds == [F(k, 60) for k in range(118)] and sound == pytest.approx(2.0, abs=0.05)
    assert any(note.startswith("1 cut, ") and "24 (1.00 s)" in note for note in written.notes), written.notes
    around = [f.pixels.float() for f in open_clip(written.path)][57:63]
    steps = [float((a - b).abs().mean()) for a, b in pairwise(around)]
    assert sum(step > 30 for step in steps) == 1, "one jump, no blend"


@pytest.mark.parametrize(("audio", "lasts"), [("auto", 4.0), ("tape", 4.0), ("keep", 2.0), ("drop", 0.0)])
def test_slow_motion_does_with_the_sound_what_was_asked(source, tmp_path, audio, lasts):
    interpolate_file(source, tmp_path / "out.mp4", slow=2, audio=audio, **QUICK)
    count, _, sound = facts(tmp_path / "out.mp4")
    assert count == 95 and sound == pytest.approx(lasts, abs=0.08)


def test_a_ramp_stretches_the_sound_along(source, tmp_path):
    interpolate_file(source, tmp_path / "out.mkv", speed="0:1, 1:1, 1:0.5", fps=24, **QUICK)
    count, _, sound = facts(tmp_path / "out.mkv")
    assert count == 24 + 46 + 1 and sound == pytest.approx(3.0, abs=0.1)


def test_counts_rounds_and_exposures_come_out_as_long_as_asked(source, tmp_path):
    assert interpolate_file(source, tmp_path / "a.mp4", count=121, **QUICK).frames == 121
    assert interpolate_file(source, tmp_path / "b.mp4", loop=True, **QUICK).frames == 96
    assert interpolate_file(source, tmp_path / "c", fps=12, shutter=0.5, samples=3, **QUICK).frames == 24


def test_cuts_by_hand_and_skipped_leave_the_times_of_the_rest(source, tmp_path):
    interpolate_file(source, tmp_path / "out.mkv", multi=4, cuts={24}, at_cut="skip", **QUICK)
    count, seconds, _ = facts(tmp_path / "out.mkv")
    assert count == 4 * 47 + 1 - 3 and seconds[-1] == pytest.approx(47 / 24, abs=1e-3)


def test_repeats_are_left_out_and_told(tmp_path):
    frames = list(moving(24))
    twos = [Frame(frames[i // 2].pixels, F(i, 24)) for i in range(48)]
    source = write_clip(tmp_path / "in.mkv", twos, like=info(tmp_path, rate=F(24)), rate=F(24), codec="ffv1").path
    written = interpolate_file(source, tmp_path / "out.mkv", dedupe=True, multi=1, codec="ffv1", **QUICK)
    assert any("on twos" in note for note in written.notes), written.notes
    out = [f.pixels.float() for f in open_clip(written.path)]
    steps = np.array([float((a - b).abs().mean()) for a, b in pairwise(out)])
    assert len(out) == 48 and (steps[:44] > 1).all(), "something moves in every step"


def test_reports_pictures_and_plots_are_written(source, tmp_path):
    files = {"timeline": tmp_path / "t.png", "report": tmp_path / "r.json", "plot": tmp_path / "p.png"}
    interpolate_file(source, tmp_path / "out.mp4", hold_below=5.0, **files, **QUICK)
    assert json.loads(files["report"].read_text())["cuts"] == [{"frame": 24, "seconds": "1"}]
    assert all(open_clip(files[name]).info.width >= 320 for name in ("timeline", "plot"))
    lines = inspect_file(source, timeline=tmp_path / "again.png")
    assert any("1 cut" in line for line in lines) and (tmp_path / "again.png").stat().st_size > 1000


@pytest.mark.parametrize(
    ("name", "settings"),
    [
        ("out.mp4", {"fps": 60}),
        ("out.mkv", {"speed": "0:1, 50%:0.5", "codec": "ffv1", "loop": True}),
        ("out", {"multi": 3, "shutter": 0.5, "samples": 3}),
    ],
)
def test_killed_and_resumed_is_the_same_to_the_byte(source, tmp_path, name, settings):
    settings = {**settings, **QUICK}
    command = [sys.executable, str(ROOT / "tests" / "slow_interpolate.py"), str(source)]
    whole = tmp_path / "whole" / name
    subprocess.run([*command, str(whole), json.dumps(settings)], check=True, stdout=subprocess.DEVNULL)
    target = tmp_path / name
    made = 0
    for moment in (20, 45):
        process = subprocess.Popen([*command, str(target), json.dumps(settings)], stdout=subprocess.PIPE, text=True)
        for line in process.stdout:
            made = int(line)
            if made >= moment * (3 if "shutter" in settings else 1):
                break
        process.kill()
        process.wait()
        assert not target.exists() and list(tmp_path.glob(f".{name}.*.work"))
    subprocess.run([*command, str(target), json.dumps(settings)], check=True, stdout=subprocess.DEVNULL)
    assert content(target) == content(whole)
    assert not list(tmp_path.glob(f".{name}.*"))


def content(path: Path):
    return {p.name: p.read_bytes() for p in path.iterdir()} if path.is_dir() else path.read_bytes()


def test_a_stopped_run_keeps_a_playable_part_and_goes_on(source, tmp_path, monkeypatch):
    monkeypatch.setattr("comfy_fusionfft.video.segments.SEGMENT_FRAMES", 8)
    seen = []

    def stop(done, total):
        seen.append((done, total))
        if total is not None and done == 40:
            host.cancel()

    host = PlainHost("cpu", "float32", on_progress=stop)
    with pytest.raises(Cancelled, match=r"out\.partial\.mp4.*run the same command again to go on"):
        interpolate_file(source, tmp_path / "out.mp4", host=host, **QUICK)
    assert len(list(open_clip(tmp_path / "out.partial.mp4"))) == seen[-1][0]
    seen.clear()
    host = PlainHost("cpu", "float32", on_progress=lambda done, total: seen.append((done, total)))
    written = interpolate_file(source, tmp_path / "out.mp4", host=host, plot=tmp_path / "p.png", **QUICK)
    assert written.frames == 95 and (tmp_path / "p.png").exists()
    assert "the plot begins at frame 40: what an earlier run made is not in it" in written.notes
    assert seen[0] == (41, 95) and seen[-1] == (95, 95), "neither looked through nor begun again"


def test_a_wrong_choice_is_said_before_anything_is_read_or_left(source, tmp_path):
    before = sorted(tmp_path.iterdir())
    with pytest.raises(InputError, match="audio 'louder' is not known: use auto, keep, stretch, tape, drop"):
        interpolate_file(source, tmp_path / "out.mp4", audio="louder")
    with pytest.raises(InputError, match="multi and fps exclude one another"):
        interpolate_file(source, tmp_path / "out.mp4", multi=2, fps=60)
    with pytest.raises(InputError, match="at_cut 'blend' is not known"):
        interpolate_file(source, tmp_path / "out.mp4", at_cut="blend", **QUICK)
    with pytest.raises(OutputExistsError):
        interpolate_file(tmp_path / "silent.mp4", source, **QUICK)
    assert sorted(tmp_path.iterdir()) == before


def test_a_fingerprint_changes_with_what_matters_and_with_nothing_else(tmp_path):
    first = torch.nn.Linear(2, 2)
    again = torch.nn.Linear(2, 2)
    again.load_state_dict(first.state_dict())
    assert fingerprint(first, {"a": 1, "b": F(1, 3)}) == fingerprint(again, {"b": F(1, 3), "a": 1})
    again.weight.data[0, 0] += 1
    different = {
        fingerprint(first),
        fingerprint(again),
        fingerprint(None),
        fingerprint("1"),
        fingerprint(1),
        fingerprint([1, [2]]),
        fingerprint([[1], 2]),
        fingerprint(Path(tmp_path / "no file")),
    }
    assert len(different) == 8
    (tmp_path / "f").write_bytes(b"1")
    before = fingerprint(tmp_path / "f")
    (tmp_path / "f").write_bytes(b"12")
    assert fingerprint(tmp_path / "f") != before
    with pytest.raises(TypeError, match="has no fingerprint"):
        fingerprint(object())
