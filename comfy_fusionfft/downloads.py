"""Weights others have published: where they are, how to fetch them, how to tell that they are intact.

A download appears under its name only when its sha256 is right; until then it is a ``.part`` file, which a
later attempt continues. Tensor-only pickles are turned into safetensors on arrival. Only the standard
library talks to the network, over http and https alone, and never from https down to http. ``HF_ENDPOINT`` names a
mirror of huggingface.co.

The hashes were collected from public package definitions and download tools, not stated by the authors of
the networks. Licence of all RIFE weights: MIT, according to Practical-RIFE's README.
"""

from __future__ import annotations

import difflib
import os
import time
import urllib.error
import urllib.request
from collections.abc import Callable
from dataclasses import dataclass
from http.client import HTTPException
from pathlib import Path
from typing import Any, Literal

from .checkpoints import SUFFIX, available, cache_folder, convert, file_sha256, read_header
from .errors import CheckpointError, DownloadError
from .tensor_file import printable

Progress = Callable[[int, "int | None"], None]
"""Called with bytes so far and, when known, bytes in all."""

_HUGGING_FACE = "https://huggingface.co/"
_GITHUB = "https://github.com/"
_PLACES = {
    "core": _HUGGING_FACE + "Comfy-Org/frame_interpolation/resolve/219da3c9d8c357ceaf457fc1d5932c6e861b8dee"
    "/frame_interpolation/",
    "vs-rife": _GITHUB + "HolyWu/vs-rife/releases/download/model/",
    "fannovel": _GITHUB + "Fannovel16/ComfyUI-Frame-Interpolation/releases/download/models/",
    "tntwise": _GITHUB + "TNTwise/real-video-enhancer-models/releases/download/models/",
    "imaginairy": _HUGGING_FACE + "imaginairy/rife-interpolation/resolve/26442e52cc30b88c5cb490702647b8de9aaee8a7/",
}
_CHUNK_BYTES = 1 << 18
_DIGITS = 20
_TIMEOUT_SECONDS = 30
_LARGEST_BYTES = 1 << 30
"""What is fetched of a file whose size nobody has said; the largest that is known has a tenth of it."""
_SLOWEST, _PATIENCE_SECONDS = 1000, 60
"""Bytes a second below which a server does not answer but hold the line, and for how long that is borne."""


class _Redirects(urllib.request.HTTPRedirectHandler):
    """Follows a server to another place, but not out of an encrypted connection."""

    def redirect_request(self, request: Any, file: Any, code: int, reason: str, headers: Any, url: str) -> Any:
        if not url.startswith(("https://", "http://")) or (request.type == "https" and not url.startswith("https://")):
            raise urllib.error.HTTPError(url, code, f"and leads to {url}, which is not safe to follow", headers, file)
        return super().redirect_request(request, file, code, reason, headers, url)


def _open(request: Any, timeout: float) -> Any:
    return urllib.request.build_opener(_Redirects).open(request, timeout=timeout)


@dataclass(frozen=True, slots=True)
class Weights:
    """A published file. ``size`` is in bytes, None where nobody has said it; ``version`` is RIFE's."""

    url: str
    sha256: str
    version: str
    size: int | None = None

    @property
    def file(self) -> str:
        return self.url.rpartition("/")[2]

    @property
    def name(self) -> str:
        """What ``get`` and ``checkpoints.find`` call it."""
        return self.file.rpartition(".")[0]


@dataclass(frozen=True, slots=True)
class Verdict:
    """``intact``, ``damaged`` or, when no hash of the file is known, ``unknown``."""

    path: Path
    state: Literal["intact", "damaged", "unknown"]
    why: str


