"""FTVSR as a whole: precision, memory, training, and the contract of a restorer."""

from fractions import Fraction

import pytest
import torch
import torch.nn.functional as F
from families.ftvsr_nets import TINY, clip, tiny_net

from comfy_fusionfft.contract import Frame
from comfy_fusionfft.engine import restore
from comfy_fusionfft.errors import InputError
from comfy_fusionfft.families.ftvsr import FAMILY, FTVSRConfig
from comfy_fusionfft.families.ftvsr.model import Restore
from comfy_fusionfft.families.ftvsr.net import FTVSR, resized
from comfy_fusionfft.families.ftvsr.shelf import Shelf
from comfy_fusionfft.host import PlainHost


@torch.inference_mode()
def test_the_same_numbers_in_strips_and_put_away(monkeypatch):
    net, frames = tiny_net(), clip()
    whole = list(net.restored(frames))
    monkeypatch.setattr("comfy_fusionfft.families.ftvsr.spynet.STRIP_BYTES", 1)
    monkeypatch.setattr("comfy_fusionfft.families.ftvsr.net.STRIP_PIXELS", 1)
    checks = []
    parts = list(net.restored(frames, Shelf(torch.device("cpu"), lambda: checks.append(None))))
    for part, picture in zip(parts, whole, strict=True):
        torch.testing.assert_close(part, picture, atol=5e-6, rtol=0)
    assert len(checks) == 4 * len(frames)


@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last])
@torch.inference_mode()
def test_a_row_is_one_piece_of_memory(layout):
    """So that it leaves no holes, and nothing of it is held by what is made of it."""
    row = Shelf().row(3)
    tensors = [torch.randn(2, 3, 5, 7).contiguous(memory_format=layout) for _ in range(3)]
    for number in (2, 0, 1):
        row[number] = tensors[number]
    for number, tensor in enumerate(tensors):
        assert row[number].equal(tensor) and row[number].stride() == tensor.stride()
    assert len({row[number].untyped_storage().data_ptr() for number in range(3)}) == 1


def test_a_run_can_be_ended_between_frames():
    def stop():
        raise InterruptedError("enough")

    with pytest.raises(InterruptedError, match="enough"):
        list(restore(as_frames(clip()), Restore(tiny_net(), check=stop), PlainHost("cpu", "float32")))


@torch.inference_mode()
def test_every_frame_helps_every_other_one():
    net, frames = tiny_net(), clip()
    plain = list(net.restored(frames))
    for changed in (0, 3):
        others = list(net.restored([f.flip(3) if i == changed else f for i, f in enumerate(frames)]))
        assert all((a - b).abs().max() > 1e-5 for a, b in zip(plain, others, strict=True))
    step = FTVSR(
        FTVSRConfig(**{name: getattr(TINY, name) for name in TINY.__dataclass_fields__} | {"keyframe_step": 1})
    )
    step.load_state_dict(net.state_dict())
    assert (list(step.eval().restored(frames))[3] - plain[3]).abs().max() > 1e-6


@torch.inference_mode()
def test_samples_do_not_influence_each_other():
    net, frames = tiny_net(), clip(3, batch=2)
    together = net(torch.stack(frames, 1))
    for i in range(2):
        alone = net(torch.stack([frame[i : i + 1] for frame in frames], 1))
        torch.testing.assert_close(together[i : i + 1], alone, atol=5e-6, rtol=0)


def test_training_reaches_every_weight():
    net = tiny_net().train()
    net(torch.stack(clip(3, (16, 32), batch=2), 1)).square().mean().backward()
    untouched = [name for name, p in net.named_parameters() if p.grad is None or not p.grad.any()]
    assert untouched == []
    assert all(torch.isfinite(p.grad).all() for p in net.parameters())


@torch.inference_mode()
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_half_precision_keeps_exact_what_all_builds_on(dtype):
    exact = torch.stack(list(tiny_net().restored(clip())))
    net = tiny_net().to(dtype=dtype, memory_format=torch.channels_last)
    assert net.FTT.dct.dct_conv.weight.dtype == net.FTT.rdct.reverse_dct_conv.weight.dtype == torch.float32
    assert net.FTT.resblocks.main[0].weight.dtype == net.FTT.ftta.linear1.weight.dtype == dtype
    made = torch.stack(list(net.restored(clip())))
    assert made.dtype == torch.float32
    assert (made - exact).abs().mean() < 4e-3


@torch.inference_mode()
def test_off_the_cpu():
    """Another device's branches, as far as one without numbers shows them."""
    net = tiny_net().to("meta", torch.float16, memory_format=torch.channels_last)
    made = list(net.restored([torch.empty(1, 3, 32, 48, device="meta") for _ in range(3)]))
    assert [(tuple(each.shape), each.device.type, each.dtype) for each in made] == [
        ((1, 3, 128, 192), "meta", torch.float32)
    ] * 3
    row = Shelf(torch.device("meta")).row(2)
    with torch.inference_mode():
        row[1] = torch.ones(2, 3)
    assert row[1].is_meta
    model = Restore(net)
    needed = model.working_bytes(180, 320)
    assert model.shrink() and not model.shrink()
    assert model.working_bytes(180, 320) < 0.7 * needed
    assert not Restore(tiny_net()).shrink()


# -- as a restorer --------------------------------------------------------------------------------------


def as_frames(pictures: list[torch.Tensor], alpha: torch.Tensor | None = None) -> list[Frame]:
    cat = [
        picture if alpha is None else torch.cat((picture, alpha.expand_as(picture[:, :1])), 1) for picture in pictures
    ]
    return [Frame(each[0].permute(1, 2, 0).contiguous(), Fraction(i, 25)) for i, each in enumerate(cat)]


