"""How much memory this process may still take: the machine's, its container's or its own limit, whichever is least.

Linux tells; elsewhere nothing is known without another package.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

_PROC, _CGROUP = Path("/proc"), Path("/sys/fs/cgroup")


def free_memory(proc: Path = _PROC, cgroup: Path = _CGROUP) -> int | None:
    """Bytes, swap not counted; None where the system does not tell."""
    known = [*_machine(proc), *_container(cgroup), *_limit(proc)]
    return max(0, min(known)) if known else None


def _machine(proc: Path) -> Iterator[int]:
    for line in _lines(proc / "meminfo"):
        if line.startswith("MemAvailable:"):
            yield int(line.split()[1]) * 1024


def _container(cgroup: Path) -> Iterator[int]:
    """Version 2, then version 1. Files that the kernel may drop count as free."""
    for limit, used, dropped in (
        ("memory.max", "memory.current", "inactive_file"),
        ("memory/memory.limit_in_bytes", "memory/memory.usage_in_bytes", "total_inactive_file"),
    ):
        most, now = (next(_lines(cgroup / name), "") for name in (limit, used))
        if most.isdigit() and now.isdigit():
            stat = dict(line.split() for line in _lines((cgroup / limit).with_name("memory.stat")))
            yield int(most) - int(now) + int(stat.get(dropped, 0))


def _limit(proc: Path) -> Iterator[int]:
    """What ``ulimit -v`` leaves."""
    try:
        import resource
    except ImportError:  # Windows
        return
    most = resource.getrlimit(resource.RLIMIT_AS)[0]
    pages = next(_lines(proc / "self/statm"), "").split()
    if most != resource.RLIM_INFINITY and pages:
        yield most - int(pages[0]) * resource.getpagesize()


def _lines(path: Path) -> Iterator[str]:
    try:
        yield from path.read_text(encoding="ascii").splitlines()
    except (OSError, UnicodeDecodeError):
        return
