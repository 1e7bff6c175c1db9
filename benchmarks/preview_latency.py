"""How long the live preview takes from a slider's move to changed pixels, in a real front end on a real host.

    python benchmarks/preview_latency.py [--sizes 1280x720 1920x1080] [--changes 30] [--threads 1]

Runs the spectral tuning workflow on a short clip of each size, then changes alpha, lo and hi again and again as the
sliders do. Each time the page itself measures from the change to the animation frame after which the canvas holds
other pixels. Prints median and 95th percentile, for classic nodes and for Nodes 2.0.

--threads N: of the host; on a machine that is busy with other work one is faster than all.
--clip FILE: frames of a video instead of the demo scene.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path
from statistics import median, quantiles

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

import numpy as np
import torch

from comfy_fusionfft.contract import Frame
from comfy_fusionfft.video import ClipInfo, open_clip, write_clip
from devhost.browser import FrontEnd, chromium, open_page
from devhost.clip import DEMO_CLIP, draw
from devhost.install import NEWEST
from devhost.server import HostServer

SWAP = 7
"""Spectral Swap in the workflow."""
TARGETS = {"alpha": 50, "lo": 250, "hi": 250}
"""Milliseconds."""
# Alternating between two values far apart, each change after the one before has been seen.
MEASURE = """async ([id, name, values, changes]) => {
  const canvas = previewOf(id).querySelector('canvas.picture')
  const pixels = () => canvas.getContext('2d').getImageData(0, 0, canvas.width, canvas.height).data
  const differs = (a, b) => a.length !== b.length || a.some((value, i) => value !== b[i])
  const frame = () => new Promise(requestAnimationFrame)
  const spent = []
  for (let change = 0; change < changes; change++) {
    const before = pixels(), draws = previewOf(id).dataset.draws, start = performance.now()
    const value = values[change % 2]
    setWidget(id, name, value)
    do {
      await frame()
      if (performance.now() - start > 20000) throw new Error(`${name} = ${value}: nothing was drawn`)
    } while (previewOf(id).dataset.draws === draws)
    spent.push(performance.now() - start)
    if (!differs(before, pixels())) throw new Error(`${name} = ${value}: the same pixels were drawn`)
    await new Promise(resolve => setTimeout(resolve, 30))
  }
  return { spent, canvas: [canvas.width, canvas.height] }
}"""
VALUES = {"alpha": (0.3, 0.9), "lo": (0.15, 0.3), "hi": (0.35, 0.6)}
"""Each takes its two values in turn, so that no answer is known beforehand."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--sizes", nargs="+", default=["1280x720", "1920x1080"])
    parser.add_argument("--changes", type=int, default=30)
    parser.add_argument("--threads", type=int)
    parser.add_argument("--clip", type=Path)
    options = parser.parse_args()
    sizes = [tuple(map(int, size.split("x"))) for size in options.sizes]
    workflow = json.loads((ROOT / "example_workflows" / "spectral_tuning.json").read_text(encoding="utf-8"))
    print(f"ComfyUI {NEWEST}; from a change to changed pixels, {options.changes} changes each; milliseconds")
    with HostServer(NEWEST, threads=options.threads) as server, chromium() as browser:
        for size in sizes:
            write(server.input / DEMO_CLIP, size, options.clip)
            for nodes2 in (False, True):
                with open_page(browser, server.url, nodes2=nodes2) as front:
                    front.load(workflow)
                    front.look_at(SWAP)
                    # Another file under the same name would be a known result to the host.
                    front.preview(SWAP).set("alpha", 0.4 if nodes2 else 0.5)
                    front.run(timeout=300)
                    front.preview(SWAP).wait("state == 'ready'")
                    report(front, size, nodes2, options.changes)


def write(path: Path, size: tuple[int, int], source: Path | None, frames: int = 3) -> None:
    """A short clip of this size: the demo scene or the beginning of a video, as often side by side as it takes."""
    with tempfile.TemporaryDirectory() as folder:
        if source is None:
            source = Path(folder) / "scene.mp4"
            draw(source, frames)

        def scaled() -> Iterator[Frame]:
            clip = open_clip(source)
            for index, frame in zip(range(frames), clip, strict=False):
                yield Frame(torch.from_numpy(covering(frame.pixels.numpy(), *size)), index / Fraction(12))

        like = ClipInfo(source, "video", *size, Fraction(12), frames, 8, 3, "h264", "yuv420p")
        write_clip(path, scaled(), like=like, rate=Fraction(12), codec="h264", overwrite=True)


def covering(picture: np.ndarray, width: int, height: int) -> np.ndarray:
    """The picture side by side, cut to size: enlarged it would have no fine detail to swap."""
    across, down = -(-width // picture.shape[1]), -(-height // picture.shape[0])
    return np.ascontiguousarray(np.tile(picture, (down, across, 1))[:height, :width])


def report(front: FrontEnd, size: tuple[int, int], nodes2: bool, changes: int) -> None:
    kind = "Nodes 2.0" if nodes2 else "classic"
    for name, target in TARGETS.items():
        found = front.js(MEASURE, [SWAP, name, VALUES[name], changes])
        spent = found["spent"]
        middle, late = median(spent), quantiles(spent, n=20, method="inclusive")[-1]
        verdict = "met" if late <= target else "p95 over it" if middle <= target else "MISSED"
        canvas = "x".join(map(str, found["canvas"]))
        what = f"{size[0]}x{size[1]} {kind:9} {name:5} (canvas {canvas})"
        print(f"  {what}: median {middle:.0f}, p95 {late:.0f}; target {target}: {verdict}", flush=True)


if __name__ == "__main__":
    main()
