"""Weights files: recognise, load, convert, find.

Everything the library runs is safetensors: names, shapes and numbers, nothing that could execute. Other
formats pass through ``convert`` once, which reads tensors only. Which network a file holds is told by the
names and shapes in its header, never by its file name, and exactly one family must claim it.
"""

from __future__ import annotations

import difflib
import hashlib
import json
import os
import pickle
import struct
import sys
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import safetensors.torch
import torch
from safetensors import SafetensorError
from torch import Tensor, nn

from .contract import Family, Miss
from .errors import CheckpointError, OutputExistsError
from .families import every_family

SUFFIX = ".safetensors"
_PACKAGE = Path(__file__).resolve().parent
_HEADER_LIMIT = 100_000_000
_SHOWN = 3
_WRAPPERS = ("params_ema", "state_dict", "model_state_dict", "model", "params", "net")
_OTHER_FORMATS = {
    b"PK\x03\x04": "a pickle, which could run code; run `fusionfft convert {name} {stem}.safetensors` once",
    b"\x80": "a pickle, which could run code; run `fusionfft convert {name} {stem}.safetensors` once",
    b"version https://git-lfs": "a Git LFS pointer, not the file itself; run `git lfs pull` or download it",
    b"<": "a web page, not weights; download the file again",
    b"": "not a safetensors file; choose one, or download it again",
}


@dataclass(frozen=True, slots=True)
class Loaded:
    """A network with the file's weights, float32, on the CPU, in evaluation mode; ``module.family`` is its family."""

    module: nn.Module
    family: Family
    config: Any
    metadata: dict[str, str]


@dataclass(frozen=True, slots=True)
class Available:
    """A weights file within reach. ``family`` is None when none claims it, and ``problem`` says why."""

    name: str
    path: Path
    family: Family | None
    config: Any | None
    problem: str | None


class Header(NamedTuple):
    """A safetensors file without its numbers.

    tensors: on the meta device: shapes only. data_start: where the numbers begin, bytes.
    """

    tensors: dict[str, Tensor]
    metadata: dict[str, str]
    data_start: int


def load(path: str | Path, *, families: Sequence[Family] | None = None) -> Loaded:
    """The network a safetensors file holds, strictly: every tensor there, none left over, shapes equal.

    Raises CheckpointError when the file is no safetensors file, damaged, incomplete, or not claimed by
    exactly one of ``families`` (all of them by default).
    """
    path = Path(path)
    header = read_header(path)
    family, config = _claim(path, header.tensors, header.metadata, families)
    _check_complete(path, family, config, family.canonical(header.tensors))
    module = family.build(config)
    return _loaded(module, family, config, family.canonical(_read_safetensors(path)), header.metadata)


def recognise(state: Mapping[str, Tensor], origin: str, kind: str) -> Loaded:
    """The network a state dict holds that is in memory already; ``origin`` is what messages call it.

    kind: what it must be, ``flow``, ``fusion``, ``interpolation`` or ``restore``. Raises CheckpointError as ``load``
    does.
    """
    families = [family for family in every_family() if family.kind == kind]
    family, config = _claim(Path(origin), state, {}, families)
    state = family.canonical(state)
    _check_complete(Path(origin), family, config, state)
    state = {name: tensor.detach().to("cpu", torch.float32) for name, tensor in state.items()}
    return _loaded(family.build(config), family, config, state, {})


def _loaded(
    module: nn.Module, family: Family, config: Any, state: dict[str, Tensor], metadata: dict[str, str]
) -> Loaded:
    module.load_state_dict(state)
    module.family = family  # a network that travels alone can still be told apart
    return Loaded(module.eval(), family, config, metadata)


