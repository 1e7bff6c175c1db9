"""The live preview's server side: what a run of the Spectral Swap node keeps, and the answers to the browser.

    GET /fusionfft/spectral/{token}/{frame}/base
        -> JPEG of the frame before the swap; header X-FusionFFT: {"profile": {...}}
    GET /fusionfft/spectral/{token}/{frame}/delta?lo=0.25&hi=0.4&soft=1&clamp_gain=1
        -> JPEG of 128 + 127 · delta / peak; header X-FusionFFT: {"peak": ...}

``frame`` counts the frames that ``publish`` lists. 410: the run is no longer kept. 400: numbers that cannot be
used. 403: a page of another origin asks (see ``is_foreign``). 503: too many ask at once. Errors are JSON:
{"error": text for the user}. Requests change nothing, name no files, and see only runs whose token they know.
"""

from __future__ import annotations

import asyncio
import json
import logging
import math
from collections.abc import Awaitable, Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from typing import Any, NamedTuple

from ..comfy_fusionfft.spectral_preview import PreviewStore

STORE = PreviewStore()
publish = STORE.publish

UI_KEY = "fusionfft_spectral"
PATH = "/fusionfft/spectral/{token}/{frame}/"
HEADER = "X-FusionFFT"
GONE = "This preview is no longer kept: change a value and run the graph again."
FOREIGN = "A page of another address asks for this preview: open it from the page of this ComfyUI."
BUSY = "Too many previews are asked for at once: wait a second, then drag again."
WAITING = 16
"""Requests at work or waiting for it; a page that tunes a node has one or two."""

_WORKERS = ThreadPoolExecutor(max_workers=2, thread_name_prefix="fusionfft-preview")
_SWITCH = {"1": True, "true": True, "0": False, "false": False}


class Answer(NamedTuple):
    """An HTTP response, before any web framework."""

    status: int
    content_type: str
    headers: dict[str, str]
    body: bytes


def answer(picture: str, token: str, frame: str, query: Mapping[str, str], store: PreviewStore = STORE) -> Answer:
    """The response to a request for a frame's ``base`` or ``delta``. Computes: not for an event loop."""
    preview = store.get(token)
    if preview is None:
        return _refusal(410, GONE)
    if not (frame.isascii() and frame.isdigit() and len(frame) < 7 and int(frame) < len(preview.frames)):
        return _refusal(400, f"frame {frame[:20]} is not one of the {len(preview.frames)} kept: count from 0")
    if picture == "base":
        body, profile = preview.base(int(frame))
        return _jpeg(body, profile=profile)
    try:
        lo, hi = float(query["lo"]), float(query["hi"])
        soft, clamp_gain = _SWITCH[query["soft"].lower()], _SWITCH[query["clamp_gain"].lower()]
    except (KeyError, ValueError):
        return _refusal(400, "lo and hi must be numbers, soft and clamp_gain 0 or 1")
    if not 0 <= lo <= hi < math.inf:
        return _refusal(400, f"The band from {lo:g} to {hi:g} is upside down: give 0 ≤ lo ≤ hi.")
    body, peak = preview.delta(int(frame), lo, hi, soft, clamp_gain)
    return _jpeg(body, peak=peak)


def is_foreign(headers: Mapping[str, str]) -> bool:
    """Whether a browser says that a page of another origin asks: by Sec-Fetch-Site, else by an Origin beside the Host.

    Another port is another origin. Requests with neither header come from no browser, from one that asks for its own
    page, or from one that hides it, which then still has to know a token.
    """
    site, origin = headers.get("Sec-Fetch-Site"), headers.get("Origin")
    if site is not None:
        return site.strip().lower() not in ("same-origin", "none")
    return origin is not None and origin.partition("://")[2].lower() != headers.get("Host", "").lower()


def register(add_get: Callable[[str, Callable[..., Awaitable[Any]]], Any], other_origins: bool = False) -> None:
    """Hand both routes to a server: ``add_get(path, async handler)``, aiohttp's kind.

    other_origins: the user lets pages of other origins in, and the server tells browsers which.
    """
    line = _Line()
    for picture in ("base", "delta"):
        add_get(PATH + picture, _handler(picture, line, other_origins))


class _Line:
    """How many requests are under way; the event loop's thread alone counts."""

    waiting = 0


def _handler(picture: str, line: _Line, other_origins: bool) -> Callable[[Any], Awaitable[Any]]:
    async def reply_to(request: Any) -> Answer:
        if not other_origins and is_foreign(request.headers):
            return _refusal(403, FOREIGN)
        if len(request.query) != len(set(request.query)):
            return _refusal(400, "a setting is given twice: give each once")
        if line.waiting >= WAITING:
            return _refusal(503, BUSY, **{"Retry-After": "1"})
        line.waiting += 1
        try:
            token, frame = request.match_info["token"], request.match_info["frame"]
            asked = answer, picture, token, frame, dict(request.query)
            return await asyncio.get_running_loop().run_in_executor(_WORKERS, *asked)
        except Exception:
            logging.exception("FusionFFT: the spectral preview failed")
            return _refusal(500, "The preview failed: the server's log says why.")
        finally:
            line.waiting -= 1

    async def handle(request: Any) -> Any:
        from aiohttp import web  # the host's own server

        reply = await reply_to(request)
        return web.Response(
            status=reply.status, content_type=reply.content_type, headers=reply.headers, body=reply.body
        )

    return handle


_ALWAYS = {
    "Cache-Control": "no-store",
    "Cross-Origin-Resource-Policy": "same-origin",
    "X-Content-Type-Options": "nosniff",
}
"""No copy stays on the way, no other page shows the picture, and no browser takes it for a script."""


def _jpeg(body: bytes, **facts: Any) -> Answer:
    return Answer(200, "image/jpeg", {HEADER: json.dumps(facts, separators=(",", ":")), **_ALWAYS}, body)


def _refusal(status: int, error: str, **headers: str) -> Answer:
    return Answer(status, "application/json", {**_ALWAYS, **headers}, json.dumps({"error": error}).encode())
