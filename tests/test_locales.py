"""Texts of the nodes: the English file repeats the schemas, the Chinese one covers the same keys, each node has a page.

The schemas are read without ComfyUI: its packages are replaced by ones that only record what the nodes declare.
``python tests/test_locales.py`` writes the English file anew from the schemas.
"""

from __future__ import annotations

import asyncio
import importlib
import importlib.util
import json
import re
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from types import SimpleNamespace
from typing import Any, ClassVar
from unittest.mock import MagicMock, patch

import pytest
from places import ROOT

LOCALES = ROOT / "locales"
PAGES = ROOT / "web" / "docs"
HOST = (
    *("comfy", "comfy.cli_args", "comfy.model_management", "comfy.model_patcher", "comfy.utils", "folder_paths"),
    *("server", "aiohttp"),
    *("comfy_execution", "comfy_execution.graph_utils", "comfy_execution.utils", "psutil", "PIL"),
)


class Declared(SimpleNamespace):
    """Stands for an input."""

    def as_dict(self) -> dict[str, Any]:
        return vars(self)


class Type:
    """Stands for a socket or widget type: its Input and Output keep what they were declared with."""

    def __init__(self, name: str) -> None:
        self.name = name

    def Input(self, id: str | Declared, *values: Any, **settings: Any) -> Declared:
        if isinstance(id, Declared):  # of several types, of which one has a widget
            return Declared(**vars(id) | settings)
        return Declared(id=id, name=id, **settings)

    def Option(self, key: str, inputs: list[Declared]) -> SimpleNamespace:
        return SimpleNamespace(key=key, inputs=inputs)

    def Output(self, display_name: str | None = None, **settings: Any) -> SimpleNamespace:
        return SimpleNamespace(name=display_name or self.name.upper(), **settings)


class RecordingIO:
    """Stands for ``comfy_api.latest.io``."""

    ComfyNode = object
    NumberDisplay = Hidden = MagicMock()
    Custom = Type

    class Schema(SimpleNamespace):
        __dataclass_fields__: ClassVar[dict[str, Any]] = {}

    def __getattr__(self, name: str) -> Type:
        return Type(name)


@contextmanager
def pack() -> Iterator[Any]:
    """The nodes package, loaded under another name as the host does."""
    more = {name: MagicMock() for name in ("ui", "Input", "InputImpl", "ComfyAPI")}
    api = SimpleNamespace(io=RecordingIO(), ComfyExtension=object, **more)
    stands = {name: MagicMock() for name in HOST} | {"comfy_api": MagicMock(latest=api), "comfy_api.latest": api}
    with patch.dict(sys.modules, stands):
        spec = importlib.util.spec_from_file_location(
            "recorded_pack", ROOT / "__init__.py", submodule_search_locations=[str(ROOT)]
        )
        module = importlib.util.module_from_spec(spec)
        sys.modules["recorded_pack"] = module
        spec.loader.exec_module(module)
        yield importlib.import_module("recorded_pack.nodes")


def declared() -> dict[str, Any]:
    """What the English file must say: node id -> names and texts of its schema."""
    with pack() as nodes:
        schemas = [node.define_schema() for node in asyncio.run(nodes.FusionFFTExtension().get_node_list())]
    return {schema.node_id: _texts(schema) for schema in schemas}


def _texts(schema: Any) -> dict[str, Any]:
    def said(each: SimpleNamespace) -> dict[str, str]:
        return {"name": each.name} | ({"tooltip": each.tooltip} if hasattr(each, "tooltip") else {})

    def inputs() -> dict[str, dict[str, str]]:
        found = {}
        for each in schema.inputs:
            inner = [(f"{each.id}_{one.id}", one) for option in _options(each) for one in option.inputs]
            for key, one in [(each.id, each), *inner]:
                assert found.setdefault(key, said(one)) == said(one), f"{key} is explained in two ways"
        return found

    return {
        "display_name": schema.display_name,
        "description": schema.description,
        "inputs": inputs(),
        "outputs": {str(number): said(each) for number, each in enumerate(schema.outputs)},
    }


def _options(declared: SimpleNamespace) -> list[SimpleNamespace]:
    """Of a choice that brings inputs of its own; the front end looks them up as ``choice_input``."""
    return [option for option in getattr(declared, "options", ()) if hasattr(option, "inputs")]


def written(language: str) -> dict[str, Any]:
    return json.loads((LOCALES / language / "nodeDefs.json").read_text(encoding="utf-8"))


def flat(texts: dict[str, Any], start: str = "") -> dict[str, str]:
    found = {}
    for key, value in texts.items():
        found |= flat(value, f"{start}{key}.") if isinstance(value, dict) else {f"{start}{key}": value}
    return found


LANGUAGES = sorted(path.name for path in LOCALES.iterdir()) if LOCALES.is_dir() else []


def test_english_and_chinese_are_there() -> None:
    assert {"en", "zh"} <= set(LANGUAGES)


def test_the_english_file_says_what_the_schemas_say() -> None:
    there, wanted = flat(written("en")), flat(declared())
    differ = [key for key in sorted(there.keys() | wanted.keys()) if there.get(key) != wanted.get(key)]
    assert not differ, f"{differ} differ from the schemas: run `python tests/test_locales.py`, then translate them"


@pytest.mark.parametrize("language", LANGUAGES)
def test_every_language_has_the_same_keys(language: str) -> None:
    there, english = flat(written(language)), flat(written("en"))
    assert there.keys() == english.keys()
    assert all(text.strip() for text in there.values())


@pytest.mark.parametrize("language", LANGUAGES)
def test_no_text_has_characters_that_the_front_end_reads_as_commands(language: str) -> None:
    for key, text in flat(written(language)).items():
        assert not re.search(r"[{}|@$]", text), f"{language} {key}: {text}"


def test_numbers_in_the_chinese_texts_are_those_of_the_english_ones() -> None:
    chinese = flat(written("zh"))
    for key, text in flat(written("en")).items():
        numbers = [set(re.findall(r"\d+(?:\.\d+)?", each)) for each in (text, chinese[key])]
        assert numbers[0] == numbers[1], f"{key}: {sorted(numbers[0] ^ numbers[1])}"


def test_every_node_has_a_page_and_every_page_a_node() -> None:
    assert {path.stem for path in PAGES.glob("*.md")} == set(written("en"))


@pytest.mark.parametrize("node", sorted(written("en")) if LANGUAGES else [])
def test_a_page_names_its_node_all_inputs_and_only_pages_that_exist(node: str) -> None:
    page = (PAGES / f"{node}.md").read_text(encoding="utf-8")
    texts = written("en")[node]
    assert page.startswith(f"# {texts['display_name']}\n")
    in_tables = set(re.findall(r"^\| `(\w+)`", page, re.M))
    names = {each["name"] for each in texts["inputs"].values()}
    assert names <= in_tables, f"missing: {names - in_tables}"
    others = {each["display_name"] for each in written("en").values()}
    assert set(re.findall(r"\*\*([^*]+)\*\*", page)) & others, "a page says which nodes go with it"
    for target in re.findall(r"\]\(([^)]+)\)", page):
        assert target.startswith("https://") or (PAGES / target).is_file(), target


if __name__ == "__main__":
    file = LOCALES / "en" / "nodeDefs.json"
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(json.dumps(declared(), indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
