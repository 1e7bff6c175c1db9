import sys

import cv2
import numpy as np
import pytest
from places import ROOT

from comfy_fusionfft.video import open_clip

sys.path.append(str(ROOT / "demo"))

import run as demo
import scene as scenery


@pytest.fixture(scope="module")
def scene():
    return scenery.Scene()


def test_scene_is_repeatable_and_moves(scene):
    first = scene.at(3.5)
    assert first.shape == (scenery.HEIGHT, scenery.WIDTH, 3) and first.dtype == np.uint8
    assert np.array_equal(first, scene.at(3.5))
    assert np.abs(first.astype(int) - scene.at(4)).mean() > 3


def test_time_is_continuous_and_grain_is_not(scene):
    near = scene.at(2.0).astype(float) - scene.at(2.001)
    # Two independent grains: √2 times the deviation, and nothing else moves in a thousandth of a frame.
    assert near.std() == pytest.approx(scenery.GRAIN * 2**0.5, rel=0.1)


def test_demo_with_the_built_in_scene(tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(scenery, "FRAMES", 4)
    assert demo.main(["--out", str(tmp_path), "--flow", "dis", "--device", "cpu"]) == 0
    text = capsys.readouterr().out
    assert "frame averaging" in text and "FusionFFT" in text and "demo.png" in text
    scores = {
        line.split(":")[0].split("of ")[1]: float(line.split()[-2]) for line in text.splitlines() if "PSNR" in line
    }
    assert scores["FusionFFT"] > scores["frame averaging"] + 4
    assert sum(1 for _ in open_clip(tmp_path / "demo.mp4")) == 7
    sheet = cv2.imread(str(tmp_path / "demo.png"))
    assert sheet.shape == (2 * 3 * (22 + scenery.HEIGHT), 3 * demo.TILE, 3)


def test_demo_with_a_clip(tmp_path, capsys):
    (tmp_path / "in").mkdir()
    for k in range(4):
        picture = np.full((40, 64, 3), 40 * k, np.uint8)
        cv2.imwrite(str(tmp_path / "in" / f"{k}.png"), picture)
    assert demo.main([str(tmp_path / "in"), "--multi", "3", "--out", str(tmp_path)]) == 0
    text = capsys.readouterr().out
    assert "flow multiflow-v1, method" in text and "no PSNR" in text and "10 frames in" in text
    assert (tmp_path / "demo.png").stat().st_size > 1000


def test_demo_says_what_is_wrong(tmp_path, capsys):
    assert demo.main([str(tmp_path / "missing.mp4"), "--out", str(tmp_path)]) == 1
    assert "does not exist" in capsys.readouterr().err
