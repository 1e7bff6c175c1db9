"""The example workflows as shipped: loaded by the real front end, run by real hosts, their videos looked at."""

import copy
import itertools
import json
from fractions import Fraction
from pathlib import Path

import av
import cv2
import numpy as np
import pytest
import torch
from hosts import RunningHost
from places import ROOT
from small_nets import FTVSR

from comfy_fusionfft import checkpoints
from comfy_fusionfft.families import ftvsr
from comfy_fusionfft.quality import psnr
from devhost.browser import BrowserMissing, browser_path, chromium, open_page
from devhost.client import Result
from devhost.clip import DEMO_CLIP, draw

FOLDER = ROOT / "example_workflows"
NAMES = sorted(path.stem for path in FOLDER.glob("*.json"))
SOURCE_FRAMES, SOURCE_FPS = 3, 12


def workflow(name: str) -> dict:
    return json.loads((FOLDER / f"{name}.json").read_text(encoding="utf-8"))


def with_sound(silent: Path, target: Path) -> None:
    """The clip with a tone, as clips of users have sound."""
    with av.open(str(silent)) as source, av.open(str(target), "w") as made:
        pictures = source.streams.video[0]
        copy = made.add_stream_from_template(pictures)
        sound = made.add_stream("aac", rate=48000, layout="mono")
        for packet in source.demux(pictures):
            if packet.dts is not None:
                packet.stream = copy
                made.mux(packet)
        tone = np.sin(np.arange(48000 * SOURCE_FRAMES // SOURCE_FPS) * 0.06, dtype=np.float32) * 0.2
        frame = av.AudioFrame.from_ndarray(tone[None], format="fltp", layout="mono")
        frame.sample_rate = 48000
        for packet in [*sound.encode(frame), *sound.encode()]:
            made.mux(packet)


@pytest.fixture(scope="module", params=["host", "old_host"], ids=["0.30.0", "0.18.2"])
def loaded(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory):
    """A host with the demo clip in its input folder, and what its front end makes of each workflow."""
    host: RunningHost = request.getfixturevalue(request.param)
    silent = tmp_path_factory.mktemp("clip") / DEMO_CLIP
    draw(silent, SOURCE_FRAMES)
    with_sound(silent, host.server.input / DEMO_CLIP)
    graphs = {}
    with chromium() as browser, open_page(browser, host.server.url) as front:
        for name in NAMES:
            front.load(workflow(name))
            graphs[name] = front.prompt()
    return host, graphs


def run(loaded, name: str) -> tuple[RunningHost, dict, Result]:
    host, graphs = loaded
    return host, graphs[name], host.run(graphs[name], timeout=300)


def node_of(graph: dict, kind: str) -> str:
    (found,) = [name for name, node in graph.items() if node["class_type"] == kind]
    return found


def video(
    host: RunningHost, graph: dict, result: Result, saver: str = "SaveVideo"
) -> tuple[list[np.ndarray], Fraction, bool]:
    """The saved video: RGB frames, frames a second, whether it has sound."""
    (file,) = result.outputs[node_of(graph, saver)]["images"]
    with av.open(str(host.server.output / file["subfolder"] / file["filename"])) as container:
        stream = container.streams.video[0]
        frames = [frame.to_ndarray(format="rgb24") for frame in container.decode(stream)]
        return frames, stream.average_rate, bool(container.streams.audio)


@pytest.fixture(scope="module")
def scene(loaded):
    from scene import Scene  # demo/scene.py: drawing the clip has put its folder on the path

    return Scene()


def test_there_are_seven_with_a_picture_each():
    video = ["any_frame_rate", "double_frame_rate", "restore_compressed", "slow_motion_x8", "speed_ramp"]
    assert sorted([*video, "flow_inspection", "spectral_tuning"]) == NAMES
    assert sorted(path.stem for path in FOLDER.glob("*.jpg")) == NAMES
    for name in NAMES:
        picture = FOLDER / f"{name}.jpg"
        height, width = cv2.imread(str(picture)).shape[:2]
        assert width == 600 and 200 < height < 600 and picture.stat().st_size < 100_000


def test_a_missing_browser_is_an_error_that_says_what_to_install(monkeypatch):
    monkeypatch.setenv("PATH", "")
    with pytest.raises(BrowserMissing, match="no browser: install Chromium"):
        browser_path()


@pytest.mark.parametrize("name", NAMES)
def test_saved_graphs_hold_nothing_of_the_machine_they_were_made_on(name):
    saved = workflow(name)
    kinds = {node["type"] for node in saved["nodes"]}
    assert "MarkdownNote" in kinds and any(kind.startswith("FusionFFT") for kind in kinds)
    assert {node["properties"].get("Node name for S&R", node["type"]) for node in saved["nodes"]} == kinds
    (load,) = [node for node in saved["nodes"] if node["type"] == "LoadVideo"]
    assert load["widgets_values"][0] == DEMO_CLIP
    assert saved["extra"].keys() == {"ds"} and "/tmp" not in json.dumps(saved)
    for node in saved["nodes"]:  # nothing lies on anything else
        for other in saved["nodes"]:
            assert node is other or not overlap(node, other), (node["type"], other["type"])


def overlap(one: dict, other: dict) -> bool:
    return all(
        one["pos"][axis] < other["pos"][axis] + other["size"][axis]
        and other["pos"][axis] < one["pos"][axis] + one["size"][axis]
        for axis in (0, 1)
    )


def test_the_front_end_keeps_the_values_of_the_saved_graphs(loaded):
    """Widgets are saved by position: a moved one would get another's value."""
    _, graphs = loaded
    for graph in graphs.values():
        assert graph[node_of(graph, "LoadVideo")]["inputs"]["file"] == DEMO_CLIP
    inputs = graphs["spectral_tuning"][node_of(graphs["spectral_tuning"], "FusionFFTSpectralSwap")]["inputs"]
    links = {name for name, value in inputs.items() if isinstance(value, list)}
    assert links == {"images", "prior", "flow"}
    assert {name: value for name, value in inputs.items() if name not in links} == {
        "alpha": 0.4,
        "lo": 0.25,
        "hi": 0.4,
        "soft": True,
        "prior_kind": "auto",
        "clamp_gain": True,
    }
    inputs = graphs["any_frame_rate"][node_of(graphs["any_frame_rate"], "FusionFFTInterpolateVideo")]["inputs"]
    assert inputs["pace"] == "frame rate" and inputs["pace.fps"] == 60 and inputs["speed"] == "normal"
    assert inputs["codec"] == "h264 (mp4)" and inputs["codec.quality"] == 16 and inputs["method"] == "fusion"
    inputs = graphs["speed_ramp"][node_of(graphs["speed_ramp"], "FusionFFTRetime")]["inputs"]
    assert inputs["pace.multiplier"] == 2 and inputs["speed.keys"] == "0%:1, 40%:0.25, 60%:0.25, 100%:1"
    assert inputs["cuts"] == "auto" and inputs["maps"] is False and inputs["scale"] == "1"
    inputs = graphs["slow_motion_x8"][node_of(graphs["slow_motion_x8"], "FusionFFTInterpolate")]["inputs"]
    assert inputs["multiplier"] == 8 and inputs["method"] == "fusion" and inputs["scale"] == "1"


@pytest.mark.parametrize("name", ["double_frame_rate", "spectral_tuning"])
def test_twice_the_frames_at_twice_the_rate(loaded, scene, name):
    frames, rate, sound = video(*run(loaded, name))
    assert len(frames) == 2 * SOURCE_FRAMES - 1 and rate == 2 * SOURCE_FPS and sound
    assert frames[0].shape == (272, 480, 3)
    for index in range(SOURCE_FRAMES - 1):
        truth = scene.at(index + 0.5)
        averaged = (frames[2 * index] / 2 + frames[2 * index + 2] / 2) / 255
        score, plain = psnr(frames[2 * index + 1] / 255, truth / 255), psnr(averaged, truth / 255)
        assert score > plain + 4 and score > 28, (score, plain)


def test_slow_motion_keeps_the_rate(loaded, scene):
    frames, rate, sound = video(*run(loaded, "slow_motion_x8"))
    assert len(frames) == 8 * (SOURCE_FRAMES - 1) + 1 and rate == SOURCE_FPS and not sound
    for index in range(len(frames)):
        if index % 8:
            left, share = index // 8, index % 8 / 8
            truth = scene.at(index / 8) / 255
            averaged = (frames[8 * left] * (1 - share) + frames[8 * left + 8] * share) / 255
            assert psnr(frames[index] / 255, truth) > psnr(averaged, truth) + 2.5, index


def test_any_frame_rate_from_file_to_file(loaded, scene):
    host, graph, result = run(loaded, "any_frame_rate")
    frames, rate, sound = video(host, graph, result, "FusionFFTInterpolateVideo")
    assert rate == 60 and len(frames) == 5 * (SOURCE_FRAMES - 1) + 1 and sound
    for index, frame in enumerate(frames):
        assert psnr(frame / 255, scene.at(index / 5) / 255) > 28, index
    assert len(result.outputs[node_of(graph, "PreviewImage")]["images"]) == 1
    assert f"{len(frames)} frames" in result.outputs[node_of(graph, "PreviewAny")]["text"][0]


def test_a_speed_ramp_is_slow_in_the_middle(loaded):
    host, graph, result = run(loaded, "speed_ramp")
    frames, rate, _ = video(host, graph, result)
    assert rate == 2 * SOURCE_FPS and len(frames) == 9  # of 5 at its own speed
    steps = [np.abs(after.astype(int) - before).mean() for before, after in itertools.pairwise(frames)]
    middle = len(steps) // 2
    assert np.mean(steps[middle - 1 : middle + 2]) < 0.7 * np.mean([steps[0], steps[-1]])
    assert f"{len(frames)} frames made" in result.outputs[node_of(graph, "PreviewAny")]["text"][0]


def test_a_compressed_clip_is_restored_and_then_interpolated(loaded, tmp_path):
    host, graphs = loaded
    graph = copy.deepcopy(graphs["restore_compressed"])
    model, weights = node_of(graph, "FusionFFTLoadRestore"), host.server.models / "frame_interpolation"
    refused = host.client.run(graph).error
    assert refused.node == model and "FTVSR_REDS.pth" in refused.message and f"{weights}" in refused.message
    small = host.server.input / "small_compressed.mp4"
    draw(small, SOURCE_FRAMES, part=(slice(60, 124), slice(100, 196)))
    graph[node_of(graph, "LoadVideo")]["inputs"]["file"] = small.name
    torch.manual_seed(5)
    weights.mkdir(exist_ok=True)
    state = ftvsr.FAMILY.build(FTVSR).state_dict()
    file = checkpoints.save(state, weights / "ftvsr-reds.safetensors", family=ftvsr.FAMILY, config=FTVSR)
    try:
        result = host.run(graph, timeout=300)
    finally:
        file.unlink()
    restored, rate, _ = video(host, graph, result, "FusionFFTRestoreVideo")
    assert [frame.shape for frame in restored] == [(256, 384, 3)] * SOURCE_FRAMES and rate == SOURCE_FPS
    frames, rate, _ = video(host, graph, result, "FusionFFTInterpolateVideo")
    assert [frame.shape for frame in frames] == [(256, 384, 3)] * (2 * SOURCE_FRAMES - 1) and rate == 2 * SOURCE_FPS
    for index, frame in enumerate(restored):
        assert psnr(frames[2 * index] / 255, frame / 255) > 30, index


def test_flow_is_shown_in_four_ways(loaded):
    _, graph, result = run(loaded, "flow_inspection")
    shown = {
        node["inputs"]["show"]: len(result.outputs[name]["images"])
        for name, node in graph.items()
        if node["class_type"] == "FusionFFTFlowPreview"
    }
    made = SOURCE_FRAMES - 1
    assert shown == {"colour": made, "arrows": made, "occlusion": made, "anchors": 2 * SOURCE_FRAMES - 1}


def test_the_tuned_workflow_announces_its_live_preview(loaded):
    host, graph, result = run(loaded, "spectral_tuning")
    (entry,) = result.outputs[node_of(graph, "FusionFFTSpectralSwap")]["fusionfft_spectral"]
    assert [frame["position"] for frame in entry["frames"]] == [0.5, 1.5]
    assert host.client.request(f"/fusionfft/spectral/{entry['token']}/0/base").status == 200
