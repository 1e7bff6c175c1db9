"""Fuzzes weights files: headers, claims of size, exploits in pickles, archives that are bombs, and single bytes.

    python fuzzing/checkpoints.py --seconds 600 [--seed N] [--guided]

Every file goes through load, identify and convert. A failure is: an error that is not ours or does not say what to do,
code of the file that ran, files left behind, more time or memory than tests/faults/fuzz_checkpoints.py allows. The
process may take 6 GB of address space, so that what asks for more fails at once. ``--guided`` lets atheris choose the
inputs by the branches they reach (``pip install atheris``); otherwise they are drawn from the seed, and
``--only SEED`` repeats a single one.
"""

from __future__ import annotations

import argparse
import resource
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(ROOT), str(ROOT / "tests")]

ADDRESS_SPACE = 6 << 30


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=float, default=600)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--only", type=int, metavar="SEED", help="one input alone, and its traceback")
    parser.add_argument("--guided", action="store_true", help="let atheris choose the inputs")
    options = parser.parse_args()
    resource.setrlimit(resource.RLIMIT_AS, (ADDRESS_SPACE, ADDRESS_SPACE))
    with tempfile.TemporaryDirectory() as folder:
        if options.guided:
            guided(options.seconds, Path(folder))
            return 0
        return drawn(options, Path(folder))


def drawn(options: argparse.Namespace, folder: Path) -> int:
    from tests.faults import fuzz_checkpoints

    if options.only is not None:
        print(fuzz_checkpoints.attack(options.only, folder))
        return 0
    outcomes: Counter[tuple[str, str]] = Counter()
    failures: dict[str, int] = {}
    began, slowest = time.monotonic(), (0.0, 0)
    seed = options.seed
    while time.monotonic() - began < options.seconds:
        place = folder / str(seed)
        place.mkdir()
        started = time.monotonic()
        try:
            outcomes[fuzz_checkpoints.attack(seed, place)] += 1
        except fuzz_checkpoints.Failure as failure:
            if failures.setdefault(str(failure), seed) == seed:
                print(f"seed {seed}: {failure}", flush=True)
        slowest = max(slowest, (time.monotonic() - started, seed))
        for left in place.iterdir():
            left.unlink()
        place.rmdir()
        seed += 1
    tried = seed - options.seed
    print(f"{tried} inputs in {time.monotonic() - began:.0f} s, {len(failures)} distinct failures")
    for (kind, outcome), count in sorted(outcomes.items()):
        print(f"  {count:7} {kind}: {outcome}")
    print(f"slowest: {slowest[0]:.1f} s (seed {slowest[1]}); most memory: {fuzz_checkpoints.peak() >> 20} MiB")
    return 1 if failures else 0


def guided(seconds: float, folder: Path) -> None:
    try:
        import atheris
    except ImportError:
        sys.exit("--guided needs atheris: pip install atheris")
    with atheris.instrument_imports(include=["comfy_fusionfft", "zipfile", "pickletools", "json"]):
        from tests.faults import fuzz_checkpoints
    inputs = folder / "corpus"
    inputs.mkdir()
    for seed in range(200):  # of every kind some, for the first ones to be worth changing
        rng = fuzz_checkpoints.random.Random(seed)
        kind = rng.choice(fuzz_checkpoints.KINDS)[1]
        content = kind(rng, folder / "ran")
        if len(content) < 1 << 20:
            (inputs / str(seed)).write_bytes(bytes([seed % 2]) + content)
    place = folder / "place"
    place.mkdir()

    def one(data: bytes) -> None:
        if data:
            fuzz_checkpoints.survive(data[1:], place, (".safetensors", ".pth")[data[0] % 2])

    limits = [f"-max_total_time={seconds:.0f}", "-rss_limit_mb=4096", "-timeout=60", "-max_len=400000"]
    atheris.Setup([sys.argv[0], *limits, "-print_final_stats=1", str(inputs)], one)
    atheris.Fuzz()


if __name__ == "__main__":
    sys.exit(main())
