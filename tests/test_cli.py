"""The command line as a user meets it: results, one-line errors, exit codes, nothing half-written."""

import inspect
import os
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

from comfy_fusionfft import api
from comfy_fusionfft.cli import build_parser, main
from comfy_fusionfft.contract import Frame
from comfy_fusionfft.files import interpolate_file
from comfy_fusionfft.pace import Pace
from comfy_fusionfft.video import open_clip, write_clip


def texture(height, width, shift, channels=3):
    y, x = np.mgrid[:height, :width].astype(np.float32)
    x = x - shift
    planes = [127 + 60 * np.sin(x / 7 + c) + 60 * np.cos(y / 5 + x / 11) for c in range(channels)]
    return np.stack(planes, -1).clip(0, 255).astype(np.uint8)


@pytest.fixture
def folder(tmp_path):
    """Four PNG frames of a texture that moves right by 4 px per frame."""
    import cv2

    path = tmp_path / "in"
    path.mkdir()
    for i in range(4):
        cv2.imwrite(str(path / f"{i:03d}.png"), texture(64, 80, 4 * i)[..., ::-1])
    return path


@pytest.fixture
def video(tmp_path, folder):
    clip = open_clip(folder)
    return write_clip(tmp_path / "in.mp4", clip, like=clip.info, rate=F(12)).path


def run(*arguments):
    return main([str(a) for a in arguments])


def test_folder_to_folder_keeps_originals_bit_for_bit(folder, tmp_path, capsys):
    assert run("interpolate", folder, tmp_path / "out", "--multi", "3", "--quiet") == 0
    names = sorted(p.name for p in (tmp_path / "out").iterdir())
    assert names == [f"{i:07d}.png" for i in range(10)]
    source, out = list(open_clip(folder)), list(open_clip(tmp_path / "out"))
    for i, frame in enumerate(source):
        assert torch.equal(out[3 * i].pixels, frame.pixels)
    truth = texture(64, 80, 4 / 3).astype(np.float32)
    error = np.abs(out[1].pixels.numpy().astype(np.float32) - truth)[8:-8, 8:-8].mean()
    assert error < 4, f"the in-between frame is {error:.1f} levels off the true motion"
    assert "wrote" in capsys.readouterr().err


def test_video_to_video_doubles_the_rate_and_keeps_the_duration(video, tmp_path):
    assert run("interpolate", video, tmp_path / "out.mp4", "--quiet") == 0
    info = open_clip(tmp_path / "out.mp4").info
    stamps = [frame.seconds for frame in open_clip(tmp_path / "out.mp4")]
    assert stamps == [F(k, 24) for k in range(7)]
    assert (info.width, info.height, info.rate) == (80, 64, 24)


def test_fps_gives_exact_instants(video, tmp_path):
    assert run("interpolate", video, tmp_path / "out.mkv", "--fps", "30000/1001", "--codec", "ffv1", "--quiet") == 0
    stamps = [frame.seconds for frame in open_clip(tmp_path / "out.mkv")]
    assert len(stamps) == 8  # 3 intervals of 1/12 s hold instants 0 … 7 of 1001/30000 s
    assert all(abs(s - F(1001 * k, 30000)) <= F(1, 1000) for k, s in enumerate(stamps))  # Matroska stores milliseconds


def test_recursive_and_times(folder, tmp_path):
    assert run("interpolate", folder, tmp_path / "a", "--multi", "4", "--method", "recursive", "--quiet") == 0
    assert len(list((tmp_path / "a").iterdir())) == 13
    assert run("interpolate", folder, tmp_path / "b", "--times", "1/2,2,2.75", "--quiet") == 0
    assert len(list((tmp_path / "b").iterdir())) == 3


def test_one_frame_is_copied_and_said(folder, tmp_path, capsys):
    for extra in sorted(folder.iterdir())[1:]:
        extra.unlink()
    assert run("interpolate", folder, tmp_path / "out", "--quiet") == 0
    assert "single frame" in capsys.readouterr().err
    assert len(list((tmp_path / "out").iterdir())) == 1


@pytest.mark.parametrize("size", [(1, 1), (1, 30), (17, 33), (63, 65)])
def test_odd_and_tiny_sizes(size, tmp_path):
    frames = [Frame(torch.from_numpy(texture(*size, 2 * i)), F(i, 12)) for i in range(3)]
    made = list(api.interpolate(frames, multi=2, flow="dis"))
    assert [f.pixels.shape for f in made] == [(*size, 3)] * 5


BAD = [
    (["missing.mp4", "out.mp4"], "missing.mp4"),
    (["empty.mp4", "out.mp4"], "0 bytes"),
    (["text.mp4", "out.mp4"], "text.mp4"),
    (["in", "out.xyz"], ".xyz"),
    (["in", "out", "--flow", "nowhere"], "no weights 'nowhere'"),
    (["in", "out", "--flow", "pickle.pkl"], "fusionfft convert"),
    (["in", "out", "--scale", "3"], "scale 3.0 is not one of"),
    (["in", "out", "--multi", "0"], "multiplier 0"),
    (["in", "out", "--fps", "fast"], "frame rate 'fast' is not a number"),
    (["in", "out", "--times", "99"], "beyond the last frame"),
    (["in", "out", "--device", "cuda:77"], "not available on this machine"),
    (["in", "in"], "in"),
    (["in", "there.mp4"], "--overwrite"),
    (["in", "out.mp4", "--codec", "nope"], "nope"),
    (["mixed", "out"], "mixed"),
]


