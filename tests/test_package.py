"""What is shipped: the wheel's contents, the dependency ranges, and the two requirement files agreeing."""

import re
import subprocess
import sys
import zipfile

import pytest
from places import ROOT

if sys.version_info >= (3, 11):
    import tomllib
else:
    tomllib = pytest.importorskip("tomli")

PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]


@pytest.fixture(scope="module")
def wheel(tmp_path_factory):
    folder = tmp_path_factory.mktemp("wheel")
    source = folder / "source"
    listed = subprocess.run(
        ["git", "ls-files", "-co", "--exclude-standard"], cwd=ROOT, capture_output=True, text=True, check=True
    )
    for name in listed.stdout.splitlines():
        if (ROOT / name).is_file():
            (source / name).parent.mkdir(parents=True, exist_ok=True)
            (source / name).write_bytes((ROOT / name).read_bytes())
    command = [sys.executable, "-m", "pip", "wheel", ".", "--no-deps", "--no-build-isolation", "-q", "-w", str(folder)]
    subprocess.run(command, cwd=source, check=True, capture_output=True)
    return zipfile.ZipFile(next(folder.glob("*.whl")))


def test_the_wheel_holds_the_library_with_its_weights_and_nothing_else(wheel):
    names = wheel.namelist()
    tops = {name.split("/")[0] for name in names}
    assert tops == {"comfy_fusionfft", next(top for top in tops if top.endswith(".dist-info"))}
    shipped = {p.relative_to(ROOT).as_posix() for p in (ROOT / "comfy_fusionfft").rglob("*.py")}
    shipped |= {
        f"comfy_fusionfft/weights/{p.name}" for p in (ROOT / "weights").iterdir() if p.suffix in (".safetensors", ".md")
    }
    assert shipped <= set(names)
    assert any(name.endswith(".safetensors") for name in names)


def test_the_wheel_declares_the_command(wheel):
    entry = next(name for name in wheel.namelist() if name.endswith("entry_points.txt"))
    assert "fusionfft = comfy_fusionfft.cli:main" in wheel.read(entry).decode()


def test_nothing_is_pinned_that_a_host_also_brings():
    for requirement in PROJECT["dependencies"]:
        assert re.fullmatch(r"[a-z-]+>=[\d.]+", requirement), f"{requirement}: a lower bound only, never a pin or a cap"
    names = {re.match(r"[a-z-]+", r).group() for r in PROJECT["dependencies"]}
    assert names == {"torch", "numpy", "safetensors", "opencv-python-headless", "einops", "av"}


def test_requirements_txt_repeats_the_project_without_what_the_host_owns():
    lines = (ROOT / "requirements.txt").read_text(encoding="utf-8").splitlines()
    required = {line for line in lines if line and not line.startswith("#")}
    host_owns = {"torch", "numpy"}
    assert required == {r for r in PROJECT["dependencies"] if re.match(r"[a-z-]+", r).group() not in host_owns}


def test_constraints_pin_everything_the_environment_names():
    lines = (ROOT / "constraints.txt").read_text(encoding="utf-8").splitlines()
    pinned = {line.split("==")[0] for line in lines if "==" in line}
    extras = [r for group in PROJECT["optional-dependencies"].values() for r in group]
    named = {re.match(r"[a-z-]+", r).group() for r in (*PROJECT["dependencies"], *extras)}
    assert named - pinned <= {"fusionfft", "setuptools", "wheel", "wandb"}  # wandb is nobody's default
