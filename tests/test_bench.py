"""``fusionfft bench speed``: what it plans, how it takes turns, what it computes from them, what it writes."""

import json
import sys
from contextlib import closing
from dataclasses import asdict, replace
from fractions import Fraction as F
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from places import ROOT

from benchmarks.speed import cases, contest, plot, report
from benchmarks.speed.job import Job, made_frames
from benchmarks.speed.memory import Peak
from benchmarks.speed.process import Staff, Worker, WorkerError, environment
from benchmarks.speed.scene import Scene
from comfy_fusionfft import api
from comfy_fusionfft.cli import bench, build_parser, main
from comfy_fusionfft.contract import Frame
from comfy_fusionfft.errors import InputError
from comfy_fusionfft.host import PlainHost

JOB = Job("rife", 64, 96, 2, 5)
"""Four made frames."""
ROW_FIELDS = [
    *("path", "peer", "device", "dtype", "height", "width", "multiplier", "seconds_per_frame"),
    *("peer_seconds_per_frame", "ratio", "psnr_db", "peak_mb", "peer_peak_mb", "runs"),
]


class Fake:
    """A worker that takes the seconds it is told to and makes grey frames."""

    def __init__(self, who, log, seconds, grey=0.5, fails_at=None):
        self.who, self.log, self.grey, self.fails_at = who, log, grey, fails_at
        self.seconds = iter(seconds)

    def ask(self, do, slot=None, job=None, measure=False, save=None):
        self.log.append((do, self.who))
        if do == self.fails_at:
            raise WorkerError("out of paint")
        if do != "run":
            return {}
        if save:
            np.save(save, np.full((4, 8, 8, 3), self.grey, np.float32))
        return {"seconds": 99.0 if measure else next(self.seconds), "peak_mb": 10.0 if measure else None}


def held(tmp_path, *, runs=3, case=None, **workers):
    case = case or cases.Case((JOB,), {"native": JOB})
    rows, unmeasured = contest.hold(case, workers.__getitem__, tmp_path, runs=runs)
    assert list(tmp_path.iterdir()) == []
    return rows, unmeasured


def test_a_row_is_made_of_medians_per_made_frame(tmp_path):
    log = []
    ours, native = Fake("ours", log, [4, 2, 40], grey=0.5), Fake("native", log, [8, 800, 12], grey=0.51)
    (row,), unmeasured = held(tmp_path, ours=ours, native=native)
    assert (row.seconds_per_frame, row.peer_seconds_per_frame, row.ratio) == (1.0, 3.0, 3.0)
    assert row.psnr_db == pytest.approx(40, abs=0.01)
    assert (row.peak_mb, row.peer_peak_mb, row.runs) == (10.0, 10.0, 3)
    assert unmeasured == []


def test_contenders_take_turns_after_one_warm_up_each(tmp_path):
    log = []
    held(tmp_path, ours=Fake("ours", log, [1] * 3), native=Fake("native", log, [1] * 3))
    assert log[:2] == [("prepare", "ours"), ("prepare", "native")]
    assert log[2:-2] == [("run", "ours"), ("run", "native")] * 4
    assert log[-2:] == [("release", "ours"), ("release", "native")]


def test_all_our_precisions_meet_every_peer_and_share_its_runs(tmp_path):
    log = []
    case = cases.Case((JOB, replace(JOB, dtype="bfloat16")), {"native": JOB, "vs-rife": JOB})
    ours, native, rife = Fake("ours", log, [4, 8] * 3), Fake("native", log, [16] * 3), Fake("vs-rife", log, [32] * 3)
    rows, _ = held(tmp_path, case=case, ours=ours, native=native, **{"vs-rife": rife})
    assert [(row.dtype, row.peer, row.ratio) for row in rows] == [
        *(("float32", "native", 4.0), ("float32", "vs-rife", 8.0)),
        *(("bfloat16", "native", 2.0), ("bfloat16", "vs-rife", 4.0)),
    ]
    assert log.count(("run", "native")) == 4