# file, version of RIFE, bytes ("?": nobody has said it), sha256
_TABLE = """
core:
  rife_v4.25.safetensors          4.25       22674688 1505884b9bdae956795430d2a70f7e2317b2abd8f130f8cfdb35a5759f909481
  rife_v4.25_lite.safetensors     4.25.lite  ?        e5e5fe0286d30708f4c36aa23639a38d3d7cd0c724922c66e6b04130ae12c6e4
  rife_v4.25_heavy.safetensors    4.25.heavy 86669816 40aa1838b91531f829caaac026f40d9d2e2f1eb12b65d1d6029a58ae4c703191
  rife_v4.26.safetensors          4.26       22674688 151874592c877740e5db11522f4514df569eeafb0a0fcb2696f16e9e8d317c94
  rife_v4.26_heavy.safetensors    4.26.heavy ?        d2448f68503134b8c7c5430ce6032d6c76681a9a72f0ea8e0a56c7bee813482f
vs-rife:
  flownet_v4.6.pkl                4.6        21273159 008646e761f0e67cb77f0c6c44cfe3c3e5a05d9d9465311b9681ca650ce030db
  flownet_v4.15.pkl               4.15       ?        bf969affb3f6e9a09eea8c1da6c51bb22d6da45e92cafb9273689d05e2360dd2
  flownet_v4.15.lite.pkl          4.15.lite  ?        54fe3fb51efb880f64ffe2048a88220ad2b0b3d03f7cb800742e90821dcfb24f
  flownet_v4.16.lite.pkl          4.16.lite  ?        290cf343fb5a933f4503920ca07826c4d30561bd9b573b11b054b33ea0dee642
  flownet_v4.17.pkl               4.17       ?        b1ee3186270312a38316e4d53c77b31a60062cfa5636e13d6f0a1dd89bb7b128
  flownet_v4.17.lite.pkl          4.17.lite  ?        9303f59001bc40e801273828cc0da84b8f7696a9485cd7c45e7796f20ed2f086
  flownet_v4.18.pkl               4.18       ?        955fc8b552417ae4808999f5d671d024438e904c0bebf766ae6fb61806ce021c
  flownet_v4.25.pkl               4.25       24636301 6615790efd627772917205db291f51cd392528a157ecbb2ecaeec3bff8eb6de2
  flownet_v4.25.lite.pkl          4.25.lite  ?        81cdba223fe72a120130cc8552e5d2ecac824259d406f0c15323b3decf96b8b1
  flownet_v4.26.pkl               4.26       24636301 45c7f74156704769dc9f85cfcaf8552e1e926f9399dcfa3a553dee88fac6f53f
  flownet_v4.26.heavy.pkl         4.26.heavy ?        4cc518e172156ad6207b9c7a43364f518832d83a4325d484240493a9e2980537
fannovel:
  rife47.pth                      4.7        ?        6a8a825ab2750558bdd20dcced386fd82b7222c7ba58c11d3b611d9c44f1be63
  rife49.pth                      4.9        ?        e55fd00f3cc184e3c65961f4bb827a9da022e78eed36b055242c0ac30000d533
  rife426.pth                     4.26       ?        606421fe2148a9fdeca14e58d94dc339e87b87e0ebcc5dec84a50d6f488cfe7b
tntwise:
  rife4.7.pkl                     4.7        ?        fcf3492b10f17fb035156ea4177ed87b1f517eae54fe4500e878f5d186043d5e
imaginairy:
  rife-flownet-4.13.2.safetensors 4.13       ?        c5544dfda88abead0f713c3a79338a1eb0ac6a4573e1c5de76d21e2af3839555
"""


BY_HAND = {
    "waveletvfi": "the authors keep it in a Dropbox folder: open https://github.com/ltkong218/WaveletVFI, follow the "
    "link to the pre-trained model in its README, and run `fusionfft convert waveletvfi_latest.pth "
    "{folder}/waveletvfi.safetensors`",
    "fmanet": "the authors keep it in a Dropbox archive: open https://github.com/KAIST-VICLab/FMA-Net, follow the link "
    "to the pre-trained model in its README, unpack FMA-Net_REDS.zip, and run `fusionfft convert model_D_best.pt "
    "model_R_best.pt {folder}/fmanet.safetensors`; the repository's LICENSE is MIT, but its README allows code and "
    "checkpoint for research and education only: for commercial use ask the authors",
    **{
        name: "the authors keep it on Google Drive and Baidu: open https://github.com/researchmm/FTVSR, follow the "
        f"link to the models in its README, and run `fusionfft convert {file} {{folder}}/{name}.safetensors "
        f"--keyframe-step {step}`; the code is MIT, but the SPyNet inside derives from weights whose licence allows "
        "neither commercial use nor redistribution"
        for name, file, step in (
            ("ftvsr-reds", "FTVSR_REDS.pth", 3),
            ("ftvsr-vimeo90k", "FTVSR_Vimeo90K.pth", 1),
        )
    },
}
"""Weights that no program can fetch, and what to do; ``{folder}`` is where they shall be."""


