"""Downloads from servers that are slow, wrong or hostile: nothing is trusted but the hash, and nothing else is kept."""

import hashlib
import io
import threading
import urllib.error
import urllib.request
from contextlib import suppress
from dataclasses import replace
from email.message import Message
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest
import torch

from comfy_fusionfft import checkpoints, downloads
from comfy_fusionfft.downloads import Weights
from comfy_fusionfft.errors import Cancelled, DownloadError
from tests.faults import fuzz_checkpoints as fuzz
from tests.faults.test_weights_files import full_disk, sealed  # noqa: F401 - a fixture

NAME = "rife_v9.safetensors"
REDIRECT = 302


class Handler(BaseHTTPRequestHandler):
    """Does what the test put into ``server.answer``."""

    def do_GET(self):
        self.server.seen.append((self.path, self.headers.get("Range")))
        with suppress(ConnectionError):  # the client left, as it should
            self.server.answer(self)
        self.close_connection = True

    def log_message(self, *_):
        pass


@pytest.fixture
def server():
    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.seen, server.stop = [], threading.Event()
    server.url = f"http://127.0.0.1:{server.server_port}/"
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    yield server
    server.stop.set()
    server.shutdown()
    server.server_close()
    thread.join()


@pytest.fixture(scope="module")
def content() -> bytes:
    family = next(family for family in checkpoints.every_family() if family.name == "rife")
    return checkpoints.safetensors.torch.save(
        fuzz.networks()["rife"], {"fusionfft.family": family.name, "rife.scales": "16 8 4 2 1"}
    )


@pytest.fixture
def offer(server, content):
    return Weights(f"{server.url}{NAME}", hashlib.sha256(content).hexdigest(), "9", len(content))


def sends(content: bytes, *, length: object = None, status: int = 200, **headers: str):
    def answer(handler: BaseHTTPRequestHandler) -> None:
        handler.send_response(status)
        if length != "none":
            handler.send_header("Content-Length", str(len(content) if length is None else length))
        for name, value in headers.items():
            handler.send_header(name, value)
        handler.end_headers()
        handler.wfile.write(content)

    return answer


def fails(offer: Weights, folder, needle: str, **options) -> str:
    with pytest.raises(DownloadError) as caught:
        downloads.get(offer.name, folder, weights=(offer,), **options)
    assert needle in str(caught.value) and "\n" not in str(caught.value)
    return str(caught.value)


def left(folder) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def fetched(offer: Weights, folder) -> bytes:
    return downloads.get(offer.name, folder, weights=(offer,)).read_bytes()


@pytest.mark.parametrize("size_known", [True, False])
def test_a_server_that_never_ends(server, offer, tmp_path, monkeypatch, size_known):
    def endless(handler):
        handler.send_response(200)
        handler.end_headers()
        while not server.stop.is_set():
            handler.wfile.write(bytes(1 << 16))

    server.answer = endless
    monkeypatch.setattr(downloads, "_LARGEST_BYTES", 4 << 20)
    most = offer.size if size_known else 4 << 20
    fails(replace(offer, size=most if size_known else None), tmp_path, f"gives more than the {most} bytes that {NAME}")
    assert left(tmp_path) == []


@pytest.mark.parametrize("size_known", [True, False])
def test_a_server_that_announces_too_much(server, offer, content, tmp_path, size_known):
    """Before a single byte of it is fetched."""
    server.answer = sends(content, length=1 << 40)
    told = []
    offer = offer if size_known else replace(offer, size=None)
    fails(offer, tmp_path, "nothing was kept; try again later", progress=lambda *done: told.append(done))
    assert told == [] and left(tmp_path) == []


@pytest.mark.parametrize("length", ["-5", "many", "none", "9" * 400, "1e3"])
def test_a_length_that_is_none(server, offer, content, tmp_path, length):
    server.answer = sends(content, length=length)
    assert fetched(offer, tmp_path) == content


def test_a_server_that_holds_the_line(server, offer, content, tmp_path, monkeypatch):
    """A byte now and then never runs into a timeout; what came is kept for the next attempt."""

    def drip(handler):
        handler.send_response(200)
        handler.send_header("Content-Length", str(len(content)))
        handler.end_headers()
        for byte in content:
            handler.wfile.write(bytes([byte]))
            if server.stop.wait(0.02):
                return

    server.answer = drip
    monkeypatch.setattr(downloads, "_PATIENCE_SECONDS", 0.2)
    text = fails(offer, tmp_path, f"of {len(content)} bytes; run the same command to continue")
    assert f"{offer.url} stopped after " in text
    (part,) = tmp_path.iterdir()
    assert 0 < part.stat().st_size < 1000
    server.answer = sends(content)
    assert fetched(offer, tmp_path) == content
    assert left(tmp_path) == [NAME]


