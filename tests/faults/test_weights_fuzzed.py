"""Weights files made to do harm: each is refused by name, and runs, takes and leaves nothing."""

import io
import json
import pickle
import struct
import time
import zipfile
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from comfy_fusionfft import checkpoints
from comfy_fusionfft.cli import main
from comfy_fusionfft.errors import CheckpointError
from tests.faults import fuzz_checkpoints as fuzz

RIFE = fuzz.CONFIGS["rife"]


@pytest.fixture
def state():
    return {name: tensor.clone() for name, tensor in fuzz.networks()["rife"].items()}


def refused(path: Path, needle: str, door=checkpoints.load) -> str:
    with pytest.raises(CheckpointError) as caught:
        door(path)
    assert needle in str(caught.value)
    assert "\n" not in str(caught.value) and str(caught.value).isprintable()
    return str(caught.value)


def convert(path: Path) -> Path:
    return checkpoints.convert(path, path.with_name("made.safetensors"), overwrite=True)


def test_files_of_chance(tmp_path):
    """The first inputs of ``fuzzing/checkpoints.py``."""
    outcomes = set()
    for seed in range(150):
        outcomes.add(fuzz.attack(seed, tmp_path))
    assert {kind for kind, _ in outcomes} == {kind for kind, _ in fuzz.KINDS}
    taken = {kind for kind, outcome in outcomes if outcome == "taken"}
    assert "a good file" in taken
    assert not taken & {"a bomb of JSON", "a name twice", "claims of size", "a zip bomb", "a random pickle"}
    assert not taken & {"a pickle that runs code or eats memory"}


@pytest.mark.parametrize("form", fuzz.FORMATS, ids=["zip", "stream", "tar", "bare"])
def test_no_program_in_a_pickle_runs(form, tmp_path):
    canary = tmp_path / "ran"
    before = fuzz.peak()
    for name, program in fuzz.exploits(canary).items():
        source = tmp_path / "evil.pth"
        source.write_bytes(form(b"\x80\x02" + program + b"."))
        started = time.process_time()
        refused(source, "", convert)
        assert time.process_time() - started < fuzz.SECONDS, name
        assert [path.name for path in tmp_path.iterdir()] == ["evil.pth"], name
    assert fuzz.peak() - before < fuzz.MEMORY


@pytest.mark.parametrize(
    ("name", "needle"),
    [
        ("os.system", "holds more than tensors; nothing of it was executed (os.system); get a tensors-only file"),
        ("stack_global", "nothing of it was executed (os.system)"),
        ("inst", "nothing of it was executed (INST)"),
        ("newobj", "nothing of it was executed (pathlib.Path)"),
        ("bytearray", "nothing of it was executed (builtins.bytearray)"),
        ("memo", "holds no named tensors (int)"),
        ("itself", "holds no named tensors (dict)"),
        ("doubled keys", "nothing of it was executed (a key is no name)"),
        ("claimed", "claims more numbers than it has; get another copy"),
        ("expanded", "claims more numbers than it has; get another copy"),
        ("beyond", "reaches beyond its numbers; download it again"),
        ("negative", "a tensor's place makes no sense; download it again"),
        ("persistent path", "load it with PyTorch, save it again and take that file"),
        ("long name", "a tensor whose name is longer than 512 letters; get another copy"),
    ],
)
def test_what_a_refusal_says(name, needle, tmp_path):
    program = b"\x80\x04" + fuzz.exploits(tmp_path / "ran")[name] + b"."
    (tmp_path / "evil.pth").write_bytes(fuzz.archive(program))
    refused(tmp_path / "evil.pth", needle, convert)


def test_the_unpicklers_of_python_and_pytorch_are_not_asked(state, tmp_path, monkeypatch):
    """So a hole in one of them, as some versions of PyTorch have, is none here."""

    def never(*_, **__):
        raise AssertionError("unpickled")

    for made, legacy in ((tmp_path / "new.pth", False), (tmp_path / "old.pth", True)):
        torch.save(state, made, _use_new_zipfile_serialization=not legacy)
    for owner, name in ((pickle, "load"), (pickle, "loads"), (pickle, "Unpickler"), (torch, "load")):
        monkeypatch.setattr(owner, name, never)
    for made in (tmp_path / "new.pth", tmp_path / "old.pth"):
        written = load_file(convert(made))
        assert all(torch.equal(written[name], tensor) for name, tensor in state.items())


