"""A model's file is replaced, spoiled or deleted while a host holds the network that it made."""

import os

import pytest
import torch
from safetensors.torch import save_file

from comfy_fusionfft.families.rife import FAMILY, RIFEConfig
from devhost.client import InvalidGraph
from tests.nodes.graphs import Graph, moving

SMALL = RIFEConfig(widths=(32, 32, 16, 16, 8))
NAME = "swapped.safetensors"


@pytest.fixture
def path(host):
    path = host.server.models / "frame_interpolation" / NAME
    yield path
    path.unlink(missing_ok=True)


def write(path, seed: int) -> None:
    torch.manual_seed(seed)
    state = {name: t.contiguous() for name, t in FAMILY.build(SMALL).state_dict().items()}
    save_file(state, path.with_suffix(".new"))
    os.utime(path.with_suffix(".new"), ns=(seed * 10**9, seed * 10**9))
    path.with_suffix(".new").replace(path)


def graph_of(host) -> tuple[Graph, dict]:
    graph = Graph(host)
    nodes = {"model": graph.add("FusionFFTLoadRIFE", model=NAME, dtype="float32")}
    images = graph.clip("swapped", moving(2, 64, 96))
    nodes["made"] = graph.add("FusionFFTInterpolate", images=images, rife_model=nodes["model"])
    graph.save("swapped", nodes["made"])
    return graph, nodes


def test_a_file_replaced_while_its_network_is_cached(host, path):
    write(path, 1)
    graph, nodes = graph_of(host)
    graph.run()
    first = host.saved("swapped")["image"]
    assert not {nodes["model"].id, nodes["made"].id} & set(graph.run().executed)
    write(path, 2)
    assert {nodes["model"].id, nodes["made"].id} <= set(graph.run().executed)
    second = host.saved("swapped")["image"]
    assert not torch.equal(first, second)
    write(path, 1)
    graph.run()
    assert torch.equal(host.saved("swapped")["image"], first)


def error_of(graph: Graph) -> str:
    """What refuses the graph, before it is queued or while it runs."""
    try:
        return graph.fails()
    except InvalidGraph as refusal:
        return str(refusal)


def test_a_file_spoiled_or_deleted_while_its_network_is_cached(host, path):
    write(path, 3)
    graph, _ = graph_of(host)
    graph.run()
    with path.open("r+b") as file:
        file.truncate(path.stat().st_size - 100)
    error = error_of(graph)
    assert "and its header says" in error and "download it again" in error
    path.unlink()
    error = error_of(graph)
    assert f"no flow model '{NAME}' in " in error and "choose another from the list" in error
    write(path, 3)
    graph.run()


@pytest.mark.parametrize(
    ("name", "needle"),
    [
        ("../../../etc/passwd (built-in)", "passwd.safetensors is missing: the installation is not complete"),
        ("/etc/passwd (built-in)", "passwd.safetensors is missing: the installation is not complete"),
        ("../x.safetensors", "no flow model '../x.safetensors' in "),
    ],
)
def test_a_graph_that_names_a_file_elsewhere(host, name, needle):
    graph = Graph(host)
    model = graph.add("FusionFFTLoadRIFE", model=name)
    graph.save_flow("elsewhere", graph.add("FusionFFTFlow", images=graph.clip("e", moving(2)), rife_model=model))
    assert needle in error_of(graph)
