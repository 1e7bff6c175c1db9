"""A ComfyUI small enough to take along to a machine without a network: ``python -m benchmarks.speed.carry FOLDER``.

Fills ``FOLDER/ComfyUI`` with those files of the installed host that its interpolation node imports, and
``FOLDER/packages`` with the two packages of ComfyUI's that no other machine has, without their compiled kernels, which
this node does not call. There, ``fusionfft bench speed --host-source FOLDER/ComfyUI`` with ``FOLDER/packages`` on
PYTHONPATH needs nothing else but what it prints here.
"""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
OWN_PACKAGES = ("comfy_kitchen", "comfy_aimdo")
BASE = ("comfyui_version.py",)
"""Read by path, not imported."""
TRACE = """
import json, sys
sys.argv[1:] = ["--cpu", "--base-directory", sys.argv[2]]
sys.path.insert(0, {source!r})
import comfy.options; comfy.options.enable_args_parsing()
import comfy_extras.nodes_frame_interpolation
files = {{name: getattr(module, "__file__", None) for name, module in list(sys.modules.items())}}
print("TRACED" + json.dumps(files))
"""


def main() -> int:
    if len(sys.argv) != 2:
        print(__doc__.splitlines()[0], file=sys.stderr)
        return 2
    sys.path.insert(0, str(ROOT))
    from devhost.install import ensure

    host, folder = ensure(), Path(sys.argv[1])
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    loaded = traced(host.python, host.source, folder)
    inside = [path for path in loaded.values() if path.is_relative_to(host.source)]
    for path in [*inside, *(host.source / name for name in BASE)]:
        _copy(path, folder / "ComfyUI" / path.relative_to(host.source))
    for name in OWN_PACKAGES:
        home = loaded[name if name in loaded else next(n for n in loaded if n.startswith(name + "."))].parent
        for path in home.rglob("*"):
            if path.is_file() and (path.suffix in (".py", ".json") or path.stat().st_size < 2**20):
                _copy(path, folder / "packages" / name / path.relative_to(home))
    foreign = {name.split(".")[0] for name, path in loaded.items() if "site-packages" in path.parts}
    size = sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())
    print(f"{folder}: {size / 2**20:.1f} MiB. Imported from elsewhere: {', '.join(sorted(foreign - {*OWN_PACKAGES}))}")
    return 0


def traced(python: Path, source: Path, scratch: Path) -> dict[str, Path]:
    """Modules that the node's import brings in, and their files."""
    command = [str(python), "-c", TRACE.format(source=str(source)), "trace", str(scratch.resolve() / "base")]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    shutil.rmtree(scratch / "base", ignore_errors=True)
    line = next(line for line in done.stdout.splitlines() if line.startswith("TRACED"))
    return {name: Path(path) for name, path in json.loads(line.removeprefix("TRACED")).items() if path}


def _copy(path: Path, target: Path) -> None:
    target.parent.mkdir(parents=True, exist_ok=True)
    shutil.copyfile(path, target)


if __name__ == "__main__":
    sys.exit(main())
