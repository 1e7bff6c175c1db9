"""The live preview shows the swap that the library makes, stays small, and answers every request."""

import asyncio
import importlib
import json
import sys
import threading
import types
from concurrent.futures import ThreadPoolExecutor
from fractions import Fraction

import cv2
import numpy as np
import pytest
import torch
import torch.nn.functional as F
from places import ROOT

from comfy_fusionfft.contract import Frame
from comfy_fusionfft.errors import InputError
from comfy_fusionfft.host import PlainHost
from comfy_fusionfft.ops import spectral
from comfy_fusionfft.spectral_preview import Made, PreviewFrame, PreviewStore, SpectralPreview, choose
from comfy_fusionfft.swap import swap_clip

SETTINGS = {"alpha": 0.4, "lo": 0.25, "hi": 0.4, "soft": True, "clamp_gain": True}


@pytest.fixture(scope="module")
def handlers() -> types.ModuleType:
    """nodes/preview.py the way the host loads it: by path, under a name of the host's choosing."""
    for name, folder in (("pack_under_test", ROOT), ("pack_under_test.nodes", ROOT / "nodes")):
        sys.modules[name] = types.ModuleType(name)
        sys.modules[name].__path__ = [str(folder)]
    yield importlib.import_module("pack_under_test.nodes.preview")
    for name in [name for name in sys.modules if name.startswith("pack_under_test")]:
        del sys.modules[name]


def picture(height: int = 96, width: int = 132, blur: bool = False) -> torch.Tensor:
    """``(H, W, 3)`` uint8: coloured shapes with texture, or the same kind of picture without fine detail."""
    coarse = F.interpolate(torch.rand(1, 3, 5, 7), size=(height, width), mode="bicubic")
    image = 0.7 * coarse + 0.25 * torch.rand(1, 3, height, width)
    if blur:
        image = F.avg_pool2d(F.pad(image, (1, 1, 1, 1), mode="replicate"), 3, 1)
    return image.clamp(0, 1).mul(255).round().to(torch.uint8)[0].permute(1, 2, 0).contiguous()


def frame(share: float = 0.25, **size: int) -> PreviewFrame:
    return PreviewFrame(picture(blur=True, **size), picture(**size), picture(**size), share, 1, share)


def decoded(jpeg: bytes) -> torch.Tensor:
    """JPEG -> ``(H, W, 3)`` float RGB levels, as a browser sees them."""
    bgr = cv2.imdecode(np.frombuffer(jpeg, np.uint8), cv2.IMREAD_COLOR)
    return torch.from_numpy(bgr[..., ::-1].copy()).float()


def clip(count: int, height: int = 40, width: int = 56, channels: int = 3) -> torch.Tensor:
    return torch.rand(count, height, width, channels)


def publish(store: PreviewStore, node: str = "7", made: int = 3, **size: int) -> dict:
    rows = [(2 * i + 1, i + 0.5, i, i + 1, 0.5) for i in range(made)]
    return store.publish(node, clip(2 * made + 1, **size), clip(made + 1, **size), rows, **SETTINGS)


@pytest.mark.parametrize(("soft", "clamp_gain"), [(True, True), (False, True), (True, False)])
def test_shows_what_swap_clip_makes(soft: bool, clamp_gain: bool) -> None:
    """Base and delta as a browser decodes them, mixed there, against the frame that the library gives out."""
    shown, alpha, lo, hi = frame(share=0.25), 0.6, 0.2, 0.35
    preview = SpectralPreview([shown])
    lenders = [Frame(shown.left, Fraction(0)), Frame(shown.right, Fraction(1))]
    made = Frame(shown.base, Fraction(1, 4), original=False)
    real = next(swap_clip([made], lenders, PlainHost("cpu"), alpha, lo=lo, hi=hi, soft=soft, clamp_gain=clamp_gain))
    base = decoded(preview.base(0)[0])
    jpeg, peak = preview.delta(0, lo, hi, soft, clamp_gain)
    mixed = (base + alpha * (decoded(jpeg) - 128) * (255 * peak / 127)).clamp(0, 255)
    error = (mixed - real.pixels.float()).abs()
    change = (real.pixels.float() - shown.base.float()).abs()
    assert change.mean() > 3, "a swap that changes next to nothing would prove nothing"
    assert error.mean() < 1.5 and error.quantile(0.99) < 6
    assert error.mean() < change.mean() / 4


