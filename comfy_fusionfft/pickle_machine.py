"""What a pickle describes, found out without unpickling it: dicts, lists, numbers, and tensors by their places.

A pickle is a program for a small machine that may import and call whatever it likes. This machine knows the dozen of
instructions that ``torch.save`` needs, no import and no call: the names of the few functions that PyTorch's files have
are looked up in a table here, and the first other name or instruction ends it. It takes a bounded number of steps, and
each of them takes a bounded amount of memory.
"""

from __future__ import annotations

import pickletools
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, BinaryIO

import torch

from .tensor_file import DTYPES, printable

_STEPS = 2_000_000
_MOST_DIMENSIONS = 16

_STORAGES = {
    "Double": torch.float64,
    "Float": torch.float32,
    "Half": torch.float16,
    "BFloat16": torch.bfloat16,
    "Long": torch.int64,
    "Int": torch.int32,
    "Short": torch.int16,
    "Char": torch.int8,
    "Byte": torch.uint8,
    "Bool": torch.bool,
}
_CONSTANTS: dict[str, Any] = {
    **{f"torch {name}Storage": dtype for name, dtype in _STORAGES.items()},
    "torch.storage UntypedStorage": torch.uint8,
    **{str(dtype).replace(".", " "): dtype for dtype in DTYPES.values()},
}


class Refused(Exception):
    """Why a file is not read: an end for a sentence that begins with the file's name."""


@dataclass(frozen=True, slots=True)
class Storage:
    """Numbers of a file that nobody has read yet."""

    key: str
    dtype: torch.dtype
    count: int


@dataclass(frozen=True, slots=True)
class Described:
    """A tensor before its numbers are read."""

    storage: Storage
    dtype: torch.dtype
    offset: int
    shape: tuple[int, ...]
    stride: tuple[int, ...]

    @property
    def last(self) -> int:
        """Numbers of the storage that it reaches over, from the storage's beginning."""
        if 0 in self.shape:
            return 0
        return self.offset + 1 + sum((n - 1) * step for n, step in zip(self.shape, self.stride, strict=True))

    @property
    def size(self) -> int:
        numbers = self.dtype.itemsize
        for n in self.shape:
            numbers *= n
        return numbers


class _Named:
    """A global that is allowed, by its name alone."""

    __slots__ = ("name",)

    def __init__(self, name: str) -> None:
        self.name = name


_MARK = object()
_IGNORED = object()
"""What is allowed and of no interest, such as a device."""


