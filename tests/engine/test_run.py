"""The engine with small hand-made models: order, exactness, memory, cancelling, recovery."""

import gc
import sys
import weakref
from dataclasses import dataclass, field, replace
from fractions import Fraction as F

import pytest
import torch

from comfy_fusionfft.contract import Frame, Reach
from comfy_fusionfft.engine import Manner, run
from comfy_fusionfft.engine.promises import kept
from comfy_fusionfft.engine.run import _promised
from comfy_fusionfft.engine.transfer import Direct
from comfy_fusionfft.errors import Cancelled, DeviceError, InputError, TimelineError
from comfy_fusionfft.host import PlainHost
from comfy_fusionfft.timeline import At, Multiply, Part, Rate

ENGINE = sys.modules[run.__module__]


@dataclass
class Mixer:
    """Linear mix of the two neighbours; remembers how it was called."""

    reach: Reach = Reach()
    calls: list = field(default_factory=list)

    def __call__(self, window):
        self.calls.append((window.positions, window.times, tuple(window.images[0].shape)))
        left = max(i for i, p in enumerate(window.positions) if p < window.times[0])
        start, end = window.positions[left], window.positions[left + 1]
        shares = [float((t - start) / (end - start)) for t in window.times]
        return torch.cat([torch.lerp(window.images[left], window.images[left + 1], s) for s in shares])


def clip(count, height=6, width=5, channels=3, dtype=torch.uint8):
    generator = torch.Generator().manual_seed(1)
    for i in range(count):
        noise = torch.rand(height, width, channels, generator=generator)
        pixels = (noise * 255).to(dtype) if dtype == torch.uint8 else noise.to(dtype)
        yield Frame(pixels, F(i, 10))


def cpu(**options):
    return PlainHost("cpu", "float32", **options)


def test_originals_pass_untouched_and_made_frames_lie_between():
    source = list(clip(4))
    out = list(run(iter(source), Mixer(), Multiply(3), cpu()))
    assert [f.seconds for f in out] == [F(k, 30) for k in range(10)]
    assert [f.original for f in out] == [k % 3 == 0 for k in range(10)]
    for i, frame in enumerate(source):
        assert out[3 * i].pixels is frame.pixels
    want = (source[0].pixels.float() * 2 / 3 + source[1].pixels.float() / 3).round()
    assert (out[1].pixels.float() - want).abs().max() <= 1
    assert out[1].pixels.dtype == torch.uint8


def test_one_frame_and_no_frame():
    assert len(list(run(clip(1), Mixer(), Multiply(4), cpu()))) == 1
    with pytest.raises(InputError, match="the clip has no frames"):
        list(run([], Mixer(), Multiply(2), cpu()))


def test_rate_emits_originals_only_where_they_fall():
    out = list(run(clip(4), Mixer(), Rate(F(15)), cpu()))
    assert [f.seconds for f in out] == [F(k, 15) for k in range(5)]
    assert [f.original for f in out] == [True, False, True, False, False][: len(out)] or out[3].original


def test_times_make_only_what_was_asked():
    model = Mixer()
    out = list(run(clip(5), model, At((F(1, 2), F(10, 3))), cpu()))
    assert len(out) == 2
    assert [call[1] for call in model.calls] == [(F(1, 2),), (F(10, 3),)]


def test_middle_only_models_emit_in_time_order():
    out = list(run(clip(3), Mixer(Reach(times="middle")), Multiply(4), cpu()))
    assert [f.seconds for f in out] == [F(k, 40) for k in range(9)]
    direct = list(run(clip(3), Mixer(), Multiply(4), cpu()))
    for a, b in zip(out, direct, strict=True):
        assert (a.pixels.int() - b.pixels.int()).abs().max() <= 1
    with pytest.raises(TimelineError, match="makes only middles"):
        list(run(clip(3), Mixer(Reach(times="middle")), Multiply(3), cpu()))


