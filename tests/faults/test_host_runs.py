"""What else goes on in a host while a run is at work: other prompts, questions of the page, models that change."""

import time

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file

from comfy_fusionfft.checkpoints import embedded
from tests.nodes.graphs import Graph, moving, rife

FOLDER = "frame_interpolation"


def interpolating(host, name, clip, **settings):
    graph = Graph(host)
    images = graph.clip(name, clip)
    loaded = settings.pop("rife_model", None) or rife(graph)
    node = graph.add("FusionFFTInterpolate", images=images, rife_model=loaded, method="rife", **settings)
    graph.save(name, node)
    return graph


def saved(host, name):
    return host.saved(name)["image"]


def test_two_prompts_are_two_runs(host):
    clips = {"first": moving(6), "second": moving(5, 40, 64)}
    graphs = {name: interpolating(host, name, clip, multiplier=3) for name, clip in clips.items()}
    alone = {}
    for name, graph in graphs.items():
        graph.run()
        alone[name] = saved(host, name)
    host.client.free_now()
    prompts = [host.client.submit(graph.nodes) for graph in graphs.values()]
    for prompt in prompts:
        host.client.wait(prompt).raise_for_error()
    for name in graphs:
        assert torch.equal(saved(host, name), alone[name])


def test_the_preview_answers_while_a_run_is_at_work(host):
    swap = Graph(host)
    images = swap.clip("shown", moving(3))
    node = swap.add("FusionFFTSpectralSwap", images=images, prior=images, prior_kind="paired")
    swap.save("shown", node)
    token = swap.run().outputs[node.id]["fusionfft_spectral"][0]["token"]
    path = f"/fusionfft/spectral/{token}/0/"
    asked = [path + "base", path + "delta?lo=0.25&hi=0.4&soft=1&clamp_gain=1"]
    quiet = [host.client.request(each).body for each in asked]

    graph = interpolating(host, "busy", moving(8, 96, 128), multiplier=4)
    prompt = host.client.submit(graph.nodes)
    host.client.wait_event(prompt, "progress")
    answers = [[host.client.request(each) for each in asked] for _ in range(5)]
    at_work = not host.client.json(f"/history/{prompt}")
    host.client.wait(prompt).raise_for_error()
    assert at_work, "the run was over too early to tell"
    assert all(answer.status == 200 for each in answers for answer in each)
    assert all([answer.body for answer in each] == quiet for each in answers)
    assert saved(host, "busy").shape[0] == 29


def test_models_that_are_unloaded_meanwhile_come_back(host):
    graph = interpolating(host, "held", moving(8, 96, 128), multiplier=4)
    graph.run()
    alone = saved(host, "held")
    host.client.free_now()
    prompt = host.client.submit(graph.nodes)
    host.client.wait_event(prompt, "progress")
    host.client.free()
    host.client.wait(prompt).raise_for_error()
    assert torch.equal(saved(host, "held"), alone)
    graph.run()
    assert torch.equal(saved(host, "held"), alone)


@pytest.fixture
def files(host):
    """Two networks with different answers, as files of the host's."""
    folder = host.server.models / FOLDER
    path = embedded("rife-v0")
    with safe_open(path, "pt") as file:
        notes = {name: text for name, text in file.metadata().items() if "sha256" not in name}
    other = {name: tensor * 0.9 for name, tensor in load_file(path).items()}
    save_file(load_file(path), folder / "one.safetensors", metadata=notes)
    save_file(other, folder / "two.safetensors", metadata=notes)
    yield folder
    for name in ("one", "two"):
        (folder / f"{name}.safetensors").unlink()


def test_a_model_that_is_changed_between_runs(host, files):
    graph = interpolating(host, "swapped", moving(3))
    loader = next(node for node in graph.nodes.values() if node["class_type"] == "FusionFFTLoadRIFE")

    def with_file(name):
        loader["inputs"] |= {"model": name, "dtype": "float32"}
        graph.run()
        return saved(host, "swapped")

    one, two = with_file("one.safetensors"), with_file("two.safetensors")
    assert not torch.equal(one, two)
    assert torch.equal(with_file("one.safetensors"), one)
    time.sleep(0.05)  # a file's time of change is coarse
    (files / "one.safetensors").write_bytes((files / "two.safetensors").read_bytes())
    assert torch.equal(with_file("one.safetensors"), two)
