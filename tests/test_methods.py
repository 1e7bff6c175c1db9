"""Plain blend and recursive peeling on exactly known motion."""

import math
from fractions import Fraction as F

import pytest
import torch

from comfy_fusionfft import api
from comfy_fusionfft.contract import Flow, Frame
from comfy_fusionfft.engine import run
from comfy_fusionfft.errors import InputError, TimelineError
from comfy_fusionfft.host import PlainHost
from comfy_fusionfft.methods import Blend, RecursiveBlend
from comfy_fusionfft.timeline import Multiply


class Constant:
    """A flow source for a picture that moves right by ``step`` px per whole source interval."""

    modulus, padding = 1, "replicate"

    def __init__(self, step, mask=0.0):
        self.step, self.mask, self.calls, self.encoded = step, mask, 0, 0

    def features(self, image, position=None):
        self.encoded += 1
        return self.encoded

    def flow(self, left, right, left_features, right_features, times):
        assert left_features != right_features
        self.calls += len(times)
        # how far apart the two pictures are is read from the pictures themselves: their ramps differ
        span = float((left - right)[..., 16:48].mean()) * 100
        flow = torch.zeros(len(times), 4, *left.shape[-2:])
        flow[:, 0] = (-times * span)[:, None, None]
        flow[:, 2] = ((1 - times) * span)[:, None, None]
        return Flow(flow, torch.full((len(times), 1, *left.shape[-2:]), self.mask))


def ramp(shift):
    """A horizontal ramp of 1/100 per pixel, moved right by ``shift`` px."""
    x = torch.arange(64, dtype=torch.float32) - shift
    return (0.3 + x / 100).expand(8, 64).unsqueeze(2).repeat(1, 1, 3).clamp(0, 1)


def clip(step, count=3):
    return [Frame(ramp(step * i), F(i)) for i in range(count)]


def errors(out, step, n):
    return [float((f.pixels - ramp(step * k / n))[:, 16:48].abs().max()) for k, f in enumerate(out)]


def test_blend_moves_the_picture_exactly():
    out = list(run(clip(4.0), Blend(Constant(4.0)), Multiply(4), PlainHost("cpu", "float32")))
    assert max(errors(out, 4.0, 4)) < 1e-5


def test_mask_chooses_the_side():
    still = [Frame(torch.zeros(4, 4, 3), F(0)), Frame(torch.ones(4, 4, 3), F(1))]

    class Still(Constant):
        def flow(self, left, right, a, b, times):
            n = len(times)
            return Flow(torch.zeros(n, 4, 4, 4), torch.full((n, 1, 4, 4), self.mask))

    for logit, value in ((50.0, 0.0), (-50.0, 1.0), (math.log(3), 0.25)):
        out = list(run(still, Blend(Still(0, logit)), Multiply(2), PlainHost("cpu", "float32")))
        assert torch.allclose(out[1].pixels, torch.full((4, 4, 3), value), atol=1e-6)


def test_features_are_computed_once_per_frame():
    source = Constant(2.0)
    list(run(clip(2.0, 5), Blend(source), Multiply(3), PlainHost("cpu", "float32")))
    assert source.encoded == 5


def test_recursive_is_exact_on_linear_motion_with_and_without_history():
    """Under linear motion the rescaled flows of wider pairs agree, so history changes nothing."""
    for history in (1, 2, 3):
        out = list(run(clip(6.0), RecursiveBlend(Constant(6.0), history), Multiply(6), PlainHost("cpu", "float32")))
        assert max(errors(out, 6.0, 6)) < 1e-4, history


def test_recursive_call_counts():
    def calls(history, n):
        source = Constant(4.0)
        list(run(clip(4.0, 2), RecursiveBlend(source, history), Multiply(n), PlainHost("cpu", "float32")))
        return source.calls

    assert calls(1, 16) == 15  # parity: one call per made frame
    assert calls(99, 16) == 64  # every enclosing pair: floor((n+1)^2/4)
    assert calls(3, 16) == 2 * (1 + 2 + 3 * 5) + 3


