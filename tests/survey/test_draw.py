import dataclasses
from fractions import Fraction

import numpy as np
import pytest
import torch
from survey.clips import of
from train.scenes import pan

from comfy_fusionfft.drawing import CHOSEN
from comfy_fusionfft.errors import InputError
from comfy_fusionfft.survey import draw_timeline, find_repeats, make_edit, thumbnail_frames
from comfy_fusionfft.survey.draw import REPEATED, SURE
from comfy_fusionfft.survey.times import Times

SIZE = (90, 160)


@pytest.fixture(scope="module")
def clip():
    pictures = [*pan(20, *SIZE, 4, 1), *(p for p in pan(20, *SIZE, 4, 2) for _ in range(2))]
    seen = of(pictures)
    edit = make_edit(seen, dedupe=True)
    return pictures, seen, edit, find_repeats(seen, (20,))


def columns(picture, colour):
    """Which columns show ``colour``."""
    return np.flatnonzero(((picture - torch.tensor(colour)).abs().amax(-1) < 0.03).any(0).numpy())


def longer(seen, times):
    arrays = {
        field.name: np.tile(getattr(seen, field.name), times)
        for field in dataclasses.fields(seen)
        if isinstance(getattr(seen, field.name), np.ndarray)
    }
    return dataclasses.replace(seen, **arrays, seconds=Times([Fraction(n, 24) for n in range(len(seen) * times)]))


def test_a_cut_is_marked_where_it_is(clip):
    _, seen, edit, _ = clip
    drawn = draw_timeline(seen, edit, width=1280)
    assert drawn.dtype == torch.float32 and drawn.shape[1:] == (1280, 3) and drawn.min() >= 0 and drawn.max() <= 1
    strip = drawn[110:150]
    assert abs(np.median(columns(strip, CHOSEN)) - 1280 * 20 / 60) < 12


def test_rows_are_there_when_there_is_something_to_show(clip):
    _, seen, edit, repeats = clip
    plain = draw_timeline(seen, edit)
    told = draw_timeline(seen, edit, repeats=repeats)
    sure = draw_timeline(seen, edit, repeats=repeats, confidence=[(n + 0.5, 30 + n % 5) for n in range(edit.kept - 1)])
    assert plain.shape[0] < told.shape[0] < sure.shape[0]
    row = slice(plain.shape[0] - 30, None)
    assert not len(columns(plain[row], REPEATED)) and columns(told[row], REPEATED).min() > 400
    assert not len(columns(told, SURE)) and np.ptp(columns(sure, SURE)) > 1000


def test_thumbnails_are_those_asked_for(clip):
    pictures, seen, edit, _ = clip
    wanted = thumbnail_frames(seen, edit)
    assert wanted == tuple(sorted(wanted)) and 4 <= len(wanted) <= 12 and wanted[-1] < 60
    with_pictures = draw_timeline(seen, edit, thumbnails={n: torch.from_numpy(pictures[n]) for n in wanted})
    without = draw_timeline(seen, edit)
    assert with_pictures.shape == without.shape and (with_pictures - without).abs().mean() > 0.02


@pytest.mark.parametrize("frames", [1, 2, 24])
def test_short_clips(frames):
    seen = of(pan(frames, *SIZE, 4, 1))
    edit = make_edit(seen)
    drawn = draw_timeline(seen, edit, repeats=find_repeats(seen), confidence=[(0.5, 30.0)] if frames > 1 else None)
    assert torch.isfinite(drawn).all() and drawn.shape[1] == 1280


@pytest.mark.parametrize("width", [320, 1920])
def test_long_clips(clip, width):
    seen = longer(clip[1], 334)
    edit = make_edit(seen, cuts=range(60, len(seen), 60), dedupe=True)
    drawn = draw_timeline(seen, edit, repeats=find_repeats(seen, range(60, len(seen), 60)), width=width)
    assert len(thumbnail_frames(seen, edit, width)) < width / 15
    assert len(columns(drawn, REPEATED)) > width / 3


def test_too_narrow(clip):
    with pytest.raises(InputError, match="200 pixels wide was asked for: give at least 320"):
        draw_timeline(clip[1], clip[2], width=200)
