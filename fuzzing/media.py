"""Fuzzes what is read from untrusted media: containers, codecs' headers, images, tags and sound.

    python fuzzing/media.py --seconds 600 [--inputs N] [--seed N] [--keep FOLDER]

Small real files of every container and image type are spoiled: bits, cuts, repeated and moved stretches, lies in the
sizes of boxes, atoms and chunks, in dimensions, time scales and timestamps. Each is opened, read twice, looked through
and written anew with its sound. Anything but a good clip or a FusionFFTError that says what to do is a failure: another
exception, a crash, more than SECONDS or MEMORY, a file left behind. The decoders are native code, which Python's
coverage tools do not see: mutations are drawn from a seed, without feedback. Needs nothing that is not installed with
the package; the limits need Linux.
"""

from __future__ import annotations

import argparse
import random
import re
import resource
import select
import shutil
import struct
import subprocess
import sys
import tempfile
import time
import traceback
import zlib
from collections import Counter
from fractions import Fraction
from itertools import islice, pairwise
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import av
import cv2
import numpy as np
import torch

from comfy_fusionfft.errors import FusionFFTError
from comfy_fusionfft.look import look_through
from comfy_fusionfft.video import Clip, Sound, open_clip, write_clip
from comfy_fusionfft.video.size import MOST_PIXELS

SECONDS = 20
"""One file may take so long; most take milliseconds."""
MEMORY = 2 << 30
"""And so much memory beyond what the process had."""
_FRAMES = 24  # that are read of one file: a spoiled header may promise millions

# ---------------------------------------------------------------------------------------------------- real files


def make_seeds(folder: Path) -> dict[str, bytes]:
    """Name -> content of one small file for every kind that is read."""
    folder.mkdir(parents=True, exist_ok=True)
    for name, video, pixel_format, sound in (
        ("h264.mp4", "libx264", "yuv420p", "aac"),
        ("hevc.mp4", "libx265", "yuv420p10le", None),
        ("prores.mov", "prores_ks", "yuv422p10le", "pcm_s16le"),
        ("ffv1.mkv", "ffv1", "gbrp16le", "flac"),
        ("h264.mkv", "libx264", "yuv444p", "libopus"),
        ("vp9.webm", "libvpx-vp9", "yuva420p", "libopus"),
        ("mjpeg.avi", "mjpeg", "yuvj420p", "pcm_s16le"),
        ("mpeg2.ts", "mpeg2video", "yuv420p", "mp2"),
        ("h264.flv", "libx264", "yuv420p", None),
        ("palette.gif", "gif", "rgb8", None),
        ("png.mov", "png", "rgba", None),
        ("raw.nut", "rawvideo", "yuv420p", None),
    ):
        _encode(folder / name, video, pixel_format, sound)
    _encode(folder / "sizes.h264", "libx264", "yuv420p", None)
    _encode(folder / "other.h264", "libx264", "yuv444p", None, side=96)
    with (folder / "sizes.h264").open("ab") as file:  # a stream that changes its size and its colours
        file.write((folder / "other.h264").read_bytes())
    (folder / "other.h264").unlink()
    rng = np.random.default_rng(5)
    for name, shape, dtype in (
        ("a.png", (24, 32, 3), np.uint8),
        ("b.png", (24, 32, 4), np.uint16),
        ("c.tiff", (24, 32, 4), np.uint8),
        ("d.tiff", (24, 32, 3), np.float32),
        ("e.jpg", (24, 32, 3), np.uint8),
        ("f.bmp", (24, 32, 3), np.uint8),
        ("g.webp", (24, 32, 4), np.uint8),
        *((("h.exr", (24, 32, 3), np.float32),) if cv2.haveImageWriter("h.exr") else ()),
    ):
        pixels = rng.integers(0, 255, shape).astype(dtype)
        (folder / name).write_bytes(cv2.imencode(Path(name).suffix, pixels)[1].tobytes())
    return {path.name: path.read_bytes() for path in sorted(folder.iterdir())}


