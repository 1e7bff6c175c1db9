"""Thousands of frames through one running ComfyUI, and what its process holds meanwhile.

    python benchmarks/soak.py [--frames 10000] [--size 64x96] [--version 0.30.0] [--out docs/soak]

Graphs in turns: Interpolate eight times, Interpolate Video from file to file, the separate blocks, Retime, Restore
Clip with a network of a few weights. Each takes another part of the clip, for a host does not repeat what it has done.
After every graph the process's memory, threads and open files are noted. Printed is what they grow by in a thousand
frames, by least squares over the second half; the first fills caches. Written are ``OUT.csv`` and ``OUT.svg``, the
memory over frames.
"""

from __future__ import annotations

import argparse
import itertools
import sys
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

ROOT = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(ROOT), str(ROOT / "tests")]

from hosts import TESTPACK
from small_nets import FMANET

from comfy_fusionfft.checkpoints import save
from comfy_fusionfft.families import fmanet
from devhost.client import Client
from devhost.clip import draw
from devhost.install import NEWEST, ensure
from devhost.server import HostServer
from tests.nodes.graphs import Graph, Link, of

CLIP, CLIP_FRAMES, PART = "soak.mp4", 60, 9
MODEL = "soak_restore.safetensors"


class Sample(NamedTuple):
    frames: int
    seconds: float
    megabytes: float
    threads: int
    files: int


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--frames", type=int, default=10_000)
    parser.add_argument("--size", default="64x96", metavar="HEIGHTxWIDTH")
    parser.add_argument("--version", default=NEWEST)
    parser.add_argument("--out", type=Path, default=ROOT / "docs" / "soak")
    options = parser.parse_args()
    height, width = map(int, options.size.split("x"))
    ensure(options.version, say=print)
    samples: list[Sample] = []
    start, made = time.monotonic(), 0
    with (
        HostServer(options.version, extra_packs=[TESTPACK], threads=1, start_timeout=600) as server,
        Client(server.url) as client,
    ):
        draw(server.input / CLIP, CLIP_FRAMES, part=(slice(0, height), slice(0, width)))
        save(
            fmanet.FAMILY.build(FMANET).state_dict(),
            server.models / "frame_interpolation" / MODEL,
            family=fmanet.FAMILY,
            config=FMANET,
        )
        for graph, frames in rounds(server, client):
            client.run(graph.nodes, timeout=600).raise_for_error()
            made += frames
            samples.append(Sample(made, time.monotonic() - start, *held(server.pid)))
            for file in (server.output / "video").glob("soak_*"):
                file.unlink()
            if len(samples) % 20 == 0:
                print("{} frames, {:.0f} s, {:.0f} MB, {} threads, {} files".format(*samples[-1]), flush=True)
            if made >= options.frames:
                break
    options.out.parent.mkdir(parents=True, exist_ok=True)
    rows = [",".join(Sample._fields), *("{},{:.1f},{:.1f},{},{}".format(*sample) for sample in samples)]
    options.out.with_suffix(".csv").write_text("\n".join(rows) + "\n", encoding="utf-8")
    options.out.with_suffix(".svg").write_text(plot(samples), encoding="utf-8")
    print(f"{len(samples)} graphs, {made} frames of {width}x{height}, {samples[-1].seconds:.0f} s")
    for name in ("megabytes", "threads", "files"):
        print(f"{name}: {getattr(samples[-1], name):.0f} in the end, {slope(samples, name):+.2f} per 1000 frames")