def test_a_slow_server_keeps_nobody_from_stopping(server, offer, content, tmp_path):
    """Cancelled at the first bytes, not at the first whole chunk."""

    def drip(handler):
        handler.send_response(200)
        handler.send_header("Content-Length", str(len(content)))
        handler.end_headers()
        handler.wfile.write(content[:10])
        server.stop.wait(20)

    def stop(done, total):
        assert done == 10
        raise Cancelled

    server.answer = drip
    with pytest.raises(Cancelled):
        downloads.get(offer.name, tmp_path, weights=(offer,), progress=stop)
    server.stop.set()
    (part,) = tmp_path.iterdir()
    assert part.name.endswith(".part") and part.read_bytes() == content[:10]


def test_a_silent_server(server, offer, tmp_path, monkeypatch):
    server.answer = lambda handler: server.stop.wait(20)
    monkeypatch.setattr(downloads, "_TIMEOUT_SECONDS", 0.2)
    text = fails(offer, tmp_path, "cannot be reached (timed out); go online, or download ")
    assert text.endswith(f"by other means and put it into {tmp_path}")
    assert left(tmp_path) == []
    server.stop.set()


@pytest.mark.parametrize("answer", [b"hello\r\n\r\n", b"\xff" * 100, b"HTTP/9 x y\r\n\r\n", b""])
def test_an_answer_that_is_not_http(server, offer, tmp_path, answer):
    server.answer = lambda handler: handler.wfile.write(answer)
    fails(offer, tmp_path, "cannot be reached (")
    assert left(tmp_path) == []


def test_a_connection_that_drops_in_the_middle_again_and_again(server, offer, content, tmp_path):
    """Each attempt goes on from where the last one broke off, to the same bytes."""
    step = len(content) // 3 + 1

    def some(handler):
        start = int((handler.headers.get("Range") or "bytes=0-").removeprefix("bytes=").rstrip("-"))
        handler.send_response(206 if start else 200)
        handler.send_header("Content-Range", f"bytes {start}-{len(content) - 1}/{len(content)}")
        handler.send_header("Content-Length", str(len(content) - start))
        handler.end_headers()
        handler.wfile.write(content[start : start + step])

    server.answer = some
    for attempt in (1, 2):
        fails(
            offer, tmp_path, f"stopped after {attempt * step} of {len(content)} bytes; run the same command to continue"
        )
    assert fetched(offer, tmp_path) == content
    assert left(tmp_path) == [NAME]


@pytest.mark.parametrize("change", [lambda c: c[:-1] + b"?", lambda c: b"?" + c[1:], lambda c: b"<html>" * 1000])
@pytest.mark.parametrize("size_known", [True, False])
def test_corrupt_bytes_leave_no_file(server, offer, content, tmp_path, change, size_known):
    server.answer = sends(change(content))
    offer = offer if size_known else replace(offer, size=None)
    with pytest.raises(
        DownloadError, match="it was deleted; try again later|run the same command to continue|gives more"
    ):
        downloads.get(offer.name, tmp_path, weights=(offer,))
    assert not (tmp_path / NAME).exists()
    server.answer = sends(content)
    assert fetched(offer, tmp_path) == content
    assert left(tmp_path) == [NAME]


def test_a_range_that_was_not_asked_for(server, offer, content, tmp_path):
    """A rest from elsewhere is not put behind what is there."""
    part = tmp_path / f"{NAME}.{offer.sha256[:12]}.part"
    part.write_bytes(content[:1000])
    server.answer = sends(
        content[500:], status=206, **{"Content-Range": f"bytes 500-{len(content) - 1}/{len(content)}"}
    )
    fails(offer, tmp_path, "it was deleted; try again later")
    assert left(tmp_path) == []
    server.answer = sends(content)
    assert fetched(offer, tmp_path) == content


@pytest.mark.parametrize("where", ["file:///etc/passwd", "ftp://127.0.0.1/x", "gopher://127.0.0.1/x"])
def test_a_redirect_out_of_the_web(server, offer, tmp_path, where):
    server.answer = sends(b"", status=REDIRECT, Location=where)
    fails(offer, tmp_path, f"{offer.url} answers 302 ")
    assert left(tmp_path) == [] and len(server.seen) == 1


def test_a_redirect_to_a_file_says_so(server, offer, tmp_path):
    server.answer = sends(b"", status=REDIRECT, Location="file:///etc/passwd")
    fails(
        offer, tmp_path, "answers 302 Found - Redirection to url 'file:///etc/passwd' is not allowed; try again later"
    )


def test_a_redirect_is_followed_and_its_bytes_are_checked(server, offer, content, tmp_path):
    def answer(handler):
        here = handler.path.endswith("there")
        (sends(content) if here else sends(b"", status=REDIRECT, Location="/there"))(handler)

    server.answer = answer
    assert fetched(offer, tmp_path) == content
    assert [path for path, _ in server.seen] == [f"/{NAME}", "/there"]


def test_redirects_in_a_circle(server, offer, tmp_path):
    server.answer = sends(b"", status=REDIRECT, Location="/again")
    fails(offer, tmp_path, "answers 302")
    assert len(server.seen) < 20 and left(tmp_path) == []


