"""Restoring with small hand-made restorers: what a step sees, order, shots, blends, tiles, going on."""

from dataclasses import dataclass, field
from fractions import Fraction as F

import pytest
import torch
import torch.nn.functional as functional

from comfy_fusionfft.contract import Frame, Span
from comfy_fusionfft.engine import restore, room_for
from comfy_fusionfft.errors import Cancelled, DeviceError, InputError
from comfy_fusionfft.host import PlainHost


@dataclass
class Larger:
    """Nearest enlargement of the mean of all it sees; remembers what that was."""

    span: Span = Span()
    scale: int = 2
    bytes_per_pixel: int = 100
    calls: list = field(default_factory=list)

    def __call__(self, window):
        self.calls.append(([int(p) for p in window.positions], [int(p) for p in window.times]))
        mean = torch.stack(window.images).mean(0)
        made = [mean * 0.5 + window.images[window.positions.index(time)] * 0.5 for time in window.times]
        return functional.interpolate(torch.cat(made), scale_factor=self.scale)

    def working_bytes(self, height, width):
        return self.bytes_per_pixel * height * width


class Clip(list):
    """Frames that can be read from anywhere."""

    def frames(self, start=0):
        return iter(self[start:])


def clip(count, height=6, width=5, channels=3, dtype=torch.float32):
    generator = torch.Generator().manual_seed(1)
    frames = (torch.rand(height, width, channels, generator=generator) for _ in range(count))
    scaled = (f if dtype == torch.float32 else f.mul(255).to(dtype) for f in frames)
    return Clip(Frame(pixels, F(i, 10)) for i, pixels in enumerate(scaled))


def cpu(**options):
    return PlainHost("cpu", "float32", **options)


def test_every_frame_comes_out_once_larger_at_its_own_time():
    source = clip(4)
    out = list(restore(source, Larger(), cpu()))
    assert [f.seconds for f in out] == [f.seconds for f in source]
    assert [f.position for f in out] == [0, 1, 2, 3]
    assert not any(f.original for f in out)
    for made, frame in zip(out, source, strict=True):
        assert torch.equal(made.pixels, frame.pixels.repeat_interleave(2, 0).repeat_interleave(2, 1))


@pytest.mark.parametrize(("channels", "dtype"), [(1, torch.uint8), (3, torch.uint16), (4, torch.float32)])
def test_channels_and_type_are_the_clips(channels, dtype):
    (made,) = restore(clip(1, channels=channels, dtype=dtype), Larger(), cpu())
    assert made.pixels.shape == (12, 10, channels)
    assert made.pixels.dtype == dtype


@pytest.mark.parametrize(
    ("ends", "first", "last"),
    [
        ("replicate", [0, 0, 0, 1, 2], [2, 3, 4, 4, 4]),
        ("reflect", [2, 1, 0, 1, 2], [2, 3, 4, 3, 2]),
        ("none", [0, 1, 2], [2, 3, 4]),
    ],
)
def test_what_a_step_sees_at_the_ends(ends, first, last):
    model = Larger(Span(1, 2, ends=ends))
    list(restore(clip(5), model, cpu()))
    assert [made for _, made in model.calls] == [[0], [1], [2], [3], [4]]
    assert model.calls[0][0] == first
    assert model.calls[2][0] == [0, 1, 2, 3, 4]
    assert model.calls[4][0] == last


def test_a_reflection_goes_back_and_forth_in_a_short_shot():
    model = Larger(Span(1, 4, ends="reflect"))
    list(restore(clip(2), model, cpu()))
    assert model.calls[0][0] == [0, 1, 0, 1, 0, 1, 0, 1, 0]
    model = Larger(Span(1, 1, ends="reflect"))
    list(restore(clip(1), model, cpu()))
    assert model.calls[0][0] == [0, 0, 0]


def test_nothing_is_looked_up_across_a_cut():
    model = Larger(Span(3, 1, ends="replicate"))
    out = list(restore(clip(7), model, cpu(), cuts=(4, 99)))
    assert len(out) == 7
    assert model.calls == [
        ([0, 0, 1, 2, 3], [0, 1, 2]),
        ([2, 3, 3], [3]),
        ([4, 4, 5, 6, 6], [4, 5, 6]),
    ]


def test_steps_that_overlap_are_mixed_from_one_to_the_other():
    model = Larger(Span(4, 0, blend=1))
    source = clip(8)
    out = [f.pixels for f in restore(source, model, cpu())]
    assert [made for _, made in model.calls] == [[0, 1, 2, 3], [3, 4, 5, 6], [6, 7]]
    alone = [
        [f.pixels for f in restore(Clip(source[a:b]), Larger(Span(4)), cpu())] for a, b in ((0, 4), (3, 7), (6, 8))
    ]
    assert torch.allclose(out[2], alone[0][2])
    assert torch.allclose(out[3], (alone[0][3] + alone[1][0]) / 2, atol=1e-6)
    assert torch.allclose(out[6], (alone[1][3] + alone[2][0]) / 2, atol=1e-6)
    assert torch.allclose(out[7], alone[2][1])