@pytest.mark.parametrize("step", ["prepare", "run"])
def test_one_that_fails_is_unmeasured_and_the_others_go_on(tmp_path, step):
    log = []
    case = cases.Case((JOB,), {"native": JOB, "vs-rife": JOB})
    ours, native = Fake("ours", log, [1] * 3), Fake("native", log, [2] * 3)
    rows, (missing,) = held(
        tmp_path, case=case, ours=ours, native=native, **{"vs-rife": Fake("vs-rife", log, [], fails_at=step)}
    )
    assert [row.peer for row in rows] == ["native"]
    assert (missing.peer, missing.reason) == ("vs-rife", "out of paint")
    assert report.missing_line(missing) == "rife 64×96 ×2 fp32 against vs-rife on cpu: out of paint"


def test_without_ours_nothing_is_measured_but_all_is_told(tmp_path):
    log = []
    ours = Fake("ours", log, [], fails_at="prepare")
    rows, (missing,) = held(tmp_path, ours=ours, native=Fake("native", log, [1] * 3))
    assert rows == []
    assert (missing.peer, missing.reason) == ("native", "ours: out of paint")


def test_a_slow_contest_makes_do_with_fewer_runs(tmp_path):
    clock = iter(range(0, 1000, 10)).__next__  # every look at the clock is ten seconds later
    case = cases.Case((JOB,), {"native": JOB})
    workers = {who: Fake(who, [], [1] * 9) for who in ("ours", "native")}
    (row,), _ = contest.hold(case, workers.get, tmp_path, runs=9, allowed_seconds=45, clock=clock)
    assert row.runs == 2
    (row,), _ = contest.hold(case, workers.get, tmp_path, runs=9, allowed_seconds=0, clock=clock)
    assert row.runs == 1


def test_psnr_is_over_all_frames_and_none_for_what_cannot_be_compared(tmp_path):
    black, white = tmp_path / "a.npy", tmp_path / "b.npy"
    np.save(black, np.zeros((2, 4, 4, 3), np.float32))
    np.save(white, np.stack([np.full((4, 4, 3), value, np.float32) for value in (0, 2)]))
    assert contest.psnr_db(black, black) == contest.EQUAL_DB
    assert contest.psnr_db(black, white) == pytest.approx(3.0103, abs=1e-4)  # clipped to 1 in half of the frames
    np.save(white, np.zeros((3, 4, 4, 3), np.float32))
    assert contest.psnr_db(black, white) is None


def test_fusion_is_timed_beside_another_method_and_so_not_compared(tmp_path):
    case = cases.Case((replace(JOB, path="fusion"),), {"native": JOB})
    workers = {who: Fake(who, [], [1] * 3) for who in ("ours", "native")}
    (row,), _ = held(tmp_path, case=case, **workers)
    assert (row.path, row.psnr_db, row.ratio) == ("fusion", None, 1.0)


def some_rows():
    sizes = [(512, 896), (1080, 1920)]
    return [
        contest.Row(path, peer, "cpu", dtype, *size, 2, 0.1, 0.4, 4.0, 61.5, 100.0, 300.0, 3)
        for path, peer in (("rife", "native"), ("rife", "vs-rife"), ("spectral", "plain"))
        for dtype in (("float32", "bfloat16") if path == "rife" else ("float32",))
        for size in sizes
    ]


def some_report():
    machine = {"cpu": "A Core", "threads": 2, "torch": "2.13.0", "comfyui": "0.30.0", "seconds": 1.0}
    growth = [{"by": "frames", **asdict(JOB), "peak_mb": 50.4, "seconds_per_frame": 0.02}]
    return report.Report(machine, some_rows(), growth, [contest.Unmeasured("no GPU", device="cuda")])


