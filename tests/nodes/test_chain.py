"""Blocks together: the chain and the all-in-one, Spectral Swap and its live preview, precisions, models."""

import io
import json

import numpy as np
import pytest
import torch
from PIL import Image

from comfy_fusionfft import api
from comfy_fusionfft.contract import Frame
from comfy_fusionfft.flow_clip import exact
from tests.nodes.graphs import PLAIN, Graph, Link, auto, dis, frames, fusion, held, library, moving, rife

pytestmark = pytest.mark.usefixtures("one_thread")


def chained(graph: Graph, images: Link, model: Link, **pace) -> tuple[Link, Link, Link]:
    """Flow, Fuse, Spectral Swap: their first outputs."""
    flow = graph.add("FusionFFTFlow", images=images, rife_model=model, **pace)
    fused = graph.add("FusionFFTFuse", images=images, flow=flow, fusion_model=fusion(graph))
    return flow, fused, graph.add("FusionFFTSpectralSwap", images=fused, prior=images, flow=flow)


@pytest.mark.parametrize("model", [auto, dis, rife])
@pytest.mark.parametrize(
    "count, height, width, pace",
    [
        (5, 37, 50, {"multiplier": 2}),
        (4, 40, 48, {"multiplier": 3}),
        (5, 33, 47, {"source_fps": 24.0, "target_fps": 60.0}),
    ],
)
def test_the_three_blocks_are_the_whole_bit_for_bit(either_host, model, count, height, width, pace):
    clip = moving(count, height, width)
    graph = Graph(either_host)
    images, loaded = graph.clip("clip", clip), model(graph)
    graph.save("chain", chained(graph, images, loaded, **pace)[2])
    whole = graph.add("FusionFFTInterpolate", images=images, rife_model=loaded, fusion_model=fusion(graph), **pace)
    graph.save("whole", whole)
    graph.run()
    chain, whole = (either_host.saved(name)["image"] for name in ("chain", "whole"))
    assert torch.equal(chain, whole)
    rates = (24,) if "source_fps" in pace else ()
    timing = {"multi": pace["multiplier"]} if "multiplier" in pace else {"fps": 60}
    assert torch.equal(chain, library(clip, *rates, flow=model.__name__, **timing))


def test_neither_blocks_nor_the_whole_blend_across_a_cut(host):
    clip = torch.cat([moving(5, 64, 96), 1 - moving(5, 64, 96).flip(1)])
    graph = Graph(host)
    images, loaded = graph.clip("shots", clip), dis(graph)
    flow = graph.add("FusionFFTFlow", images=images, rife_model=loaded)
    fused = graph.add("FusionFFTFuse", images=images, flow=flow, fusion_model=fusion(graph))
    options = {"rife_model": loaded, "fusion_model": fusion(graph), "spectral_alpha": 0.0}
    graph.save("fused", fused)
    graph.save("whole", graph.add("FusionFFTInterpolate", images=images, **options))
    graph.run()
    chain, whole = (host.saved(name)["image"] for name in ("fused", "whole"))
    assert torch.equal(chain, whole) and torch.equal(chain[9], clip[5]), (
        "the nearer frame of two equals is the right one"
    )


def test_nested_anchors_are_the_library_s(host):
    clip = moving(6)
    graph = Graph(host)
    images = graph.clip("nested", clip)
    nested = {"anchor_flow": "nested", "num_anchors": 2}
    flow = graph.add("FusionFFTFlow", images=images, rife_model=rife(graph), **nested)
    fused = graph.add("FusionFFTFuse", images=images, flow=flow, fusion_model=fusion(graph), num_anchors=2)
    graph.save_flow("nested-flow", flow)
    graph.save("nested", fused)
    graph.run()
    spans = held(host.saved("nested-flow")).pairs.diff().flatten().tolist()
    assert spans.count(1) == 5 and spans.count(3) == 3
    expected = library(clip, flow="rife", spectral_alpha=0.0, **nested)
    assert torch.equal(host.saved("nested")["image"], expected)


def test_settings_of_fusion_reach_the_library(host):
    clip = moving(4)
    graph = Graph(host)
    settings = {"num_anchors": 1, "spectral_alpha": 0.9, "spectral_lo": 0.1, "spectral_hi": 0.5}
    made = graph.add(
        "FusionFFTInterpolate", images=graph.clip("set", clip), rife_model=rife(graph), fusion_model=fusion(graph)
    )
    graph.change(made, **settings)
    graph.save("set", made)
    graph.run()
    assert torch.equal(host.saved("set")["image"], library(clip, flow="rife", **settings))


# ----------------------------------------------------------------------------------------- Spectral Swap


def swapped(images: torch.Tensor, prior: torch.Tensor, positions=None, **settings) -> torch.Tensor:
    places = range(len(images)) if positions is None else positions
    base = [Frame(picture, exact(float(place))) for picture, place in zip(images, places, strict=True)]
    made = api.spectral_swap(base, frames(prior, 1), host=PLAIN, **settings)
    return torch.stack([frame.pixels for frame in made])


