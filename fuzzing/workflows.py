"""Fuzzes the pack's nodes in a real ComfyUI with graphs that somebody else made.

    python fuzzing/workflows.py --seconds 600 [--seed N] [--version 0.30.0]

Graphs of every node with small clips are spoiled before they are sent: values of other kinds, numbers at the edges,
paths out of every folder, names of files that are none, broken curves, cuts and keys, missing and unknown inputs, links
to the wrong place, deep nesting, odd metadata. A failure is: an exception of ours that is no FusionFFTError, or whose
first line is empty or endless; a file outside the output and temporary folders; a text that was executed; more than
SECONDS, or a stop that is not followed; a host that died or grew by more than MEMORY. Needs what ``devhost`` needs;
drawn from a seed, without coverage.
"""

from __future__ import annotations

import argparse
import copy
import json
import random
import re
import sys
import time
from collections import Counter
from pathlib import Path
from types import SimpleNamespace
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import av
import numpy as np

from comfy_fusionfft import errors
from devhost.client import Client, InvalidGraph, Result
from devhost.install import NEWEST
from devhost.server import PACK_FOLDER, HostServer
from fuzzing.routes import resident
from tests.nodes.graphs import Graph, of

SECONDS = 20.0
"""A graph may run so long until it is interrupted, and then so long again until it stops."""
MEMORY = 1 << 30
LONGEST = 1000
"""Characters of a message's first line."""
MARK = "fusionfuzz"
"""In the name of every file that a spoiled text could make."""
FREE = {"filename_prefix", "cuts", "keys", "curve", "video", "source_fps", "quality", "count", "multiplier", "factor"}
"""Inputs of which the host does not know what may stand in them."""
OURS = {name for name, kind in vars(errors).items() if isinstance(kind, type) and issubclass(kind, Exception)}
CLIP = f"{MARK}.mkv"

COMMANDS = (
    *(f"$(touch {{folder}}/{MARK}-ran)", f"`touch {{folder}}/{MARK}-ran`", f"; touch {{folder}}/{MARK}-ran #"),
    f"__import__('os').system('touch {{folder}}/{MARK}-ran')",
    f"{{{{''.__class__.__mro__[1].__subclasses__()}}}}{MARK}",
)
PATHS = (
    *(f"../{MARK}", f"../../../../../../../../tmp/{MARK}", f"/tmp/{MARK}", f"{{folder}}/{MARK}", f"a/../../{MARK}"),  # noqa: S108
    *(
        f"..\\..\\{MARK}",
        f"\\\\host.invalid\\share\\{MARK}",
        f"//host.invalid/share/{MARK}",
        f"~/{MARK}",
        f"C:\\{MARK}",
    ),
    *(
        "/etc/passwd",
        "../../etc/passwd",
        "/dev/zero",
        "/dev/stdin",
        "/proc/self/environ",
        "/",
        ".",
        "..",
        "",
        "/dev/null",
    ),
    *(
        "http://127.0.0.1:9/x.mp4",
        "file:///etc/passwd",
        "concat:/etc/passwd|/etc/passwd",
        "pipe:0",
        "[output]",
        "x [temp]",
    ),
    *(f"{MARK}[*", f"**{MARK}", f"*{MARK}?", f"{MARK}{{}}", f"%{MARK}%", f"%date:{MARK}%", f"{MARK}" + "a" * 300),
    *(
        f"{MARK}\x00",
        f"{MARK}\n",
        f"{MARK}\x1b[31m",
        f"\ud800{MARK}",
        f"\u202e{MARK}",
        "💥" * 80,
        f"{MARK}/" * 60,
        "a" * 70_000,
    ),
)
TEXTS = (
    *("1e9999999", "-1e9999999", "0:1e9999999", "1e9999999:1", "1/0", "0:1/0", "nan", "inf", "0:nan", "٣", "1" * 5000),
    *(
        "0:1" + ", 1:2" * 3000,
        "50%:0",
        "0:0, 1:0",
        "0:1, 0:2, 0:3",
        "-5:1",
        "1e80f:1",
        "0%:1000, 100%:0.001",
        ":",
        "%:%",
    ),
    *(
        "f:1",
        ",",
        ";;;",
        "1,,2",
        "99999999999999999999",
        "24-130",
        "auto, 3",
        "none none",
        "0x10",
        "1_000",
        "0",
        "-1",
        "1.5",
    ),
)
CURVES: tuple[Any, ...] = (
    *({}, {"points": None}, {"points": []}, {"points": [[0]]}, {"points": [[0, 1, 2]]}, {"points": [["a", "b"]]}),
    *({"points": "0,1"}, {"points": [[0, float("nan")], [1, 1]]}, {"points": [[0, 1e308], [1, -1e308]]}, {"points": 5}),
    *({"points": [[0, 0.5]] * 5, "interpolation": {}}, {"points": [[1e-300, 1], [2e-300, 0]]}, [[0, 1], [1, 0]], []),
    *({"points": [[x / 2000, 0.5] for x in range(2000)]}, {"points": [[0, 1], [0.5, 0], [1, 1]], "interpolation": "x"}),
    {"points": [[0, 1], [1, 0.001]], "interpolation": "linear"},
)
NUMBERS: tuple[Any, ...] = (
    *(0, -1, 1, 2**31, 2**63, 2**64, -(2**63), 10**30, 10**400, 0.0, -0.0, 1e-300, 1e308, float("nan"), float("inf")),
    *("1", "1e400", "nan", "0x10", True, None, 0.5, 64.0, 1e6, 0.011, 999.999, 63, 5, 60.0),
)
SHAPES: tuple[Any, ...] = (
    *(None, True, [], {}, [1], [[]], ["0", 0], ["99", 0], ["0", 99], ["0", -1], ["0", "x"], [None, None], {"a": 1}),
    *(
        {"__value__": ["a", "b"]},
        {"__value__": {"points": []}},
        {"__value__": [True, ["/etc/passwd"]]},
        {"__type__": "CURVE"},
    ),
)


