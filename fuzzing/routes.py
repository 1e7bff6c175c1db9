"""Fuzzes the pack's HTTP routes in a real ComfyUI: requests as no browser of ours sends them.

    python fuzzing/routes.py --seconds 600 [--seed N] [--version 0.30.0]

A preview of three frames is made; requests for it are then spoiled: method, token, frame, settings, headers, body, and
single bytes of all of it. A failure is: a status of 500 or none, a picture for a request that should not get one, a
refusal that does not say why, a traceback, more than SECONDS for an answer, a host that died or grew by more than
MEMORY. Ends with floods of requests at once. Needs what ``devhost`` needs; drawn from a seed, without coverage.
"""

from __future__ import annotations

import argparse
import json
import random
import re
import socket
import sys
import time
import urllib.parse
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from devhost.client import Client
from devhost.install import NEWEST
from devhost.server import PACK_FOLDER, HostServer

SECONDS = 10.0
"""One answer may take so long; most take milliseconds."""
HALF_SECONDS = 0.15
"""After so long the server may go on waiting for the rest of what is no whole request."""
MEMORY = 512 << 20
"""So much may the host grow: kept spectra of a small picture, and answers on their way."""
LARGEST = 1 << 20
"""Bytes of an answer about pictures of 64×48."""
FRAMES = 2
CLEAN = (400, 403, 404, 405, 410, 411, 413, 414, 417, 431, 501, 503)
OURS = re.compile(r"(/api)?/fusionfft/spectral/([^/{}]+)/([^/{}]+)/(base|delta)")
SETTINGS = {"lo": "0.25", "hi": "0.4", "soft": "1", "clamp_gain": "1"}

NUMBERS = (
    *(
        "0",
        "0.5",
        "-0.0",
        "-1",
        "nan",
        "-nan",
        "inf",
        "-inf",
        "Infinity",
        "1e308",
        "1e309",
        "1e-320",
        "1e-50",
        "5e-324",
    ),
    *(
        "0x10",
        "1_0",
        "1,5",
        "",
        " ",
        "٣",
        "½",
        "true",
        "null",
        "[]",
        "{}",
        "1;2",
        "0" * 300 + "1",
        "9" * 5000,
        "1e99999999",
    ),
    *("\x00", "0\x00", "\udcff", "💥", "'; --", "../../etc/passwd", "${x}", "%s%n", "\r\nX: y"),
)
PATHS = (
    *(
        "..",
        "../..",
        "../../../../etc/passwd",
        "..\\..\\",
        "%2e%2e",
        "/etc/passwd",
        "C:\\Windows",
        "file:///etc/passwd",
    ),
    *("0" * 32, "f" * 32, "g" * 32, "", ".", "*", "a" * 5000, "\x00", "💥", "\udcff", "{token}", "base", "?", "#", ";"),
)
HEADERS = (
    *(
        ("Origin", each)
        for each in ("http://evil.example", "null", "", "http://127.0.0.1", "http://127.0.0.1:1", "x" * 3000)
    ),
    *(("Sec-Fetch-Site", each) for each in ("cross-site", "same-site", "same-origin", "none", "", "SAME-ORIGIN", "x")),
    *(("Host", each) for each in ("evil.example", "", "localhost:1", "[::1]", "a" * 300, "127.0.0.1@evil.example")),
    *(("Content-Length", each) for each in ("0", "-1", "5", "99999999999999", "x", "0x10")),
    *(("Transfer-Encoding", each) for each in ("chunked", "gzip", "x")),
    *(("Content-Type", each) for each in ("application/json", "multipart/form-data", "x" * 2000)),
    *(
        ("Range", "bytes=0-1"),
        ("Expect", "100-continue"),
        ("Accept-Encoding", "gzip, br"),
        ("Referer", "http://evil.example"),
    ),
    *(("Cookie", "a=" + "b" * 7000), ("Connection", "upgrade"), ("Upgrade", "websocket"), ("X-Long", "x" * 9000)),
    *(("X-Forwarded-Host", "evil.example"), ("X-HTTP-Method-Override", "DELETE"), ("If-None-Match", "*")),
)
METHODS = ("HEAD", "POST", "PUT", "DELETE", "OPTIONS", "PATCH", "TRACE", "CONNECT", "get", "BREW", "G" * 300)


