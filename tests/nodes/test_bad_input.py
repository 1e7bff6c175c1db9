"""What cannot work says in its first line what is wrong and what to do, and the host goes on."""

import pickle

import pytest
import torch
from safetensors.torch import save_file

from devhost.client import InvalidGraph
from tests.nodes.graphs import Graph, Link, fusion, moving


def flow_of(graph: Graph, images: Link, **settings) -> Link:
    return graph.add("FusionFFTFlow", images=images, **settings)


def ends_in(graph: Graph, node: Link) -> str:
    """Whether it is an output node or not, it has to run; returns its error."""
    graph.save("unwanted", node)
    return graph.fails()


# ------------------------------------------------------------------------------------------------ images


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
@pytest.mark.parametrize("kind", ["FusionFFTInterpolate", "FusionFFTFlow", "FusionFFTSpectralSwap"])
def test_a_frame_that_is_not_numbers(host, kind, value):
    clip = moving(4)
    clip[2, 5, 7, 1] = value
    graph = Graph(host)
    images = graph.clip("broken", clip)
    if kind == "FusionFFTFlow":
        graph.save_flow("unwanted", flow_of(graph, images))
        error = graph.fails()
    else:
        more = {"prior": graph.clip("whole", moving(4))} if kind == "FusionFFTSpectralSwap" else {}
        error = ends_in(graph, graph.add(kind, images=images, **more))
    assert "holds NaN or infinite values: repair the clip or the node that made it" in error


@pytest.mark.parametrize("kind", ["FusionFFTFuse", "FusionFFTFlowWarp"])
def test_a_frame_that_is_not_numbers_after_its_flow(either_host, kind):
    clip = moving(3)
    graph = Graph(either_host)
    flow = flow_of(graph, graph.clip("whole", clip))
    broken = clip.clone()
    broken[1, 0, 0] = float("nan")
    error = ends_in(graph, graph.add(kind, images=graph.clip("broken", broken), flow=flow))
    assert "holds NaN or infinite values: repair the clip" in error


def test_no_images_at_all(either_host):
    graph = Graph(either_host)
    error = ends_in(graph, graph.add("FusionFFTInterpolate", images=graph.clip("none", moving(2)[:0])))
    assert "connect a batch of at least one image" in error


def test_pictures_of_two_channels(host):
    graph = Graph(host)
    error = ends_in(graph, graph.add("FusionFFTInterpolate", images=graph.clip("two", moving(2)[..., :2])))
    assert "images of 2 channels: connect grey, RGB or RGBA images" in error


def test_more_frames_than_any_memory_holds(either_host):
    graph = Graph(either_host)
    images = graph.clip("long", torch.zeros(2, 1024, 2048, 3))
    rate = {"source_fps": 0.01, "target_fps": 1000.0}
    node = graph.add("FusionFFTInterpolate", images=images, method="rife", **rate)
    graph.save("unwanted", node)
    result = either_host.client.run(graph.nodes)
    assert result.seconds < 10 and not result.previews
    error = graph.fails()
    assert "100001 frames of 2048×1024 need 2516.6 GB," in error
    assert "take a shorter part of the clip, a smaller multiplier, or the command line, which streams" in error


# -------------------------------------------------------------------------------------------------- flow


@pytest.mark.parametrize("kind", ["FusionFFTFuse", "FusionFFTFlowWarp", "FusionFFTFlowPreview"])
def test_flow_of_another_clip(either_host, kind):
    graph = Graph(either_host)
    images = graph.clip("images", moving(3))
    longer, wider = graph.clip("longer", moving(5)), graph.clip("wider", moving(3, 37, 64))
    node = graph.add(kind, images=images, flow=flow_of(graph, longer))
    assert "the FLOW is of a clip of 5 frames, the images are 3: connect both to the same clip" in ends_in(graph, node)
    graph.change(node, flow=flow_of(graph, wider))
    assert "the FLOW is 64×37, the images are 50×37: make the flow from these images" in graph.fails()


@pytest.mark.parametrize("kind", ["FusionFFTFuse", "FusionFFTFlowPreview"])
def test_flow_of_another_pack(either_host, kind):
    graph = Graph(either_host)
    images = graph.clip("images", moving(2))
    node = graph.add(kind, images=images, flow=graph.add("FusionFFTTestForeignFlow"))
    assert "this FLOW is a Tensor of another kind: connect the FLOW of RIFE Flow" in ends_in(graph, node)


def test_more_nested_anchors_than_the_flow_has(host):
    graph = Graph(host)
    images = graph.clip("images", moving(6))
    flow = flow_of(graph, images, anchor_flow="nested", num_anchors=2)
    error = ends_in(graph, graph.add("FusionFFTFuse", images=images, flow=flow, num_anchors=3))
    assert "make it with anchor_flow nested and as many anchors" in error


def test_a_single_image_has_no_motion_to_show(host):
    graph = Graph(host)
    graph.add("FusionFFTFlowPreview", flow=flow_of(graph, graph.clip("one", moving(1))))
    assert "connect a clip of two or more" in graph.fails()


# ----------------------------------------------------------------------------------------- Spectral Swap


