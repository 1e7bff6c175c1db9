"""Machines that lack something: whether each command finishes on them, or says what to do.

    python benchmarks/poor_machines.py [--clip FILE] [--frames 3] [--only "one core" "ulimit -v 4GB"] [--commands flow]

Poor are: a processor without matrix units (AMX) and AVX-512, one that is older still, one core, little memory to
address (``ulimit -v``) and little memory to use (a control group, where systemd lends one). Every run is a process of
its own on the CPU; without ``--clip`` it is given the demo's scene. Restoring networks have a few random weights: what
counts is the pictures' memory. *Finished* is a run that wrote its file, *explained* one whose error says what is
lacking and what to do, and that left no file. Anything else (a traceback, an unexpected error, a process that was
killed) is FAILED, and the exit status. Seconds are the processor's; ``peak`` is the largest resident set.
"""

from __future__ import annotations

import argparse
import os
import resource
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(ROOT), str(ROOT / "tests")]

GIGABYTE = 2**30
RESUMABLE = ("interpolate", "restore")
SECONDS = 1800
"""After which a run has failed."""


class Machine(NamedTuple):
    """before: words before the command. address: bytes of address space. cores: how many, None: all."""

    name: str
    environment: tuple[tuple[str, str], ...] = ()
    arguments: tuple[str, ...] = ()
    before: tuple[str, ...] = ()
    address: int | None = None
    cores: int | None = None


# What a processor can do is asked of the processor, whatever the libraries may use of it: hence float32 said here.
FLOAT32 = ("--dtype", "float32")
SCOPE = ("systemd-run", "--scope", "--quiet", "-p", "MemorySwapMax=0", "-p")
MACHINES = (
    Machine("this one"),
    Machine("no AMX, no AVX-512", (("ONEDNN_MAX_CPU_ISA", "AVX2"), ("ATEN_CPU_CAPABILITY", "avx2")), FLOAT32),
    Machine("SSE4.1", (("ONEDNN_MAX_CPU_ISA", "SSE41"), ("ATEN_CPU_CAPABILITY", "default")), FLOAT32),
    Machine("one core", cores=1),
    *(Machine(f"ulimit -v {size}GB", address=size * GIGABYTE) for size in (4, 2, 1)),
    *(Machine(f"control group {size}GB", before=(*SCOPE, f"MemoryMax={size}G")) for size in (4, 1)),
)


class Outcome(NamedTuple):
    verdict: str
    seconds: float
    peak: int
    line: str


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--clip", type=Path, help="a video of yours")
    parser.add_argument("--size", default="720x1280", metavar="HEIGHTxWIDTH", help="of the scene, at most 816x1440")
    parser.add_argument("--frames", type=int, default=3)
    parser.add_argument("--only", nargs="+", default=[""], metavar="PART", help="machines with this in their name")
    parser.add_argument("--commands", nargs="+", default=[""], metavar="PART", help="commands with this in their name")
    options = parser.parse_args()
    failed = 0
    with tempfile.TemporaryDirectory(prefix="fusionfft-poor-") as folder:
        commands = {
            name: words
            for name, words in prepare(Path(folder), options).items()
            if any(part in name for part in options.commands)
        }
        print("| machine | command | result | s | peak MB | first line of its error |\n|---|---|---|---|---|---|")
        for machine in (m for m in MACHINES if any(part in m.name for part in options.only)):
            if machine.before and not lent(machine):
                print(f"| {machine.name} | | not tried | | | systemd lends no scope with a limit here |", flush=True)
                continue
            for name, words in commands.items():
                made = run(machine, words)
                failed += made.verdict == "FAILED"
                row = (machine.name, name, made.verdict, f"{made.seconds:.0f}", made.peak // 2**20, made.line)
                print(f"| {' | '.join(map(str, row))} |", flush=True)
    sys.exit(min(failed, 1))


def prepare(folder: Path, options: argparse.Namespace) -> dict[str, list[str]]:
    """The clip and the networks, and what is to be done with them."""
    from small_nets import FMANET, FTVSR

    from comfy_fusionfft.checkpoints import save
    from comfy_fusionfft.families import fmanet, ftvsr
    from devhost.clip import draw

    clip = options.clip
    if clip is None:
        clip = folder / "clip.mp4"
        height, width = map(int, options.size.split("x"))
        draw(clip, options.frames, part=(slice(0, height), slice(0, width)), enlarge=3)
    for family, config in ((fmanet.FAMILY, FMANET), (ftvsr.FAMILY, FTVSR)):
        save(family.build(config).state_dict(), folder / f"{family.name}.safetensors", family=family, config=config)
    made = str(folder / "made")
    return {
        "interpolate": ["interpolate", str(clip), f"{made}.mp4"],
        "restore, FMA-Net": ["restore", str(clip), f"{made}.mp4", "--weights", str(folder / "fmanet.safetensors")],
        "restore, FTVSR": ["restore", str(clip), f"{made}.mp4", "--weights", str(folder / "ftvsr.safetensors")],
        "flow": ["flow", str(clip), made],
        "spectral": ["spectral", str(clip), str(clip), f"{made}.mp4"],
    }


def lent(machine: Machine) -> bool:
    if shutil.which(machine.before[0]) is None:
        return False
    return subprocess.run([*machine.before, "true"], capture_output=True, timeout=60).returncode == 0


def run(machine: Machine, words: list[str]) -> Outcome:
    def become() -> None:
        if machine.address is not None:
            resource.setrlimit(resource.RLIMIT_AS, (machine.address, machine.address))
        if machine.cores is not None:
            os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[: machine.cores])

    target = Path(words[3] if words[0] == "spectral" else words[2])
    command = [*machine.before, sys.executable, "-m", "comfy_fusionfft", *words, *machine.arguments]
    command += ["--device", "cpu", "--quiet", "--overwrite", *(["--no-resume"] * (words[0] in RESUMABLE))]
    start = time.monotonic()
    with tempfile.TemporaryFile() as said:
        process = subprocess.Popen(
            command, cwd=ROOT, stdout=said, stderr=said, env=os.environ | dict(machine.environment), preexec_fn=become
        )
        status, seconds, peak = finish(process, start + SECONDS)
        said.seek(0)
        lines = said.read().decode(errors="replace").strip().splitlines()
    written = target.exists()
    left = [path.name for path in target.parent.glob(f"*{target.stem}*") if path != target]
    for path in target.parent.glob(f"*{target.stem}*"):
        shutil.rmtree(path) if path.is_dir() else path.unlink()
    error = next((line for line in lines if line.startswith("fusionfft: error: ")), "")
    if status == 0 and written and not left:
        return Outcome("finished", seconds, peak, "")
    if status == 1 and error and "unexpected" not in error and not written and not left:
        return Outcome("explained", seconds, peak, error.removeprefix("fusionfft: error: "))
    ended = f"signal {-status}" if status < 0 else f"status {status}"
    return Outcome("FAILED", seconds, peak, f"{ended}: {' / '.join([*left, *(lines[-2:] or ['said nothing'])])}")


def finish(process: subprocess.Popen[bytes], until: float) -> tuple[int, float, int]:
    """Exit status, negative for a signal, seconds of the processor, and the largest resident set in bytes."""
    while True:
        pid, status, usage = os.wait4(process.pid, os.WNOHANG)
        if pid:
            process.returncode = os.waitstatus_to_exitcode(status)
            return process.returncode, usage.ru_utime + usage.ru_stime, usage.ru_maxrss * 1024
        if time.monotonic() > until:
            process.kill()
        time.sleep(0.05)


if __name__ == "__main__":
    main()
