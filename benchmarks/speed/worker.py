"""One contender in a process of its own: ``python worker.py KIND OPTIONS``, started by ``process.Worker``.

Speaks JSON, one line a message, through standard input and output; whatever contenders print goes to standard error.
First it says hello. Then it answers requests, each with ``do``:

    prepare (slot, job)            draw the clip, load the weights
    run (slot, measure, save)      -> seconds; the peak in MiB if ``measure``; made frames into the file ``save``
    stream (job)                   -> seconds and peak of a clip that is never held whole, results dropped (ours alone)
    release                        forget all slots

An answer with ``error`` says why there is none.
"""

from __future__ import annotations

import gc
import importlib
import importlib.util
import json
import os
import platform
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from torch import Tensor

HERE = Path(__file__).resolve().parent
MODULES = {
    "ours": "ours.Ours",
    "native": "native.Native",
    "fannovel16": "packs.Fannovel16",
    "vs-rife": "packs.VsRife",
    "fusionfft": "packs.PublicFusionFFT",
    "plain": "plain.Plain",
}


def main() -> None:
    kind, options = sys.argv[1], json.loads(sys.argv[2])
    say = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)
    _be_the_first_to_go()
    # This folder as a package of another name: with its parent's parent on the path, ComfyUI would import our nodes.
    sys.path.pop(0)
    _load_package("speed")

    def answer(message: dict[str, Any]) -> None:
        print(json.dumps(message), file=say, flush=True)

    try:
        desk = Desk(kind, options)
        answer(desk.hello())
    except Exception as error:
        answer({"error": _text(error)})
        return
    for line in sys.stdin:
        request = json.loads(line)
        try:
            answer(getattr(desk, request.pop("do"))(**request))
        except Exception as error:
            gc.collect()
            answer({"error": _text(error)})


class Desk:
    """Turns requests into work of the contender."""

    def __init__(self, kind: str, options: dict[str, Any]) -> None:
        # A contender may change sys.argv and the import path for itself, so torch comes after it.
        module, name = MODULES[kind].split(".")
        self._contender = getattr(importlib.import_module(f"speed.{module}"), name)(options)
        import torch

        torch.set_num_threads(options["threads"])
        # A host that has worked for a while has given large blocks back, after which glibc keeps memory for the next
        # ones. Without, whoever asks for fresh memory pays several times for it, and ours knows how to avoid that.
        torch.empty(32 * 2**20 - 2**16, dtype=torch.uint8)
        self._torch, self._slots, self._device = torch, {}, options["device"]

    def hello(self) -> dict[str, Any]:
        cuda = self._device.startswith("cuda")
        return {
            "python": platform.python_version(),
            "torch": self._torch.__version__,
            "threads": self._torch.get_num_threads(),
            "accelerator": self._torch.cuda.get_device_name() if cuda else None,
            **self._contender.facts,
        }

    def prepare(self, slot: str, job: dict[str, Any]) -> dict[str, Any]:
        from speed.job import Job

        task = Job(**job)
        self._slots[slot] = task, self._contender.prepare(task)
        return {}

    def run(self, slot: str, measure: bool = False, save: str | None = None) -> dict[str, Any]:
        from speed.job import made_frames
        from speed.memory import Peak

        job, work = self._slots[slot]
        gc.collect()
        peak = Peak(self._device) if measure else None
        seconds, output = self._timed(work)
        found: dict[str, Any] = {"seconds": seconds, "peak_mb": peak.mib() if peak else None}
        if tuple(output.shape) != (job.frames_out, job.height, job.width, 3):
            raise ValueError(f"an output of shape {tuple(output.shape)} came, not {job.frames_out} frames")
        if save:
            import numpy as np

            np.save(save, made_frames(output, job).float().numpy())
        return found

    def stream(self, job: dict[str, Any]) -> dict[str, Any]:
        from speed.job import Job
        from speed.memory import Peak

        warm_up, work = self._contender.stream(Job(**job))
        self._timed(warm_up)
        peak = Peak(self._device)
        seconds, _ = self._timed(work)
        return {"seconds": seconds, "peak_mb": peak.mib()}

    def release(self) -> dict[str, Any]:
        self._slots.clear()
        gc.collect()
        return {}

    def _timed(self, work: Callable[[], Tensor]) -> tuple[float, Tensor]:
        wait = self._torch.cuda.synchronize if self._device.startswith("cuda") else lambda: None
        with self._torch.inference_mode():
            wait()
            start = time.perf_counter()
            output = work()
            wait()
            return time.perf_counter() - start, output


def _load_package(name: str) -> None:
    spec = importlib.util.spec_from_file_location(name, HERE / "__init__.py", submodule_search_locations=[str(HERE)])
    assert spec is not None and spec.loader is not None
    sys.modules[name] = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(sys.modules[name])


def _be_the_first_to_go() -> None:
    """Where memory runs out, the system ends this process and nobody else's."""
    try:
        Path("/proc/self/oom_score_adj").write_text("1000")
    except OSError:
        return


def _text(error: Exception) -> str:
    return f"{type(error).__name__}: {' '.join(str(error).split())}"[:500]


if __name__ == "__main__":
    main()
