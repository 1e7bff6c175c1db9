import json
from fractions import Fraction

import cv2
import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from comfy_fusionfft.contract import Frame
from comfy_fusionfft.errors import InputError
from comfy_fusionfft.evaluate import evaluate
from comfy_fusionfft.evaluate.baselines import MAKERS, average, dis_baseline, dis_motion, splatting
from comfy_fusionfft.evaluate.intervals import Interval, intervals, reduced
from comfy_fusionfft.evaluate.ours import parse_method
from comfy_fusionfft.host import PlainHost
from comfy_fusionfft.train.teacher import BiFlowNet


@pytest.fixture
def clips(tmp_path):
    """Two folders of nine frames: a texture that pans by 3 px a frame, and one that stands still."""
    rng = np.random.default_rng(3)
    wide = cv2.resize(rng.integers(0, 255, (14, 24, 3), dtype=np.uint8), (192, 112), interpolation=cv2.INTER_CUBIC)
    for name, step in (("pan", 3), ("still", 0)):
        (tmp_path / "clips" / name).mkdir(parents=True)
        for k in range(9):
            window = wide[8:-8, 10 + step * k : 10 + step * k + 140]
            cv2.imwrite(str(tmp_path / "clips" / name / f"{k:03d}.png"), window[..., ::-1])
    return tmp_path / "clips"


def plan(clips, drop, instants, segments=None):
    found = []
    for interval in intervals(clips / "pan", segments, [drop], instants, 720):
        assert set(interval.frames) == {*interval.kept, *interval.wanted}
        found.append((interval.left, interval.wanted, interval.kept))
    return found


def test_every_dropped_frame_once(clips):
    assert [(left, wanted) for left, wanted, _ in plan(clips, 2, 0)] == [(0, (1,)), (2, (3,)), (4, (5,)), (6, (7,))]
    assert plan(clips, 4, 0) == [(0, (1, 2, 3), (0, 4, 8)), (4, (5, 6, 7), (0, 4, 8))]
    assert plan(clips, 2, 0)[0][2] == (0, 2, 4, 6, 8)
    assert plan(clips, 1, 0) == [] and plan(clips, 2, 0, [(0, 3)]) == [(0, (1,), (0, 2))]


def test_instants_are_spread_and_segments_kept(clips):
    assert [wanted for _, wanted, _ in plan(clips, 4, 2)] == [(2,), (6,)]
    assert plan(clips, 2, 0, [(1, 3), (5, 8)]) == [(1, (2,), (1, 3)), (5, (6,), (5, 7))]
    assert plan(clips, 4, 0, [(0, 3)]) == []


def test_reduced_takes_any_frame():
    ramp = np.linspace(0, 1, 64, dtype=np.float32)[None, :, None].repeat(32, 0)
    as_float = reduced(Frame(torch.from_numpy(ramp), Fraction(0)), 32)
    as_16 = reduced(Frame(torch.from_numpy(np.round(ramp * 65535).astype(np.uint16)), Fraction(0)), 32)
    assert as_float.shape == (16, 32, 3) and as_float.dtype == np.uint8
    assert np.abs(as_float.astype(int) - as_16).max() <= 1
    assert reduced(Frame(torch.zeros(8, 9, 4, dtype=torch.uint8), Fraction(0)), 32).shape == (8, 9, 3)


def test_baselines_at_known_motion():
    rng = np.random.default_rng(5)
    wide = cv2.resize(rng.integers(0, 255, (14, 24, 3), dtype=np.uint8), (192, 112), interpolation=cv2.INTER_CUBIC)
    left, truth, right = (wide[:, k : k + 160].copy() for k in (0, 2, 8))
    warped = dis_baseline(left, right, 0.25, dis_motion(left, right))
    assert np.abs(average(left, right, 0.25)[0, 0].astype(int) - (0.75 * left + 0.25 * right)[0, 0]).max() <= 1
    inner = np.s_[20:-20, 20:-20]
    assert np.abs(warped.astype(int) - truth)[inner].mean() < 1.5
    assert np.abs(average(left, right, 0.25).astype(int) - truth)[inner].mean() > 5


def test_report_of_two_clips(clips, tmp_path):
    seen = []
    report = evaluate(
        clips,
        flows=("dis",),
        instants=2,
        host=PlainHost("cpu", "float32"),
        sheets=tmp_path / "sheets",
        progress=lambda *state: seen.append(state),
    )
    assert seen[0] == (0, 2, "pan") and seen[-1] == (2, 2, "")
    assert [(r.clip, r.drop, r.method) for r in report.rows[:3]] == [
        ("pan", 2, "average"),
        ("pan", 2, "dis-baseline"),
        ("pan", 2, "auto:dis"),
    ]
    assert len(report.rows) == 2 * 3 * 3 and all(r.frames == 2 for r in report.rows)
    scores = {(r.clip, r.drop, r.method): r.psnr for r in report.rows}
    assert scores["pan", 2, "auto:dis"] > scores["pan", 2, "average"] + 3
    assert scores["still", 4, "average"] == 100.0
    mean = next(r for r in report.means if (r.drop, r.method) == (4, "average"))
    assert mean.psnr == pytest.approx((scores["pan", 4, "average"] + 100) / 2) and mean.clip == "mean"
    motion = {(r.clip, r.drop, r.method): r.tof for r in report.rows}
    assert motion["pan", 2, "auto:dis"] < motion["pan", 2, "average"] and motion["still", 4, "average"] == 0
    data = json.loads(report.to_json())
    assert len(data["clips"]) == 18 and data["protocol"]["instants"] == 2 and len(data["frames"]) == 36
    sheet = cv2.imread(str(tmp_path / "sheets" / "pan.png"))
    assert sheet.shape[1] == 8 * 320  # truth, ours, rival, two errors, three patches
    row = 2 * 22 + 219  # two captions and a tile
    worst = cv2.imread(str(tmp_path / "sheets" / "worst.png"))
    assert worst.shape[:2] == (10 * row, 8 * 320) and sheet.shape[0] == 4 * row