@pytest.mark.parametrize(
    ("start", "to", "followed"),
    [
        ("https://a.example/x", "https://b.example/y", True),
        ("https://a.example/x", "http://a.example/x", False),
        ("https://a.example/x", "ftp://a.example/x", False),
        ("http://a.example/x", "https://b.example/y", True),
    ],
)
def test_no_redirect_leaves_an_encrypted_connection(start, to, followed):
    handler = downloads._Redirects()
    ask = lambda: handler.redirect_request(  # noqa: E731
        urllib.request.Request(start), io.BytesIO(), REDIRECT, "Found", Message(), to
    )
    if followed:
        assert ask().full_url == to
    else:
        with pytest.raises(urllib.error.HTTPError, match="which is not safe to follow"):
            ask()


@pytest.mark.parametrize("mirror", ["file:///etc", "ftp://127.0.0.1", "nonsense", "/etc"])
def test_a_mirror_that_is_no_web_address(mirror, tmp_path, monkeypatch):
    monkeypatch.setenv("HF_ENDPOINT", mirror)
    offer = Weights("https://huggingface.co/o/r/resolve/1/passwd.safetensors", "0" * 64, "9")
    fails(offer, tmp_path, "is no web address; set HF_ENDPOINT to one that begins with https://, or to nothing")
    assert left(tmp_path) == []


# -- disk -----------------------------------------------------------------------------------------------


def test_a_disk_that_fills_while_downloading(server, offer, content, tmp_path):
    server.answer = sends(content)
    with full_disk(len(content) // 2):
        fails(offer, tmp_path, "(File too large); free space or choose another folder")
    assert not (tmp_path / NAME).exists()
    assert fetched(offer, tmp_path) == content
    assert left(tmp_path) == [NAME]


def test_downloading_into_a_folder_that_takes_nothing(offer, content, sealed):  # noqa: F811
    class Response(io.BytesIO):  # no server of threads in a process that has become another user
        status, headers = 200, {"Content-Length": str(len(content))}

    how = {"opener": lambda request, timeout: Response(content)}
    text = fails(offer, sealed, "(Permission denied); free space or choose another folder", **how)
    assert text.startswith(f"cannot write {sealed}")
    fails(offer, sealed / "new", "(Permission denied); free space or choose another folder", **how)
    assert left(sealed) == []


@pytest.fixture
def pickled(server):
    made = io.BytesIO()
    torch.save(fuzz.networks()["rife"], made)
    server.answer = sends(made.getvalue())
    url = f"{server.url}flownet_v9.pkl"
    return Weights(url, hashlib.sha256(made.getvalue()).hexdigest(), "9", len(made.getvalue()))


def test_a_disk_that_fills_while_a_download_is_converted(server, pickled, tmp_path, monkeypatch):
    """The download is kept: the next attempt needs no network."""

    def full(path, data):
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(type(tmp_path), "write_bytes", full)
        fails(pickled, tmp_path, "cannot be written (No space left on device); free space or choose another folder")
    (part,) = left(tmp_path)
    assert part == f"flownet_v9.pkl.{pickled.sha256[:12]}.part"
    downloads.get(pickled.name, tmp_path, weights=(pickled,))
    assert left(tmp_path) == ["flownet_v9.safetensors"] and len(server.seen) == 1


def test_the_users_own_file_of_the_published_name_stays(pickled, tmp_path):
    (tmp_path / "flownet_v9.pkl").write_bytes(b"mine")
    path = downloads.get(pickled.name, tmp_path, weights=(pickled,))
    assert (tmp_path / "flownet_v9.pkl").read_bytes() == b"mine"
    assert left(tmp_path) == ["flownet_v9.pkl", "flownet_v9.safetensors"]
    assert checkpoints.load(path).metadata["fusionfft.source"] == "flownet_v9.pkl"
    assert downloads.get(pickled.name, tmp_path, weights=(pickled,)) == path


def test_a_published_pickle_with_code_in_it_runs_nothing(server, tmp_path):
    """The hash is right, and still only tensors are taken."""
    canary = tmp_path / "ran"
    evil = fuzz.archive(b"\x80\x02" + fuzz.exploits(canary)["os.system"] + b".")
    server.answer = sends(evil)
    offer = Weights(f"{server.url}flownet_v9.pkl", hashlib.sha256(evil).hexdigest(), "9")
    fails(offer, tmp_path / "w", "holds more than tensors; nothing of it was executed (os.system)")
    assert not canary.exists() and not (tmp_path / "w" / "flownet_v9.safetensors").exists()


def test_nothing_is_fetched_before_somebody_asks(monkeypatch, tmp_path, capsys):
    """Listing, finding, verifying and loading never open a connection."""
    import socket

    from comfy_fusionfft.cli import main

    def never(*_, **__):
        raise AssertionError("a connection")

    monkeypatch.setattr(socket.socket, "connect", never)
    monkeypatch.setattr(socket, "getaddrinfo", never)
    monkeypatch.setenv("FUSIONFFT_CACHE", str(tmp_path))
    assert main(["weights", "list"]) == 0
    assert main(["weights", "verify"]) == 0
    assert "rife_v4.25" in capsys.readouterr().out
    with pytest.raises(checkpoints.CheckpointError, match="no weights 'rife_v4.25' in"):
        checkpoints.find("rife_v4.25")
