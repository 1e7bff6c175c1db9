"""Real front ends: the host's page in Chromium, with a small clip in the host's input folder.

Tests ask for ``desk``: the spectral tuning workflow, run once, in each kind of front end that people have.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import cycle
from typing import Any

import pytest
from hosts import RunningHost
from places import ROOT

from devhost.browser import FrontEnd, Preview, chromium, open_page
from devhost.clip import draw
from devhost.install import NEWEST, OLDEST

CLIP = "browser_tests.mp4"
SWAP = 7
"""Spectral Swap in the workflow."""
SETTINGS = {"alpha": 0.4, "lo": 0.25, "hi": 0.4, "soft": True, "prior_kind": "auto", "clamp_gain": True}
"""What the workflow has there, in the order of the widgets."""
FRESH = cycle([round(0.5 + 0.01 * number, 2) for number in range(50)])
FRAMES, PART = 4, (slice(90, 186), slice(250, 426))
"""Of the demo scene: grain, texture and motion, in few pixels."""
WIDTH, HEIGHT = 176, 96
DESKS = {
    f"{NEWEST} classic": ("host", False),
    f"{NEWEST} Nodes 2.0": ("host", True),
    f"{OLDEST} classic": ("old_host", False),
}


@pytest.fixture(scope="package")  # not longer: nothing else can use asyncio while it is open
def browser():
    with chromium() as running:
        yield running


@dataclass(frozen=True)
class Desk:
    """A page with the workflow, run once, the host behind it, and the preview on its node."""

    host: RunningHost
    front: FrontEnd
    preview: Preview

    def begin(self) -> None:
        """Opens the workflow, runs it, and waits for the picture."""
        self.front.load(workflow())
        self.front.look_at(SWAP)
        self.front.js("() => { app.graph.extra.tested = true }")
        # Older hosts announce a preview only where the node really runs.
        self.preview.set("alpha", self.fresh_alpha())
        self.front.run()
        self.preview.wait("state == 'ready'")

    def fresh_alpha(self) -> float:
        """One that no run on the host has had yet: its result is not remembered."""
        return next(FRESH)

    def begun(self) -> bool:
        return self.front.js("() => Boolean(app.graph.extra.tested)")

    def preview_requests(self) -> list[str]:
        """Addresses of the pictures that the page has asked for."""
        return [path for _, path in self.front.requests if "/fusionfft/spectral/" in path]

    def token(self) -> str:
        """Of the last run."""
        return self.front.js("id => app.nodeOutputs[id].fusionfft_spectral[0].token", self.preview.node)

    def prompts_queued(self) -> int:
        return sum(method == "POST" and path.split("?")[0].endswith("/prompt") for method, path in self.front.requests)


@pytest.fixture(scope="package", params=DESKS.values(), ids=DESKS)
def desk(request: pytest.FixtureRequest, browser) -> Iterator[Desk]:
    name, nodes2 = request.param
    with opened(browser, request.getfixturevalue(name), nodes2=nodes2) as found:
        found.begin()
        yield found


@contextmanager
def opened(browser, running: RunningHost, **look: Any) -> Iterator[Desk]:
    """A page without a graph."""
    clip = running.server.input / CLIP
    if not clip.exists():
        draw(clip, FRAMES, PART)
    with open_page(browser, running.server.url, **look) as front:
        yield Desk(running, front, front.preview(SWAP))


def workflow(clip: str = CLIP) -> dict[str, Any]:
    """The example for spectral tuning, on a clip of the host's input folder that no other test writes."""
    graph = json.loads((ROOT / "example_workflows" / "spectral_tuning.json").read_text(encoding="utf-8"))
    (load,) = [node for node in graph["nodes"] if node["type"] == "LoadVideo"]
    load["widgets_values"][0] = clip
    return graph
