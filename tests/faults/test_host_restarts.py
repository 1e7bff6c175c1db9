"""A host that is ended in the middle of Interpolate Video: the next one goes on, and the file has the same bytes."""

import os
import signal

import pytest

from devhost.client import Client
from devhost.install import NEWEST
from devhost.server import HostServer
from tests.nodes.graphs import Graph, dis, moving, of
from tests.nodes.test_interpolate_video import BIG, LOSSLESS, NODE, write

COUNT = 237


@pytest.fixture
def restart(host, tmp_path):
    """Starts another host over the same input and output folders; it ends with the test."""
    folders = ["--input-directory", str(host.server.input), "--output-directory", str(host.server.output)]
    running = []

    def start():
        server = HostServer(NEWEST, base=tmp_path / "base", threads=1, arguments=folders)
        running.append(server)
        server.__enter__()
        return server

    yield start
    for server in running:
        server.stop()


def visible(host):
    return sorted(file.name for file in host.server.output.glob("restarted_*"))


def hidden(host):
    return sorted(file.name for file in host.server.output.glob(".restarted_*"))


def end_in_the_second_segment(host, server, client, nodes, sent):
    """-> its exit status."""
    began = client.submit(nodes)
    client.wait_event(began, "progress", timeout=60)
    while not list(host.server.output.glob(".restarted_*.work/000001.packets*")):
        assert server.wait(0.02) is None, server.log()
    os.kill(server.pid, sent)
    status = server.wait(30)
    server.stop()
    return status


def made(result, node):
    (file,) = result.outputs[node.id]["images"]
    frames = [step.value for step in result.progress if step.node == node.id and step.maximum == COUNT]
    return file["filename"], frames


def test_a_host_that_was_ended_is_taken_up_where_it_was(host, restart):
    write(host.server.input / "restarts.mkv", moving(60, **BIG, speed=0.5))
    graph = Graph(host)
    video = graph.add("LoadVideo", file="restarts.mkv")
    settings = {"method": "rife", "rife_model": dis(graph), "filename_prefix": "restarted", **LOSSLESS}
    node = graph.add(NODE, video=video, **settings, **of("pace", "multiplier", multiplier=4.0))

    server = restart()
    with Client(server.url) as client:
        assert end_in_the_second_segment(host, server, client, graph.nodes, signal.SIGTERM) is not None
    assert visible(host) == []
    assert any(name.endswith(".work") for name in hidden(host))

    server = restart()
    with Client(server.url) as client:
        name, frames = made(client.run(graph.nodes, timeout=180).raise_for_error(), node)
        assert name == "restarted_00001_.mkv" and frames[0] > 128 and frames[-1] == COUNT
        assert visible(host) == [name] and hidden(host) == []
        client.free_now()  # else the same graph has nothing to do
        status = end_in_the_second_segment(host, server, client, graph.nodes, signal.SIGKILL)
    assert status == -signal.SIGKILL
    assert visible(host) == ["restarted_00001_.mkv"]

    name, frames = made(host.run(graph.nodes, timeout=180), node)
    assert name == "restarted_00002_.mkv" and frames[0] > 128 and frames[-1] == COUNT
    host.client.free_now()
    name, frames = made(host.run(graph.nodes, timeout=180), node)
    assert name == "restarted_00003_.mkv" and frames[0] == 1
    assert hidden(host) == []
    first, second, undisturbed = ((host.server.output / each).read_bytes() for each in visible(host))
    assert first == second == undisturbed