@dataclass(frozen=True)
class Request:
    """One request; ``noise``: bytes of its text that are replaced, by place."""

    path: str
    query: tuple[tuple[str, str], ...] = ()
    method: str = "GET"
    headers: tuple[tuple[str, str], ...] = ()
    body: bytes = b""
    noise: dict[int, int] = field(default_factory=dict)

    def raw(self, host: str) -> bytes:
        asked = urllib.parse.quote(self.path, safe="/%", errors="surrogateescape")
        if self.query:
            asked += "?" + urllib.parse.urlencode(self.query, errors="surrogateescape")
        given = {name.lower() for name, _ in self.headers}
        headers = [("Host", host)] * ("host" not in given) + list(self.headers)
        if self.body and "content-length" not in given:
            headers.append(("Content-Length", str(len(self.body))))
        lines = [f"{self.method} {asked} HTTP/1.1", *(f"{name}: {value}" for name, value in headers)]
        text = bytearray("\r\n".join([*lines, "Connection: close", "", ""]).encode("utf-8", "replace") + self.body)
        for place, value in self.noise.items():
            text[place % len(text)] = value
        return bytes(text)


@dataclass(frozen=True)
class Reply:
    status: int | None
    """None: the connection was closed without an answer."""
    headers: dict[str, str]
    body: bytes
    seconds: float


def good(token: str, picture: str = "delta", **settings: Any) -> Request:
    """A request as the page sends it."""
    query = tuple((SETTINGS | settings).items()) if picture == "delta" else ()
    return Request(f"/api/fusionfft/spectral/{token}/0/{picture}", query)


def arbitrary(draw: random.Random, token: str) -> Request:
    """One to three faults in a request that is good otherwise."""
    request = good(token, draw.choice(("base", "delta", "delta")))
    for _ in range(draw.randint(1, 3)):
        request = _spoiled(draw, request)
    return request


def _spoiled(draw: random.Random, request: Request) -> Request:
    parts, query = request.path.split("/"), list(request.query)
    match draw.randrange(9):
        case 0:
            return replace(request, method=draw.choice(METHODS))
        case 1:
            place = draw.choice((-3, -2, -1, 1, 2, 3)) if len(parts) > 3 else -1
            parts[place] = draw.choice(PATHS + NUMBERS)
            return replace(request, path="/".join(parts))
        case 2 if query:
            place = draw.randrange(len(query))
            query[place] = (query[place][0], draw.choice(NUMBERS))
            return replace(request, query=tuple(query))
        case 3 if query:
            query.pop(draw.randrange(len(query)))
            return replace(request, query=tuple(query))
        case 4:
            extra = (draw.choice([*SETTINGS, "lo[]", "__proto__", "x" * 500]), draw.choice(NUMBERS))
            return replace(request, query=(*query, extra))
        case 5:
            return replace(request, headers=(*request.headers, draw.choice(HEADERS)))
        case 6:
            body = draw.choice((b"{}", b"\x00" * 70_000, b"[" * 5000, b"5\r\nhello\r\n0\r\n\r\n"))
            return replace(request, body=body)
        case 7:
            noise = {draw.randrange(200): draw.randrange(256) for _ in range(draw.randint(1, 3))}
            return replace(request, noise=request.noise | noise)
    return replace(request, query=tuple(draw.sample(query, len(query))))


