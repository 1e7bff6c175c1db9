"""Files that were made to do harm: lists of other files and addresses, pictures of absurd sizes, odd names."""

import os
import socket
import struct
import subprocess
import sys
import threading
import time
import zlib
from pathlib import Path

import av
import pytest
from places import ROOT
from video.clips import encode, info, noise, with_tone, yuv

from comfy_fusionfft.errors import MediaError
from comfy_fusionfft.video import Sound, open_clip, write_clip
from comfy_fusionfft.video.size import MOST_PIXELS, declared_size

NOT_OPENED = "is not a video that can be opened"


class Listening:
    """A door that should stay shut: counts who comes."""

    def __init__(self):
        self._socket = socket.create_server(("127.0.0.1", 0))
        self.address = f"127.0.0.1:{self._socket.getsockname()[1]}"
        self.visits = 0
        threading.Thread(target=self._wait, daemon=True).start()

    def _wait(self):
        while True:
            try:
                visitor, _ = self._socket.accept()
            except OSError:
                return
            self.visits += 1
            visitor.close()

    def close(self):
        self._socket.close()


@pytest.fixture
def door():
    listening = Listening()
    yield listening
    listening.close()


@pytest.fixture
def secret(tmp_path):
    """A video that nobody gave us."""
    (tmp_path / "private").mkdir()
    return encode(tmp_path / "private" / "secret.ts", [yuv((90, 128, 128))] * 5, "yuv420p", "libx264")


HLS = "#EXTM3U\n#EXT-X-MEDIA-SEQUENCE:0\n#EXTINF:1.0,\n{}\n#EXT-X-ENDLIST\n"
CONCAT = "ffconcat version 1.0\nfile {}\n"
DASH = (
    '<?xml version="1.0"?><MPD xmlns="urn:mpeg:dash:schema:mpd:2011" type="static" mediaPresentationDuration="PT1S">'
    '<Period><AdaptationSet mimeType="video/mp2t"><Representation id="0" bandwidth="1"><BaseURL>{}</BaseURL>'
    "</Representation></AdaptationSet></Period></MPD>"
)
SDP = "v=0\no=- 0 0 IN IP4 127.0.0.1\ns=x\nc=IN IP4 127.0.0.1\nt=0 0\nm=video 5004 RTP/AVP 96\na=rtpmap:96 H264/90000\n"
SVG = '<svg xmlns="http://www.w3.org/2000/svg" width="64" height="64"><image href="{}" width="64" height="64"/></svg>'


@pytest.mark.parametrize("suffix", ["m3u8", "mp4", "mkv", "ffconcat", "mpd", "sdp", "svg", "txt", "png"])
@pytest.mark.parametrize("text", [HLS, CONCAT, DASH, SDP, SVG], ids=["hls", "concat", "dash", "sdp", "svg"])
def test_lists_of_files_and_addresses_are_not_followed(tmp_path, secret, door, suffix, text):
    goals = ("private/secret.ts", secret, f"file://{secret}", f"http://{door.address}/a.ts", f"tcp://{door.address}")
    for number, goal in enumerate(goals):
        file = tmp_path / f"{number}.{suffix}"
        file.write_text(text.format(goal))
        reason = "is not a readable image" if suffix == "png" else NOT_OPENED
        with pytest.raises(MediaError, match=reason):
            open_clip(file)
        with pytest.raises(MediaError, match=f"no sound can be copied from|{NOT_OPENED}"):
            Sound(file).check()
    assert door.visits == 0


def test_what_is_refused_would_have_been_followed(tmp_path, secret):
    """So that the test above cannot pass for another reason: FFmpeg itself opens the file behind these lists."""
    for name, text in (("a.m3u8", HLS.format(secret)), ("a.mkv", CONCAT.format("private/secret.ts"))):
        (tmp_path / name).write_text(text)
        with av.open(str(tmp_path / name)) as container:
            assert len(list(container.decode(video=0))) == 5


@pytest.mark.parametrize("name", ["concat:a.mkv|b.mkv", "file:a.mkv", "data:video", "subfile,,start,0,end,9,,:a.mkv",
                                  "http:", "pipe:0", "-i", "--", "-", "%03d.mkv", "%s%n.mkv", "a\nb.mkv", "[0-9].mkv",
                                  "'\"$(x)`;&.mkv", "ünï—寸.mkv", "\udcff\udcfe.mkv"])  # fmt: skip