def test_every_shape_and_type_of_tensor_is_read(tmp_path):
    """Read as PyTorch reads them: views, strides, shared numbers, no numbers, parameters, every type."""
    from comfy_fusionfft.pickled import read_tensors

    base = torch.arange(24.0).reshape(4, 6)
    state = {
        "view": base[1:, ::2],
        "turned": base.t(),
        "whole": base,
        "scalar": torch.tensor(3.5),
        "none": torch.zeros(0, 3),
        "parameter": torch.nn.Parameter(torch.ones(2)),
        **{str(dtype): torch.ones(3, dtype=dtype) for dtype in (torch.float64, torch.float16, torch.bfloat16)},
        **{str(dtype): torch.tensor([1, 0, 1], dtype=dtype) for dtype in (torch.int64, torch.uint8, torch.bool)},
        "eighth": torch.ones(5).to(torch.float8_e4m3fn),
    }
    for legacy in (False, True):
        for protocol in (2, 4):
            made = io.BytesIO()
            chosen = {name: t for name, t in state.items() if not (legacy and name == "eighth")}
            torch.save(chosen, made, _use_new_zipfile_serialization=not legacy, pickle_protocol=protocol)
            size = made.tell()
            made.seek(0)
            found = read_tensors(made, size)
            assert found.keys() == chosen.keys()
            for name, tensor in chosen.items():
                assert found[name].dtype == tensor.dtype and found[name].shape == tensor.shape, name
                assert torch.equal(found[name].float(), tensor.detach().float()), name


# -- archives -------------------------------------------------------------------------------------------


def test_a_zip_bomb_is_not_unpacked(tmp_path):
    """64 MiB of zeros in 65 kB."""
    count = 16 << 20
    program = b"\x80\x02}" + fuzz.text_op("a") + fuzz.tensor_op(count, (count,), (1,)) + b"s."
    source = tmp_path / "bomb.pth"
    source.write_bytes(fuzz.archive(program, {"0": bytes(4 * count)}, packed=True))
    assert source.stat().st_size < 100_000
    before = fuzz.peak()
    refused(source, "is a compressed archive, as PyTorch writes none; unpack it or download it again", convert)
    assert fuzz.peak() - before < 32 << 20


def test_parts_of_an_archive_that_overlap(tmp_path):
    """Many entries of the directory that mean the same bytes."""
    content = bytearray(fuzz.archive(b"\x80\x02}.", {"0": bytes(100_000)}))
    end = content.rfind(b"PK\x05\x06")
    start = struct.unpack("<I", content[end + 16 : end + 20])[0]
    directory, tail = bytes(content[start:end]), content[end:]
    entry = next(directory[at:] for at in range(len(directory)) if directory[at:].startswith(b"PK\x01\x02"))
    many = directory + entry * 50
    count = (len(zipfile.ZipFile(io.BytesIO(bytes(content))).infolist())) * 51
    tail[8:12] = struct.pack("<HH", count, count)
    tail[12:16] = struct.pack("<I", len(many))
    (tmp_path / "x.pth").write_bytes(bytes(content[:start]) + many + bytes(tail))
    refused(tmp_path / "x.pth", "download it again", convert)


def test_a_changed_number_in_an_archive_is_noticed(state, tmp_path):
    source = tmp_path / "net.pth"
    torch.save(state, source)
    content = bytearray(source.read_bytes())
    weight = state["block0.conv0.0.0.weight"].numpy().tobytes()
    content[content.index(weight) + 3] ^= 1
    source.write_bytes(content)
    refused(source, "is not a PyTorch weights file or is damaged; download it again", convert)


# -- headers --------------------------------------------------------------------------------------------


def with_header(tmp_path: Path, change, numbers: bytes = bytes(64)) -> Path:
    header = {"a": {"dtype": "F32", "shape": [16], "data_offsets": [0, 64]}}
    change(header)
    path = tmp_path / "x.safetensors"
    path.write_bytes(fuzz.assembled(header, numbers))
    return path