def test_peeling_emits_in_time_order():
    out = list(run(clip(2), Mixer(Reach(peel=2)), Multiply(7), cpu()))
    assert [f.seconds for f in out] == [F(k, 70) for k in range(8)]


def test_windows_of_multi_frame_models_stop_at_the_ends_of_the_clip():
    model = Mixer(Reach(before=2, after=3))
    list(run(clip(5), model, Multiply(2), cpu()))
    assert [tuple(map(int, c[0])) for c in model.calls] == [(0, 1, 2, 3), (0, 1, 2, 3, 4), (1, 2, 3, 4), (2, 3, 4)]


@pytest.mark.parametrize("size", [(1, 1), (1, 9), (3, 2)])
def test_tiny_sizes(size):
    out = list(run(clip(2, *size), Mixer(), Multiply(2), cpu()))
    assert out[1].pixels.shape == (*size, 3)


@pytest.mark.parametrize("dtype", [torch.float16, torch.float32, torch.uint8])
@pytest.mark.parametrize("channels", [1, 3, 4])
def test_made_frames_have_the_source_dtype_and_channels(dtype, channels):
    out = list(run(clip(2, channels=channels, dtype=dtype), Mixer(), Multiply(2), cpu()))
    assert out[1].pixels.dtype == dtype and out[1].pixels.shape[2] == channels


def test_memory_does_not_grow_with_the_clip():
    """At any moment only the frames of one window (plus the one just emitted) are alive."""
    alive = weakref.WeakSet()

    def tracked():
        for frame in clip(40):
            alive.add(frame.pixels)
            yield frame
            del frame

    most = 0
    for number, _ in enumerate(run(tracked(), Mixer(Reach(2, 2)), Multiply(2), cpu())):
        if number % 16 == 15:
            gc.collect()
            most = max(most, len(alive))
    assert most <= 6


def test_mixed_sizes_name_the_frame():
    frames = [*clip(2), *clip(1, width=8)]
    with pytest.raises(InputError, match=r"frame 2 is 8×6 .* but the clip began with 5×6 .* resize or split"):
        list(run(frames, Mixer(), Multiply(2), cpu()))


def test_nan_is_refused():
    frames = [Frame(torch.full((4, 4, 3), float("nan")), F(i)) for i in range(2)]
    with pytest.raises(InputError, match="NaN or infinite"):
        list(run(frames, Mixer(), Multiply(2), cpu()))


def test_cancel_stops_between_steps_and_keeps_what_was_made():
    host = cpu()
    out = []
    with pytest.raises(Cancelled):
        for frame in run(clip(10), Mixer(), Multiply(2), host):
            out.append(frame)
            if len(out) == 5:
                host.cancel()
    assert 5 <= len(out) <= 6


def test_progress_counts_output_frames():
    seen = []
    list(run(clip(3), Mixer(), Multiply(2), cpu(on_progress=lambda d, t: seen.append((d, t))), total=5))
    assert seen == [(k, 5) for k in range(1, 6)]


@dataclass
class Starved(Mixer):
    """Runs out of memory above ``room`` pixels per call."""

    room: int = 0

    def __call__(self, window):
        pixels = len(window.times) * window.images[0].shape[-1] * window.images[0].shape[-2]
        if pixels > self.room:
            self.calls.append("oom")
            raise RuntimeError("CUDA out of memory. Tried to allocate 2.00 GiB")
        return super().__call__(window)


def test_out_of_memory_halves_the_batch_and_it_stays_halved():
    model = Starved(room=4 * 30)
    out = list(run(clip(4), model, Multiply(8), cpu()))
    assert model.calls.count("oom") == 1
    assert [len(c[1]) for c in model.calls if c != "oom"] == [3, 3, 1] * 3
    want = list(run(clip(4), Mixer(), Multiply(8), cpu()))
    assert all(torch.equal(a.pixels, b.pixels) for a, b in zip(out, want, strict=True))


