"""Restoring in the host: the same as in the library, larger, from batch to batch and from file to file."""

import json
import time
from fractions import Fraction
from types import SimpleNamespace

import av
import pytest
import torch
from safetensors.torch import save_file
from small_nets import FMANET, FTVSR
from test_locales import pack

from comfy_fusionfft import api
from comfy_fusionfft.checkpoints import save
from comfy_fusionfft.families import fmanet, ftvsr
from comfy_fusionfft.files import restore_file
from comfy_fusionfft.video import open_clip
from devhost.client import InvalidGraph
from tests.nodes.graphs import LIKE_THE_NODES, PLAIN, Graph, Link, frames, fusion, moving, of
from tests.nodes.test_interpolate_video import pixels, sound_seconds, write

pytestmark = pytest.mark.usefixtures("one_thread")
NAME, STRETCHES = "my_fmanet.safetensors", "my_ftvsr.safetensors"
ODD = {"height": 21, "width": 27}
LOSSLESS = of("codec", "ffv1 (mkv)")


@pytest.fixture(params=["frame_interpolation", "upscale_models"])
def either_folder(request, either_host):
    yield from written(either_host, request.param)


@pytest.fixture
def file(host):
    yield from written(host, "frame_interpolation")


def written(host, folder: str):
    path = host.server.models / folder / NAME
    path.parent.mkdir(exist_ok=True)
    torch.manual_seed(3)
    save_file(fmanet.FAMILY.build(FMANET).state_dict(), path)
    yield path
    path.unlink()


@pytest.fixture
def stretches(host):
    torch.manual_seed(5)
    state = ftvsr.FAMILY.build(FTVSR).state_dict()
    path = host.server.models / "frame_interpolation" / STRETCHES
    yield save(state, path, family=ftvsr.FAMILY, config=FTVSR, dtype=None)
    path.unlink()


def network(graph: Graph, dtype: str = "float32", name: str = NAME) -> Link:
    return graph.add("FusionFFTLoadRestore", model=name, dtype=dtype)


def restored(graph: Graph, clip: torch.Tensor, dtype: str = "float32", name: str = NAME, **inputs) -> torch.Tensor:
    images, model = graph.clip("small", clip), network(graph, dtype, name)
    graph.save("large", graph.add("FusionFFTRestore", images=images, restore_model=model, **inputs))
    graph.result = graph.run()
    return graph.host.saved("large")["image"]


def library(clip: torch.Tensor, file, host=PLAIN, **settings) -> torch.Tensor:
    made = api.restore(list(frames(clip)), file, host=host, **settings)
    return torch.stack([frame.pixels for frame in made])


def test_it_is_the_library_s_and_says_how_it_fits(either_host, either_folder):
    clip, graph = moving(4, **ODD), Graph(either_host)
    made = restored(graph, clip, cuts="2")
    assert made.shape == (4, 84, 108, 3) and made.std() > 0.01
    assert torch.equal(made, library(clip, either_folder, cuts=(2,)))
    said = graph.result.texts
    assert said[0].startswith("whole pictures, about 0.") and said[0].endswith(" GB free")
    assert said[-1] == f"frame 4 of 4; {said[0]}" and graph.result.previews


def test_the_default_precision_is_the_library_s(host, file):
    clip = moving(2, **ODD)
    made = restored(Graph(host), clip, dtype="auto")
    assert torch.equal(made, library(clip, file, host=LIKE_THE_NODES))


def test_ends_and_tiles_are_passed_on(host, file):
    clip = moving(2, 12, 300)
    plain, mirrored, tiled = (
        restored(Graph(host), clip, cuts="none", **more) for more in ({}, {"ends": "reflect"}, {"tile": "256"})
    )
    assert torch.equal(mirrored, library(clip, file, ends="reflect")) and not torch.equal(mirrored, plain)
    assert torch.equal(tiled, library(clip, file, tile=256)) and not torch.equal(tiled, plain)


def test_a_stretch_at_a_time(host, stretches):
    """Chunk and padding are FTVSR's; ends, which it does not have, change nothing."""
    clip, whole = moving(14, **ODD), {"name": STRETCHES, "cuts": "none"}
    plain, chunks, published = (
        restored(Graph(host), clip, **whole, **more)
        for more in ({"ends": "reflect"}, {"chunk": 4}, {"padding": "reference"})
    )
    assert plain.shape == (14, 84, 108, 3) and torch.equal(plain, library(clip, stretches))
    assert torch.equal(chunks, library(clip, stretches, chunk=4)) and not torch.equal(chunks, plain)
    assert torch.equal(published, library(clip, stretches, padding="reference")) and not torch.equal(published, plain)


