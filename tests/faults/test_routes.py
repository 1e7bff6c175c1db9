"""The pack's HTTP routes against what the network may send: refused by stated rules, bounded, and still answering."""

import asyncio
import importlib
import json
import sys
import threading
import types

import pytest
import torch
from places import ROOT

from comfy_fusionfft.spectral_preview import PreviewStore
from fuzzing import routes

QUERY = {"lo": "0.25", "hi": "0.4", "soft": "1", "clamp_gain": "1"}
SETTINGS = {"alpha": 0.4, "lo": 0.25, "hi": 0.4, "soft": True, "clamp_gain": True}
HERE = {"Host": "192.168.1.9:8188"}


@pytest.fixture
def preview(monkeypatch: pytest.MonkeyPatch) -> types.ModuleType:
    """nodes/preview.py as the host loads it, beside an aiohttp that only keeps what it is given."""
    for name, folder in (("routes_under_test", ROOT), ("routes_under_test.nodes", ROOT / "nodes")):
        module = types.ModuleType(name)
        module.__path__ = [str(folder)]
        monkeypatch.setitem(sys.modules, name, module)
    web = types.SimpleNamespace(Response=lambda **fields: types.SimpleNamespace(**fields))
    monkeypatch.setitem(sys.modules, "aiohttp", types.SimpleNamespace(web=web))
    yield importlib.import_module("routes_under_test.nodes.preview")
    for name in [name for name in sys.modules if name.startswith("routes_under_test")]:
        del sys.modules[name]


def handler(preview: types.ModuleType, picture: str = "delta", **settings: bool) -> types.FunctionType:
    there = {}
    preview.register(there.__setitem__, **settings)
    return there[preview.PATH + picture]


def request(token: str = "0" * 32, query: object = QUERY, **headers: str) -> types.SimpleNamespace:
    headers = {name.replace("_", "-"): value for name, value in headers.items()}
    return types.SimpleNamespace(match_info={"token": token, "frame": "0"}, query=query, headers=HERE | headers)


def published(store: PreviewStore) -> str:
    random = torch.Generator().manual_seed(1)
    images, prior = (torch.rand(count, 40, 56, 3, generator=random) for count in (3, 2))
    return store.publish("7", images, prior, [(1, 0.5, 0, 1, 0.5)], **SETTINGS)["token"]


@pytest.fixture(scope="module")
def token(host) -> str:
    host.client.free_now()  # a result that the host remembers is not announced again
    return routes.preview_token(host.client)


# ------------------------------------------------------------------------------------------ in a real host


def test_only_good_requests_get_a_picture_and_every_refusal_says_why(host, token):
    assert routes.run(host.server, token, seed=1, tries=300) == []


def test_a_flood_is_answered_or_put_off_in_bounded_memory(host, token):
    address = host.server.url.removeprefix("http://")
    before = routes.resident(host.server.pid)
    answered = routes.flood(address, token, 300)
    assert set(answered) <= {200, 503} and answered[200] >= 16
    assert routes.resident(host.server.pid) - before < routes.MEMORY
    assert routes.exchange(address, routes.good(token).raw(address)).status == 200


def test_pages_of_other_origins_are_refused(either_host):
    address = either_host.server.url.removeprefix("http://")
    either_host.client.free_now()
    asked = routes.good(routes.preview_token(either_host.client))
    for site in ("cross-site", "same-site"):
        foreign = routes.replace(asked, headers=(("Sec-Fetch-Site", site),))
        assert routes.exchange(address, foreign.raw(address)).status == 403
    own = routes.replace(asked, headers=(("Sec-Fetch-Site", "same-origin"), ("Origin", f"http://{address}")))
    reply = routes.exchange(address, own.raw(address))
    assert reply.status == 200 and reply.headers["cross-origin-resource-policy"] == "same-origin"
    assert reply.headers["x-content-type-options"] == "nosniff" and reply.headers["cache-control"] == "no-store"


@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE", "PATCH", "TRACE"])
def test_only_reading_is_served(host, token, method):
    address = host.server.url.removeprefix("http://")
    asked = routes.replace(routes.good(token), method=method)
    assert routes.exchange(address, asked.raw(address)).status == 405


# ------------------------------------------------------------------------------------------- the rules alone


