"""Video files: colours survive the round trip, clocks, codecs, sizes, alpha, sound."""

from dataclasses import replace
from fractions import Fraction
from types import SimpleNamespace

import av
import numpy as np
import pytest
import torch
from video.clips import encode, info, levels, noise, solid, with_tone, yuv

from comfy_fusionfft.contract import Frame
from comfy_fusionfft.errors import DeviceError, InputError, MediaError
from comfy_fusionfft.video import Colour, Sound, encoding, open_clip, write_clip
from comfy_fusionfft.video.codecs import CODECS, choose_encoder


@pytest.mark.parametrize("deep", [False, True])
@pytest.mark.parametrize("levels_range", ["limited", "full"])
@pytest.mark.parametrize("matrix", [1, 6, 9])
def test_colours_and_tags_survive_h264(tmp_path, matrix, levels_range, deep):
    colour = Colour(primaries=9, transfer=16, matrix=matrix, range=levels_range)
    like = info(tmp_path, colour=colour, sample_aspect=Fraction(4, 3), bit_depth=10 if deep else 8)
    frames = solid(deep=deep)
    write_clip(tmp_path / "out.mp4", frames, like=like)
    clip = open_clip(tmp_path / "out.mp4")
    np.testing.assert_allclose(levels(clip), levels(frames), atol=2)
    assert clip.info.colour == colour
    assert (clip.info.sample_aspect, clip.info.bit_depth) == (Fraction(4, 3), 10 if deep else 8)


def test_unspecified_matrix_is_decided_and_said(tmp_path):
    write_clip(tmp_path / "out.mp4", solid(), like=info(tmp_path))
    assert open_clip(tmp_path / "out.mp4").info.colour == Colour(matrix=6, range="limited")


@pytest.mark.parametrize(("suffix", "codec", "deep", "atol"), [
    (".mp4", "hevc", True, 2), (".mp4", "av1", False, 2), (".mkv", "vp9", False, 2), (".webm", None, False, 2),
    (".mov", "prores", True, 2), (".mkv", "ffv1", False, 0), (".mkv", "ffv1", True, 0), (".avi", None, False, 0),
])  # fmt: skip
def test_every_codec(tmp_path, suffix, codec, deep, atol):
    frames = solid(deep=deep)
    write_clip(tmp_path / f"out{suffix}", frames, like=info(tmp_path, bit_depth=16 if deep else 8), codec=codec)
    clip = open_clip(tmp_path / f"out{suffix}")
    np.testing.assert_allclose(levels(clip), levels(frames), atol=atol)
    assert (clip.info.bit_depth > 8) == deep


@pytest.mark.parametrize(("channels", "dtype"), [(1, np.uint8), (1, np.uint16), (4, np.uint8), (4, np.uint16)])
def test_ffv1_is_lossless(tmp_path, channels, dtype):
    frames = noise(3, 9, 11, channels, dtype)
    like = info(tmp_path, channels=channels, bit_depth=np.dtype(dtype).itemsize * 8)
    written = write_clip(tmp_path / "out.mkv", frames, like=like, codec="ffv1")
    for before, after in zip(frames, open_clip(tmp_path / "out.mkv"), strict=True):
        assert np.array_equal(before.pixels.numpy(), after.pixels.numpy())
    assert written.notes == ()


@pytest.mark.parametrize(("name", "codec"), [("a.mov", "prores"), ("a.webm", "vp9")])
def test_alpha_is_kept(tmp_path, name, codec):
    frames = solid([(200, 30, 90, 100), (20, 220, 90, 255)])
    assert write_clip(tmp_path / name, frames, like=info(tmp_path, channels=4), codec=codec).notes == ()
    np.testing.assert_allclose(levels(open_clip(tmp_path / name)), levels(frames), atol=2)


def test_alpha_dropped_is_said(tmp_path):
    written = write_clip(tmp_path / "a.mp4", noise(2, channels=4), like=info(tmp_path, channels=4))
    assert written.notes == ("alpha dropped: h264 cannot hold it (vp9, prores and ffv1 can)",)
    assert open_clip(tmp_path / "a.mp4").info.channels == 3


