"""Tensors out of the files that ``torch.save`` writes, without an unpickler.

A pickle is a program. This reads the dozen of its instructions that describe dicts, lists, numbers and tensors, and
refuses the file at the first other one: nothing that a file names is ever imported or called, so this holds for every
version of PyTorch, whatever its own loader lets through. What a file claims costs nothing either: memory is taken only
for numbers that are there, so a small file stays small.

Both formats are read: the archive of PyTorch 1.6 and later, whose numbers lie uncompressed in files of their own, and
the stream before it. Sizes are in bytes, offsets and strides of tensors in numbers, as PyTorch has them.
"""

from __future__ import annotations

import io
import struct
import zipfile
from collections.abc import Callable, Mapping
from typing import Any, BinaryIO

import torch
from torch import Tensor

from .pickle_machine import Described, Reader, Refused, Storage
from .tensor_file import NAME_LIMIT, empty, printable

_PICKLE_LIMIT = 8 << 20
"""Of the part that names the tensors; published networks have a tenth of a megabyte."""
_DIRECTORY_LIMIT = 16 << 20
_NESTING = 4
_PIECE = 1 << 20
_SHARED = 4
"""Tensors may share numbers, but not so that they come to more than so many times the file."""
_SLACK = 1 << 20
_WRAPPERS = ("params_ema", "state_dict", "model_state_dict", "model", "params", "net")
_MAGIC, _PROTOCOL = 0x1950A86A20F9469CFC6C, 1001


def read_tensors(file: BinaryIO, size: int) -> dict[str, Tensor]:
    """The named tensors of a PyTorch file of ``size`` bytes, from whichever dict of it holds them.

    Raises Refused for everything else.
    """
    try:
        start = file.read(4)
        file.seek(0)
        if start == b"PK\x03\x04":
            return _from_archive(file, size)
        if start[:1] == b"\x80":
            return _from_stream(file, size)
    except Refused:
        raise
    except (OSError, MemoryError):
        raise
    except Exception as error:  # what a damaged file raises depends on where the damage is
        raise Refused("is not a PyTorch weights file or is damaged; download it again") from error
    raise Refused("is not a PyTorch weights file or is damaged; download it again")


def _from_archive(file: BinaryIO, size: int) -> dict[str, Tensor]:
    with zipfile.ZipFile(_Careful(file)) as archive:
        entries = {entry.filename: entry for entry in archive.infolist()}
        if any(entry.compress_type != zipfile.ZIP_STORED for entry in entries.values()):
            raise Refused("is a compressed archive, as PyTorch writes none; unpack it or download it again")
        if sum(entry.file_size for entry in archive.infolist()) > size or len(entries) != len(archive.infolist()):
            raise Refused("is damaged: its parts overlap; download it again")
        program = next((name for name in entries if name.endswith("/data.pkl") and name.count("/") == 1), None)
        if program is None:
            raise Refused("is not a PyTorch weights file or is damaged; download it again")
        if entries[program].file_size > _PICKLE_LIMIT:
            raise Refused(f"names its tensors in more than {_PICKLE_LIMIT >> 20} MiB; get a tensors-only file")
        folder = program.removesuffix("data.pkl")
        if (order := entries.get(f"{folder}byteorder")) is not None:
            with archive.open(order) as part:
                if part.read(16) != b"little":
                    raise Refused("was written by a big-endian machine; save it again on another one")
        with archive.open(program) as part:
            content = Reader(io.BytesIO(part.read(_PICKLE_LIMIT))).run()

        def numbers(storage: Storage) -> Tensor:
            entry = entries.get(f"{folder}data/{storage.key}")
            if entry is None or entry.file_size < storage.count * storage.dtype.itemsize:
                raise Refused("is damaged: it has fewer numbers than it names; download it again")
            with archive.open(entry) as part:
                return _read_bytes(part, entry.file_size)

        return _tensors(content, numbers, size)