def exchange(host: str, raw: bytes, whole: bool = True) -> Reply:
    """Send bytes, read until the server closes. whole: they are a request, for whose answer it is worth to wait."""
    name, _, port = host.rpartition(":")
    began, answer = time.monotonic(), bytearray()
    with socket.create_connection((name, int(port)), timeout=SECONDS if whole else HALF_SECONDS) as connection:
        try:
            connection.sendall(raw)
            while block := connection.recv(1 << 16):
                answer += block
        except TimeoutError:
            if whole:
                raise
        except ConnectionError:
            pass
    head, _, body = bytes(answer).partition(b"\r\n\r\n")
    lines = head.decode("latin-1").split("\r\n")
    status = re.fullmatch(r"HTTP/1\.[01] (\d+).*", lines[0])
    headers = {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in lines[1:])}
    return Reply(int(status[1]) if status else None, headers, body, time.monotonic() - began)


def fault(request: Request, reply: Reply, token: str, host: str) -> str | None:
    """What is wrong with an answer, or None."""
    asked = urllib.parse.unquote(request.path, errors="surrogateescape")
    ours = OURS.fullmatch(asked) and not _is_garbled(request)
    if reply.status is None:  # the server may hang up on half a request
        return None if _is_garbled(request) else "no answer"
    if reply.status == 500 and "cross-origin-resource-policy" in reply.headers:
        return "status 500"  # the host has its own for names that are too long; its log tells them apart
    if len(reply.body) > LARGEST and "x-fusionfft" in reply.headers:
        return f"an answer of {len(reply.body)} bytes"
    if b"Traceback" in reply.body or b"site-packages" in reply.body:
        return "a traceback in the answer"
    if "x-fusionfft" in reply.headers:
        if not _deserves_a_picture(request, token, host):
            return f"a picture for {request.method} {request.path[:60]} {request.query} {request.headers}"
        if request.method == "GET" and not reply.body.startswith(b"\xff\xd8\xff"):
            return "no JPEG"
        json.loads(reply.headers["x-fusionfft"], parse_constant=_no_constant)
    elif "cross-origin-resource-policy" in reply.headers:  # ours, and a refusal
        if reply.status not in CLEAN:
            return f"a refusal with status {reply.status}"
        if request.method == "GET" and not json.loads(reply.body).get("error"):
            return "a refusal without a reason"
    elif reply.status == 200 and ours and request.method != "OPTIONS":
        return "an answer that is not ours on a path of ours"
    return None


def _no_constant(name: str) -> None:
    raise ValueError(f"{name} in a header, which browsers cannot read")


def _is_garbled(request: Request) -> bool:
    """Whether it may be another request for the server than it is for us."""
    framing = {"content-length", "transfer-encoding", "expect", "upgrade", "connection"}
    return bool(request.noise or {name.lower() for name, _ in request.headers} & framing)


def _deserves_a_picture(request: Request, token: str, host: str) -> bool:
    """By the rules that the routes state, read anew."""
    if request.noise:
        return True  # who knows what it says now
    path = OURS.fullmatch(urllib.parse.unquote(request.path, errors="surrogateescape"))
    if request.method not in ("GET", "HEAD") or path is None or path[2] != token:
        return False
    if not re.fullmatch(r"[0-9]{1,6}", path[3]) or int(path[3]) >= FRAMES:
        return False
    headers = {name.lower(): value.strip() for name, value in reversed(request.headers)}
    site = headers.get("sec-fetch-site")
    if site is not None and site.lower() not in ("same-origin", "none"):
        return False
    if site is None and "origin" in headers:
        here = headers.get("host", host)
        if not here or headers["origin"].lower() not in (f"http://{here}".lower(), f"https://{here}".lower()):
            return False
    names = [name for name, _ in request.query]
    if len(names) != len(set(names)):
        return False
    if path[4] == "base":
        return True
    try:
        asked = dict(request.query)
        lo, hi = float(asked["lo"]), float(asked["hi"])
        switches = {asked["soft"].lower(), asked["clamp_gain"].lower()}
    except (KeyError, ValueError):
        return False
    return 0 <= lo <= hi < float("inf") and switches <= {"0", "1", "true", "false"}


