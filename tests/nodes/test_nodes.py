"""Each node of the pack, run by real hosts: what comes out is what the library computes, and what is true."""

import cv2
import numpy as np
import pytest
import torch

from comfy_fusionfft import api
from comfy_fusionfft.quality import psnr
from tests.nodes.graphs import (
    FPS,
    LIKE_THE_NODES,
    PLAIN,
    SPEED,
    Graph,
    auto,
    dis,
    frames,
    fusion,
    held,
    library,
    moved,
    moving,
    rife,
)

pytestmark = pytest.mark.usefixtures("one_thread")
BIG = {"height": 64, "width": 96}
"""Large enough for motion to be found well."""


def pictures(host, files: list[dict]) -> np.ndarray:
    """Pictures that an output names, ``(N, H, W, 3)`` uint8."""
    bytes_ = [np.frombuffer(host.client.view(file), np.uint8) for file in files]
    return np.stack([cv2.imdecode(encoded, cv2.IMREAD_COLOR)[..., ::-1] for encoded in bytes_])


# ------------------------------------------------------------------------------------------- RIFE Flow


@pytest.mark.parametrize("model", ["auto", "dis", "rife", "nothing connected"])
def test_flow_is_the_motion_of_the_clip(either_host, model):
    clip = moving(3, **BIG)
    graph = Graph(either_host)
    loader = {"auto": auto, "dis": dis, "rife": rife}.get(model)
    loaded = {"rife_model": loader(graph)} if loader else {}
    flow = graph.add("FusionFFTFlow", images=graph.clip("flow", clip), multiplier=4, **loaded)
    graph.save_flow("flow", flow)
    graph.save_number("fps", flow.slot(1))
    graph.run()
    assert either_host.saved("fps")["value"] == 4 * FPS
    found = held(either_host.saved("flow"))
    assert found.pairs.tolist() == [[0, 1], [1, 2]]
    assert found.instants.tolist() == [0, 0.25, 0.5, 0.75, 1, 1.25, 1.5, 1.75, 2]
    assert [times.tolist() for times in found.timesteps] == [[0.25, 0.5, 0.75]] * 2
    kind, library_s = (model, PLAIN) if loader else ("auto", LIKE_THE_NODES)
    wanted = api.extract_flow(frames(clip), multi=4, flow=kind, host=library_s)
    for motion, mask, (_, _, _, expected) in zip(found.flow, found.mask, wanted, strict=True):
        assert motion.shape == (3, 4, 64, 96) and mask.shape == (3, 1, 64, 96)
        assert torch.equal(motion, expected.flow) and torch.equal(mask, expected.mask)
        if model != "rife":
            middle = motion[:, :, 16:-16, 24:-24].flatten(2).median(-1).values
            truth = torch.tensor([[-SPEED * t, 0, SPEED * (1 - t), 0] for t in (0.25, 0.5, 0.75)])
            torch.testing.assert_close(middle, truth, atol=0.05 if model == "dis" else 0.25, rtol=0)


def test_flow_may_be_stored_as_halves(host):
    graph = Graph(host)
    images, model = graph.clip("halves", moving(3)), rife(graph)
    for half in (False, True):
        graph.save_flow(f"half-{half}", graph.add("FusionFFTFlow", images=images, rife_model=model, half=half))
    graph.run()
    whole, halves = (held(host.saved(f"half-{half}")) for half in (False, True))
    assert {part.dtype for part in (*halves.flow, *halves.mask)} == {torch.float16}
    assert halves.bytes * 2 == whole.bytes
    for one, other in zip(whole.flow, halves.flow, strict=True):
        assert torch.equal(one.half(), other)


