"""``fusionfft bench``: measurements, which live beside the package in a checkout of the repository."""

from __future__ import annotations

import argparse
import sys
from importlib import import_module
from pathlib import Path
from types import ModuleType
from typing import Any

from ..errors import InputError
from .shared import integers, say, words

ROOT = Path(__file__).resolve().parents[2]


def add_bench(parser: argparse.ArgumentParser) -> None:
    kinds = parser.add_subparsers(title="benchmarks", required=True, metavar="BENCHMARK")
    text = "seconds per made frame and peak memory, ours beside ComfyUI's own node and others"
    _add_speed(kinds.add_parser("speed", help=text, description=f"{text[0].upper()}{text[1:]}."))


def _add_speed(parser: argparse.ArgumentParser) -> None:
    parser.set_defaults(run=_speed)
    parser.add_argument("--debug", action="store_true", default=argparse.SUPPRESS, help=argparse.SUPPRESS)
    parser.add_argument("--quick", action="store_true", help="the most telling cases, in under five minutes")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write everything measured here")
    parser.add_argument("--table", type=Path, metavar="MD", help="write the table here")
    parser.add_argument("--plot", type=Path, metavar="PNG", help="draw seconds per frame over megapixels")
    parser.add_argument("--device", default="cpu", choices=("cpu", "cuda"), help="(default: cpu)")
    parser.add_argument("--sizes", type=words, metavar="S,…", help="480p, 512x896 (height first), 720p, 1080p, 4k")
    parser.add_argument("--multipliers", type=integers, metavar="N,…", help="(default: 2,4,8; quick: 2,4)")
    parser.add_argument(
        "--dtypes", type=words, metavar="D,…", help="ours (default: float32,bfloat16; GPU: float16 too)"
    )
    parser.add_argument("--paths", type=words, metavar="P,…", help="of rife, fusion, spectral (default: all)")
    parser.add_argument("--runs", type=int, metavar="N", help="timed runs of each in turn (default: 5; quick: 3)")
    parser.add_argument(
        "--threads", type=int, metavar="N", help="of the CPU (default: OMP_NUM_THREADS, else all cores)"
    )
    parser.add_argument("--rife", metavar="FILE", help="RIFE weights for all (default: the embedded ones)")
    parser.add_argument(
        "--peer",
        action="append",
        type=_peer,
        default=[],
        metavar="NAME=PATH",
        help="a checkout to measure as well: fannovel16, vs-rife or fusionfft; repeatable",
    )
    parser.add_argument(
        "--host-source",
        type=Path,
        metavar="PATH",
        help="a ComfyUI folder for this Python, where none can be installed",
    )


def _speed(options: argparse.Namespace) -> int:
    run, cases = benchmark("speed.run"), benchmark("speed.cases")
    names = ("quick", "device", "multipliers", "dtypes", "paths", "runs", "threads", "rife", "host_source")
    settings = {name: getattr(options, name) for name in names}

    def write(found: Any) -> None:
        for path, text in ((options.json, found.to_json), (options.table, found.to_markdown)):
            if path:
                path.parent.mkdir(parents=True, exist_ok=True)
                path.write_text(text(), encoding="utf-8")

    found = run.measure(
        sizes=[cases.size_of(text) for text in options.sizes] if options.sizes else None,
        peers=dict(options.peer),
        show=lambda line: print(line, flush=True),
        keep=write,  # whoever stops it half-way has that much
        **{name: value for name, value in settings.items() if value is not None},
    )
    write(found)
    if options.plot and found.rows:
        benchmark("speed.plot").draw(found.rows, options.plot)
    say(f"{len(found.rows)} rows in {found.machine['seconds']:.0f} s, {len(found.unmeasured)} not measured")
    return 0 if found.rows else 1


def benchmark(name: str) -> ModuleType:
    """A module of ``benchmarks/``. Raises InputError where the package was installed without them."""
    if not (ROOT / "benchmarks" / "speed").is_dir():
        raise InputError(
            "this installation has no benchmarks: clone the repository and run `python -m comfy_fusionfft bench` there"
        )
    if str(ROOT) not in sys.path:
        sys.path.insert(0, str(ROOT))
    return import_module(f"benchmarks.{name}")


def _peer(text: str) -> tuple[str, Path]:
    name, equals, path = text.partition("=")
    if not equals or not path:
        raise argparse.ArgumentTypeError(f"{text!r} is not NAME=PATH such as vs-rife=../vs-rife")
    return name, Path(path)
