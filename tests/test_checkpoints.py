"""Weights files: what is accepted, what is refused and with which words, where files are looked for."""

import json
import os
import pickle
import struct
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from safetensors.torch import load_file, save_file

from comfy_fusionfft import checkpoints
from comfy_fusionfft.contract import Family, Miss
from comfy_fusionfft.errors import CheckpointError, OutputExistsError
from comfy_fusionfft.families.rife import FAMILY, RIFEConfig
from comfy_fusionfft.families.rife.net import IFNet

CONFIG = RIFEConfig(widths=(16, 12, 8, 8, 8), head_width=6)


@pytest.fixture
def state() -> dict[str, torch.Tensor]:
    return IFNet(CONFIG).state_dict()


@pytest.fixture
def file(state, tmp_path):
    return checkpoints.save(state, tmp_path / "net.safetensors", family=FAMILY, config=CONFIG)


@pytest.fixture
def nowhere(monkeypatch, tmp_path):
    """No weights in reach but those a test puts into the cache folder, which this is."""
    monkeypatch.setenv("FUSIONFFT_CACHE", str(tmp_path / "cache"))
    monkeypatch.delenv("COMFYUI_PATH", raising=False)
    monkeypatch.setattr(checkpoints, "_PACKAGE", tmp_path / "site-packages" / "comfy_fusionfft")
    (tmp_path / "cache").mkdir()
    return tmp_path / "cache"


def refused(path, needle: str) -> None:
    with pytest.raises(CheckpointError) as caught:
        checkpoints.load(path)
    assert needle in str(caught.value)
    assert str(path) in str(caught.value)
    assert "\n" not in str(caught.value)


# -- load -----------------------------------------------------------------------------------------------


def test_half_precision_file_loads_as_float32(state, tmp_path):
    path = tmp_path / "half.safetensors"
    checkpoints.save(state, path, family=FAMILY, config=CONFIG, dtype=torch.float16)
    assert load_file(path)["block0.conv0.0.0.weight"].dtype == torch.float16
    loaded = checkpoints.load(path)
    assert not loaded.module.training
    assert loaded.metadata["fusionfft.family"] == "rife"
    for name, tensor in loaded.module.state_dict().items():
        assert torch.equal(tensor, state[name].half().float())


@pytest.mark.skipif(os.name == "nt", reason="Windows has no such permissions")
def test_others_may_read_what_was_saved(file, tmp_path):
    (tmp_path / "plain").touch()
    assert file.stat().st_mode == (tmp_path / "plain").stat().st_mode


def test_foreign_spelling_loads(state, tmp_path):
    renamed = {f"module.{name}": tensor for name, tensor in state.items()}
    save_file(renamed | {"module.teacher.weight": torch.ones(1)}, tmp_path / "net.safetensors")
    assert checkpoints.load(tmp_path / "net.safetensors").config == CONFIG


@pytest.mark.parametrize(
    ("content", "needle"),
    [
        (b"", "is not a safetensors file; choose one"),
        (b"abc", "is not a safetensors file"),
        (os.urandom(7) + b"\xff" + b"x" * 100, "is not a safetensors file"),
        (struct.pack("<Q", 1 << 50) + b"{}", "is not a safetensors file"),
        (struct.pack("<Q", 5000) + b"{}", "is cut off within its header (10 bytes); download it again"),
        (struct.pack("<Q", 4) + b"{]}x", "has a header that is not safetensors'"),
        (struct.pack("<Q", 4) + b"[1] ", "has a header that is not safetensors'"),
        (b"<!DOCTYPE html><html>", "is a web page, not weights"),
        (b"version https://git-lfs.github.com/spec/v1\n", "is a Git LFS pointer"),
        (
            b"PK\x03\x04\x14\0\0\0" + b"x" * 50,
            "is a pickle, which could run code; run `fusionfft convert x.safetensors",
        ),
        (pickle.dumps({"a": list(range(99))}, protocol=4), "is a pickle"),
        (pickle.dumps({"a": list(range(99))}, protocol=2), "is a pickle"),
    ],
)
def test_what_is_no_safetensors_file(content, needle, tmp_path):
    path = tmp_path / "x.safetensors"
    path.write_bytes(content)
    refused(path, needle)


def test_impossible_shapes_in_a_header(tmp_path):
    for shape in ([10**19], [-1], "abc", [1 << 40, 1 << 40]):
        header = json.dumps({"a": {"dtype": "F32", "shape": shape, "data_offsets": [0, 4]}}).encode()
        path = tmp_path / "x.safetensors"
        path.write_bytes(struct.pack("<Q", len(header)) + header + bytes(4))
        refused(path, "has a header that is not safetensors'")


@pytest.mark.parametrize("cut", [1, 1000])
def test_truncated_file(file, cut):
    size = file.stat().st_size
    with file.open("r+b") as stream:
        stream.truncate(size - cut)
    refused(file, f"has {size - cut} bytes and its header says {size}; download it again")


def test_pickle_is_refused_without_reading_it(state, tmp_path):
    torch.save(state, tmp_path / "flownet.pkl")
    refused(tmp_path / "flownet.pkl", "run `fusionfft convert flownet.pkl flownet.safetensors` once")


