"""The live preview among other things: two of it, in a subgraph, after a reload, after the server forgot."""

import pytest

from devhost.install import OLDEST
from tests.browser.conftest import SWAP, Desk

FLOW = 5
"""RIFE Flow in the workflow."""
KIND = "FusionFFTSpectralSwap"
TWIN = """() => {
  const first = findNode('FusionFFTSpectralSwap'), graph = app.graph
  const add = (kind, x, y) => {
    const node = LiteGraph.createNode(kind)
    node.pos = [first.pos[0] + x, first.pos[1] + y]
    graph.add(node)
    return node
  }
  const twin = add(first.type, first.size[0] + 40, 0), shown = add('PreviewImage', 2 * first.size[0] + 80, 0)
  for (const [slot, input] of first.inputs.entries()) {
    if (input.link == null) continue
    const link = graph.links.get(input.link)
    graph.getNodeById(link.origin_id).connect(link.origin_slot, twin, slot)
  }
  twin.connect(0, shown, 0)
  return twin.id
}"""
INTO_SUBGRAPH = """() => {
  const { subgraph, node } = app.graph.convertToSubgraph(new Set([findNode('FusionFFTSpectralSwap')]))
  return node.id
}"""
ENTER = """id => {
  const node = app.graph.getNodeById(id)
  app.canvas.openSubgraph(node.subgraph, node)
}"""
TIMERS = "() => [...timers.values()].filter(delay => delay === 60).length"


@pytest.fixture(autouse=True)
def ran(desk: Desk):
    desk.begin()
    desk.front.js("() => { app.graph.extra.tested = false }")  # what follows changes the graph
    desk.front.requests.clear()


def test_two_of_them_are_apart_and_one_leaves_nothing_behind(desk):
    timers = desk.front.js(TIMERS)
    twin = desk.front.preview(desk.front.js(TWIN))
    desk.front.look_at(SWAP, scale=0.6)
    assert twin.data()["state"] == "empty" and twin.text(".message") == "Run the graph once to tune here"
    desk.front.run()
    for preview in (desk.preview, twin):
        preview.wait("state == 'ready'")
        preview.settle()
    desk.front.requests.clear()

    first, second = desk.preview.pixels(), twin.pixels()
    twin.set("alpha", 1.0)
    twin.settle()
    assert (twin.pixels() != second).mean() > 0.2 and (desk.preview.pixels() == first).all()
    assert not desk.preview_requests()
    desk.preview.set("lo", 0.1)
    desk.preview.settle()
    (asked,) = desk.preview_requests()
    assert desk.token() in asked

    assert desk.front.js(TIMERS) == timers + 1
    desk.front.js("id => app.graph.remove(findNode(id))", twin.node)
    desk.front.frames()
    assert desk.front.js(TIMERS) == timers
    assert desk.front.js("() => document.querySelectorAll('.fusionfft-preview').length") == 1
    desk.preview.set("lo", 0.15)
    desk.preview.settle()
    assert len(desk.preview_requests()) == 2


def test_inside_a_subgraph(desk):
    desk.preview.set("lo", 0.12)
    outer = desk.front.js(INTO_SUBGRAPH)
    inner = desk.front.preview(KIND)
    name = f"{outer}:{desk.front.js('kind => findNode(kind).id', KIND)}"
    assert desk.front.prompt()[name]["inputs"]["lo"] == 0.12
    assert name in desk.front.run().executed  # while the subgraph is closed
    desk.front.js(ENTER, outer)
    desk.front.look_at(KIND)
    inner.wait("state == 'ready'")
    inner.settle()
    before = inner.pixels()
    desk.front.requests.clear()
    desk.front.drag_slider(KIND, "alpha", 0.3, 0.9)
    inner.settle()
    assert (inner.pixels() != before).mean() > 0.2
    assert not desk.preview_requests() and not desk.prompts_queued()
    assert desk.front.prompt()[name]["inputs"]["alpha"] == inner.values()["alpha"] > 0.8
    assert name in desk.front.run().executed  # while it is open
    inner.settle()
    assert inner.data()["state"] == "ready"


def test_a_forgotten_run_is_said_and_the_next_one_is_shown(desk):
    graph = desk.front.prompt()
    graph[str(FLOW)]["inputs"]["multiplier"] = 3
    desk.host.run(graph)  # from elsewhere: the server keeps one run of a node
    desk.preview.set("hi", 0.6)
    desk.preview.wait("state == 'gone'")
    assert "run the graph again" in desk.preview.text(".message")
    assert not desk.preview.part(".stage").is_visible() and desk.preview.part(".frames").is_disabled()
    desk.front.requests.clear()
    desk.preview.set("hi", 0.5)
    desk.preview.settle()
    assert not desk.preview_requests()  # there is nothing to ask for
    desk.preview.set("alpha", desk.fresh_alpha())
    desk.front.run()
    desk.preview.wait("state == 'ready'")
    assert desk.preview.part(".stage").is_visible() and not desk.preview.part(".frames").is_disabled()


def test_after_a_reload_one_run_brings_it_back(desk):
    saved = desk.front.saved()
    desk.front.reload()
    desk.front.load(saved)
    desk.front.look_at(SWAP)
    assert desk.preview.data()["state"] == "empty"
    assert desk.preview.text(".message") == "Run the graph once to tune here"
    assert not desk.front.run().executed  # nothing has changed: all of it is known
    if desk.host.server.version == OLDEST:  # which does not repeat what a node said then
        desk.preview.wait("state == 'empty'")
        desk.front.frames()
        assert "change a value" in desk.preview.text(".message")
        desk.preview.set("alpha", 0.77)
        desk.front.run()
    desk.preview.wait("state == 'ready'")
    desk.preview.settle()
    assert desk.preview.pixels().std() > 10