def read_header(path: str | Path) -> Header:
    """Names, shapes and metadata, without reading the numbers; refuses what is not a whole safetensors file."""
    path = Path(path)
    try:
        size = path.stat().st_size
        with path.open("rb") as file:
            start = file.read(64)
            length = struct.unpack("<Q", start[:8])[0] if len(start) >= 8 else _HEADER_LIMIT + 1
            if length > _HEADER_LIMIT:
                raise _other_format(path, start)
            file.seek(8)
            text = file.read(length) if length <= size - 8 else b""
    except OSError as error:
        raise CheckpointError(f"{path} cannot be read ({error.strerror}); choose a safetensors file") from error
    if len(text) < length:
        raise CheckpointError(f"{path} is cut off within its header ({size} bytes); download it again")
    try:
        entries = json.loads(text)
        metadata = {str(key): str(value) for key, value in entries.pop("__metadata__", {}).items()}
        tensors = {name: torch.empty(entry["shape"], device="meta") for name, entry in entries.items()}
        needed = 8 + length + max((entry["data_offsets"][1] for entry in entries.values()), default=0)
    except (ValueError, TypeError, KeyError, IndexError, AttributeError, RuntimeError) as error:
        raise CheckpointError(f"{path} has a header that is not safetensors'; download it again") from error
    if size != needed:
        raise CheckpointError(f"{path} has {size} bytes and its header says {needed}; download it again")
    return Header(tensors, metadata, 8 + length)


def identify(path: str | Path, *, families: Sequence[Family] | None = None) -> tuple[Family, Any]:
    """The family that claims a file, and its config, from the header alone."""
    header = read_header(path)
    return _claim(Path(path), header.tensors, header.metadata, families)


def convert(
    source: str | Path | Sequence[str | Path],
    target: str | Path,
    *,
    overwrite: bool = False,
    dtype: torch.dtype | None = None,
    metadata: Mapping[str, str] | None = None,
    families: Sequence[Family] | None = None,
) -> Path:
    """Write a ``.pkl``, ``.pth``, ``.pt``, ``.bin`` or safetensors file as safetensors with canonical names.

    source: several files where a network was published in parts, in any order.
    dtype: store floating-point tensors so; None keeps what the source has.
    metadata: added to the source's own, such as ``{"rife.version": "4.6"}``; wins over it.
    Raises CheckpointError when the source holds anything but tensors (which is then not executed) or is
    not a complete network of exactly one family; OutputExistsError unless ``overwrite``.
    """
    sources, target = [Path(each) for each in ([source] if isinstance(source, (str, Path)) else source)], Path(target)
    own: dict[str, str] = {}
    state: dict[str, Tensor] = {}
    for path in sources:
        part = _read_safetensors(path) if path.suffix == SUFFIX else _read_pickle(path)
        own |= read_header(path).metadata if path.suffix == SUFFIX else {}
        if twice := next((name for name in part if name in state), None):
            raise CheckpointError(
                f"{path} has a tensor {twice}, as another of the files has; give parts of one network"
            )
        state |= part
    own |= metadata or {}
    together = Path(" and ".join(map(str, sources)))
    family, config = _claim(together, state, own, families)
    state = family.canonical(state)
    _check_complete(together, family, config, state)
    own["fusionfft.source"] = " ".join(path.name for path in sources)
    own["fusionfft.source_sha256"] = " ".join(map(file_sha256, sources))
    return save(state, target, family=family, config=config, metadata=own, dtype=dtype, overwrite=overwrite)


def save(
    state: Mapping[str, Tensor],
    target: str | Path,
    *,
    family: Family,
    config: Any,
    metadata: Mapping[str, str] | None = None,
    dtype: torch.dtype | None = None,
    overwrite: bool = False,
) -> Path:
    """Write a canonical state dict as safetensors, whole or not at all.

    The metadata says the family, what shapes cannot tell about the config, and a sha256 of the numbers, so
    that the file can be verified wherever it goes.
    """
    target = Path(target)
    if target.suffix != SUFFIX:
        raise CheckpointError(f"{target} would hold safetensors; give it a name that ends in {SUFFIX}")
    if target.exists() and not overwrite:
        raise OutputExistsError(f"{target} exists already; choose another name or allow overwriting")
    tensors = {}
    for name, tensor in state.items():
        as_stored = tensor.to("cpu", dtype) if dtype and tensor.is_floating_point() else tensor.to("cpu")
        tensors[name] = as_stored.detach().contiguous().clone()
    numbers = safetensors.torch.save(tensors)
    numbers = memoryview(numbers)[8 + struct.unpack("<Q", numbers[:8])[0] :]
    notes = {**(metadata or {}), **family.describe(config), "format": "pt", "fusionfft.family": family.name}
    notes["fusionfft.data_sha256"] = hashlib.sha256(numbers).hexdigest()
    target.parent.mkdir(parents=True, exist_ok=True)
    unfinished = target.with_name(f".{target.name}.{os.getpid()}.part")
    try:
        # not save_file, which lets nobody but its user read the file
        unfinished.write_bytes(safetensors.torch.save(tensors, metadata=notes))
        unfinished.replace(target)
    finally:
        unfinished.unlink(missing_ok=True)
    return target


