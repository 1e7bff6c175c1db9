"""Weights files as nobody should make them, and what has to become of each.

``attack(seed, folder)`` draws one file, has the library load, identify and convert it, and returns what it was and what
became of it. It raises Failure for anything but a network or an error of ours that says on one line what to do: other
errors, code that ran, files left over, too much time or memory.
"""

from __future__ import annotations

import io
import json
import os
import pickle
import random
import resource
import struct
import tarfile
import time
import zipfile
import zlib
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save
from small_nets import FMANET, FTVSR

from comfy_fusionfft import checkpoints
from comfy_fusionfft.errors import FusionFFTError
from comfy_fusionfft.families import every_family
from comfy_fusionfft.families.multiflow import MultiFlowConfig
from comfy_fusionfft.families.rife import RIFEConfig

SECONDS, MEMORY = 10.0, 256 << 20
"""What one file may take: processor time, and memory beyond the most so far. A tenth is usual."""
CONFIGS = {
    "rife": RIFEConfig(widths=(16, 12, 8, 8, 8), head_width=6),
    "multiflow": MultiFlowConfig(widths=(8, 12, 16), fine=8),
    "fmanet": FMANET,
    "ftvsr": FTVSR,
}
TAGS = {"ftvsr": {"ftvsr.keyframe_step": "2", "ftvsr.heads": "4"}, "rife": {"rife.scales": "16 8 4 2 1"}}
NUMBERS = (0, 1, -1, 2, 3, 7, 255, 2**16, 2**31 - 1, 2**31, 2**32, 2**40, 2**62, 2**63, 2**64, 10**30, 0.5, 1e308, True)
TEXTS = ("", "x", "\x00", "\n", "\x1b[31m", "\ud800", "é", "../../etc/passwd", "module." * 60, "9" * 5000, "x" * 4000)
WRONG: tuple[Any, ...] = (None, True, [], {}, "F32", [[]], {"a": 1}, float("nan"), *NUMBERS, *TEXTS)
TYPES = ("F32", "F64", "F16", "BF16", "I64", "BOOL", "F8_E4M3", "C64", "F4", "U8", "f32", "", "F8_E8M0")


class Failure(AssertionError):
    """A file that the library did not deal with as it should."""


@cache
def networks() -> dict[str, dict[str, torch.Tensor]]:
    """A small network of each kind."""
    torch.manual_seed(0)
    families = {family.name: family for family in every_family()}
    return {name: dict(families[name].build(config).state_dict()) for name, config in CONFIGS.items()}


def attack(seed: int, folder: Path) -> tuple[str, str]:
    """One file drawn by ``seed``, in an empty ``folder``; -> its kind and what became of it."""
    rng = random.Random(seed)
    kind, make = rng.choice(KINDS)
    canary = folder / "ran"
    return kind, survive(make(rng, canary), folder, rng.choice((".safetensors", ".pth")))


def survive(content: bytes, folder: Path, suffix: str = ".pth") -> str:
    """Whether the library takes or refuses a file as it should, by each of its doors."""
    source, target = folder / f"given{suffix}", folder / "made.safetensors"
    source.write_bytes(content)
    outcome = "refused"
    before = peak()
    started = time.process_time()
    for door in (checkpoints.identify, checkpoints.load, lambda path: checkpoints.convert(path, target)):
        try:
            door(source)
            outcome = "refused" if door is checkpoints.identify else "taken"
        except FusionFFTError as error:
            text = str(error)
            if "\n" in text or len(text) > 6000 or not {";", ":"} & set(text):
                told = text.replace(str(folder), "")[:300]
                raise Failure(f"an error that is no one line saying what to do: {told!r}") from error
            text.encode()
        except Exception as error:
            told = str(error).replace(str(folder), "")[:200]
            raise Failure(f"{type(error).__name__}: {told}") from error
    took, grown = time.process_time() - started, peak() - before
    left = {path.name for path in folder.iterdir()} - {source.name, target.name}
    if left:
        raise Failure(f"left behind or executed: {left}")
    if took > SECONDS:
        raise Failure(f"took {took:.1f} s of processor time")
    if grown > MEMORY + len(content):
        raise Failure(f"took {grown >> 20} MiB")
    if target.exists():
        checkpoints.load(target)
        target.unlink()
    source.unlink()
    return outcome


