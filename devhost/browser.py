"""The host's real front end in the system's Chromium: graphs as its users load, change, run and save them.

    with chromium() as browser, open_page(browser, server.url, nodes2=True) as front:
        front.load(workflow)
        front.run()
        front.preview(7).set("alpha", 0.8)

Needs playwright, which downloads no browser of its own here, and a Chromium on the PATH; says so where one is missing.
"""

from __future__ import annotations

import base64
import shutil
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import numpy as np
    from playwright.sync_api import Browser, ElementHandle, Page

COMMANDS = ("chromium", "chromium-browser", "google-chrome")
NodeId = int | str
"""A node's id, or its class; nodes inside subgraphs are found too, after those outside."""
READY = """() => !document.querySelector('#splash-loader') && window.app?.graph
    && window.LiteGraph?.registered_node_types?.SaveVideo"""
"""The page has built itself and knows the host's nodes."""
LEFT, TOP = 110, 160
"""Pixels of the page that its own bars take."""

# What the code below shares. Which timers run cannot be asked: noted as they are set.
SHARED = """
window.timers = new Map()
const { setInterval: start, clearInterval: stop } = window
window.setInterval = (call, delay, ...rest) => {
  const timer = start(call, delay, ...rest)
  timers.set(timer, delay)
  return timer
}
window.clearInterval = timer => { timers.delete(timer); stop(timer) }
window.findNode = (id, graph = app.rootGraph ?? app.graph) => {
  const found = graph.nodes.find(node => String(node.id) === String(id) || node.type === id)
  if (found) return found
  for (const node of graph.nodes) {
    const inner = node.subgraph && findNode(id, node.subgraph)
    if (inner) return inner
  }
}
window.findWidget = (id, name) => findNode(id).widgets.find(widget => widget.name === name)
window.setWidget = (id, name, value) => { // as its slider does
  const widget = findWidget(id, name)
  widget.value = value
  widget.callback(value, app.canvas, findNode(id))
}
window.previewOf = id => findWidget(id, 'spectral_preview').element
// A box of the graph, [left, top, width, height] in its own units, in pixels of the page.
window.onPage = ([left, top, width, height]) => {
  const { scale, offset } = app.canvas.ds, page = app.canvas.canvas.getBoundingClientRect()
  const [x, y] = [page.x + (left + offset[0]) * scale, page.y + (top + offset[1]) * scale]
  return { x, y, width: width * scale, height: height * scale }
}
"""
# Where a widget's slider lies on the classic canvas, in pixels of the page: y, and x of its two ends.
CLASSIC_SLIDER = """([id, name]) => {
  const { pos, size } = findNode(id), { last_y, computedHeight } = findWidget(id, name), margin = 15
  const { x, y, width } = onPage([pos[0] + margin, pos[1] + last_y + computedHeight / 2, size[0] - 2 * margin, 0])
  return [y, x, x + width]
}"""
# The part of the page that all nodes, notes and groups take together.
GRAPH_BOX = """margin => {
  const rects = [...app.graph.nodes.map(node => node.boundingRect), ...app.graph.groups.map(group => group._bounding)]
  const [left, top] = [0, 1].map(axis => Math.min(...rects.map(rect => rect[axis])) - margin)
  const [right, bottom] = [0, 1].map(axis => Math.max(...rects.map(rect => rect[axis] + rect[axis + 2])) + margin)
  return onPage([left, top, right - left, bottom - top])
}"""
NODE_BOX = """([id, nodes2]) => {
  const node = findNode(id)
  if (nodes2) return document.querySelector(`[data-node-id="${node.id}"]`).getBoundingClientRect().toJSON()
  return onPage(node.boundingRect)
}"""


def decoded(data: bytes) -> np.ndarray:
    """A picture as the page or the server sends it: (H, W, 3) RGB."""
    import cv2
    import numpy as np

    return cv2.cvtColor(cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR), cv2.COLOR_BGR2RGB)


class BrowserMissing(RuntimeError):
    """There is no Chromium, or no playwright to drive it."""


def browser_path() -> str:
    """The browser's command; an error where there is none, for a test that cannot run has not passed."""
    found = next((path for path in map(shutil.which, COMMANDS) if path), None)
    if found is None:
        raise BrowserMissing(f"no browser: install Chromium (Debian: apt-get install chromium); looked for {COMMANDS}")
    return found