def test_the_json_holds_what_was_promised():
    found = json.loads(some_report().to_json())
    assert list(found) == ["machine", "rows", "growth", "unmeasured"]
    assert all(list(row) == ROW_FIELDS for row in found["rows"])
    assert {"by", "path", "frames", "height", "width", "peak_mb", "seconds_per_frame"} <= set(found["growth"][0])
    assert found["unmeasured"][0]["reason"] == "no GPU"


def test_the_table_is_markdown_with_a_line_a_row():
    text = some_report().to_markdown()
    assert "A Core, 2 thread(s); torch 2.13.0, ComfyUI 0.30.0." in text
    assert "| RIFE | 512×896 | 2 | bf16 | 0.100 | ComfyUI | 0.400 | 4.00× | 61.5 dB | 100 | 300 |" in text.splitlines()
    assert "| RIFE fp32 | 64×96 | 5 | 50 | 0.0200 |" in text.splitlines()
    assert "- everything on cuda: no GPU" in text.splitlines()
    beginnings = ("| RIFE | ", "| Spectral", "|  | size | ×")
    assert len({line.count("|") for line in text.splitlines() if line.startswith(beginnings)}) == 1


def test_the_plot_shows_every_line(tmp_path):
    (title, lines), (other, _) = plot.panels_of(some_rows())
    assert (title, other) == ("RIFE, x2", "Spectral swap")
    assert [line.label for line in lines] == ["FusionFFT fp32", "FusionFFT bf16", "ComfyUI", "vs-rife"]
    assert lines[0].points == ((0.458752, 0.1), (2.0736, 0.1))
    plot.draw(some_rows(), tmp_path / "new" / "speed.png")
    picture = cv2.imread(str(tmp_path / "new" / "speed.png"))
    assert picture.shape[1] > 2 * plot.PANEL[0]
    for colour in plot.OURS[:2]:
        assert (np.abs(picture.astype(int) - colour).max(-1) < 12).sum() > 100


def test_a_quick_plan_has_the_telling_cases_first():
    found = cases.plan(
        quick=True, device="cpu", sizes=None, multipliers=None, dtypes=("float32", "bfloat16"), peers=["vs-rife"]
    )
    assert [case.title for case in found] == [
        *("rife 512×896 ×2", "rife 1080×1920 ×2", "rife 512×896 ×4", "spectral 1080×1920 ×2", "fusion 512×896 ×2"),
    ]
    assert [job.dtype for job in found[0].ours] == ["float32", "bfloat16"]
    assert list(found[0].peers) == ["native", "vs-rife"]
    assert list(found[3].peers) == ["plain"] and len(found[3].ours) == 1
    assert found[4].peers["native"].path == "rife"
    assert found[4].ours[0].frames >= 7  # a window of three anchors is six frames long


def test_a_full_plan_has_all_sizes_and_multipliers():
    settings = {"sizes": None, "multipliers": None, "dtypes": ("float16",), "peers": ["fusionfft"]}
    found = cases.plan(quick=False, device="cuda", **settings)
    rife = {(c.ours[0].height, c.ours[0].multiplier) for c in found if c.ours[0].path == "rife"}
    assert rife == {(height, m) for height in (480, 512, 720, 1080, 2160) for m in (2, 4, 8)}
    assert all(12 * job.frames_out * job.height * job.width < 2.5e9 for case in found for job in case.ours)
    (fusion,) = [case for case in found if case.title == "fusion 2160×3840 ×2"]
    assert list(fusion.peers) == ["native", "fusionfft"]


def test_sizes_have_names_or_are_spelled_out():
    assert cases.size_of("4K") == (2160, 3840)
    assert cases.size_of("512x896") == (512, 896)
    with pytest.raises(InputError, match=r"size 'huge' is not known: use 480p, .* or HEIGHTxWIDTH from 64x64 on"):
        cases.size_of("huge")