def test_names_are_names(tmp_path, monkeypatch, name):
    """Whatever a file is called, it is what is read and written, and nothing else."""
    monkeypatch.chdir(tmp_path)
    source = encode(tmp_path / "made.mkv", [yuv((40 * k, 128, 128)) for k in range(5)], "yuv420p", "ffv1")
    Path("a.mkv").write_bytes(b"not this one")
    source.rename(name)
    clip = open_clip(name)
    assert len(list(clip)) == 5
    target = name if Path(name).suffix == ".mkv" else f"{name}.mkv"
    Path("out").mkdir()
    os.chdir("out")
    written = write_clip(target, clip_of(tmp_path / name), like=clip.info, codec="ffv1", sound=Sound(tmp_path / name))
    assert [entry.name for entry in Path().iterdir()] == [target] and len(list(open_clip(written.path))) == 5


def clip_of(path):
    return list(open_clip(path))


def test_an_address_is_no_file(tmp_path, door):
    for name in (f"http://{door.address}/a.mp4", f"tcp://{door.address}", f"https://{door.address}/m3u8", "a\0b.mkv"):
        with pytest.raises(MediaError, match="does not exist: give a video file"):
            open_clip(name)
        with pytest.raises(MediaError, match="no sound can be copied from"):
            Sound(Path(name)).check()
    assert door.visits == 0


@pytest.mark.parametrize("suffix", [".mp4", ".png", ""])
def test_what_is_no_file_is_not_waited_for(tmp_path, suffix):
    pipe = tmp_path / f"pipe{suffix}"
    os.mkfifo(pipe)
    for path in (pipe, "/dev/zero"):
        with pytest.raises(MediaError, match="is neither a file nor a folder"):
            open_clip(path)


if not hasattr(os, "mkfifo"):
    del test_what_is_no_file_is_not_waited_for


def test_names_that_are_too_long_are_said(tmp_path):
    with pytest.raises(MediaError, match=r"cannot be read \(File name too long\): check the name"):
        open_clip(tmp_path / ("a" * 300 + ".mp4"))
    for name in ("a" * 250 + ".mp4", "a" * 250):
        with pytest.raises(MediaError, match="is too long for this disk: give one that is 30 letters shorter"):
            write_clip(tmp_path / name, noise(2), like=info(tmp_path))
    assert list(tmp_path.iterdir()) == []


# ------------------------------------------------------------------------------------------- absurd sizes


def png(width: int, height: int) -> bytes:
    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    return (
        b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(bytes(999))) + chunk(b"IEND", b"")
    )


def jpg(width: int, height: int) -> bytes:
    frame = struct.pack(">BBHBHHB9B", 255, 0xC0, 17, 8, height, width, 3, 1, 34, 0, 2, 17, 0, 3, 17, 0)
    return b"\xff\xd8\xff\xfe\x00\x04\xff\xc0\xff" + frame + bytes(50)


def bmp(width: int, height: int) -> bytes:
    return (
        b"BM" + struct.pack("<IHHIIiiHHIIiiII", 99, 0, 0, 54, 40, width, -height, 1, 24, 0, 0, 0, 0, 0, 0) + bytes(45)
    )


def tiff(width: int, height: int) -> bytes:
    tags = ((256, 4, width), (257, 4, height), (258, 3, 8), (259, 3, 1), (262, 3, 1), (273, 4, 8), (278, 4, height),
            (279, 4, 99))  # fmt: skip
    entries = b"".join(struct.pack("<HHII", tag, kind, 1, value) for tag, kind, value in tags)
    return b"II*\0" + struct.pack("<IH", 8, len(tags)) + entries + bytes(99)


def tiled_tiff(width: int, height: int) -> bytes:
    data = tiff(64, 64)
    return data.replace(struct.pack("<HHII", 278, 4, 1, 64), struct.pack("<HHII", 322, 4, 1, width)).replace(
        struct.pack("<HHII", 279, 4, 1, 99), struct.pack("<HHII", 323, 4, 1, height)
    )


def webp(width: int, height: int) -> bytes:
    """Its own greatest size is 16383x16383."""
    bits = struct.pack("<BI", 0x2F, min(width, 16384) - 1 | (min(height, 16384) - 1) << 14)
    return b"RIFF" + struct.pack("<I", 30) + b"WEBPVP8L" + struct.pack("<I", 18) + bits + bytes(13)


def exr(width: int, height: int) -> bytes:
    window = struct.pack("<4i", 0, 0, width - 1, height - 1)
    return b"v/1\x01\x02\0\0\0" + b"dataWindow\0box2i\0" + struct.pack("<I", 16) + window + bytes(50)


def gif(width: int, height: int) -> bytes:
    return (
        b"GIF89a"
        + struct.pack("<HHBBB", width, height, 0x80, 0, 0)
        + bytes(6)
        + b","
        + struct.pack("<HHHHB", 0, 0, width, height, 0)
        + b"\x02\x02\x44\x01\x00;"
    )


