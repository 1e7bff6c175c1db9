"""How much memory this process may still take: the machine's, its control groups' or its own limit, whichever is least.

Linux tells; elsewhere nothing is known without another package.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

_PROC, _CGROUP = Path("/proc"), Path("/sys/fs/cgroup")


def free_memory(proc: Path = _PROC, cgroup: Path = _CGROUP) -> int | None:
    """Bytes, swap not counted; None where the system does not tell."""
    known = [*_machine(proc), *_groups(proc, cgroup), *_limit(proc)]
    return max(0, min(known)) if known else None


def address_space(proc: Path = _PROC) -> int | None:
    """Bytes that ``ulimit -v`` leaves; None where nothing limits them, or the system does not tell."""
    return max(0, min(left)) if (left := list(_limit(proc))) else None


def _machine(proc: Path) -> Iterator[int]:
    for line in _lines(proc / "meminfo"):
        if line.startswith("MemAvailable:"):
            yield int(line.split()[1]) * 1024


def _groups(proc: Path, cgroup: Path) -> Iterator[int]:
    """Of every control group that this process is in, down from the one that its container shows as the root."""
    seen = [".", "memory"]
    for line in _lines(proc / "self/cgroup"):
        _, kinds, path = line.split(":", 2)
        if kinds in ("", "memory"):  # version 2, then version 1
            own = Path(kinds, path.lstrip("/"))
            seen += map(str, (own, *own.parents))
    for group in dict.fromkeys(seen):
        yield from _group(cgroup / group)


def _group(folder: Path) -> Iterator[int]:
    """Files that the kernel may drop count as free."""
    for limit, used, dropped in (
        ("memory.max", "memory.current", "inactive_file"),
        ("memory.limit_in_bytes", "memory.usage_in_bytes", "total_inactive_file"),
    ):
        most, now = (next(_lines(folder / name), "") for name in (limit, used))
        if most.isdigit() and now.isdigit():
            stat = dict(line.split() for line in _lines(folder / "memory.stat"))
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
