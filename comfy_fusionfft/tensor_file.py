"""Safetensors files, read strictly: names, shapes and numbers, and nothing that a careful writer does not write.

The header is believed only as far as the file bears it out: every number belongs to exactly one tensor, and every
tensor's size follows from its shape, so that a file never takes more memory than its own size. Numbers are read into
memory rather than mapped: a file that is cut off or replaced while it is read gives an error, where a mapped one ends
the process.
"""

from __future__ import annotations

import json
import os
import stat
import struct
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple

import torch
from torch import Tensor

from .errors import CheckpointError, DeviceError

_HEADER_LIMIT = 8 << 20
"""Bytes. Headers of networks with thousands of tensors have a twentieth of that."""
LARGEST = 2 << 30
"""Bytes of a weights file; the largest network known here has a tenth of that."""
NAME_LIMIT = 512
_MOST_DIMENSIONS = 16
_PIECE = 16 << 20
DTYPES = {
    "F64": torch.float64,
    "F32": torch.float32,
    "F16": torch.float16,
    "BF16": torch.bfloat16,
    "F8_E4M3": torch.float8_e4m3fn,
    "F8_E5M2": torch.float8_e5m2,
    "I64": torch.int64,
    "I32": torch.int32,
    "I16": torch.int16,
    "I8": torch.int8,
    "U8": torch.uint8,
    "BOOL": torch.bool,
}
_OTHER_FORMATS = {
    b"PK\x03\x04": "a pickle, which could run code; run `fusionfft convert {name} {stem}.safetensors` once",
    b"\x80": "a pickle, which could run code; run `fusionfft convert {name} {stem}.safetensors` once",
    b"version https://git-lfs": "a Git LFS pointer, not the file itself; run `git lfs pull` or download it",
    b"<": "a web page, not weights; download the file again",
    b"": "not a safetensors file; choose one, or download it again",
}


class Header(NamedTuple):
    """A safetensors file without its numbers.

    tensors: on the meta device: shapes and types only. data_start: where the numbers begin, bytes.
    """

    tensors: dict[str, Tensor]
    metadata: dict[str, str]
    data_start: int


@contextmanager
def opened(path: Path) -> Iterator[tuple[BinaryIO, int]]:
    """A weights file open for reading, and its size; CheckpointError for what is none, DeviceError for lack of memory.

    A pipe or a device is refused at once: the one would wait for ever, the other never end.
    """
    if "\0" in str(path):
        raise CheckpointError(f"{str(path)!r} is no file name; choose a weights file")
    try:
        with open(path, "rb", opener=_without_waiting) as file:
            about = os.fstat(file.fileno())
            if not stat.S_ISREG(about.st_mode):
                raise CheckpointError(f"{path} is a pipe or a device, not a file; choose a weights file")
            if about.st_size > LARGEST:
                raise CheckpointError(
                    f"{path} has {about.st_size / 1e9:.1f} GB, weights of networks known here have at most "
                    f"{LARGEST / 1e9:.1f}; choose another file"
                )
            yield file, about.st_size
    except FileNotFoundError as error:
        raise CheckpointError(f"{path} does not exist; choose a weights file") from error
    except OSError as error:
        raise CheckpointError(f"{path} cannot be read ({error.strerror or error}); choose a weights file") from error
    except MemoryError as error:
        raise DeviceError(f"{path} does not fit into memory; close other programs") from error


def _without_waiting(path: str, flags: int) -> int:
    return os.open(path, flags | getattr(os, "O_NONBLOCK", 0))


def read_header(path: str | Path) -> Header:
    """Names, shapes and metadata, without reading the numbers; refuses what is not a whole safetensors file."""
    path = Path(path)
    with opened(path) as (file, size):
        return _header(path, file, size)