def test_a_file_goes_through_in_stretches(host, stretches, tmp_path):
    source = write(host.server.input / "stretches.mkv", moving(7, 24, 36))
    graph = Graph(host)
    video, more = graph.add("LoadVideo", file=source.name), {"chunk": 4, "padding": "reference"}
    made, _ = restored_file(host, video, graph, name=STRETCHES, cuts="none", **more)
    expected = restore_file(
        source, tmp_path / "expected.mkv", weights=stretches, codec="ffv1", cuts=(), host=PLAIN, **more
    )
    assert torch.equal(pixels(made), pixels(expected.path)) and pixels(made).shape == (7, 96, 144, 3)


@pytest.mark.parametrize("channels", [1, 3, 4])
def test_a_single_image_of_every_kind(host, file, channels):
    clip = moving(1, **ODD, channels=channels).clamp(0.2, 1)
    made = restored(Graph(host), clip)
    assert made.shape == (1, 84, 108, channels)
    assert torch.equal(made, library(clip, file))


def test_cuts_are_found(host, file):
    clip = torch.cat((moving(9, 24, 32), 1 - moving(9, 24, 32).flip(2)))
    graph = Graph(host)
    made = restored(graph, clip)
    assert torch.equal(made, library(clip, file, cuts=(9,)))
    assert graph.result.texts[0] == "looking for cuts: frame 1"


def test_without_a_file_it_says_where_to_get_it(either_host):
    graph = Graph(either_host)
    spec = either_host.client.object_info("FusionFFTLoadRestore")["FusionFFTLoadRestore"]["input"]["required"]["model"]
    name, *others = spec[0] if isinstance(spec[0], list) else spec[1]["options"]
    assert name == "fmanet (to be fetched by hand)" and not any("waveletvfi" in other for other in others)
    model = graph.add("FusionFFTLoadRestore", model=name)
    graph.save("large", graph.add("FusionFFTRestore", images=graph.clip("small", moving(2)), restore_model=model))
    assert "FMA-Net_REDS.zip" in (said := graph.fails())
    assert f"{either_host.server.models / 'frame_interpolation' / 'fmanet.safetensors'}" in said


def test_another_kind_of_network(host):
    graph = Graph(host)
    images = graph.clip("small", moving(2))
    model = graph.add("FusionFFTLoadRestore", model="rife-v0 (built-in)")
    node = graph.add("FusionFFTRestore", images=images, restore_model=model)
    graph.save("large", node)
    assert "is a flow network (RIFE); choose a restore network" in graph.fails()
    graph.change(node, restore_model=fusion(graph))
    with pytest.raises(InvalidGraph, match="restore_model, received_type\\(FUSIONFFT_MODEL\\)"):
        host.client.submit(graph.nodes)


def test_a_file_that_is_not_there(host):
    graph = Graph(host)
    model = graph.add("FusionFFTLoadRestore", model="gone.safetensors")
    graph.save("large", graph.add("FusionFFTRestore", images=graph.clip("small", moving(2)), restore_model=model))
    with pytest.raises(InvalidGraph) as refused:
        host.client.submit(graph.nodes)
    assert "no restore model 'gone.safetensors' in " in refused.value.nodes[model.id][0]


def test_a_frame_that_is_not_numbers(host, file):
    clip = moving(3, **ODD)
    clip[1, 2, 3] = float("nan")
    graph = Graph(host)
    images = graph.clip("broken", clip)
    graph.save("large", graph.add("FusionFFTRestore", images=images, restore_model=network(graph), cuts="none"))
    assert "holds NaN or infinite values: repair the clip or the node that made it" in graph.fails()


# ---------------------------------------------------------------------------------------------- without a host


@pytest.fixture
def nodes():
    """The pack on a machine with a gigabyte free."""
    with pack() as loaded:
        memory = loaded.comfy_host.memory
        memory.intermediate_device.return_value = memory.get_torch_device.return_value = torch.device("cpu")
        memory.intermediate_dtype.return_value = torch.float32
        memory.get_free_memory.return_value = 10**9
        loaded.comfy_host.psutil.swap_memory.return_value.free = 0
        yield loaded


def four_times(bytes_per_pixel: int) -> SimpleNamespace:
    working = {"working_bytes": lambda height, width: bytes_per_pixel * height * width}
    return SimpleNamespace(scale=4, span=SimpleNamespace(makes=1), **working)


def test_a_result_that_memory_does_not_hold(nodes):
    clip = nodes.batches.clip(torch.zeros(1, 1, 1, 3).expand(2000, 512, 512, 3))
    with pytest.raises(nodes.restore.DeviceError) as refused:
        nodes.restore.restored(clip, four_times(100), "auto", ())
    assert str(refused.value) == (
        "2000 frames of 2048×2048 need 100.7 GB, 1.0 GB are free: take a shorter part of the clip, or Restore Video, "
        "which goes from file to file"
    )


