"""Graphs that somebody else made: what their texts, numbers and curves may do, and where their files may lie."""

import time
from fractions import Fraction
from types import SimpleNamespace

import pytest
import torch
from hosts import RunningHost, running
from hypothesis import given, settings
from hypothesis import strategies as st
from test_locales import pack

from comfy_fusionfft import pace
from comfy_fusionfft.errors import FusionFFTError, InputError, TimelineError, quoted
from comfy_fusionfft.retime import MOST_KEYS, number, parse_speed
from comfy_fusionfft.timeline import Multiply
from devhost.client import InvalidGraph
from devhost.install import NEWEST
from fuzzing import workflows
from tests.nodes.graphs import Graph, moving, of

FEW = settings(max_examples=150, deadline=1000, database=None)
TYPED = st.text(st.sampled_from("0123456789.:,;%fsxe+-/ \t\n_٣½∞naif\x00\ud800"), max_size=60)
"""What comes near the grammars of speeds, cuts and rates."""


@pytest.fixture(scope="module")
def nodes():
    with pack() as loaded:
        yield loaded


def understood(parse, *given):
    """The result; None where it is refused with a message that fits on a line."""
    try:
        return parse(*given)
    except Exception as error:
        assert any(kind.__name__ == "FusionFFTError" for kind in type(error).__mro__), repr(error)
        first = str(error).partition("\n")[0]
        assert 20 <= len(first) <= 400, first
        return None


# ---------------------------------------------------------------------------------------------- in a real host


def test_spoiled_graphs_end_with_our_message_and_leave_nothing_outside(host: RunningHost, tmp_path):
    assert workflows.run(host, tmp_path, seed=7, tries=60) == []


def test_a_name_that_leads_out_of_the_output_folder(host: RunningHost):
    workflows.write_clip(host.server.input)
    before = sorted(host.server.base.rglob("*.mp4"))
    for prefix, text in (
        ("../../escaped", "names no file in the output folder: give a folder there and a name"),
        ("/tmp/escaped", "names no file in the output folder: give a folder there and a name"),
        ("video/" + "long" * 90, "names no file in the output folder: give a folder there and a name of up to 200"),
        ("video/bell\x07", "names no file in the output folder"),
    ):
        graph = Graph(host)
        motion = graph.add("FusionFFTLoadRIFE", model="dis (built-in, no weights)")
        video = graph.add("LoadVideo", file=workflows.CLIP)
        how = {"method": "rife", "rife_model": motion, "filename_prefix": prefix}
        graph.add("FusionFFTInterpolateVideo", video=video, **how)
        error = graph.fails()
        assert error.startswith(f"filename_prefix {quoted(prefix)} names no file") and text in error
    assert sorted(host.server.base.rglob("*.mp4")) == before


def test_stars_and_brackets_in_a_name_are_only_a_name(host: RunningHost):
    workflows.write_clip(host.server.input)
    graph = Graph(host)
    motion = graph.add("FusionFFTLoadRIFE", model="dis (built-in, no weights)")
    how = {"method": "rife", "rife_model": motion, "filename_prefix": "video/**take[*]?"}
    node = graph.add("FusionFFTInterpolateVideo", video=graph.add("LoadVideo", file=workflows.CLIP), **how)
    (file,) = graph.run().outputs[node.id]["images"]
    assert (
        file["filename"].startswith("**take[*]?_") and (host.server.output / "video" / file["filename"]).stat().st_size
    )


def test_metadata_that_is_none_is_left_out(host: RunningHost):
    workflows.write_clip(host.server.input)
    graph = Graph(host)
    motion = graph.add("FusionFFTLoadRIFE", model="dis (built-in, no weights)")
    video = graph.add("LoadVideo", file=workflows.CLIP)
    graph.add("FusionFFTInterpolateVideo", video=video, method="rife", rife_model=motion, filename_prefix="video/tags")
    for sent in ("text", [1], 5):
        result = host.client.wait(host.client.submit(graph.nodes, {"extra_pnginfo": sent}))
        result.raise_for_error()


def test_a_model_s_name_reaches_no_other_folder(host: RunningHost):
    (host.server.base / "outside.safetensors").write_bytes(b"\0" * 64)
    for name in ("../../outside.safetensors", "../../outside (built-in)", "/etc/passwd", "x\x00.safetensors"):
        graph = Graph(host)
        model = graph.add("FusionFFTLoadRIFE", model=name)
        graph.save_flow("unwanted", graph.add("FusionFFTFlow", images=graph.add("EmptyImage"), rife_model=model))
        try:
            error = host.client.run(graph.nodes).error
        except InvalidGraph as refused:
            assert "no flow model" in str(refused)
        else:
            assert error.kind.endswith("CheckpointError") and "is missing" in error.message