def y4m(width: int, height: int) -> bytes:
    return f"YUV4MPEG2 W{width} H{height} F25:1 C444\nFRAME\n".encode() + bytes(50)


BOMBS = {"png": png, "jpg": jpg, "bmp": bmp, "tiff": tiff, "tif": tiled_tiff, "webp": webp, "exr": exr, "gif": gif,
         "y4m": y4m}  # fmt: skip


@pytest.mark.parametrize("kind", [kind for kind in BOMBS if kind not in ("gif", "y4m")])
def test_declared_sizes_are_read(kind):
    data = BOMBS[kind](1921, 1083)
    assert declared_size(data) == (1921, 1083)
    assert all(declared_size(data[:k]) in (None, (1921, 1083), (64, 64)) for k in range(len(data)))


def bombs(folder: Path) -> None:
    """Everything that declares 60000x60000, and a stream that is patched to."""
    for kind, make in BOMBS.items():
        (folder / f"bomb.{kind}").write_bytes(make(60000, 60000))
    for name, codec in (("a.avi", "mjpeg"), ("a.mkv", "ffv1"), ("a.mov", "png")):
        pixel_format = {"mjpeg": "yuvj420p", "png": "rgb24"}.get(codec, "yuv420p")
        planes = [[*noise(1, 300, 300)[0].pixels.numpy()[None]]] if codec == "png" else [yuv((9, 99, 99), 300)]
        data = encode(folder / name, planes, pixel_format, codec).read_bytes()
        for pack in ("<I", ">I", "<H", ">H"):
            data = data.replace(struct.pack(pack, 300), struct.pack(pack, 60000))
        (folder / name).write_bytes(data)


def test_absurd_sizes_take_no_memory(tmp_path):
    """60000x60000 would be 10 GiB; what is opened here may have 700 MiB beyond what Python and FFmpeg take."""
    bombs(tmp_path)
    code = """
import re, resource, sys
from pathlib import Path
from comfy_fusionfft.errors import MediaError
from comfy_fusionfft.video import open_clip, read_images, read_video

virtual = int(re.search(r"VmSize:\\s+(\\d+)", Path("/proc/self/status").read_text())[1]) << 10
resource.setrlimit(resource.RLIMIT_AS, (virtual + (700 << 20),) * 2)
for path in sorted(Path(sys.argv[1]).iterdir()):
    try:
        print(path.name, sum(1 for _ in open_clip(path)))
    except MediaError as error:
        print(path.name, error)
"""
    run = subprocess.run([sys.executable, "-c", code, str(tmp_path)], capture_output=True, text=True, cwd=ROOT)
    assert run.returncode == 0, run.stderr[-2000:]
    said = dict(line.split(" ", 1) for line in run.stdout.splitlines())
    assert set(said) == {path.name for path in tmp_path.iterdir()}
    for name, text in said.items():
        assert "MediaError" not in text and ": " in text, (name, text)
    for kind in ("png", "jpg", "bmp", "tiff"):
        text = f"declares pictures of 60000x60000, at most {MOST_PIXELS} pixels are read: make them smaller, or copy "
        assert text in said[f"bomb.{kind}"]


if sys.platform != "linux":
    del test_absurd_sizes_take_no_memory


def test_a_video_that_declares_too_much_is_told(tmp_path):
    file = tmp_path / "a.y4m"
    file.write_bytes(y4m(16001, 9001))
    with pytest.raises(MediaError, match=r"a\.y4m declares pictures of 16001x9001, at most 134217728 pixels are read"):
        open_clip(file)


# ------------------------------------------------------------------------------------------ spoiled files


def test_sixty_spoiled_files(tmp_path):
    """The fuzzer's own run, a short one: it ends with 0 when nothing but clips and said refusals came of them."""
    command = [sys.executable, str(ROOT / "fuzzing" / "media.py"), "--inputs", "60", "--seed", "11"]
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "TMPDIR": str(tmp_path)}
    started = time.monotonic()
    run = subprocess.run(command, capture_output=True, text=True, cwd=ROOT, env=environment, timeout=300)
    assert run.returncode == 0 and "60 inputs in" in run.stdout, run.stdout + run.stderr
    assert time.monotonic() - started < 200
    assert list(tmp_path.iterdir()) == []


if sys.platform != "linux":
    del test_sixty_spoiled_files