def file_sha256(path: str | Path, start: int = 0) -> str:
    """Hex digest of a file, from byte ``start`` on."""
    digest = hashlib.sha256()
    with Path(path).open("rb") as file:
        file.seek(start)
        while chunk := file.read(1 << 20):
            digest.update(chunk)
    return digest.hexdigest()


def cache_folder() -> Path:
    """Where downloads go: ``$FUSIONFFT_CACHE``, else the platform's place for caches."""
    if chosen := os.environ.get("FUSIONFFT_CACHE"):
        return Path(chosen).expanduser()
    if sys.platform == "win32":
        base = Path(os.environ.get("LOCALAPPDATA") or Path.home() / "AppData" / "Local")
    elif sys.platform == "darwin":
        base = Path.home() / "Library" / "Caches"
    else:
        base = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    return base / "fusionfft"


def search_folders(first: Iterable[str | Path] = ()) -> list[Path]:
    """Where weights are looked for, in this order: ``first`` (a host's own model folders), ComfyUI's
    ``models/frame_interpolation``, the user's cache, the weights that come with the library."""
    folders = [Path(folder) for folder in first]
    checkout = _PACKAGE.parent
    if comfyui := os.environ.get("COMFYUI_PATH"):
        folders.append(Path(comfyui) / "models" / "frame_interpolation")
    if checkout.parent.name == "custom_nodes":
        folders.append(checkout.parent.parent / "models" / "frame_interpolation")
    return list(dict.fromkeys([*folders, cache_folder(), *_own_folders()]))


def embedded(name: str) -> Path:
    """A file that comes with the library, whatever else of its name lies about."""
    places = [folder / f"{name}{SUFFIX}" for folder in _own_folders()]
    path = _first_file(places)
    if path is None:
        raise CheckpointError(f"{places[0]} is missing: the installation is not complete, so install it again")
    return path


def _own_folders() -> list[Path]:
    checkout = _PACKAGE.parent
    inside = [checkout / "weights"] if (checkout / "pyproject.toml").is_file() else []
    return [*inside, _PACKAGE / "weights"]


def find(name: str | Path, kind: str | None = "flow", *, folders: Iterable[str | Path] = ()) -> Path:
    """The file meant by a path or by a name, with or without ``.safetensors``.

    kind: what the file must hold, ``flow``, ``fusion``, ``interpolation`` or ``restore``; None accepts anything.
    folders: looked through before ``search_folders``'s own.
    """
    searched = search_folders(folders)
    path = _first_file([Path(name).expanduser(), *(folder / name for folder in searched)])
    if path is None:
        names = sorted({file.stem for file in _files_in(searched)})
        near = difflib.get_close_matches(Path(name).name.removesuffix(SUFFIX), names, cutoff=0.4) or names
        known = f"; there are {', '.join(near)}" if near else ""
        places = ", ".join(map(str, searched))
        raise CheckpointError(
            f"no weights {str(name)!r} in {places}{known}; `fusionfft weights list` shows what can be downloaded"
        )
    if kind is not None:
        family, _ = identify(path)
        if family.kind != kind:
            is_, wanted = (f"{'an' if name[0] in 'aeiou' else 'a'} {name} network" for name in (family.kind, kind))
            raise CheckpointError(f"{path} is {is_} ({family.title}); choose {wanted}")
    return path


def available(kind: str | None = None, *, folders: Iterable[str | Path] = ()) -> list[Available]:
    """The files ``find`` can see, by reading their headers only; a name found twice counts where it is first."""
    listed: dict[str, Available] = {}
    for path in _files_in(search_folders(folders)):
        if path.stem in listed:
            continue
        try:
            family, config = identify(path)
            listed[path.stem] = Available(path.stem, path, family, config, None)
        except CheckpointError as error:
            listed[path.stem] = Available(path.stem, path, None, None, str(error))
    return [file for file in listed.values() if kind is None or (file.family and file.family.kind == kind)]