def test_history_weights_fall_by_the_decay():
    """A source whose wider pairs disagree: the mean must weigh them by exp(-decay·age)."""

    class ByWidth(Constant):
        def flow(self, left, right, a, b, times):
            span = float((left - right)[..., 16:48].mean()) * 100  # 8 px for the source pair, less inside
            logit = 10.0 if span > 7.9 else 0.0
            motion = super().flow(left, right, a, b, times)
            return Flow(motion.flow, torch.full_like(motion.mask, logit))

    seen = []
    import comfy_fusionfft.methods as methods

    original = methods.blend
    try:
        methods.blend = lambda l, r, m: (seen.append(m.mask.flatten()[0].item()), original(l, r, m))[1]
        model = RecursiveBlend(ByWidth(8.0), history=2, decay=2.5)
        list(run(clip(8.0, 2), model, Multiply(4), PlainHost("cpu", "float32")))
    finally:
        methods.blend = original
    old = math.exp(-2.5) / (1 + math.exp(-2.5))
    assert math.isclose(seen[0], 10.0, rel_tol=1e-5)  # outermost: the source pair alone
    assert math.isclose(seen[1], 10.0 * old, rel_tol=1e-4)  # the middle: new pair 0, wide pair 10


class Overheard:
    """A model whose answers are kept; the engine is given the pictures alone."""

    def __init__(self, model):
        self.model, self.reach, self.answers = model, model.reach, []

    def __call__(self, window):
        self.answers.append(self.model(window))
        return self.answers[-1][:, :3]


def test_explaining_adds_two_planes_and_leaves_the_picture_as_it_is():
    for kind, settings in ((Blend, {}), (RecursiveBlend, {"history": 1}), (RecursiveBlend, {"history": 3})):
        heard = [Overheard(kind(Constant(6.0, 0.7), **settings, explain=explain)) for explain in (False, True)]
        for each in heard:
            list(run(clip(6.0), each, Multiply(6), PlainHost("cpu", "float32")))
        plain, told = (torch.cat(each.answers) for each in heard)
        assert plain.shape == (10, 3, 8, 64) and told.shape == (10, 5, 8, 64)
        assert torch.equal(told[:, :3], plain)
        occluded, sure = told[:, 3:].unbind(1)
        assert occluded.min() >= 0 and occluded.max() == 1  # at the sides, where frames end
        assert sure.min() > 0.5 and sure.max() <= 1


def test_confidence_falls_where_the_frames_do_not_fit():
    right = ramp(0)
    right[2:6, 24:40] = 0
    frames = [Frame(ramp(0), F(0)), Frame(right, F(1))]

    class Still(Constant):
        def flow(self, left, right, a, b, times):
            motion = super().flow(left, right, a, b, times)
            return motion._replace(flow=torch.zeros_like(motion.flow))

    model = Overheard(Blend(Still(0), explain=True))
    list(run(frames, model, Multiply(2), PlainHost("cpu", "float32")))
    sure = model.answers[0][0, 4]
    assert sure[3:5, 26:38].max() < sure[:, :12].min() - 0.2


def test_alpha_is_explained_by_the_colours():
    opaque = [Frame(torch.cat((f.pixels, torch.ones(8, 64, 1)), 2), f.seconds) for f in clip(4.0)]
    answers = []
    for frames in (clip(4.0), opaque):
        model = Overheard(Blend(Constant(4.0), explain=True))
        model_answers = model.answers
        list(run(frames, _channels(model, frames[0].pixels.shape[2]), Multiply(2), PlainHost("cpu", "float32")))
        answers.append(torch.cat(model_answers))
    assert answers[1].shape[1] == 6
    torch.testing.assert_close(answers[1][:, 4:], answers[0][:, 3:])


def _channels(model, count):
    """The engine is given as many channels as the frames have."""

    class Cut:
        reach = model.reach

        def __call__(self, window):
            model(window)
            return model.answers[-1][:, :count]

    return Cut()


def test_waveletvfi_needs_weights_and_no_flow(tmp_path):
    from safetensors.torch import save_file

    from comfy_fusionfft.families.waveletvfi import FAMILY, WaveletVFIConfig

    torch.manual_seed(0)
    save_file(FAMILY.build(WaveletVFIConfig()).state_dict(), tmp_path / "wavelet.safetensors")
    host = PlainHost("cpu", "float32")
    frames = [Frame(torch.rand(40, 50, 3), F(i)) for i in range(2)]
    settings = {"method": "waveletvfi", "flow": "no such flow is looked for", "host": host}
    with pytest.raises(InputError, match="waveletvfi has no weights of ours: `fusionfft weights list` says where"):
        api.interpolate(frames, **settings)
    settings["weights"] = tmp_path / "wavelet.safetensors"
    made = list(api.interpolate(frames, multi=4, threshold=0.01, maps=True, **settings))
    assert len(made) == 5 and made[2].maps.shape == (40, 50, 2) and torch.isfinite(made[1].pixels).all()
    with pytest.raises(TimelineError, match="makes only middles"):
        list(api.interpolate(frames, multi=3, **settings))
    assert not api.needs_flow("waveletvfi") and all(map(api.needs_flow, api.FLOW_METHODS))