def soft(images: torch.Tensor) -> torch.Tensor:
    """Without fine detail, so that there is something to lend."""
    planes = images.permute(0, 3, 1, 2)
    return torch.nn.functional.avg_pool2d(planes, 3, 1, 1, count_include_pad=False).permute(0, 2, 3, 1).contiguous()


def test_swap_by_time(either_host):
    """Kinds that need the flow's instants, among them the default."""
    clip = moving(3)
    base = soft(moving(7, speed=1.0))
    graph = Graph(either_host)
    prior, images = graph.clip("prior", clip), graph.clip("base", base)
    flow = graph.add("FusionFFTFlow", images=prior, multiplier=3)
    for kind in ("auto", "neighbours", "nearest"):
        node = graph.add("FusionFFTSpectralSwap", images=images, prior=prior, flow=flow, prior_kind=kind, alpha=0.8)
        graph.save(kind, node)
    graph.run()
    auto, neighbours, nearest = (either_host.saved(k)["image"] for k in ("auto", "neighbours", "nearest"))
    instants = [k / 3 for k in range(7)]
    assert torch.equal(auto, neighbours)
    assert torch.equal(neighbours, swapped(base, clip, instants, alpha=0.8, prior_kind="neighbours"))
    assert torch.equal(nearest, swapped(base, clip, instants, alpha=0.8, prior_kind="nearest"))
    assert torch.equal(auto[::3], base[::3]) and not torch.equal(auto[1], base[1])


@pytest.mark.parametrize("lenders", [4, 1])
def test_swap_frame_by_frame_and_from_one_for_all(either_host, lenders):
    clip = moving(4)
    base = soft(clip)
    graph = Graph(either_host)
    images, prior = graph.clip("base", base), graph.clip("prior", clip[:lenders])
    settings = {"alpha": 1.0, "lo": 0.1, "hi": 0.3, "soft": False, "clamp_gain": False}
    for kind in ("auto", "paired"):
        node = graph.add("FusionFFTSpectralSwap", images=images, prior=prior, prior_kind=kind, **settings)
        graph.save(kind, node)
    graph.run()
    auto, paired = (either_host.saved(kind)["image"] for kind in ("auto", "paired"))
    assert torch.equal(auto, paired)
    assert torch.equal(paired, swapped(base, clip[:lenders], prior_kind="paired", **settings))
    fine = [float((pictures[:, :, 1:] - pictures[:, :, :-1]).abs().mean()) for pictures in (base, paired, clip)]
    assert fine[0] < 0.9 * fine[1] and abs(fine[1] / fine[2] - 1) < 0.1


def test_a_warped_prior_lends_frame_by_frame(host):
    """With flow connected, too: as many prior frames as images, so auto pairs them."""
    clip = moving(3)
    graph = Graph(host)
    images = graph.clip("clip", clip)
    flow = graph.add("FusionFFTFlow", images=images)
    fused = graph.add("FusionFFTFuse", images=images, flow=flow, fusion_model=fusion(graph), warped_prior=True)
    graph.save("fused", fused)
    graph.save("warped", fused.slot(1))
    graph.save("swapped", graph.add("FusionFFTSpectralSwap", images=fused, prior=fused.slot(1), flow=flow))
    graph.run()
    base, prior = host.saved("fused")["image"], host.saved("warped")["image"]
    assert torch.equal(host.saved("swapped")["image"], swapped(base, prior, prior_kind="paired"))


def test_alpha_zero_changes_nothing(host):
    base = soft(moving(3))
    graph = Graph(host)
    node = graph.add("FusionFFTSpectralSwap", images=graph.clip("b", base), prior=graph.clip("p", moving(3)), alpha=0.0)
    graph.save("zero", node)
    graph.run()
    assert torch.equal(host.saved("zero")["image"], base)


# ------------------------------------------------------------------------------------------ live preview


def announced(graph: Graph, node: Link) -> dict:
    (entry,) = graph.run().outputs[node.id]["fusionfft_spectral"]
    return entry


def jpeg(answer) -> np.ndarray:
    assert answer.status == 200 and answer.headers["content-type"] == "image/jpeg"
    return np.asarray(Image.open(io.BytesIO(answer.body)), np.float32)


