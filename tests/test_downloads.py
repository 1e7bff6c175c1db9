"""Downloads, against a server on this machine."""

import hashlib
import threading
import urllib.error
import urllib.request
from dataclasses import replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest
import torch
from safetensors.torch import load_file

from comfy_fusionfft import checkpoints, downloads
from comfy_fusionfft.cli import main
from comfy_fusionfft.downloads import Weights
from comfy_fusionfft.errors import DownloadError
from comfy_fusionfft.families.rife import FAMILY, RIFEConfig
from comfy_fusionfft.families.rife.net import IFNet

CONFIG = RIFEConfig(widths=(16, 12, 8, 8, 8), head_width=6)


class Server(ThreadingHTTPServer):
    """Serves ``files``; ``limit`` cuts an answer short, ``ranges`` switches resuming on."""

    def __init__(self):
        super().__init__(("127.0.0.1", 0), Handler)
        self.files: dict[str, bytes] = {}
        self.limit: int | None = None
        self.ranges = True
        self.seen: list[tuple[str, str | None]] = []
        self.url = f"http://127.0.0.1:{self.server_port}/"


class Handler(BaseHTTPRequestHandler):
    def do_GET(self):
        wanted = self.headers.get("Range")
        self.server.seen.append((self.path, wanted))
        content = self.server.files.get(self.path.lstrip("/"))
        if content is None:
            self.send_error(404)
            return
        start = int(wanted.removeprefix("bytes=").rstrip("-")) if wanted and self.server.ranges else 0
        if start and start >= len(content):
            self.send_error(416)
            return
        self.send_response(206 if start else 200)
        if start:
            self.send_header("Content-Range", f"bytes {start}-{len(content) - 1}/{len(content)}")
        self.send_header("Content-Length", str(len(content) - start))
        self.end_headers()
        self.wfile.write(content[start:][: self.server.limit])

    def log_message(self, *_):
        pass


@pytest.fixture
def server():
    server = Server()
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    yield server
    server.shutdown()
    server.server_close()
    thread.join()


@pytest.fixture
def network(tmp_path):
    path = tmp_path / "made" / "net.safetensors"
    return checkpoints.save(IFNet(CONFIG).state_dict(), path, family=FAMILY, config=CONFIG)


@pytest.fixture
def offer(server, network):
    """The catalogue entry of a file on the server."""
    content = network.read_bytes()
    server.files["rife_v9.safetensors"] = content
    url = f"{server.url}rife_v9.safetensors"
    return Weights(url, hashlib.sha256(content).hexdigest(), "9", len(content))


def fetch(offer, folder, **options):
    return downloads.get(offer.name, folder, weights=(offer,), **options)


def test_catalogue_is_sound():
    entries = downloads.catalogue()
    assert len({entry.name for entry in entries}) == len(entries) == 21
    assert all(len(bytes.fromhex(entry.sha256)) == 32 for entry in entries)
    assert all(entry.url.startswith(("https://huggingface.co/", "https://github.com/")) for entry in entries)
    by_name = {entry.name: entry for entry in entries}
    assert by_name["rife_v4.25"].size == 22_674_688
    assert by_name["flownet_v4.25.lite"].file == "flownet_v4.25.lite.pkl"
    assert all("/main/" not in entry.url for entry in entries)


def test_get_and_get_again(server, offer, network, tmp_path):
    told = []
    path = fetch(offer, tmp_path / "w", progress=lambda done, total: told.append((done, total)))
    assert path == tmp_path / "w" / "rife_v9.safetensors"
    assert path.read_bytes() == network.read_bytes()
    assert [p.name for p in path.parent.iterdir()] == ["rife_v9.safetensors"]
    assert told[-1] == (offer.size, offer.size)
    assert fetch(offer, tmp_path / "w") == path
    assert len(server.seen) == 1


def test_default_folder_is_the_cache(offer, tmp_path, monkeypatch):
    monkeypatch.setenv("FUSIONFFT_CACHE", str(tmp_path / "cache"))
    assert fetch(offer, None).parent == tmp_path / "cache"
    assert checkpoints.find("rife_v9") == tmp_path / "cache" / "rife_v9.safetensors"


