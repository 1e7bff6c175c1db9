"""Known holes in what the package asks for: ``make audit``.

Asks pip-audit (in .cache/audit, installed on first use) twice: about the versions in constraints.txt that the tests ran
with, and about the oldest versions that pyproject.toml allows. Prints every hole. Status 1: one in what the package
needs to run has a fixed version that we do not use, or one in its lower bounds is not explained in ACCEPTED. Status 0
with a loud line: the service cannot be reached, which says nothing about holes.
"""

from __future__ import annotations

import json
import re
import subprocess
import sys
import venv
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
TOOL = ROOT / ".cache" / "audit"
ACCEPTED = {
    "torch": "bounds only: this package gives torch no file of anybody's, scripts nothing and opens no port "
    "(docs/SECURITY.md); ComfyUI and its user choose the version",
}
"""Package -> why a hole in its lower bound is left: raising it would shut out hosts, without closing a way in."""


@dataclass(frozen=True)
class Hole:
    package: str
    version: str
    id: str
    fixed: tuple[str, ...]

    def __str__(self) -> str:
        return f"{self.package} {self.version}: {self.id}, fixed in {', '.join(self.fixed) or 'no version'}"


def needed() -> dict[str, str]:
    """Package -> lower bound, of what it takes to run."""
    listed = re.search(
        r"^dependencies = \[(.*?)^\]", (ROOT / "pyproject.toml").read_text(encoding="utf-8"), re.M | re.S
    )
    return dict(re.findall(r'"([\w-]+)>=([\w.]+)"', listed[1]))


def tested() -> dict[str, str]:
    """Package -> version, of what the tests ran with; only what it takes to run."""
    lines = (ROOT / "constraints.txt").read_text(encoding="utf-8").splitlines()
    pinned = dict(line.split("==") for line in lines if "==" in line)
    return {name: pinned[name] for name in needed()}


def holes(answer: str) -> tuple[list[Hole], list[str]]:
    """Of pip-audit's JSON: the holes, and the packages about which nothing is known."""
    found, unknown = [], []
    for entry in json.loads(answer)["dependencies"]:
        if "vulns" not in entry:
            unknown.append(entry["name"])
        for hole in entry.get("vulns", ()):
            found.append(Hole(entry["name"], entry["version"], hole["id"], tuple(hole["fix_versions"])))
    return found, unknown


def verdict(now: list[Hole], oldest: list[Hole]) -> list[str]:
    """What must be done, a line each."""
    update = [f"update constraints.txt: {hole}" for hole in now if hole.fixed]
    return update + [f"raise the bound in pyproject.toml: {h}" for h in oldest if h.fixed and h.package not in ACCEPTED]


def ask(versions: dict[str, str]) -> tuple[list[Hole], list[str]]:
    """Raises ConnectionError when there is no answer about anything."""
    listed = TOOL / "asked.txt"
    listed.write_text("".join(f"{name}=={version}\n" for name, version in versions.items()), encoding="utf-8")
    command = [
        *(str(TOOL / "bin" / "pip-audit"), "-f", "json", "--progress-spinner", "off"),
        "--no-deps",
        "--disable-pip",
    ]
    ran = subprocess.run([*command, "-r", str(listed)], capture_output=True, text=True)  # noqa: S603 - our own words
    if not ran.stdout.startswith("{"):
        raise ConnectionError((ran.stderr.strip() or "no answer").splitlines()[-1])
    found, unknown = holes(ran.stdout)
    if len(unknown) == len(versions):
        raise ConnectionError("it knows none of the packages, so it is not the real one")
    return found, unknown


def main() -> int:
    try:
        if not (TOOL / "bin" / "pip-audit").exists():
            venv.create(TOOL, with_pip=True, clear=True)
            install = [TOOL / "bin" / "python", "-m", "pip", "install", "-q", "pip-audit"]
            subprocess.run(install, check=True)  # noqa: S603
        now, unknown = ask(tested())
        oldest, more = ask(needed())
    except (ConnectionError, subprocess.CalledProcessError) as error:
        print(f"audit: NOT DONE: the service that knows the holes cannot be reached ({error})", file=sys.stderr)
        return 0
    for hole in {*now, *oldest}:
        print(hole, f"[left: {ACCEPTED[hole.package]}]" if hole.package in ACCEPTED and hole not in now else "")
    for name in {*unknown, *more}:
        print(f"audit: NOTHING IS KNOWN about {name}", file=sys.stderr)
    todo = verdict(now, oldest)
    print("\n".join(todo) or f"audit: nothing to do for {', '.join(needed())}")
    return 1 if todo else 0


if __name__ == "__main__":
    sys.exit(main())