def test_made_frames_are_those_that_are_no_copies():
    clip = torch.arange(9.0)[:, None]
    assert made_frames(clip, Job("rife", 1, 1, 4, 3)).flatten().tolist() == [1, 2, 3, 5, 6, 7]
    assert Job("rife", 1, 1, 4, 3).made == 6
    assert (Job("spectral", 1, 1, 2, 4).made, Job("spectral", 1, 1, 2, 4).frames_out) == (3, 3)


def test_the_scene_is_the_same_each_time_and_moves_as_it_says():
    scene = Scene(3, 512, 640)
    first, second = scene.at(0), scene.at(1)
    assert np.array_equal(first, Scene(3, 512, 640).at(0))
    x, y = scene.speeds[0]
    assert (x, y) == (6, 2)
    assert np.array_equal(second[y : y + 40, x : x + 40], first[:40, :40])
    assert 0.15 < first.std() < 0.3 and first.min() >= 0 and first.max() <= 1


def test_a_flow_network_understands_the_scene():
    scene = Scene(2, 320, 448)
    left, right, truth = (torch.from_numpy(scene.at(instant)) for instant in (0, 1, 0.5))
    host = PlainHost("cpu", "float32")
    frames = [Frame(left, F(0)), Frame(right, F(1))]
    made = list(api.interpolate(frames, method="rife", flow="rife", host=host))[1].pixels
    error, blend = ((picture - truth).square().mean() for picture in (made, (left + right) / 2))
    assert error < blend / 4


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux can reset the peak of a process")
def test_a_peak_is_what_was_held_at_once():
    torch.ones(8 * 2**20).sum()  # before: must not count
    peak = Peak("cpu")
    for _ in range(3):
        torch.ones(16 * 2**20).sum()
    assert 60 < peak.mib() < 160  # not all three together, whatever else the process does


def options(tmp_path, **more):
    return {"device": "cpu", "threads": 1, "scratch": str(tmp_path), "rife": "", **more}


def test_real_workers_swap_alike(tmp_path):
    job = Job("spectral", 96, 130, 2, 3)
    with closing(Staff(Path(sys.executable), options(tmp_path), {})) as staff:
        rows, unmeasured = contest.hold(cases.Case((job,), {"plain": job}), staff.get, tmp_path, runs=1)
        assert unmeasured == []
        assert rows[0].psnr_db > 100
        assert rows[0].seconds_per_frame > 0 and rows[0].peer_peak_mb is not None
        assert staff.facts["ours"]["torch"] == torch.__version__
        with pytest.raises(WorkerError, match="ValueError: there is no plain rife"):
            staff.get("plain").ask("prepare", slot="a", job=asdict(replace(job, path="rife")))
        assert staff.get("plain").alive


def test_a_worker_that_does_not_start_says_why_and_is_not_tried_again(tmp_path):
    staff = Staff(Path(sys.executable), options(tmp_path), {"native": "no network"})
    with pytest.raises(WorkerError, match="^no network$"):
        staff.get("native")
    checkout = options(tmp_path, **{"vs-rife": str(tmp_path / "nowhere")})
    with pytest.raises(WorkerError, match="is missing: give the checkout's root folder"):
        Worker(Path(sys.executable), "vs-rife", checkout, environment(1, clean=True))


def test_a_worker_that_dies_leaves_its_last_words(tmp_path):
    broken = tmp_path / "python"
    broken.write_text("#!/bin/sh\necho the disk is full >&2\nexit 3\n")
    broken.chmod(0o755)
    with pytest.raises(WorkerError, match=r"^plain ended with status 3: the disk is full$"):
        Worker(broken, "plain", options(tmp_path), environment(1, clean=True))


def test_workers_run_as_in_an_ordinary_host_and_on_their_own_import_path(monkeypatch):
    monkeypatch.setenv("PYTHONPATH", "/elsewhere")
    monkeypatch.setenv("OMP_WAIT_POLICY", "passive")
    assert "PYTHONPATH" not in environment(2, clean=True)
    kept = environment(2, clean=False)
    assert (kept["PYTHONPATH"], kept["OMP_NUM_THREADS"]) == ("/elsewhere", "2")
    assert "OMP_WAIT_POLICY" not in kept


