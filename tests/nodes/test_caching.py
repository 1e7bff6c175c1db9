"""What runs again after a change, how a run is followed, and how it is stopped."""

import io
import time

import pytest
import torch
from PIL import Image

from tests.nodes.graphs import Graph, Link, fusion, moving, rife


def chain(graph: Graph) -> dict[str, Link]:
    nodes = {"images": graph.clip("clip", moving(4)), "rife": rife(graph), "fusion": fusion(graph)}
    nodes["flow"] = graph.add("FusionFFTFlow", images=nodes["images"], rife_model=nodes["rife"])
    nodes["fuse"] = graph.add(
        "FusionFFTFuse", images=nodes["images"], flow=nodes["flow"], fusion_model=nodes["fusion"], num_anchors=2
    )
    nodes["swap"] = graph.add(
        "FusionFFTSpectralSwap", images=nodes["fuse"], prior=nodes["images"], flow=nodes["flow"], alpha=0.4
    )
    nodes["preview"] = graph.add("FusionFFTFlowPreview", flow=nodes["flow"], images=nodes["images"])
    nodes["save"] = graph.save("clip", nodes["swap"])
    return nodes


def test_only_what_a_change_concerns_runs_again(either_host):
    graph = Graph(either_host)
    nodes = chain(graph)

    def ran() -> set[str]:
        executed = graph.run().executed
        return {name for name, node in nodes.items() if node.id in executed}

    graph.run()
    assert ran() == set()
    before = either_host.saved("clip")["image"]
    graph.change(nodes["swap"], alpha=0.9)
    assert ran() == {"swap", "save"}
    assert not torch.equal(either_host.saved("clip")["image"], before)
    graph.change(nodes["fuse"], num_anchors=1)
    assert ran() == {"fuse", "swap", "save"}
    graph.change(nodes["preview"], show="arrows")
    assert ran() == {"preview"}
    graph.change(nodes["flow"], half=True)
    assert ran() == {"flow", "fuse", "swap", "preview", "save"}
    assert ran() == set()


def test_the_preview_of_a_cached_swap_is_announced_again(host):
    """A page that was loaded again gets it with the next run, although nothing runs."""
    graph = Graph(host)
    nodes = chain(graph)
    first, again = graph.run(), graph.run()
    key = nodes["swap"].id
    assert key not in again.executed and again.outputs[key] == first.outputs[key]
    token = again.outputs[key]["fusionfft_spectral"][0]["token"]
    assert host.client.request(f"/fusionfft/spectral/{token}/0/base").status == 200


@pytest.mark.parametrize("kind", ["FusionFFTInterpolate", "FusionFFTFlow"])
def test_progress_is_told(either_host, kind):
    graph = Graph(either_host)
    images = graph.clip("told", torch.cat([moving(9, 64, 96), moving(9, 64, 96).flip(0)[1:]]))
    node = graph.add(kind, images=images, rife_model=rife(graph), multiplier=3)
    graph.save("told", node) if kind == "FusionFFTInterpolate" else graph.save_flow("told", node)
    steps = [step for step in graph.run().progress if step.node == node.id]
    values = [step.value for step in steps]
    assert len(values) > 2 and values == sorted(values)
    total = 49 if kind == "FusionFFTInterpolate" else 16  # frames, or pairs of them
    assert values[-1] == steps[-1].maximum == total


def test_made_frames_are_shown_while_it_runs(either_host):
    graph = Graph(either_host)
    node = graph.add("FusionFFTInterpolate", images=graph.clip("wide", moving(5, 60, 1200)), rife_model=rife(graph))
    graph.save("wide", node)
    previews = [preview for preview in graph.run().previews if preview.node in (node.id, None)]
    assert previews
    for preview in previews:
        picture = Image.open(io.BytesIO(preview.data))
        assert picture.format == "JPEG" and max(picture.size) <= 512
        assert abs(picture.width / picture.height - 1200 / 60) < 0.5


@pytest.mark.parametrize("kind", ["FusionFFTInterpolate", "FusionFFTFlow"])
def test_cancelled_within_a_frame(either_host, kind):
    graph = Graph(either_host)
    node = graph.add(
        kind, images=graph.clip("long", moving(4, 120, 160).repeat(30, 1, 1, 1)), rife_model=rife(graph), multiplier=8
    )
    graph.save("long", node) if kind == "FusionFFTInterpolate" else graph.save_flow("long", node)
    client = either_host.client
    prompt = client.submit(graph.nodes)
    client.wait_event(prompt, "progress")
    asked = time.monotonic()
    client.interrupt(prompt)
    result = client.wait(prompt, timeout=60)
    assert result.interrupted and result.error is None
    # An interval of this size takes about half a second on one core; all of them take a minute.
    assert time.monotonic() - asked < 4
    assert max(step.value for step in result.progress if step.node == node.id) < 120

    small = Graph(either_host)
    small.save("after", small.add("FusionFFTInterpolate", images=small.clip("after", moving(3))))
    small.run()
    assert either_host.saved("after")["image"].shape == (5, 37, 50, 3)


def test_spectral_swap_can_be_cancelled(host):
    graph = Graph(host)
    images = graph.clip("many", moving(40, 160, 240))
    node = graph.add("FusionFFTSpectralSwap", images=images, prior=images)
    graph.save("many", node)
    prompt = host.client.submit(graph.nodes)
    host.client.wait_event(prompt, "progress")
    host.client.interrupt(prompt)
    result = host.client.wait(prompt, timeout=30)
    assert result.interrupted and max(step.value for step in result.progress) < 40
