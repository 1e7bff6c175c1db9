"""FusionFFT Retime in real hosts: how many frames at which rate and speed, what it finds, what it says."""

from fractions import Fraction

import pytest
import torch

from tests.nodes.graphs import Graph, dis, library, moved, moving, of

pytestmark = pytest.mark.usefixtures("one_thread")
RIFE = {"method": "rife"}
BIG = {"height": 64, "width": 96}


def retimed(host, clip, **inputs):
    """-> what the node put out: images, fps, timeline, and its report's lines."""
    graph = Graph(host)
    node = graph.add("FusionFFTRetime", images=graph.clip("retimed", clip), rife_model=dis(graph), **{**RIFE, **inputs})
    graph.save("images", node)
    graph.save_number("fps", node.slot(1))
    graph.save("timeline", node.slot(3))
    graph.add("PreviewAny", source=node.slot(2))
    result = graph.run()
    (text,) = [shown["text"][0] for shown in result.outputs.values() if "text" in shown]
    return host.saved("images")["image"], host.saved("fps")["value"].item(), host.saved("timeline")["image"], text


def test_as_it_comes_it_doubles_the_rate(either_host):
    clip = moving(5, **BIG)
    made, fps, timeline, report = retimed(either_host, clip)
    assert fps == 32 and torch.equal(made, library(clip, method="rife", flow="dis"))
    assert timeline.shape[0] == 1 and timeline.shape[2] == 1280 and timeline.std() > 0.02
    assert "5 frames, 96x64" in report and "no cuts" in report and "9 frames made, 32 a second" in report


@pytest.mark.parametrize(
    "inputs, count, rate",
    [
        (of("pace", "multiplier", multiplier=2.5), 11, 40),
        (of("pace", "frame rate", fps=23.976) | {"source_fps": 12.0}, 8, 24000 / 1001),
        (of("pace", "frame count", count=13), 13, 48),
        (of("pace", "frame count", count=13, at_fps=24.0), 13, 24),
        (of("pace", "multiplier", multiplier=1.0) | of("speed", "constant", factor=0.25), 17, 16),
        ({"loop": True}, 10, 32),
    ],
    ids=["2.5 times", "NTSC", "exactly 13", "13 at 24", "4 times slower", "loop"],
)
def test_how_many_frames_at_which_rate(either_host, inputs, count, rate):
    made, fps, _, report = retimed(either_host, moving(5, **BIG), **inputs)
    assert len(made) == count and fps == pytest.approx(rate, rel=1e-9)
    assert f"{count} frames made" in report


def test_a_loop_leads_back_to_its_beginning(host):
    """Seven pictures that move to and fro, so that the last is one step from the first."""
    clip = torch.stack([moved(3 * shift, **BIG) for shift in (0, 1, 2, 3, 3, 2, 1)])
    made, *_ = retimed(host, clip, loop=True)
    assert len(made) == 14
    truth = moved(1.5, **BIG)
    assert (made[13] - truth)[8:-8, 12:-12].abs().mean() < 0.02 < (made[12] - truth)[8:-8, 12:-12].abs().mean()


# ------------------------------------------------------------------------------------------------- speed


def ramp(points, interpolation="linear"):
    return {"points": [list(point) for point in points], "interpolation": interpolation}


def test_a_curve_slows_and_speeds_up(either_host):
    """From a quarter of real time to real time: early frames lie close together, late ones far apart."""
    curve = ramp([(0, 0.125), (0.5, 0.125), (0.5001, 0.5), (1, 0.5)])
    speed = of("speed", "curve", curve=curve, top_speed=2.0)
    made, fps, *_ = retimed(either_host, moving(9, **BIG), **of("pace", "multiplier", multiplier=1.0), **speed)
    assert fps == 16 and len(made) in (20, 21)  # 4 source frames at 1/4, 4 at 1
    steps = (made[1:] - made[:-1]).abs().mean((1, 2, 3))
    assert steps[-3:].mean() > 2.5 * steps[:12].mean()


@pytest.mark.parametrize("interpolation", ["linear", "monotone_cubic"])
def test_a_level_curve_is_a_constant_speed(either_host, interpolation):
    clip, pace = moving(5, **BIG), of("pace", "multiplier", multiplier=1.0)
    level = ramp([(0, 0.25), (0.3, 0.25), (1, 0.25)], interpolation)
    drawn, *_ = retimed(either_host, clip, **pace, **of("speed", "curve", curve=level, top_speed=2.0))
    constant, *_ = retimed(either_host, clip, **pace, **of("speed", "constant", factor=0.5))
    assert torch.equal(drawn, constant) and len(drawn) == 9


def test_keys_are_the_library_s(either_host):
    clip, keys = moving(7, **BIG), "0%:1, 50%:0.25, 100%:1"
    made, *_ = retimed(either_host, clip, **of("speed", "keys", keys=keys))
    assert torch.equal(made, library(clip, method="rife", flow="dis", multi=2, speed=keys, rate=16))


def test_motion_blur_is_the_mean_of_many_instants(host):
    clip = moving(4, **BIG)
    made, *_ = retimed(host, clip, shutter=0.5, **of("pace", "multiplier", multiplier=1.0))
    expected = library(clip, method="rife", flow="dis", multi=1, shutter=Fraction(1, 2), rate=16)
    assert torch.equal(made, expected) and not torch.equal(made, clip)


# --------------------------------------------------------------------------------------- cuts and repeats


def two_shots():
    """Two shots of four frames; the second is the first's negative, moving the other way."""
    return torch.cat([moving(4, **BIG), 1 - moving(4, **BIG).flip(0)])