def flood(host: str, token: str, count: int, at_once: int = 100) -> Counter[int | None]:
    """So many good requests, each for another picture -> how they were answered."""
    asked = [good(token, lo=f"{0.1 + number / (20 * count):.6f}").raw(host) for number in range(count)]
    with ThreadPoolExecutor(at_once) as pool:
        return Counter(reply.status for reply in pool.map(lambda raw: exchange(host, raw), asked))


def preview_token(client: Client) -> str:
    """Runs a graph that leaves a preview of FRAMES frames."""
    nodes: dict[str, dict[str, Any]] = {
        str(number): {
            "class_type": "EmptyImage",
            "inputs": {"width": 64, "height": 48, "batch_size": 1, "color": colour},
        }
        for number, colour in enumerate((0x102030, 0x808890))
    }
    nodes["2"] = {"class_type": "ImageBatch", "inputs": {"image1": ["0", 0], "image2": ["1", 0]}}
    swap = {"images": ["2", 0], "prior": ["2", 0], "alpha": 0.4, "lo": 0.25, "hi": 0.4, "soft": True}
    nodes["3"] = {"class_type": "FusionFFTSpectralSwap", "inputs": swap | {"prior_kind": "auto", "clamp_gain": True}}
    nodes["4"] = {"class_type": "PreviewImage", "inputs": {"images": ["3", 0]}}
    result = client.run(nodes).raise_for_error()
    shown = result.outputs["3"]["fusionfft_spectral"][0]
    assert len(shown["frames"]) == FRAMES, shown
    return shown["token"]


def resident(pid: int) -> int:
    """Bytes that a process holds now."""
    return int(re.search(r"VmRSS:\s+(\d+)", Path(f"/proc/{pid}/status").read_text())[1]) << 10


def run(server: HostServer, token: str, seed: int, *, tries: int | None = None, seconds: float = 1e9) -> list[str]:
    """Spoiled requests until there were so many or so long -> what went wrong, each with its seed."""
    host, failures, number = server.url.removeprefix("http://"), [], 0
    deadline, before, statuses = time.monotonic() + seconds, resident(server.pid), Counter()
    told = len(server.log())
    while (tries is None or number < tries) and time.monotonic() < deadline and len(failures) < 20:
        draw = random.Random(f"{seed} {number}")
        request = arbitrary(draw, token)
        try:
            reply = exchange(host, request.raw(host), whole=not _is_garbled(request))
            wrong = fault(request, reply, token, host)
            statuses[reply.status] += 1
        except (OSError, ValueError) as error:
            wrong = f"{type(error).__name__}: {error}"
        if wrong:
            failures.append(f"seed {seed} number {number}: {wrong}\n    {request.raw(host)[:300]!r}")
        number += 1
    grown = resident(server.pid) - before
    if grown > MEMORY:
        failures.append(f"the host grew by {grown >> 20} MiB")
    log = server.log()[told:]
    if PACK_FOLDER in "".join(log.split("Traceback")[1:]) or "preview failed" in log:
        failures.append("a traceback of ours in the host's log")
    if exchange(host, good(token).raw(host)).status != 200:
        failures.append("a good request is not answered any more")
    print(f"{number} requests, {dict(sorted(statuses.items(), key=str))}, the host grew by {grown >> 20} MiB")
    return failures


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--seconds", type=float, default=60.0)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--version", default=NEWEST)
    options = parser.parse_args()
    with HostServer(options.version, threads=1) as server, Client(server.url) as client:
        token = preview_token(client)
        failures = run(server, token, options.seed, seconds=options.seconds)
        print(f"flood of 1000: {dict(flood(server.url.removeprefix('http://'), token, 1000))}")
    print(f"{len(failures)} failures", *failures, sep="\n")
    return 1 if failures else 0


if __name__ == "__main__":
    sys.exit(main())