def test_missing_file(tmp_path):
    refused(tmp_path / "none.safetensors", "does not exist; choose a weights file")


def test_unclaimed_file_lists_what_each_family_missed(tmp_path):
    save_file({"weight": torch.ones(3)}, tmp_path / "other.safetensors")
    refused(tmp_path / "other.safetensors", "not RIFE: no tensor block0.conv0.0.0.weight")


def test_a_file_two_families_claim_is_refused(file):
    twin = Family("twin", "Twin", "flow", lambda state, metadata: CONFIG, IFNet)
    with pytest.raises(CheckpointError, match="is claimed by RIFE and Twin; only one may"):
        checkpoints.load(file, families=(FAMILY, twin))
    never = Family("never", "Never", "flow", lambda state, metadata: Miss("all"), IFNet)
    assert checkpoints.load(file, families=(never, FAMILY)).family is FAMILY


def test_incomplete_network_names_the_tensors(state, tmp_path):
    path = tmp_path / "net.safetensors"
    for number in range(5):
        del state[f"block4.convblock.{number}.beta"]
    state["block0.surplus"] = torch.ones(1)
    state["block2.lastconv.0.bias"] = torch.ones(7)
    save_file(state, path)
    refused(
        path,
        "is no complete RIFE network: 5 missing (block4.convblock.0.beta, block4.convblock.1.beta, "
        "block4.convblock.2.beta, …); 1 unknown (block0.surplus); "
        "1 of another shape (block2.lastconv.0.bias (7,) instead of (52,)); get another copy",
    )


# -- convert --------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "wrap", [lambda s: s, lambda s: {"state_dict": s, "epoch": 3}, lambda s: {"params": {"model": s}}]
)
@pytest.mark.parametrize("legacy", [False, True])
def test_convert_reads_tensor_only_pickles(state, tmp_path, wrap, legacy):
    source, target = tmp_path / "flownet.pkl", tmp_path / "new" / "rife.safetensors"
    upstream = {f"module.{name}": tensor for name, tensor in state.items()}
    torch.save(wrap(upstream), source, _use_new_zipfile_serialization=not legacy)
    assert checkpoints.convert(source, target, metadata={"rife.version": "4.25"}) == target
    loaded = checkpoints.load(target)
    assert loaded.config.version == "4.25"
    assert set(load_file(target)) == set(state)
    assert loaded.metadata["fusionfft.source"] == "flownet.pkl"
    assert loaded.metadata["fusionfft.source_sha256"] == checkpoints.file_sha256(source)
    assert loaded.metadata["rife.scales"] == "16 8 4 2 1"
    assert all(torch.equal(tensor, state[name]) for name, tensor in loaded.module.state_dict().items())
    assert [path.name for path in target.parent.iterdir()] == ["rife.safetensors"]


def test_convert_from_safetensors_keeps_metadata_and_changes_precision(file, tmp_path):
    once = checkpoints.convert(file, tmp_path / "a.safetensors", metadata={"rife.scales": "32 8 4 2 1"})
    twice = checkpoints.convert(once, tmp_path / "b.safetensors", dtype=torch.bfloat16)
    assert checkpoints.load(twice).config.scales == (32, 8, 4, 2, 1)
    assert load_file(twice)["block0.conv0.0.0.weight"].dtype == torch.bfloat16


class Evil:
    def __init__(self, flag):
        self.flag = flag

    def __reduce__(self):
        return (os.mkdir, (str(self.flag),))


@pytest.mark.parametrize("legacy", [False, True])
def test_code_in_a_pickle_is_refused_and_not_executed(state, tmp_path, legacy):
    source, flag = tmp_path / "evil.pkl", tmp_path / "executed"
    torch.save(state | {"evil": Evil(flag)}, source, _use_new_zipfile_serialization=not legacy)
    with pytest.raises(CheckpointError, match="holds more than tensors; nothing of it was executed"):
        checkpoints.convert(source, tmp_path / "x.safetensors")
    assert not flag.exists()
    assert not (tmp_path / "x.safetensors").exists()


@pytest.mark.parametrize("content", [b"", b"PK\x03\x04 cut off", b"\x80\x02}q", b"hello world, no weights"])
def test_convert_of_damaged_files(content, tmp_path):
    (tmp_path / "x.pth").write_bytes(content)
    with pytest.raises(CheckpointError, match="damaged"):
        checkpoints.convert(tmp_path / "x.pth", tmp_path / "x.safetensors")


def test_convert_of_other_things(state, tmp_path):
    torch.save([1, 2], tmp_path / "list.pt")
    with pytest.raises(CheckpointError, match="holds no named tensors"):
        checkpoints.convert(tmp_path / "list.pt", tmp_path / "x.safetensors")
    with pytest.raises(CheckpointError, match="does not exist"):
        checkpoints.convert(tmp_path / "none.pt", tmp_path / "x.safetensors")
    torch.save(state, tmp_path / "net.pt")
    with pytest.raises(CheckpointError, match="a name that ends in .safetensors"):
        checkpoints.convert(tmp_path / "net.pt", tmp_path / "x.pt")


