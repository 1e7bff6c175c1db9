"""Parts of the nodes that compute by themselves: curves, texts that people type, words about progress."""

import importlib.util
from fractions import Fraction
from types import SimpleNamespace

import numpy as np
import pytest
from test_locales import pack

from comfy_fusionfft.retime import parse_speed
from devhost.install import NEWEST, ensure


@pytest.fixture(scope="module")
def nodes():
    with pack() as loaded:
        yield loaded


@pytest.fixture(scope="module")
def widget():
    """The host's own module for the values of its curve widget."""
    path = ensure(NEWEST).source / "comfy_api" / "latest" / "_input" / "curve_types.py"
    spec = importlib.util.spec_from_file_location("curve_types", path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.mark.parametrize("interpolation", ["monotone_cubic", "linear"])
def test_a_curve_is_what_the_widget_draws(nodes, widget, interpolation):
    random = np.random.default_rng(3)
    for _ in range(50):
        x = np.sort(random.choice(101, random.integers(2, 8), replace=False)) / 100
        points = [[float(a), float(b)] for a, b in zip(x, random.random(len(x)).round(1), strict=True)]
        drawn = {"points": points, "interpolation": interpolation}
        keys = [word.split("%:") for word in nodes.retiming.curves.keys(drawn, 3.0, 0.01, 1000.0).split(", ")]
        at, speed = np.array(keys, float).T
        wanted = widget.CurveInput.from_raw(drawn).interp_array(at / 100) * 3
        assert np.abs(speed - wanted.clip(0.01, 1000)).max() < 1e-4


def test_the_widget_s_own_object_is_a_curve_too(nodes, widget):
    drawn = {"points": [[0, 0.2], [0.4, 0.9], [1, 0.5]], "interpolation": "monotone_cubic"}
    keys = nodes.retiming.curves.keys
    assert keys(widget.CurveInput.from_raw(drawn), 2.0, 0.01, 1000.0) == keys(drawn, 2.0, 0.01, 1000.0)
    straight = drawn | {"interpolation": "linear"}
    assert keys(widget.CurveInput.from_raw(straight), 2.0, 0.01, 1000.0) == "0%:0.4, 40%:1.8, 100%:1"


def test_a_standstill_goes_on_slowly(nodes):
    keys = nodes.retiming.curves.keys({"points": [[0, 0], [1, 0]]}, 2.0, 0.01, 1000.0)
    assert parse_speed(keys, duration=10).constant == parse_speed("0.01").constant


def test_a_curve_without_points(nodes):
    with pytest.raises(nodes.shots.InputError, match="the speed curve has no points: click into it to set one"):
        nodes.retiming.curves.keys({"points": []}, 2.0, 0.01, 1000.0)


@pytest.mark.parametrize(
    "text, found",
    [("auto", "auto"), (" Auto ", "auto"), ("", "auto"), ("none", ()), ("24, 130", (24, 130)), ("7;3 3", (3, 7))],
)
def test_cuts_as_people_type_them(nodes, text, found):
    assert nodes.shots.numbers(text) == found


@pytest.mark.parametrize("text", ["24-130", "-3", "1.5", "auto, 3"])
def test_cuts_that_are_none(nodes, text):
    with pytest.raises(nodes.shots.InputError, match="are neither auto, none nor frame numbers such as 24, 130"):
        nodes.shots.numbers(text)


def test_how_far_a_long_run_is(nodes):
    clock = nodes.comfy_host.Clock(samples=9)
    said = [clock.text(done, None, now) for done, now in ((1, 0.0), (2, 0.4), (3, 1.1))]
    assert said == ["looking for cuts: frame 1", None, "looking for cuts: frame 3"]
    assert clock.text(9, 36_000, 100.0) == "frame 1 of 4000"
    assert clock.text(18, 36_000, 101.0) == "frame 2 of 4000, 1:06:38 left"
    assert clock.text(19, 36_000, 101.5) is None
    assert clock.text(36_000, 36_000, 101.6) == "frame 4000 of 4000"


def test_time_is_told_from_where_a_resumed_run_begins(nodes):
    clock = nodes.comfy_host.Clock()
    assert clock.text(501, 1001, 10.0) == "frame 501 of 1001"
    assert clock.text(601, 1001, 20.0) == "frame 601 of 1001, 0:00:40 left"


@pytest.mark.parametrize(
    "names, chosen",
    [((True, ["/out/a.png", "/out/a.mp4", "/out/a-audio.mp4"]), "a-audio.mp4"), (["/out/b.mkv"], "b.mkv")],
)
def test_the_last_file_name_is_the_whole_video(nodes, names, chosen):
    assert nodes.videos._newest(names).name == chosen


@pytest.mark.parametrize("names", [(False, []), []])
def test_no_file_names(nodes, names):
    with pytest.raises(nodes.shots.InputError, match="let Video Combine save a file, or connect a VIDEO"):
        nodes.videos._newest(names)


def test_choices_become_a_pace(nodes):
    wanted = nodes.retiming.wanted
    assert wanted({"pace": "frame rate", "fps": 23.976}, {"speed": "normal"}, False, 0.0).fps == Fraction(24000, 1001)
    pace = wanted({"pace": "frame count", "count": 9, "at_fps": 24.0}, {"speed": "normal"}, True, 0.0)
    assert (pace.count, pace.fps, pace.multi, pace.loop) == (9, 24, None, True)


def test_output_names_are_taken_up_again(nodes, tmp_path):
    place = SimpleNamespace(folder=tmp_path, name="clip", number=4, subfolder="")
    target = nodes.saving.target
    with pytest.raises(KeyboardInterrupt), target(place, ".mp4", "first graph"):
        raise KeyboardInterrupt
    later = SimpleNamespace(**vars(place) | {"number": 9})
    with target(later, ".mp4", "another graph") as other:
        assert other.name == "clip_00009_.mp4"
    with target(later, ".mp4", "first graph") as again:
        assert again.name == "clip_00004_.mp4"
        again.touch()
    with target(later, ".mp4", "first graph") as fresh:
        assert fresh.name == "clip_00009_.mp4"
    assert not list(tmp_path.glob(".*"))