@pytest.mark.parametrize(
    ("change", "needle"),
    [
        (lambda h: h["a"].update(dtype="C64"), "(numbers of type 'C64' in a); download it again"),
        (lambda h: h["a"].update(dtype=["F32"]), "(an entry of another form)"),
        (lambda h: h["a"].update(shape=[2**61]), "(64 bytes for 9223372036854775808 of a)"),
        (lambda h: h["a"].update(shape=[2**61, 0]), "(64 bytes for 0 of a)"),
        (lambda h: h["a"].update(shape=[1] * 40), "(a shape or place that cannot be of a)"),
        (lambda h: h["a"].update(data_offsets=[-64, 0]), "(a shape or place that cannot be of a)"),
        (lambda h: h["a"].update(data_offsets=[4, 68]), "(a overlaps another tensor, or there is a gap before it)"),
        (lambda h: h.update(b=h["a"]), "(b overlaps another tensor, or there is a gap before it)"),
        (lambda h: h.update({"x" * 513: h["a"]}), "(a name longer than 512 letters)"),
        (lambda h: h.update(__metadata__={"format": 5}), "(metadata that is no text)"),
        (lambda h: h.update(__metadata__=[]), "(an entry of another form)"),
        (lambda h: h.update({"b\n\x1b[31m": {**h["a"], "dtype": "?\n"}}), r"(numbers of type '?\n' in b??[31m)"),
    ],
)
def test_headers_that_contradict_themselves(change, needle, tmp_path):
    path = with_header(tmp_path, change)
    for door in (checkpoints.load, checkpoints.identify, convert):
        refused(path, "has a header that is not safetensors' " + needle, door)


@pytest.mark.parametrize(
    ("text", "needle"),
    [
        (b'{"a": {}, "a": {}}', "(a name that is there twice)"),
        (b"[" * 100_000, "(an entry of another form)"),
        (b'{"a":' * 100_000, "(an entry of another form)"),
        (b'{"__metadata__": {"x": "\\ud800"}}', "(an entry of another form)"),
        (b'{"\xff\xfe": 1}', "has a header that is not safetensors'"),
        ("{}".encode("utf-16"), "has a header that is not safetensors'"),
        (b'{"a": ' + b"9" * 5000 + b"}", "has a header that is not safetensors'"),
    ],
)
def test_headers_that_are_no_json(text, needle, tmp_path):
    (tmp_path / "x.safetensors").write_bytes(struct.pack("<Q", len(text)) + text)
    refused(tmp_path / "x.safetensors", needle)


@pytest.mark.parametrize("length", [(8 << 20) + 1, 2**63, 2**64 - 1])
def test_a_header_said_to_be_huge(length, tmp_path):
    (tmp_path / "x.safetensors").write_bytes(struct.pack("<Q", length) + b"{}" * 100)
    refused(tmp_path / "x.safetensors", "is not a safetensors file; choose one, or download it again")


def test_a_file_of_holes_is_not_read(tmp_path):
    """100 GB that take no room on the disk, and a header that explains them."""
    shape = [25 * 10**9]
    path = with_header(tmp_path, lambda h: h["a"].update(shape=shape, data_offsets=[0, 10**11]), b"")
    with path.open("r+b") as file:
        file.truncate(path.stat().st_size + 10**11)
    refused(path, "has 100.0 GB, weights of networks known here have at most 2.1; choose another file")


# -- networks -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("bad", [float("nan"), float("inf"), float("-inf")])
def test_numbers_that_are_none_are_refused(bad, state, tmp_path):
    state["block2.lastconv.0.bias"][3] = bad
    save_file(state, tmp_path / "net.safetensors")
    torch.save(state, tmp_path / "net.pth")
    needle = "holds numbers that are infinite or none in block2.lastconv.0.bias: pictures made with them would be black"
    refused(tmp_path / "net.safetensors", needle)
    refused(tmp_path / "net.pth", needle, convert)
    assert not (tmp_path / "made.safetensors").exists()


def test_numbers_too_large_for_half_precision_are_not_stored_so(state, tmp_path, capsys):
    state["block2.lastconv.0.bias"][3] = 70_000
    save_file(state, tmp_path / "net.safetensors")
    assert checkpoints.load(tmp_path / "net.safetensors").config == RIFE
    assert main(["convert", str(tmp_path / "net.safetensors"), str(tmp_path / "half.safetensors"), "--half"]) == 1
    assert "holds numbers that are infinite or none in block2.lastconv.0.bias" in capsys.readouterr().err
    assert not (tmp_path / "half.safetensors").exists()


def test_whole_numbers_for_weights_are_refused(state, tmp_path):
    state["block2.lastconv.0.bias"] = state["block2.lastconv.0.bias"].long()
    save_file(state, tmp_path / "net.safetensors")
    refused(tmp_path / "net.safetensors", "1 of another type (block2.lastconv.0.bias torch.int64); get another copy")


