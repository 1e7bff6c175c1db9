"""The live preview's server side: what a run of the Spectral Swap node keeps, and the answers to the browser.

    GET /fusionfft/spectral/{token}/{frame}/base
        -> JPEG of the frame before the swap; header X-FusionFFT: {"profile": {...}}
    GET /fusionfft/spectral/{token}/{frame}/delta?lo=0.25&hi=0.4&soft=1&clamp_gain=1
        -> JPEG of 128 + 127 · delta / peak; header X-FusionFFT: {"peak": ...}

``frame`` counts the frames that ``publish`` lists. 410: the run is no longer kept. 400: numbers that cannot be
used. Errors are JSON: {"error": text for the user}.
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
        return _refusal(400, f"frame {frame} is not one of the {len(preview.frames)} kept: count from 0")
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


def register(add_get: Callable[[str, Callable[..., Awaitable[Any]]], Any]) -> None:
    """Hand both routes to a server: ``add_get(path, async handler)``, aiohttp's kind."""
    for picture in ("base", "delta"):
        add_get(PATH + picture, _handler(picture))


def _handler(picture: str) -> Callable[[Any], Awaitable[Any]]:
    async def handle(request: Any) -> Any:
        from aiohttp import web  # the host's own server

        token, frame = request.match_info["token"], request.match_info["frame"]
        loop = asyncio.get_running_loop()
        try:
            reply = await loop.run_in_executor(_WORKERS, answer, picture, token, frame, dict(request.query))
        except Exception:
            logging.exception("FusionFFT: the spectral preview failed")
            reply = _refusal(500, "The preview failed: the server's log says why.")
        return web.Response(
            status=reply.status, content_type=reply.content_type, headers=reply.headers, body=reply.body
        )

    return handle


def _jpeg(body: bytes, **facts: Any) -> Answer:
    headers = {HEADER: json.dumps(facts, separators=(",", ":")), "Cache-Control": "no-store"}
    return Answer(200, "image/jpeg", headers, body)


def _refusal(status: int, error: str) -> Answer:
    return Answer(status, "application/json", {"Cache-Control": "no-store"}, json.dumps({"error": error}).encode())