def catalogue() -> tuple[Weights, ...]:
    """Every published file whose hash is known."""
    weights, place = [], ""
    for line in _TABLE.strip().splitlines():
        if line.endswith(":"):
            place = _PLACES[line[:-1]]
        else:
            file, version, size, sha256 = line.split()
            weights.append(Weights(place + file, sha256, version, int(size) if size.isdecimal() else None))
    return tuple(weights)


def get(
    name: str,
    folder: str | Path | None = None,
    *,
    opener: Callable[..., Any] = _open,
    progress: Progress | None = None,
    weights: tuple[Weights, ...] | None = None,
) -> Path:
    """Fetch a file of the catalogue into ``folder`` (the user's cache by default) and return its place there.

    A file that is there already and intact is not fetched again. ``opener`` is called like
    ``urllib.request.urlopen``. Raises DownloadError when the file cannot be reached, stops half-way or is
    not what it should be; the message says what to do by hand.
    """
    folder = cache_folder() if folder is None else Path(folder)
    if how := BY_HAND.get(name.removesuffix(SUFFIX)):
        raise DownloadError(f"{name} cannot be downloaded by a program; {how.format(folder=folder)}")
    entry = _entry(name, catalogue() if weights is None else weights)
    final = folder / f"{entry.name}{SUFFIX}"
    if final.exists():
        if _is(final, entry):
            return final
        raise DownloadError(f"{final} is there but damaged or something else; delete it or choose another folder")
    # The hash in its name ties the unfinished file to one content, whichever mirror it came from.
    part = folder / f"{entry.file}.{entry.sha256[:12]}.part"
    try:
        folder.mkdir(parents=True, exist_ok=True)
        resumed = _fetch(entry, part, opener, progress)
        if resumed and file_sha256(part) != entry.sha256:
            part.unlink()  # what lay there was bad, or the server gave the wrong rest: once more from the start
            _fetch(entry, part, opener, progress)
        _check_hash(entry, part)
        if entry.file == final.name:
            part.replace(final)
        else:
            # From where it is: a file of the published name may lie there already, and is the user's.
            convert(part, final, metadata={"rife.version": entry.version, "fusionfft.source": entry.file})
            part.unlink()
    except OSError as error:
        raise DownloadError(
            f"cannot write {part} ({error.strerror or error}); free space or choose another folder"
        ) from error
    except CheckpointError as error:
        raise DownloadError(str(error)) from error
    return final


def verify(path: str | Path, *, weights: tuple[Weights, ...] | None = None) -> Verdict:
    """Compare a weights file with the hash the catalogue, or the file itself, has for it."""
    path = Path(path)
    try:
        header = read_header(path)
        digest = file_sha256(path)
    except (CheckpointError, OSError) as error:
        return Verdict(path, "damaged", str(error))
    known = catalogue() if weights is None else weights
    if twin := next((entry for entry in known if entry.sha256 == digest), None):
        return Verdict(path, "intact", f"is {twin.name} as published")
    if noted := header.metadata.get("fusionfft.data_sha256"):
        same = file_sha256(path, header.data_start) == noted
        why = "numbers agree with the hash in its header" if same else "numbers differ from the hash in its header"
        return Verdict(path, "intact" if same else "damaged", why)
    if namesake := next((entry for entry in known if entry.file == path.name), None):
        return Verdict(path, "damaged", f"has sha256 {digest}, {namesake.name} has {namesake.sha256}")
    return Verdict(path, "unknown", f"whole, but no hash to compare {digest} with")


def verify_all(*, weights: tuple[Weights, ...] | None = None) -> list[Verdict]:
    """``verify`` for every file ``checkpoints.available`` sees."""
    return [verify(file.path, weights=weights) for file in available()]


def _entry(name: str, weights: tuple[Weights, ...]) -> Weights:
    by_name = {entry.name: entry for entry in weights} | {entry.file: entry for entry in weights}
    if name in by_name:
        return by_name[name]
    if name.removesuffix(SUFFIX) in by_name:
        return by_name[name.removesuffix(SUFFIX)]
    names = [*(entry.name for entry in weights), *BY_HAND]
    near = ", ".join(difflib.get_close_matches(name, names, cutoff=0.4) or names)
    raise DownloadError(f"no weights {name!r} to download; choose one of {near}")


