"""What FTVSR takes: memory and time for clips of any length, and for its attention, as published and here.

    python benchmarks/ftvsr_memory.py [--frames 10 50 200] [--size 180x320] [--dtype float32] [--keyframe-step 3]
    python benchmarks/ftvsr_memory.py --attention [--size 180x320]

Every figure comes from a process of its own, with random weights, on the CPU. ``peak`` is the largest resident set of
the process, ``first chunk`` the same when the first picture came out; ``estimate`` is what the restorer had said it
would take, and ``weights`` what was there before. Seconds are those of the processor: on a busy machine a clock says
little. The attention as published writes down how much each token looks at each other one; both ways are given the
tokens of one frame of the size. ``--blocks N`` is for a quick look: a network with so many residual blocks instead of
60.
"""

from __future__ import annotations

import argparse
import json
import resource
import subprocess
import sys
import time
from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path

import torch
import torch.nn.functional as F

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from comfy_fusionfft.contract import Frame
from comfy_fusionfft.engine import restore
from comfy_fusionfft.families.ftvsr import FTVSRConfig
from comfy_fusionfft.families.ftvsr.frequency import MultiheadAttention
from comfy_fusionfft.families.ftvsr.model import BLEND, CHUNK, CONTEXT, Restore
from comfy_fusionfft.families.ftvsr.net import FTVSR
from comfy_fusionfft.host import DTYPES, PlainHost

WAYS = ("published", "fused")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--frames", nargs="+", type=int, default=[10, 50, 200])
    parser.add_argument("--size", default="180x320", metavar="HEIGHTxWIDTH")
    parser.add_argument("--dtype", choices=DTYPES, default="float32")
    parser.add_argument("--keyframe-step", type=int, default=3)
    parser.add_argument("--chunk", type=int, default=CHUNK)
    parser.add_argument("--context", type=int, default=CONTEXT)
    parser.add_argument("--blend", type=int, default=BLEND)
    parser.add_argument("--blocks", type=int, default=FTVSRConfig.blocks)
    parser.add_argument("--attention", action="store_true", help="the attention alone")
    parser.add_argument("--alone", help=argparse.SUPPRESS)  # what a process of its own does
    options = parser.parse_args()
    if options.alone:
        made = attention(options, options.alone) if options.attention else clip(options, int(options.alone))
        print(json.dumps(made))
        return
    print(f"{options.size}, {options.dtype}, {torch.get_num_threads()} threads; memory in GB")
    table(options, WAYS if options.attention else list(map(str, options.frames)))


def table(options: argparse.Namespace, rows: tuple[str, ...] | list[str]) -> None:
    for number, row in enumerate(rows):
        # arguments are repeated as they came: the last one of a kind counts
        command = [sys.executable, __file__, *sys.argv[1:], "--alone", row]
        made = json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout)
        if number == 0:
            print(f"{'attention' if options.attention else 'frames':>10}" + "".join(f"{name:>14}" for name in made))
        print(f"{row:>10}" + "".join(f"{value:>14.2f}" for value in made.values()), flush=True)


def clip(options: argparse.Namespace, count: int) -> dict[str, float]:
    height, width = map(int, options.size.split("x"))
    host = PlainHost("cpu", options.dtype)
    torch.manual_seed(0)
    net = host.place(FTVSR(FTVSRConfig(options.keyframe_step, blocks=options.blocks)))
    model = Restore(net, chunk=options.chunk, context=options.context, blend=options.blend)
    before, start, first = peak(), time.process_time(), 0.0
    for number, _ in enumerate(restore(moving(count, height, width), model, host, tile="none")):
        first = peak() if number == 0 else first
    took = time.process_time() - start
    estimate = model.working_bytes(height, width) / 1e9
    sizes = {"weights": before, "first chunk": first, "peak": peak(), "estimate": before + estimate}
    return sizes | {"seconds": took, "s a frame": took / count}


def moving(count: int, height: int, width: int) -> Iterator[Frame]:
    """A smooth picture that slides."""
    torch.manual_seed(1)
    wide = F.interpolate(torch.rand(1, 3, 8, 16), (height, 2 * width), mode="bicubic").clamp(0, 1)[0].permute(1, 2, 0)
    for number in range(count):
        shift = 2 * number % width
        yield Frame(wide[:, shift : shift + width].contiguous(), Fraction(number, 25))


@torch.inference_mode()
def attention(options: argparse.Namespace, way: str) -> dict[str, float]:
    """Of a frame, queries, keys and values given."""
    config = FTVSRConfig(options.keyframe_step)
    sides = (-(-int(side) // config.modulus) for side in options.size.split("x"))
    tokens = config.coefficients // (config.token // 64) * next(sides) * next(sides)
    torch.manual_seed(0)
    ours = MultiheadAttention(config.token, config.heads)
    seen = [torch.randn(1, tokens, config.token) for _ in range(3)]
    before, start = peak(), time.process_time()
    if way == "fused":
        ours(*seen)
    else:
        theirs = torch.nn.MultiheadAttention(config.token, config.heads, batch_first=True)
        theirs.load_state_dict(ours.state_dict())
        theirs(*seen)
    took = time.process_time() - start
    return {"tokens": tokens, "seconds": took, "peak": peak(), "added": peak() - before}


def peak() -> float:
    """Largest resident set of this process so far, GB."""
    size = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return size * (1 if sys.platform == "darwin" else 1024) / 1e9


if __name__ == "__main__":
    main()
