"""Reading from a frame on, and reading small."""

from dataclasses import replace
from fractions import Fraction

import cv2
import numpy as np
import pytest
import torch
from video.clips import encode, info, noise, solid, yuv

from comfy_fusionfft.errors import MediaError
from comfy_fusionfft.video import open_clip, picture, read_images, write_clip


@pytest.fixture(params=["a.mp4", "a.mkv", "folder"])
def clip(request, tmp_path):
    frames = [replace(frame, seconds=Fraction(k * k, 60) + 1) for k, frame in enumerate(noise(12, 48, 64))]
    return open_clip(write_clip(tmp_path / request.param, frames, like=info(tmp_path)).path)


@pytest.mark.parametrize("start", [0, 1, 7, 11, 12, 50])
def test_start_skips_frames_and_nothing_else(clip, start):
    everything, rest = list(clip), list(clip.frames(start))
    assert len(rest) == max(0, 12 - start)
    for whole, part in zip(everything[start:], rest, strict=True):
        assert torch.equal(whole.pixels, part.pixels) and whole.seconds == part.seconds


def test_skipped_frames_are_not_converted(clip, monkeypatch):
    seen = []
    convert, read = picture.Converter.__call__, read_images.read_image
    monkeypatch.setattr(picture.Converter, "__call__", lambda self, p: seen.append(p) or convert(self, p))
    monkeypatch.setattr(read_images, "read_image", lambda path: seen.append(path) or read(path))
    assert len(list(clip.frames(9))) == len(seen) == 3


@pytest.mark.parametrize(
    ("side", "size"), [(32, (24, 32)), (20, (15, 20)), (64, (48, 64)), (999, (48, 64)), (1, (1, 1))]
)
def test_small_pictures_are_area_averages(clip, side, size):
    for whole, small in zip(clip, clip.frames(longest_side=side), strict=True):
        assert small.pixels.dtype == torch.uint8 and small.seconds == whole.seconds
        assert tuple(small.pixels.shape) == (*size, 3)
        expected = cv2.resize(whole.pixels.numpy(), size[::-1], interpolation=cv2.INTER_AREA).astype(float)
        # Chroma is averaged where it is stored, before it becomes colour.
        assert np.abs(small.pixels.numpy() - expected).mean() < 12


@pytest.mark.parametrize("deep", [False, True])
@pytest.mark.parametrize(("name", "codec"), [("a.mp4", "h264"), ("a.mkv", "ffv1"), ("folder", None)])
def test_small_pictures_have_the_colours_of_large_ones(tmp_path, name, codec, deep):
    frames = solid(deep=deep)
    clip = open_clip(
        write_clip(tmp_path / name, frames, like=info(tmp_path, bit_depth=16 if deep else 8), codec=codec).path
    )
    for source, small in zip(frames, clip.frames(longest_side=16), strict=True):
        expected = source.pixels[0, 0].double() / (257 if deep else 1)
        assert (small.pixels[4, 4].double() - expected).abs().max() <= 4
        assert small.pixels.dtype == torch.uint8


def test_small_grey_float_and_turned_pictures(tmp_path):
    grey = write_clip(tmp_path / "grey", noise(1, 8, 8, 1, np.uint16), like=info(tmp_path, channels=1, bit_depth=16))
    (frame,) = open_clip(grey.path).frames(longest_side=4)
    assert tuple(frame.pixels.shape) == (4, 4, 1) and frame.pixels.dtype == torch.uint8
    floats = replace(noise(1)[0], pixels=torch.full((8, 8, 4), 0.5, dtype=torch.float64))
    written = write_clip(tmp_path / "f", [floats], like=info(tmp_path, channels=4, bit_depth=32, floating=True))
    (frame,) = open_clip(written.path).frames(longest_side=4)
    assert frame.pixels.unique().tolist() == [128]
    for levels_range, white in ((1, 235), (2, 255)):
        planes = [[np.full((8, 8), white, np.uint8)]]
        video = encode(tmp_path / f"{white}.mkv", planes, "gray", "ffv1", color_range=levels_range)
        (frame,) = open_clip(video).frames(longest_side=4)
        assert frame.pixels.unique().tolist() == [255] and frame.pixels.shape[2] == 1


def test_passes_that_cannot_be(tmp_path):
    clip = open_clip(encode(tmp_path / "a.mkv", [yuv((9, 9, 9))], "yuv420p", "ffv1"))
    with pytest.raises(MediaError, match="start at frame -1: give 0 for the first"):
        clip.frames(-1)
    with pytest.raises(MediaError, match="longest side of 0 were wanted: give at least 1"):
        clip.frames(longest_side=0)