def _encode(path: Path, encoder: str, pixel_format: str, sound: str | None, side: int = 64) -> None:
    with av.open(str(path), "w") as output:
        output.metadata.update({"title": "A walk", "comment": "naïve"})
        stream = output.add_stream(encoder, rate=25)
        stream.width = stream.height = side
        stream.pix_fmt = pixel_format
        stream.gop_size = 4
        if encoder == "libx265":
            stream.codec_context.options = {"x265-params": "log-level=none"}
        audio = None
        if sound is not None:
            audio = output.add_stream(sound, rate=48000)
            audio.layout = "mono"
        x = np.arange(side)
        for k in range(10):
            plane = ((x[None] * 3 + x[:, None] * 2 + 9 * k) % 256).astype(np.uint8)
            picture = av.VideoFrame.from_ndarray(np.stack([plane, plane.T, 255 - plane], -1)).reformat(
                format=pixel_format
            )
            picture.pts, picture.time_base = k, Fraction(1, 25)
            output.mux(stream.encode(picture))
        output.mux(stream.encode(None))
        for k in range(10) if audio else ():
            tone = (np.sin(np.arange(1920) * 0.06) * 9000).astype(np.int16)[None]
            block = av.AudioFrame.from_ndarray(tone, format="s16", layout="mono")
            block.sample_rate, block.pts, block.time_base = 48000, 1920 * k, Fraction(1, 48000)
            output.mux(audio.encode(block))
        if audio:
            output.mux(audio.encode(None))


# ------------------------------------------------------------------------------------------------------ spoiling

_NUMBERS = (0, 1, 2, 7, 0x7F, 0xFF, 0x7FFF, 0xFFFF, 60000, 0x7FFFFFFF, 0x80000000, 0xFFFFFFFF)
_LONG_NUMBERS = (0, 1, 1 << 31, 1 << 32, (1 << 63) - 1, 1 << 63, (1 << 64) - 1)
# Words that stand in front of, or behind, a size, a time scale, a table of timestamps or a picture's dimensions.
_PLACES = re.compile(
    rb"ftyp|moov|mvhd|tkhd|mdhd|stsd|stts|ctts|stsz|stsc|stco|co64|elst|avcC|hvcC|avc1|hvc1|apcn|mdat|udta|colr|pasp|esds"
    rb"|avih|strh|strf|idx1|movi|LIST|RIFF|VP8[ LX]|ALPH|IHDR|IDAT|PLTE|tRNS|NETSCAPE2|GIF89a|FLV"
    rb"|\x1a\x45\xdf\xa3|\x2a\xd7\xb1|\x16\x54\xae\x6b|\x1f\x43\xb6\x75|\xb0\x81|\xba\x81|\x44\x89|\xff[\xc0\xc2\xc4\xda\xdb]|BM|II\*|G@"
)


def spoiled(rng: random.Random, data: bytes, others: list[bytes]) -> bytes:
    """One to six mutations of ``data``; PNG checksums are made right again, half the time, so that more is reached."""
    out = bytearray(data)
    for _ in range(rng.choice((1, 1, 2, 3, 6))):
        if not out:
            break
        _MUTATIONS[rng.randrange(len(_MUTATIONS))](rng, out, others)
    if out.startswith(b"\x89PNG") and rng.random() < 0.5:
        _mend_png(out)
    return bytes(out)


def _flip(rng: random.Random, out: bytearray, _: list[bytes]) -> None:
    for _ in range(rng.choice((1, 1, 4, 32))):
        out[_at(rng, out)] ^= 1 << rng.randrange(8)


def _overwrite(rng: random.Random, out: bytearray, _: list[bytes]) -> None:
    at = _at(rng, out)
    out[at : at + rng.choice((1, 4, 64))] = rng.randbytes(rng.choice((1, 4, 64)))


def _cut(rng: random.Random, out: bytearray, _: list[bytes]) -> None:
    del out[_at(rng, out) :]


def _drop(rng: random.Random, out: bytearray, _: list[bytes]) -> None:
    at = _at(rng, out)
    del out[at : at + rng.choice((1, 4, 100, 2000))]


def _repeat(rng: random.Random, out: bytearray, _: list[bytes]) -> None:
    at, to = _at(rng, out), _at(rng, out)
    out[to:to] = out[at : at + rng.choice((4, 40, 800, 9000))] * rng.choice((1, 1, 50))


def _number(rng: random.Random, out: bytearray, _: list[bytes]) -> None:
    """A number just before or behind a known word becomes an extreme one."""
    places = [match.start() for match in _PLACES.finditer(out)]
    at = rng.choice(places) + rng.choice((-4, 1, 2, 4, 8, 12, 16, 20, 24, 28, 32, 36, 80, 84)) if places else 0
    kind = rng.choice((">H", "<H", ">I", "<I", ">I", "<I", ">Q", "<Q"))
    value = rng.choice(_LONG_NUMBERS) if kind[1] == "Q" else rng.choice(_NUMBERS)
    packed = struct.pack(kind, value & ((1 << 8 * struct.calcsize(kind)) - 1))
    at = min(max(at, 0), len(out))
    out[at : at + len(packed)] = packed