def test_a_single_frame_can_be_asked_for(host: RunningHost):
    graph = Graph(host)
    motion = graph.add("FusionFFTLoadRIFE", model="dis (built-in, no weights)")
    images = graph.clip("few", moving(3))
    pace = of("pace", "frame count", count=1)
    node = graph.add("FusionFFTRetime", images=images, method="rife", rife_model=motion, **pace)
    graph.save("single", node)
    graph.run()
    assert torch.equal(host.saved("single")["image"], moving(3)[:1])


@pytest.fixture(scope="module")
def shared_host(pytestconfig: pytest.Config, tmp_path_factory: pytest.TempPathFactory):
    """One that answers other machines."""
    yield from running(NEWEST, pytestconfig, tmp_path_factory, "--listen", "0.0.0.0")


def test_a_host_that_others_reach_reads_no_files_elsewhere(shared_host: RunningHost, host: RunningHost, tmp_path):
    workflows.write_clip(tmp_path)
    workflows.write_clip(shared_host.server.input)

    def read(by: RunningHost, path: str) -> str | None:
        graph = Graph(by)
        text = graph.add("PrimitiveString", value=path)
        motion = graph.add("FusionFFTLoadRIFE", model="dis (built-in, no weights)")
        how = {"method": "rife", "rife_model": motion, "filename_prefix": "video/read"}
        graph.add("FusionFFTInterpolateVideo", video=text, **how)
        error = by.client.run(graph.nodes).error
        return error and error.message.partition("\n")[0]

    elsewhere = str(tmp_path / workflows.CLIP)
    assert "is not in ComfyUI's folders, and this ComfyUI answers other machines: copy" in read(shared_host, elsewhere)
    assert "is not in ComfyUI's folders" in read(shared_host, "/etc/passwd")
    assert "is not in ComfyUI's folders" in read(shared_host, str(shared_host.server.input / ".." / ".." / "x.mp4"))
    assert read(shared_host, workflows.CLIP) is None
    assert read(shared_host, str(shared_host.server.input / workflows.CLIP)) is None
    assert read(host, elsewhere) is None


# --------------------------------------------------------------------------------------------- paths, alone


@pytest.mark.parametrize(
    ("listen", "only_here"),
    [
        *(("127.0.0.1", True), ("localhost", True), ("::1", True), ("127.0.0.1,127.3.3.3", True)),
        *(("0.0.0.0", False), ("0.0.0.0,::", False), ("127.0.0.1, 192.168.1.9", False), ("my-machine", False)),
    ],
)
def test_who_can_reach_a_host(nodes, listen, only_here):
    assert nodes.comfy_host.paths.is_only_here(listen) is only_here


@pytest.mark.parametrize(
    "text", ["//server.invalid/share/a.mp4", "\\\\server.invalid\\share\\a.mp4", "/\\server\\a.mp4"]
)
def test_files_of_other_machines_need_the_user_s_word(nodes, text, monkeypatch):
    paths = nodes.comfy_host.paths
    with pytest.raises(nodes.shots.InputError, match="lies on another machine: copy it to this one, or start ComfyUI"):
        paths.absolute(text, [], True)
    monkeypatch.setenv(paths.ANY_PATH, "1")
    assert str(paths.absolute(text, [], False))


@pytest.mark.parametrize("name", ["../a.mp4", "a/../../b.mp4", "../input-of-another/a.mp4", "/etc/passwd"])
def test_a_relative_path_stays_in_its_folder(nodes, name, tmp_path):
    with pytest.raises(nodes.shots.InputError, match="leads out of the folder input: give the file's whole path"):
        nodes.comfy_host.paths.inside(name, tmp_path / "input")
    assert nodes.comfy_host.paths.inside("a/../b.mp4", tmp_path / "input").name == "b.mp4"


@pytest.mark.parametrize("text", ["", "  ", "''", "a\x00b", "a\nb", "\ud800", "a" * 5000])
def test_texts_that_are_no_path(nodes, text):
    with pytest.raises(nodes.shots.InputError, match="is no path of a video"):
        nodes.comfy_host.paths.cleaned(text)


# ----------------------------------------------------------------------------------------- texts and numbers


@FEW
@given(text=TYPED | st.text(max_size=30), duration=st.none() | st.fractions(min_value=0, max_value=10**6))
def test_any_speed_is_a_curve_or_refused(text, duration):
    curve = understood(parse_speed, text, duration, Fraction(24))
    if curve is not None:
        assert all(0 <= key.speed <= 1000 for key in curve.keys)
        assert isinstance(curve.source_seconds(Fraction(3, 7)), Fraction)


@FEW
@given(text=TYPED | st.text(max_size=30), count=st.none() | st.integers(1, 10**6))
def test_any_cuts_are_frames_or_refused(nodes, text, count):
    found = understood(nodes.shots.numbers, text, count)
    assert found is None or found == "auto" or all(isinstance(cut, int) and cut >= 0 for cut in found)


@FEW
@given(value=TYPED | st.floats() | st.fractions() | st.integers())
def test_any_rate_is_exact_or_refused(value):
    for parse in (pace.exact_rate, lambda given: pace.exact(given, "shutter")):
        found = understood(parse, value)
        assert found is None or isinstance(found, Fraction)