def graphs(host: Any) -> list[dict[str, dict[str, Any]]]:
    """One graph that works for every node of the pack that needs no file by hand. host: has a ``client``."""
    made = []

    def started() -> tuple[Graph, Any]:
        graph = Graph(host)
        return graph, graph.add("EmptyImage", width=64, height=48, batch_size=3, color=0x405060)

    def shown(graph: Graph, node: Any) -> None:
        graph.add("PreviewImage", images=node)
        made.append(graph.nodes)

    def motion(graph: Graph) -> Any:
        return graph.add("FusionFFTLoadRIFE", model="dis (built-in, no weights)")

    graph, images = started()
    shown(graph, graph.add("FusionFFTInterpolate", images=images, rife_model=motion(graph)))
    for pace in (
        of("pace", "multiplier"),
        of("pace", "frame rate") | of("speed", "keys"),
        of("pace", "frame count", count=9),
        of("pace", "multiplier") | of("speed", "curve"),
    ):
        graph, images = started()
        shown(graph, graph.add("FusionFFTRetime", images=images, method="rife", rife_model=motion(graph), **pace))
        graph = Graph(host)
        video = graph.add("LoadVideo", file=CLIP)
        settings = {"method": "rife", "rife_model": motion(graph), "filename_prefix": f"video/{MARK}"}
        graph.add("FusionFFTInterpolateVideo", video=video, **settings, **pace)
        made.append(graph.nodes)
    graph, images = started()
    flow = graph.add("FusionFFTFlow", images=images, rife_model=motion(graph))
    fused = graph.add("FusionFFTFuse", images=images, flow=flow, fusion_model=graph.add("FusionFFTLoadFusion"))
    shown(graph, graph.add("FusionFFTSpectralSwap", images=fused, prior=images, flow=flow))
    graph, images = started()
    flow = graph.add("FusionFFTFlow", images=images)
    graph.add("PreviewImage", images=graph.add("FusionFFTFlowPreview", flow=flow))
    shown(graph, graph.add("FusionFFTFlowWarp", images=images, flow=flow))
    graph, images = started()
    wavelet = graph.add("FusionFFTLoadWaveletVFI")
    graph.add("PreviewImage", images=graph.add("FusionFFTWaveletVFI", images=images, waveletvfi_model=wavelet))
    restorer = graph.add("FusionFFTLoadRestore")
    shown(graph, graph.add("FusionFFTRestore", images=images, restore_model=restorer))
    return made


