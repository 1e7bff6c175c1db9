"""FusionFFT Retime and Interpolate Video in the real page: choices bring their inputs and keep their values, a curve
can be drawn, and a finished video shows."""

import re

import pytest

from devhost.browser import open_page
from devhost.clip import draw
from devhost.install import NEWEST, OLDEST

# EmptyImage -> Retime without any network -> its report, shown.
GRAPH = """() => {
  app.graph.clear()
  const add = (kind, x, values = {}) => {
    const node = LiteGraph.createNode(kind)
    app.graph.add(node)
    node.pos = [x, 100]
    for (const [name, value] of Object.entries(values)) node.widgets.find(w => w.name === name).value = value
    return node
  }
  const images = add('EmptyImage', 100, { width: 64, height: 64, batch_size: 5 })
  const model = add('FusionFFTLoadRIFE', 100, { model: 'dis (built-in, no weights)' })
  model.pos = [100, 400]
  const retime = add('FusionFFTRetime', 500, { method: 'rife', pace: 'multiplier' })
  const report = add('PreviewAny', 950)
  images.connect(0, retime, retime.inputs.findIndex(input => input.name === 'images'))
  model.connect(0, retime, retime.inputs.findIndex(input => input.name === 'rife_model'))
  retime.connect(2, report, 0)
}"""
PAGES = {
    f"{NEWEST} classic": ("host", False),
    f"{NEWEST} Nodes 2.0": ("host", True),
    f"{OLDEST} classic": ("old_host", False),
}


@pytest.fixture(params=PAGES.values(), ids=PAGES)
def front(request, browser):
    name, nodes2 = request.param
    with open_page(browser, request.getfixturevalue(name).server.url, nodes2=nodes2, size=(1600, 1200)) as page:
        page.js(GRAPH)
        page.look_at("FusionFFTRetime")
        yield page


def choose(front, name, value) -> None:
    front.js("([name, value]) => setWidget('FusionFFTRetime', name, value)", [name, value])
    front.frames(5)


def values(front) -> dict:
    (node,) = [node for node in front.prompt().values() if node["class_type"] == "FusionFFTRetime"]
    return {name: value for name, value in node["inputs"].items() if not isinstance(value, list)}


def frames_made(front) -> int:
    front.run()
    text = front.js("() => Object.values(app.nodeOutputs).map(output => output.text?.[0] ?? '').join(' ')")
    return int(re.search(r"(\d+) frames made", text)[1])


def test_a_choice_brings_its_inputs(front):
    assert values(front) | {"pace": "multiplier", "pace.multiplier": 2, "speed": "normal"} == values(front)
    choose(front, "pace", "frame count")
    choose(front, "pace.count", 7)
    chosen = values(front)
    assert chosen["pace.count"] == 7 and chosen["pace.at_fps"] == 0 and "pace.multiplier" not in chosen
    assert frames_made(front) == 7


def test_a_curve_s_value_arrives_and_is_kept(front):
    choose(front, "speed", "curve")
    drawn = values(front)["speed.curve"]
    assert drawn["points"] == [[0, 0.5], [0.5, 0.125], [1, 0.5]]
    slow = frames_made(front)
    choose(front, "speed.top_speed", 4)
    assert frames_made(front) < slow
    saved, before = front.saved(), values(front)
    front.load(saved)
    front.frames(5)
    assert values(front) == before


@pytest.mark.parametrize("front", [PAGES[f"{NEWEST} Nodes 2.0"]], ids=[f"{NEWEST} Nodes 2.0"], indirect=True)
def test_a_point_of_the_curve_can_be_dragged(front):
    choose(front, "speed", "curve")
    before = frames_made(front)
    editor = front.page.locator("[data-testid=curve-editor]").bounding_box()
    point = front.page.locator("[data-testid=curve-point]").nth(1).bounding_box()
    mouse = front.page.mouse
    mouse.move(point["x"] + point["width"] / 2, point["y"] + point["height"] / 2)
    mouse.down()
    mouse.move(point["x"] + point["width"] / 2, editor["y"] + 0.2 * editor["height"], steps=5)
    mouse.up()
    front.frames(5)
    _, (x, y), _ = values(front)["speed.curve"]["points"]
    assert x == pytest.approx(0.5, abs=0.05) and y == pytest.approx(0.83, abs=0.05)
    assert frames_made(front) < before - 3


# LoadVideo -> Interpolate Video, quickly.
VIDEO = """clip => {
  app.graph.clear()
  const [load, make] = ['LoadVideo', 'FusionFFTInterpolateVideo'].map(kind => LiteGraph.createNode(kind))
  for (const node of [load, make]) app.graph.add(node)
  make.pos = [500, 100]
  load.widgets.find(widget => widget.name === 'file').value = clip
  make.widgets.find(widget => widget.name === 'method').value = 'rife'
  load.connect(0, make, make.inputs.findIndex(input => input.name === 'video'))
}"""
SHOWN = """() => Object.values(app.nodeOutputs).flatMap(each => each.images ?? []).map(file => file.filename)"""


@pytest.mark.parametrize("name, nodes2", PAGES.values(), ids=PAGES)
def test_the_video_takes_the_place_of_the_live_picture(request, browser, name, nodes2):
    host = request.getfixturevalue(name)
    clip = f"live_{nodes2}.mp4"
    draw(host.server.input / clip, 3, (slice(90, 186), slice(250, 426)))
    with open_page(browser, host.server.url, nodes2=nodes2, size=(1600, 1200)) as front:
        front.js(VIDEO, clip)
        front.look_at("FusionFFTInterpolateVideo", 0.8)
        front.run()
        # What its player makes of it hangs on the front end, which on a busy machine may try the live picture first.
        shown = front.js(SHOWN)
        assert any(name.startswith("FusionFFT_") for name in shown)
        left = front.js("() => findNode('FusionFFTInterpolateVideo').widgets.map(widget => widget.name)")
        assert not {"$$canvas-image-preview", "$$comfy_animation_preview"} & set(left)
        assert not front.js("() => Object.keys(app.nodePreviewImages).length")