def peak() -> int:
    """The most memory that this process has ever had."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


# -- safetensors ----------------------------------------------------------------------------------------


def _sound(rng: random.Random) -> tuple[dict[str, Any], bytes]:
    """The header and the numbers of a good file."""
    name = rng.choice(list(CONFIGS))
    content = save(networks()[name], metadata={"format": "pt", **TAGS.get(name, {})})
    length = struct.unpack("<Q", content[:8])[0]
    return json.loads(content[8 : 8 + length]), content[8 + length :]


def assembled(header: Any, numbers: bytes) -> bytes:
    text = header if isinstance(header, bytes) else json.dumps(header).encode("utf-8", "surrogatepass")
    return struct.pack("<Q", len(text)) + text + numbers


def spoiled_header(rng: random.Random, _: Path) -> bytes:
    header, numbers = _sound(rng)
    for _ in range(rng.choice((1, 1, 1, 2, 5))):
        name = rng.choice([name for name in header if name != "__metadata__"] or ["__metadata__"])
        entry = header[name]
        field = rng.choice(("dtype", "shape", "data_offsets", "name", "metadata", "whole", "gone", "more", "swap"))
        if field == "name":
            header[rng.choice((*TEXTS, name + ".0", name.replace("0", "1"), name.replace("0", "99999")))] = entry
            header.pop(name, None)
        elif field == "metadata":
            key = rng.choice(("rife.scales", "fusionfft.heads", "ftvsr.heads", "ftvsr.keyframe_step", "x", *TEXTS))
            tags = header.get("__metadata__")
            header["__metadata__"] = {**(tags if isinstance(tags, dict) else {}), key: rng.choice((*WRONG, "-4", "0"))}
        elif field == "whole":
            header[rng.choice((name, "__metadata__"))] = rng.choice(WRONG)
        elif field == "gone":
            header.pop(name, None)
        elif field == "more":
            header[f"extra.{rng.randrange(10**6)}"] = {"dtype": "F32", "shape": [2**40, 0], "data_offsets": [0, 0]}
        elif not isinstance(entry, dict):
            continue
        elif field == "dtype":
            entry["dtype"] = rng.choice((*TYPES, *WRONG))
        elif field == "swap":
            other = header[rng.choice(list(header))]
            if isinstance(other, dict) and "data_offsets" in other and "data_offsets" in entry:
                entry["data_offsets"], other["data_offsets"] = other["data_offsets"], entry["data_offsets"]
        else:
            values = entry.get(field)
            if isinstance(values, list) and values and rng.random() < 0.8:
                values[rng.randrange(len(values))] = rng.choice((*NUMBERS, *WRONG))
            else:
                entry[field] = rng.choice((*WRONG, [1] * 100, [2**31, 2**31], [0] * 64))
    return assembled(header, numbers)


def claims_much(rng: random.Random, _: Path) -> bytes:
    """A sound file of wide, empty, deep or nameless tensors that cost nothing to write."""
    header: dict[str, Any] = {}
    name = rng.choice(list(CONFIGS))
    state = networks()[name]
    wide = rng.choice((2**20, 2**40, 2**62, 10**6 * 24))
    for key, tensor in state.items():
        shape = [wide if side > 1 and rng.random() < 0.9 else side for side in tensor.shape]
        shape[rng.randrange(len(shape)) if shape else 0 :][:1] = [0] if shape else []
        header[key] = {
            "dtype": "F32",
            "shape": [*shape, 0][: len(shape)] if 0 in shape else [0],
            "data_offsets": [0, 0],
        }
    for key in rng.sample(list(state), min(3, len(state))):
        for number in range(rng.choice((0, 10, 3000))):
            header[key.replace("0", str(number), 1)] = header[key]
    return assembled({**header, "__metadata__": TAGS.get(name, {})}, b"")


def bomb(rng: random.Random, _: Path) -> bytes:
    depth = rng.choice((10, 1000, 100_000, 1_000_000))
    opening, closing = rng.choice(((b"[", b"]"), (b'{"a":', b"}")))
    text = opening * depth + b"1" + (closing * depth if rng.random() < 0.5 else b"")
    text = rng.choice(
        (text, b'{"a":' + text + b"}", b'{"a": 1, "a": 1}', b"9" * 10_000, b"[]," * depth, "{}".encode("utf-16"))
    )
    length = rng.choice((len(text), len(text), len(text) + 1, 0, 2**20, 2**63, 2**64 - 1))
    return struct.pack("<Q", length) + text + bytes(rng.randrange(64))


def twice(rng: random.Random, _: Path) -> bytes:
    header, numbers = _sound(rng)
    name = rng.choice(list(header))
    text = json.dumps(header)
    return assembled((text[:-1] + f", {json.dumps(name)}: {json.dumps(header[name])}}}").encode(), numbers)


def spoiled_numbers(rng: random.Random, _: Path) -> bytes:
    header, numbers = _sound(rng)
    spoiled = bytearray(numbers)
    places = [e["data_offsets"][0] for e in header.values() if "data_offsets" in e and e["dtype"] == "F32"]
    at = rng.choice(places)
    spoiled[at : at + 4] = struct.pack("<f", rng.choice((float("nan"), float("inf"), float("-inf"), 3e38, 1e-40)))
    return assembled(header, bytes(spoiled))


# -- pickles --------------------------------------------------------------------------------------------


def text_op(text: str) -> bytes:
    encoded = text.encode()
    return b"X" + struct.pack("<I", len(encoded)) + encoded


def call(name: str, *arguments: bytes) -> bytes:
    """``module.function`` of these pushed values, called."""
    module, _, function = name.rpartition(".")
    return f"c{module}\n{function}\n".encode() + b"(" + b"".join(arguments) + b"tR"


def number_op(number: int) -> bytes:
    encoded = number.to_bytes(number.bit_length() // 8 + 1, "little", signed=True)
    return b"\x8a" + bytes([len(encoded)]) + encoded


def stored(count: int, key: str = "0", kind: str = "FloatStorage") -> bytes:
    return (
        b"("
        + text_op("storage")
        + f"ctorch\n{kind}\n".encode()
        + text_op(key)
        + text_op("cpu")
        + number_op(count)
        + b"tQ"
    )


def tensor_op(count: int, shape: tuple[int, ...], stride: tuple[int, ...], offset: int = 0, key: str = "0") -> bytes:
    sides, steps = (b"(" + b"".join(map(number_op, each)) + b"t" for each in (shape, stride))
    hooks = call("collections.OrderedDict")
    return call("torch._utils._rebuild_tensor_v2", stored(count, key), number_op(offset), sides, steps, b"\x89", hooks)


def exploits(canary: Path) -> dict[str, bytes]:
    """Programs for an unpickler that would run code, or take more memory or time than there is."""
    touch, path = text_op(f"touch {canary}"), text_op(str(canary))
    write = f"open({str(canary)!r}, 'w')"
    named = b"}" + text_op("a")
    huge = number_op(10**12)
    return {
        "os.system": call("os.system", touch),
        "posix.system": call("posix.system", touch),
        "nt.system": call("nt.system", touch),
        "subprocess": call("subprocess.check_output", b"(" + text_op("touch") + path + b"t"),
        "eval": call("builtins.eval", text_op(write)),
        "exec": call("__builtin__.exec", text_op(write)),
        "stack_global": b"\x8c\x02os\x8c\x06system\x93(" + touch + b"tR",
        "inst": b"(" + touch + b"ios\nsystem\n",
        "obj": b"(cos\nsystem\n" + touch + b"o",
        "newobj": b"cpathlib\nPath\n(" + path + b"t\x81",
        "newobj_ex": b"cpathlib\nPath\n(" + path + b"t}\x92",
        "build": b"ctorch\nTensor\n}" + text_op("__setstate__") + b"cos\nsystem\nsb" + touch + b"b",
        "getattr": call("builtins.getattr", b"cos\n__dict__\n", text_op("system")),
        "import": call("builtins.__import__", text_op("antigravity")),
        "torch.load": call("torch.load", path),
        "load_from_bytes": call("torch.storage._load_from_bytes", b"C\x02cx"),
        "torch.hub": call("torch.hub.load_state_dict_from_url", text_op("http://127.0.0.1:9/")),
        "dynamo": call("torch._inductor.codecache.write", touch),
        "numpy.save": call("numpy.save", path, b"K\x01"),
        "numpy.fromfile": call("numpy.core.multiarray.fromfile", path),
        "numpy object": call("numpy.core.multiarray._reconstruct", b"cnumpy\nndarray\n", b"(K\x00t", b"C\x01b"),
        "rebuild any": call("torch._tensor._rebuild_from_type_v2", b"cos\nsystem\n" * 2, b"(" + touch + b"t", b"}"),
        "wrapped": named + call("torch._utils._rebuild_parameter", call("os.system", touch), b"\x89", b"}") + b"s",
        "extension": b"\x82\x01",
        "bytearray": call("builtins.bytearray", huge),
        "Tensor": call("torch.Tensor", huge),
        "storage": call("torch.FloatStorage", huge),
        "zeros": call("torch.zeros", huge),
        "memo": b"K\x01r\xff\xff\xff\xff",
        "doubling": b"(](" + b"2" * 3000 + b"e" * 10,
        "nested reduce": b"".join(call("collections.OrderedDict") for _ in range(5000)),
        "nested build": b"}" + b"}b" * 5000,
        "deep": b"(" * 30_000 + b"t" * 30_000,
        "deep tuples": b")" + b"\x85" * 30_000,
        "doubled tuples": b")" + b"q\x00h\x00\x86" * 60 + b"}h\x00K\x01s",
        "doubled keys": b"})" + b"q\x00h\x00\x86" * 60 + b"K\x01s",
        "copies": b"}q\x00" + b"".join(b"ccollections\nOrderedDict\n(h\x00tR" for _ in range(5000)),
        "itself": b"}q\x00" + text_op("state_dict") + b"h\x00s",
        "list of itself": b"]q\x00h\x00a",
        "long int": b"\x8b" + struct.pack("<i", 4000) + b"\x01" * 4000,
        "digits": b"L" + b"9" * 100_000 + b"L\n",
        "huge text": b"X\xff\xff\xff\xff",
        "huge text 8": b"\x8d" + struct.pack("<Q", 2**63),
        "huge bytes": b"\x8e" + struct.pack("<Q", 2**40) + b"x",
        "buffer": b"\x96" + struct.pack("<Q", 2**40) + b"x",
        "frame": b"\x95" + struct.pack("<Q", 2**62) + b"K\x01",
        "empty": b"",
        "pop nothing": b"0" * 10,
        "mark as key": b"}((s",
        "appended to a number": b"K\x01K\x01a",
        "claimed": named + tensor_op(10**12, (10**6, 10**6), (10**6, 1)) + b"s",
        "expanded": named + tensor_op(1, (10**6, 10**6), (0, 0)) + b"s",
        "beyond": named + tensor_op(16, (4, 4), (2**40, 1)) + b"s",
        "before": named + tensor_op(16, (4,), (1,), -4) + b"s",
        "negative": named + tensor_op(16, (-4, -4), (1, 1)) + b"s",
        "many sides": named + tensor_op(16, (1,) * 100, (1,) * 100) + b"s",
        "overflow": named + tensor_op(16, (2**40, 2**40), (1, 1)) + b"s",
        "empty and wide": named + tensor_op(0, (2**47, 0), (2**47, 1)) + b"s",
        "persistent lie": named + b"(" + text_op("module") + b"cos\nsystem\n" + touch + b"tQs",
        "persistent path": named + tensor_op(4, (4,), (1,), key="../../etc/passwd") + b"s",
        "persistent text": b"Pposix\nsystem\n",
        "no storage": named + call("torch._utils._rebuild_tensor_v2", b"N", b"K\x00", b"(K\x04t", b"(K\x01t") + b"s",
        "parameter of itself": named + call("torch._utils._rebuild_parameter", b"N", b"\x89", b"}") + b"s",
        "meta": named + call("torch._utils._rebuild_meta_tensor_no_storage", b"ctorch\nfloat32\n", huge, huge) + b"s",
        "sparse": named + call("torch._utils._rebuild_sparse_tensor", b"ctorch\nsparse_coo\n", b"(t") + b"s",
        "long name": b"}" + text_op("module." * 100_000) + tensor_op(4, (4,), (1,)) + b"s",
        "bad utf-8": b"X\x02\x00\x00\x00\xff\xfe",
    }  # fmt: skip


def archive(program: bytes, data: dict[str, bytes] | None = None, *, packed: bool = False) -> bytes:
    """As PyTorch 1.6 and later: files in a zip."""
    made = io.BytesIO()
    with zipfile.ZipFile(made, "w", zipfile.ZIP_DEFLATED if packed else zipfile.ZIP_STORED) as file:
        file.writestr("archive/data.pkl", program)
        file.writestr("archive/byteorder", "little")
        for name, content in (data or {"0": bytes(64)}).items():
            file.writestr(f"archive/data/{name}", content)
        file.writestr("archive/version", "3\n")
    return made.getvalue()


def stream(program: bytes, data: dict[str, bytes] | None = None) -> bytes:
    """As PyTorch before 1.6: pickles one after another, then numbers."""
    data = data or {"0": bytes(64)}
    facts = {"protocol_version": 1001, "little_endian": True, "type_sizes": {"short": 2, "int": 4, "long": 4}}
    parts = [pickle.dumps(each, 2) for each in (0x1950A86A20F9469CFC6C, 1001, facts)]
    parts += [program, pickle.dumps(list(data), 2)]
    return b"".join(parts) + b"".join(struct.pack("<q", len(each) // 4) + each for each in data.values())


def tape(program: bytes, _: Any = None) -> bytes:
    """As PyTorch before 0.1.10: a tar of pickles."""
    made = io.BytesIO()
    with tarfile.open(fileobj=made, mode="w") as file:
        for name in ("storages", "tensors", "pickle"):
            about = tarfile.TarInfo(name)
            about.size = len(program)
            file.addfile(about, io.BytesIO(program))
    return made.getvalue()


FORMATS: tuple[Callable[..., bytes], ...] = (archive, stream, tape, lambda program, _=None: program)


def exploit(rng: random.Random, canary: Path) -> bytes:
    programs = exploits(canary)
    program = b"\x80\x02" + programs[rng.choice(list(programs))] + b"."
    return rng.choice(FORMATS)(program)


def program_of_chance(rng: random.Random, canary: Path) -> bytes:
    """Pieces of all of these in any order."""
    pieces = [*exploits(canary).values()]
    short = [piece for piece in pieces if len(piece) < 2000]
    single = [bytes([rng.randrange(256)]) for _ in range(20)] + [b"t", b"R", b"b", b"s", b"u", b"a", b"e", b"(", b"0"]
    program = b"".join(rng.choice((short, single, single))[rng.randrange(20)] for _ in range(rng.randrange(1, 40)))
    return rng.choice(FORMATS)(b"\x80\x02" + program + b".")


def zip_bomb(rng: random.Random, canary: Path) -> bytes:
    """A small archive of huge parts."""
    size = rng.choice((1 << 20, 32 << 20))
    program = b"\x80\x02}" + text_op("a") + tensor_op(size // 4, (size // 4,), (1,)) + b"s."
    kind = rng.randrange(4)
    if kind == 0:
        return archive(program, {"0": bytes(size)}, packed=True)
    if kind == 1:
        return archive(b"\x80\x02" + b"K\x01" * (size // 2) + b".", packed=True)
    made = bytearray(archive(program))
    at = made.rfind(b"PK\x01\x02")
    if kind == 2:  # the directory claims more than there is
        for place in (20, 24):
            made[at + place : at + place + 4] = struct.pack("<I", 0xFFFFFFF0)
    else:  # and a larger directory than there is
        end = made.rfind(b"PK\x05\x06")
        made[end + 12 : end + 16] = struct.pack("<I", rng.choice((0x7FFFFFFF, 0, 17 << 20)))
    return bytes(made)


def honest(rng: random.Random, _: Path) -> bytes:
    """A good file of any of the formats."""
    state = networks()[rng.choice(list(CONFIGS))]
    made = io.BytesIO()
    torch.save(rng.choice((state, {"state_dict": state})), made, _use_new_zipfile_serialization=rng.random() < 0.5)
    return made.getvalue()


def spoiled_bytes(rng: random.Random, canary: Path) -> bytes:
    """A file of any kind with bytes changed, lost or doubled; an archive's checksums are made to fit again."""
    content = bytearray(rng.choice((honest, honest, spoiled_header, exploit))(rng, canary))
    # Numbers are most of a file and break nothing: the parts that describe them are at its ends.
    for _ in range(rng.choice((1, 1, 2, 8))):
        edge = rng.choice((64, 4000, len(content)))
        at = (
            rng.randrange(min(edge, len(content)))
            if rng.random() < 0.5
            else -rng.randrange(1, min(edge, len(content)) + 1)
        )
        how = rng.randrange(5)
        if how < 2:
            content[at] = rng.choice((content[at] ^ (1 << rng.randrange(8)), 0, 255, rng.randrange(256)))
        elif how == 2:
            content[at:at] = os.urandom(0) + bytes(rng.randrange(256) for _ in range(rng.randrange(1, 9)))
        elif how == 3:
            del content[at : at + rng.randrange(1, 9) if at >= 0 else None]
        else:
            content[at:at] = content[: rng.randrange(1, 200)]
        if not content:
            break
    return _with_checksum(bytes(content))


