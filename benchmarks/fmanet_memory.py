"""What FMA-Net takes for one frame, in memory and in time, beside what has been told of the published code.

    python benchmarks/fmanet_memory.py [--sizes 180x320 576x768 720x1280] [--dtypes float32 bfloat16] [--threads 1]

Every row is a process of its own, which restores the middle one of three frames with random weights: the largest
resident memory less what the process had before its first frame (``peak``), what ``working_bytes`` foretells, and the
processor time of a frame within a clip, where two frames' features are there already. The published code's figures are
those that its users report, of a GPU's memory.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import subprocess
import sys
import time
from fractions import Fraction
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

PUBLISHED = {"180x320": "about 5 GB", "576x768": "not within 24 GB", "720x1280": "not within 24 GB"}
COLUMNS = (10, 10, 10, 12, 10, 12, 20)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--sizes", nargs="+", default=list(PUBLISHED), metavar="HEIGHTxWIDTH")
    parser.add_argument("--dtypes", nargs="+", choices=("float32", "bfloat16"), default=["float32", "bfloat16"])
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--one", nargs=2, metavar=("SIZE", "DTYPE"), help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.one:
        print(json.dumps(one_frame(*options.one)))
        return
    names = ("input", "dtype", "peak GB", "foretold GB", "in all GB", "CPU s", "as published")
    print("".join(f"{name:>{width}}" for name, width in zip(names, COLUMNS, strict=True)))
    for size in options.sizes:
        for dtype in options.dtypes:
            command = [sys.executable, __file__, "--one", size, dtype]
            threads = {"OMP_NUM_THREADS": str(options.threads), "OMP_WAIT_POLICY": "passive"}
            ran = subprocess.run(command, env=os.environ | threads, capture_output=True, text=True, check=True)
            told = json.loads(ran.stdout)
            figures = [f"{told[name] / 1e9:.2f}" for name in ("peak", "foretold", "whole")]
            row = [size, dtype, *figures, f"{told['seconds']:.1f}", PUBLISHED.get(size, "-")]
            print("".join(f"{each:>{width}}" for each, width in zip(row, COLUMNS, strict=True)), flush=True)


def one_frame(size: str, dtype: str) -> dict[str, float]:
    import torch

    from comfy_fusionfft.families.fmanet.model import Restore
    from comfy_fusionfft.families.fmanet.net import FMANet
    from comfy_fusionfft.host import PlainHost

    height, width = map(int, size.split("x"))
    torch.manual_seed(0)
    restorer = Restore(PlainHost("cpu", dtype).place(FMANet()))
    with torch.inference_mode():
        restorer(Frames(torch, 8, 8))
        before = peak()
        frames, start = Frames(torch, height, width), time.process_time()
        made = restorer(frames)
        seconds, after = time.process_time() - start - frames.seconds * 2 / 3, peak()
    assert made.shape == (1, 3, 4 * height, 4 * width) and bool(torch.isfinite(made).all())
    foretold = restorer.working_bytes(height, width)
    return {"peak": after - before, "foretold": foretold, "whole": after, "seconds": seconds}


class Frames:
    """A contract.Window of three frames that nobody has seen."""

    def __init__(self, torch, height: int, width: int) -> None:
        self.positions = tuple(map(Fraction, range(3)))
        self.images = tuple(torch.rand(1, 3, height, width) for _ in range(3))
        self.times = self.positions[1:2]
        self.seconds = 0.0
        self._kept = {}

    def once(self, name, positions, make):
        if (name, positions) not in self._kept:
            start = time.process_time()
            self._kept[name, positions] = make()
            self.seconds += time.process_time() - start
        return self._kept[name, positions]


def peak() -> int:
    """Bytes."""
    told = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return told if sys.platform == "darwin" else 1024 * told


if __name__ == "__main__":
    main()
