"""The pack in a page of the host: help, languages, a place that is taken, and no other node altered."""

import json
import sys

import pytest
from places import ROOT

from devhost import browser as chromium_of_the_system
from devhost.server import PACK_FOLDER
from tests.browser.conftest import SWAP, opened, workflow

KINDS = sorted(path.stem for path in (ROOT / "web" / "docs").glob("*.md"))
OTHERS = ["LoadImage", "ImageBlend", "ImageScale", "PreviewImage", "LoadVideo", "CreateVideo", "SaveVideo", "KSampler"]
ANATOMY = """kinds => Object.fromEntries(kinds.map(kind => {
  const node = LiteGraph.createNode(kind)
  const functions = thing => Object.fromEntries(Object.getOwnPropertyNames(thing)
    .map(name => [name, Object.getOwnPropertyDescriptor(thing, name).value])
    .filter(([, value]) => typeof value === 'function').map(([name, value]) => [name, String(value)]))
  return [kind, {
    own: functions(node),
    kind: functions(node.constructor.prototype),
    base: functions(Object.getPrototypeOf(node.constructor.prototype)),
    size: [...node.size],
    widgets: (node.widgets ?? []).map(widget => ({ name: widget.name, type: widget.type, ...functions(widget) }))
  }]
}))"""


def test_nodes_of_others_are_as_without_the_pack(browser, host):
    with opened(browser, host) as found:
        beside = found.front.js(ANATOMY, OTHERS)
        found.front.load(workflow())
        assert found.preview.data()["state"] == "empty"
        after = found.front.js(ANATOMY, OTHERS)
    with opened(browser, host, block=f"**/extensions/{PACK_FOLDER}/**") as found:
        alone = found.front.js(ANATOMY, OTHERS)
        found.front.load(workflow())
        widgets = found.front.js("id => findNode(id).widgets.map(widget => widget.name)", SWAP)
        assert "spectral_preview" not in widgets  # the scripts really were left out
    assert beside == alone and after == alone
    assert alone["ImageBlend"]["widgets"][0]["callback"]


def test_every_node_has_its_help(host):
    ours = {kind for kind, node in host.client.object_info().items() if node["category"] == "FusionFFT"}
    assert ours == set(KINDS)
    for kind in KINDS:
        page = host.client.request(f"/extensions/{PACK_FOLDER}/docs/{kind}.md")
        assert page.status == 200 and page.body == (ROOT / "web" / "docs" / f"{kind}.md").read_bytes()


def test_help_opens_on_the_node(browser, host):
    help_page = (ROOT / "web" / "docs" / "FusionFFTSpectralSwap.md").read_text(encoding="utf-8")
    with opened(browser, host) as found:
        found.front.load(workflow())
        found.front.js("id => app.canvas.selectItems([findNode(id)])", SWAP)
        found.front.page.locator("[data-testid=info-button]").click()
        for heading in (line.lstrip("# ") for line in help_page.splitlines() if line.startswith("#")):
            found.front.page.get_by_role("heading", name=heading, exact=True).first.wait_for()


def test_names_and_words_are_of_the_language(browser, host):
    names = json.loads((ROOT / "locales" / "zh" / "nodeDefs.json").read_text(encoding="utf-8"))
    served = host.client.json("/i18n")
    assert served["zh"]["nodeDefs"].items() >= names.items() and served["en"]["nodeDefs"].keys() >= set(KINDS)
    with opened(browser, host, locale="zh") as found:
        found.front.load(workflow())
        assert found.preview.text(".message") == "先运行一次工作流，即可在此调节"
        titles = found.front.js(
            "kinds => Object.fromEntries(kinds.map(kind => [kind, LiteGraph.createNode(kind).title]))", KINDS
        )
    assert titles == {kind: names[kind]["display_name"] for kind in KINDS}


@pytest.mark.parametrize("missing", ["chromium", "playwright"])
def test_what_is_missing_is_named(monkeypatch, missing):
    if missing == "chromium":
        monkeypatch.setenv("PATH", "")
        words = "no browser: install Chromium"
    else:
        monkeypatch.setitem(sys.modules, "playwright.sync_api", None)
        words = "no playwright: pip install playwright"
    with pytest.raises(chromium_of_the_system.BrowserMissing, match=words), chromium_of_the_system.chromium():
        pass
