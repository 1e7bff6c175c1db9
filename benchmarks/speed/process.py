"""The workers' other end: start a contender's process, ask it, notice when it dies or hangs."""

from __future__ import annotations

import json
import os
import select
import subprocess
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

WORKER = Path(__file__).with_name("worker.py")
START_SECONDS, ANSWER_SECONDS = 300, 1200


class WorkerError(RuntimeError):
    """A contender could not do what it was asked; the text says why."""


class Worker:
    """A process that runs ``worker.py``. Raises WorkerError where it does not start."""

    def __init__(self, python: Path, kind: str, options: Mapping[str, Any], environment: Mapping[str, str]) -> None:
        self._kind = kind
        self._log = Path(options["scratch"]) / f"{kind}-{time.monotonic_ns()}.log"
        with self._log.open("wb") as log:
            self._process = subprocess.Popen(
                [str(python), str(WORKER), kind, json.dumps(dict(options))],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=log,
                env=dict(environment),
            )
        self._unread = b""
        try:
            self.facts = self._answer(START_SECONDS)
        except BaseException:
            self.close()
            raise

    @property
    def alive(self) -> bool:
        return self._process.poll() is None

    def ask(self, do: str, **request: Any) -> dict[str, Any]:
        """The worker's answer. Raises WorkerError with its reason, or with its last words where it died."""
        assert self._process.stdin is not None
        try:
            self._process.stdin.write(json.dumps({"do": do, **request}).encode() + b"\n")
            self._process.stdin.flush()
        except OSError:
            raise self._death() from None
        return self._answer(ANSWER_SECONDS)

    def close(self) -> None:
        assert self._process.stdin is not None and self._process.stdout is not None
        for pipe in (self._process.stdin, self._process.stdout):
            try:
                pipe.close()
            except OSError:
                continue  # what was not written is of no interest any more
        try:
            self._process.wait(3)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()

    def _answer(self, seconds: float) -> dict[str, Any]:
        assert self._process.stdout is not None
        pipe, end = self._process.stdout.fileno(), time.monotonic() + seconds
        while b"\n" not in self._unread:
            ready, _, _ = select.select([pipe], [], [], max(0, end - time.monotonic()))
            if not ready:
                self._process.kill()
                raise WorkerError(f"{self._kind} gave no answer for {seconds:.0f} s and was stopped")
            more = os.read(pipe, 65536)
            if not more:
                raise self._death()
            self._unread += more
        line, _, self._unread = self._unread.partition(b"\n")
        answer = json.loads(line)
        if "error" in answer:
            raise WorkerError(answer["error"])
        return answer

    def _death(self) -> WorkerError:
        status = self._process.wait()
        words = self._log.read_text(errors="replace").split("\n")
        last = next((line.strip() for line in reversed(words) if line.strip()), "it said nothing")
        if status == -9:
            return WorkerError(f"{self._kind} was killed, most likely because memory ran out")
        return WorkerError(f"{self._kind} ended with status {status}: {last[:300]}")


class Staff:
    """Workers by kind, started when first asked for; one that would not start is not tried again."""

    def __init__(self, python: Path, options: Mapping[str, Any], missing: Mapping[str, str]) -> None:
        """missing: kinds that cannot be had, and why."""
        self._python, self._options, self._refused = python, dict(options), dict(missing)
        self._working: dict[str, Worker] = {}
        self._environment = environment(options["threads"], clean="host_python" in options)
        self.facts: dict[str, dict[str, Any]] = {}

    def get(self, kind: str) -> Worker:
        """Raises WorkerError where there is none."""
        if kind in self._refused:
            raise WorkerError(self._refused[kind])
        if kind in self._working and not self._working[kind].alive:
            self._working.pop(kind).close()
        if kind not in self._working:
            self._working[kind] = self._start(kind)
        return self._working[kind]

    def fresh(self, kind: str) -> Worker:
        """One more, which the caller closes."""
        if kind in self._refused:
            raise WorkerError(self._refused[kind])
        return self._start(kind)

    def close(self) -> None:
        for worker in self._working.values():
            worker.close()
        self._working.clear()

    def _start(self, kind: str) -> Worker:
        try:
            worker = Worker(self._python, kind, self._options, self._environment)
        except WorkerError as error:
            self._refused[kind] = str(error)
            raise
        self.facts[kind] = worker.facts
        return worker


def environment(threads: int, *, clean: bool) -> dict[str, str]:
    """Variables for all workers alike. ``clean``: without an import path that was meant for another Python."""
    variables = dict(os.environ)
    if clean:
        for name in ("PYTHONPATH", "PYTHONHOME"):
            variables.pop(name, None)
    variables.pop("OMP_WAIT_POLICY", None)  # threads wait as in a host that nobody has set up for this
    variables |= {"OMP_NUM_THREADS": str(threads), "MKL_NUM_THREADS": str(threads), "PYTHONUNBUFFERED": "1"}
    return variables


def default_threads() -> int:
    """What OMP_NUM_THREADS says, else the cores this process may use."""
    said = os.environ.get("OMP_NUM_THREADS", "")
    if said.isdigit() and int(said):
        return int(said)
    cores = os.sched_getaffinity(0) if sys.platform == "linux" else range(os.cpu_count() or 1)
    return len(cores)