def _graft(rng: random.Random, out: bytearray, others: list[bytes]) -> None:
    other = rng.choice(others)
    start = rng.randrange(len(other))
    at = _at(rng, out)
    out[at : at + rng.choice((0, 500))] = other[start : start + rng.choice((8, 500, 5000))]


def _at(rng: random.Random, out: bytearray) -> int:
    """Anywhere; headers are more likely than their share."""
    return rng.randrange(min(len(out), rng.choice((64, 1024, *[len(out)] * 6)))) if out else 0


def _mend_png(out: bytearray) -> None:
    at = 8
    while at + 12 <= len(out):
        (size,) = struct.unpack_from(">I", out, at)
        if at + 12 + size > len(out):
            return
        struct.pack_into(">I", out, at + 8 + size, zlib.crc32(out[at + 4 : at + 8 + size]))
        at += 12 + size


_MUTATIONS = (_flip, _flip, _overwrite, _cut, _drop, _repeat, _number, _number, _number, _graft)


def draw(seed: int, number: int, seeds: dict[str, bytes]) -> tuple[str, bytes]:
    """The file of this number: its name and content."""
    rng = random.Random(f"{seed}:{number}")
    name = rng.choice(sorted(seeds))
    return name, spoiled(rng, seeds[name], list(seeds.values()))


# ---------------------------------------------------------------------------------------------------- examination


class Fault(Exception):
    """A rule that was broken without an exception."""


def examine(path: Path, out: Path) -> str:
    """Do with the file at ``path`` what a run does -> ``read``, or the name of the error that refused it.

    out: an empty folder to write into. Raises Fault, or whatever should not have been raised.
    """
    outcome = "read"
    try:
        clip = _limited(open_clip(path))
        _check_info(clip)
        _check_frames(clip)
        look_through(clip, cuts="auto", dedupe=True, rate=clip.info.rate)
        if clip.info.width * clip.info.height <= 1 << 18:
            _rewrite(clip, path, out)
    except FusionFFTError as error:
        _check_text(error)
        outcome = type(error).__name__
    if left := [entry.name for entry in out.iterdir() if entry.name != "out.mkv" or outcome != "read"]:
        raise Fault(f"files are left: {left}")
    return outcome


def _limited(clip: Clip) -> Clip:
    return Clip(clip.info, lambda start, longest_side: islice(clip.read(start, longest_side), _FRAMES))


def _check_info(clip: Clip) -> None:
    info = clip.info
    if not 0 < info.width * info.height <= MOST_PIXELS:
        raise Fault(f"pictures of {info.width}x{info.height}")
    if info.rate is not None and info.rate <= 0:
        raise Fault(f"a rate of {info.rate}")
    hash(info), "".join([*info.metadata, *info.metadata.values()]).encode()


def _check_frames(clip: Clip) -> None:
    times = []
    for frame in clip:
        if tuple(frame.pixels.shape) != (clip.info.height, clip.info.width, clip.info.channels):
            raise Fault(f"frame {len(times)} is {tuple(frame.pixels.shape)}")
        times.append(frame.seconds)
    if not times or any(not before < after for before, after in pairwise(times)):
        raise Fault(f"times are {times}")


def _rewrite(clip: Clip, path: Path, out: Path) -> None:
    frames = list(islice(clip, 6))
    lasts = frames[-1].seconds - frames[0].seconds
    # a spoiled clock may ask for hours of sound, which are honest work
    how = ("keep", "stretch", "tape")[zlib.crc32(path.read_bytes()) % 3] if lasts < 20 else "keep"
    sound = Sound(path, how) if clip.info.has_audio else None
    written = write_clip(out / "out.mkv", frames, like=clip.info, codec="ffv1", sound=sound)
    again = sum(1 for _ in open_clip(written.path))
    if again != written.frames:
        raise Fault(f"{written.frames} frames were written, {again} came back")


def _check_text(error: FusionFFTError) -> None:
    line = str(error).split("\n", 1)[0]
    if len(line) < 20 or ": " not in line:
        raise Fault(f"the message does not say what to do: {error}")


# ---------------------------------------------------------------------------------------------------------- runs