@pytest.mark.parametrize("size_known", [True, False])
def test_interrupted_download_continues(server, offer, network, tmp_path, size_known):
    offer = offer if size_known else replace(offer, size=None)
    server.limit = 1000
    with pytest.raises(DownloadError, match=f"stopped after 1000 of {len(network.read_bytes())} bytes; run the same"):
        fetch(offer, tmp_path)
    assert not (tmp_path / "rife_v9.safetensors").exists()
    server.limit = None
    assert fetch(offer, tmp_path).read_bytes() == network.read_bytes()
    assert server.seen[-1] == ("/rife_v9.safetensors", "bytes=1000-")
    assert not list(tmp_path.glob("*.part"))


def test_server_without_ranges_starts_over(server, offer, network, tmp_path):
    server.limit = 1000
    with pytest.raises(DownloadError):
        fetch(offer, tmp_path)
    server.limit, server.ranges = None, False
    assert fetch(offer, tmp_path).read_bytes() == network.read_bytes()


@pytest.mark.parametrize("size_known", [True, False])
@pytest.mark.parametrize("length", [1000, 10**6])
def test_bad_beginning_is_noticed_and_fetched_anew(server, offer, network, tmp_path, length, size_known):
    offer = offer if size_known else replace(offer, size=None)
    part = tmp_path / f"rife_v9.safetensors.{offer.sha256[:12]}.part"
    part.write_bytes(b"?" * length)
    assert fetch(offer, tmp_path).read_bytes() == network.read_bytes()
    assert not part.exists()


def test_whole_part_needs_no_network(offer, network, tmp_path):
    part = tmp_path / f"rife_v9.safetensors.{offer.sha256[:12]}.part"
    part.write_bytes(network.read_bytes())

    def offline(request, timeout):
        raise AssertionError("nothing is left to fetch")

    assert fetch(offer, tmp_path, opener=offline).read_bytes() == network.read_bytes()


def test_corrupt_file_is_deleted(server, offer, tmp_path):
    server.files["rife_v9.safetensors"] = b"x" * offer.size
    with pytest.raises(DownloadError, match=r"gave a file with sha256 \w{64}, not \w{64}; it was deleted"):
        fetch(offer, tmp_path)
    assert list(tmp_path.glob("rife*")) == []


def test_missing_on_the_server(server, offer, tmp_path):
    server.files.clear()
    with pytest.raises(DownloadError) as caught:
        fetch(offer, tmp_path)
    assert f"{offer.url} answers 404 Not Found; try again later, or download" in str(caught.value)


def test_offline_says_what_to_do_by_hand(offer, tmp_path):
    def offline(request, timeout):
        raise urllib.error.URLError("Name or service not known")

    with pytest.raises(DownloadError) as caught:
        fetch(offer, tmp_path, opener=offline)
    assert str(caught.value) == (
        f"{offer.url} cannot be reached (Name or service not known); go online, "
        f"or download {offer.url} by other means and put it into {tmp_path}"
    )
    pickled = replace(offer, url="http://example.org/flownet_v9.pkl")
    with pytest.raises(DownloadError, match="then run `fusionfft convert flownet_v9.pkl flownet_v9.safetensors` there"):
        fetch(pickled, tmp_path, opener=offline)


def test_connection_lost_in_the_middle(offer, tmp_path):
    class Broken:
        status, headers = 200, {"Content-Length": "5000"}

        def __init__(self):
            self.chunks = [b"x" * 10]

        def __enter__(self):
            return self

        def __exit__(self, *_):
            pass

        def read(self, size):
            if not self.chunks:
                raise ConnectionResetError("reset")
            return self.chunks.pop()

    with pytest.raises(DownloadError, match="stopped after 10 of 5000 bytes"):
        fetch(offer, tmp_path, opener=lambda request, timeout: Broken())