@contextmanager
def chromium() -> Iterator[Browser]:
    """A browser without windows. While it is open, its thread cannot run an asyncio loop of its own."""
    path = browser_path()
    try:
        from playwright.sync_api import sync_playwright
    except ImportError as error:
        raise BrowserMissing("no playwright: pip install playwright, or this project with its 'dev' extra") from error
    with sync_playwright() as playwright:
        flags = ["--no-sandbox", "--force-color-profile=srgb"]  # pixels as the page draws them
        browser = playwright.chromium.launch(executable_path=path, args=flags)
        try:
            yield browser
        finally:
            browser.close()


@contextmanager
def open_page(
    browser: Browser,
    url: str,
    *,
    nodes2: bool = False,
    palette: str = "dark",
    locale: str = "en",
    size: tuple[int, int] = (1600, 900),
    scale: float = 1.0,
    block: str | None = None,
) -> Iterator[FrontEnd]:
    """The host's page, ready for use.

    nodes2: nodes as DOM elements instead of on a canvas. palette: "dark" or "light". size: of the window, and
    scale: the screen's pixels for one of it. block: a pattern of addresses that get no answer.
    """
    context = browser.new_context(viewport={"width": size[0], "height": size[1]}, device_scale_factor=scale)
    settings = {
        "Comfy.TutorialCompleted": True,  # else a page of templates covers the first graph
        "Comfy.VueNodes.Enabled": nodes2,
        "Comfy.ColorPalette": palette,
        "Comfy.Locale": locale,
        "Comfy.RightSidePanel.IsOpen": False,  # it stays open from one page to the next
        "Comfy.Minimap.Visible": False,
        "Comfy.Graph.CanvasInfo": False,
    }
    try:
        context.request.post(f"{url}/settings", data=settings)
        context.add_init_script(SHARED)
        if block:
            context.route(block, lambda route: route.abort())
        page = context.new_page()
        front = FrontEnd(page, nodes2)
        page.goto(url)
        front.wait_until_ready()
        yield front
    finally:
        context.close()


@dataclass(frozen=True)
class Run:
    """What a run did: the nodes that really ran, and those whose older result was taken."""

    executed: frozenset[str]
    cached: frozenset[str]