def test_a_clip_too_short_for_a_drop_has_no_row_for_it(clips):
    for number in range(5, 9):
        (clips / "still" / f"{number:03d}.png").unlink()
    report = evaluate(clips, flows=("dis",), methods=("rife",), instants=1, baselines=("average",))
    assert {(r.clip, r.drop) for r in report.rows} == {("still", 2), ("still", 4), *(("pan", d) for d in (2, 4, 8))}
    assert {d.drop: d.clips for d in report.defeats} == {2: 2, 4: 2, 8: 1}


def test_motion_is_found_anew_for_every_interval():
    """Also where pictures of the next interval take the place in memory of the last one's."""
    rng = np.random.default_rng(9)
    wide = cv2.resize(rng.integers(0, 255, (14, 24, 3), dtype=np.uint8), (192, 112), interpolation=cv2.INTER_CUBIC)
    pictures = {n: wide[:, k : k + 160].copy() for n, k in enumerate((0, 4, 8))}
    make = MAKERS["dis-baseline"]()
    right, still = (Interval(2, 0, (1,), (0, 2), dict(pictures)) for _ in range(2))
    moved = make(right, 1)
    for picture in (right.frames[0], right.frames[2]):
        picture[:] = pictures[1]  # the very same arrays, with other contents
    assert np.abs(moved.astype(int) - pictures[1])[20:-20, 20:-20].mean() < 1.5
    assert np.abs(make(still, 1).astype(int) - pictures[1]).max() <= 1


def test_recursive_runs_on_whole_intervals(clips):
    report = evaluate(clips, flows=("dis",), methods=("recursive",), drops=(4,), instants=1, baselines=("average",))
    assert {r.method for r in report.rows} == {"average", "recursive:dis"}


def test_bad_input_is_explained(tmp_path, clips):
    with pytest.raises(InputError, match="is not a folder"):
        evaluate(tmp_path / "nothing")
    (tmp_path / "empty").mkdir()
    with pytest.raises(InputError, match="holds no clips"):
        evaluate(tmp_path / "empty")
    with pytest.raises(InputError, match="2 and above"):
        evaluate(clips, drops=(1,))
    with pytest.raises(InputError, match="usable frames in a row"):
        evaluate(clips, drops=(16,), flows=("dis",))


def test_methods_carry_settings():
    assert parse_method("rife") == ("rife", {})
    settings = {"num_anchors": 2, "spectral_alpha": 0.5, "fusion": "none"}
    assert parse_method("fusion:num_anchors=2:spectral_alpha=0.5:fusion=none") == ("fusion", settings)
    with pytest.raises(InputError, match="write settings as name=value"):
        parse_method("fusion:3")


def test_a_remembered_flow_is_the_flow_that_was_found(clips):
    """Methods that share flow score as they do alone."""
    methods = ["rife", "fusion:fusion=none:spectral_alpha=0", "recursive"]
    common = {"drops": (4,), "instants": 3, "flows": ["dis"], "baselines": (), "host": PlainHost("cpu", "float32")}
    together = {r.method: r.psnr for r in evaluate(clips, methods=methods, **common).means}
    alone = {r.method: r.psnr for m in methods for r in evaluate(clips, methods=[m], **common).means}
    assert together == alone and len(together) == 3


def test_the_teacher_takes_the_levels_of_the_interval(tmp_path):
    rng = np.random.default_rng(11)
    pictures = {n: rng.integers(0, 255, (64, 96, 3), dtype=np.uint8) for n in range(3)}
    state = BiFlowNet().state_dict()
    state["flow_estimator.conv_layer6.0.bias"] += 1.0  # every level adds its pixel, doubled at each finer one
    save_file(state, tmp_path / "teacher.safetensors")
    host = PlainHost("cpu", "float32")
    make = splatting(tmp_path / "teacher.safetensors", host)
    by_levels = {n: make(Interval(2, 0, (1,), (0, 2), dict(pictures), {}, n), 1) for n in (None, 2, 3)}
    assert (by_levels[None] == by_levels[3]).all() and (by_levels[2] != by_levels[3]).any()
    with pytest.raises(InputError, match="no teacher weights at"):
        splatting(tmp_path / "none.safetensors", host)