@pytest.mark.parametrize("size", [(1, 1), (33, 35)])
@pytest.mark.parametrize(("name", "codec"), [("a.mp4", "h264"), ("a.webm", "vp9"), ("a.mov", "prores")])
def test_odd_sizes_are_kept(tmp_path, name, codec, size):
    pixels = torch.full((*size, 3), 77, dtype=torch.uint8)
    write_clip(tmp_path / name, [Frame(pixels, Fraction(k)) for k in range(2)], like=info(tmp_path), codec=codec)
    clip = open_clip(tmp_path / name)
    assert (clip.info.height, clip.info.width) == size
    np.testing.assert_allclose(levels(clip), 77, atol=2)


@pytest.mark.parametrize(("codec", "size", "text"), [
    ("av1", (65, 65), "cannot hold the odd size 65x65: choose h264"),
    ("hevc", (32, 32), "hevc needs at least 64x64, the frames are 32x32"),
])  # fmt: skip
def test_sizes_a_codec_cannot_hold(tmp_path, codec, size, text):
    with pytest.raises(MediaError, match=text):
        write_clip(tmp_path / "a.mp4", noise(1, *size), like=info(tmp_path), codec=codec)
    assert list(tmp_path.iterdir()) == []


def test_rate_makes_a_constant_clock(tmp_path):
    rate = Fraction(60000, 1001)
    written = write_clip(tmp_path / "a.mp4", noise(7), like=info(tmp_path), rate=rate)
    clip = open_clip(tmp_path / "a.mp4")
    assert [frame.seconds for frame in clip] == [k / rate for k in range(7)]
    assert (clip.info.rate, written.seconds) == (rate, 7 / rate)


@pytest.mark.parametrize("name", ["a.mp4", "a.mov"])
def test_own_times_are_exact(tmp_path, name):
    times = [Fraction(0), Fraction(1001, 60000), Fraction(1001, 30000), Fraction(1), Fraction(7, 3)]
    frames = [Frame(f.pixels, t + 5) for f, t in zip(noise(5), times, strict=True)]
    written = write_clip(tmp_path / name, frames, like=info(tmp_path, rate=Fraction(30000, 1001)))
    assert [frame.seconds for frame in open_clip(tmp_path / name)] == times
    assert written.seconds == Fraction(7, 3) + Fraction(4, 3)


def test_matroska_keeps_milliseconds(tmp_path):
    frames = [Frame(f.pixels, Fraction(k * k, 60)) for k, f in enumerate(noise(5))]
    write_clip(tmp_path / "a.mkv", frames, like=info(tmp_path))
    for before, after in zip(frames, open_clip(tmp_path / "a.mkv"), strict=True):
        assert abs(before.seconds - after.seconds) <= Fraction(1, 1000)


def test_avi_says_that_times_are_evened_out(tmp_path):
    written = write_clip(tmp_path / "a.avi", noise(3), like=info(tmp_path))
    assert written.notes == ("frames are evenly spaced at 25 per second: AVI keeps no timestamps",)


def test_avi_takes_its_rate_from_the_frames(tmp_path):
    """Interpolated frames lie closer than their source's: the file must not play them at the source's rate."""
    frames = [replace(frame, seconds=Fraction(k, 50)) for k, frame in enumerate(noise(5))]
    written = write_clip(tmp_path / "a.avi", frames, like=replace(info(tmp_path), rate=Fraction(25)))
    assert open_clip(written.path).info.rate == 50


def test_one_frame(tmp_path):
    written = write_clip(tmp_path / "a.mp4", noise(1), like=info(tmp_path))
    assert (written.frames, written.seconds, len(list(open_clip(tmp_path / "a.mp4")))) == (1, Fraction(1, 25), 1)


