"""Weights and the disk: what is no file, folders that take nothing, files that change while they are read."""

import os
import resource
import shutil
import tempfile
import threading
from contextlib import contextmanager
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from comfy_fusionfft import checkpoints, tensor_file
from comfy_fusionfft.cli import main
from comfy_fusionfft.errors import CheckpointError, DeviceError
from tests.faults import fuzz_checkpoints as fuzz

RIFE = fuzz.CONFIGS["rife"]
NOBODY = 65534


@pytest.fixture
def state():
    return {name: tensor.clone() for name, tensor in fuzz.networks()["rife"].items()}


@pytest.fixture
def file(state, tmp_path):
    save_file(state, tmp_path / "net.safetensors")
    return tmp_path / "net.safetensors"


@pytest.fixture
def sealed():
    """A folder that may be read and not written to; for root, who may do everything, as another user."""
    folder = Path(tempfile.mkdtemp())
    folder.chmod(0o555)
    root = os.geteuid() == 0
    if root:
        os.seteuid(NOBODY)
    yield folder
    if root:
        os.seteuid(0)
    folder.chmod(0o700)
    shutil.rmtree(folder)


@contextmanager
def full_disk(after: int):
    """No file of this process may grow beyond so many bytes."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (after, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


def within(seconds: float, work):
    """``work()`` in a thread of its own; fails, rather than waits, where it hangs."""
    answer = []

    def run() -> None:
        try:
            work()
        except Exception as error:
            answer.append(error)

    thread = threading.Thread(target=run, daemon=True)
    thread.start()
    thread.join(seconds)
    assert not thread.is_alive(), "it hangs"
    return answer[0] if answer else None


# -- what is no file ------------------------------------------------------------------------------------


def pipe(folder: Path) -> Path:
    os.mkfifo(folder / "x.safetensors")
    return folder / "x.safetensors"


def linked(target: str):
    def make(folder: Path) -> Path:
        (folder / "x.safetensors").symlink_to(target)
        return folder / "x.safetensors"

    return make


def directory(folder: Path) -> Path:
    (folder / "x.safetensors").mkdir()
    return folder / "x.safetensors"


@pytest.mark.parametrize(
    ("make", "needle"),
    [
        (pipe, "is a pipe or a device, not a file; choose a weights file"),
        (lambda _: Path("/dev/zero"), "/dev/zero is a pipe or a device, not a file; choose a weights file"),
        (lambda _: Path("/dev/null"), "is a pipe or a device, not a file"),
        (linked("/dev/zero"), "is a pipe or a device, not a file"),
        (linked("x.safetensors"), "cannot be read (Too many levels of symbolic links); choose a weights file"),
        (linked("nowhere"), "does not exist; choose a weights file"),
        (directory, "cannot be read (Is a directory); choose a weights file"),
        (lambda _: Path("a\0b.safetensors"), "is no file name; choose a weights file"),
        (lambda _: Path("x" * 300), "cannot be read (File name too long); choose a weights file"),
        (lambda _: Path("/proc/self/mem"), "/proc/self/mem "),
    ],
)
@pytest.mark.parametrize("pickled", [False, True])
def test_what_is_no_file(make, needle, pickled, tmp_path):
    path = make(tmp_path)
    if pickled and path.suffix and tmp_path in path.parents:
        path = path.rename(path.with_suffix(".pth")) if needle[:8] != "cannot b" else path
    target = tmp_path / "made.safetensors"
    for door in (checkpoints.load, checkpoints.identify, lambda path: checkpoints.convert(path, target)):
        error = within(20, lambda door=door: door(path))
        assert isinstance(error, CheckpointError) and needle in str(error)
        assert not target.exists()


def test_a_link_to_a_file_is_the_file(file, tmp_path):
    (tmp_path / "link.safetensors").symlink_to(file)
    assert checkpoints.load(tmp_path / "link.safetensors").config == RIFE


def test_a_pipe_in_a_model_folder_holds_nothing_up(file, tmp_path, monkeypatch):
    pipe(tmp_path)
    (tmp_path / "y.safetensors").mkdir()
    listed = {}

    def work() -> None:
        listed.update({f.name: f for f in checkpoints.available(folders=[tmp_path])})

    assert within(20, work) is None
    assert listed["net"].family.name == "rife"
    assert "is a pipe or a device" in listed["x"].problem and "Is a directory" in listed["y"].problem
    with pytest.raises(CheckpointError, match="no weights 'x' in "):
        checkpoints.find("x", folders=[tmp_path])


@pytest.mark.parametrize("name", ["../weights/rife-v0", "/etc/passwd", "a/b", "..", ""])
def test_an_embedded_file_lies_nowhere_else(name):
    """Names come from saved graphs, which strangers make."""
    with pytest.raises(CheckpointError, match="is missing: the installation is not complete"):
        checkpoints.embedded(name)


# -- folders and disks ----------------------------------------------------------------------------------


def test_converting_into_a_folder_that_takes_nothing(file, sealed):
    numbers = fuzz.networks()["rife"]
    family = checkpoints.every_family()[[f.name for f in checkpoints.every_family()].index("rife")]
    with pytest.raises(CheckpointError, match=r"cannot be written \(Permission denied\); free space or choose another"):
        checkpoints.save(numbers, sealed / "x.safetensors", family=family, config=RIFE)
    with pytest.raises(CheckpointError, match=r"cannot be written \(Permission denied\); free space or choose another"):
        checkpoints.save(numbers, sealed / "new" / "x.safetensors", family=family, config=RIFE)
    assert list(sealed.iterdir()) == []


def test_a_disk_that_fills_while_converting(file, tmp_path, capsys):
    target = tmp_path / "out" / "x.safetensors"
    with full_disk(file.stat().st_size // 2):
        assert main(["convert", str(file), str(target)]) == 1
    assert "cannot be written (File too large); free space or choose another folder" in capsys.readouterr().err
    assert list(target.parent.iterdir()) == []


def test_a_disk_that_fills_keeps_what_was_there(file, tmp_path):
    target = tmp_path / "out" / "x.safetensors"
    checkpoints.convert(file, target)
    before = target.read_bytes()
    with full_disk(file.stat().st_size // 2), pytest.raises(CheckpointError, match="cannot be written"):
        checkpoints.convert(file, target, overwrite=True)
    assert target.read_bytes() == before
    assert [path.name for path in target.parent.iterdir()] == ["x.safetensors"]


def test_a_file_that_may_not_be_read(file, sealed):
    path = sealed / "x.safetensors"
    if os.geteuid() == NOBODY:
        os.seteuid(0)
    sealed.chmod(0o755)
    path.write_bytes(file.read_bytes())
    path.chmod(0)
    if os.getuid() == 0:
        os.seteuid(NOBODY)
    with pytest.raises(CheckpointError, match=r"cannot be read \(Permission denied\); choose a weights file"):
        checkpoints.load(path)


# -- files that change ----------------------------------------------------------------------------------


@pytest.fixture
def meanwhile(monkeypatch):
    """Does something once, after the header was read and before the numbers are."""

    def arrange(act) -> None:
        real, done = tensor_file.empty, []

        def empty(*arguments):
            if not done:
                done.append(True)
                act()
            return real(*arguments)

        monkeypatch.setattr(tensor_file, "empty", empty)

    return arrange


def test_a_file_cut_off_while_it_is_read(file, meanwhile):
    """Mapped into memory, this ended the process with SIGBUS."""
    meanwhile(lambda: os.truncate(file, 5000 + file.stat().st_size // 2))
    with pytest.raises(CheckpointError, match="was cut off while it was read; download it again"):
        checkpoints.load(file)


def test_a_file_replaced_while_it_is_read(file, state, meanwhile, tmp_path):
    """What was opened is read to its end: never the header of one file and the numbers of another."""
    other = tmp_path / "other.safetensors"
    save_file({name: tensor + 1 for name, tensor in state.items()}, other)
    meanwhile(lambda: other.replace(file))
    loaded = checkpoints.load(file).module.state_dict()
    assert all(torch.equal(loaded[name], tensor) for name, tensor in state.items())
    again = checkpoints.load(file).module.state_dict()
    assert all(torch.equal(again[name], tensor + 1) for name, tensor in state.items())


def test_a_file_that_disappears_while_it_is_read(file, state, meanwhile):
    meanwhile(file.unlink)
    assert checkpoints.load(file).config == RIFE
    with pytest.raises(CheckpointError, match="does not exist; choose a weights file"):
        checkpoints.load(file)


def test_a_loaded_network_needs_its_file_no_longer(file, state):
    loaded = checkpoints.load(file)
    os.truncate(file, 0)
    assert all(torch.equal(tensor, state[name]) for name, tensor in loaded.module.state_dict().items())


def test_a_disk_that_fails_while_it_is_read(file, meanwhile):
    def fail() -> None:
        raise OSError(5, "Input/output error")

    meanwhile(fail)
    with pytest.raises(CheckpointError, match=r"cannot be read \(Input/output error\); choose a weights file"):
        checkpoints.load(file)


def test_no_memory_for_the_numbers(file, meanwhile):
    """Of the file, not of the network it makes: it is no damage, and is not called so."""

    def fail() -> None:
        raise MemoryError

    meanwhile(fail)
    with pytest.raises(DeviceError, match="does not fit into memory; close other programs"):
        checkpoints.load(file)