def rounds(server: HostServer, client: Client) -> Iterator[tuple[Graph, int]]:
    """Graphs, and how many frames each makes."""
    for number in itertools.count():
        kind = KINDS[number % len(KINDS)]
        graph = Graph(type("Host", (), {"server": server, "client": client}))
        yield graph, kind(graph, graph.add("LoadVideo", file=CLIP), number // len(KINDS))


def images(graph: Graph, video: Link, number: int) -> Link:
    clip = graph.add("GetVideoComponents", video=video)
    # another start each time, then another brightness, so that nothing is known already
    part = graph.add("ImageFromBatch", image=clip, batch_index=number % (CLIP_FRAMES - PART), length=PART)
    return graph.add("ImageBlur", image=part, blur_radius=1, sigma=0.1 + number * 1e-4)


def interpolated(graph: Graph, video: Link, number: int) -> int:
    made = graph.add("FusionFFTInterpolate", images=images(graph, video, number), multiplier=8)
    graph.add("PreviewImage", images=graph.add("ImageFromBatch", image=made, batch_index=1, length=1))
    return 8 * (PART - 1) + 1


def interpolated_file(graph: Graph, video: Link, number: int) -> int:
    pace, codec = of("pace", "multiplier", multiplier=4.0), of("codec", "h264 (mp4)", quality=16 + number % 20)
    made = {"filename_prefix": f"video/soak_{number}", **pace, **codec, **of("speed", "normal")}
    graph.add("FusionFFTInterpolateVideo", video=video, **made)
    return 4 * (CLIP_FRAMES - 1) + 1


def blocks(graph: Graph, video: Link, number: int) -> int:
    clip = images(graph, video, number)
    flow = graph.add("FusionFFTFlow", images=clip)
    fused = graph.add("FusionFFTFuse", images=clip, flow=flow)
    swapped = graph.add("FusionFFTSpectralSwap", images=fused, prior=clip, flow=flow)
    graph.add("PreviewImage", images=graph.add("ImageFromBatch", image=swapped, batch_index=1, length=1))
    return 2 * (PART - 1) + 1


def retimed(graph: Graph, video: Link, number: int) -> int:
    choices = of("pace", "multiplier", multiplier=2.0) | of("speed", "normal")
    made = graph.add("FusionFFTRetime", images=images(graph, video, number), **choices)
    graph.add("PreviewImage", images=graph.add("ImageFromBatch", image=made, batch_index=1, length=1))
    return 2 * (PART - 1) + 1


def restored(graph: Graph, video: Link, number: int) -> int:
    model = graph.add("FusionFFTLoadRestore", model=MODEL)
    made = graph.add("FusionFFTRestore", images=images(graph, video, number), restore_model=model)
    graph.add("PreviewImage", images=graph.add("ImageFromBatch", image=made, batch_index=1, length=1))
    return PART


KINDS = (interpolated, interpolated_file, blocks, retimed, restored)


def held(pid: int) -> tuple[float, int, int]:
    """Resident megabytes, threads, open files of a process (Linux)."""
    status = dict(line.split(":", 1) for line in Path(f"/proc/{pid}/status").read_text().splitlines())
    return int(status["VmRSS"].split()[0]) / 1024, int(status["Threads"]), len(list(Path(f"/proc/{pid}/fd").iterdir()))


def slope(samples: Sequence[Sample], name: str) -> float:
    later = samples[len(samples) // 2 :]
    frames, values = ([getattr(sample, each) for sample in later] for each in ("frames", name))
    return float(np.polyfit(np.array(frames) / 1000, values, 1)[0]) if len(later) > 1 else float("nan")


def plot(samples: Sequence[Sample]) -> str:
    """Memory over frames as SVG."""
    width, height, left, bottom = 720, 300, 60, 40
    most, top = samples[-1].frames, 1.15 * max(sample.megabytes for sample in samples)

    def at(frames: float, megabytes: float) -> tuple[float, float]:
        return left + frames / most * (width - left - 30), (height - bottom) * (1 - megabytes / top)

    line = " ".join("{:.1f},{:.1f}".format(*at(sample.frames, sample.megabytes)) for sample in samples)
    marks = []
    for part in range(5):
        x, y = at(most * part / 4, top * part / 4)
        beside = y + 4 if part < 4 else 12
        marks.append(
            f'<text font-size="12" x="{x:.0f}" y="{height - 22}" text-anchor="middle">{most * part // 4}</text>'
        )
        marks.append(f'<path d="M{left} {y:.1f}H{width - 30}" stroke="#ddd"/>')
        marks.append(
            f'<text font-size="12" x="{left - 6}" y="{beside:.0f}" text-anchor="end">{top * part / 4:.0f}</text>'
        )
    marks.append(f'<text font-size="12" x="{width // 2}" y="{height - 6}" text-anchor="middle">frames made</text>')
    marks.append(f'<text font-size="12" x="{left + 6}" y="14">resident memory of ComfyUI, MB</text>')
    svg = f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" font-family="sans-serif">'
    paper = f'<rect width="{width}" height="{height}" fill="#fff"/>'
    drawn = f'<polyline points="{line}" fill="none" stroke="#1464b4" stroke-width="1.5"/>'
    return f"{svg}{paper}{''.join(marks)}{drawn}</svg>\n"


if __name__ == "__main__":
    main()