def test_existing_target_stays_unless_overwriting(file, tmp_path):
    target = tmp_path / "there.safetensors"
    target.write_bytes(b"precious")
    with pytest.raises(OutputExistsError, match="exists already; choose another name or allow overwriting"):
        checkpoints.convert(file, target)
    assert target.read_bytes() == b"precious"
    checkpoints.convert(file, target, overwrite=True)
    assert checkpoints.load(target).config == CONFIG


def test_failed_write_leaves_nothing(file, tmp_path, monkeypatch):
    def full(path, data):
        path.open("wb").write(data[: len(data) // 2])
        raise OSError("no space left")

    monkeypatch.setattr(Path, "write_bytes", full)
    with pytest.raises(
        CheckpointError, match=r"cannot be written \(no space left\); free space or choose another folder"
    ):
        checkpoints.convert(file, tmp_path / "out" / "x.safetensors")
    assert list((tmp_path / "out").iterdir()) == []


# -- find -----------------------------------------------------------------------------------------------


def test_search_order(nowhere, file, tmp_path, monkeypatch):
    comfyui = tmp_path / "ComfyUI"
    package = comfyui / "custom_nodes" / "FusionFFT" / "comfy_fusionfft"
    checkout = package.parent
    (package / "weights").mkdir(parents=True)
    (checkout / "pyproject.toml").touch()
    monkeypatch.setattr(checkpoints, "_PACKAGE", package)
    monkeypatch.setenv("COMFYUI_PATH", str(tmp_path / "elsewhere"))
    own = tmp_path / "own"
    order = [
        own,
        tmp_path / "elsewhere" / "models" / "frame_interpolation",
        comfyui / "models" / "frame_interpolation",
        nowhere,
        checkout / "weights",
        package / "weights",
    ]
    assert checkpoints.search_folders([own]) == order
    for folder in reversed(order):
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "rife.safetensors").write_bytes(file.read_bytes())
        assert checkpoints.find("rife", folders=[own]) == folder / "rife.safetensors"
        assert checkpoints.find("rife.safetensors", folders=[own]) == folder / "rife.safetensors"
    assert checkpoints.find(str(file)) == file
    assert checkpoints.find(file.with_suffix("")) == file


def test_names_with_dots_are_not_cut(nowhere, file):
    (nowhere / "rife_v4.25.safetensors").write_bytes(file.read_bytes())
    assert checkpoints.find("rife_v4.25").name == "rife_v4.25.safetensors"


def test_unknown_name_lists_folders_and_near_names(nowhere, file):
    (nowhere / "rife_v4.25.safetensors").write_bytes(file.read_bytes())
    with pytest.raises(CheckpointError) as caught:
        checkpoints.find("rife_v4.26")
    assert str(caught.value).startswith("no weights 'rife_v4.26' in ")
    assert str(nowhere) in str(caught.value)
    assert "; there are rife_v4.25; `fusionfft weights list` shows" in str(caught.value)


def test_found_file_must_be_of_the_wanted_kind(nowhere, file):
    (nowhere / "rife.safetensors").write_bytes(file.read_bytes())
    with pytest.raises(CheckpointError, match=r"is a flow network \(RIFE\); choose a restore network"):
        checkpoints.find("rife", "restore")


def test_available_reads_headers_only(nowhere, file, tmp_path, monkeypatch):
    (nowhere / "a.safetensors").write_bytes(file.read_bytes())
    (nowhere / "broken.safetensors").write_bytes(b"")
    shadowing = tmp_path / "first"
    shadowing.mkdir()
    (shadowing / "a.safetensors").write_bytes(file.read_bytes())
    monkeypatch.setattr(checkpoints, "read_safetensors", None)
    listed = checkpoints.available(folders=[shadowing])
    assert [(f.name, f.path.parent, f.family and f.family.name) for f in listed] == [
        ("a", shadowing, "rife"),
        ("broken", nowhere, None),
    ]
    assert listed[0].config == CONFIG
    assert "is not a safetensors file" in listed[1].problem
    assert [f.name for f in checkpoints.available("flow")] == ["a"]
    assert checkpoints.available("restore") == []


@pytest.mark.parametrize(
    ("platform", "variables", "expected"),
    [
        ("linux", {"XDG_CACHE_HOME": "/x"}, "/x/fusionfft"),
        ("linux", {"HOME": "/h"}, "/h/.cache/fusionfft"),
        ("darwin", {"HOME": "/h"}, "/h/Library/Caches/fusionfft"),
        ("win32", {"LOCALAPPDATA": "/l"}, "/l/fusionfft"),
        ("linux", {"FUSIONFFT_CACHE": "/mine"}, "/mine"),
    ],
)
def test_cache_folder(platform, variables, expected, monkeypatch):
    for name in ("FUSIONFFT_CACHE", "XDG_CACHE_HOME", "LOCALAPPDATA"):
        monkeypatch.delenv(name, raising=False)
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setattr(checkpoints, "sys", SimpleNamespace(platform=platform))
    assert checkpoints.cache_folder().as_posix() == expected