def test_out_of_memory_for_one_picture_tiles_it():
    model = Starved(room=300 * 300)
    out = list(run(clip(2, 400, 500), model, Multiply(2), cpu()))
    want = list(run(clip(2, 400, 500), Mixer(), Multiply(2), cpu()))
    assert model.calls.count("oom") == 1
    assert (out[1].pixels.int() - want[1].pixels.int()).abs().max() <= 1


def test_out_of_memory_below_the_smallest_tile_says_what_to_do():
    with pytest.raises(DeviceError, match=r"out of memory on cpu for a 200×160 picture .* close other programs"):
        list(run(clip(2, 160, 200), Starved(room=10), Multiply(2), cpu()))


def test_other_errors_are_not_taken_for_memory():
    class Broken(Mixer):
        def __call__(self, window):
            raise RuntimeError("shape mismatch")

    with pytest.raises(RuntimeError, match="shape mismatch"):
        list(run(clip(2), Broken(), Multiply(2), cpu()))


def test_a_cut_is_held_and_nothing_looks_across_it():
    model = Mixer(Reach(before=2, after=2))
    source = list(clip(6))
    out = list(run(iter(source), model, Multiply(4), cpu(), manner=Manner(cuts={3})))
    assert len(out) == 21 and [f.seconds for f in out] == [F(k, 40) for k in range(21)]
    assert [tuple(map(int, c[0])) for c in model.calls] == [(0, 1, 2), (0, 1, 2), (3, 4, 5), (3, 4, 5)]
    held = out[8:13]
    assert all(f.pixels is source[2].pixels for f in held[:2]) and all(f.pixels is source[3].pixels for f in held[2:])
    assert [f.original for f in held] == [True, False, False, False, True]


def test_a_cut_may_be_skipped_so_that_its_left_frame_stays():
    manner = Manner(cuts={3}, at_cut="skip")
    out = list(run(clip(6), Mixer(), Multiply(4), cpu(), manner=manner))
    assert [f.position for f in out] == [F(k, 4) for k in range(21) if not 8 < k < 12]


@pytest.mark.parametrize("timing", [Multiply(2.5), Rate(F(23))])
@pytest.mark.parametrize("start", [0, 1, 5, 9])
def test_a_part_is_what_it_is_in_the_whole(timing, start):
    """A run that begins in the middle, with the frames its model looks back on, goes on as if it had never stopped."""
    reach, source, manner = Reach(before=3, after=3), list(clip(10)), Manner(cuts={4})
    whole = list(run(iter(source), Mixer(reach), timing, cpu(), manner=manner))
    first = max(0, start - 2)
    part = Part(first, start, began=source[0].seconds)
    rest = list(run(iter(source[first:]), Mixer(reach), timing, cpu(), manner=manner, part=part))
    want = [f for f in whole if f.position >= start]
    for a, b in zip(rest, want, strict=True):
        assert (a.position, a.seconds, a.original) == (b.position, b.seconds, b.original)
        assert torch.equal(a.pixels, b.pixels)


def test_a_round_looks_beyond_both_ends_and_stops_before_its_first_frame_comes_again():
    model = Mixer(Reach(before=2, after=2))
    source = [replace(frame, seconds=F(i - 1, 10)) for i, frame in enumerate(clip(8))]
    out = list(run(iter(source), model, Multiply(2), cpu(), part=Part(first=-1, start=0, stop=5)))
    assert [f.position for f in out] == [F(k, 2) for k in range(10)]
    assert model.calls[0][0] == (-1, 0, 1, 2) and model.calls[-1][0] == (3, 4, 5, 6)


class Unsure(Mixer):
    """Puts out maps: nothing is hidden, and confidence is the instant's share of its interval."""

    def __call__(self, window):
        made = super().__call__(window)
        share = torch.tensor([float(t % 1) for t in window.times])[:, None, None, None].expand(-1, 1, *made.shape[2:])
        return torch.cat((made, torch.zeros_like(share), share), dim=1)