def test_colours_keep_their_places() -> None:
    red = torch.zeros(32, 48, 3, dtype=torch.uint8)
    red[..., 0] = 250
    shown = decoded(SpectralPreview([PreviewFrame(red, red, red, 0.5, 0, 0.5)]).base(0)[0])
    assert shown[..., 0].min() > 240 and shown[..., 1:].max() < 10


def test_a_delta_of_nothing_is_plain_grey() -> None:
    still = picture()
    jpeg, peak = SpectralPreview([PreviewFrame(still, still, still, 0.5, 0, 0.5)]).delta(0)
    assert peak < 1e-4
    black = torch.zeros(32, 48, 3, dtype=torch.uint8)
    jpeg, peak = SpectralPreview([PreviewFrame(black, black, black, 0.5, 0, 0.5)]).delta(0)
    assert peak == 0 and decoded(jpeg).sub(128).abs().max() == 0


def test_settings_and_frames_change_the_delta_and_the_cache_does_not_show() -> None:
    frames = [frame(0.25), frame(0.75)]
    warm = SpectralPreview(frames)
    asked = [
        (0, 0.2, 0.4),
        (0, 0.3, 0.4),
        (1, 0.3, 0.4),
        (0, 0.2, 0.4),
        (0, 0.2, 0.4, False),
        (0, 0.2, 0.4, True, False),
    ]
    answers = [warm.delta(*ask) for ask in asked]
    assert answers == [SpectralPreview(frames).delta(*ask) for ask in asked]
    assert answers[0] == answers[3] and len(set(answers)) == 5
    warm.forget()
    assert warm.delta(*asked[0]) == answers[0]


def test_many_threads_get_what_one_gets() -> None:
    preview = SpectralPreview([frame(0.25), frame(0.5), frame(0.75)])
    asked = [(i % 3, 0.1 + 0.01 * i, 0.5) for i in range(12)]
    expected = [preview.delta(*ask) for ask in asked]
    with ThreadPoolExecutor(4) as pool:
        assert list(pool.map(lambda ask: preview.delta(*ask), asked)) == expected


def test_profile_is_the_mean_strength_by_frequency() -> None:
    shown = frame(share=0.0)
    profile = SpectralPreview([shown]).base(0)[1]
    frequency = torch.tensor(profile["frequency"])
    assert 0 < frequency[0] < 0.01 and 0.7 < frequency[-1] < 0.72 and bool((frequency.diff() > 0).all())
    assert {len(values) for values in profile.values()} == {len(frequency)}
    base, prior, raised = (torch.tensor(profile[name]) for name in ("base", "prior", "raised"))
    fine = frequency > 0.3
    assert bool((prior[fine] - base[fine] > 6).all()), "the base was blurred, by more than half of its finest detail"
    assert bool((raised >= torch.maximum(base, prior) - 0.02).all())
    strength = spectral.magnitude(shown.left.permute(2, 0, 1)[None] / 255)
    radius = torch.hypot(torch.fft.fftfreq(strength.shape[2])[:, None], torch.fft.rfftfreq(2 * strength.shape[3] - 2))
    ring = (radius >= 0.35) & (radius < 0.36)
    at = int((frequency - 0.355).abs().argmin())
    assert prior[at] == pytest.approx(float(20 * strength[0, :, ring].mean().log10()), abs=0.02)


@pytest.mark.parametrize("channels", [1, 3, 4])
def test_any_kind_of_picture_is_shown_in_three_colours(channels: int) -> None:
    store = PreviewStore()
    info = store.publish("1", clip(3, channels=channels), clip(2).half(), [Made(1, 0.5, 0, 1, 0.5)], **SETTINGS)
    preview = store.get(info["token"])
    assert {t.shape for t in (preview.frames[0].base, preview.frames[0].left)} == {(40, 56, 3)}
    assert decoded(preview.base(0)[0]).shape == (40, 56, 3)