def test_scale_uhd_and_ensemble_are_the_library_s(host):
    clip = moving(2, **BIG)
    graph = Graph(host)
    images, model = graph.clip("quality", clip), rife(graph)
    settings = {"small": {"scale": "0.5"}, "uhd": {"uhd": True}, "large": {"scale": "2"}}
    for name, values in settings.items():
        graph.save_flow(name, graph.add("FusionFFTFlow", images=images, rife_model=model, **values))
    graph.run()
    for name, scale in {"small": 0.5, "uhd": 0.5, "large": 2.0}.items():
        (_, _, _, expected), *_ = api.extract_flow(frames(clip), flow="rife", scale=scale, host=PLAIN)
        assert torch.equal(host.saved(name)["flow.0"], expected.flow)


# ------------------------------------------------------------------------------------------------ Fuse


def test_fused_frames_are_close_to_the_truth(either_host):
    clip = moving(5, **BIG)
    graph = Graph(either_host)
    images = graph.clip("fuse", clip)
    flow = graph.add("FusionFFTFlow", images=images)
    graph.save("fused", graph.add("FusionFFTFuse", images=images, flow=flow, fusion_model=fusion(graph)))
    graph.run()
    made = either_host.saved("fused")["image"]
    assert made.shape == (9, 64, 96, 3) and made.dtype == torch.float32
    assert torch.equal(made[::2], clip)
    inside = (slice(8, -8), slice(12, -12))
    for index in range(4):
        truth = moved(SPEED * (index + 0.5), **BIG)[inside].numpy()
        average = (clip[index] + clip[index + 1])[inside].numpy() / 2
        assert psnr(made[2 * index + 1][inside].numpy(), truth) > psnr(average, truth) + 12


def test_warped_prior_is_the_nearer_frame_in_its_place(host):
    clip = moving(3, **BIG)
    graph = Graph(host)
    images = graph.clip("prior", clip)
    flow = graph.add("FusionFFTFlow", images=images, multiplier=4)
    fused = graph.add("FusionFFTFuse", images=images, flow=flow, fusion_model=fusion(graph), warped_prior=True)
    graph.save("prior", fused.slot(1))
    graph.save("near", graph.add("FusionFFTFlowWarp", images=images, flow=flow, side="near"))
    graph.run()
    prior = host.saved("prior")["image"]
    assert torch.equal(prior, host.saved("near")["image"]) and torch.equal(prior[::4], clip)
    inside = (slice(8, -8), slice(12, -12))
    for index, picture in enumerate(prior):
        assert psnr(picture[inside].numpy(), moved(SPEED * index / 4, **BIG)[inside].numpy()) > 30


def test_a_prior_that_is_off_says_how_to_turn_it_on(either_host):
    graph = Graph(either_host)
    images = graph.clip("off", moving(2))
    fused = graph.add("FusionFFTFuse", images=images, flow=graph.add("FusionFFTFlow", images=images))
    graph.save("off", fused.slot(1))
    assert "turn warped_prior on in FusionFFT Fuse" in graph.fails()


# ------------------------------------------------------------------------------------------- Interpolate


@pytest.mark.parametrize("method", ["fusion", "rife", "recursive"])
def test_interpolate_is_the_library_bit_for_bit(either_host, method):
    clip = moving(5)
    graph = Graph(either_host)
    made = graph.add(
        "FusionFFTInterpolate",
        images=graph.clip("whole", clip),
        method=method,
        multiplier=3,
        rife_model=rife(graph),
        fusion_model=fusion(graph),
    )
    graph.save(method, made)
    graph.run()
    found = either_host.saved(method)["image"]
    assert torch.equal(found, library(clip, multi=3, method=method, flow="rife"))
    assert torch.equal(found[::3], clip)


def test_nothing_connected_is_the_library_s_default(either_host):
    clip = moving(4)
    graph = Graph(either_host)
    made = graph.add("FusionFFTInterpolate", images=graph.clip("bare", clip), fusion_model=fusion(graph))
    graph.save("bare", made)
    graph.run()
    expected = library(clip, flow=api.load_flow(host=LIKE_THE_NODES))
    assert torch.equal(either_host.saved("bare")["image"], expected)


