"""All or nothing: existing outputs, stopping half-way, failing half-way, full disks."""

import errno
from pathlib import Path

import av
import pytest
import torch
from video.clips import info, noise

from comfy_fusionfft.errors import Cancelled, MediaError, OutputExistsError
from comfy_fusionfft.video import open_clip, write_clip

OUTPUTS = ["out.mp4", "out.mkv", "out"]


def pulled():
    raise AssertionError("a frame was pulled")
    yield


def raising(error: BaseException, after: int):
    yield from noise(after)
    raise error


def frames_in(path: Path) -> int:
    return len(list(open_clip(path)))


@pytest.mark.parametrize("name", OUTPUTS)
def test_existing_output_is_refused_before_any_work(tmp_path, name):
    write_clip(tmp_path / name, noise(2), like=info(tmp_path))
    with pytest.raises(OutputExistsError, match="exists already: pass --overwrite"):
        write_clip(tmp_path / name, pulled(), like=info(tmp_path))
    assert frames_in(tmp_path / name) == 2


@pytest.mark.parametrize("name", OUTPUTS)
def test_overwriting_happens_at_success_only(tmp_path, name):
    write_clip(tmp_path / name, noise(2), like=info(tmp_path))
    with pytest.raises(ZeroDivisionError):
        write_clip(tmp_path / name, raising(ZeroDivisionError(), 3), like=info(tmp_path), overwrite=True)
    assert frames_in(tmp_path / name) == 2
    seen = []
    write_clip(tmp_path / name, noise(5), like=info(tmp_path), overwrite=True,
               on_frame=lambda count, frame: seen.append((count, frames_in(tmp_path / name))))  # fmt: skip
    assert seen == [(count, 2) for count in range(1, 6)]
    assert frames_in(tmp_path / name) == 5
    assert [entry.name for entry in tmp_path.iterdir()] == [name]


def test_folder_with_other_things_is_never_replaced(tmp_path):
    (tmp_path / "out").mkdir()
    (tmp_path / "out/holiday.png").write_bytes(b"precious")
    with pytest.raises(OutputExistsError, match=r"holds other things than numbered images \(holiday\.png"):
        write_clip(tmp_path / "out", pulled(), like=info(tmp_path), overwrite=True)
    assert (tmp_path / "out/holiday.png").read_bytes() == b"precious"


def test_empty_folder_is_used_and_missing_ones_are_made(tmp_path):
    (tmp_path / "out").mkdir()
    write_clip(tmp_path / "out", noise(1), like=info(tmp_path))
    write_clip(tmp_path / "new/deep/out.mp4", noise(1), like=info(tmp_path))
    write_clip(f"{tmp_path}/take.2/", noise(1), like=info(tmp_path))
    assert [frames_in(tmp_path / name) for name in ("out", "new/deep/out.mp4", "take.2")] == [1, 1, 1]


@pytest.mark.parametrize("name", OUTPUTS)
def test_output_is_never_the_input(tmp_path, name):
    write_clip(tmp_path / name, noise(2), like=info(tmp_path))
    (tmp_path / "link").symlink_to(tmp_path / name)
    clip = open_clip(tmp_path / name)
    for path in (tmp_path / name, tmp_path / "link"):
        if path.suffix or path.is_dir():
            with pytest.raises(MediaError, match="is both input and output"):
                write_clip(path, clip, like=clip.info, overwrite=True)
    assert frames_in(tmp_path / name) == 2


@pytest.mark.parametrize("name", OUTPUTS)
@pytest.mark.parametrize("stop", [Cancelled("stop"), KeyboardInterrupt()])
def test_stopping_keeps_what_is_done(tmp_path, name, stop):
    for attempt in ("", "2"):
        with pytest.raises(Cancelled, match=rf"stopped after 3 frames: they are in .*partial{attempt}"):
            write_clip(tmp_path / name, raising(stop, 3), like=info(tmp_path))
        partial = tmp_path / name.replace("out", f"out.partial{attempt}")
        assert frames_in(partial) == 3
        first = next(iter(open_clip(partial)))
        if partial.is_dir():
            assert torch.equal(first.pixels, noise(3)[0].pixels)
    assert len(list(tmp_path.iterdir())) == 2


