"""What the pack adds to the start of a real ComfyUI.

    python benchmarks/host_start.py [--version 0.30.0] [--runs 5]

Starts the host with and without the pack in turn, and prints the seconds to its first answer; then, inside a host,
the seconds from the pack's import to its list of nodes, which is what its users wait for beyond what the host
loads anyway.
"""

from __future__ import annotations

import argparse
import os
import re
import sys
from pathlib import Path
from statistics import median

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from devhost.install import NEWEST
from devhost.server import HostServer

TIMER = Path(__file__).parent / "import_timer"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--version", default=NEWEST)
    parser.add_argument("--runs", type=int, default=5)
    options = parser.parse_args()
    seconds: dict[bool, list[float]] = {False: [], True: []}
    for run in range(2 * options.runs):
        pack = bool(run % 2)
        with HostServer(options.version, pack=ROOT if pack else None) as server:
            seconds[pack].append(server.start_seconds)
    without, with_pack = median(seconds[False]), median(seconds[True])
    print(f"ComfyUI {options.version}, median of {options.runs} starts:")
    print(f"  without the pack {without:.2f} s, with it {with_pack:.2f} s, ratio {with_pack / without:.3f}")

    os.environ["FUSIONFFT_TIMED"] = str(ROOT)
    imports = []
    for _ in range(options.runs):
        with HostServer(options.version, pack=None, extra_packs=[TIMER]) as server:
            imports.append(re.search(r"TIMED ([0-9.]+) s (.*)", server.log()))
    spent = sorted(float(found[1]) for found in imports)
    print(f"  import to list of nodes: median {median(spent):.3f} s, slowest {spent[-1]:.3f} s {imports[0][2]}")


if __name__ == "__main__":
    main()
