"""Runs an installed ComfyUI on the CPU, with this pack and nothing else, in a folder of its own.

    with HostServer("0.30.0") as server:
        print(server.url, server.start_seconds)

The base folder holds what a user's ComfyUI folder holds (``custom_nodes``, ``input``, ``output``, ``models``,
``user``) and ``server.log``. Packs are linked into ``custom_nodes``, so that edits need only a restart.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import socket
import subprocess
import tempfile
import time
import urllib.error
import urllib.request
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType

from .install import NEWEST, ROOT, ensure

PACK_FOLDER = "comfyui-fusionfft"
"""Name of the pack's folder, which users' installs share and URLs (``/extensions/<folder>/``) contain."""
FOLDERS = ("custom_nodes", "input", "output", "temp", "models/frame_interpolation", "user/default/workflows")
LOG_LINES = 40


class ServerError(RuntimeError):
    """The host did not start, or died; the text ends with its log's last lines."""


class HostServer:
    """A ComfyUI process, from ``__enter__`` (returns when it answers) to ``__exit__`` (nothing of it is left).

    version: what `install.ensure` knows; installed first where missing.
    pack: folder linked as ``custom_nodes/comfyui-fusionfft``; None for no pack.
    extra_packs: more folders, linked under their own names.
    base: folder to work in, kept afterwards; a temporary one by default, removed afterwards.
    port: a free one by default. listen: address to serve on.
    threads: OpenMP threads of the host; None leaves the environment's choice.
    arguments: further command line, e.g. ``["--fp16-intermediates"]``.
    """

    def __init__(
        self,
        version: str = NEWEST,
        *,
        pack: Path | None = ROOT,
        extra_packs: Sequence[Path] = (),
        base: Path | None = None,
        port: int | None = None,
        listen: str = "127.0.0.1",
        threads: int | None = None,
        arguments: Sequence[str] = (),
        start_timeout: float = 180.0,
    ) -> None:
        self.version = version
        self._packs = {} if pack is None else {PACK_FOLDER: Path(pack)}
        self._packs |= {Path(extra).name: Path(extra) for extra in extra_packs}
        self._temporary = base is None
        # The resolved path, which the host reports too (temporary folders are links on some systems).
        self.base = Path(base or tempfile.mkdtemp(prefix="fusionfft-host-")).resolve()
        self.port = port
        self._listen = listen
        self._threads = threads
        self._arguments = tuple(arguments)
        self._start_timeout = start_timeout
        self._process: subprocess.Popen[bytes] | None = None
        self.start_seconds = float("nan")
        """From the process's start to its first answer."""

    @property
    def url(self) -> str:
        address = "127.0.0.1" if self._listen in ("0.0.0.0", "::") else self._listen  # noqa: S104 - compared, not bound
        return f"http://{address}:{self.port}"

    @property
    def pid(self) -> int:
        assert self._process is not None
        return self._process.pid

    @property
    def input(self) -> Path:
        return self.base / "input"

    @property
    def output(self) -> Path:
        return self.base / "output"

    @property
    def models(self) -> Path:
        return self.base / "models"

    @property
    def workflows(self) -> Path:
        """Where the front end's workflow list reads from."""
        return self.base / "user" / "default" / "workflows"

    @property
    def log_file(self) -> Path:
        return self.base / "server.log"

    def log(self) -> str:
        """What the host has printed so far, without colours."""
        text = self.log_file.read_text(errors="replace") if self.log_file.exists() else ""
        return re.sub(r"\x1b\[[0-9;]*m", "", text)

    def failed_imports(self) -> list[str]:
        """Names of the packs that the host could not import; the log says why."""
        return [Path(path).name for path in re.findall(r"\(IMPORT FAILED\): (.+)", self.log())]

    def import_seconds(self) -> dict[str, float]:
        """How long the host took to import each pack that it could import, to a tenth of a second."""
        found = re.findall(r" ([0-9.]+) seconds: (.+)", self.log())
        return {Path(path).name: float(seconds) for seconds, path in found}

    def __enter__(self) -> HostServer:
        try:
            self._start()
        except BaseException:
            self.stop()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    def stop(self) -> None:
        """Ends the host and every process it started. Harmless when nothing runs."""
        if self._process is not None:
            for sent, patience in ((signal.SIGTERM, 5.0), (signal.SIGKILL, 10.0)):
                try:
                    os.killpg(self._process.pid, sent)
                    self._process.wait(patience)
                except ProcessLookupError:
                    break
                except subprocess.TimeoutExpired:
                    continue
            self._process = None
        if self._temporary:
            shutil.rmtree(self.base, ignore_errors=True)

    def wait(self, seconds: float) -> int | None:
        """Blocks for so long, or until the host ends; its exit status, or None while it runs."""
        assert self._process is not None
        try:
            return self._process.wait(seconds)
        except subprocess.TimeoutExpired:
            return None

    def _start(self) -> None:
        host = ensure(self.version)
        for name in FOLDERS:
            (self.base / name).mkdir(parents=True, exist_ok=True)
        for name, folder in self._packs.items():
            link = self.base / "custom_nodes" / name
            link.unlink(missing_ok=True)
            link.symlink_to(folder.resolve(), target_is_directory=True)
        if self.port is None:
            with socket.socket() as probe:
                probe.bind((self._listen, 0))
                self.port = probe.getsockname()[1]
        command = [
            *(str(host.python), str(host.source / "main.py"), "--cpu", "--disable-api-nodes"),
            *("--listen", self._listen, "--port", str(self.port), "--base-directory", str(self.base)),
            # By default the database lies beside the source, which other running hosts share.
            *("--database-url", f"sqlite:///{self.base / 'user' / 'comfyui.db'}"),
            "--cache-classic",  # newer hosts forget results where memory is short, and tests count on them
            "--disable-all-custom-nodes",
            *(("--whitelist-custom-nodes", *self._packs) if self._packs else ()),
            *self._arguments,
        ]
        environment = {key: value for key, value in os.environ.items() if key not in ("PYTHONPATH", "PYTHONHOME")}
        environment["PYTHONUNBUFFERED"] = "1"
        if self._threads is not None:
            environment["OMP_NUM_THREADS"] = str(self._threads)
        start = time.monotonic()
        with self.log_file.open("wb") as log:
            self._process = subprocess.Popen(
                command,
                cwd=self.base,
                env=environment,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,  # a process group of its own, which stop() can end as a whole
            )
        while not self._answers():
            if (status := self._process.poll()) is not None:
                raise self._error(f"ComfyUI {self.version} ended with status {status} instead of starting")
            if time.monotonic() - start > self._start_timeout:
                raise self._error(f"ComfyUI {self.version} did not answer within {self._start_timeout:g} s")
            time.sleep(0.1)
        self.start_seconds = time.monotonic() - start

    def _answers(self) -> bool:
        try:
            with urllib.request.urlopen(f"{self.url}/system_stats", timeout=2) as response:
                running = json.load(response)["system"]["argv"]
        except (OSError, ValueError, KeyError):
            return False
        # Anything may listen on a port that a caller chose: this host is the one that works in our folder.
        return str(self.base) in running

    def _error(self, what: str) -> ServerError:
        tail = "\n".join(self.log().splitlines()[-LOG_LINES:])
        return ServerError(f"{what}. The last lines of its log:\n{tail}")