def test_target_fps_wins_over_the_multiplier(either_host):
    clip = moving(5)
    graph = Graph(either_host)
    made = graph.add(
        "FusionFFTInterpolate",
        images=graph.clip("rate", clip),
        source_fps=24.0,
        target_fps=60.0,
        multiplier=7,
        method="rife",
        rife_model=rife(graph),
    )
    graph.save("rate", made)
    graph.save_number("rate-fps", made.slot(1))
    graph.run()
    found = either_host.saved("rate")["image"]
    assert either_host.saved("rate-fps")["value"] == 60
    # From the first frame to the last: 4/24 s are 10/60 s. Every fifth is a source frame.
    assert len(found) == 11 and torch.equal(found[::5], clip[::2])
    assert torch.equal(found, library(clip, 24, fps=60, method="rife", flow="rife"))


@pytest.mark.parametrize("source, target, exact", [(23.976, 0.0, 48000 / 1001), (12.0, 59.94, 60000 / 1001)])
def test_film_rates_are_exact(host, source, target, exact):
    graph = Graph(host)
    made = graph.add(
        "FusionFFTInterpolate",
        images=graph.clip("film", moving(2)),
        source_fps=source,
        target_fps=target,
        method="rife",
    )
    graph.save_number("film", made.slot(1))
    graph.run()
    assert host.saved("film")["value"] == exact


def test_multiplier_one_and_a_single_frame_pass_untouched(either_host):
    clip = moving(3)
    graph = Graph(either_host)
    one = graph.clip("one", clip[:1])
    graph.save("same", graph.add("FusionFFTInterpolate", images=graph.clip("same", clip), multiplier=1))
    graph.save("single", graph.add("FusionFFTInterpolate", images=one, multiplier=4))
    flow = graph.add("FusionFFTFlow", images=one, multiplier=4)
    fused = graph.add("FusionFFTFuse", images=one, flow=flow, warped_prior=True)
    graph.save("chained", graph.add("FusionFFTSpectralSwap", images=fused, prior=one, flow=flow))
    graph.save("chained-prior", fused.slot(1))
    graph.run()
    assert torch.equal(either_host.saved("same")["image"], clip)
    for name in ("single", "chained", "chained-prior"):
        assert torch.equal(either_host.saved(name)["image"], clip[:1])


@pytest.mark.parametrize("channels", [1, 4])
def test_grey_and_alpha_stay(either_host, channels):
    clip = moving(3, channels=channels)
    if channels == 4:
        clip[..., 3] = (clip[..., 3] * 3 - 1).clamp(0, 1)  # fully transparent and opaque parts
    graph = Graph(either_host)
    made = graph.add(
        "FusionFFTInterpolate", images=graph.clip("alpha", clip), rife_model=rife(graph), fusion_model=fusion(graph)
    )
    graph.save("alpha", made)
    graph.run()
    found = either_host.saved("alpha")["image"]
    assert found.shape == (5, 37, 50, channels) and found.isfinite().all()
    assert torch.equal(found[::2], clip) and torch.equal(found, library(clip, flow="rife"))


def test_values_beyond_one_stay(host):
    clip = moving(3) * 1.5 - 0.1
    graph = Graph(host)
    graph.save("bright", graph.add("FusionFFTInterpolate", images=graph.clip("bright", clip)))
    graph.run()
    found = host.saved("bright")["image"]
    assert torch.equal(found[::2], clip) and found[1].max() > 1.1