def test_publish_says_what_a_viewer_needs_and_json_can_carry_it() -> None:
    info = publish(PreviewStore(), made=3)
    assert json.loads(json.dumps(info)) == info
    assert (info["width"], info["height"], info["count"]) == (56, 40, 7)
    assert info["frames"] == [{"number": n, "position": p} for n, p in ((1, 0.5), (3, 1.5), (5, 2.5))]
    assert {name: info[name] for name in SETTINGS} == SETTINGS


def test_a_run_without_made_frames_has_no_token_and_drops_the_older_one() -> None:
    store = PreviewStore()
    older = publish(store)["token"]
    info = publish(store, made=0)
    assert info["token"] is None and info["frames"] == []
    assert store.get(older) is None


def test_pictures_of_two_sizes_are_refused() -> None:
    with pytest.raises(InputError, match="images are 56×40, the prior is 64×40: resize one of them"):
        PreviewStore().publish("1", clip(3), clip(2, width=64), [(1, 0.5, 0, 1, 0.5)], **SETTINGS)


def test_chosen_frames_are_spread_evenly_and_fit() -> None:
    rows = [Made(4 * i + k, i + k / 4, i, i + 1, k / 4) for i in range(50) for k in (1, 2, 3)]
    chosen = choose(rows, 1, 1000)
    assert len(chosen) == 24 and chosen[0] == rows[0] and chosen[-1] == rows[-1]
    steps = np.diff([rows.index(row) for row in chosen])
    assert steps.max() - steps.min() <= 1
    for budget in (3, 6, 10, 30, 60):
        fitting = choose(rows, 1, budget)
        pictures = len(fitting) + len({i for row in fitting for i in (row.left, row.right)})
        assert pictures <= budget
        assert len(fitting) < 2 or (fitting[0], fitting[-1]) == (rows[0], rows[-1])
    assert len(choose(rows, 100, 1)) == 1, "one frame is always kept"
    assert choose(rows[:2], 1, 1000) == rows[:2] and choose([], 1, 1) == []


def test_neighbours_share_their_lenders() -> None:
    store = PreviewStore()
    rows = [(1 + k, (1 + k) / 4, 0, 1, (1 + k) / 4) for k in range(3)]
    info = store.publish("1", clip(5), clip(2), rows, **SETTINGS)
    assert store.get(info["token"]).nbytes == (3 + 2) * 40 * 56 * 3


def test_the_store_keeps_one_run_per_node_and_drops_the_least_recently_used() -> None:
    store = PreviewStore(total_bytes=3 * 3 * 40 * 56 * 3)
    first, second, third = (publish(store, node, made=1)["token"] for node in "123")
    again = publish(store, "2", made=1)["token"]
    assert store.get(second) is None
    assert store.get(first) is not None  # used just now: the third is the oldest
    publish(store, "4", made=1)
    assert store.get(third) is None
    assert store.get(first) is not None and store.get(again) is not None


def test_the_same_pictures_on_the_same_node_keep_their_token() -> None:
    store, images, prior = PreviewStore(), clip(3), clip(2)
    rows = [Made(1, 0.5, 0, 1, 0.5)]
    first = store.publish("1", images, prior, rows, **SETTINGS)["token"]
    run = store.get(first)
    assert store.publish("1", images, prior, rows, **{**SETTINGS, "alpha": 0.9, "hi": 0.6})["token"] == first
    assert store.get(first) is run  # with the spectra of what was looked at
    others = [
        store.publish("2", images, prior, rows, **SETTINGS),
        store.publish("3", images, prior.flip(0), rows, **SETTINGS),
        store.publish("4", images, prior, [Made(1, 0.5, 1, 0, 0.5)], **SETTINGS),
        store.publish("1", images, prior, [Made(1, 0.25, 0, 1, 0.25)], **SETTINGS),
    ]
    assert len({first, *(other["token"] for other in others)}) == 5
    assert store.get(first) is None  # the last one took its place


def test_only_the_run_in_use_keeps_its_spectra() -> None:
    store = PreviewStore()
    tokens = [publish(store, node)["token"] for node in "12"]
    runs = [store.get(token) for token in tokens]
    runs[0].delta(0)
    store.get(tokens[1]).delta(0)
    assert runs[0]._analysed is None and not runs[0]._strength
    assert runs[1]._analysed is not None


QUERY = {"lo": "0.25", "hi": "0.4", "soft": "1", "clamp_gain": "true"}