class Reader:
    """One pickle, up to its end: a stack, a memo, and no way out of them."""

    def __init__(self, source: BinaryIO) -> None:
        self.storages: dict[str, Storage] = {}
        self._source = source
        self._stack: list[Any] = []
        self._memo: dict[int, Any] = {}
        self._steps = _STEPS

    def run(self) -> Any:
        for opcode, argument, _ in pickletools.genops(self._source):
            self._spend(1)
            name = opcode.name
            if name in _VALUES:
                self._stack.append(argument)
            elif name in _PLAIN:
                self._stack.append(_PLAIN[name]())
            elif (act := _ACTIONS.get(name)) is not None:
                act(self, argument)
            elif name == "STOP":
                break
            elif name not in ("PROTO", "FRAME"):
                raise Refused(f"holds more than tensors; nothing of it was executed ({name}); get a tensors-only file")
        return self._stack.pop()

    def _spend(self, steps: int) -> None:
        self._steps -= steps
        if self._steps < 0:
            raise Refused("describes its tensors in more steps than any network needs; get a tensors-only file")

    def _above_mark(self) -> list[Any]:
        above = []
        while (top := self._stack.pop()) is not _MARK:
            above.append(top)
        return above[::-1]

    def _put(self, place: int) -> None:
        self._memo[place] = self._stack[-1]

    def _memoize(self, _: None) -> None:
        self._put(len(self._memo))

    def _get(self, place: int) -> None:
        self._stack.append(self._memo[place])

    def _tuple(self, _: None) -> None:
        self._stack.append(tuple(self._above_mark()))

    def _short_tuple(self, count: int) -> None:
        items = tuple(self._stack[-count:])
        if len(items) < count or any(item is _MARK for item in items):
            raise Refused("is damaged; download it again")
        del self._stack[-count:]
        self._stack.append(items)

    def _append(self, _: None) -> None:
        item = self._stack.pop()
        self._list().append(item)

    def _appends(self, _: None) -> None:
        items = self._above_mark()
        self._list().extend(items)

    def _list(self) -> list[Any]:
        if type(self._stack[-1]) is not list:
            raise Refused("is damaged; download it again")
        return self._stack[-1]

    def _set_item(self, _: None) -> None:
        value, key = self._stack.pop(), self._stack.pop()
        self._fill([(key, value)])

    def _set_items(self, _: None) -> None:
        items = self._above_mark()
        self._fill(zip(items[::2], items[1::2], strict=True))

    def _fill(self, items: Any) -> None:
        target = self._stack[-1]
        if type(target) is not dict:
            raise Refused("is damaged; download it again")
        for key, value in items:
            # Nested tuples as keys could take for ever to hash.
            if not isinstance(key, (str, int, float, type(None))):
                raise Refused(
                    "holds more than tensors; nothing of it was executed (a key is no name); get a tensors-only file"
                )
            target[key] = value

    def _global(self, name: str) -> None:
        if name in _CONSTANTS:
            self._stack.append(_CONSTANTS[name])
        elif name in _CALLS:
            self._stack.append(_Named(name))
        else:
            shown = printable(name.replace(" ", "."), 100)
            raise Refused(f"holds more than tensors; nothing of it was executed ({shown}); get a tensors-only file")

    def _stack_global(self, _: None) -> None:
        name, module = self._stack.pop(), self._stack.pop()
        if not (isinstance(module, str) and isinstance(name, str)):
            raise Refused("is damaged; download it again")
        self._global(f"{module} {name}")

    def _reduce(self, _: None) -> None:
        arguments, called = self._stack.pop(), self._stack.pop()
        if not isinstance(called, _Named) or not isinstance(arguments, tuple):
            raise Refused("holds more than tensors; nothing of it was executed; get a tensors-only file")
        self._stack.append(_CALLS[called.name](self, *arguments))

    def _build(self, _: None) -> None:
        """State that objects have beside what they hold: of dicts the versions of modules, which nothing needs."""
        self._stack.pop()
        if type(self._stack[-1]) is not dict and not isinstance(self._stack[-1], Described):
            raise Refused("holds more than tensors; nothing of it was executed; get a tensors-only file")

    def _persistent(self, _: None) -> None:
        told = self._stack.pop()
        kind, dtype, key, _place, count, *view = told
        honest = kind == "storage" and isinstance(dtype, torch.dtype) and isinstance(key, str) and view in ([], [None])
        if not honest or not _is_count(count) or "/" in key:
            raise Refused("is damaged, or too old: load it with PyTorch, save it again and take that file")
        storage = Storage(key, dtype, count)
        if self.storages.setdefault(key, storage) != storage:
            raise Refused("is damaged: it names the same numbers in two ways; download it again")
        self._stack.append(storage)

    def _dict(self, items: Any = ()) -> dict[Any, Any]:
        items = list(items.items()) if type(items) is dict else items
        self._spend(len(items))
        self._stack.append({})
        self._fill(items)
        return self._stack.pop()

    def _tensor(self, storage: Any, offset: Any, shape: Any, stride: Any, *_: Any) -> Described:
        return self._describe(storage, offset, shape, stride, storage.dtype)

    def _typed_tensor(
        self, storage: Any, offset: Any, shape: Any, stride: Any, grad: Any, hooks: Any, dtype: Any, *_: Any
    ) -> Described:
        return self._describe(storage, offset, shape, stride, dtype)

    def _describe(self, storage: Any, offset: Any, shape: Any, stride: Any, dtype: Any) -> Described:
        counts = (*shape, *stride, offset)
        if not (
            isinstance(storage, Storage)
            and isinstance(dtype, torch.dtype)
            and len(shape) == len(stride) <= _MOST_DIMENSIONS
            and all(map(_is_count, counts))
        ):
            raise Refused("is damaged: a tensor's place makes no sense; download it again")
        return Described(storage, dtype, offset, tuple(shape), tuple(stride))

    def _size(self, sizes: Any = ()) -> tuple[Any, ...]:
        self._spend(len(sizes))
        return tuple(sizes)

    def _parameter(self, tensor: Any, *_: Any) -> Described:
        if not isinstance(tensor, Described):
            raise Refused("is damaged; download it again")
        return tensor


def _is_count(number: Any) -> bool:
    return type(number) is int and 0 <= number < 1 << 48


_VALUES = {
    *("BININT", "BININT1", "BININT2", "LONG1", "BINFLOAT", "BINUNICODE", "SHORT_BINUNICODE", "BINUNICODE8"),
    *("BINSTRING", "SHORT_BINSTRING", "BINBYTES", "SHORT_BINBYTES"),
}
_PLAIN: dict[str, Callable[[], Any]] = {
    "NONE": lambda: None,
    "NEWTRUE": lambda: True,
    "NEWFALSE": lambda: False,
    "EMPTY_TUPLE": tuple,
    "EMPTY_LIST": list,
    "EMPTY_DICT": dict,
    "MARK": lambda: _MARK,
}
_ACTIONS: dict[str, Callable[[Reader, Any], None]] = {
    **dict.fromkeys(("BINPUT", "LONG_BINPUT"), Reader._put),
    **dict.fromkeys(("BINGET", "LONG_BINGET"), Reader._get),
    "MEMOIZE": Reader._memoize,
    "TUPLE": Reader._tuple,
    **{f"TUPLE{n}": lambda self, _, n=n: self._short_tuple(n) for n in (1, 2, 3)},
    "APPEND": Reader._append,
    "APPENDS": Reader._appends,
    "SETITEM": Reader._set_item,
    "SETITEMS": Reader._set_items,
    "GLOBAL": Reader._global,
    "STACK_GLOBAL": Reader._stack_global,
    "REDUCE": Reader._reduce,
    "BUILD": Reader._build,
    "BINPERSID": Reader._persistent,
}
_CALLS: dict[str, Callable[..., Any]] = {
    **dict.fromkeys(("collections OrderedDict", "collections Counter"), Reader._dict),
    **dict.fromkeys(("torch._utils _rebuild_tensor", "torch._utils _rebuild_tensor_v2"), Reader._tensor),
    "torch._utils _rebuild_tensor_v3": Reader._typed_tensor,
    "torch._utils _rebuild_parameter": Reader._parameter,
    "torch Size": Reader._size,
    **{
        name: lambda self, *_: _IGNORED
        for name in ("torch device", "_codecs encode", "builtins set", "__builtin__ set", "builtins complex")
    },
}