@pytest.mark.parametrize(
    ("network", "tags", "needle"),
    [
        ("rife", {"rife.scales": f"{2**40} 8 4 2 1"}, "5 powers of two up to 64 are needed"),
        ("rife", {"rife.scales": "9" * 5000}, "5 powers of two up to 64 are needed"),
        (
            "ftvsr",
            {"ftvsr.keyframe_step": "2", "ftvsr.heads": "x"},
            "not FTVSR: shapes or metadata that it cannot have",
        ),
        ("ftvsr", {"ftvsr.keyframe_step": "2", "ftvsr.heads": "0"}, "128 numbers are not 0 heads"),
        ("ftvsr", {"ftvsr.keyframe_step": "2", "ftvsr.heads": "-4"}, "128 numbers are not -4 heads"),
        ("multiflow", {"multiflow.candidates": "\n\x1b[31m" + "x" * 900}, "trained on guesses of version ??[31mxxx"),
    ],
)
def test_metadata_that_makes_no_sense(network, tags, needle, tmp_path):
    save_file(fuzz.networks()[network], tmp_path / "net.safetensors", metadata=tags)
    for door in (checkpoints.load, checkpoints.identify):
        assert len(refused(tmp_path / "net.safetensors", needle, door)) < 3000


@pytest.mark.parametrize("heads", ["abc", "0", "-4", "9" * 5000])
def test_a_strangers_heads_do_not_end_the_listing(heads, tmp_path):
    """One file with such metadata in a model folder took every loader node's list with it."""
    names = ("encoder.stem.weight", "attention_low.offsets.bias", "trajectory.correct.weight")
    state = {name: torch.zeros(48, 3, 3, 3) for name in names}
    save_file(state, tmp_path / "stranger.safetensors", metadata={"fusionfft.heads": heads})
    file = next(file for file in checkpoints.available(folders=[tmp_path]) if file.name == "stranger")
    assert file.family is None and "not FusionFFT: " in file.problem


def test_a_few_names_do_not_claim_thousands_of_layers(tmp_path):
    """3,000 numbered blocks of 3,000 layers each would take hours to build before a single one is missed."""
    header = {}
    for name, tensor in fuzz.networks()["fmanet"].items():
        header[name] = {"dtype": "F32", "shape": list(tensor.shape), "data_offsets": [0, 0]}
    block = "degradation_learning_network.FRMA_blocks."
    for number in range(3000):
        header[f"{block}{number}.x"] = header[f"{block}0.multi_attn_block.{number}.x"] = {"dtype": "F32", "shape": [0]}
    at = 0
    for entry in header.values():
        size = 4 * torch.Size(entry["shape"]).numel()
        entry["data_offsets"], at = [at, at + size], at + size
    path = tmp_path / "deep.safetensors"
    path.write_bytes(fuzz.assembled(header, bytes(at)))
    before, started = fuzz.peak(), time.process_time()
    refused(path, "is no FMA-Net network that can be built (its names claim more than 3000 tensors); get another copy")
    assert time.process_time() - started < fuzz.SECONDS
    assert fuzz.peak() - before < fuzz.MEMORY


def test_right_names_with_wrong_shapes(state, tmp_path):
    """Names of a network whose tensors have one side, or none, of a width that no memory holds."""
    header = {name: {"dtype": "F32", "shape": [2**61, 0], "data_offsets": [0, 0]} for name in state}
    path = tmp_path / "wide.safetensors"
    path.write_bytes(fuzz.assembled(header, b""))
    refused(path, "holds no network known here (")
    save_file({name: torch.zeros(()) for name in state}, path)
    refused(path, "not RIFE: block0.conv0.1.0.weight is not a convolution")


def test_json_of_a_good_file_is_still_good(state, tmp_path):
    """Strictness costs no honest file: other orders, spaces behind the header and empty tensors are the format's."""
    save_file({**state, "module.teacher.left_over": torch.zeros(0)}, tmp_path / "net.safetensors")
    content = (tmp_path / "net.safetensors").read_bytes()
    length = struct.unpack("<Q", content[:8])[0]
    header = json.loads(content[8 : 8 + length])
    turned = json.dumps(dict(reversed(header.items()))).encode() + b"   \n"
    (tmp_path / "net.safetensors").write_bytes(struct.pack("<Q", len(turned)) + turned + content[8 + length :])
    loaded = checkpoints.load(tmp_path / "net.safetensors").module.state_dict()
    assert all(torch.equal(loaded[name], tensor) for name, tensor in state.items())