def test_answers_are_pictures_with_their_facts(handlers: types.ModuleType) -> None:
    store = PreviewStore()
    token = publish(store)["token"]
    status, kind, headers, body = handlers.answer("base", token, "2", {}, store)
    assert (status, kind) == (200, "image/jpeg") and decoded(body).shape == (40, 56, 3)
    assert set(json.loads(headers["X-FusionFFT"])["profile"]) == {"frequency", "base", "prior", "raised"}
    assert len(headers["X-FusionFFT"]) < 3500, "proxies limit headers to 4 or 8 kB"
    status, kind, headers, body = handlers.answer("delta", token, "0", QUERY, store)
    assert (status, kind) == (200, "image/jpeg") and decoded(body).shape == (40, 56, 3)
    assert json.loads(headers["X-FusionFFT"])["peak"] > 0


@pytest.mark.parametrize(
    ("picture", "frame", "query", "status", "text"),
    [
        ("base", "3", {}, 400, "frame 3 is not one of the 3 kept"),
        ("delta", "-1", QUERY, 400, "frame -1 is not one of the 3 kept"),
        ("base", "00000000000000000001", {}, 400, "not one of the 3 kept"),
        ("delta", "0", {}, 400, "lo and hi must be numbers"),
        ("delta", "0", {**QUERY, "lo": "low"}, 400, "lo and hi must be numbers"),
        ("delta", "0", {**QUERY, "soft": "2"}, 400, "soft and clamp_gain 0 or 1"),
        ("delta", "0", {**QUERY, "lo": "0.5"}, 400, "The band from 0.5 to 0.4 is upside down"),
        ("delta", "0", {**QUERY, "hi": "nan"}, 400, "upside down"),
        ("delta", "0", {**QUERY, "hi": "inf"}, 400, "upside down"),
        ("delta", "0", {**QUERY, "lo": "-1"}, 400, "upside down"),
    ],
)
def test_numbers_that_cannot_be_used(
    handlers: types.ModuleType, picture: str, frame: str, query: dict, status: int, text: str
) -> None:
    store = PreviewStore()
    reply = handlers.answer(picture, publish(store)["token"], frame, query, store)
    assert (reply.status, reply.content_type) == (status, "application/json")
    assert text in json.loads(reply.body)["error"]


@pytest.mark.parametrize("picture", ["base", "delta"])
def test_a_run_that_left_is_gone(handlers: types.ModuleType, picture: str) -> None:
    reply = handlers.answer(picture, "0" * 32, "0", QUERY, PreviewStore())
    assert reply.status == 410 and "run the graph again" in json.loads(reply.body)["error"]


def test_routes_leave_the_event_loop_free(handlers: types.ModuleType, monkeypatch: pytest.MonkeyPatch) -> None:
    web = types.ModuleType("aiohttp.web")
    web.Response = lambda **fields: types.SimpleNamespace(**fields)
    aiohttp = types.ModuleType("aiohttp")
    aiohttp.web = web
    monkeypatch.setitem(sys.modules, "aiohttp", aiohttp)
    routes = {}
    handlers.register(routes.__setitem__)
    assert set(routes) == {f"/fusionfft/spectral/{{token}}/{{frame}}/{picture}" for picture in ("base", "delta")}
    release = threading.Event()

    def slow(*request: object) -> object:
        assert release.wait(10), "nothing else ran while this waited"
        return handlers.Answer(200, "image/jpeg", {}, b"jpeg")

    async def ask() -> object:
        request = types.SimpleNamespace(match_info={"token": "t", "frame": "0"}, query=QUERY, headers={})
        waiting = asyncio.ensure_future(routes[handlers.PATH + "delta"](request))
        await asyncio.sleep(0.05)
        release.set()  # reached only if the handler does not hold the loop
        return await waiting

    monkeypatch.setattr(handlers, "answer", slow)
    reply = asyncio.run(ask())
    assert (reply.status, reply.body) == (200, b"jpeg")

    def broken(*request: object) -> object:
        raise RuntimeError("no memory")

    monkeypatch.setattr(handlers, "answer", broken)
    reply = asyncio.run(ask())
    assert reply.status == 500 and "the server's log says why" in json.loads(reply.body)["error"]
