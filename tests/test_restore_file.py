"""Whole files restored: size, sound, times, cuts, going on after a stop; with a small network in its place."""

from fractions import Fraction as F
from types import SimpleNamespace

import pytest
import torch
import torch.nn.functional as functional
from small_nets import FMANET
from test_files import facts, moving
from torch import nn
from video.clips import info, with_tone

from comfy_fusionfft.api import load_restorer, restore
from comfy_fusionfft.checkpoints import save
from comfy_fusionfft.cli import main
from comfy_fusionfft.contract import Span
from comfy_fusionfft.errors import Cancelled, InputError, OutputExistsError
from comfy_fusionfft.families.fmanet import FAMILY
from comfy_fusionfft.files import restore_file
from comfy_fusionfft.host import PlainHost
from comfy_fusionfft.video import open_clip, write_clip


class Twice:
    """Twice as large, a mean over three frames."""

    scale = 2

    def __init__(self, network, check, ends="replicate"):
        self.network, self.span = network, Span(2, 1, ends=ends)
        self.seen = []

    def __call__(self, window):
        self.seen.append([int(p) for p in window.positions])
        made = []
        for place in (window.positions.index(time, 1) for time in window.times):
            mean = torch.stack(window.images[place - 1 : place + 2]).mean(0) * self.network.share
            made.append(functional.interpolate(mean, scale_factor=2, mode="bilinear"))
        return torch.cat(made)

    def working_bytes(self, height, width):
        return 100 * height * width


def network():
    net = nn.Module()
    net.share = nn.Parameter(torch.tensor(1.0), requires_grad=False)
    net.family = SimpleNamespace(title="Twice", restorer=Twice, settings=("ends",))
    return net


@pytest.fixture
def source(tmp_path):
    """A second at 24 per second, a cut in the middle, with a tone."""
    silent = tmp_path / "silent.mp4"
    write_clip(silent, moving(24, (1, 2)), like=info(tmp_path, rate=F(24)), rate=F(24), quality=12)
    return with_tone(tmp_path / "in.mp4", silent, seconds=1.0)


def cpu(**options):
    return PlainHost("cpu", "float32", **options)


def test_a_video_keeps_its_times_and_its_sound(source, tmp_path):
    rooms = []
    written = restore_file(source, tmp_path / "out.mp4", weights=network(), host=cpu(), on_room=rooms.append)
    count, seconds, sound = facts(written.path)
    assert count == written.frames == 24 and seconds == facts(source)[1]
    assert sound == pytest.approx(1.0, abs=0.05)
    clip = open_clip(written.path)
    assert (clip.info.width, clip.info.height) == (160, 128)
    assert rooms[0].tile is None and rooms[0].needed == 100 * 64 * 80
    assert any(note.startswith("1 cut, ") for note in written.notes), written.notes


def test_shots_do_not_mix(source, tmp_path):
    frames = [f.pixels.float() for f in open_clip(source)]
    restore_file(source, tmp_path / "out", weights=network(), host=cpu())
    out = [f.pixels.float()[::2, ::2] for f in open_clip(tmp_path / "out")]
    for number in (11, 12):
        assert (out[number] - frames[number]).abs().mean() < (out[number] - frames[23 - number]).abs().mean() / 3


def test_what_is_left_out_on_request(source, tmp_path):
    restore_file(source, tmp_path / "out.mp4", weights=network(), host=cpu(), audio="drop", cuts=())
    assert facts(tmp_path / "out.mp4")[2] == 0.0
    with pytest.raises(OutputExistsError):
        restore_file(source, tmp_path / "out.mp4", weights=network(), host=cpu())
    with pytest.raises(InputError, match="audio 'stretch' is not known: use keep or drop"):
        restore_file(source, tmp_path / "b.mp4", weights=network(), host=cpu(), audio="stretch")


@pytest.mark.parametrize("target", ["out.mp4", "out"])
def test_a_stopped_run_goes_on_to_the_same_bytes(source, tmp_path, target, monkeypatch):
    from comfy_fusionfft.video import segments

    monkeypatch.setattr(segments, "SEGMENT_FRAMES", 8, raising=True)
    net = network()
    whole = restore_file(source, tmp_path / f"whole{tmp_path.joinpath(target).suffix}", weights=net, host=cpu())

    host = cpu()
    monkeypatch.setattr(host, "progress", lambda done, total, preview=None: (done, total) == (19, 24) and host.cancel())
    with pytest.raises(Cancelled):
        restore_file(source, tmp_path / target, weights=net, host=host)
    again = []
    host = cpu(on_progress=lambda done, total: again.append((done, total)))
    monkeypatch.setattr(host, "free_bytes", lambda: 10)  # decided before, and kept to
    restore_file(source, tmp_path / target, weights=net, host=host)
    assert again[0][0] > 8 and again[-1] == (24, 24)
    read = (
        (lambda p: p.read_bytes())
        if target.endswith("mp4")
        else (lambda p: [f.read_bytes() for f in sorted(p.iterdir())])
    )
    assert read(tmp_path / target) == read(whole.path)


def test_in_memory_with_cuts_found_and_settings_passed_on():
    frames = list(moving(12, (1, 2)))
    host = cpu()
    restorer = load_restorer(network(), host=host, ends="reflect")
    out = list(restore(frames, restorer, cuts="auto", host=host))
    assert len(out) == 12 and out[0].pixels.shape == (128, 160, 3)
    assert restorer.seen[0] == [1, 0, 1, 2] and restorer.seen[3][0] == 7
    assert len(list(restore(iter(frames), network(), host=host, ends="reflect"))) == 12


@pytest.fixture
def weights(tmp_path):
    torch.manual_seed(3)
    return save(FAMILY.build(FMANET).state_dict(), tmp_path / "small.safetensors", family=FAMILY, config=FMANET)


def test_the_command_makes_what_the_library_makes(source, tmp_path, weights, capsys):
    given = [str(source), str(tmp_path / "out"), "--weights", str(weights), "--device", "cpu", "--dtype", "float32"]
    assert main(["restore", *given, "--ends", "reflect", "--cuts", "12", "--quiet"]) == 0
    told = capsys.readouterr().err
    assert "working on whole pictures, about 0.0 GB of " in told and "24 frames in " in told
    restorer = load_restorer(weights, host=cpu(), ends="reflect")
    made = restore(open_clip(source), restorer, cuts=(12,), host=cpu())
    for frame, there in zip(made, open_clip(tmp_path / "out"), strict=True):
        assert torch.equal(frame.pixels, there.pixels) and frame.pixels.shape == (256, 320, 3)


def test_the_command_says_what_is_wrong(source, tmp_path, weights, capsys):
    out = str(tmp_path / "out.mp4")
    assert main(["restore", str(source), out, "--weights", "rife-v0"]) == 1
    assert "is a flow network" in capsys.readouterr().err
    assert main(["restore", str(source), out, "--weights", str(weights), "--tile", "20"]) == 1
    assert "tiles of 20 px: use 128 or more, auto or none" in capsys.readouterr().err
    assert main(["restore", str(source), out, "--weights", "nowhere.safetensors"]) == 1
    assert "nowhere.safetensors" in capsys.readouterr().err
    assert not (tmp_path / "out.mp4").exists()


def test_a_setting_of_another_network_is_named():
    with pytest.raises(InputError, match="Twice has no setting 'chunk': it has ends"):
        load_restorer(network(), host=cpu(), chunk=3)