@pytest.mark.parametrize("name", OUTPUTS)
def test_stopping_from_the_progress_callback(tmp_path, name):
    def stop(count, frame):
        if count == 2:
            raise Cancelled("stop")

    with pytest.raises(Cancelled, match="stopped after 2 frames"):
        write_clip(tmp_path / name, noise(5), like=info(tmp_path), on_frame=stop)
    assert frames_in(tmp_path / name.replace("out", "out.partial")) == 2


@pytest.mark.parametrize("name", OUTPUTS)
@pytest.mark.parametrize("error", [Cancelled("early"), KeyboardInterrupt(), ZeroDivisionError()])
def test_nothing_is_left_when_nothing_was_done(tmp_path, name, error):
    with pytest.raises(type(error)):
        write_clip(tmp_path / name, raising(error, 0), like=info(tmp_path))
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("name", OUTPUTS)
def test_no_frames(tmp_path, name):
    with pytest.raises(MediaError, match="there are no frames to write"):
        write_clip(tmp_path / name, [], like=info(tmp_path))
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("name", OUTPUTS)
def test_failure_leaves_nothing_and_passes_through(tmp_path, name):
    with pytest.raises(ZeroDivisionError, match="mine"):
        write_clip(tmp_path / name, raising(ZeroDivisionError("mine"), 3), like=info(tmp_path))
    assert list(tmp_path.iterdir()) == []


def test_full_disk_in_a_folder(tmp_path, monkeypatch):
    original = Path.write_bytes

    def write_bytes(self, data):
        if self.stem == "0000002":
            original(self, data[:9])
            raise OSError(errno.ENOSPC, "No space left on device")
        return original(self, data)

    monkeypatch.setattr(Path, "write_bytes", write_bytes)
    with pytest.raises(MediaError, match=r"disk full while writing .*out: free space or choose another folder"):
        write_clip(tmp_path / "out", noise(5), like=info(tmp_path))
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("file", ["whole.mkv", "000000.packets.part"])
def test_full_disk_in_a_video(tmp_path, monkeypatch, file):
    # /dev/full refuses every write as a full disk does; a name in the hidden folder is made to lead there.
    monkeypatch.setattr("comfy_fusionfft.video.work.secrets.token_hex", lambda count: "00000000")
    (tmp_path / ".out.mkv.00000000.work").mkdir()
    (tmp_path / ".out.mkv.00000000.work" / file).symlink_to("/dev/full")
    with pytest.raises(MediaError, match=r"disk full while writing .*out\.mkv"):
        write_clip(tmp_path / "out.mkv", noise(40, 128, 128), like=info(tmp_path), codec="ffv1")
    assert list(tmp_path.iterdir()) == []


# Only Linux has /dev/full.
if not Path("/dev/full").exists():
    del test_full_disk_in_a_video


def test_full_disk_reported_by_the_muxer(tmp_path, monkeypatch):
    def full(*_):
        raise av.error.FFmpegError(errno.ENOSPC, "No space left on device", "out.mp4")

    monkeypatch.setattr("comfy_fusionfft.video.mux.joined", full)
    with pytest.raises(MediaError, match="disk full while writing"):
        write_clip(tmp_path / "out.mp4", noise(5), like=info(tmp_path))
    assert list(tmp_path.iterdir()) == []


def test_nothing_heavy_is_imported_early():
    import subprocess
    import sys

    code = "import sys, comfy_fusionfft.video; print(sorted({'av', 'cv2'} & set(sys.modules)))"
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert run.stdout.strip() == "[]"
