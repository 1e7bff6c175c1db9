"""Pictures of the pack as people see it, in ``out/screens``; those of the documentation are taken from there."""

import cv2
import pytest
from places import ROOT

from devhost.browser import open_page
from devhost.clip import draw
from tests.browser.conftest import SWAP, workflow

SCREENS = ROOT / "out" / "screens"
CLIP = "screens.mp4"
MARGIN = 16


@pytest.fixture(scope="module")
def scene(host):
    """The workflow on the demo scene at twice its size, which is drawn that large anyway."""
    draw(host.server.input / CLIP, 3, enlarge=2)
    return workflow(CLIP)


@pytest.mark.parametrize("nodes2", [False, True], ids=["classic", "nodes2"])
def test_pictures_of_the_node_and_of_the_whole(browser, host, scene, nodes2, request):
    kind = request.node.callspec.id
    SCREENS.mkdir(parents=True, exist_ok=True)
    with open_page(browser, host.server.url, nodes2=nodes2, size=(1600, 900), scale=2) as front:
        front.load(scene)
        front.look_at(SWAP)
        preview = front.preview(SWAP)
        preview.set("alpha", 0.8)
        front.run()
        preview.wait("state == 'ready'")
        for palette in ("dark", "light"):
            front.palette(palette)
            front.look_at(SWAP)
            preview.settle()
            box = front.box(SWAP)
            around = {"x": box["x"] - MARGIN, "y": box["y"] - MARGIN}
            around |= {side: box[side] + 2 * MARGIN for side in ("width", "height")}
            path = SCREENS / f"spectral_{kind}_{palette}.png"
            front.page.screenshot(path=path, clip=around)
            picture = cv2.imread(str(path))
            assert picture.shape[1] == pytest.approx(2 * around["width"], abs=2)
            shown = preview.part(".stage").bounding_box()
            left, top = (round(2 * (shown[axis] - around[axis])) for axis in ("x", "y"))
            assert picture[top : top + 100, left : left + 600].std() > 10  # sky and hills, not a flat field
        assert_in_place(preview, box)
        front.palette("dark")
        front.js("() => app.extensionManager.command.execute('Comfy.Canvas.FitView')")
        front.page.wait_for_timeout(800)  # it glides there
        preview.settle()
        front.page.screenshot(path=SCREENS / f"workflow_{kind}.png", clip=front.graph_box())


def assert_in_place(preview, node) -> None:
    """Nothing of the preview sticks out of the node, and its rows do not overlap."""
    outer = preview.element.bounding_box()
    for axis, side in (("x", "width"), ("y", "height")):
        assert node[axis] <= outer[axis] and outer[axis] + outer[side] <= node[axis] + node[side]
    rows = [preview.part(name).bounding_box() for name in (".view", ".bar", ".status")]
    bottoms = [outer["y"], *(row["y"] + row["height"] for row in rows)]
    assert bottoms == sorted(bottoms) and bottoms[-1] <= outer["y"] + outer["height"] + 1
    assert all(row["y"] >= bottom - 0.5 for row, bottom in zip(rows, bottoms, strict=False))
