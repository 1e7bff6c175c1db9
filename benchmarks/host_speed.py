"""The nodes themselves, in turns, inside a running ComfyUI: its own interpolation beside ours.

    python benchmarks/host_speed.py [--version 0.30.0] [--size 512x896] [--frames 9] [--runs 5]

One process serves all graphs, so that all share its threads and its memory. A graph takes other frames of the same clip
each time, for a host does not repeat what it has done; it runs one node on them and shows one picture. Printed are
medians of whole graphs less that of a graph without such a node, in seconds per made frame.
"""

from __future__ import annotations

import argparse
import shutil
import sys
from pathlib import Path
from statistics import median
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from devhost.client import Client
from devhost.clip import draw
from devhost.install import NEWEST
from devhost.server import HostServer

WEIGHTS = ROOT / "weights" / "rife-v0.safetensors"
FUSED = {"method": "fusion", "num_anchors": 3, "spectral_alpha": 0.4, "spectral_lo": 0.25, "spectral_hi": 0.4}
OURS = {"multiplier": 2, "source_fps": 16.0, "target_fps": 0.0, "scale": "1", "uhd": False, "ensemble": False, **FUSED}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--version", default=NEWEST)
    parser.add_argument("--size", default="512x896", metavar="HEIGHTxWIDTH")
    parser.add_argument("--frames", type=int, default=9)
    parser.add_argument("--runs", type=int, default=5)
    options = parser.parse_args()
    height, width = map(int, options.size.split("x"))
    with HostServer(options.version) as server, Client(server.url) as client:
        draw(server.input / "clip.mp4", options.frames + options.runs)
        shutil.copy(WEIGHTS, server.models / "frame_interpolation")
        seconds: dict[str, list[float]] = {name: [] for name in NODES}
        for run in range(options.runs + 1):
            for name, node in NODES.items():
                graph = {**shared(run, options.frames, height, width), **node}
                result = client.run(graph, timeout=600).raise_for_error()
                seconds[name] += [result.seconds / (options.frames - 1)] if run else []
    nothing, *spent = (median(found) for found in seconds.values())
    for name, whole in zip(list(NODES)[1:], spent, strict=True):
        pace = (spent[0] - nothing) / (whole - nothing)
        print(f"{name:<44}{whole - nothing:.3f} s per made frame, {pace:.2f} times as fast as the first", flush=True)


def shared(start: int, frames: int, height: int, width: int) -> dict[str, Any]:
    """``frames`` frames from ``start`` on as node "images", and a picture of what node "made" gives."""
    return {
        "file": node("LoadVideo", file="clip.mp4"),
        "clip": node("GetVideoComponents", video=["file", 0]),
        "part": node("ImageFromBatch", image=["clip", 0], batch_index=start, length=frames),
        "images": node(
            "ImageScale", image=["part", 0], upscale_method="bicubic", width=width, height=height, crop="disabled"
        ),
        "first": node("ImageFromBatch", image=["made", 0], batch_index=1, length=1),
        "shown": node("PreviewImage", images=["first", 0]),
    }


def node(kind: str, **inputs: Any) -> dict[str, Any]:
    return {"class_type": kind, "inputs": inputs}


def ours(**settings: Any) -> dict[str, Any]:
    return {"made": node("FusionFFTInterpolate", images=["images", 0], **{**OURS, **settings})}


MODEL = {"model": node("FrameInterpolationModelLoader", model_name=WEIGHTS.name)}
NODES: dict[str, dict[str, Any]] = {
    "nothing": {"made": node("ImageFromBatch", image=["images", 0], batch_index=0, length=2)},
    "ComfyUI, RIFE": {
        **MODEL,
        "made": node("FrameInterpolate", interp_model=["model", 0], images=["images", 0], multiplier=2),
    },
    "FusionFFT Interpolate, rife (bfloat16)": {**MODEL, **ours(method="rife", rife_model=["model", 0])},
    "FusionFFT Interpolate, rife, float32": {
        "model": node("FusionFFTLoadRIFE", model=WEIGHTS.name, dtype="float32"),
        **ours(method="rife", rife_model=["model", 0]),
    },
    "FusionFFT Interpolate, as it comes": ours(),
}
"""What is compared: nothing, which costs something too, the measure of all others, and these."""

if __name__ == "__main__":
    main()
