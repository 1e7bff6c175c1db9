"""What ``make audit`` makes of the answers it gets; the answers themselves come from the network."""

import importlib.util
import json
import subprocess
import sys

import pytest
from places import ROOT


@pytest.fixture(scope="module")
def audit():
    spec = importlib.util.spec_from_file_location("audit_of_dependencies", ROOT / ".ci" / "audit.py")
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    yield module
    del sys.modules[spec.name]


def answer(**holes: list[dict]) -> str:
    told = [{"name": name, "version": "1.0", "vulns": found} for name, found in holes.items()]
    return json.dumps({"dependencies": [*told, {"name": "obscure", "skip_reason": "not found"}], "fixes": []})


def test_what_it_asks_about_is_what_we_need(audit):
    assert set(audit.needed()) == set(audit.tested()) >= {"torch", "numpy", "safetensors", "av"}
    assert audit.needed()["torch"] == "2.3" and audit.tested()["torch"].startswith("2.")
    assert set(audit.ACCEPTED) <= set(audit.needed())


def test_a_hole_with_a_fix_must_be_closed(audit):
    fixed, open_ = {"id": "CVE-1", "fix_versions": ["2.0"]}, {"id": "CVE-2", "fix_versions": []}
    found, unknown = audit.holes(answer(numpy=[fixed], av=[open_], torch=[fixed], einops=[]))
    assert [str(hole) for hole in found] == [
        "numpy 1.0: CVE-1, fixed in 2.0",
        "av 1.0: CVE-2, fixed in no version",
        "torch 1.0: CVE-1, fixed in 2.0",
    ]
    assert unknown == ["obscure"]
    now = [f"update constraints.txt: {name} 1.0: CVE-1, fixed in 2.0" for name in ("numpy", "torch")]
    assert audit.verdict(found, []) == now
    assert audit.verdict([], found) == ["raise the bound in pyproject.toml: numpy 1.0: CVE-1, fixed in 2.0"]


@pytest.mark.parametrize(
    ("said", "why"),
    [
        ("", "the service that knows the holes cannot be reached (timed out)"),
        (json.dumps({"dependencies": [{"name": "torch", "skip_reason": "x"}] * 6}), "it knows none of the packages"),
    ],
)
def test_no_service_is_said_loudly_and_is_no_failure(audit, monkeypatch, capsys, tmp_path, said, why):
    monkeypatch.setattr(audit, "TOOL", tmp_path)
    (tmp_path / "bin").mkdir()
    (tmp_path / "bin" / "pip-audit").touch()
    ran = subprocess.CompletedProcess([], 1, stdout=said, stderr="...\ntimed out")
    monkeypatch.setattr(audit.subprocess, "run", lambda *command, **how: ran)
    assert audit.main() == 0
    assert "audit: NOT DONE" in (told := capsys.readouterr().err) and why in told


def test_a_hole_fails_the_audit(audit, monkeypatch, capsys, tmp_path):
    monkeypatch.setattr(audit, "TOOL", tmp_path)
    (tmp_path / "bin").mkdir()
    (tmp_path / "bin" / "pip-audit").touch()
    hole = {"id": "CVE-1", "fix_versions": ["2.0"]}
    ran = subprocess.CompletedProcess([], 1, stdout=answer(numpy=[hole]), stderr="")
    monkeypatch.setattr(audit.subprocess, "run", lambda *command, **how: ran)
    assert audit.main() == 1
    assert "update constraints.txt: numpy 1.0: CVE-1" in capsys.readouterr().out