@pytest.mark.parametrize(
    "kind, settings",
    [
        ("FusionFFTSpectralSwap", {"lo": 0.5, "hi": 0.3}),
        ("FusionFFTInterpolate", {"spectral_lo": 0.5, "spectral_hi": 0.3}),
    ],
)
def test_a_band_upside_down(either_host, kind, settings):
    graph = Graph(either_host)
    images = graph.clip("images", moving(2))
    if kind == "FusionFFTSpectralSwap":
        settings = {**settings, "prior": images}
    error = ends_in(graph, graph.add(kind, images=images, **settings))
    assert "the band from 0.5 to 0.3 cycles per pixel is upside down: give 0 <= lo <= hi" in error


def test_a_prior_that_does_not_fit(either_host):
    graph = Graph(either_host)
    images = graph.clip("images", moving(5))
    swap = graph.add("FusionFFTSpectralSwap", images=images, prior=graph.clip("wider", moving(5, 37, 64)))
    error = ends_in(graph, swap)
    assert "images are 50×37, the prior is 64×37: scale one of them to the other" in error
    fewer = graph.clip("fewer", moving(3))
    graph.change(swap, prior=fewer)
    assert "the prior has 3 frames, there are 5 images: connect as many, one for all, or the source" in graph.fails()
    graph.change(swap, prior_kind="neighbours")
    assert "connect flow, or choose auto" in graph.fails()
    graph.change(swap, flow=flow_of(graph, fewer, multiplier=3))
    assert "the FLOW is for 7 output frames, there are 5 images: connect the flow that the images" in graph.fails()
    graph.change(swap, flow=flow_of(graph, images, multiplier=1))
    assert "the FLOW is of a clip of 5 frames, the prior has 3: connect the source clip as prior" in graph.fails()


# ------------------------------------------------------------------------------------------------ models


def test_wrong_files(either_host):
    folder = either_host.server.models / "frame_interpolation"
    save_file(
        {"extract.extract_sublevels.convs.0.0.conv.weight": torch.zeros(64, 3, 3, 3)}, folder / "film.safetensors"
    )
    (folder / "pickle.safetensors").write_bytes(pickle.dumps({"block0": 1}))
    (folder / "page.safetensors").write_bytes(b"<html>not found</html>" * 9)
    expected = {
        "film.safetensors": "no network known here (not FMA-Net: no tensor degradation_learning_network."
        "feature_extractor.0.weight; not FTVSR: no tensor feat_extractor.main.0.weight; not FusionFFT: no tensor "
        "encoder.stem.weight; not multi-hypothesis",
        "pickle.safetensors": "is a pickle, which could run code",
        "page.safetensors": "is a web page, not weights; download the file again",
    }
    for name, text in expected.items():
        graph = Graph(either_host)
        model = graph.add("FusionFFTLoadRIFE", model=name)
        graph.save_flow("unwanted", flow_of(graph, graph.clip("images", moving(2)), rife_model=model))
        assert text in graph.fails()
        for kind in ("FusionFFTLoadRIFE", "FusionFFTLoadFusion"):
            options = either_host.client.object_info(kind)[kind]["input"]["required"]["model"]
            assert name not in str(options)
        (folder / name).unlink()


def test_ensemble_is_for_networks_that_have_it(host):
    graph = Graph(host)
    graph.save_flow("unwanted", flow_of(graph, graph.clip("images", moving(2)), ensemble=True))
    assert "searches both ways anyway: turn ensemble off" in graph.fails()


def test_a_fusion_file_does_not_make_flow(host):
    graph = Graph(host)
    model = graph.add("FusionFFTLoadRIFE", model="fusionfft-v2 (built-in)")
    graph.save_flow("unwanted", flow_of(graph, graph.clip("images", moving(2)), rife_model=model))
    assert "is a fusion network (FusionFFT); choose a flow network" in graph.fails()


def test_a_file_that_is_not_there(either_host):
    graph = Graph(either_host)
    model = graph.add("FusionFFTLoadRIFE", model="rife_v9.99.safetensors")
    graph.save_flow("unwanted", flow_of(graph, graph.clip("images", moving(2)), rife_model=model))
    with pytest.raises(InvalidGraph) as refused:
        either_host.client.submit(graph.nodes)
    (message,) = refused.value.nodes[model.id]
    assert "no flow model 'rife_v9.99.safetensors' in " in message and "put the file there" in message


def test_models_in_each_other_s_sockets(either_host):
    graph = Graph(either_host)
    images = graph.clip("images", moving(2))
    node = graph.add("FusionFFTInterpolate", images=images, rife_model=fusion(graph))
    graph.save("unwanted", node)
    with pytest.raises(InvalidGraph, match="rife_model, received_type\\(FUSIONFFT_MODEL\\)"):
        either_host.client.submit(graph.nodes)


def test_the_host_s_own_film(host):
    graph = Graph(host)
    film = graph.add("FusionFFTTestFilm")
    graph.save_flow("unwanted", flow_of(graph, graph.clip("images", moving(2)), rife_model=film))
    error = graph.fails()
    assert (
        "the connected INTERP_MODEL holds no network known here (not multi-hypothesis flow:" in error
        and "not RIFE:" in error
        and "choose other weights" in error
    )