COORDINATES = st.floats() | st.integers(-(10**9), 10**9) | st.text(max_size=3) | st.none()
CURVES = st.recursive(COORDINATES, lambda inner: st.lists(inner, max_size=5), max_leaves=20)


@FEW
@given(
    points=CURVES | st.lists(st.tuples(st.floats(-2, 2), st.floats(-2, 2)), max_size=9),
    kind=st.none() | st.just("linear"),
)
def test_any_curve_is_a_speed_or_refused(nodes, points, kind):
    for drawn in (points, {"points": points, "interpolation": kind}):
        keys = understood(nodes.retiming.curves.keys, drawn, 2.0, 0.01, 1000.0)
        if keys is not None:
            assert understood(parse_speed, keys, Fraction(10)) is not None, keys


@pytest.mark.parametrize(
    "text", ["1e9999999", "0:1e9999999", "-1e-9999999:1", "1e9999999f:1", "1e99999999999999999999"]
)
def test_a_number_of_a_billion_digits_is_refused_at_once(text):
    began = time.monotonic()
    with pytest.raises(TimelineError, match="is neither a number such as"):
        parse_speed(text, Fraction(1), Fraction(24))
    with pytest.raises(InputError, match="is not a number"):
        pace.exact_rate(text)
    with pytest.raises(TimelineError, match="is not a number of 1 or more"):
        Multiply(text)
    assert time.monotonic() - began < 1


def test_a_number_is_read_as_people_write_it():
    assert [number(text) for text in ("0.1", "1/3", "-2", "1e3", "2.5e-1")] == [
        *(Fraction(1, 10), Fraction(1, 3), Fraction(-2), Fraction(1000), Fraction(1, 4)),
    ]
    assert number(Fraction(10**200, 3)) == Fraction(10**200, 3)


def test_so_many_keys_that_their_instants_would_never_be_found():
    keys = ", ".join(f"{second}:{1 + second % 7}" for second in range(MOST_KEYS + 1))
    with pytest.raises(TimelineError, match=f"a speed of {MOST_KEYS + 1} keys: give {MOST_KEYS} or fewer"):
        parse_speed(keys)


@pytest.mark.parametrize("text", ["9" * 5000, ",", ";;", "1" * 10])
def test_cuts_of_no_clip(nodes, text):
    with pytest.raises(nodes.shots.InputError, match="are neither auto, none nor frame numbers"):
        nodes.shots.numbers(text)


@pytest.mark.parametrize(
    ("curve", "why"),
    [
        ({}, "is no list of points"),
        ({"points": [["a", 1]]}, "is no list of points"),
        ({"points": [[0, 1, 2]]}, "is no list of points"),
        ({"points": [[0, float("nan")], [1, 1]]}, "lies nowhere near it"),
        ({"points": [[0, 1e308], [1, 1]]}, "lies nowhere near it"),
        ({"points": [[i / 2000, 0.5] for i in range(2000)]}, "has 2000 points: draw it with 1000 or fewer"),
    ],
)
def test_curves_that_are_none(nodes, curve, why):
    with pytest.raises(nodes.shots.InputError, match=why):
        nodes.retiming.curves.keys(curve, 2.0, 0.01, 1000.0)


def test_a_message_never_repeats_what_is_endless():
    assert len(quoted("a" * 10**6)) <= 110 and quoted("short") == "'short'"
    for parse, given_ in ((parse_speed, "x" * 10**6), (pace.exact_rate, "1" * 10**6)):
        with pytest.raises(FusionFFTError) as refused:
            parse(given_)
        assert len(str(refused.value)) < 300


def test_metadata_of_any_kind_becomes_tags(nodes, monkeypatch):
    monkeypatch.setattr(nodes.comfy_host.args, "disable_metadata", False)
    for sent in ("text", [1], 5, None):
        assert nodes.comfy_host.graph_tags(SimpleNamespace(extra_pnginfo=sent, prompt=None)) == {}


@pytest.mark.parametrize("value", [{"points": []}, [1], "text", None])
def test_a_value_in_place_of_a_link(nodes, value):
    for use in (nodes.retime.batches.size, nodes.retime.batches.clip, nodes.retime.batches.count):
        with pytest.raises(nodes.shots.InputError, match="is connected as images: connect a batch of images"):
            use(value)


def test_a_value_in_place_of_a_model_s_name(nodes):
    assert nodes.loaders._known({"a": 1}, "flow") == "a dict is given as model: choose one from the list"


@pytest.mark.parametrize("value", [None, "16", [], {"loaded_fps": "x"}, {}, 0, -1.0, float("nan")])
def test_a_rate_that_is_none(nodes, value):
    with pytest.raises(nodes.shots.InputError, match="give the frames a second of the images|is not a number"):
        nodes.retime._rate(value)
