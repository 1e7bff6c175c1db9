"""What a file says about itself beside the picture: tags and HDR light."""

from dataclasses import replace
from fractions import Fraction

import av
import numpy as np
import pytest
from video.clips import encode, info, noise, yuv

from comfy_fusionfft.video import open_clip, write_clip
from comfy_fusionfft.video.light import Light

TAGS = {
    "title": "Ein Spaziergang",
    "comment": "line 1\nline 2",
    "creation_time": "2020-05-17T10:00:00.000000Z",
    "prompt": '{"3": {"class_type": "KSampler"}}',
    "workflow": '{"nodes": []}',
}
HDR = Light((0.68, 0.32, 0.265, 0.69, 0.15, 0.06, 0.3127, 0.329), (0.005, 1000.0), 1000, 400)


@pytest.mark.parametrize("name", ["a.mp4", "a.mov", "a.mkv", "a.webm"])
def test_tags_are_carried(tmp_path, name):
    first = write_clip(tmp_path / name, noise(2), like=info(tmp_path, metadata=TAGS))
    clip = open_clip(first.path)
    found = {key: value for key, value in clip.info.metadata.items() if key != "creation_time"}
    assert found == {key: value for key, value in TAGS.items() if key != "creation_time"}
    assert clip.info.metadata["creation_time"].startswith("2020-05-17T10:00:00")
    again = write_clip(tmp_path / "b.mkv", clip, like=clip.info, metadata={"Title": "new", "comment": "", "extra": "x"})
    found = open_clip(again.path).info.metadata
    assert (found["title"], found["extra"], found["prompt"]) == ("new", "x", TAGS["prompt"])
    assert "comment" not in found


def test_common_tags_of_mp4_stay_where_players_look(tmp_path):
    write_clip(tmp_path / "a.mp4", noise(2), like=info(tmp_path, metadata={"title": "A walk"}))
    assert b"\xa9nam" in (tmp_path / "a.mp4").read_bytes()


def test_what_describes_the_old_file_is_left_out(tmp_path):
    with av.open(str(tmp_path / "a.mp4"), "w") as output:
        output.metadata["title"] = "x"
        stream = output.add_stream("libx264", rate=25)
        stream.width = stream.height = 16
        output.mux(stream.encode(av.VideoFrame(16, 16, "yuv420p")))
        output.mux(stream.encode(None))
    assert open_clip(tmp_path / "a.mp4").info.metadata == {"title": "x"}
    assert open_clip(write_clip(tmp_path / "folder", noise(1), like=info(tmp_path)).path).info.metadata == {}


@pytest.mark.parametrize("name", ["a.mp4", "a.mkv"])
def test_the_same_file_twice_is_the_same(tmp_path, name):
    frames = [replace(frame, seconds=Fraction(k * k, 50)) for k, frame in enumerate(noise(9))]
    for folder in ("a", "b"):
        write_clip(tmp_path / folder / name, frames, like=info(tmp_path, metadata=TAGS))
    assert (tmp_path / "a" / name).read_bytes() == (tmp_path / "b" / name).read_bytes()


@pytest.mark.parametrize(("codec", "name"), [("h264", "a.mp4"), ("hevc", "a.mp4"), ("hevc", "a.mkv"), ("av1", "a.mkv")])
def test_light_is_carried(tmp_path, codec, name):
    like = info(tmp_path, light=HDR, bit_depth=10)
    written = write_clip(tmp_path / name, noise(3, 64, 64, dtype=np.uint16), like=like, codec=codec)
    assert written.notes == ()
    found = open_clip(written.path).info.light
    assert found.primaries == pytest.approx(HDR.primaries, abs=1e-4)
    assert found.luminance == pytest.approx(HDR.luminance, rel=1e-2)
    assert (found.peak, found.average) == (1000, 400)


def test_light_that_cannot_be_carried_is_said(tmp_path):
    written = write_clip(tmp_path / "a.mkv", noise(2), like=info(tmp_path, light=HDR), codec="ffv1")
    assert written.notes == ("HDR mastering data left out: ffv1 cannot be told (h264, hevc and av1 can)",)
    assert open_clip(encode(tmp_path / "b.mp4", [yuv((9, 9, 9))], "yuv420p", "libx264")).info.light is None
