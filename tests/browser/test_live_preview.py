"""The live preview under a hand: what a mouse and a keyboard do to its pixels, and what they must not do."""

import json

import numpy as np
import pytest

from devhost.browser import decoded
from tests.browser.conftest import FRAMES, HEIGHT, SETTINGS, SWAP, WIDTH, Desk

MADE = FRAMES - 1
"""Frames between those of the clip, at twice its rate."""


@pytest.fixture(autouse=True)
def as_loaded(desk: Desk):
    """Each test begins with the values of the workflow, on the first frame, split in the middle, zoomed to fit."""
    if not desk.begun():
        desk.begin()
    if desk.preview.data()["zoom"] != "fit":
        desk.preview.part(".detail").click()
    for name, value in SETTINGS.items():
        desk.preview.set(name, value)
    desk.preview.part(".frames").fill("0")
    split_to(desk, 0.5)
    desk.preview.wait("state == 'ready'")
    desk.preview.settle()
    desk.front.requests.clear()


def split_to(desk: Desk, share: float) -> None:
    split = desk.preview.part(".split")
    split.press("Home")
    for _ in range(round(share * 10)):
        split.press("PageUp")


def expected(desk: Desk, token: str, frame: int, settings: dict, split: float) -> np.ndarray:
    """The picture that the server's two say there should be, mixed here: (H, W, 3) RGB."""
    query = "&".join(f"{name}={float(settings[name])}" for name in ("lo", "hi"))
    query += "".join(f"&{name}={int(settings[name])}" for name in ("soft", "clamp_gain"))
    address = f"/fusionfft/spectral/{token}/{frame}"
    base, delta = (desk.host.client.request(f"{address}/{kind}") for kind in ("base", f"delta?{query}"))
    assert base.status == delta.status == 200
    peak = json.loads(delta.headers["x-fusionfft"])["peak"]
    base, delta = decoded(base.body), decoded(delta.body)
    swapped = base + settings["alpha"] * peak * 255 / 127 * (delta - 128.0)
    after = np.arange(base.shape[1]) >= round(split * base.shape[1])
    return np.where(after[None, :, None], swapped.round(), base).clip(0, 255)


def assert_shows(desk: Desk, token: str, frame: int = 0, split: float = 0.5, **changed) -> np.ndarray:
    pixels = desk.preview.pixels()
    difference = np.abs(pixels - expected(desk, token, frame, {**SETTINGS, **changed}, split))
    # Two JPEG decoders: a level or two apart here and there.
    assert pixels.shape == (HEIGHT, WIDTH, 3) and difference.mean() < 0.2 and difference.max() <= 4
    return pixels


@pytest.fixture
def token(desk: Desk) -> str:
    return desk.token()


def test_alpha_follows_the_mouse_without_a_request_or_a_run(desk, token):
    before = assert_shows(desk, token)
    draws = int(desk.preview.data()["draws"])
    desk.front.drag_slider(SWAP, "alpha", 0.4, 0.9)
    desk.preview.wait(f"draws > {draws} + 3")
    desk.preview.settle()
    alpha = desk.preview.values()["alpha"]
    assert alpha == pytest.approx(0.9, abs=0.06)  # the handle is taken beside its middle
    after = assert_shows(desk, token, alpha=alpha)
    assert (before != after).mean() > 0.2
    assert not desk.preview_requests() and not desk.prompts_queued()


def test_no_alpha_is_the_frame_itself(desk, token):
    desk.preview.set("alpha", 0.0)
    desk.preview.settle()
    pixels = assert_shows(desk, token, alpha=0.0)
    assert_shows(desk, token, alpha=0.0, split=0.0)
    desk.preview.set("alpha", 1.0)
    desk.preview.settle()
    assert (pixels != assert_shows(desk, token, alpha=1.0)).mean() > 0.2


@pytest.mark.parametrize(("name", "value"), [("lo", 0.1), ("hi", 0.6), ("soft", False), ("clamp_gain", False)])
def test_the_band_asks_once_for_each_change(desk, token, name, value):
    before = desk.preview.pixels()
    desk.preview.set(name, value)
    desk.preview.settle()
    after = assert_shows(desk, token, **{name: value})
    assert (before != after).any()
    (asked,) = desk.preview_requests()
    assert "/delta?" in asked and not desk.prompts_queued()


def test_a_dragged_band_ends_where_it_was_let_go(desk, token):
    desk.front.drag_slider(SWAP, "hi", 0.4 / 0.71, 0.95, steps=20)
    desk.preview.settle()
    hi = desk.preview.values()["hi"]
    assert hi > 0.6
    assert_shows(desk, token, hi=hi)
    assert not desk.prompts_queued()


def test_wishes_that_are_overtaken_are_not_asked_for(desk, token):
    desk.preview.set("lo", *[round(0.02 + 0.01 * i, 2) for i in range(25)])
    desk.preview.settle()
    assert len(desk.preview_requests()) <= 2
    assert desk.preview_requests()[-1].split("lo=")[1].startswith("0.26&")
    assert_shows(desk, token, lo=0.26)


def test_an_impossible_band_is_explained_and_can_be_left(desk, token):
    shown = desk.preview.pixels()
    desk.preview.set("lo", 0.6)
    desk.preview.wait("state == 'error'")
    assert "upside down" in desk.preview.text(".message")
    assert (desk.preview.pixels() == shown).all()
    desk.preview.set("lo", 0.3)
    desk.preview.wait("state == 'ready'")
    assert_shows(desk, token, lo=0.3)
    assert desk.preview.text(".message") == ""