def read_safetensors(
    path: str | Path, check: Callable[[Header], None] = lambda header: None
) -> tuple[Header, dict[str, Tensor]]:
    """Header and numbers, of one and the same file even when another takes its place meanwhile.

    ``check`` may raise before the numbers take any memory.
    """
    path = Path(path)
    with opened(path) as (file, size):
        header = _header(path, file, size)
        check(header)
        tensors = {}
        file.seek(header.data_start)
        for name, shown in header.tensors.items():  # in the file's order
            tensor = tensors[name] = empty(shown.shape, shown.dtype)
            room = memoryview(tensor.reshape(-1).view(torch.uint8).numpy())
            at = 0
            while at < len(room):
                got = file.readinto(room[at : at + _PIECE])
                if not got:
                    raise CheckpointError(f"{path} was cut off while it was read; download it again")
                at += got
        return header, tensors


def empty(shape: tuple[int, ...], dtype: torch.dtype) -> Tensor:
    """Room for numbers; MemoryError where there is none, for which PyTorch has another name."""
    try:
        return torch.empty(shape, dtype=dtype)
    except RuntimeError as error:
        raise MemoryError(str(error)) from error


def _header(path: Path, file: BinaryIO, size: int) -> Header:
    start = file.read(64)
    length = struct.unpack("<Q", start[:8])[0] if len(start) >= 8 else _HEADER_LIMIT + 1
    if length > _HEADER_LIMIT:
        what = next(what for signature, what in _OTHER_FORMATS.items() if start.startswith(signature))
        raise CheckpointError(f"{path} is {what.format(name=path.name, stem=path.stem)}")
    file.seek(8)
    text = file.read(length) if length <= size - 8 else b""
    if len(text) < length:
        raise CheckpointError(f"{path} is cut off within its header ({size} bytes); download it again")
    try:
        entries = json.loads(text.decode("utf-8"), object_pairs_hook=_once)
        metadata = entries.pop("__metadata__", {})
        if not all(type(value) is str for value in metadata.values()):
            raise ValueError("metadata that is no text")
        "".join((*entries, *metadata, *metadata.values())).encode()  # JSON can spell what is no text
        tensors, end = _tensors(entries)
    except (ValueError, TypeError, KeyError, AttributeError, RuntimeError) as error:
        # TypeError and the like: what should be a dict or a list is something else
        why = str(error) if type(error) is ValueError else "an entry of another form"
        raise CheckpointError(
            f"{path} has a header that is not safetensors' ({printable(why)}); download it again"
        ) from error
    needed = 8 + length + end
    if size != needed:
        raise CheckpointError(f"{path} has {size} bytes and its header says {needed}; download it again")
    return Header(tensors, metadata, 8 + length)


def _tensors(entries: dict[str, Any]) -> tuple[dict[str, Tensor], int]:
    """On the meta device, as they lie in the file, and where the last one ends."""
    places = []
    for name, entry in entries.items():
        if len(name) > NAME_LIMIT:
            raise ValueError(f"a name longer than {NAME_LIMIT} letters")
        dtype, shape, (begin, end) = entry["dtype"], entry["shape"], entry["data_offsets"]
        if dtype not in DTYPES:
            raise ValueError(f"numbers of type {dtype!r} in {name}")
        if type(shape) is not list or len(shape) > _MOST_DIMENSIONS or not all(map(_is_count, (*shape, begin, end))):
            raise ValueError(f"a shape or place that cannot be of {name}")
        bytes_needed = DTYPES[dtype].itemsize
        for count in shape:
            bytes_needed *= count
        if end - begin != bytes_needed:
            raise ValueError(f"{end - begin} bytes for {bytes_needed} of {name}")
        places.append((begin, end, name, shape, DTYPES[dtype]))
    places.sort(key=lambda place: place[:2])
    tensors, reached = {}, 0
    for begin, end, name, shape, dtype in places:
        if begin != reached:
            raise ValueError(f"{name} overlaps another tensor, or there is a gap before it")
        tensors[name], reached = torch.empty(shape, dtype=dtype, device="meta"), end
    return tensors, reached


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    made = dict(pairs)
    if len(made) < len(pairs):
        raise ValueError("a name that is there twice")
    return made


def _is_count(number: Any) -> bool:
    return type(number) is int and 0 <= number < 1 << 62


def printable(text: str, longest: int = 300) -> str:
    """Words of a stranger's file, fit for a line of a message."""
    text = text if len(text) <= longest else f"{text[:longest]}…"
    return "".join(c if c.isprintable() else "?" for c in text)