@pytest.mark.parametrize("cuts", ["auto", "4"])
def test_nothing_is_blended_across_a_cut(either_host, cuts):
    clip = two_shots()
    made, _, _, report = retimed(either_host, clip, cuts=cuts)
    assert "1 cut, a new shot begins at frame 4" in report
    assert torch.equal(made[7], clip[3]) or torch.equal(made[7], clip[4])
    assert torch.equal(made[:7], retimed(either_host, clip[:4], cuts="none")[0])
    skipped, *_ = retimed(either_host, clip, cuts=cuts, at_cut="skip")
    assert len(skipped) == len(made) - 1 and torch.equal(skipped[7:], made[8:])


def test_repeats_are_left_out_and_motion_is_even(either_host):
    """Drawn on twos: every picture twice."""
    clip = moving(10, **BIG).repeat_interleave(2, dim=0)
    kept, _, _, report = retimed(either_host, clip, **of("pace", "multiplier", multiplier=1.0))
    assert torch.equal(kept, clip) and "none left out: dedupe is off" in report
    made, fps, _, report = retimed(either_host, clip, dedupe=True, **of("pace", "multiplier", multiplier=1.0))
    assert fps == 16 and len(made) == 20 and "on twos" in report and "9 left out, 11 frames kept" in report
    steps = (made[1:] - made[:-1]).abs().mean((1, 2, 3))[:-2]  # the last drawing stands for as long as it did
    assert steps.min() > 0.4 * steps.max()


# -------------------------------------------------------------------------------------------------- maps


def test_maps_say_where_a_frame_can_be_trusted(either_host):
    clip = moving(4, **BIG)
    graph = Graph(either_host)
    node = graph.add("FusionFFTRetime", images=graph.clip("maps", clip), rife_model=dis(graph), maps=True)
    graph.save("maps", node, node.slot(4))
    graph.save("sure", node, node.slot(5))
    graph.save("quality", node.slot(6))
    graph.add("PreviewAny", source=node.slot(2))
    result = graph.run()
    occlusion, sure = either_host.saved("maps")["mask"], either_host.saved("sure")["mask"]
    for mask in (occlusion, sure):
        assert mask.shape == (7, 64, 96) and mask.dtype == torch.float32 and mask.min() >= 0 and mask.max() <= 1
    assert not occlusion[::2].any() and bool((sure[::2] == 1).all())
    assert 0.3 < sure[1::2].mean() < 1
    drawing = either_host.saved("quality")["image"]
    assert drawing.ndim == 4 and len(drawing) == 1 and drawing.std() > 0.02
    (text,) = [shown["text"][0] for shown in result.outputs.values() if "text" in shown]
    assert "predicted quality" in text and text.count("real") == 4


def test_maps_that_are_off_say_so(either_host):
    graph = Graph(either_host)
    node = graph.add("FusionFFTRetime", images=graph.clip("off", moving(2)), rife_model=dis(graph), **RIFE)
    graph.save("mask", node, node.slot(4))
    assert "turn maps on in FusionFFT Retime: one of its maps is connected" in graph.fails()


def test_hopeless_frames_are_held(either_host):
    """Noise has no motion: below 60 dB nothing is believed."""
    clip = torch.rand(4, 64, 96, 3)
    made, *_, report = retimed(
        either_host, clip, hold_below=60.0, cuts="none", **of("pace", "multiplier", multiplier=3.0)
    )
    for picture in made:
        assert any(torch.equal(picture, real) for real in clip)
    assert "hold a real frame instead" in report


# -------------------------------------------------------------------------------------------- other inputs


def test_a_single_image_stays_what_it_is(either_host):
    clip = moving(1, **BIG)
    for inputs in ({}, of("pace", "frame rate", fps=60.0), {"dedupe": True, "maps": True}):
        made, *_, report = retimed(either_host, clip, **inputs)
        assert torch.equal(made, clip) and "1 frame made" in report


def test_alpha_is_premultiplied(either_host):
    """A red square on a transparent green ground: no green may bleed into it."""
    clip = torch.zeros(3, 64, 96, 4)
    clip[..., 1] = 1
    for index in range(3):
        clip[index, 20:44, 20 + 4 * index : 44 + 4 * index] = torch.tensor([1.0, 0, 0, 1])
    made, *_ = retimed(either_host, clip)
    assert made.shape == (5, 64, 96, 4)
    seen = made[1][made[1][..., 3] > 0.2]
    assert len(seen) > 400 and (seen[:, 1] * seen[:, 3]).max() < 0.1


def test_the_rate_may_come_from_a_video_s_info(either_host):
    graph = Graph(either_host)
    info = graph.add("FusionFFTTestVideoInfo", loaded_fps=12.0)
    node = graph.add("FusionFFTRetime", images=graph.clip("info", moving(2)), source_fps=info, **RIFE)
    graph.save_number("fps", node.slot(1))
    graph.run()
    assert either_host.saved("fps")["value"] == 24


@pytest.mark.parametrize(
    "inputs, said",
    [
        ({"cuts": "24; x"}, "cuts '24; x' are neither auto, none nor frame numbers such as 24, 130"),
        ({"cuts": "2, 9"}, "a cut at frame 9, the clip's last frame is 2: count frames from 0"),
        (
            of("pace", "frame count", count=9) | of("speed", "constant", factor=0.5),
            "count and speed exclude one another: give one of them",
        ),
        (of("speed", "keys", keys="50%=1"), "speed '50%=1' is neither a number such as 0.25 nor keys such as"),
    ],
    ids=["no numbers", "beyond the end", "count and speed", "no keys"],
)
def test_what_cannot_be_says_why(either_host, inputs, said):
    graph = Graph(either_host)
    node = graph.add(
        "FusionFFTRetime", images=graph.clip("wrong", moving(3)), rife_model=dis(graph), **{**RIFE, **inputs}
    )
    graph.save("unwanted", node)
    assert said in graph.fails()