@pytest.mark.parametrize(("arguments", "text"), BAD, ids=[" ".join(a) for a, _ in BAD])
def test_bad_input_is_one_line_and_leaves_nothing(arguments, text, folder, tmp_path, capsys, monkeypatch):
    import pickle

    import cv2

    monkeypatch.chdir(tmp_path)
    Path("empty.mp4").touch()
    Path("text.mp4").write_text("this is no video")
    Path("there.mp4").write_bytes(b"precious")
    Path("pickle.pkl").write_bytes(pickle.dumps({"a": 1}))
    Path("mixed").mkdir()
    cv2.imwrite("mixed/0.png", texture(16, 16, 0))
    cv2.imwrite("mixed/1.png", texture(16, 20, 0))
    before = {p: p.stat().st_size for p in sorted(tmp_path.rglob("*"))}
    assert run("interpolate", *arguments, "--quiet") == 1
    error = capsys.readouterr().err.strip()
    assert error.startswith("fusionfft: error: ") and "\n" not in error and "Traceback" not in error
    assert text in error, error
    assert {p: p.stat().st_size for p in sorted(tmp_path.rglob("*"))} == before


def test_every_choice_of_time_reaches_the_file(video, tmp_path):
    out = tmp_path / "out.mkv"

    def made(*options):
        assert (
            run("interpolate", video, out, "--overwrite", "--quiet", "--flow", "dis", "--method", "rife", *options) == 0
        )
        return [frame.seconds for frame in open_clip(out)]

    assert len(made("--multi", "2.5")) == 8
    assert made("--slow", "2", "--fps", "10") == [F(k, 10) for k in range(6)]
    assert made("--speed", "0:1 100%:0.5", "--codec", "ffv1")[-1] <= F(1, 4) * 4 / 3 + F(1, 100)
    assert len(made("--count", "30")) == 30
    assert len(made("--count", "9", "--fps", "12", "--loop")) == 9
    assert len(made("--fps", "12", "--shutter", "1/2", "--samples", "3")) == 4
    assert len(made("--cuts", "2", "--at-cut", "skip", "--multi", "4")) == 10


def test_inspect_says_what_a_clip_holds(video, tmp_path, capsys):
    assert run("inspect", video, "--timeline", tmp_path / "t.png", "--report", tmp_path / "r.json", "--quiet") == 0
    said = capsys.readouterr().out.splitlines()
    assert said[0].startswith("4 frames") and "no cuts" in said[1]
    assert (tmp_path / "t.png").exists() and '"frames": 4' in (tmp_path / "r.json").read_text()


def test_a_preview_holds_the_newest_frame(folder, tmp_path):
    assert run("interpolate", folder, tmp_path / "out", "--quiet", "--preview", tmp_path / "new.jpg") == 0
    assert open_clip(tmp_path / "new.jpg").info.width == 80 and not list(tmp_path.glob(".new*"))


def test_debug_shows_the_traceback(tmp_path):
    with pytest.raises(Exception, match="does not exist"):
        run("interpolate", tmp_path / "missing.mp4", tmp_path / "out.mp4", "--debug")


def test_disk_full_leaves_nothing(folder, tmp_path, capsys, monkeypatch):
    import errno

    from comfy_fusionfft.video import write_images

    calls = []

    def full(self, frame):
        calls.append(frame)
        if len(calls) == 3:
            raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(write_images.ImageWriter, "add", full)
    assert run("interpolate", folder, tmp_path / "out", "--quiet") == 1
    assert "disk" in capsys.readouterr().err
    assert sorted(p.name for p in tmp_path.iterdir()) == ["in"]


def test_ctrl_c_keeps_a_playable_part(tmp_path):
    frames = (Frame(torch.from_numpy(texture(96, 128, i)), F(i, 24)) for i in range(200))
    source = tmp_path / "in.mp4"
    like = open_clip_like(tmp_path)
    write_clip(source, frames, like=like, rate=F(24))
    command = [sys.executable, "-m", "comfy_fusionfft", "interpolate", str(source), str(tmp_path / "out.mp4")]
    process = subprocess.Popen([*command, "--multi", "8", "--quiet"], cwd=ROOT, stderr=subprocess.PIPE, text=True)
    deadline = time.monotonic() + 60
    while not list(tmp_path.glob(".out*/*.part")) and time.monotonic() < deadline:
        time.sleep(0.05)
    time.sleep(1.5)
    process.send_signal(signal.SIGINT)
    error = process.communicate(timeout=60)[1]
    assert process.returncode == 130, error
    assert "partial" in error and "Traceback" not in error
    assert not (tmp_path / "out.mp4").exists()
    kept = sum(1 for _ in open_clip(tmp_path / "out.partial.mp4"))
    assert 1 <= kept < 1593
    assert ("go on" in error) == bool(list(tmp_path.glob(".out*.work"))), "what is kept is told"


def open_clip_like(folder):
    import cv2

    path = folder / "like.png"
    cv2.imwrite(str(path), texture(96, 128, 0))
    return open_clip(path).info


def test_defaults_are_the_librarys():
    options = vars(build_parser("interpolate").parse_args(["interpolate", "a", "b"]))
    parameters = {
        name: p.default
        for f in (interpolate_file, Pace)
        for name, p in inspect.signature(f).parameters.items()
        if p.default is not p.empty and name not in ("host", "metadata")
    }
    assert {name: options[name] for name in parameters} == parameters


def test_help_of_every_command_works(capsys):
    for command in ("interpolate", "evaluate", "convert", "weights", "pack", "train"):
        with pytest.raises(SystemExit) as stop:
            main([command, "--help"])
        assert stop.value.code == 0 and "usage: fusionfft" in capsys.readouterr().out


def test_the_installed_command_runs():
    fusionfft = Path(sys.executable).parent / "fusionfft"
    out = subprocess.run([fusionfft, "--version"], capture_output=True, text=True, check=True, env=os.environ)
    assert out.stdout.startswith("fusionfft ")
