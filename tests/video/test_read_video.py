"""Video files: colours, clocks, depth, alpha, rotation, and files that are not what they seem."""

import struct
from fractions import Fraction

import numpy as np
import pytest
from video.clips import encode, info, noise, solid, with_tone, yuv

from comfy_fusionfft.errors import MediaError
from comfy_fusionfft.video import open_clip, write_clip

# Levels of pure red by the definition of each matrix, 8 bits.
RED = {
    (1, 1): (63, 102, 240),
    (6, 1): (81, 90, 240),
    (9, 1): (74, 97, 240),
    (1, 2): (54, 99, 255),
    (6, 2): (76, 85, 255),
}


@pytest.mark.parametrize(("matrix", "levels_range"), list(RED))
def test_tagged_matrix_and_range_decide(tmp_path, matrix, levels_range):
    file = encode(tmp_path / "a.mkv", [yuv(RED[matrix, levels_range])], "yuv420p", "ffv1",
                  colorspace=matrix, color_range=levels_range)  # fmt: skip
    clip = open_clip(file)
    (frame,) = clip
    np.testing.assert_allclose(frame.pixels[30, 30].tolist(), [255, 0, 0], atol=2)
    assert (clip.info.colour.matrix, clip.info.colour.range) == (matrix, ["limited", "full"][levels_range - 1])


@pytest.mark.parametrize(("size", "matrix"), [(64, 6), (720, 1)])
def test_untagged_clips_are_read_as_players_do(tmp_path, size, matrix):
    file = encode(tmp_path / "a.mkv", [yuv(RED[matrix, 1], size)], "yuv420p", "ffv1")
    (frame,) = open_clip(file)
    np.testing.assert_allclose(frame.pixels[30, 30].tolist(), [255, 0, 0], atol=2)


@pytest.mark.parametrize("pixel_format", ["yuv420p", "yuv420p10le"])
@pytest.mark.parametrize("tags", [{"color_trc": 9, "color_primaries": 3}, {"color_trc": 18, "colorspace": 8}])
def test_strange_tags_do_not_stop_it(tmp_path, tags, pixel_format):
    deep = pixel_format.endswith("10le")
    planes = yuv(tuple(v * 4 for v in RED[6, 1]), dtype=np.uint16) if deep else yuv(RED[6, 1])
    (frame,) = open_clip(encode(tmp_path / "a.mp4", [planes], pixel_format, "libx264", **tags))
    top = 65535 if deep else 255
    np.testing.assert_allclose(frame.pixels[30, 30].numpy() / top, [1, 0, 0], atol=0.02)


def test_ten_bits_become_the_full_sixteen(tmp_path):
    white, black = ([np.full((s, s), v, np.uint16) for s, v in ((16, y), (8, 512), (8, 512))] for y in (940, 64))
    clip = open_clip(encode(tmp_path / "a.mkv", [white, black], "yuv420p10le", "ffv1"))
    frames = list(clip)
    assert clip.info.bit_depth == 10
    assert [np.unique(frame.pixels.numpy()).tolist() for frame in frames] == [[65535], [0]]
    assert frames[0].pixels.numpy().dtype == np.uint16


@pytest.mark.parametrize(("pixel_format", "dtype"), [("gray", np.uint8), ("gray16le", np.uint16)])
def test_grey_keeps_one_channel(tmp_path, pixel_format, dtype):
    values = noise(1, 5, 7, 1, dtype)[0].pixels.numpy()
    clip = open_clip(encode(tmp_path / "a.mkv", [[values]], pixel_format, "ffv1"))
    (frame,) = clip
    np.testing.assert_array_equal(frame.pixels.numpy(), values)
    assert clip.info.channels == 1


def test_alpha_is_straight(tmp_path):
    # FFV1 keeps BGRA bytes.
    bgra = noise(1, 8, 8, 4)[0].pixels.numpy()
    (frame,) = open_clip(encode(tmp_path / "a.mkv", [[bgra]], "bgra", "ffv1"))
    np.testing.assert_array_equal(frame.pixels.numpy(), bgra[..., [2, 1, 0, 3]])


