"""Frames per second and peak memory of ``fusionfft interpolate``, and whether memory grows with the clip.

    python benchmarks/throughput.py [--sizes 854x480 1920x1080] [--frames 60 600] [--flow dis rife] [--method fusion]

Each row is one run of the command in a process of its own, on a moving test pattern made here, H.264 in
and out, ×2. Peak memory is the operating system's own figure for that process (maximum resident set). The last column
is the peak against the first row of the same size and flow: 1.00 means that memory does not grow.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import av
import numpy as np

ROOT = Path(__file__).resolve().parents[1]


def make_clip(path: Path, width: int, height: int, frames: int) -> None:
    """A noise texture that pans by (3, 2) px per frame: real motion, cheap to make at any length."""
    rng = np.random.default_rng(0)
    small = rng.integers(0, 256, (height // 8 + 64, width // 8 + 64, 3), dtype=np.uint8)
    texture = small.repeat(8, 0).repeat(8, 1)
    with av.open(str(path), "w") as output:
        stream = output.add_stream("libx264", rate=24, options={"preset": "ultrafast", "crf": "20"})
        stream.width, stream.height, stream.pix_fmt = width, height, "yuv420p"
        for i in range(frames):
            x, y = 3 * i % 500, 2 * i % 500
            picture = np.ascontiguousarray(texture[y : y + height, x : x + width])
            output.mux(stream.encode(av.VideoFrame.from_ndarray(picture, "rgb24")))
        output.mux(stream.encode(None))


def measure(command: list[str]) -> tuple[float, float]:
    """Seconds and peak resident MiB of one process."""
    start = time.perf_counter()
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, cwd=ROOT)
    _, status, usage = os.wait4(process.pid, 0)
    seconds = time.perf_counter() - start
    if status:
        sys.exit(f"{' '.join(command)} failed: {process.stderr.read().decode()}")
    return seconds, usage.ru_maxrss / 1024


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--sizes", nargs="+", default=["854x480", "1920x1080"])
    parser.add_argument("--frames", nargs="+", type=int, default=[60, 600])
    parser.add_argument("--flow", nargs="+", default=["dis", "rife"])
    parser.add_argument("--method", default="rife", help="rife measures the flow source alone, fusion all of it")
    parser.add_argument("--device", default="cpu")
    options = parser.parse_args()
    print(f"{'flow':<6}{'size':<12}{'frames':>7}{'seconds':>9}{'fps out':>9}{'peak MiB':>10}{'growth':>8}", flush=True)
    with tempfile.TemporaryDirectory() as folder:
        for flow in options.flow:
            for size in options.sizes:
                first = None
                for frames in options.frames:
                    source = Path(folder) / f"{size}-{frames}.mp4"
                    if not source.exists():
                        make_clip(source, *map(int, size.split("x")), frames)
                    command = [sys.executable, "-m", "comfy_fusionfft", "interpolate", str(source)]
                    command += [str(Path(folder) / "out.mp4"), "--flow", flow, "--method", options.method]
                    command += ["--device", options.device, "--overwrite", "--quiet"]
                    seconds, peak = measure(command)
                    first = first or peak
                    fps = (2 * frames - 1) / seconds
                    print(
                        f"{flow:<6}{size:<12}{frames:>7}{seconds:>9.1f}{fps:>9.2f}{peak:>10.0f}{peak / first:>8.2f}",
                        flush=True,
                    )


if __name__ == "__main__":
    main()
