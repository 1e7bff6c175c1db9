"""Weights files: recognise, load, convert, find.

Everything the library runs is safetensors: names, shapes and numbers, nothing that could execute. Other
formats pass through ``convert`` once, which reads tensors only. Which network a file holds is told by the
names and shapes in its header, never by its file name, and exactly one family must claim it.
"""

from __future__ import annotations

import difflib
import hashlib
import os
import struct
import sys
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from threading import get_ident
from typing import Any

import safetensors.torch
import torch
from torch import Tensor, nn
from torch.nn.modules.module import register_module_parameter_registration_hook

from .contract import Family, Miss
from .errors import CheckpointError, OutputExistsError
from .families import every_family
from .pickled import Refused, read_tensors
from .tensor_file import Header, opened, printable, read_header, read_safetensors

SUFFIX = ".safetensors"
_PACKAGE = Path(__file__).resolve().parent
_SHOWN = 3
_PIECE = 1 << 20
_MOST_TENSORS = 3000
"""Of a network; the largest one known here has 585."""


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


def load(path: str | Path, *, families: Sequence[Family] | None = None) -> Loaded:
    """The network a safetensors file holds, strictly: every tensor there, none left over, shapes equal.

    Raises CheckpointError when the file is no safetensors file, damaged, incomplete, or not claimed by
    exactly one of ``families`` (all of them by default).
    """
    path = Path(path)
    found: list[tuple[Family, Any]] = []

    def check(header: Header) -> None:
        found.append(_claim_complete(path, header.tensors, header.metadata, families)[:2])

    header, tensors = read_safetensors(path, check)
    family, config = found[0]
    return _loaded(path, family, config, family.canonical(tensors), header.metadata)


def recognise(state: Mapping[str, Tensor], origin: str, kind: str) -> Loaded:
    """The network a state dict holds that is in memory already; ``origin`` is what messages call it.

    kind: what it must be, ``flow``, ``fusion``, ``interpolation`` or ``restore``. Raises CheckpointError as ``load``
    does.
    """
    families = [family for family in every_family() if family.kind == kind]
    family, config, state = _claim_complete(Path(origin), state, {}, families)
    state = {name: tensor.detach().to("cpu", torch.float32) for name, tensor in state.items()}
    return _loaded(Path(origin), family, config, state, {})


def _loaded(path: Path, family: Family, config: Any, state: dict[str, Tensor], metadata: dict[str, str]) -> Loaded:
    module = family.build(config)
    module.load_state_dict(state)
    _check_finite(path, module.state_dict())
    module.family = family  # a network that travels alone can still be told apart
    return Loaded(module.eval(), family, config, metadata)


def identify(path: str | Path, *, families: Sequence[Family] | None = None) -> tuple[Family, Any]:
    """The family that claims a file, and its config, from the header alone."""
    header = read_header(path)
    return _claim(Path(path), header.tensors, header.metadata, families)[:2]


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
        notes, part = _read(path)
        own |= notes
        if twice := next((name for name in part if name in state), None):
            raise CheckpointError(
                f"{path} has a tensor {printable(twice, 100)}, as another of the files has; give parts of one network"
            )
        state |= part
    own["fusionfft.source"] = " ".join(path.name for path in sources)
    own["fusionfft.source_sha256"] = " ".join(map(file_sha256, sources))
    own |= metadata or {}
    together = Path(" and ".join(map(str, sources)))
    family, config, state = _claim_complete(together, state, own, families)
    if dtype is not None:
        state = {name: t.to(dtype) if t.is_floating_point() else t for name, t in state.items()}
    _check_finite(together, state)
    return save(state, target, family=family, config=config, metadata=own, overwrite=overwrite)


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
    unfinished = target.with_name(f".{target.name}.{os.getpid()}.part")
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        # not save_file, which lets nobody but its user read the file
        unfinished.write_bytes(safetensors.torch.save(tensors, metadata=notes))
        unfinished.replace(target)
    except OSError as error:
        raise CheckpointError(
            f"{target} cannot be written ({error.strerror or error}); free space or choose another folder"
        ) from error
    finally:
        with suppress(OSError):  # a folder that takes nothing has nothing to take away
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
    path = _first_file(places) if Path(name).name == name else None
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


