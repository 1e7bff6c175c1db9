import json

import pytest

from comfy_fusionfft.evaluate import Reference, Report, Score
from comfy_fusionfft.evaluate.report import judged


def score(clip, frame, method, psnr, *, group="", drop=2, ratio=1.0):
    return Score(group, clip, drop, str(frame), method, psnr, 0.9, ratio, 0.5, 0.01)


def frame(clip, number, average, rife, fusion, **more):
    pairs = (("average", average), ("rife:dis", rife), ("fusion:dis", fusion))
    return [score(clip, number, method, psnr, **more) for method, psnr in pairs]


@pytest.fixture
def report():
    """Fusion loses 2 dB on one frame of ``b`` and 0.05 dB on ``a``; ``still`` is perfect by averaging."""
    scores = [*frame("b", 1, 20.0, 32.0, 30.0), *frame("b", 3, 20.0, 30.0, 31.0)]
    scores += [*frame("a", 1, 25.0, 30.05, 30.0), *frame("still", 1, 100.0, 60.0, 60.0)]
    scores += frame("b", 2, 18.0, 24.0, 25.0, drop=4, ratio=float("nan"))
    return Report(tuple(scores), {"drops": [2, 4]})


def test_rows_average_the_frames_and_means_the_clips(report):
    rows = {(r.clip, r.drop, r.method): r for r in report.rows}
    assert list(rows)[:4] == [*(("b", 2, m) for m in report.methods), ("b", 4, "average")]
    assert rows["b", 2, "fusion:dis"].psnr == 30.5 and rows["b", 2, "fusion:dis"].frames == 2
    means = {(r.drop, r.method): r for r in report.means}
    assert means[2, "average"].psnr == pytest.approx((20 + 25 + 100) / 3) and means[2, "average"].frames == 4
    assert means[4, "rife:dis"].psnr == 24.0 and means[4, "rife:dis"].tof == 0.5


def test_worst_frames_are_those_furthest_behind_the_best_other(report):
    worst = report.worst
    assert [(bad.ours.clip, bad.ours.frame, bad.best.method) for bad in worst[:2]] == [
        ("b", "1", "rife:dis"),
        ("a", "1", "rife:dis"),
    ]
    assert worst[0].lead == -2.0 and worst[1].lead == pytest.approx(-0.05)
    still = next(bad for bad in worst if bad.ours.clip == "still")
    assert still.lead == 0.0  # nobody sees 60 dB beside 100 dB
    many = Report(tuple(score("c", n, "average", 30 - n) for n in range(12)), {})
    assert [bad.ours.psnr for bad in many.worst] == list(range(19, 29)) and many.worst[0].best is None


def test_defeats_name_the_clips_beyond_a_tenth_of_a_decibel(report):
    defeats = {(d.drop, d.method): d for d in report.defeats}
    assert set(defeats) == {(drop, method) for drop in (2, 4) for method in ("average", "rife:dis")}
    assert defeats[2, "rife:dis"].worse == {"b": -0.5} and defeats[2, "rife:dis"].clips == 3
    assert defeats[2, "average"].worse == {"still": -40.0}
    assert defeats[4, "rife:dis"].worse == {} and defeats[4, "rife:dis"].clips == 1


def test_the_table_ends_with_defeats_and_worst_frames(report):
    lines = str(report).splitlines()
    assert "  rife:dis 2×: 1 of 3: b (-0.50)" in lines and "  rife:dis 4×: 0 of 1" in lines
    start = lines.index("worst frames of fusion:dis")
    assert lines[start + 1] == "  b x2 frame 1: 30.00 dB, rife:dis 32.00 dB (-2.00)" and len(lines) == start + 6


def test_references_stand_below_the_means_of_their_set_alone():
    scores = [*frame("one", "mid", 20.0, 30.0, 31.0, group="x"), *frame("one", "mid", 20.0, 30.0, 31.0, group="y")]
    references = (Reference("x", "the other", 33.25, 15, 1), Reference("x", "exact", 34.5, 1, 1))
    report = Report(tuple(scores), {"benchmarks": {"x": "the x set", "y": "the y set"}}, references)
    lines = str(report).splitlines()
    last_of_x = max(k for k, line in enumerate(lines) if line.startswith("x mean"))
    assert lines[last_of_x + 1].split("dB  ")[1] == "reference: the other, 15 scenes, of which 1 are here"
    assert lines[last_of_x + 2].split("dB  ")[1] == "reference: exact, 1 scenes"
    assert lines[last_of_x + 3].startswith("y mean") and "x: the x set" in lines
    assert sum("reference" in line for line in lines) == 2


def test_json_holds_everything(report):
    data = json.loads(report.to_json())
    assert set(data) == {"protocol", "clips", "means", "references", "defeats", "worst", "frames"}
    assert len(data["frames"]) == 15 and data["frames"][-1]["energy_ratio"] is None
    assert data["worst"][0]["ours"]["frame"] == "1" and data["worst"][0]["best"]["method"] == "rife:dis"


def test_judged_without_another_method_ranks_by_psnr():
    assert judged([score("a", 1, "only", 27.0)]).lead == 27.0