@pytest.mark.parametrize("channels", [1, 3, 4])
def test_maps_come_with_made_frames_and_what_is_hopeless_is_held(channels, monkeypatch):
    monkeypatch.setattr(ENGINE, "predicted_psnr", lambda maps: 40 * float(maps[..., 1].mean()))
    source = list(clip(2, channels=channels))
    out = list(run(iter(source), Unsure(), Multiply(4), cpu(), manner=Manner(maps=True)))
    assert [f.confidence for f in out] == [None, 10, 20, 30, None] and out[1].maps.shape == (6, 5, 2)
    assert out[2].pixels.shape == (6, 5, channels) and out[0].maps is None
    held = list(run(iter(source), Unsure(), Multiply(4), cpu(), manner=Manner(hold_below=25)))
    assert held[1].pixels is source[0].pixels and held[2].pixels is source[1].pixels and not held[1].original
    assert held[3].pixels is not source[1].pixels and held[3].maps is None


class Ahead(Direct):
    """A device whose copies overlap with its computing; ``log`` tells when frames were asked for."""

    ahead = True

    def __init__(self, device):
        super().__init__(device)
        self.log = []

    def download(self, picture, like):
        self.log.append("made")
        pending = super().download(picture, like)
        return lambda: self.log.append("taken") or pending()


@pytest.fixture
def ahead(monkeypatch):
    transfer = Ahead(torch.device("cpu"))
    monkeypatch.setattr(ENGINE, "transfer_for", lambda device: transfer)
    return transfer


@pytest.mark.parametrize("reach", [Reach(), Reach(times="middle"), Reach(peel=2), Reach(before=2, after=3)])
@pytest.mark.parametrize("count", [1, 2, 5])
def test_ahead_gives_the_same_frames(reach, count, monkeypatch):
    def frames():
        cuts = {3} if count > 3 else ()
        return list(run(clip(count), Mixer(reach), Multiply(4), cpu(), manner=Manner(cuts=cuts)))

    want = frames()
    monkeypatch.setattr(ENGINE, "transfer_for", Ahead)
    for a, b in zip(frames(), want, strict=True):
        assert (a.seconds, a.original) == (b.seconds, b.original) and torch.equal(a.pixels, b.pixels)


def test_ahead_a_frame_is_taken_once_the_next_step_has_begun(ahead):
    list(run(clip(5), Mixer(), Multiply(2), cpu()))
    assert ahead.log == ["made", *["made", "taken"] * 3, "taken"]


def test_ahead_no_more_than_a_step_is_held():
    """Neither where every frame is made nor where none is."""
    for factor, most in ((1, 3), (2, 5)):
        read = []
        frames = (read.append(1) or frame for frame in clip(30))
        for number, _ in enumerate(_ahead_run(frames, factor)):
            assert len(read) * factor - number <= most


def _ahead_run(frames, factor):
    promised = _promised(frames, Mixer(), Multiply(factor), cpu(), Manner({3, 4}), Part(), Ahead(torch.device("cpu")))
    return kept(promised, ahead=True)


def test_ahead_what_was_made_before_a_stop_is_handed_out(ahead):
    def broken():
        yield from clip(4)
        raise InputError("the file ends here")

    out = []
    with pytest.raises(InputError, match="ends here"):
        for frame in run(broken(), Mixer(), Multiply(2), cpu()):
            out.append(frame)
    assert [f.seconds for f in out] == [F(k, 20) for k in range(6)]
    assert ahead.log.count("made") == ahead.log.count("taken") == 3


def test_the_pictures_of_a_step_are_gone_when_the_next_begins(monkeypatch):
    monkeypatch.setattr("comfy_fusionfft.engine.fit.BATCH_PIXELS", 30)
    memory = []

    class Watched(Mixer):
        def __call__(self, window):
            assert all(array() is None for array in memory)
            pictures = super().__call__(window).numpy().copy()
            memory.append(weakref.ref(pictures))  # a tensor made from it holds it for all of its views
            return torch.from_numpy(pictures)

    assert len(list(run(clip(4), Watched(), Multiply(3), cpu()))) == 10 and len(memory) == 6
