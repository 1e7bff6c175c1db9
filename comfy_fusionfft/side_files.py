"""Files that a run writes beside its video, such as reports and drawings: whole under their name, or not at all."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

from .errors import InputError, MediaError


def check_places(*paths: str | Path | None) -> None:
    """Raise InputError now for files that could not be written after a long run."""
    for path in map(Path, filter(None, paths)):
        if path.is_dir():
            raise InputError(f"{path} is a folder: give the name of a file to write")
        if not path.parent.is_dir():
            raise InputError(f"the folder {path.parent} does not exist, {path.name} was to go there: make it first")


def write_whole(path: str | Path, write: Callable[[Path], object]) -> None:
    """Have ``write`` make a file beside ``path``, which gets that name when it is complete. Raises MediaError."""
    path = Path(path)
    part = path.with_name(f".{path.stem[:200]}.part{path.suffix}")
    try:
        write(part)
        part.replace(path)
    except OSError as error:
        raise MediaError(
            f"{path} cannot be written ({error.strerror or error}): choose another place; the video is not affected"
        ) from error
    finally:
        with suppress(OSError):
            part.unlink(missing_ok=True)
