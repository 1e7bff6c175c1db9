"""FusionFFT Interpolate Video in real hosts: files in, files out, sound, trims, tags, and going on after a stop."""

import json
from fractions import Fraction
from pathlib import Path

import av
import cv2
import numpy as np
import pytest
import torch

from comfy_fusionfft.files import interpolate_file
from comfy_fusionfft.video import open_clip
from tests.nodes.graphs import PLAIN, Graph, Link, dis, moved, moving, of

pytestmark = pytest.mark.usefixtures("one_thread")
NODE = "FusionFFTInterpolateVideo"
BIG = {"height": 64, "width": 96}
LOSSLESS = of("codec", "ffv1 (mkv)")
RATE = 12


def write(path: Path, images: torch.Tensor, rate: int = RATE, sound: bool = True) -> Path:
    """A clip without loss of its 8 bits, with a rising tone."""
    with av.open(str(path), "w") as container:
        stream = container.add_stream("ffv1", rate=rate)
        stream.width, stream.height, stream.pix_fmt = images.shape[2], images.shape[1], "bgr0"
        audio = container.add_stream("pcm_s16le", rate=48000, layout="mono") if sound else None
        for image in (images * 255).round().byte().numpy():
            container.mux(stream.encode(av.VideoFrame.from_ndarray(image, format="rgb24")))
        container.mux(stream.encode(None))
        if audio is not None:
            time = np.arange(48000 * len(images) // rate) / 48000
            tone = (np.sin(2 * np.pi * (300 + 200 * time) * time) * 8000).astype(np.int16)
            for block in np.split(tone, range(500, len(tone), 500)):  # packets as small as sound usually has
                frame = av.AudioFrame.from_ndarray(block[None], format="s16", layout="mono")
                frame.sample_rate = 48000
                container.mux(audio.encode(frame))
            container.mux(audio.encode(None))
    return path


def interpolated(host, video: Link, graph: Graph, **inputs) -> tuple[Path, str]:
    """-> the file, and the report."""
    settings = {"method": "rife", "rife_model": dis(graph), **LOSSLESS, **inputs}
    node = graph.add(NODE, video=video, **settings)
    graph.add("PreviewAny", source=node.slot(1))
    graph.save("timeline", node.slot(2))
    result = graph.run()
    (file,) = result.outputs[node.id]["images"]
    assert file["type"] == "output"
    (text,) = [shown["text"][0] for shown in result.outputs.values() if "text" in shown]
    return host.server.output / file["subfolder"] / file["filename"], text


def pixels(path: Path) -> torch.Tensor:
    return torch.stack([frame.pixels for frame in open_clip(path)])


def sound_seconds(path: Path) -> float | None:
    with av.open(str(path)) as container:
        if not container.streams.audio:
            return None
        frames = list(container.decode(container.streams.audio[0]))
        return sum(frame.samples for frame in frames) / frames[0].sample_rate


@pytest.fixture(scope="module")
def clip(tmp_path_factory) -> Path:
    return write(tmp_path_factory.mktemp("clip") / "moving.mkv", moving(6, **BIG))


@pytest.fixture
def loaded(either_host, clip):
    """The host, a graph, and the clip in it."""
    host = either_host
    (host.server.input / clip.name).write_bytes(clip.read_bytes())
    graph = Graph(host)
    return host, graph, graph.add("LoadVideo", file=clip.name)


def test_a_file_becomes_a_file(loaded, clip, tmp_path):
    host, graph, video = loaded
    made, report = interpolated(host, video, graph)
    assert made.parent.name == "video" and made.name.startswith("FusionFFT_0") and made.suffix == ".mkv"
    expected = interpolate_file(clip, tmp_path / "expected.mkv", method="rife", flow="dis", codec="ffv1", host=PLAIN)
    assert torch.equal(pixels(made), pixels(expected.path)) and len(pixels(made)) == 11
    assert open_clip(made).info.rate == 2 * RATE and sound_seconds(made) == pytest.approx(0.5, abs=0.05)
    assert "11 frames" in report and "no cuts" in report
    timeline = host.saved("timeline")["image"]
    assert timeline.shape[2] == 1280 and timeline.std() > 0.02
    assert not list(made.parent.glob(".*"))


def test_the_graph_is_in_the_file(loaded):
    host, graph, video = loaded
    made, _ = interpolated(host, video, graph)
    with av.open(str(made)) as container:
        tags = {name.lower(): value for name, value in container.metadata.items()}
    assert NODE in {node["class_type"] for node in json.loads(tags["prompt"]).values()}


def test_the_result_is_a_video_for_the_host_s_nodes(loaded):
    host, graph, video = loaded
    node = graph.add(NODE, video=video, method="rife", rife_model=dis(graph), **LOSSLESS)
    parts = graph.add("GetVideoComponents", video=node)
    graph.save("parts", parts)
    graph.save_number("fps", parts.slot(2))
    graph.run()
    assert host.saved("parts")["image"].shape == (11, 64, 96, 3)
    assert host.saved("fps")["value"] == 2 * RATE


def test_a_trimmed_video_is_only_that_part(loaded):
    host, graph, video = loaded
    part = graph.add("Video Slice", video=video, start_time=2 / RATE, duration=3 / RATE, strict_duration=False)
    made, _ = interpolated(host, part, graph)
    found = pixels(made)
    source = (moving(6, **BIG) * 255).round().byte()
    assert len(found) == 5 and torch.equal(found[::2], source[2:5])
    assert sound_seconds(made) == pytest.approx(0.25, abs=0.05)


def test_a_trim_to_nothing(loaded):
    _, graph, video = loaded
    part = graph.add("Video Slice", video=video, start_time=0.39, duration=0.01, strict_duration=False)
    graph.add(NODE, video=part, method="rife", rife_model=dis(graph))
    assert "no frame of moving.mkv lies between 0.39 s and 0.4 s: trim it less" in graph.fails()


@pytest.mark.parametrize("channels", [3, 4])
def test_images_go_in_without_a_file_between(either_host, channels):
    """Their sixteenths of 8 bits would not survive one."""
    clip = moving(3, **BIG, channels=channels).clamp(0.2, 1)
    graph = Graph(either_host)
    images = graph.clip("components", clip)
    sound = graph.add("FusionFFTTestTone", seconds=3 / RATE)
    video = graph.add("CreateVideo", images=images, audio=sound, fps=float(RATE))
    made, _ = interpolated(either_host, video, graph)
    found = pixels(made)
    assert found.shape == (5, 64, 96, channels)
    assert torch.equal(found[::2], (clip * 255).round().byte())
    assert open_clip(made).info.rate == 2 * RATE and sound_seconds(made) == pytest.approx(0.25, abs=0.05)


@pytest.mark.parametrize("codec, audio", [("h264 (mp4)", "aac"), ("vp9 (webm)", "opus")])
def test_the_sound_of_images_fits_every_container(host, codec, audio):
    graph = Graph(host)
    images, sound = graph.clip("heard", moving(6, **BIG)), graph.add("FusionFFTTestTone", seconds=6 / RATE)
    video = graph.add("CreateVideo", images=images, audio=sound, fps=float(RATE))
    made, report = interpolated(host, video, graph, **of("codec", codec, quality=20))
    with av.open(str(made)) as container:
        assert container.streams.audio[0].codec_context.name in (audio, f"lib{audio}")
    assert sound_seconds(made) == pytest.approx(0.5, abs=0.08) and "left out" not in report


@pytest.mark.parametrize("audio, seconds", [("auto", 0.875), ("tape", 0.875), ("keep", 0.5), ("drop", None)])
def test_sound_follows_slow_motion(loaded, audio, seconds):
    host, graph, video = loaded
    made, _ = interpolated(host, video, graph, audio=audio, **of("speed", "constant", factor=0.5))
    assert sound_seconds(made) == (None if seconds is None else pytest.approx(seconds, abs=0.06))
    assert len(pixels(made)) in (20, 21, 22)


def test_file_names_and_paths_are_videos_too(loaded, clip):
    host, graph, video = loaded
    names = graph.add("FusionFFTTestFileNames", file=clip.name)
    path = graph.add("PrimitiveString", value=str(host.server.input / clip.name))
    relative = graph.add("PrimitiveString", value=clip.name)
    expected = pixels(interpolated(host, video, Graph_copy(graph))[0])
    for link in (names, path, relative):
        assert torch.equal(pixels(interpolated(host, link, Graph_copy(graph))[0]), expected)


def Graph_copy(graph: Graph) -> Graph:
    copy = Graph(graph.host)
    copy.nodes = {name: {**node, "inputs": dict(node["inputs"])} for name, node in graph.nodes.items()}
    return copy


def test_nothing_that_is_a_video(either_host):
    graph = Graph(either_host)
    graph.add(NODE, video=graph.add("PrimitiveString", value="not_there.mkv"), method="rife", rife_model=dis(graph))
    assert "not_there.mkv does not exist: give a video file or a folder of images" in graph.fails()


# ------------------------------------------------------------------------------------- long and stopped runs


def test_it_says_how_far_it_is(loaded):
    host, graph, video = loaded
    graph.add(NODE, video=video, method="rife", rife_model=dis(graph), **of("pace", "multiplier", multiplier=3.0))
    result = host.run(graph.nodes)
    assert "frame 16 of 16" in result.texts
    seen = cv2.imdecode(np.frombuffer(result.previews[-1].data, np.uint8), cv2.IMREAD_COLOR)[..., ::-1] / 255
    seen = cv2.resize(seen, (BIG["width"], BIG["height"]), interpolation=cv2.INTER_AREA)
    nearest = min(np.abs(seen - moved(shift, **BIG).numpy()).mean() for shift in range(16))
    assert nearest < 0.05
    assert (result.progress[-1].value, result.progress[-1].maximum) == (16, 16)


def test_a_stopped_run_goes_on(either_host, tmp_path):
    """Longer than a segment, stopped in the second one: the first is not made again, and the file is the same."""
    host = either_host
    source = write(host.server.input / "long.mkv", moving(120, **BIG, speed=0.5))
    graph = Graph(host)
    video = graph.add("LoadVideo", file=source.name)
    settings = {"method": "rife", "rife_model": dis(graph), "filename_prefix": "stopped", **LOSSLESS}
    node = graph.add(NODE, video=video, **settings, **of("pace", "multiplier", multiplier=4.0))
    began = host.client.submit(graph.nodes)
    host.client.wait_event(began, "progress")
    while not list(host.server.output.glob(".stopped_*.work/000001.packets*")):
        assert not list(host.server.output.glob("stopped_*.mkv")), "it was too quick to be stopped"
    host.client.interrupt(began)
    assert host.client.wait(began).interrupted
    (work,) = host.server.output.glob(".stopped_*.work")
    assert (work / "000000.packets").exists()
    (host.server.output / "stopped_00007_.mkv").touch()  # something else took a later number
    again = host.run(graph.nodes)
    (file,) = again.outputs[node.id]["images"]
    assert file["filename"] == "stopped_00001_.mkv" and not list(host.server.output.glob(".stopped_*"))
    made = [progress.value for progress in again.progress if progress.maximum == 477]
    assert made[0] > 128 and made[-1] == 477
    expected = interpolate_file(
        source, tmp_path / "whole.mkv", method="rife", flow="dis", codec="ffv1", multi=4, host=PLAIN
    )
    assert torch.equal(pixels(host.server.output / file["filename"]), pixels(expected.path))


def test_variable_speed_and_cuts_in_one(loaded):
    host, graph, video = loaded
    keys = of("speed", "keys", keys="0%:1, 100%:0.5")
    made, report = interpolated(host, video, graph, cuts="3", **keys, **of("pace", "frame rate", fps=24.0))
    assert "1 cut, a new shot begins at frame 3" in report and open_clip(made).info.rate == 24
    assert Fraction(len(pixels(made)), 24) > Fraction(1, 2)


def test_the_truth_lies_between(loaded):
    host, graph, video = loaded
    made, _ = interpolated(host, video, graph, method="fusion")
    truth = moved(1.5 * 3, **BIG)
    found = pixels(made)[3].float() / 255
    assert (found - truth)[8:-8, 12:-12].abs().mean() < 0.02