def test_the_result_s_own_memory_is_not_free_for_the_work(nodes):
    host = nodes.comfy_host.ComfyHost()
    assert host.free_bytes() == 10**9
    images = nodes.comfy_host.empty_images(4, torch.zeros(1, 512, 512, 3), 4)
    host.promise(images)
    assert host.free_bytes() == 10**9 - 4 * 2048 * 2048 * 12
    clip = nodes.batches.clip(torch.zeros(1, 1, 1, 3).expand(19, 512, 512, 3))
    with pytest.raises(nodes.restore.DeviceError) as refused:
        nodes.restore.restored(clip, four_times(10_000), "auto", ())
    said = str(refused.value)
    assert said.startswith("beside the 1.0 GB of the result a 512×512 picture needs about ")
    assert said.endswith("or take a shorter part of the clip, or Restore Video, which goes from file to file")


# ----------------------------------------------------------------------------------------------------- files


def restored_file(host, video: Link, graph: Graph, name: str = NAME, **inputs):
    """-> the file, and the report."""
    model = network(graph, name=name)
    node = graph.add("FusionFFTRestoreVideo", video=video, restore_model=model, **LOSSLESS, **inputs)
    graph.add("PreviewAny", source=node.slot(1))
    result = graph.run()
    (shown,) = result.outputs[node.id]["images"]
    (text,) = [shown["text"][0] for shown in result.outputs.values() if "text" in shown]
    return host.server.output / shown["subfolder"] / shown["filename"], text


def test_a_file_becomes_a_larger_file(either_host, tmp_path):
    weights = written(either_host, "frame_interpolation")
    file = next(weights)
    source = write(either_host.server.input / "small.mkv", moving(6, 24, 36))
    graph = Graph(either_host)
    made, report = restored_file(either_host, graph.add("LoadVideo", file=source.name), graph)
    expected = restore_file(source, tmp_path / "expected.mkv", weights=file, codec="ffv1", host=PLAIN)
    assert torch.equal(pixels(made), pixels(expected.path)) and pixels(made).shape == (6, 96, 144, 3)
    info = open_clip(made).info
    assert info.rate == open_clip(source).info.rate and sound_seconds(made) == pytest.approx(0.5, abs=0.05)
    assert f"{made.name}: 6 frames, 0.50 s" in report and "made on whole pictures, about 0." in report
    with av.open(str(made)) as container:
        tags = {name.lower(): value for name, value in container.metadata.items()}
    assert "FusionFFTRestoreVideo" in {node["class_type"] for node in json.loads(tags["prompt"]).values()}
    next(weights, None)


def test_images_go_in_without_a_file_between_and_their_sound_can_be_dropped(host, file):
    clip, graph = moving(3, 24, 36, channels=4).clamp(0.2, 1), Graph(host)
    sound = graph.add("FusionFFTTestTone", seconds=0.25)
    video = graph.add("CreateVideo", images=graph.clip("components", clip), audio=sound, fps=12.0)
    made, _ = restored_file(host, video, graph, audio="drop", cuts="none")
    assert sound_seconds(made) is None and open_clip(made).info.rate == Fraction(12)
    assert torch.equal(pixels(made), (library(clip, file) * 255).round().byte())


def test_a_stopped_run_goes_on(host, file, tmp_path):
    """Behind the last finished part, under the name it had begun, and the file is the same."""
    source = write(host.server.input / "long.mkv", moving(240, 16, 16, speed=0.5))
    graph = Graph(host)
    settings = {"restore_model": network(graph), "filename_prefix": "halted_restore", "cuts": "none", **LOSSLESS}
    node = graph.add("FusionFFTRestoreVideo", video=graph.add("LoadVideo", file=source.name), **settings)
    began = host.client.submit(graph.nodes)
    host.client.wait_event(began, "progress")
    while not list(host.server.output.glob(".halted_restore_*.work/000001.packets*")):
        assert not list(host.server.output.glob("halted_restore_*.mkv")), "it was too quick to be stopped"
        time.sleep(0.02)
    host.client.interrupt(began)
    assert host.client.wait(began).interrupted
    (host.server.output / "halted_restore_00007_.mkv").touch()  # something else took a later number
    again = host.run(graph.nodes)
    (shown,) = again.outputs[node.id]["images"]
    assert shown["filename"] == "halted_restore_00001_.mkv"
    assert not list(host.server.output.glob(".halted_restore_*"))
    first = next(text for text in again.texts if text.startswith("frame "))
    assert first.startswith("frame 129; whole pictures")  # this container does not tell of how many
    expected = restore_file(source, tmp_path / "whole.mkv", weights=file, codec="ffv1", cuts=(), host=PLAIN)
    assert torch.equal(pixels(host.server.output / shown["filename"]), pixels(expected.path))