def test_the_split_is_dragged(desk, token):
    stage, handle = (desk.preview.part(name).bounding_box() for name in (".stage", ".split"))
    y = handle["y"] + handle["height"] / 3
    start = handle["x"] + handle["width"] / 2
    desk.front.drag((start, y), (stage["x"] + 0.8 * stage["width"], y))
    split = float(desk.preview.data()["split"])
    assert split == pytest.approx(0.8, abs=0.02)
    assert_shows(desk, token, split=split)
    assert not desk.preview_requests() and desk.preview.data()["zoom"] == "fit"


def test_the_split_is_moved_by_keys(desk, token):
    split, graph = desk.preview.part(".split"), desk.front.js("() => [...app.canvas.ds.offset]")
    for key, share in [("End", 1.0), ("ArrowLeft", 0.98), ("Home", 0.0), ("PageUp", 0.1), ("ArrowRight", 0.12)]:
        split.press(key)
        assert float(desk.preview.data()["split"]) == pytest.approx(share)
        assert int(split.get_attribute("aria-valuenow")) == round(100 * share)
        assert_shows(desk, token, split=share)
    assert desk.front.js("() => [...app.canvas.ds.offset]") == graph  # the same keys move the graph elsewhere


def test_frames_are_looked_through(desk, token):
    slider = desk.preview.part(".frames")
    assert slider.get_attribute("max") == str(MADE - 1)
    pictures = []
    for frame in range(MADE):
        slider.fill(str(frame))
        desk.preview.settle()
        pictures.append(assert_shows(desk, token, frame=frame))
        assert desk.preview.text(".status").startswith(f"Frame {2 * frame + 1} / {2 * FRAMES - 2}")
    assert (pictures[0] != pictures[1]).mean() > 0.5
    slider.press("ArrowLeft")
    desk.preview.settle()
    assert desk.preview.data()["frame"] == str(MADE - 2)


def test_a_click_shows_pixels_and_a_click_all(desk, token):
    stage = desk.preview.part(".stage").bounding_box()
    middle = stage["x"] + 0.7 * stage["width"], stage["y"] + 0.4 * stage["height"]
    desk.front.page.mouse.click(*middle)
    assert desk.preview.data()["zoom"] == "1:1" and "1:1" in desk.preview.text(".status")
    desk.front.frames()
    real = desk.preview.part(".stage").bounding_box()  # one pixel of the picture is one of the screen
    assert (real["width"], real["height"]) == pytest.approx((WIDTH, HEIGHT), abs=1)
    assert_shows(desk, token)
    desk.preview.part(".stage").click(position={"x": 20, "y": 20})
    assert desk.preview.data()["zoom"] == "fit"
    stage_element = desk.preview.part(".stage")
    stage_element.press("Enter")
    assert desk.preview.data()["zoom"] == "1:1"
    desk.preview.part(".detail").click()
    assert desk.preview.data()["zoom"] == "fit"
    assert not desk.preview_requests()


def test_the_spectrum_can_be_put_away(desk):
    spectrum, button = desk.preview.part(".spectrum"), desk.preview.part(".inset")
    assert spectrum.is_visible() and button.get_attribute("aria-pressed") == "true"
    button.click()
    assert not spectrum.is_visible() and button.get_attribute("aria-pressed") == "false"
    button.click()
    assert spectrum.is_visible()


def test_tuned_values_are_saved_where_they_belong(desk):
    tuned = {"alpha": 0.65, "lo": 0.15, "hi": 0.5, "soft": False}
    for name, value in tuned.items():
        desk.preview.set(name, value)
    values = {**SETTINGS, **tuned}
    (saved,) = [node for node in desk.front.saved()["nodes"] if node["id"] == SWAP]
    assert saved["widgets_values"] == list(values.values())
    inputs = desk.front.prompt()[str(SWAP)]["inputs"]
    assert {name: value for name, value in inputs.items() if not isinstance(value, list)} == values


def test_the_next_run_computes_only_what_follows(desk, token):
    alpha = desk.fresh_alpha()
    desk.preview.set("alpha", alpha)
    run = desk.front.run()
    executed, cached = (
        {desk.front.js("id => findNode(id).type", node) for node in nodes} for nodes in (run.executed, run.cached)
    )
    assert executed == {"FusionFFTSpectralSwap", "CreateVideo", "SaveVideo"}
    assert cached >= {"FusionFFTFlow", "FusionFFTFuse"}
    desk.preview.settle()
    assert desk.token() == token and desk.preview.data()["state"] == "ready"
    assert_shows(desk, token, alpha=alpha)


def test_a_result_that_the_host_remembers_can_be_tuned_again(desk):
    """A host that keeps more than its last results announces what the node said when it was computed."""
    first, second = desk.fresh_alpha(), desk.fresh_alpha()
    for alpha in (first, second, first):
        desk.preview.set("alpha", alpha)
        desk.front.run()
    desk.preview.set("hi", 0.6)
    desk.preview.settle()
    assert desk.preview.data()["state"] == "ready"
    assert_shows(desk, desk.token(), alpha=first, hi=0.6)