@pytest.mark.parametrize(
    ("headers", "foreign"),
    [
        ({}, False),
        ({"Sec-Fetch-Site": "same-origin"}, False),
        ({"Sec-Fetch-Site": "none"}, False),
        ({"Sec-Fetch-Site": "same-origin", "Origin": "https://behind.a.proxy"}, False),
        ({"Origin": "http://192.168.1.9:8188"}, False),
        ({"Origin": "https://192.168.1.9:8188"}, False),
        ({"Sec-Fetch-Site": "cross-site"}, True),
        ({"Sec-Fetch-Site": "same-site"}, True),
        ({"Sec-Fetch-Site": ""}, True),
        ({"Sec-Fetch-Site": "cross-site", "Origin": "http://192.168.1.9:8188"}, True),
        ({"Origin": "http://192.168.1.9:3000"}, True),
        ({"Origin": "http://192.168.1.9"}, True),
        ({"Origin": "http://192.168.1.9:8188.evil.example"}, True),
        ({"Origin": "null"}, True),
        ({"Origin": ""}, True),
    ],
)
def test_who_is_of_another_origin(preview, headers, foreign):
    assert preview.is_foreign(HERE | headers) is foreign


def test_a_foreign_page_learns_nothing_and_costs_nothing(preview, monkeypatch):
    monkeypatch.setattr(preview, "answer", lambda *asked: pytest.fail("it was looked at"))
    reply = asyncio.run(handler(preview)(request(Sec_Fetch_Site="cross-site")))
    assert reply.status == 403 and json.loads(reply.body) == {"error": preview.FOREIGN}


def test_a_user_who_lets_other_origins_in_has_the_host_s_rule(preview, monkeypatch):
    monkeypatch.setattr(preview, "answer", lambda *asked: preview.Answer(200, "image/jpeg", {}, b"jpeg"))
    serve = handler(preview, other_origins=True)
    assert asyncio.run(serve(request(Sec_Fetch_Site="cross-site", Origin="https://front.example"))).status == 200


def test_a_setting_given_twice_is_refused(preview):
    class Twice(dict):
        def __len__(self) -> int:
            return super().__len__() + 1

    reply = asyncio.run(handler(preview)(request(query=Twice(QUERY))))
    assert reply.status == 400 and "given twice" in json.loads(reply.body)["error"]


def test_more_than_a_few_at_once_are_put_off_and_the_line_empties(preview, monkeypatch):
    release = threading.Event()

    def slow(*asked: object) -> object:
        assert release.wait(10)
        return preview.Answer(200, "image/jpeg", {}, b"jpeg")

    monkeypatch.setattr(preview, "answer", slow)
    serve = handler(preview)

    async def crowd() -> list[int]:
        waiting = [asyncio.ensure_future(serve(request())) for _ in range(preview.WAITING + 5)]
        await asyncio.sleep(0)
        await asyncio.sleep(0.05)
        refused = [task.result() for task in waiting if task.done()]
        assert [reply.status for reply in refused] == [503] * 5
        assert all(reply.headers["Retry-After"] == "1" for reply in refused)
        release.set()
        answered = [reply.status for reply in await asyncio.gather(*waiting)]
        return [*answered, (await serve(request())).status]

    statuses = asyncio.run(crowd())
    assert statuses.count(200) == preview.WAITING + 1 and statuses[-1] == 200


def test_a_token_cannot_be_told_from_the_pictures():
    first, second = PreviewStore(), PreviewStore()
    tokens = [published(store) for store in (first, first, second)]
    assert tokens[0] == tokens[1] != tokens[2]
    assert all(len(token) == 32 and int(token, 16) >= 0 for token in tokens)


@pytest.mark.parametrize(
    ("lo", "hi"), [("0", "1e-50"), ("0", "5e-324"), ("0.1", "1e308"), ("0", "0"), ("1e308", "1e308")]
)
def test_bands_at_the_edge_of_numbers_give_a_finite_picture(preview, lo, hi):
    store = PreviewStore()
    reply = preview.answer("delta", published(store), "0", QUERY | {"lo": lo, "hi": hi}, store)
    assert reply.status == 200
    peak = json.loads(reply.headers[preview.HEADER])["peak"]
    assert 0 <= peak < 1e3


def test_an_endless_frame_number_is_not_repeated_in_the_answer(preview):
    store = PreviewStore()
    reply = preview.answer("base", published(store), "9" * 6000, {}, store)
    assert reply.status == 400 and len(reply.body) < 200