def test_webm_alpha_is_seen(tmp_path):
    file = tmp_path / "a.webm"
    write_clip(file, solid([(200, 30, 90, 100)] * 2), like=info(tmp_path, channels=4))
    frames = list(open_clip(file))
    np.testing.assert_allclose(frames[1].pixels[9, 9].tolist(), [200, 30, 90, 100], atol=2)


def test_variable_rate_and_first_time_are_kept(tmp_path):
    times = [120, 160, 175, 400, 1000]
    file = encode(tmp_path / "a.mkv", [yuv((100 + k, 128, 128)) for k in range(5)], "yuv420p", "libx264", pts=times)
    clip = open_clip(file)
    for _ in range(2):  # every iteration is a fresh pass
        frames = list(clip)
        assert [frame.seconds for frame in frames] == [Fraction(t, 1000) for t in times]
        brightness = [float(frame.pixels.float().mean()) for frame in frames]
        assert brightness == sorted(brightness)


def test_raw_stream_without_timestamps_uses_its_rate(tmp_path):
    file = encode(tmp_path / "a.h264", [yuv((60 + 9 * k, 128, 128)) for k in range(6)], "yuv420p", "libx264")
    frames = list(open_clip(file))
    assert [frame.seconds for frame in frames] == [Fraction(k, 25) for k in range(6)]


def test_clock_mends_missing_and_repeated_times():
    from comfy_fusionfft.video.read_video import _Clock

    clock, tick = _Clock(Fraction(10), trusted=True), Fraction(1, 1000)
    seen = [clock(pts, tick) for pts in (500, None, 600, 600, 900)]
    assert seen == [Fraction(n, 20) for n in (10, 12, 13, 14, 18)]


@pytest.mark.parametrize(("right", "down", "expected"), [
    ((1, 0), (0, 1), [[1, 2, 3], [4, 5, 6]]),
    ((0, 1), (-1, 0), [[4, 1], [5, 2], [6, 3]]),  # a quarter turn clockwise
    ((-1, 0), (0, -1), [[6, 5, 4], [3, 2, 1]]),
    ((0, -1), (1, 0), [[3, 6], [2, 5], [1, 4]]),  # counter-clockwise
    ((-1, 0), (0, 1), [[3, 2, 1], [6, 5, 4]]),
])  # fmt: skip
def test_display_matrix(right, down, expected):
    from comfy_fusionfft.video.read_video import _Turn

    pixels = np.array([[1, 2, 3], [4, 5, 6]])[..., None]
    assert _Turn(right, down)(pixels)[..., 0].tolist() == expected


def test_rotation_in_the_file_is_applied(tmp_path):
    left_white = [np.full((32, 64), 16, np.uint8), *yuv((0, 128, 128), 64)[1:]]
    left_white[0][:, :32] = 235
    left_white[1:] = [plane[:16] for plane in left_white[1:]]
    file = encode(tmp_path / "a.mp4", [left_white], "yuv420p", "libx264")
    data = bytearray(file.read_bytes())
    # The track header's matrix, in 16.16 (last column 2.30): a quarter turn clockwise.
    at = data.index(b"tkhd") + 4 + 40
    assert struct.unpack(">9i", data[at : at + 36])[:5] == (65536, 0, 0, 0, 65536)
    data[at : at + 36] = struct.pack(">9i", 0, 65536, 0, -65536, 0, 0, 32 << 16, 0, 1 << 30)
    file.write_bytes(data)
    clip = open_clip(file)
    (frame,) = clip
    assert (clip.info.width, clip.info.height, clip.info.rotation) == (32, 64, 270)
    assert frame.pixels[8, 16, 0] > 240 and frame.pixels[56, 16, 0] < 15


