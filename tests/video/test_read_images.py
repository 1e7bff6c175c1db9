"""Image folders: order, types, channels, and errors that name the file."""

import struct
from fractions import Fraction

import cv2
import numpy as np
import pytest

from comfy_fusionfft.errors import MediaError
from comfy_fusionfft.video import open_clip

RED = np.array([255, 0, 0])


def picture(channels: int, dtype: type, size: tuple[int, int] = (5, 7)) -> np.ndarray:
    rng = np.random.default_rng(channels)
    if np.dtype(dtype).kind == "f":
        return (rng.random((*size, channels)) * 3 - 1).astype(dtype)
    return rng.integers(0, np.iinfo(dtype).max + 1, (*size, channels)).astype(dtype)


def save(path, rgb: np.ndarray) -> None:
    order = {1: [0], 3: [2, 1, 0], 4: [2, 1, 0, 3]}[rgb.shape[2]]
    lossless = [cv2.IMWRITE_TIFF_COMPRESSION, 5] if "tif" in path.suffix.lower() else []
    path.write_bytes(cv2.imencode(path.suffix, np.ascontiguousarray(rgb[..., order]), lossless)[1].tobytes())


def tiff(samples: np.ndarray, extra: int | None = None) -> bytes:
    """A bare uncompressed TIFF, RGB order as the standard says, made without OpenCV."""
    height, width, channels = samples.shape
    bits, kind = samples.dtype.itemsize * 8, 3 if samples.dtype.kind == "f" else 1
    tags = [(256, 4, [width]), (257, 4, [height]), (258, 3, [bits] * channels), (259, 3, [1]), (262, 3, [2])]
    tags += [(273, 4, [0]), (277, 3, [channels]), (278, 4, [height]), (279, 4, [samples.nbytes])]
    tags += [(338, 3, [extra])] if extra is not None else []
    tags += [(339, 3, [kind] * channels)]
    overflow, entries = b"", b""
    after = 8 + 2 + 12 * len(tags) + 4
    room = sum(2 * len(values) for _, code, values in tags if code == 3 and len(values) > 2)
    for tag, code, values in tags:
        values = [after + room] if tag == 273 else values
        packed = struct.pack(f"<{len(values)}{'H' if code == 3 else 'I'}", *values)
        if len(packed) > 4:
            packed, overflow = struct.pack("<I", after + len(overflow)), overflow + packed
        entries += struct.pack("<HHI", tag, code, len(values)) + packed.ljust(4, b"\0")
    return struct.pack("<2sHIH", b"II", 42, 8, len(tags)) + entries + b"\0" * 4 + overflow + samples.tobytes()


@pytest.mark.parametrize("channels", [1, 3, 4])
@pytest.mark.parametrize(("suffix", "dtype"), [(".png", np.uint8), (".png", np.uint16), (".TIF", np.uint8),
                                               (".tiff", np.uint16), (".tif", np.float32)])  # fmt: skip
def test_samples_are_kept(tmp_path, suffix, dtype, channels):
    rgb = picture(channels, dtype)
    save(tmp_path / f"ä {channels}{suffix}", rgb)
    clip = open_clip(tmp_path)
    (frame,) = clip
    assert frame.pixels.numpy().dtype == dtype
    np.testing.assert_array_equal(frame.pixels.numpy(), rgb)
    assert (clip.info.channels, clip.info.bit_depth) == (channels, np.dtype(dtype).itemsize * 8)
    assert clip.info.floating == (dtype is np.float32)
    assert frame.original


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16, np.float32])
def test_tiff_of_another_writer_is_rgb(tmp_path, dtype):
    rgb = picture(3, dtype)
    (tmp_path / "a.tif").write_bytes(tiff(rgb))
    (frame,) = open_clip(tmp_path)
    np.testing.assert_array_equal(frame.pixels.numpy(), rgb)


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
def test_tiff_alpha_is_straight(tmp_path, dtype):
    rgba = picture(4, dtype)
    (tmp_path / "a.tif").write_bytes(tiff(rgba, extra=2))
    (frame,) = open_clip(tmp_path)
    np.testing.assert_array_equal(frame.pixels.numpy(), rgba)