def write_clip(folder: Path) -> None:
    """Five small frames, lossless."""
    with av.open(str(folder / CLIP), "w") as container:
        stream = container.add_stream("ffv1", rate=12)
        stream.width, stream.height, stream.pix_fmt = 64, 48, "bgr0"
        for number in range(5):
            picture = np.full((48, 64, 3), 40 * number, np.uint8)
            container.mux(stream.encode(av.VideoFrame.from_ndarray(picture, format="rgb24")))
        container.mux(stream.encode(None))


def arbitrary(
    draw: random.Random, seeds: list[dict[str, dict[str, Any]]], folder: Path
) -> tuple[dict[str, dict[str, Any]], dict[str, Any]]:
    """A graph with one to three faults, and what is sent beside it. folder: where spoiled texts may lead."""
    graph, extra = copy.deepcopy(draw.choice(seeds)), {}
    for _ in range(draw.choice((1, 1, 2, 3))):
        node = draw.choice([each for each in graph.values() if each["class_type"].startswith("FusionFFT")])
        inputs = node["inputs"]
        free = [each for each in inputs if each.rpartition(".")[2] in FREE]
        name = draw.choice(free if free and draw.random() < 0.5 else [*inputs, "unknown"])
        match draw.randrange(10):
            case 0:
                inputs.pop(name, None)
            case 1:
                # a link to nowhere in an input that nobody knows ends the host's own worker thread (0.30.0)
                inputs[name] = draw.choice(SHAPES) if name != "unknown" else draw.choice(NUMBERS)
            case 2:
                nested: Any = 1
                for _ in range(draw.choice((20, 300))):
                    nested = draw.choice(([nested], {"a": nested}))
                inputs[name] = nested
            case 3:
                odd = draw.choice((None, [], "x", {"workflow": float("nan")}, {"a" * 5000: "\ud800\x00"}, {"": 1}, 5))
                extra = {"extra_pnginfo": odd}
            case _:
                inputs[name] = _fitting(draw, name, inputs.get(name), folder)
    return graph, extra


def _fitting(draw: random.Random, name: str, value: Any, folder: Path) -> Any:
    """Something that the input might be taken to accept."""
    if name.endswith(".curve"):
        return draw.choice(CURVES)
    if isinstance(value, (bool, int, float)):
        return draw.choice(NUMBERS)
    if name == "video":
        return _text(draw, PATHS, folder)
    if isinstance(value, str):
        return _text(draw, draw.choice((PATHS, TEXTS, COMMANDS, (value.upper(), value + " ", f" {value}"))), folder)
    return draw.choice((*NUMBERS, *(SHAPES if name != "unknown" else ())))


def _text(draw: random.Random, among: tuple[str, ...], folder: Path) -> str:
    return draw.choice(among).replace("{folder}", str(folder))


def fault(result: Result) -> str | None:
    """What is wrong with how a graph ended, or None."""
    error = result.error
    if error is None:
        return None
    first, kind = error.message.partition("\n")[0], error.kind.rpartition(".")[2]
    if kind not in OURS:
        where = re.findall(r'File "([^"]+)"', error.trace)
        if where and "/comfy_api/" in where[-1]:
            return None  # the host's own helper, as in its own nodes
        inside = re.search(
            rf"{PACK_FOLDER}|comfy_fusionfft|{re.escape(str(Path(__file__).parents[1]))}/nodes", error.trace
        )
        return f"{error.kind}: {first[:200]}\n{error.trace[-900:]}" if inside else None
    if not 20 <= len(first) <= LONGEST:
        return f"a message of {len(first)} characters: {first[:200]}"
    return None


