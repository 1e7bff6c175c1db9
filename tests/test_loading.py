"""PyTorch or OpenCV that cannot be loaded: one line that says why, whatever the reason."""

import subprocess
import sys

import pytest
from places import ROOT

from comfy_fusionfft.cli import loading, main
from comfy_fusionfft.cli.loading import explained
from comfy_fusionfft.errors import DeviceError


def test_too_little_address_space_is_said_before_anything_is_loaded():
    resource = pytest.importorskip("resource")
    least = 2**28

    def limit():
        resource.setrlimit(resource.RLIMIT_AS, (least, least))

    command = [sys.executable, "-m", "comfy_fusionfft", "interpolate", "in.mp4", "out.mp4"]
    ended = subprocess.run(command, cwd=ROOT, preexec_fn=limit, capture_output=True, text=True, timeout=60)
    assert ended.returncode == 1
    assert ended.stderr.startswith("fusionfft: error: this process may take another 0.2"), ended.stderr
    assert ended.stderr.endswith("takes up to 1.25 GB and a clip some more: raise the limit\n")


def test_too_little_is_left_once_torch_is_there(monkeypatch, capsys):
    left = iter((2_000_000_000, 300_000_000))
    monkeypatch.setattr(loading, "address_space", lambda: next(left))
    assert main(["interpolate", "in.mp4", "out.mp4"]) == 1
    assert "may take another 0.30 GB of address space" in capsys.readouterr().err


def test_a_missing_package(monkeypatch):
    monkeypatch.setitem(sys.modules, "torch", None)
    monkeypatch.setattr(loading, "address_space", lambda: None)
    says = r"^torch is not installed for this Python: install PyTorch, then pip install -r requirements.txt$"
    with pytest.raises(DeviceError, match=says), explained():
        raise AssertionError("went on without it")


@pytest.mark.parametrize(
    ("left", "error", "text"),
    [
        (None, ImportError("libx.so: not found"), r"\(libx.so: not found\): install them again$"),
        (
            2**32,
            ImportError("libx.so: cannot map"),
            r"\(libx.so: cannot map\): raise the process's limit \(ulimit -v\)$",
        ),
        (2**32, MemoryError(), r"\(out of memory\): raise the process's limit \(ulimit -v\)$"),
        (2**32, SystemError("error return without exception set"), r"\(error return .* set\): raise the "),
    ],
)
def test_what_fails_while_it_is_loaded(left, error, text, monkeypatch):
    monkeypatch.setattr(loading, "address_space", lambda: left)
    with pytest.raises(DeviceError, match=r"^PyTorch and OpenCV cannot be loaded " + text), explained():
        raise error
