"""What a made-up system says about memory."""

import pytest
import torch

from comfy_fusionfft.free_memory import free_memory
from comfy_fusionfft.host import PlainHost


@pytest.fixture
def system(tmp_path):
    proc, cgroup = tmp_path / "proc", tmp_path / "cgroup"
    (proc / "self").mkdir(parents=True)
    (cgroup / "memory").mkdir(parents=True)
    (proc / "meminfo").write_text("MemTotal: 4000 kB\nMemAvailable:    2000 kB\n")
    return proc, cgroup


def test_the_machine(system):
    assert free_memory(*system) == 2000 * 1024


def test_a_container_with_less(system):
    (system[1] / "memory.max").write_text("1000000\n")
    (system[1] / "memory.current").write_text("700000\n")
    (system[1] / "memory.stat").write_text("anon 1\ninactive_file 5000\n")
    assert free_memory(*system) == 305000


def test_a_container_without_a_limit(system):
    (system[1] / "memory.max").write_text("max\n")
    (system[1] / "memory.current").write_text("700000\n")
    assert free_memory(*system) == 2000 * 1024


def test_an_older_container(system):
    (system[1] / "memory/memory.limit_in_bytes").write_text("900000\n")
    (system[1] / "memory/memory.usage_in_bytes").write_text("800000\n")
    assert free_memory(*system) == 100000


def test_a_limit_of_its_own(system, monkeypatch):
    resource = pytest.importorskip("resource")
    monkeypatch.setattr(resource, "getrlimit", lambda which: (10 * resource.getpagesize(), -1))
    (system[0] / "self/statm").write_text("7 3 1 0 0 0 0\n")
    assert free_memory(*system) == 3 * resource.getpagesize()
    (system[0] / "self/statm").write_text("17 3 1 0 0 0 0\n")
    assert free_memory(*system) == 0


def test_nothing_known(tmp_path):
    assert free_memory(tmp_path, tmp_path) is None


def test_a_host_says_so():
    free = PlainHost("cpu").free_bytes()
    assert free is None or free > 10**6
    if torch.cuda.is_available():
        assert PlainHost("cuda").free_bytes() > 10**6