def strays(server: HostServer, folder: Path) -> set[str]:
    """Files of ours where none may be."""
    allowed = [server.base / name for name in ("output", "temp")]
    places = [server.base, folder, Path("/tmp"), Path.home(), Path.cwd()]  # noqa: S108 - only looked at
    found = [path for place in places[:2] for path in place.rglob(f"*{MARK}*")]
    found += [path for place in places[2:] for path in place.glob(f"*{MARK}*")]
    mine = {server.input / CLIP}
    return {str(p) for p in found if p not in mine and not any(p.is_relative_to(place) for place in allowed)}


def run(host: Any, folder: Path, seed: int, *, tries: int | None = None, seconds: float = 1e9) -> list[str]:
    """Spoiled graphs until there were so many or so long -> what went wrong, each with its seed.

    host: has ``server`` and ``client``. folder: an empty one beside all that the host may write.
    """
    server, client = host.server, host.client
    write_clip(server.input)
    there = strays(server, folder)
    seeds, failures, number, ends = graphs(host), [], 0, Counter()
    for graph in seeds[:-1]:  # the last one has networks that must be fetched by hand
        client.run(graph).raise_for_error()
    deadline, before = time.monotonic() + seconds, resident(server.pid)
    while (tries is None or number < tries) and time.monotonic() < deadline and len(failures) < 20:
        graph, extra = arbitrary(random.Random(f"{seed} {number}"), seeds, folder)
        end, wrong = _ended(client, graph, extra)
        ends[end] += 1
        if wrong is None and (stray := strays(server, folder) - there):
            wrong = f"files outside: {stray}"
        if not _worker_lives(server):
            failures.append(f"seed {seed} number {number}: the host's worker ended\n    {json.dumps(graph)[:600]}")
            print(failures[-1], flush=True)
            return failures
        if wrong:
            failures.append(f"seed {seed} number {number}: {wrong}\n    {json.dumps(graph)[:600]}")
            print(failures[-1], flush=True)
        number += 1
    grown = resident(server.pid) - before
    if grown > MEMORY:
        failures.append(f"the host grew by {grown >> 20} MiB")
    client.run(seeds[0]).raise_for_error()  # it lives
    print(f"{number} graphs, {dict(ends)}, the host grew by {grown >> 20} MiB")
    return failures


def _worker_lives(server: HostServer) -> bool:
    return "Exception in thread" not in server.log()


def _ended(client: Client, graph: dict[str, dict[str, Any]], extra: dict[str, Any]) -> tuple[str, str | None]:
    try:
        prompt = client.submit(graph, extra)
    except InvalidGraph:
        return "refused", None
    except Exception as error:
        return "host", f"{error}" if PACK_FOLDER in str(error) else None
    try:
        result = client.wait(prompt, SECONDS)
    except TimeoutError:
        client.interrupt()
        try:
            client.wait(prompt, SECONDS)
        except TimeoutError:
            return "stuck", f"it ran longer than {SECONDS:g} s and did not stop"
        return "interrupted", None
    if result.error is None:
        return "ran", None
    return "failed", fault(result)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--seconds", type=float, default=60.0)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--version", default=NEWEST)
    options = parser.parse_args()
    with HostServer(options.version, threads=1) as server, Client(server.url) as client:
        folder = server.base.with_name(f"{server.base.name}-outside")
        folder.mkdir()
        try:
            failures = run(SimpleNamespace(server=server, client=client), folder, options.seed, seconds=options.seconds)
        finally:
            for file in folder.iterdir():
                file.unlink()
            folder.rmdir()
    print(f"{len(failures)} failures")
    return 1 if failures else 0


if __name__ == "__main__":
    sys.exit(main())
