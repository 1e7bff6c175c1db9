"""Saved graphs with nodes of packs that are missing here: what takes their place, and what does not."""

import json
import uuid

import pytest
import torch

from devhost.browser import chromium, open_page
from tests.nodes.graphs import Graph, moving

pytestmark = pytest.mark.usefixtures("one_thread")
PAIRED = ("FILM VFI", "GMFSS Fortuna VFI", "IFRNet VFI", "M2M VFI", "AMT VFI", "CAIN VFI")


def rife_graph(host, clip, **more):
    """As a host with the old pack has exported it."""
    graph = Graph(host)
    images = graph.clip("old", clip)
    graph.nodes["rife"] = {
        "class_type": "RIFE VFI",
        "inputs": {
            "ckpt_name": "rife47.pth",
            "frames": images,
            "clear_cache_after_n_frames": 10,
            "multiplier": 3,
            "fast_mode": True,
            "ensemble": True,
            "scale_factor": 1,
            **more,
        },
        "_meta": {"title": "RIFE VFI"},
    }
    for node in graph.nodes.values():
        node.setdefault("_meta", {"title": ""})
    graph.save("made", ["rife", 0])
    graph.nodes[str(len(graph.nodes))]["_meta"] = {"title": ""}
    return graph


def test_an_old_graph_runs_with_our_node(either_host):
    graph = rife_graph(either_host, moving(3, 64, 96))
    ours = graph.add("FusionFFTInterpolate", images=["1", 0], multiplier=3, method="rife")
    graph.save("ours", ours)
    for node in graph.nodes.values():
        node.setdefault("_meta", {"title": ""})
    graph.run()
    made = either_host.saved("made")["image"]
    assert len(made) == 7 and torch.equal(made, either_host.saved("ours")["image"])


def test_what_is_registered(either_host):
    registered = either_host.client.json("/node_replacements")
    assert {"RIFE VFI", *PAIRED} <= set(registered)
    known = either_host.client.object_info()
    ours = {old: entry for old, (entry, *_) in registered.items() if entry["new_node_id"].startswith("FusionFFT")}
    required = known["FusionFFTInterpolate"]["input"]["required"]
    for old, entry in ours.items():
        assert old not in known, "never what the host itself can do"
        mapped = {each["new_id"] for each in entry["input_mapping"]}
        assert mapped == set(required), "the host fills in no defaults"
        for each in entry["input_mapping"]:
            options = required[each["new_id"]][1].get("options")
            assert options is None or "set_value" not in each or each["set_value"] in options
        assert entry["old_widget_ids"][2] == "multiplier"
    assert not {"FrameInterpolate", "GIMMVFI_interpolate", "FLAVR VFI", "STMFNet VFI"} & set(ours)


def test_a_skip_list_is_not_lost_without_a_word(either_host):
    """Its node is unknown, too: the host refuses the graph instead of making frames that were to be skipped."""
    graph = rife_graph(either_host, moving(3), optional_interpolation_states=["list", 0])
    graph.nodes["list"] = {
        "class_type": "Make Interpolation State List",
        "inputs": {"frame_indices": "1", "is_skip_list": True},
        "_meta": {"title": ""},
    }
    answer = either_host.client.request("/prompt", data={"prompt": graph.nodes, "client_id": uuid.uuid4().hex})
    assert answer.status == 400 and "Make Interpolation State List" in json.dumps(answer.json())


def test_a_page_offers_our_node(host):
    """The missing node's own dialog puts ours in its place, with its links and its multiplier."""
    saved = {
        "last_node_id": 3,
        "last_link_id": 2,
        "nodes": [
            {
                "id": 1,
                "type": "EmptyImage",
                "pos": [0, 0],
                "size": [200, 100],
                "widgets_values": [96, 64, 3, 0],
                "outputs": [{"name": "IMAGE", "type": "IMAGE", "links": [1]}],
            },
            {
                "id": 2,
                "type": "RIFE VFI",
                "pos": [300, 0],
                "size": [300, 200],
                "inputs": [{"name": "frames", "type": "IMAGE", "link": 1}],
                "outputs": [{"name": "IMAGE", "type": "IMAGE", "links": [2]}],
                "widgets_values": ["rife47.pth", 10, 5, True, True, 1],
                "properties": {"Node name for S&R": "RIFE VFI"},
            },
            {
                "id": 3,
                "type": "PreviewImage",
                "pos": [700, 0],
                "size": [200, 200],
                "inputs": [{"name": "images", "type": "IMAGE", "link": 2}],
            },
        ],
        "links": [[1, 1, 0, 2, 0, "IMAGE"], [2, 2, 0, 3, 0, "IMAGE"]],
        "version": 0.4,
    }
    with chromium() as browser, open_page(browser, host.server.url) as front:
        front.load(saved)
        front.page.get_by_text("View details").first.click()
        front.page.get_by_text("Replace Node").first.click()
        front.page.wait_for_function("() => findNode(2)?.type === 'FusionFFTInterpolate'")
        ours = front.prompt()["2"]["inputs"]
        assert ours["images"] == ["1", 0] and ours["multiplier"] == 5 and ours["method"] == "rife"
        assert front.run().executed >= {"2", "3"}