def test_sound_is_copied_and_stays_in_step(tmp_path):
    silent = encode(tmp_path / "silent.mp4", [yuv((90, 128, 128))] * 25, "yuv420p", "libx264")
    source = with_tone(tmp_path / "source.mp4", silent)
    # The clip starts at 0.2 s: what is heard before is left out, the rest moves with the picture.
    frames = [Frame(f.pixels, f.seconds + Fraction(1, 5)) for f in noise(20)]
    written = write_clip(tmp_path / "out.mkv", frames, like=info(tmp_path), sound=Sound(source))
    assert written.notes == ()

    def packets(path):
        with av.open(str(path)) as container:
            stream = container.streams.audio[0]
            return [(float(p.pts * p.time_base), bytes(p)) for p in container.demux(stream) if p.pts is not None]

    before = [(seconds - 0.2, data) for seconds, data in packets(source)]
    after = packets(tmp_path / "out.mkv")
    kept = before[-len(after) :]
    assert [data for _, data in after] == [data for _, data in kept]
    assert kept[0][0] > -0.022 and len(kept) < len(before)
    lead = after[0][0] - kept[0][0]
    assert 0 <= lead < 0.023  # Matroska has no negative times and moves everything by less than a packet
    with av.open(str(tmp_path / "out.mkv")) as container:
        first = next(container.decode(video=0))
        assert abs(first.pts * first.time_base - lead) < 0.002


def test_sound_from_nowhere(tmp_path):
    (tmp_path / "words.mp4").write_text("no sound in here")
    for name in ("missing.mp4", "words.mp4"):
        with pytest.raises(MediaError, match=rf"no sound can be copied from .*{name}"):
            write_clip(tmp_path / "a.mp4", noise(2), like=info(tmp_path), sound=Sound(tmp_path / name))
    assert not (tmp_path / "a.mp4").exists()


def test_sound_the_container_refuses_is_said(tmp_path):
    source = with_tone(tmp_path / "in.mp4", encode(tmp_path / "v.mp4", [yuv((9, 9, 9))], "yuv420p", "libx264"))
    written = write_clip(tmp_path / "out.webm", noise(2), like=info(tmp_path), sound=Sound(source))
    assert written.notes == ("audio left out: webm files do not take aac (mkv takes anything)",)
    assert not open_clip(tmp_path / "out.webm").info.has_audio


@pytest.mark.parametrize(("name", "options", "text"), [
    ("a.webm", {"codec": "h264"}, r"\.webm files do not take h264: choose vp9 or av1, or one of \.mp4"),
    ("a.mp4", {"codec": "theora"}, "codec 'theora' is not known: choose one of h264, hevc"),
    ("a.mp4", {"quality": 52}, r"quality 52 does not exist in h264: give 0 \(best\) to 51"),
    ("a.mov", {"codec": "prores", "quality": 1}, "prores has no quality setting"),
    ("a.gif", {}, r"suffix \.gif, which is no video this can write"),
])  # fmt: skip
def test_impossible_requests(tmp_path, name, options, text):
    def untouched():
        raise AssertionError("a frame was pulled")
        yield

    with pytest.raises(MediaError, match=text):
        write_clip(tmp_path / name, untouched(), like=info(tmp_path), **options)


def test_missing_encoder_lists_what_is_there(monkeypatch):
    monkeypatch.setitem(CODECS, "h264", type(CODECS["h264"])("h264", ("libmissing",), ("yuv420p",)))
    with pytest.raises(MediaError, match=r"no h264 encoder \(libmissing\): choose one of hevc"):
        choose_encoder(CODECS["h264"])


def test_frames_of_two_sizes_are_refused(tmp_path):
    with pytest.raises(InputError, match="frame 1 is 18x16x3, the ones before are 16x16x3"):
        write_clip(tmp_path / "a.mp4", noise(1) + noise(1, 16, 18), like=info(tmp_path))
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(("free", "error", "text"), [
    (200_000_000, DeviceError, "^libx264 cannot begin 1280x720 yuv420p .* with 0.2 GB of memory left: give "),
    (10**10, MediaError, "^libx264 refuses 1280x720 yuv420p .*: choose another codec or write a folder of images$"),
    (None, MediaError, "^libx264 refuses "),
])  # fmt: skip
def test_an_encoder_that_does_not_begin_may_lack_memory(free, error, text, monkeypatch):
    def begin():
        raise av.error.ExternalError(1, "Generic error in an external library")

    monkeypatch.setattr(encoding, "free_memory", lambda: free)
    settled = encoding.Settled((720, 1280, 3), False, Fraction(0), Fraction(25), Fraction(1, 25))
    with pytest.raises(error, match=text):
        encoding.Encoding("libx264", settled, "yuv420p", Colour(), {}).configure(SimpleNamespace(flags=0, open=begin))
