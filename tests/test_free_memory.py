"""What a made-up system says about memory."""

import pytest
import torch

from comfy_fusionfft.free_memory import address_space, free_memory
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


def group(folder, limit, used):
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "memory.max").write_text(f"{limit}\n")
    (folder / "memory.current").write_text(f"{used}\n")


def test_a_service_with_less_than_its_machine(system):
    """A scope of systemd, a job of a cluster: the limit stands at the process's own group or any above it."""
    (system[0] / "self/cgroup").write_text("0::/user.slice/job.scope/worker\n")
    group(system[1] / "user.slice/job.scope/worker", "max", 100)
    group(system[1] / "user.slice/job.scope", 900000, 600000)
    group(system[1] / "elsewhere.slice", 5, 5)
    assert free_memory(*system) == 300000
    group(system[1] / "user.slice", 800000, 790000)
    assert free_memory(*system) == 10000


def test_an_older_group_of_its_own(system):
    own = system[1] / "memory/batch/job"
    own.mkdir(parents=True)
    (own / "memory.limit_in_bytes").write_text("900000\n")
    (own / "memory.usage_in_bytes").write_text("800000\n")
    (own / "memory.stat").write_text("cache 7\ntotal_inactive_file 20\n")
    (system[0] / "self/cgroup").write_text("4:memory:/batch/job\n3:cpu,cpuacct:/\n0::/\n")
    assert free_memory(*system) == 100020


def test_a_group_that_its_container_does_not_show(system):
    (system[0] / "self/cgroup").write_text("0::/docker/abc\n")
    group(system[1], 1000000, 700000)
    assert free_memory(*system) == 300000


def test_a_limit_of_its_own(system, monkeypatch):
    resource = pytest.importorskip("resource")
    monkeypatch.setattr(resource, "getrlimit", lambda which: (10 * resource.getpagesize(), -1))
    (system[0] / "self/statm").write_text("7 3 1 0 0 0 0\n")
    assert free_memory(*system) == address_space(system[0]) == 3 * resource.getpagesize()
    (system[0] / "self/statm").write_text("17 3 1 0 0 0 0\n")
    assert free_memory(*system) == 0


def test_nothing_known(tmp_path):
    assert free_memory(tmp_path, tmp_path) is None
    assert address_space(tmp_path) is None


def test_a_host_says_so():
    free = PlainHost("cpu").free_bytes()
    assert free is None or free > 10**6
    if torch.cuda.is_available():
        assert PlainHost("cuda").free_bytes() > 10**6
