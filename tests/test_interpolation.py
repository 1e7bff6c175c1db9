"""A clip made ready: its frames are counted before they are made, and a run goes on from any of them unchanged."""

from dataclasses import dataclass, field
from fractions import Fraction as F
from itertools import pairwise

import numpy as np
import pytest
import torch

from comfy_fusionfft.contract import Frame, Reach
from comfy_fusionfft.errors import InputError
from comfy_fusionfft.host import PlainHost
from comfy_fusionfft.interpolation import prepare
from comfy_fusionfft.pace import Pace


@dataclass
class Mixer:
    """Linear mix of the two neighbours."""

    reach: Reach = field(default=Reach(before=3, after=3))

    def __call__(self, window):
        left = max(i for i, p in enumerate(window.positions) if p < window.times[0])
        start, end = window.positions[left], window.positions[left + 1]
        shares = [float((t - start) / (end - start)) for t in window.times]
        return torch.cat([torch.lerp(window.images[left], window.images[left + 1], s) for s in shares])


def texture(height=48, width=64, seed=0):
    rng = np.random.default_rng(seed)
    return np.kron(rng.integers(0, 255, (height // 4, width // 4, 3)), np.ones((4, 4, 1))).astype(np.uint8)


def clip(numbers=range(14), rate=16, seeds=(0,)):
    """A texture that moves 2 px a frame; ``numbers`` say which instant each frame shows, ``seeds`` which texture."""
    frames = []
    for i, number in enumerate(numbers):
        ground = texture(64, 128, seeds[i * len(seeds) // len(numbers)])
        pixels = ground[4:52, 2 * number : 2 * number + 64]
        frames.append(Frame(torch.from_numpy(pixels.copy()), 3 + F(i, rate)))
    return frames


def ready(frames, *, rate=16, model=None, **options):
    names = ("cuts", "at_cut", "dedupe", "hold_below", "maps")
    how = {name: options.pop(name) for name in names if name in options}
    return prepare(frames, Pace(**options), model or Mixer(), PlainHost("cpu", "float32"), rate=F(rate), **how)


KINDS = [
    {"multi": 2.5},
    {"fps": 23.976},
    {"speed": "0:1, 0.3:0.2, 0.6:2"},
    {"speed": "50%:0.5, 100%:1.5", "fps": 30},
    {"count": 29},
    {"count": 29, "loop": True},
    {"loop": True, "multi": 3},
    {"loop": True, "slow": 2},
    {"fps": 10, "shutter": 0.5, "samples": 5},
    {"cuts": {5, 6}, "multi": 3},
    {"cuts": "auto", "fps": 60},
]


@pytest.mark.parametrize("kind", KINDS, ids=str)
def test_it_goes_on_from_any_frame_as_if_it_had_never_stopped(kind):
    run = ready(clip(), **kind)
    whole = list(run.frames())
    if run.total is not None:
        assert len(whole) == run.total
    assert all(a.seconds < b.seconds for a, b in pairwise(whole))
    for done in {1, 2, len(whole) // 3, len(whole) // 2, len(whole) - 1, len(whole)}:
        rest = list(run.frames(after=whole[done - 1], done=done))
        assert [f.seconds for f in rest] == [f.seconds for f in whole[done:]]
        for a, b in zip(rest, whole[done:], strict=True):
            assert torch.equal(a.pixels, b.pixels) and (a.position, a.original) == (b.position, b.original)


def test_progress_counts_what_was_made_earlier():
    seen = []
    host = PlainHost("cpu", "float32", on_progress=lambda done, total: seen.append((done, total)))
    run = prepare(clip(), Pace(count=9), Mixer(), host, rate=F(16))
    whole = list(run.frames())
    seen.clear()
    list(run.frames(after=whole[5], done=6))
    assert seen[-1] == (9, 9) and seen[0] == (7, 9)


def test_a_round_has_no_seam():
    """Eight frames that come back to the first: every output step is alike, the one over the seam too."""
    turning = [Frame(torch.full((48, 64, 3), 100 + 10 * min(i, 8 - i), dtype=torch.uint8), F(i, 8)) for i in range(8)]
    made = list(ready(turning, rate=8, loop=True, multi=2, cuts=()).frames())
    levels = [int(f.pixels[0, 0, 0]) for f in made]
    assert len(levels) == 16 and levels[-1] == 105 and levels[0] == 100
    assert all(abs(a - b) == 5 for a, b in zip(levels, [*levels[1:], levels[0]], strict=True))


def test_cuts_are_found_and_held():
    frames = clip(range(16), seeds=(1, 2))
    made = list(ready(frames, cuts="auto", multi=2).frames())
    assert ready(frames, cuts="auto").manner.cuts == {8}
    assert torch.equal(made[15].pixels, frames[8].pixels) or torch.equal(made[15].pixels, frames[7].pixels)


def test_animation_on_twos_moves_evenly_once_its_repeats_are_left_out():
    frames = clip([2 * (i // 2) for i in range(24)], rate=24)
    run = ready(frames, rate=24, dedupe=True, multi=1, cuts=())
    made = list(run.frames())
    assert run.look.edit.kept in (12, 13) and [f.seconds for f in made] == [3 + F(k, 24) for k in range(len(made))]
    steps = [float((a.pixels.float() - b.pixels.float()).abs().mean()) for a, b in pairwise(made)]
    assert min(steps[2:-3]) > 0.3 * max(steps[2:-3])


def test_a_stream_that_can_be_read_once_says_what_to_do():
    with pytest.raises(InputError, match="can be read only once, and has to be looked through first"):
        ready(iter(clip()), cuts="auto")
    assert len(list(ready(iter(clip()), multi=2, cuts=()).frames())) == 27


@pytest.mark.parametrize("count", [1, 2])
@pytest.mark.parametrize("kind", KINDS[:4] + KINDS[6:8] + KINDS[10:], ids=str)
def test_one_and_two_frames(kind, count):
    run = ready(clip(range(count)), **kind)
    made = list(run.frames())
    assert len(made) == run.total or run.total is None
    assert torch.equal(made[0].pixels, clip()[0].pixels)