def test_mirror_of_hugging_face(server, offer, tmp_path, monkeypatch):
    monkeypatch.setenv("HF_ENDPOINT", server.url)
    server.files["owner/repo/resolve/1/rife_v9.safetensors"] = server.files.pop("rife_v9.safetensors")
    hugging = replace(offer, url="https://huggingface.co/owner/repo/resolve/1/rife_v9.safetensors")
    assert fetch(hugging, tmp_path / "a").is_file()
    asked = []

    def offline(request, timeout):
        asked.append(request.full_url)
        raise urllib.error.URLError("offline")

    with pytest.raises(DownloadError):
        fetch(replace(offer, url="https://github.com/rife_v9.safetensors"), tmp_path / "b", opener=offline)
    assert asked == ["https://github.com/rife_v9.safetensors"]


def test_pickle_becomes_safetensors(server, tmp_path):
    state = IFNet(CONFIG).state_dict()
    torch.save({f"module.{name}": tensor for name, tensor in state.items()}, tmp_path / "source.pkl")
    content = (tmp_path / "source.pkl").read_bytes()
    server.files["flownet_v9.lite.pkl"] = content
    offer = Weights(f"{server.url}flownet_v9.lite.pkl", hashlib.sha256(content).hexdigest(), "9.lite")
    path = fetch(offer, tmp_path / "w")
    assert [p.name for p in path.parent.iterdir()] == ["flownet_v9.lite.safetensors"]
    assert set(load_file(path)) == set(state)
    assert checkpoints.load(path).config == replace(CONFIG, version="9.lite")
    assert fetch(offer, tmp_path / "w") == path
    assert len(server.seen) == 1


def test_something_else_under_the_name_is_not_touched(server, offer, tmp_path):
    (tmp_path / "rife_v9.safetensors").write_bytes(b"mine")
    with pytest.raises(DownloadError, match="is there but damaged or something else; delete it or choose another"):
        fetch(offer, tmp_path)
    assert (tmp_path / "rife_v9.safetensors").read_bytes() == b"mine"
    assert server.seen == []


def test_unwritable_folder(offer, tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(DownloadError, match="cannot write .*; free space or choose another folder"):
        fetch(offer, tmp_path / "file" / "w")


def test_unknown_name():
    with pytest.raises(DownloadError, match=r"no weights 'rife_v4\.24' to download; choose one of rife_v4\.2"):
        downloads.get("rife_v4.24")


def test_verify(offer, network, tmp_path):
    assert downloads.verify(network, weights=(offer,)).why == "is rife_v9 as published"
    verdict = downloads.verify(network, weights=())
    assert (verdict.state, verdict.why) == ("intact", "numbers agree with the hash in its header")

    plain = tmp_path / "plain.safetensors"
    checkpoints.safetensors.torch.save_file(IFNet(CONFIG).state_dict(), plain)
    assert downloads.verify(plain, weights=()).state == "unknown"
    namesake = plain.replace(tmp_path / "rife_v9.safetensors")
    assert downloads.verify(namesake, weights=(offer,)).state == "damaged"

    content = bytearray(network.read_bytes())
    content[-1] ^= 1
    network.write_bytes(content)
    verdict = downloads.verify(network, weights=())
    assert (verdict.state, verdict.why) == ("damaged", "numbers differ from the hash in its header")
    network.write_bytes(content[:-1])
    assert "download it again" in downloads.verify(network, weights=()).why


def test_verify_all(network, tmp_path, monkeypatch):
    monkeypatch.setenv("FUSIONFFT_CACHE", str(network.parent))
    assert [v.state for v in downloads.verify_all() if v.path == network] == ["intact"]


@pytest.mark.parametrize("name", ["waveletvfi", "waveletvfi.safetensors"])
def test_weights_behind_a_page_are_explained(name, tmp_path):
    def never(*_, **__):
        raise AssertionError("nothing to be fetched")

    with pytest.raises(
        DownloadError, match="cannot be downloaded by a program; the authors keep it in a Dropbox"
    ) as told:
        downloads.get(name, tmp_path, opener=never)
    assert "https://github.com/ltkong218/WaveletVFI" in str(told.value)
    assert f"`fusionfft convert waveletvfi_latest.pth {tmp_path}/waveletvfi.safetensors`" in str(told.value)


def test_weights_behind_a_page_are_listed(capsys):
    assert main(["weights", "list"]) == 0
    assert "to get waveletvfi: the authors keep it in a Dropbox folder: open https://" in capsys.readouterr().out