def _is(path: Path, entry: Weights) -> bool:
    """Whether a file under the entry's name holds the entry, as published or converted."""
    verdict = verify(path, weights=(entry,))
    if verdict.state != "intact":
        return False
    return read_header(path).metadata.get("fusionfft.source_sha256", entry.sha256) == entry.sha256


def _url(entry: Weights) -> str:
    mirror = os.environ.get("HF_ENDPOINT", "").rstrip("/")
    if mirror and entry.url.startswith(_HUGGING_FACE):
        return f"{mirror}/{entry.url.removeprefix(_HUGGING_FACE)}"
    return entry.url


def _fetch(entry: Weights, part: Path, opener: Callable[..., Any], progress: Progress | None) -> bool:
    """Complete ``part``; True when some of it had been there before."""
    url, have = _url(entry), part.stat().st_size if part.exists() else 0
    if entry.size is not None and have >= entry.size:
        return True  # whole already: the hash will tell
    if not url.startswith(("https://", "http://")):
        raise DownloadError(f"{url} is no web address; set HF_ENDPOINT to one that begins with https://, or to nothing")
    request = urllib.request.Request(url, headers={"User-Agent": "fusionfft"})  # noqa: S310 - from the catalogue or the user's mirror
    if have:
        request.add_header("Range", f"bytes={have}-")
    by_hand = f"download {url} by other means and put it into {part.parent}"
    if not entry.file.endswith(SUFFIX):
        by_hand += f", then run `fusionfft convert {entry.file} {entry.name}{SUFFIX}` there"
    try:
        response = opener(request, timeout=_TIMEOUT_SECONDS)
    except urllib.error.HTTPError as error:
        if error.code == 416 and have:  # nothing beyond what is there
            return True
        raise DownloadError(
            f"{url} answers {error.code} {_line(error.reason)}; try again later, or {by_hand}"
        ) from error
    except (OSError, HTTPException, ValueError) as error:  # an answer that is not HTTP, an address that is none
        reason = _line(getattr(error, "reason", error))
        raise DownloadError(f"{url} cannot be reached ({reason}); go online, or {by_hand}") from error
    with response:
        continued = response.status == 206 and _starts_at(response, have)
        done = first = have if continued else 0
        length = response.headers.get("Content-Length") or ""
        total = done + int(length) if length.isdecimal() and len(length) < _DIGITS else entry.size
        most = entry.size or _LARGEST_BYTES
        began = time.monotonic()
        with part.open("ab" if continued else "wb") as file:
            while max(done, total or 0) <= most and (chunk := _read(response, url, done, total)):
                file.write(chunk)
                done += len(chunk)
                if progress is not None:
                    progress(done, total)
                waited = time.monotonic() - began
                if waited > _PATIENCE_SECONDS and done - first < _SLOWEST * waited:
                    raise _stopped(url, done, total)
    if max(done, total or 0) > most:
        part.unlink()
        raise DownloadError(
            f"{url} gives more than the {most} bytes that {entry.file} can have; nothing was kept; try again later"
        )
    if total is not None and done < total:
        raise _stopped(url, done, total)
    return continued


def _line(words: Any) -> str:
    """What a server or the library says of it, on one line."""
    return printable(" ".join(str(words).split()))


def _starts_at(response: Any, position: int) -> bool:
    return response.headers.get("Content-Range", "").startswith(f"bytes {position}-")


def _read(response: Any, url: str, done: int, total: int | None) -> bytes:
    # What has arrived, rather than a whole chunk: a slow server shall not keep anybody from stopping.
    read = getattr(response, "read1", response.read)
    try:
        return read(_CHUNK_BYTES)
    except (OSError, HTTPException) as error:
        raise _stopped(url, done, total) from error


def _stopped(url: str, done: int, total: int | None) -> DownloadError:
    return DownloadError(f"{url} stopped after {done} of {total or 'unknown'} bytes; run the same command to continue")


def _check_hash(entry: Weights, part: Path) -> None:
    digest = file_sha256(part)
    if digest != entry.sha256:
        part.unlink()
        raise DownloadError(
            f"{_url(entry)} gave a file with sha256 {digest}, not {entry.sha256}; it was deleted; try again later"
        )