@pytest.mark.parametrize("span", [Span(1, 1, ends="reflect"), Span(5, 2, blend=2), Span(4, 1, ends="replicate")])
@pytest.mark.parametrize("cuts", [(), (7, 9)])
def test_going_on_anywhere_makes_the_same_frames(span, cuts):
    source = clip(16)
    whole = [f.pixels for f in restore(source, Larger(span), cpu(), cuts=cuts)]
    assert len(whole) == 16
    for done in range(17):
        rest = list(restore(source, Larger(span), cpu(), cuts=cuts, done=done))
        assert [f.position for f in rest] == list(range(done, 16))
        assert all(torch.equal(f.pixels, w) for f, w in zip(rest, whole[done:], strict=True)), done


def test_an_iterator_will_do_and_an_empty_clip_is_an_error():
    assert len(list(restore(iter(clip(3)), Larger(), cpu()))) == 3
    with pytest.raises(InputError, match="the clip has no frames"):
        list(restore([], Larger(), cpu()))
    with pytest.raises(InputError, match="frame 1 is 7×6"):
        list(restore([clip(1)[0], clip(1, width=7)[0]], Larger(Span(1, 1)), cpu()))


def test_frames_held_do_not_grow_with_the_clip():
    alive, most = set(), 0

    class Counted(torch.Tensor):
        def __del__(self):
            alive.discard(id(self))

    def frames():
        nonlocal most
        for i in range(60):
            pixels = torch.rand(4, 4, 3).as_subclass(Counted)
            alive.add(id(pixels))
            most = max(most, len(alive))
            yield Frame(pixels, F(i))
            del pixels

    for made in restore(frames(), Larger(Span(4, 2, blend=1)), cpu()):
        del made
    assert 8 <= most <= 14


def test_tiles_agree_with_whole_pictures_where_the_restorer_is_local():
    source = clip(2, 200, 300)
    whole = [f.pixels for f in restore(source, Larger(), cpu())]
    tiled = [f.pixels for f in restore(source, Larger(), cpu(), tile=128)]
    assert all(torch.allclose(a, b, atol=1e-6) for a, b in zip(whole, tiled, strict=True))


def test_out_of_memory_leads_to_tiles():
    class Large(Larger):
        def __call__(self, window):
            if window.images[0].shape[-1] > 150:
                raise RuntimeError("DefaultCPUAllocator: not enough memory")
            return super().__call__(window)

    source = clip(1, 200, 300)
    (made,) = restore(source, Large(), cpu())
    (whole,) = restore(source, Larger(), cpu())
    assert torch.allclose(made.pixels, whole.pixels, atol=1e-6)


def test_cancelling_stops():
    host = cpu()
    frames = restore(clip(5), Larger(), host)
    next(frames)
    host.cancel()
    with pytest.raises(Cancelled):
        list(frames)


def with_free(free):
    host = cpu()
    host.free_bytes = lambda: free
    return host


def test_room_is_found_before_anything_runs():
    restorer = Larger(bytes_per_pixel=1000)
    assert room_for(restorer, with_free(None), 1000, 1000).tile is None
    assert room_for(restorer, with_free(2 * 10**9), 1000, 1000).tile is None
    room = room_for(restorer, with_free(4 * 10**8), 1000, 1000)
    assert room.tile == 500
    assert room.needed <= 0.9 * room.free
    assert str(room) == "tiles of 500 px that overlap by 64, about 0.3 GB of 0.4 GB free"
    assert room_for(restorer, with_free(10), 1000, 1000, "none").tile is None
    assert room_for(restorer, with_free(10), 1000, 1000, 256).tile == 256
    assert room_for(restorer, with_free(10), 200, 200, 256).tile is None
    with pytest.raises(InputError, match="tiles of 64 px: use 128 or more"):
        room_for(restorer, with_free(None), 1000, 1000, 64)
    with pytest.raises(DeviceError, match="needs about 0.1 GB even in the smallest tiles"):
        room_for(restorer, with_free(10**7), 1000, 1000)


def test_a_restorer_that_can_do_with_less_is_asked_first():
    class Shrinking(Larger):
        def shrink(self):
            self.bytes_per_pixel //= 4
            return True

    restorer = Shrinking(bytes_per_pixel=1000)
    room = room_for(restorer, with_free(4 * 10**8), 1000, 1000)
    assert (room.tile, restorer.bytes_per_pixel) == (None, 250)
