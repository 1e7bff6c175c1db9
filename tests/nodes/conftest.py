"""What only the node tests need beside the hosts of ``tests/hosts.py``."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import torch
from hosts import RunningHost, running

from devhost.install import NEWEST


@pytest.fixture(scope="module")
def half_host(pytestconfig: pytest.Config, tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningHost]:
    """One that hands images from node to node as float16."""
    yield from running(NEWEST, pytestconfig, tmp_path_factory, "--fp16-intermediates")


@pytest.fixture
def one_thread() -> Iterator[None]:
    """This process computes with one thread, as the hosts do: sums of floats depend on how many share them."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)