class FrontEnd:
    """A page of the host. ``requests``: (method, path with query) of everything it has asked for."""

    def __init__(self, page: Page, nodes2: bool) -> None:
        self.page = page
        self.nodes2 = nodes2
        self.requests: list[tuple[str, str]] = []
        page.on("request", lambda r: self.requests.append((r.method, "/" + r.url.split("/", 3)[3])))

    def wait_until_ready(self) -> None:
        self.page.wait_for_function(READY, timeout=60_000)

    def reload(self) -> None:
        self.page.reload()
        self.wait_until_ready()

    def js(self, code: str, argument: Any = None) -> Any:
        return self.page.evaluate(code, argument)

    def load(self, workflow: dict[str, Any]) -> None:
        """Opens a workflow as saved."""
        self.js("workflow => app.loadGraphData(workflow)", workflow)

    def prompt(self) -> dict[str, dict[str, Any]]:
        """The graph as it would be queued."""
        return self.js("async () => (await app.graphToPrompt()).output")

    def saved(self) -> dict[str, Any]:
        """The graph as it would be saved."""
        return self.js("() => (app.rootGraph ?? app.graph).serialize()")

    def run(self, timeout: float = 60.0) -> Run:
        """Runs the graph through the page's queue; raises where it fails."""
        with self.page.expect_response(lambda answer: answer.url.split("?")[0].endswith("/prompt")) as queued:
            self.js("() => app.queuePrompt(0)")
        answer = queued.value.json()
        if not queued.value.ok:
            raise RuntimeError(f"the graph was refused: {answer}")
        name, deadline = answer["prompt_id"], time.monotonic() + timeout
        # The host's record: a page that has lost its connection for a moment misses events.
        while not (found := self.js("async id => (await app.api.fetchApi(`/history/${id}`)).json()", name)):
            if time.monotonic() > deadline:
                raise TimeoutError(f"the graph did not end within {timeout:g} s")
            self.page.wait_for_timeout(30)
        status = found[name]["status"]
        if status["status_str"] != "success":
            raise RuntimeError(f"the graph failed: {status['messages'][-1]}")
        cached = {node for kind, said in status["messages"] if kind == "execution_cached" for node in said["nodes"]}
        return Run(frozenset(found[name]["prompt"][2]) - cached, frozenset(cached))

    def look_at(self, node: NodeId, scale: float = 1.0) -> None:
        """Moves the graph so that a node lies in the upper left of the page."""
        self.js(
            """([id, scale, left, top]) => {
              const { pos } = findNode(id), { ds } = app.canvas
              ds.scale = scale
              ds.offset = [left / scale - pos[0], top / scale - pos[1]]
              app.canvas.setDirty(true, true)
            }""",
            [node, scale, LEFT, TOP],
        )
        self.frames(3)

    def frames(self, count: int = 2) -> None:
        """Waits until the page has been drawn so often."""
        self.js("async count => { while (count--) await new Promise(requestAnimationFrame) }", count)

    def slider(self, node: NodeId, name: str) -> tuple[float, float, float]:
        """Where a widget's slider lies on the page: y, and x of its left and right end."""
        if not self.nodes2:
            return tuple(self.js(CLASSIC_SLIDER, [node, name]))
        shown = self.js("id => findNode(id).id", node)
        box = self.page.locator(f'[data-node-id="{shown}"] span[aria-label="{name}"]').first.bounding_box()
        return box["y"] + box["height"] / 2, box["x"], box["x"] + box["width"]

    def box(self, node: NodeId) -> dict[str, float]:
        """Where a node lies on the page: x, y, width and height, its title included."""
        return self.js(NODE_BOX, [node, self.nodes2])

    def graph_box(self, margin: float = 20.0) -> dict[str, float]:
        """Where the graph lies on the page, with a margin in its own units."""
        return self.js(GRAPH_BOX, margin)

    def palette(self, name: str) -> None:
        """Changes the page's colours: "dark" or "light"."""
        self.js("name => app.extensionManager.setting.set('Comfy.ColorPalette', name)", name)
        self.frames(10)

    def drag_slider(self, node: NodeId, name: str, start: float, end: float, steps: int = 8) -> None:
        """Drags a widget's slider with the mouse, between shares of its length."""
        y, left, right = self.slider(node, name)
        first, last = (left + share * (right - left) for share in (start, end))
        self.drag((first, y), (last, y), steps)

    def drag(self, start: tuple[float, float], end: tuple[float, float], steps: int = 8) -> None:
        mouse = self.page.mouse
        mouse.move(*start)
        mouse.down()
        mouse.move(*end, steps=steps)
        mouse.up()

    def preview(self, node: NodeId) -> Preview:
        """The live preview of a Spectral Swap node."""
        return Preview(self, node)


class Preview:
    """The live preview on a node, through its elements, as hands and eyes have it."""

    def __init__(self, front: FrontEnd, node: NodeId) -> None:
        self.front = front
        self.node = node

    @property
    def element(self) -> ElementHandle:
        return self.front.page.evaluate_handle("id => previewOf(id)", self.node).as_element()

    def part(self, selector: str) -> ElementHandle:
        return self.element.query_selector(selector)

    def data(self) -> dict[str, str]:
        """What it says about itself: state, busy, draws, requests, latency, frame, split, zoom."""
        return self.front.js("id => ({ ...previewOf(id).dataset })", self.node)

    def text(self, selector: str) -> str:
        return self.part(selector).text_content()

    def wait(self, condition: str, timeout: float = 20.0) -> dict[str, str]:
        """Waits for a condition on ``data``, in JavaScript: ``wait("state == 'ready'")``."""
        code = f"id => {{ with (previewOf(id).dataset) return {condition} }}"
        self.front.page.wait_for_function(code, arg=self.node, timeout=1000 * timeout)
        return self.data()

    def set(self, name: str, *values: Any) -> None:
        """Gives a widget one value after another, at once, as its slider does."""
        code = "([id, name, values]) => { for (const value of values) setWidget(id, name, value) }"
        self.front.js(code, [self.node, name, values])

    def values(self) -> dict[str, Any]:
        """Of the node's widgets."""
        code = "id => Object.fromEntries(findNode(id).widgets.filter(w => w.value !== '').map(w => [w.name, w.value]))"
        return self.front.js(code, self.node)

    def pixels(self) -> np.ndarray:
        """The picture on the screen, (H, W, 3) RGB, without what lies over it."""
        url = self.front.js("id => previewOf(id).querySelector('canvas.picture').toDataURL('image/png')", self.node)
        return decoded(base64.b64decode(url.partition(",")[2]))

    def settle(self) -> None:
        """Waits until what was changed is on the screen."""
        self.front.frames()
        self.wait("busy == 'false'")
        self.front.frames()