def made(frames: list[Frame], model: Restore, **settings) -> list[Frame]:
    return list(restore(frames, model, PlainHost("cpu", "float32"), tile="none", **settings))


def pixels(frames: list[Frame]) -> torch.Tensor:
    return torch.stack([frame.pixels for frame in frames])


@pytest.mark.parametrize("size", [(16, 16), (9, 5), (1, 1), (33, 47)])
def test_pictures_of_any_size(size):
    frames = made(as_frames(clip(2, size)), FAMILY.restorer(tiny_net()))
    assert [tuple(frame.pixels.shape) for frame in frames] == [(4 * size[0], 4 * size[1], 3)] * 2
    assert torch.isfinite(pixels(frames)).all()


def test_one_frame_alone():
    assert made(as_frames(clip(1)), Restore(tiny_net()))[0].pixels.shape == (64, 128, 3)


def test_both_paddings():
    net = tiny_net()
    same = [pixels(made(as_frames(clip(2)), Restore(net, padding=how))) for how in ("replicate", "reference")]
    assert torch.equal(*same)
    odd = as_frames(clip(2, (18, 34)))
    with torch.inference_mode():
        wanted = net(torch.stack(clip(2, (18, 34)), 1))[0].permute(0, 2, 3, 1).clamp(0, 1)
        grown = [F.pad(picture, (0, 14, 0, 14), mode="replicate") for picture in clip(2, (18, 34))]
        helped = net(torch.stack(grown, 1))[0].permute(0, 2, 3, 1)[:, :72, :136].clamp(0, 1)
    torch.testing.assert_close(pixels(made(odd, Restore(net, padding="reference"))), wanted)
    torch.testing.assert_close(pixels(made(odd, Restore(net))), helped)
    assert not torch.allclose(wanted, helped, atol=1e-4)
    with pytest.raises(InputError, match="a 20×12 picture is too small for FTVSR"):
        made(as_frames(clip(2, (12, 20))), Restore(net, padding="reference"))


def test_chunks_overlap():
    frames, net = as_frames(clip(6, (16, 16))), tiny_net()
    chunks = Restore(net, chunk=3, context=1, blend=1)
    whole, parts = made(frames, Restore(net)), made(frames, chunks)
    assert [frame.position for frame in parts] == [frame.position for frame in whole] == list(map(Fraction, range(6)))
    assert [frame.seconds for frame in parts] == [frame.seconds for frame in frames]
    assert 0 < (pixels(parts) - pixels(whole)).abs().max() < 0.1
    # What is seen is all that counts: frames 0 to 3 make the first ones, 1 to 5 the next.
    first, second = (pixels(made(some, Restore(net))) for some in (frames[:4], frames[1:6]))
    torch.testing.assert_close(pixels(parts[:4]), torch.stack((*first[:2], first[2].lerp(second[1], 0.5), second[2])))
    torch.testing.assert_close(pixels(made(frames, chunks, done=4)), pixels(parts[4:]))


def test_a_cut_parts_clips():
    frames, net = as_frames(clip(5, (16, 16))), tiny_net()
    apart = [pixels(made(part, Restore(net))) for part in (frames[:2], frames[2:])]
    torch.testing.assert_close(pixels(made(frames, Restore(net), cuts=[2])), torch.cat(apart))


def test_alpha_is_enlarged_beside():
    soft = torch.linspace(0, 1, 32).view(1, 1, 1, 32)
    frames = as_frames([picture * soft for picture in clip(2, (16, 32))], soft)
    net = tiny_net()
    both = pixels(made(frames, Restore(net)))
    assert both.shape == (2, 64, 128, 4)
    torch.testing.assert_close(both[0, ..., 3], resized(soft.expand(1, 1, 16, 32))[0, 0])
    opaque = pixels(made(as_frames(clip(2, (16, 32)), torch.ones(1, 1, 1, 1)), Restore(net)))
    torch.testing.assert_close(opaque[..., 3], torch.ones(2, 64, 128))
    torch.testing.assert_close(opaque[..., :3], pixels(made(as_frames(clip(2, (16, 32))), Restore(net))))


def test_highlights_stay_within_those_of_the_frame():
    bright = [picture * 4 for picture in clip(2, (16, 16))]
    made_ = pixels(made(as_frames(bright), Restore(tiny_net())))
    assert 1 < made_.max() <= max(picture.max() for picture in bright)
    assert made_.min() >= 0


def test_what_it_says_it_takes_grows_with_what_it_holds():
    few, many = (Restore(tiny_net(), chunk=chunk) for chunk in (8, 40))
    assert few.working_bytes(64, 64) < many.working_bytes(64, 64) < many.working_bytes(128, 128)
    assert few.working_bytes(50, 50) == few.working_bytes(64, 64)
    with torch.device("meta"):
        published = Restore(FTVSR(FTVSRConfig(keyframe_step=1)))
    assert 3e9 < published.working_bytes(180, 320) < 11e9


@pytest.mark.parametrize(("settings", "told"), [
    ({"chunk": 0}, "chunks of 0 frames"),
    ({"context": -1}, "a context of -1"),
    ({"chunk": 4, "blend": 3}, "3 blended: use 1 or more, 0 or more, and at most half a chunk; 24, 3 and 2"),
    ({"padding": "zeros"}, "padding 'zeros' is not known: use replicate, reference"),
])  # fmt: skip
def test_settings_are_checked(settings, told):
    with pytest.raises(InputError, match=told):
        Restore(tiny_net(), **settings)