def work(seed: int, first: int, folder: Path) -> None:
    """Examine files without end, saying so: a line with the number before each, and one with the outcome after it."""
    torch.set_num_threads(1)
    seeds = make_seeds(folder / "seeds")
    base = _memory("VmSize")
    resource.setrlimit(resource.RLIMIT_AS, (base + MEMORY + (1 << 30),) * 2)
    number = first
    while True:
        name, data = draw(seed, number, seeds)
        path, out = folder / name, folder / "out"
        path.write_bytes(data)
        out.mkdir()
        Path("/proc/self/clear_refs").write_text("5")  # the peak counts from here
        before = _memory("VmRSS")
        print(number, name, flush=True)
        try:
            outcome = examine(path, out)
            if (took := _memory("VmHWM") - before) > MEMORY:
                raise Fault(f"memory of {took >> 20} MiB")
        except Exception as error:
            where = traceback.extract_tb(error.__traceback__)[-1]
            outcome = f"FAULT {type(error).__name__} at {Path(where.filename).name}:{where.lineno}: {error}"
        print("=", outcome.replace("\n", " ").replace(str(folder), ""), flush=True)
        shutil.rmtree(out)
        path.unlink()
        number += 1


def _memory(name: str) -> int:
    text = Path("/proc/self/status").read_text()
    return int(re.search(rf"{name}:\s+(\d+)", text)[1]) << 10


def supervise(seconds: float, inputs: int, seed: int, keep: Path | None) -> int:
    """Run workers until the time is over or all ``inputs`` are examined -> how many distinct failures there were."""
    outcomes: Counter[str] = Counter()
    kinds: Counter[str] = Counter()
    failures: dict[str, int] = {}
    number, started = 0, time.monotonic()

    def fail(reason: str, at: int) -> None:
        outcomes["FAULT"] += 1
        if reason not in failures:
            failures[reason] = at
            print(f"input {at}: {reason}", flush=True)
            if keep is not None:
                with tempfile.TemporaryDirectory() as scratch:
                    name, data = draw(seed, at, make_seeds(Path(scratch)))
                keep.mkdir(parents=True, exist_ok=True)
                (keep / f"{at}-{name}").write_bytes(data)

    def going_on() -> bool:
        return time.monotonic() - started < seconds and number < inputs

    while going_on():
        with tempfile.TemporaryDirectory() as folder, tempfile.TemporaryFile() as said:
            command = [sys.executable, __file__, "--worker", str(number), "--seed", str(seed), "--folder", folder]
            worker = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=said, bufsize=0)  # noqa: S603
            kind, busy = "", False
            while number < inputs and (busy or going_on()):
                # the first lines come after the imports
                if not select.select([worker.stdout], [], [], SECONDS if busy else 120)[0]:
                    fail(f"{kind} takes longer than {SECONDS} s" if busy else "the worker does not start", number)
                    break
                line = worker.stdout.readline().decode(errors="replace")
                if not line:
                    said.seek(0)
                    fail(
                        f"the process ended with {worker.wait()}: {said.read()[-300:].decode(errors='replace')}", number
                    )
                    break
                if line.startswith("="):
                    outcome, busy = line[2:].strip(), False
                    if outcome.startswith("FAULT"):
                        fail(outcome, number)
                    else:
                        outcomes[outcome] += 1
                    number += 1
                else:
                    _, kind = line.split()
                    kinds[kind] += 1
                    busy = True
            else:
                busy = False
            worker.kill()
            worker.wait()
            number += busy
    print(f"{number} inputs in {time.monotonic() - started:.0f} s, seed {seed}: {dict(outcomes)}")
    print(f"by seed file: {dict(sorted(kinds.items()))}")
    print(f"{len(failures)} distinct failures")
    return len(failures)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.split("\n", 1)[0])
    parser.add_argument("--seconds", type=float, default=600)
    parser.add_argument("--inputs", type=int, default=sys.maxsize, help="stop after so many")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--keep", type=Path, help="folder for the files that failed")
    parser.add_argument("--worker", type=int, help=argparse.SUPPRESS)
    parser.add_argument("--folder", type=Path, help=argparse.SUPPRESS)
    chosen = parser.parse_args()
    if chosen.worker is not None:
        work(chosen.seed, chosen.worker, chosen.folder)
    return 1 if supervise(chosen.seconds, chosen.inputs, chosen.seed, chosen.keep) else 0


if __name__ == "__main__":
    sys.exit(main())
