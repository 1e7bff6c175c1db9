"""Which files texts of a graph may name. A graph can come from anybody, so its texts lead only where stated here.

Reading: the host's input folder by a relative path; anything of this machine by an absolute one, as long as the host
answers this machine alone; else the host's input, output and temporary folders. Writing: the output folder.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterable
from ipaddress import ip_address
from pathlib import Path

from ..comfy_fusionfft.errors import InputError, quoted

ANY_PATH = "FUSIONFFT_ANY_PATH"
"""Set to 1 by a user who wants every path read that the host can read."""
LONGEST_NAME = 200
"""Bytes of a file name's beginning: most systems allow 255 for all of it."""
LONGEST_PATH = 4096
_UNWRITABLE = re.compile(r"[\x00-\x1f\x7f\ud800-\udfff]")


def cleaned(text: str) -> str:
    """A path as people paste it, without blanks and quotes around it; InputError for what can be none."""
    text = text.strip().strip("\"'")
    if not 0 < len(text) <= LONGEST_PATH or _UNWRITABLE.search(text):
        raise InputError(f"{quoted(text)} is no path of a video: give one from the root, or a file of the input folder")
    return text


def absolute(text: str, folders: Iterable[str | Path], only_here: bool) -> Path:
    """A file named from the root. folders: the host's. only_here: it answers this machine alone.

    Raises InputError where reading it is not allowed: other machines could look at every picture on this one, and a
    file on another machine is fetched from there.
    """
    if os.environ.get(ANY_PATH) != "1":
        remedy = f"or start ComfyUI with {ANY_PATH}=1"
        if text[:2].replace("\\", "/") == "//":
            raise InputError(f"{quoted(text)} lies on another machine: copy it to this one, {remedy}")
        if not only_here and not any(_lies_in(text, folder) for folder in folders):
            raise InputError(
                f"{quoted(text)} is not in ComfyUI's folders, and this ComfyUI answers other machines: copy the file "
                f"into the input folder, {remedy}"
            )
    return Path(text)


def inside(name: str, folder: str | Path) -> Path:
    """A file of a folder; InputError for a name that climbs out of it."""
    path = Path(folder, name)
    if not _lies_in(path, folder):
        raise InputError(f"{quoted(name)} leads out of the folder {Path(folder).name}: give the file's whole path")
    return path


def is_only_here(listen: str) -> bool:
    """Whether these addresses, by comma, are all this machine's own."""
    return all(address.strip() == "localhost" or _is_loopback(address.strip()) for address in listen.split(","))


def check_prefix(prefix: str) -> None:
    """InputError for the beginning of a file's name that no system takes, or that names no file."""
    name = re.split(r"[/\\]", prefix)[-1]
    if _UNWRITABLE.search(prefix) or name in ("", ".", "..") or len(os.fsencode(name)) > LONGEST_NAME:
        raise unusable(prefix)


def unusable(prefix: str, why: str | None = None) -> InputError:
    """What to raise for a ``filename_prefix``."""
    because = f" ({why})" if why else ""
    return InputError(
        f"filename_prefix {quoted(prefix)} names no file in the output folder{because}: give a folder there and a name "
        f"of up to {LONGEST_NAME} bytes, such as video/FusionFFT"
    )


def _lies_in(path: str | Path, folder: str | Path) -> bool:
    """By name alone: links in the host's folders are its user's."""
    path, folder = (os.path.abspath(each) for each in (path, folder))  # noqa: PTH100 - resolve() follows links
    return Path(path).is_relative_to(folder)


def _is_loopback(address: str) -> bool:
    try:
        return ip_address(address).is_loopback
    except ValueError:
        return False