def test_live_preview_shows_what_the_node_makes(either_host):
    # Grain to lend, and some below it: detail whose phase is that of 8-bit rounding would differ in the preview.
    clip = (moving(3, 64, 96) + 0.10 * torch.randn(3, 64, 96, 1)).clamp(0, 1)
    base = (moving(5, 64, 96, speed=1.5) + 0.03 * torch.randn(5, 64, 96, 1)).clamp(0, 1)
    graph = Graph(either_host)
    prior, images = graph.clip("p", clip), graph.clip("b", base)
    flow = graph.add("FusionFFTFlow", images=prior)
    band = {"lo": 0.15, "hi": 0.35, "soft": True, "clamp_gain": True}
    node = graph.add("FusionFFTSpectralSwap", images=images, prior=prior, flow=flow, alpha=0.7, **band)
    graph.save("live", node)
    entry = announced(graph, node)
    assert {key: entry[key] for key in ("width", "height", "count", "alpha", *band)} == {
        "width": 96,
        "height": 64,
        "count": 5,
        "alpha": 0.7,
        **band,
    }
    assert entry["frames"] == [{"number": 1, "position": 0.5}, {"number": 3, "position": 1.5}]
    made, get = either_host.saved("live")["image"], either_host.client.request
    for index, frame in enumerate(entry["frames"]):
        address = f"/fusionfft/spectral/{entry['token']}/{index}"
        below, delta = get(f"{address}/base"), get(f"{address}/delta?lo=0.15&hi=0.35&soft=1&clamp_gain=1")
        profile = json.loads(below.headers["x-fusionfft"])["profile"]
        assert len(profile["frequency"]) == len(profile["base"]) == len(profile["prior"]) > 20
        peak = json.loads(delta.headers["x-fusionfft"])["peak"]
        shown = jpeg(below) / 255 + 0.7 * (jpeg(delta) - 128) / 127 * peak
        truth = made[frame["number"]].numpy()
        off, change = (np.abs(seen - truth).mean() for seen in (shown.clip(0, 1), jpeg(below) / 255))
        assert off < 0.008 and change > 5 * off


def test_live_preview_of_an_older_run_is_gone_and_wrong_numbers_are_refused(either_host):
    graph = Graph(either_host)
    images, prior = graph.clip("b", soft(moving(2))), graph.clip("p", moving(2))
    node = graph.add("FusionFFTSpectralSwap", images=images, prior=prior, alpha=0.2)
    graph.save("older", node)
    older = announced(graph, node)["token"]
    graph.change(node, alpha=0.3)
    assert announced(graph, node)["token"] == older, "the same pictures: what the page holds of them stays good"
    graph.change(node, prior=graph.clip("q", soft(moving(2))))
    newer = announced(graph, node)["token"]
    assert older != newer
    get = either_host.client.request
    gone = get(f"/fusionfft/spectral/{older}/0/base")
    assert gone.status == 410 and "run the graph again" in gone.json()["error"]
    assert get(f"/fusionfft/spectral/{newer}/0/base").status == 200
    for query, text in {
        "lo=0.4&hi=0.2&soft=1&clamp_gain=1": "upside down",
        "lo=nan&hi=0.2&soft=1&clamp_gain=1": "upside down",
        "lo=a&hi=0.2&soft=1&clamp_gain=1": "must be numbers",
        "lo=0.1&hi=0.2": "must be numbers",
    }.items():
        refused = get(f"/fusionfft/spectral/{newer}/0/delta?{query}")
        assert refused.status == 400 and text in refused.json()["error"]
    refused = get(f"/fusionfft/spectral/{newer}/7/base")
    assert refused.status == 400 and "count from 0" in refused.json()["error"]


# -------------------------------------------------------------------------------------------- precisions


def test_half_images(half_host):
    """A host that keeps images as float16: the results, too, computed in float32 all the same."""
    clip = moving(4).half()
    graph = Graph(half_host)
    images, loaded = graph.clip("half", clip.float()), rife(graph)
    flow, fused, swap = chained(graph, images, loaded)
    whole = graph.add("FusionFFTInterpolate", images=images, rife_model=loaded, fusion_model=fusion(graph))
    warped = graph.add("FusionFFTFlowWarp", images=images, flow=flow)
    shown = graph.add("FusionFFTFlowPreview", images=images, flow=flow, show="arrows")
    for name, link in {"fused": fused, "chain": swap, "whole": whole, "warped": warped}.items():
        graph.save(name, link)
    graph.save_flow("flow", flow)
    result = graph.run()
    exactly = library(clip.float(), flow="rife")
    for name in ("fused", "chain", "whole", "warped"):
        found = half_host.saved(name)["image"]
        assert found.dtype == torch.float16 and torch.equal(found[::2], clip)
    # One rounding at the end of the whole; one more between the blocks of the chain.
    assert float((half_host.saved("whole")["image"].float() - exactly).abs().max()) <= 2**-11
    assert float((half_host.saved("chain")["image"].float() - exactly).abs().max()) <= 2**-9
    assert half_host.saved("flow")["flow.0"].dtype == torch.float32
    assert len(result.outputs[shown.id]["images"]) == 3


@pytest.mark.parametrize("flow", [api.EMBEDDED_FLOW, api.EMBEDDED_RIFE])
@pytest.mark.parametrize("dtype", ["float16", "bfloat16"])
def test_networks_in_low_precision_stay_close(host, dtype, flow):
    clip = moving(3)
    graph = Graph(host)
    made = graph.add(
        "FusionFFTInterpolate",
        images=graph.clip("low", clip),
        rife_model=graph.add("FusionFFTLoadRIFE", model=f"{flow} (built-in)", dtype=dtype),
        fusion_model=graph.add("FusionFFTLoadFusion", dtype=dtype),
    )
    graph.save("low", made)
    graph.run()
    found = host.saved("low")["image"]
    assert found.dtype == torch.float32 and torch.equal(found[::2], clip)
    difference = (found - library(clip, flow=flow)).abs()
    assert 0 < float(difference.mean()) < 0.004
