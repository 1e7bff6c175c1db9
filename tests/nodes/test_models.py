"""Where models come from: the host's folder and the host's own loader."""

from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from comfy_fusionfft import api, checkpoints
from comfy_fusionfft.families.rife import FAMILY, RIFEConfig
from comfy_fusionfft.flow_clip import ClipFlow
from tests.nodes.graphs import Graph, held, moving

SMALL = RIFEConfig(widths=(32, 32, 16, 16, 8))
"""RIFE 4.25's layout with fewer channels."""


@pytest.fixture
def folder(either_host):
    """models/frame_interpolation, empty again afterwards."""
    folder = either_host.server.models / "frame_interpolation"
    yield folder
    for file in folder.iterdir():
        file.unlink()


def official(path: Path) -> None:
    """A network spelt as the authors' files are, with left-overs of their training."""
    state = {f"module.{name}": tensor for name, tensor in FAMILY.build(SMALL).state_dict().items()}
    left_over = {"module.teacher.conv0.0.0.weight": torch.zeros(1), "module.caltime.0.weight": torch.zeros(1)}
    save_file({**state, **left_over}, path)


def listed(host, kind: str) -> list[str]:
    spec = host.client.object_info(kind)[kind]["input"]["required"]["model"]
    return spec[0] if isinstance(spec[0], list) else spec[1]["options"]


def flow_with(graph: Graph, model) -> ClipFlow:
    flow = graph.add("FusionFFTFlow", images=graph.clip("models", moving(3, 64, 96)), rife_model=model)
    graph.save_flow("models", flow)
    graph.run()
    return held(graph.host.saved("models"))


def test_each_loader_lists_its_own_files(either_host, folder):
    official(folder / "my_rife.safetensors")
    (folder / "my_fusion.safetensors").write_bytes(checkpoints.embedded(api.EMBEDDED_FUSION).read_bytes())
    save_file({"unrelated": torch.zeros(1)}, folder / "unrelated.safetensors")
    (folder / "notes.txt").write_text("not a model")
    flows, fusions = (listed(either_host, f"FusionFFTLoad{kind}") for kind in ("RIFE", "Fusion"))
    built_in = ["multiflow-v1 (built-in)", "dis (built-in, no weights)", "rife-v0 (built-in)"]
    assert flows[:4] == [*built_in, "my_rife.safetensors"]
    assert all(name.endswith("(download)") for name in flows[4:])
    assert fusions == ["fusionfft-v2 (built-in)", "my_fusion.safetensors"]


def test_a_file_from_the_folder_runs(either_host, folder):
    official(folder / "my_rife.safetensors")
    graph = Graph(either_host)
    found = flow_with(graph, graph.add("FusionFFTLoadRIFE", model="my_rife.safetensors", dtype="float32"))
    assert found.flow[0].isfinite().all() and found.flow[0].std() > 0


def test_a_graph_saved_with_other_built_in_weights_runs(either_host):
    """Embedded files are replaced by better ones; graphs keep the name of those they were saved with."""
    graph = Graph(either_host)
    assert flow_with(graph, graph.add("FusionFFTLoadRIFE", model="rife-v99 (built-in)")).frames == 3


def test_a_downloaded_file_answers_to_its_old_label(either_host, folder):
    """Graphs saved before the download name it as it was offered then."""
    label = next(name for name in listed(either_host, "FusionFFTLoadRIFE") if name.endswith("(download)"))
    stem = label.removesuffix(" (download)")
    official(folder / f"{stem}.safetensors")
    flows = listed(either_host, "FusionFFTLoadRIFE")
    assert f"{stem}.safetensors" in flows and label not in flows
    graph = Graph(either_host)
    assert flow_with(graph, graph.add("FusionFFTLoadRIFE", model=label)).frames == 3


def test_the_host_s_own_model_finds_the_same_flow(host, request):
    folder = host.server.models / "frame_interpolation"
    official(folder / "rife_v4.25.safetensors")
    request.addfinalizer((folder / "rife_v4.25.safetensors").unlink)
    graph = Graph(host)
    theirs = flow_with(graph, graph.add("FrameInterpolationModelLoader", model_name="rife_v4.25.safetensors"))
    graph = Graph(host)
    ours = flow_with(graph, graph.add("FusionFFTLoadRIFE", model="rife_v4.25.safetensors"))
    for one, other in zip((*theirs.flow, *theirs.mask), (*ours.flow, *ours.mask), strict=True):
        assert torch.equal(one, other)
    # The host's node still runs with it: adopting a model takes nothing from it.
    model = graph.add("FrameInterpolationModelLoader", model_name="rife_v4.25.safetensors")
    images = graph.clip("theirs", moving(3, 64, 96))
    graph.save("theirs", graph.add("FrameInterpolate", interp_model=model, images=images))
    graph.run()
    assert host.saved("theirs")["image"].shape == (5, 64, 96, 3)
