"""Whether an output's clock is exact over a long clip: every picture's time, and what it shows at that time.

    python benchmarks/everyday/timing.py [--frames 10000] [--rate 24000/1001] [--fps 60]

A small clip is drawn whose frames carry their own number as their brightness.
It goes through ``fusionfft interpolate`` (DIS flow, plain blend) file to file; then times and pictures are read back.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import tempfile
from fractions import Fraction
from pathlib import Path

import numpy as np
import torch

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT))

from comfy_fusionfft.contract import Frame
from comfy_fusionfft.video import ClipInfo, open_clip, write_clip

WIDTH, HEIGHT, CYCLE = 64, 32, 200
"""Pictures are one flat level, 20 + number modulo CYCLE, so that a frame half-way shows a level half-way."""


def draw(path: Path, frames: int, rate: Fraction) -> None:
    def pictures():
        for number in range(frames):
            level = 20 + number % CYCLE
            yield Frame(torch.full((HEIGHT, WIDTH, 3), level, dtype=torch.uint8), number / rate)

    info = ClipInfo(Path("drawn"), "video", WIDTH, HEIGHT, rate, frames, 8, 3, "ffv1", "gbrp")
    write_clip(path, pictures(), like=info, rate=rate, codec="ffv1")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--frames", type=int, default=10_000)
    parser.add_argument("--rate", type=Fraction, default=Fraction(24000, 1001))
    parser.add_argument("--fps", type=Fraction, default=Fraction(60))
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        source, target = Path(folder) / "in.mp4", Path(folder) / "out.mp4"
        draw(source.with_suffix(".mkv"), options.frames, options.rate)
        command = [sys.executable, "-m", "comfy_fusionfft", "interpolate", str(source.with_suffix(".mkv")), str(target)]
        command += ["--fps", str(options.fps), "--flow", "dis", "--method", "rife", "--cuts", "none", "--quiet"]
        subprocess.run([*command, "--codec", "h264", "--quality", "1"], check=True, cwd=ROOT)
        count = late = 0
        worst = 0.0
        for number, frame in enumerate(open_clip(target)):
            count += 1
            late += frame.seconds != number / options.fps
            position = number / options.fps * options.rate
            share = float(position % 1)
            low, high = int(position) % CYCLE, (int(position) + 1) % CYCLE
            if high > low:  # not where the levels begin again
                want = 20 + low + share * (high - low)
                worst = max(worst, abs(float(np.median(frame.pixels.float().numpy())) - want))
        expected = int((options.frames - 1) / options.rate * options.fps) + 1
    print(f"{options.frames} frames at {options.rate} -> {options.fps}: {count} frames, {expected} expected")
    print(f"frames whose time is not exactly k / {options.fps}: {late}")
    print(f"largest distance from the level of its instant: {worst:.2f} of 255 (1.5 is rounding and the codec's)")
    sys.exit(late > 0 or count != expected)


if __name__ == "__main__":
    main()
