"""Folders of images: exact originals, rounded floats, types and what they cannot hold."""

from fractions import Fraction

import cv2
import numpy as np
import pytest
import torch
from video.clips import info, noise

from comfy_fusionfft.contract import Frame
from comfy_fusionfft.errors import MediaError
from comfy_fusionfft.video import open_clip, write_clip


@pytest.mark.parametrize("codec", ["png", "tiff"])
@pytest.mark.parametrize("channels", [1, 3, 4])
@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
@pytest.mark.parametrize("size", [(1, 1), (5, 7)])
def test_integers_are_bit_exact(tmp_path, codec, channels, dtype, size):
    frames = noise(2, *size, channels, dtype)
    written = write_clip(tmp_path / "out", frames, like=info(tmp_path, channels=channels), codec=codec)
    assert [f.name for f in sorted(written.path.iterdir())] == [f"0000000.{codec}", f"0000001.{codec}"]
    assert written.notes == () and written.complete and written.frames == 2
    for before, after in zip(frames, open_clip(written.path), strict=True):
        np.testing.assert_array_equal(after.pixels.numpy(), before.pixels.numpy())
        assert after.pixels.dtype == before.pixels.dtype


def test_opencv_reads_the_same_colours(tmp_path):
    pixels = torch.tensor([[[255, 128, 0, 7]]], dtype=torch.uint8)
    write_clip(tmp_path / "out", [Frame(pixels, Fraction(0))], like=info(tmp_path, channels=4))
    assert cv2.imread(str(tmp_path / "out/0000000.png"), cv2.IMREAD_UNCHANGED).tolist() == [[[0, 128, 255, 7]]]


@pytest.mark.parametrize(("depth", "top"), [(8, 255), (10, 65535), (16, 65535)])
def test_floats_are_rounded_and_clipped(tmp_path, depth, top):
    values = torch.tensor([-1.0, 0.49 / top, 0.51 / top, (top - 0.51) / top, (top - 0.49) / top, 2.0, float("nan")])
    frame = Frame(values.double().reshape(1, 7, 1), Fraction(0), original=False)
    write_clip(tmp_path / "out", [frame], like=info(tmp_path, channels=1, bit_depth=depth))
    (read,) = open_clip(tmp_path / "out")
    expected = [0, 0, 1, top - 1, top, top, 0]
    assert np.abs(read.pixels.numpy().ravel().astype(int) - expected).max() == 0


@pytest.mark.parametrize(("codec", "dtype"), [(None, torch.float32), ("tiff", torch.float32), ("tiff", torch.float64)])
def test_float_sources_stay_floats(tmp_path, codec, dtype):
    pixels = (torch.rand(3, 4, 3) * 5 - 1).to(dtype)  # also where OpenCV by itself would choose LogLuv
    like = info(tmp_path, bit_depth=32, floating=True)
    written = write_clip(tmp_path / "out", [Frame(pixels, Fraction(0))], like=like, codec=codec)
    (read,) = open_clip(written.path)
    torch.testing.assert_close(read.pixels, pixels, rtol=0, atol=0)


def test_brain_floats_are_written(tmp_path):
    frame = Frame(torch.full((2, 2, 3), 0.5, dtype=torch.bfloat16), Fraction(0))
    write_clip(tmp_path / "out", [frame], like=info(tmp_path))
    (read,) = open_clip(tmp_path / "out")
    assert read.pixels.unique().tolist() == [128]


def test_jpeg_says_what_it_drops(tmp_path):
    frames = noise(2, 8, 8, 4, np.uint16)
    written = write_clip(tmp_path / "out", frames, like=info(tmp_path, channels=4, bit_depth=16), codec="jpeg")
    assert any(note.startswith("alpha dropped") for note in written.notes)
    assert any(note.startswith("reduced to 8 bits") for note in written.notes)
    assert len(written.notes) == 2


def test_webp_is_lossless_unless_told(tmp_path):
    (frame,) = noise(1, 8, 8)
    write_clip(tmp_path / "a", [frame], like=info(tmp_path), codec="webp")
    write_clip(tmp_path / "b", [frame], like=info(tmp_path), codec="webp", quality=30)
    (exact,), (lossy,) = open_clip(tmp_path / "a"), open_clip(tmp_path / "b")
    assert torch.equal(exact.pixels, frame.pixels) and not torch.equal(lossy.pixels, frame.pixels)


@pytest.mark.parametrize(("options", "text"), [
    ({"codec": "h264"}, "'h264' is not an image type"),
    ({"quality": 5}, "png is lossless, quality 5 was given"),
    ({"codec": "jpg", "quality": 101}, "quality 101 does not exist in jpg"),
])  # fmt: skip
def test_impossible_requests(tmp_path, options, text):
    with pytest.raises(MediaError, match=text):
        write_clip(tmp_path / "out", noise(1), like=info(tmp_path), **options)
    assert list(tmp_path.iterdir()) == []