def _other_format(path: Path, start: bytes) -> CheckpointError:
    what = next(what for signature, what in _OTHER_FORMATS.items() if start.startswith(signature))
    return CheckpointError(f"{path} is {what.format(name=path.name, stem=path.stem)}")


def _claim(
    path: Path, state: Mapping[str, Tensor], metadata: Mapping[str, str], families: Sequence[Family] | None
) -> tuple[Family, Any]:
    families = every_family() if families is None else families
    try:
        answers = [(family, family.detect(family.canonical(state), metadata)) for family in families]
    except CheckpointError as error:  # a family knows that this is not all of a network of its
        raise CheckpointError(f"{path} is {error}") from error
    claims = [(family, config) for family, config in answers if not isinstance(config, Miss)]
    if not claims:
        missed = "; ".join(f"not {family.title}: {miss.why}" for family, miss in answers)
        raise CheckpointError(f"{path} holds no network known here ({missed}); choose other weights")
    if len(claims) > 1:
        names = " and ".join(family.title for family, _ in claims)
        raise CheckpointError(f"{path} is claimed by {names}; only one may, so it cannot be used as it is")
    return claims[0]


def _check_complete(path: Path, family: Family, config: Any, state: Mapping[str, Tensor]) -> None:
    with torch.device("meta"):
        wanted = family.build(config).state_dict()
    faults = {
        "missing": [name for name in wanted if name not in state],
        "unknown": [name for name in state if name not in wanted],
        "of another shape": [
            f"{name} {tuple(state[name].shape)} instead of {tuple(tensor.shape)}"
            for name, tensor in wanted.items()
            if name in state and state[name].shape != tensor.shape
        ],
    }
    told = [
        f"{len(names)} {fault} ({', '.join(names[:_SHOWN])}{', …' if len(names) > _SHOWN else ''})"
        for fault, names in faults.items()
        if names
    ]
    if told:
        raise CheckpointError(f"{path} is no complete {family.title} network: {'; '.join(told)}; get another copy")


def _read_safetensors(path: Path) -> dict[str, Tensor]:
    try:
        return safetensors.torch.load_file(path)
    except (SafetensorError, OSError) as error:
        raise CheckpointError(f"{path} is damaged ({error}); download it again") from error


def _read_pickle(path: Path) -> dict[str, Tensor]:
    try:
        content = torch.load(path, map_location="cpu", weights_only=True)
    except FileNotFoundError as error:
        raise CheckpointError(f"{path} does not exist; name a weights file") from error
    except pickle.UnpicklingError as error:
        raise CheckpointError(
            f"{path} is damaged or holds more than tensors; nothing of it was executed; get a tensors-only file"
        ) from error
    except Exception as error:  # what a damaged pickle raises depends on where the damage is
        raise CheckpointError(f"{path} is not a PyTorch weights file or is damaged; download it again") from error
    while isinstance(content, Mapping):
        inner = next((content[key] for key in _WRAPPERS if isinstance(content.get(key), Mapping)), None)
        if inner is None:
            break
        content = inner
    state = {}
    if isinstance(content, Mapping):
        # Where several networks and what trained them lie side by side, names begin with those of the networks.
        state = _named(content) or {
            f"{key}.{name}": t
            for key, inner in content.items()
            if isinstance(key, str) and isinstance(inner, Mapping)
            for name, t in _named(inner).items()
        }
    if not state:
        raise CheckpointError(f"{path} holds no named tensors ({type(content).__name__}); choose a weights file")
    return state


def _named(content: Mapping[Any, Any]) -> dict[str, Tensor]:
    return {name: t for name, t in content.items() if isinstance(name, str) and isinstance(t, Tensor)}


def _first_file(places: Iterable[Path]) -> Path | None:
    for place in places:
        for path in (place, place.with_name(place.name + SUFFIX) if place.name else place):
            with suppress(OSError):  # names with characters this system does not know
                if path.is_file():
                    return path
    return None


def _files_in(folders: Iterable[Path]) -> list[Path]:
    return [path for folder in folders if folder.is_dir() for path in sorted(folder.glob(f"*{SUFFIX}"))]