def _from_stream(file: BinaryIO, size: int) -> dict[str, Tensor]:
    start = io.BytesIO(file.read(_PICKLE_LIMIT))
    if Reader(start).run() != _MAGIC or Reader(start).run() != _PROTOCOL:
        raise Refused("is a pickle, but not of PyTorch, or damaged; get a tensors-only file")
    machine = Reader(start).run()
    if not isinstance(machine, Mapping) or machine.get("little_endian") is not True:
        raise Refused("was written by a big-endian machine or is damaged; save it again on another one")
    reader = Reader(start)
    content, keys = reader.run(), Reader(start).run()
    places, at = {}, start.tell()
    for key in keys:
        storage = reader.storages.get(key)
        file.seek(at)
        head = file.read(8)
        if storage is None or len(head) < 8 or struct.unpack("<q", head)[0] != storage.count:
            raise Refused("is damaged: it has other numbers than it names; download it again")
        places[key] = at + 8
        at += 8 + storage.count * storage.dtype.itemsize
        if at > size:
            raise Refused("is cut off or damaged; download it again")

    def numbers(storage: Storage) -> Tensor:
        if storage.key not in places:
            raise Refused("is damaged: it has fewer numbers than it names; download it again")
        file.seek(places[storage.key])
        return _read_bytes(file, storage.count * storage.dtype.itemsize)

    return _tensors(content, numbers, size)


def _tensors(content: Any, numbers: Callable[[Storage], Tensor], size: int) -> dict[str, Tensor]:
    named = _choose(content)
    if sum(tensor.size for tensor in named.values()) > _SHARED * size + _SLACK:
        raise Refused("claims more numbers than it has; get another copy")
    read: dict[str, Tensor] = {}
    made = {}
    for name, tensor in named.items():
        key = tensor.storage.key
        if key not in read:
            read[key] = numbers(tensor.storage)
        whole = read[key]
        if tensor.last * tensor.dtype.itemsize > whole.numel():
            raise Refused(f"is damaged: {printable(name, 100)} reaches beyond its numbers; download it again")
        usable = whole[: whole.numel() // tensor.dtype.itemsize * tensor.dtype.itemsize].view(tensor.dtype)
        made[name] = usable.as_strided(tensor.shape, tensor.stride, tensor.offset if 0 not in tensor.shape else 0)
    return made


def _choose(content: Any) -> dict[str, Described]:
    """The dict of tensors inside what trainers put around it."""
    for _ in range(_NESTING):
        if not isinstance(content, Mapping):
            break
        inner = next((content[key] for key in _WRAPPERS if isinstance(content.get(key), Mapping)), None)
        if inner is None:
            break
        content = inner
    named = {}
    if isinstance(content, Mapping):
        # Where several networks and what trained them lie side by side, names begin with those of the networks.
        named = _described(content) or {
            f"{key}.{name}": tensor
            for key, inner in content.items()
            if isinstance(key, str) and isinstance(inner, Mapping)
            for name, tensor in _described(inner).items()
        }
    if not named:
        raise Refused(f"holds no named tensors ({type(content).__name__}); choose a weights file")
    return named


def _described(content: Mapping[Any, Any]) -> dict[str, Described]:
    named = {name: t for name, t in content.items() if isinstance(name, str) and isinstance(t, Described)}
    if any(len(name) > NAME_LIMIT for name in named):
        raise Refused(f"has a tensor whose name is longer than {NAME_LIMIT} letters; get another copy")
    return named


def _read_bytes(part: Any, size: int) -> Tensor:
    """``(size,)`` uint8, read in pieces into memory that is aligned for every type."""
    made = empty((size,), torch.uint8)
    room = memoryview(made.numpy())
    at = 0
    while at < size:
        got = part.readinto(room[at : at + _PIECE])
        if not got:
            raise Refused("is cut off or damaged; download it again")
        at += got
    part.read(1)  # at its end an archive's part compares its checksum
    return made


class _Careful(io.RawIOBase):
    """A file that gives no more at once than a directory of an honest archive has."""

    def __init__(self, file: BinaryIO) -> None:
        self._file = file

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        return self._file.seek(offset, whence)

    def tell(self) -> int:
        return self._file.tell()

    def read(self, size: int = -1) -> bytes:
        got = b"" if size > _DIRECTORY_LIMIT else self._file.read(size if size >= 0 else _DIRECTORY_LIMIT + 1)
        if max(size, len(got)) > _DIRECTORY_LIMIT:
            raise Refused("is an archive of too many parts; get a tensors-only file")
        return got