def _claim(
    path: Path, state: Mapping[str, Tensor], metadata: Mapping[str, str], families: Sequence[Family] | None
) -> tuple[Family, Any, dict[str, Tensor]]:
    """The one family, the config and the canonical state."""
    answers = []
    for family in every_family() if families is None else families:
        canonical = family.canonical(state)
        try:
            answers.append((family, family.detect(canonical, metadata), canonical))
        except CheckpointError as error:  # a family knows that this is not all of a network of its
            raise CheckpointError(f"{path} is {printable(str(error))}") from error
        except (ArithmeticError, LookupError, TypeError, ValueError) as error:
            # Its names are there, with shapes or metadata that no network of the family has.
            answers.append((family, Miss(f"shapes or metadata that it cannot have ({error})"), canonical))
    claims = [answer for answer in answers if not isinstance(answer[1], Miss)]
    if not claims:
        missed = "; ".join(f"not {family.title}: {printable(miss.why)}" for family, miss, _ in answers)
        raise CheckpointError(f"{path} holds no network known here ({missed}); choose other weights")
    if len(claims) > 1:
        names = " and ".join(family.title for family, *_ in claims)
        raise CheckpointError(f"{path} is claimed by {names}; only one may, so it cannot be used as it is")
    return claims[0]


def _claim_complete(
    path: Path, state: Mapping[str, Tensor], metadata: Mapping[str, str], families: Sequence[Family] | None
) -> tuple[Family, Any, dict[str, Tensor]]:
    """As ``_claim``; CheckpointError when the state is not all that the family's network needs, and only that."""
    family, config, state = _claim(path, state, metadata, families)
    wanted = _wanted(path, family, config)
    faults = {
        "missing": [name for name in wanted if name not in state],
        "unknown": [name for name in state if name not in wanted],
        "of another shape": [
            f"{name} {tuple(state[name].shape)} instead of {tuple(tensor.shape)}"
            for name, tensor in wanted.items()
            if name in state and state[name].shape != tensor.shape
        ],
        "of another type": [
            f"{name} {state[name].dtype}"
            for name, tensor in wanted.items()
            if name in state and state[name].is_floating_point() != tensor.is_floating_point()
        ],
    }
    told = [
        f"{len(names)} {fault} ({printable(', '.join(names[:_SHOWN]))}{', …' if len(names) > _SHOWN else ''})"
        for fault, names in faults.items()
        if names
    ]
    if told:
        raise CheckpointError(f"{path} is no complete {family.title} network: {'; '.join(told)}; get another copy")
    return family, config, state


def _wanted(path: Path, family: Family, config: Any) -> dict[str, Tensor]:
    """Names and shapes of the network that a config means, without its numbers.

    A few names can claim millions of layers, so that building them is watched.
    """
    mine, made = get_ident(), 0

    def count(module: nn.Module, name: str, parameter: Any) -> None:
        nonlocal made
        made += get_ident() == mine
        if made > _MOST_TENSORS:
            raise ValueError(f"its names claim more than {_MOST_TENSORS} tensors")

    watch = register_module_parameter_registration_hook(count)
    try:
        with torch.device("meta"):
            return family.build(config).state_dict()
    except (ArithmeticError, LookupError, TypeError, ValueError, RuntimeError, AssertionError) as error:
        why = printable(str(error).partition("\n")[0])
        raise CheckpointError(
            f"{path} is no {family.title} network that can be built ({why}); get another copy"
        ) from error
    finally:
        watch.remove()


def _check_finite(path: Path, state: Mapping[str, Tensor]) -> None:
    bad = [name for name, tensor in state.items() if tensor.is_floating_point() and not _is_finite(tensor)]
    if bad:
        raise CheckpointError(
            f"{path} holds numbers that are infinite or none in {', '.join(bad[:_SHOWN])}"
            f"{', …' if len(bad) > _SHOWN else ''}: pictures made with them would be black; get another copy"
        )


def _is_finite(tensor: Tensor) -> bool:
    flat = (tensor if tensor.dtype.itemsize > 1 else tensor.half()).reshape(-1)
    return all(bool(piece.isfinite().all()) for piece in flat.split(_PIECE))


def _read(path: Path) -> tuple[dict[str, str], dict[str, Tensor]]:
    """Metadata and tensors of a file of either kind."""
    if path.suffix == SUFFIX:
        header, tensors = read_safetensors(path)
        return header.metadata, tensors
    with opened(path) as (file, size):
        try:
            return {}, read_tensors(file, size)
        except Refused as refused:
            raise CheckpointError(f"{path} {refused}") from refused


def _first_file(places: Iterable[Path]) -> Path | None:
    for place in places:
        for path in (place, place.with_name(place.name + SUFFIX) if place.name else place):
            with suppress(OSError):  # names with characters this system does not know
                if path.is_file():
                    return path
    return None


def _files_in(folders: Iterable[Path]) -> list[Path]:
    return [path for folder in folders if folder.is_dir() for path in sorted(folder.glob(f"*{SUFFIX}"))]