def test_cuts_and_repeats_in_the_one_node(either_host):
    """Two shots of four frames, each shown twice: auto finds the cut, dedupe the repeats."""
    shots = torch.cat([moving(4, **BIG), 1 - moving(4, **BIG).flip(0)])
    graph = Graph(either_host)
    once, twice = graph.clip("shots", shots), graph.clip("twos", shots.repeat_interleave(2, dim=0))
    settings = {"method": "rife", "rife_model": dis(graph)}
    graph.save("found", graph.add("FusionFFTInterpolate", images=once, **settings))
    graph.save("blended", graph.add("FusionFFTInterpolate", images=once, cuts="none", **settings))
    graph.save("evened", graph.add("FusionFFTInterpolate", images=twice, multiplier=1, dedupe=True, **settings))
    graph.run()
    found, blended = (either_host.saved(name)["image"] for name in ("found", "blended"))
    assert torch.equal(found[7], shots[3]) or torch.equal(found[7], shots[4])
    assert torch.equal(found[:7], blended[:7]) and not torch.equal(found[7], blended[7])
    steps = (either_host.saved("evened")["image"].diff(dim=0)).abs().mean((1, 2, 3))
    assert len(steps) == 15 and (steps[:6] > 0.004).all()


# --------------------------------------------------------------------------------- Flow Preview and Warp


@pytest.mark.parametrize("with_images", [True, False])
def test_flow_preview_shows_a_picture_for_each_instant(either_host, with_images):
    graph = Graph(either_host)
    images = graph.clip("preview", moving(3, **BIG))
    flow = graph.add("FusionFFTFlow", images=images, multiplier=3)
    given = {"images": images} if with_images else {}
    kinds = {show: graph.add("FusionFFTFlowPreview", flow=flow, show=show, **given) for show in KINDS}
    for show, node in kinds.items():
        graph.save(show, node)
    result = graph.run()
    for show, node in kinds.items():
        shown = pictures(either_host, result.outputs[node.id]["images"])
        saved = either_host.saved(show)["image"]
        assert saved.shape[-1] == 3 and saved.min() >= 0 and saved.max() <= 1 and shown.std() > 4
        assert np.abs(shown / 255 - saved.numpy()).max() <= 1.01 / 255
        # anchors: one for each frame of the result, wide enough to read; the others: one for each made frame
        assert (len(shown) == 7 and shown.shape[2] >= 640) if show == "anchors" else shown.shape == (4, 64, 96, 3)
    assert not np.array_equal(either_host.saved("colour")["image"], either_host.saved("arrows")["image"])


KINDS = ("colour", "arrows", "occlusion", "anchors")


@pytest.mark.parametrize("side", api.WARP_SIDES)
def test_flow_warp_is_the_library_s(either_host, side):
    clip = moving(3)
    graph = Graph(either_host)
    images = graph.clip("warp", clip)
    flow = graph.add("FusionFFTFlow", images=images, rife_model=rife(graph))
    warped = graph.add("FusionFFTFlowWarp", images=images, flow=flow, side=side)
    graph.save("warp", warped, warped.slot(1))
    graph.save_flow("warp-flow", flow)
    graph.run()
    found, motion = either_host.saved("warp"), held(either_host.saved("warp-flow"))
    expected = torch.stack([frame.pixels for frame in api.warp(frames(clip, 1), motion, side=side, host=PLAIN)])
    assert torch.equal(found["image"], expected) and torch.equal(found["image"][::2], clip)
    share = found["mask"]
    assert share.shape == (5, 37, 50) and bool((share[::2] == 1).all())
    assert torch.equal(share[1], motion.mask[0][0, 0].sigmoid())


def test_flow_warp_moves_other_pictures_of_the_clip(host):
    """A matte that moves as the clip does."""
    clip, matte = moving(3, **BIG), moving(3, **BIG, channels=1)
    graph = Graph(host)
    flow = graph.add("FusionFFTFlow", images=graph.clip("moves", clip))
    graph.save("matte", graph.add("FusionFFTFlowWarp", images=graph.clip("matte", matte), flow=flow))
    graph.run()
    found = host.saved("matte")["image"]
    truth = moved(SPEED / 2, **BIG, channels=1)
    assert psnr(found[1, 8:-8, 12:-12].numpy(), truth[8:-8, 12:-12].numpy()) > 35
