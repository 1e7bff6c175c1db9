"""A family is found by being there."""

import subprocess
import sys

import pytest
from places import ROOT

from comfy_fusionfft import families
from comfy_fusionfft.contract import Family

TOY = """
from comfy_fusionfft.contract import Family, Miss

FAMILY = Family("toy", "Toy", "fusion", lambda state, metadata: Miss("everything"), None)
"""


def test_known_families():
    found = families.every_family()
    assert all(isinstance(family, Family) for family in found)
    names = [family.name for family in found]
    assert {"fmanet", "fusionfft", "multiflow", "rife", "waveletvfi"} <= set(names)
    assert len(set(names)) == len(names)


def test_a_new_folder_is_a_new_family(tmp_path, monkeypatch):
    (tmp_path / "toy").mkdir()
    (tmp_path / "toy" / "__init__.py").write_text(TOY)
    (tmp_path / "weightless").mkdir()
    (tmp_path / "weightless" / "__init__.py").touch()
    monkeypatch.setattr(families, "__path__", [*families.__path__, str(tmp_path)])
    families.every_family.cache_clear()
    try:
        names = [family.name for family in families.every_family()]
    finally:
        families.every_family.cache_clear()
        sys.modules.pop("comfy_fusionfft.families.toy", None)
    assert "toy" in names
    assert "weightless" not in names


@pytest.mark.parametrize("family", ["fmanet", "multiflow", "rife", "waveletvfi"])
def test_listing_a_family_needs_no_torch(family):
    code = f"import sys, comfy_fusionfft.families.{family}; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=False).returncode == 0