def _with_checksum(content: bytes) -> bytes:
    """Where the program of an archive can still be found, its checksum fits, or nothing behind it would be reached."""
    at = content.find(b"data.pkl")
    if content[:4] != b"PK\x03\x04" or at < 30 or len(content) < at + 40:
        return content
    size, extra = struct.unpack("<I", content[22:26])[0], struct.unpack("<H", content[28:30])[0]
    start = 30 + struct.unpack("<H", content[26:28])[0] + extra
    checksum = struct.pack("<I", zlib.crc32(content[start : start + size]))
    return content.replace(content[14:18], checksum) if any(content[14:18]) else content


KINDS: tuple[tuple[str, Callable[[random.Random, Path], bytes]], ...] = (
    ("a header changed", spoiled_header),
    ("a header changed", spoiled_header),
    ("claims of size", claims_much),
    ("a bomb of JSON", bomb),
    ("a name twice", twice),
    ("numbers changed", spoiled_numbers),
    ("a pickle that runs code or eats memory", exploit),
    ("a pickle that runs code or eats memory", exploit),
    ("a random pickle", program_of_chance),
    ("a zip bomb", zip_bomb),
    ("bytes changed", spoiled_bytes),
    ("bytes changed", spoiled_bytes),
    ("a good file", honest),
)