def test_the_command_reads_its_options():
    given = "--quick --sizes 480p,1080p --multipliers 2,8 --dtypes float32 --peer vs-rife=x --peer fannovel16=y"
    options = build_parser("bench").parse_args(["bench", "speed", *given.split()])
    assert (options.quick, options.sizes, options.multipliers) == (True, ("480p", "1080p"), (2, 8))
    assert options.peer == [("vs-rife", Path("x")), ("fannovel16", Path("y"))]
    assert (options.dtypes, options.device, options.runs) == (("float32",), "cpu", None)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--peer", "rifle=/"], "peer 'rifle' is not known: use fannovel16, vs-rife, fusionfft"),
        (["--peer", "vs-rife=/no/such"], "/no/such, the checkout of vs-rife, is no folder: give the one"),
        (["--sizes", "big"], "size 'big' is not known"),
        (["--paths", "flow"], "path 'flow' is not known: use rife, fusion, spectral"),
        (["--multipliers", "2,1"], "multiplier 1 makes no frame: use whole numbers from 2 on"),
        (["--runs", "0"], "0 runs measure nothing: use at least 1"),
        (["--host-source", "/"], "/ holds no comfy_extras: give the folder of ComfyUI's main.py"),
    ],
)
def test_what_cannot_be_asked_for_is_said_at_once(arguments, message, capsys):
    assert main(["bench", "speed", "--quick", *arguments]) == 1
    assert message in capsys.readouterr().err


def test_a_peer_without_a_path_is_wrong_usage(capsys):
    with pytest.raises(SystemExit):
        main(["bench", "speed", "--peer", "vs-rife"])
    assert "'vs-rife' is not NAME=PATH such as vs-rife=../vs-rife" in capsys.readouterr().err


def test_an_installation_without_benchmarks_says_where_they_are(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(bench, "ROOT", tmp_path)
    assert main(["bench", "speed", "--quick"]) == 1
    assert "this installation has no benchmarks: clone the repository and run" in capsys.readouterr().err


def test_results_are_written_and_an_empty_run_fails(tmp_path, monkeypatch, capsys):
    from benchmarks.speed import run

    found = some_report()
    monkeypatch.setattr(run, "measure", lambda **_: found)
    files = [tmp_path / "out" / name for name in ("speed.json", "speed.md", "speed.png")]
    wanted = [f"{option}={file}" for option, file in zip(("--json", "--table", "--plot"), files, strict=True)]
    assert main(["bench", "speed", *wanted]) == 0
    assert json.loads(files[0].read_text()) == json.loads(found.to_json())
    assert files[1].read_text() == found.to_markdown()
    assert files[2].stat().st_size > 1000
    assert "10 rows in 1 s, 1 not measured" in capsys.readouterr().err
    found.rows.clear()
    assert main(["bench", "speed"]) == 1


def test_comfyui_itself_makes_the_same_frames(tmp_path):
    """Its own node out of the installed host, in the host's Python, as is ours."""
    from devhost.install import ensure

    host = ensure()
    job = Job("rife", 128, 192, 2, 3)
    setup = {"host_python": str(host.python), "host_source": str(host.source)}
    setup["rife"] = str(ROOT / "weights" / f"{api.EMBEDDED_RIFE}.safetensors")
    with closing(Staff(host.python, options(tmp_path, **setup), {})) as staff:
        (row,), unmeasured = contest.hold(cases.Case((job,), {"native": job}), staff.get, tmp_path, runs=1)
    assert unmeasured == []
    assert staff.facts["native"] | {"native_dtype": "torch.float32"} == staff.facts["native"]
    assert row.psnr_db > 80
