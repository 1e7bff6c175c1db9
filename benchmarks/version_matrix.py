"""The tests with the oldest and the newest versions of what the package needs, each in an environment of its own.

    python benchmarks/version_matrix.py [--only oldest newest] [--tests tests/ops tests/video] [--pip "--index-url …"]

Rows of a table come out: what was installed and what the tests said. The oldest versions are the lower bounds in
``pyproject.toml``. A row that could not be tried (an interpreter that is not on the machine, a package that cannot be
installed) says so and counts as a failure, or nobody would notice that it is gone. Environments take up to 7 GB each,
for PyTorch brings its CUDA libraries unless ``--pip`` names an index with CPU builds; they are removed again. Tests
that need a running ComfyUI or a browser are left out: they bring a PyTorch of their own. Which failures the oldest row
may have, and why, is in ``docs/reliability.md``.
"""

from __future__ import annotations

import argparse
import os
import re
import shlex
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).resolve().parents[1]
FOR_TESTS = ("pytest", "hypothesis", "tqdm", "accelerate", "tensorboard", "torchmetrics", "setuptools", "wheel")
TESTS = ("tests/ops", "tests/engine", "tests/families", "tests/video", "tests/survey", "tests/evaluate", "tests/train")
LEFT_OUT = ("test_bench.py", "test_demo.py", "test_package.py")  # a running ComfyUI, long videos, the built wheel
INSTALLED = "tests/test_cli.py::test_the_installed_command_runs"  # it is not: tests import from the checkout
SHOWN = ("torch", "numpy", "cv2", "av")
SECONDS = 7200


class Cell(NamedTuple):
    name: str
    python: str
    packages: tuple[str, ...]


def cells() -> Iterator[Cell]:
    project = (ROOT / "pyproject.toml").read_text(encoding="utf-8")
    needs = re.findall(r'"(.+)"', re.search(r"^dependencies = \[(.*?)^\]", project, re.MULTILINE | re.DOTALL)[1])
    yield Cell("oldest", "3.10", tuple(f"{need.replace('>=', '==')}.*" for need in needs))
    yield Cell("numpy 1", "3.11", (*needs, "torch==2.13.*", "numpy==1.26.*", "opencv-python-headless<4.12"))
    for python in ("3.12", "3.13"):
        yield Cell(f"newest, {python}", python, tuple(needs))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--only", nargs="+", default=[""], metavar="PART", help="rows with this in their name")
    parser.add_argument("--tests", nargs="+", metavar="PATH", help="instead of all that need no host")
    parser.add_argument("--pip", default="", metavar="WORDS", help="further arguments of pip install")
    options = parser.parse_args()
    single = (str(path) for path in sorted((ROOT / "tests").glob("test_*.py")) if path.name not in LEFT_OUT)
    tests = options.tests or [*TESTS, *single]
    print("| row | Python | PyTorch | NumPy | OpenCV | PyAV | result |\n|---|---|---|---|---|---|---|", flush=True)
    bad = 0
    for cell in (cell for cell in cells() if any(part in cell.name for part in options.only)):
        versions, result, fine = try_out(cell, tests, shlex.split(options.pip))
        bad += not fine
        print(f"| {cell.name} | {' | '.join(versions)} | {result} |", flush=True)
    sys.exit(min(bad, 1))


def try_out(cell: Cell, tests: list[str], pip: list[str]) -> tuple[list[str], str, bool]:
    """-> versions of Python and what is SHOWN, what the tests said, whether all passed."""
    unknown = [cell.python, *["–"] * len(SHOWN)]
    python = interpreter(cell.python)
    if python is None:
        return unknown, f"NOT TRIED: no Python {cell.python} on this machine", False
    with tempfile.TemporaryDirectory(prefix="fusionfft-versions-") as folder:
        subprocess.run([python, "-m", "venv", folder], check=True)
        inside = str(Path(folder) / "bin" / "python")
        install = [inside, "-m", "pip", "install", "--quiet", "--no-cache-dir", *pip, *cell.packages, *FOR_TESTS]
        installed = subprocess.run(install, capture_output=True, text=True)
        if installed.returncode:
            last = installed.stderr.strip().splitlines()[-1:]
            return unknown, f"NOT TRIED: pip: {' '.join(last)}", False
        ask = f"import platform, {', '.join(SHOWN)}; print(platform.python_version()); "
        ask += "; ".join(f"print({name}.__version__)" for name in SHOWN)
        told = subprocess.run([inside, "-c", ask], capture_output=True, text=True)
        if told.returncode:
            return unknown, f"NOT TRIED: {told.stderr.strip().splitlines()[-1]}", False
        run = subprocess.run(
            [inside, "-m", "pytest", "-q", "--tb=line", "-p", "no:cacheprovider", "--deselect", INSTALLED, *tests],
            cwd=ROOT,
            env=os.environ | {"PYTHONDONTWRITEBYTECODE": "1"},
            capture_output=True,
            text=True,
            timeout=SECONDS,
        )
    for line in run.stdout.splitlines():
        if line.startswith(("FAILED", "ERROR")):
            print(f"{cell.name}: {line}", file=sys.stderr)
    summary = run.stdout.strip().splitlines()[-1:] or ["nothing was said"]
    return told.stdout.split(), re.sub(r" in [\d.]+s.*", "", summary[0]), run.returncode == 0


def interpreter(version: str) -> str | None:
    """One that runs: pyenv's stand-ins are on the path for versions that are not in use, too."""
    own = sorted(Path.home().glob(f".pyenv/versions/{version}.*/bin/python"))
    for path in (shutil.which(f"python{version}"), *map(str, own)):
        if path and subprocess.run([path, "--version"], capture_output=True).returncode == 0:
            return path
    return None


if __name__ == "__main__":
    main()
