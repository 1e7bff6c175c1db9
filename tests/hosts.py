"""A real ComfyUI per session, of the newest and of the oldest supported version, with this pack and the test nodes.

Tests ask for ``host``, ``old_host`` or ``either_host`` (both in turn). A host that is missing is installed first, said
on the terminal; one that cannot be installed or started is an error, never a skip.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from devhost.client import Client, Result
from devhost.install import NEWEST, OLDEST, ensure
from devhost.server import HostServer

TESTPACK = Path(__file__).parent / "nodes" / "testpack"


@dataclass(frozen=True)
class RunningHost:
    """A host, a connection to it, and tensors in and out of it."""

    server: HostServer
    client: Client

    def put(self, name: str, image: torch.Tensor) -> str:
        """Writes a (B,H,W,C) tensor where FusionFFTTestLoad finds it; returns the file's name."""
        save_file({"image": image.contiguous()}, self.server.input / f"{name}.safetensors")
        return f"{name}.safetensors"

    def run(self, graph: dict[str, dict[str, Any]], timeout: float = 120.0) -> Result:
        """Runs a graph that must succeed."""
        return self.client.run(graph, timeout).raise_for_error()

    def saved(self, name: str) -> dict[str, torch.Tensor]:
        """What a saving test node wrote under this name."""
        return load_file(self.server.output / f"{name}.safetensors")


@pytest.fixture(scope="session")
def host(pytestconfig: pytest.Config, tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningHost]:
    yield from running(NEWEST, pytestconfig, tmp_path_factory)


@pytest.fixture(scope="session")
def old_host(pytestconfig: pytest.Config, tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningHost]:
    yield from running(OLDEST, pytestconfig, tmp_path_factory)


@pytest.fixture(params=["host", "old_host"], ids=[NEWEST, OLDEST])
def either_host(request: pytest.FixtureRequest) -> RunningHost:
    return request.getfixturevalue(request.param)


def running(
    version: str, config: pytest.Config, folders: pytest.TempPathFactory, *arguments: str
) -> Iterator[RunningHost]:
    ensure(version, say=_loudly(config))
    base = folders.mktemp(f"comfyui-{version}")
    with (
        HostServer(version, extra_packs=[TESTPACK], base=base, threads=1, arguments=arguments) as server,
        Client(server.url) as client,
    ):
        yield RunningHost(server, client)


def _loudly(config: pytest.Config) -> Callable[[str], None]:
    """Writes to the terminal at once: an installation takes a minute, in which nothing else would be seen."""
    terminal = config.pluginmanager.get_plugin("terminalreporter")
    capture = config.pluginmanager.get_plugin("capturemanager")

    def say(line: str) -> None:
        with capture.global_and_fixture_disabled():
            terminal.ensure_newline()
            terminal.write_line(line, yellow=True)

    return say
