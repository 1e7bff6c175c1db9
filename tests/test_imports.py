"""Data and imports flow one way; the table here is the house rule."""

import ast
import sys
from pathlib import Path

import pytest
from places import ROOT

PACKAGE = ROOT / "comfy_fusionfft"
BASE = {"contract", "errors", "ops"}
ALLOWED = {
    "contract": set(),
    "errors": set(),
    "ops": {"contract", "errors", "ops"},
    "retime": {"errors"},
    "timeline": {"retime", "contract", "errors"},
    "pace": {"retime", "timeline", "errors"},
    "shutter": {"contract"},
    "survey": {*BASE, "drawing", "survey"},
    "look": {"survey", "pace", "contract", "errors"},
    "interpolation": {"engine", "look", "pace", "shutter", "survey", "timeline", "contract", "errors"},
    "fingerprint": set(),
    "files": {
        *("api", "checkpoints", "confidence_plot", "drawing", "engine", "fingerprint", "host", "interpolation", "look"),
        *("pace", "retime", "side_files", "timeline", "video", "contract", "errors", "__init__"),
    },
    "side_files": {"errors"},
    "free_memory": set(),
    "host": {"free_memory", "contract", "errors"},
    "quality": {"contract", "errors"},
    "video": {"contract", "errors", "free_memory", "video"},
    "methods": BASE,
    "families": BASE,
    "recipe": {*BASE, "families", "train"},  # what a family brings to the trainer; nothing else imports it
    "tensor_file": {"errors"},
    "pickle_machine": {"tensor_file"},
    "pickled": {"pickle_machine", "tensor_file"},
    "checkpoints": {"families", "pickled", "tensor_file", "contract", "errors"},
    "downloads": {"checkpoints", "tensor_file", "contract", "errors"},
    "flow_clip": {"engine", "contract", "errors"},
    "flow_files": {"engine", "flow_clip", "contract", "errors"},
    "drawing": {"contract", "errors", "ops"},
    "confidence_plot": {"drawing", "errors"},
    "flow_pictures": {"drawing", "contract", "errors", "ops"},
    "flow_timeline": {"drawing", "contract", "errors", "ops"},
    "spectral_preview": {"errors", "ops"},
    "swap": {"engine", "ops", "contract", "errors"},
    "engine": {"timeline", "contract", "errors", "ops", "engine"},
    "train": {"families", "checkpoints", "video", "quality", "contract", "errors", "ops", "train", "host", "survey"},
    "api": {
        *("checkpoints", "families", "engine", "interpolation", "look", "pace", "host", "contract", "errors"),
        *("methods", "ops", "swap", "flow_files", "flow_clip"),
    },
    "dataset": {"api", "families", "engine", "host", "video", "contract", "errors", "ops"},
    "inference": {"api", "families", "engine", "timeline", "host", "contract", "errors"},
    "evaluate": {
        *("api", "families", "engine", "host", "video", "quality", "contract", "errors", "ops", "train", "timeline"),
        "drawing",
    },
    "cli": {
        *("api", "evaluate", "train", "families", "checkpoints", "downloads", "host", "errors", "__init__"),
        *("engine", "files", "flow_files", "free_memory", "look", "pace", "video", "contract", "ops", "swap"),
    },
    "__main__": {"cli"},
    "__init__": set(),
}


def unit(path: Path) -> str:
    if path.name == "recipe.py":
        return "recipe"
    return path.relative_to(PACKAGE).parts[0].removesuffix(".py")


def imports(path: Path) -> set[str]:
    """Units of the package that a file imports, relative imports resolved; foreign packages with a dot in front."""
    found = set()
    here = path.relative_to(PACKAGE).parts[:-1]
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.ImportFrom) and node.level:
            base = here[: len(here) - node.level + 1]
            if node.module:
                found.add((*base, *node.module.split("."))[0])
            elif base:
                found.add(base[0])
            else:
                found |= {
                    a.name if (PACKAGE / a.name).exists() or (PACKAGE / f"{a.name}.py").exists() else "__init__"
                    for a in node.names
                }
        elif isinstance(node, ast.ImportFrom):
            found.add("." + (node.module or "").split(".")[0])
        elif isinstance(node, ast.Import):
            found |= {"." + alias.name.split(".")[0] for alias in node.names}
    return found


FILES = sorted(PACKAGE.rglob("*.py"))


@pytest.mark.parametrize("path", FILES, ids=lambda p: str(p.relative_to(PACKAGE)))
def test_imports_follow_the_house_rule(path: Path) -> None:
    ours = {name for name in imports(path) if not name.startswith(".")}
    allowed = ALLOWED[unit(path)] | {unit(path)}
    assert ours <= allowed, f"{path.name} imports {sorted(ours - allowed)}; {unit(path)} may use {sorted(allowed)}"


@pytest.mark.parametrize("path", FILES, ids=lambda p: str(p.relative_to(PACKAGE)))
def test_the_library_knows_no_host_and_imports_itself_relatively(path: Path) -> None:
    foreign = imports(path)
    assert not foreign & {".comfy", ".comfy_api", ".folder_paths", ".nodes", ".server", ".comfy_fusionfft"}
    assert not foreign & {".torchvision", ".torchaudio"}


def test_a_family_imports_only_itself() -> None:
    for path in (PACKAGE / "families").rglob("*.py"):
        parts = path.relative_to(PACKAGE / "families").parts
        if len(parts) < 2:
            continue
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.ImportFrom) and node.level == 2 and node.module:
                assert parts[0] == "fusionfft" and node.module.startswith("rife"), f"{path} imports ..{node.module}"


def test_importing_the_package_is_light() -> None:
    """The package itself must not pull in torch: the host imports it at start-up."""
    import subprocess

    code = "import sys, comfy_fusionfft; print('torch' in sys.modules, 'av' in sys.modules, 'cv2' in sys.modules)"
    out = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert out.stdout.split() == ["False", "False", "False"]