def test_audio_and_header_facts(tmp_path):
    silent = encode(tmp_path / "a.mp4", [yuv((90, 128, 128))] * 5, "yuv420p", "libx264",
                    sample_aspect_ratio=Fraction(4, 3))  # fmt: skip
    loud = with_tone(tmp_path / "b.mp4", silent)
    facts = open_clip(loud).info
    assert facts.has_audio and not open_clip(silent).info.has_audio
    assert (facts.frames, facts.rate, facts.sample_aspect) == (5, 25, Fraction(4, 3))
    assert (facts.codec, facts.pixel_format, facts.kind) == ("h264", "yuv420p", "video")


def test_cut_off_file_gives_what_is_there(tmp_path):
    pictures = [[frame.pixels.numpy()[..., 0] for _ in range(1)] for frame in noise(12, 64, 64)]
    whole = encode(tmp_path / "a.mkv", pictures, "gray", "ffv1")
    cut = tmp_path / "b.mkv"
    cut.write_bytes(whole.read_bytes()[: whole.stat().st_size // 2])
    assert 3 <= len(list(open_clip(cut))) <= 7


def test_damage_to_the_end_names_the_frame(tmp_path):
    pictures = [[frame.pixels.numpy()[..., 0]] for frame in noise(12, 64, 64)]
    # Motion JPEG in AVI: packets whose payload can be spoiled without hurting the container.
    file = encode(tmp_path / "a.avi", [[p[0], *yuv((0, 128, 128))[1:]] for p in pictures], "yuvj420p", "mjpeg")
    data = bytearray(file.read_bytes())
    starts = [k for k in range(len(data)) if data[k : k + 4] == b"00dc" and data[k + 8 : k + 10] == b"\xff\xd8"]
    assert len(starts) == 12
    for start in starts[4:]:
        size = struct.unpack("<I", data[start + 4 : start + 8])[0]
        data[start + 8 : start + 8 + size] = bytes(size)
    file.write_bytes(data)
    frames = iter(open_clip(file))
    assert [next(frames).seconds for _ in range(4)] == [Fraction(k, 25) for k in range(4)]
    with pytest.raises(MediaError, match=r"a\.avi is damaged: nothing decodes after frame 3"):
        list(frames)


@pytest.mark.parametrize(("name", "content", "text"), [
    ("empty.mp4", b"", r"is empty \(0 bytes\)"),
    ("noise.mp4", b"certainly not a video" * 99, "is not a video that can be opened"),
    ("text.txt", b"hello\n" * 99, "is not a video that can be opened|has no video stream"),
])  # fmt: skip
def test_not_a_video(tmp_path, name, content, text):
    (tmp_path / name).write_bytes(content)
    with pytest.raises(MediaError, match=text):
        open_clip(tmp_path / name)


def test_sound_alone_is_not_a_clip(tmp_path):
    both = with_tone(tmp_path / "b.mkv", encode(tmp_path / "a.mkv", [yuv((9, 9, 9))], "yuv420p", "ffv1"))
    import av

    with av.open(str(both)) as source, av.open(str(tmp_path / "c.m4a"), "w") as output:
        stream = source.streams.audio[0]
        add = getattr(output, "add_stream_from_template", None) or (lambda stream: output.add_stream(template=stream))
        copied = add(stream)
        for packet in source.demux(stream):
            if packet.dts is not None:
                packet.stream = copied
                output.mux(packet)
    with pytest.raises(MediaError, match="has no video stream"):
        open_clip(tmp_path / "c.m4a")


def test_an_even_clock_rounded_to_milliseconds_is_made_even_again(tmp_path):
    rate = Fraction(24000, 1001)
    source = encode(tmp_path / "a.mp4", [yuv((100 + k, 128, 128)) for k in range(30)], "yuv420p", "libx264")
    clip = open_clip(source)
    written = write_clip(tmp_path / "b.mkv", clip, like=clip.info, rate=rate)
    assert [frame.seconds for frame in open_clip(written.path)] == [k / rate for k in range(30)]