def test_tags_in_any_bytes(tmp_path):
    """AVI knows no encoding: its tags come in whatever the machine spoke that wrote them."""
    file = encode(tmp_path / "a.avi", [yuv((90, 128, 128))] * 3, "yuvj420p", "mjpeg")
    with av.open(str(file)) as source, av.open(str(tmp_path / "b.avi"), "w") as output:
        output.metadata["title"] = "Ein Weg durch die XXXX"
        add = getattr(output, "add_stream_from_template", None) or (lambda stream: output.add_stream(template=stream))
        stream = add(source.streams.video[0])
        for packet in source.demux(video=0):
            if packet.dts is not None:
                packet.stream = stream
                output.mux(packet)
    data = (tmp_path / "b.avi").read_bytes()
    assert data.count(b"XXXX") == 1
    file.write_bytes(data.replace(b"XXXX", "Höfe".encode("latin-1")))
    clip = open_clip(file)
    assert clip.info.metadata["title"].startswith("Ein Weg durch die H")
    written = write_clip(tmp_path / "c.mkv", clip, like=clip.info, codec="ffv1")
    assert open_clip(written.path).info.metadata["title"] == clip.info.metadata["title"]


def test_a_stream_that_changes_its_pixels_keeps_its_shape(tmp_path):
    """Grey, transparent and deep pictures among coloured ones, as PNG in MOV has them: the first decides."""
    from fractions import Fraction

    formats = ("rgb24", "gray", "rgba", "rgb48be", "rgb24")
    packets = []
    for pixel_format in formats:
        encoder = av.CodecContext.create("png", "w")
        encoder.width, encoder.height, encoder.pix_fmt, encoder.time_base = 32, 16, pixel_format, Fraction(1, 25)
        picture = av.VideoFrame.from_ndarray(noise(1, 16, 32)[0].pixels.numpy() // 3 + 80).reformat(format=pixel_format)
        picture.pts, picture.time_base = 0, Fraction(1, 25)
        packets += [bytes(packet) for packet in [*encoder.encode(picture), *encoder.encode(None)]]
    for first in range(4):
        order = packets[first:] + packets[:first]
        file = tmp_path / f"{first}.mov"
        with av.open(str(file), "w") as output:
            stream = output.add_stream("png", rate=25)
            stream.width, stream.height, stream.pix_fmt = 32, 16, formats[first]
            for k, data in enumerate(order):
                packet = av.Packet(data)
                packet.stream, packet.time_base, packet.pts, packet.dts = stream, Fraction(1, 25), k, k
                packet.is_keyframe = True
                output.mux(packet)
        clip = open_clip(file)
        frames = list(clip)
        assert clip.info.pixel_format == formats[first] and len(frames) == 5
        shapes = {(tuple(frame.pixels.shape), frame.pixels.dtype) for frame in frames}
        assert len(shapes) == 1 and next(iter(shapes))[0] == (16, 32, clip.info.channels)
        assert [tuple(f.pixels.shape) for f in clip.frames(2, 8)] == [(4, 8, clip.info.channels)] * 3
        scale = 257 if clip.info.bit_depth > 8 else 1
        means = [float(frame.pixels[..., :3].double().mean()) / scale for frame in frames]
        assert max(means) - min(means) < 3, "each shows the same picture, as well as it can"


def test_sound_that_goes_back_in_time_does_not_cost_the_picture(tmp_path):
    video = encode(tmp_path / "v.mkv", [yuv((90, 128, 128))] * 25, "yuv420p", "ffv1")
    file = with_tone(
        tmp_path / "a.ts", encode(tmp_path / "v.ts", [yuv((90, 128, 128))] * 25, "yuv420p", "libx264"), "mp2"
    )
    with av.open(str(file)) as source:
        packets = [p for p in source.demux(audio=0) if p.dts is not None]
        pes = [p for p in packets if p.pts]
        assert len(pes) > 10
    data = bytearray(file.read_bytes())
    back = 0
    for at in range(0, len(data) - 187, 188):
        # the header of a packetised stream begins in this packet, is one of sound, and has a timestamp
        start = data.find(b"\0\0\1\xc0", at, at + 188)
        if start > 0 and data[at + 1] & 0x40 and data[start + 7] & 0x80:
            back += 1
            if back % 3 == 2:
                data[start + 9] = data[start + 9] & 0xF1 | 0
                data[start + 10 : start + 14] = b"\0\1\0\1"
    file.write_bytes(data)
    assert back > 3
    for suffix in (".mkv", ".mp4"):
        written = write_clip(tmp_path / f"out{suffix}", open_clip(video), like=open_clip(video).info, sound=Sound(file))
        assert len(list(open_clip(written.path))) == 25
        assert any(
            note.startswith(("audio is missing in places", "audio left out: it is damaged")) for note in written.notes
        )