def test_natural_order_and_strangers(tmp_path):
    for value, name in enumerate(["2.PNG", "10.png", "b1.png", "b03.png"]):
        image = np.full((2, 2, 3), value, np.uint8)
        save(tmp_path / name.lower(), image)
        (tmp_path / name.lower()).rename(tmp_path / name)
    (tmp_path / "notes.txt").write_text("not an image")
    (tmp_path / "._2.png").write_bytes(b"resource fork")
    clip = open_clip(tmp_path, rate=Fraction(30000, 1001))
    assert [int(frame.pixels[0, 0, 0]) for frame in clip] == [0, 1, 2, 3]
    assert [frame.seconds for frame in clip] == [Fraction(1001 * k, 30000) for k in range(4)]
    assert (clip.info.frames, clip.info.rate) == (4, Fraction(30000, 1001))


def test_jpeg_orientation_is_applied(tmp_path):
    image = np.zeros((16, 32, 3), np.uint8)
    image[:, :16] = RED
    data = cv2.imencode(".jpg", image[..., ::-1])[1].tobytes()
    # Orientation 6: the stored left edge is shown at the top.
    exif = b"Exif\0\0II*\0\x08\0\0\0\x01\0" + struct.pack("<HHIHH", 0x0112, 3, 1, 6, 0) + b"\0\0\0\0"
    (tmp_path / "a.jpg").write_bytes(data[:2] + b"\xff\xe1" + struct.pack(">H", len(exif) + 2) + exif + data[2:])
    clip = open_clip(tmp_path / "a.jpg")
    (frame,) = clip
    assert (clip.info.width, clip.info.height) == (16, 32)
    assert frame.pixels.shape == (32, 16, 3)
    assert frame.pixels[4, 8, 0] > 200 > 50 > frame.pixels[28, 8, 0]


def test_grey_and_opaque_images_join_wider_clips(tmp_path):
    save(tmp_path / "0.png", np.full((2, 2, 4), 9, np.uint8))
    save(tmp_path / "1.png", np.full((2, 2, 1), 7, np.uint8))
    frames = list(open_clip(tmp_path))
    assert frames[1].pixels[0, 0].tolist() == [7, 7, 7, 255]


def test_one_pixel(tmp_path):
    save(tmp_path / "0.png", np.full((1, 1, 3), 9, np.uint8))
    assert next(iter(open_clip(tmp_path))).pixels.shape == (1, 1, 3)


def test_mixed_sizes_name_both_files(tmp_path):
    save(tmp_path / "0.png", picture(3, np.uint8))
    save(tmp_path / "1.png", picture(3, np.uint8, (6, 7)))
    with pytest.raises(MediaError, match=r"0\.png is 7x5, 1\.png is 7x6"):
        list(open_clip(tmp_path))


def test_channels_that_would_be_lost_name_both_files(tmp_path):
    save(tmp_path / "0.png", picture(1, np.uint8))
    save(tmp_path / "1.png", picture(3, np.uint8))
    with pytest.raises(MediaError, match=r"0\.png is grey, 1\.png is rgb"):
        list(open_clip(tmp_path))


def test_damaged_image_is_named_after_the_good_ones(tmp_path):
    save(tmp_path / "0.png", picture(3, np.uint8))
    (tmp_path / "1.png").write_bytes(b"\x89PNG\r\n\x1a\nrubbish")
    frames = iter(open_clip(tmp_path))
    assert next(frames).seconds == 0
    with pytest.raises(MediaError, match=r"1\.png is not a readable image"):
        next(frames)


@pytest.mark.parametrize(("make", "text"), [
    (lambda p: p.mkdir(), "holds no images"),
    (lambda p: None, "does not exist"),
    (lambda p: p.with_suffix(".png").touch(), r"is empty \(0 bytes\)"),
])  # fmt: skip
def test_nothing_to_open(tmp_path, make, text):
    make(tmp_path / "in")
    path = tmp_path / "in.png" if (tmp_path / "in.png").exists() else tmp_path / "in"
    with pytest.raises(MediaError, match=text):
        open_clip(path)


def test_rate_must_be_positive(tmp_path):
    with pytest.raises(MediaError, match="frame rate of 0"):
        open_clip(tmp_path, rate=Fraction(0))
