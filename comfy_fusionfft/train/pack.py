"""Clips -> packs: short windows of consecutive frames, in H.264 files small enough to carry anywhere.

In: a folder of clips (any container the video reader opens, or image folders). An ``INDEX.tsv`` beside
them, where there is one, tells which frames are free of cuts and duplicates (``usable_segments``), how
fast the clip moves (``median_motion``, pixels per frame) and where it comes from (``source``,
``licence``; ``split`` other than ``train`` is left out). Without it, cuts and duplicates are found by
frame differences.

Out: ``<width>x<height>-<nn>.mp4`` files of at most ``max_mib`` each, one picture size per file, a key
frame at the start of each window, and ``packs.json``, the list of windows. Reading a pack back needs
OpenCV alone: see ``train.data``. ``train.flows`` adds motion targets.
"""

from __future__ import annotations

import csv
import json
import math
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator
from dataclasses import asdict, dataclass
from fractions import Fraction
from itertools import pairwise
from pathlib import Path

import cv2
import numpy as np
import torch
from torch import Tensor

from ..errors import InputError
from ..video import open_clip

INDEX = "packs.json"
FORMAT = 1
FLOW_SHRINK = 4
"""Flows are stored at 1/4 of the picture's width and height, in pixels of the full picture."""

SURVEY_SIDE = 96
MIB = 2**20
_SUFFIXES = {".264", ".avi", ".h264", ".mkv", ".mov", ".mp4", ".mpg", ".ogv", ".webm", ".m4v", ".ts"}
_PICTURES = {".bmp", ".jpeg", ".jpg", ".png", ".tif", ".tiff", ".webp"}

Bidirectional = Callable[[Tensor, Tensor], tuple[Tensor, Tensor]]
"""Two pictures ``(B, 3, H, W)`` in 0..1 -> flows (0→1, 1→0), each ``(B, 2, H, W)`` in pixels."""


@dataclass(frozen=True, slots=True)
class PackedWindow:
    """One run of frames inside a pack file.

    file, first, count: which frames of which file. width, height: picture size.
    clip, start, stride: where they came from: frames ``start``, ``start + stride``, … of ``clip``.
    motion: median motion between neighbouring packed frames, pixels at the packed size.
    """

    file: str
    first: int
    count: int
    width: int
    height: int
    clip: str
    start: int
    stride: int
    fps: float
    motion: float
    source: str = ""
    licence: str = ""


@dataclass(frozen=True, slots=True)
class _Clip:
    """A clip as the index, or our own look at it, describes it. ``segments`` are half-open."""

    path: Path
    segments: tuple[tuple[int, int], ...] | None
    motion: float | None
    source: str
    licence: str


def pack(
    clips_dir: Path,
    out_dir: Path,
    *,
    height: int = 360,
    frames: int = 9,
    windows_per_clip: int = 4,
    max_mib: int = 40,
    crf: int = 14,
    report: Callable[[str], None] = lambda line: None,
) -> list[PackedWindow]:
    """Cut windows from every clip of ``clips_dir`` and write packs into ``out_dir``.

    height: the short side pictures are reduced to (never enlarged), in pixels.
    windows_per_clip: the average; fast clips give up to twice as many, slow ones half.
    Raises InputError when the folder holds no usable clip, or already holds packs.
    """
    if (out_dir / INDEX).exists():
        raise InputError(f"{out_dir} already holds packs; name another folder or remove {out_dir / INDEX}")
    clips = list(find_clips(clips_dir))
    if not clips:
        raise InputError(f"No clips in {clips_dir}; need video files or folders of numbered pictures")
    out_dir.mkdir(parents=True, exist_ok=True)
    files = _Files(out_dir, max_bytes=max_mib * MIB, crf=crf)
    windows: list[PackedWindow] = []
    try:
        for clip in clips:
            made = 0
            for pictures, start, stride, fps in cut(clip, height, frames, windows_per_clip):
                file, first = files.write(pictures)
                rows, columns = pictures[0].shape[:2]
                window = PackedWindow(
                    *(file, first, len(pictures), columns, rows, clip.path.name, start, stride),
                    *(float(fps), round(median_motion(pictures), 3), clip.source, clip.licence),
                )
                windows.append(window)
                made += 1
            report(f"{clip.path.name}: {made} windows")
    finally:
        files.close()
    if not windows:
        raise InputError(f"No clip in {clips_dir} has {frames} frames in a row without a cut; lower --frames")
    _write_index(out_dir, windows)
    return windows


def read_index(packs_dir: Path) -> list[PackedWindow]:
    """The windows of a folder of packs. Raises InputError when there is no index, or a newer format."""
    path = packs_dir / INDEX
    if not path.is_file():
        raise InputError(f"No {INDEX} in {packs_dir}; make packs with: fusionfft pack CLIPS {packs_dir}")
    index = json.loads(path.read_text())
    if index.get("format") != FORMAT:
        raise InputError(f"{path} has format {index.get('format')}, this version reads {FORMAT}; pack the clips again")
    return [PackedWindow(**window) for window in index["windows"]]


def decode(packs_dir: Path, windows: Iterable[PackedWindow]) -> Iterator[tuple[PackedWindow, np.ndarray]]:
    """-> (window, ``(count, H, W, 3)`` uint8 RGB), file by file, with OpenCV alone."""
    by_file = defaultdict(list)
    for window in windows:
        by_file[window.file].append(window)
    for name, members in by_file.items():
        capture = cv2.VideoCapture(str(packs_dir / name))
        at = 0
        for window in sorted(members, key=lambda member: member.first):
            while at < window.first:
                capture.grab()
                at += 1
            stack = np.empty((window.count, window.height, window.width, 3), np.uint8)
            for picture in stack:
                ok, bgr = capture.read()
                if not ok or bgr.shape[:2] != picture.shape[:2]:
                    raise InputError(f"{packs_dir / name} is damaged at frame {at}; pack the clips again")
                cv2.cvtColor(bgr, cv2.COLOR_BGR2RGB, dst=picture)
                at += 1
            yield window, stack
        capture.release()


# --- choosing windows -------------------------------------------------------------------------------


def find_clips(folder: Path) -> Iterator[_Clip]:
    """Clips of a folder by name; the index decides which of them may be trained on."""
    table = {}
    for index in (folder / "INDEX.tsv", folder.parent / "INDEX.tsv"):
        if index.is_file():
            with index.open(newline="") as lines:
                table = {row["name"].rstrip("/"): row for row in csv.DictReader(lines, delimiter="\t")}
            break
    for path in sorted(folder.iterdir()):
        pictures = path.is_dir() and any(file.suffix.lower() in _PICTURES for file in path.iterdir())
        if not pictures and path.suffix.lower() not in _SUFFIXES:
            continue
        row = table.get(path.name)
        if row is None:
            yield _Clip(path, None, None, "", "")
        elif row.get("split", "train") == "train":
            spans = [tuple(map(int, part.split("-"))) for part in row["usable_segments"].split(";") if part]
            segments = tuple((first, last + 1) for first, last in spans)
            motion = float(row["median_motion"]) if row.get("median_motion") else None
            yield _Clip(path, segments, motion, row.get("source", ""), row.get("licence", ""))


def cut(
    clip: _Clip, height: int, frames: int, average: int
) -> Iterator[tuple[list[np.ndarray], int, int, Fraction | float]]:
    """-> (pictures ``(H, W, 3)`` uint8, first frame, stride, frames per second) for each chosen window."""
    opened = open_clip(clip.path)
    segments, motion, native = clip.segments, clip.motion, min(opened.info.width, opened.info.height)
    fps = opened.info.rate or 0
    if segments is None or motion is None:
        segments, motion = survey(_rgb8(frame.pixels) for frame in opened)
        native = SURVEY_SIDE
    motion *= height / native if clip.motion is None else min(height, native) / native
    # A slow clip at its own rate shows the network nothing but standing pictures.
    stride = 2 if motion < 1 else 1
    starts = choose_starts(segments, frames * stride - stride + 1, _share(motion, average))
    wanted = {start + step * stride: start for start in starts for step in range(frames)}
    held: dict[int, list[np.ndarray]] = {start: [] for start in starts}
    for number, frame in enumerate(opened if starts else ()):
        if number in wanted:
            start = wanted[number]
            held[start].append(shrink(_rgb8(frame.pixels), height))
            if len(held[start]) == frames:
                yield held.pop(start), start, stride, fps / stride
        if not held:
            return


def choose_starts(segments: Iterable[tuple[int, int]], length: int, count: int) -> list[int]:
    """First frames of up to ``count`` windows of ``length``, without overlap, spread over the segments."""
    slots = [start for first, end in segments for start in range(first, end - length + 1, length)]
    if len(slots) <= count:
        return slots
    return [slots[int((index + 0.5) * len(slots) / count)] for index in range(count)]


def survey(pictures: Iterable[np.ndarray]) -> tuple[tuple[tuple[int, int], ...], float]:
    """Runs of frames without cut or repeat, and the median motion in pixels of thumbnails ``SURVEY_SIDE`` high.

    A cut is a frame difference far above the clip's usual one; a repeat is one far below.
    """
    thumbs = [shrink(picture, SURVEY_SIDE) for picture in pictures]
    if len(thumbs) < 2:
        return ((0, len(thumbs)),), 0.0
    jumps = np.array([np.abs(a.astype(np.int16) - b).mean() for a, b in pairwise(thumbs)])
    usual = max(float(np.median(jumps)), 0.5)
    breaks = (jumps > max(3 * usual, 15)) | (jumps < min(0.1 * usual, 0.2))
    edges = [0, *(int(at) + 1 for at in np.flatnonzero(breaks)), len(thumbs)]
    segments = tuple((a, b) for a, b in pairwise(edges) if b - a > 2)
    samples = [thumbs[i : i + 2] for i in np.linspace(0, len(thumbs) - 2, 12).astype(int)]
    return segments, float(np.median([median_motion(pair) for pair in samples]))


def median_motion(pictures: list[np.ndarray]) -> float:
    """Median length of the motion between neighbours, in pixels: a quick DIS at a quarter of the size."""
    dis = cv2.DISOpticalFlow_create(cv2.DISOPTICAL_FLOW_PRESET_ULTRAFAST)
    factor = max(1, min(pictures[0].shape[:2]) // 90)
    small = [cv2.cvtColor(shrink(p, min(p.shape[:2]) // factor), cv2.COLOR_RGB2GRAY) for p in pictures]
    lengths = [np.linalg.norm(dis.calc(a, b, None), axis=-1) for a, b in pairwise(small)]
    return float(np.median(np.stack(lengths))) * factor


def shrink(picture: np.ndarray, short_side: int) -> np.ndarray:
    """Area-reduce to ``short_side`` (never enlarge); sides divisible by 4, as the grid of flows needs."""
    rows, columns = picture.shape[:2]
    factor = min(1.0, short_side / min(rows, columns))
    size = tuple(max(4, round(side * factor / 4) * 4) for side in (columns, rows))
    return cv2.resize(picture, size, interpolation=cv2.INTER_AREA)


def _share(motion: float, average: int) -> int:
    """Windows a clip gives: more where it moves, as most clips hardly do."""
    return max(1, min(2 * average, round(average * (0.4 + 0.4 * math.log2(1 + motion)))))


def _rgb8(pixels: Tensor) -> np.ndarray:
    if pixels.dtype == torch.uint16:
        pixels = (pixels.to(torch.int32) + 128).div(257, rounding_mode="floor").to(torch.uint8)
    elif pixels.is_floating_point():
        pixels = (pixels * 255).round().clamp(0, 255).to(torch.uint8)
    return pixels[..., :3].expand(-1, -1, 3).contiguous().numpy()


# --- writing ----------------------------------------------------------------------------------------


class _Files:
    """Open H.264 files, one per picture size; a new one begins before the limit is reached."""

    def __init__(self, folder: Path, *, max_bytes: int, crf: int):
        self._folder, self._max_bytes, self._crf = folder, max_bytes, crf
        self._open: dict[tuple[int, int], _File] = {}
        self._count: dict[tuple[int, int], int] = defaultdict(int)

    def write(self, pictures: list[np.ndarray]) -> tuple[str, int]:
        """Append one window -> (file name, number of its first frame)."""
        size = pictures[0].shape[1], pictures[0].shape[0]
        file = self._open.get(size)
        # What the encoder still holds back counts as raw 4:2:0, half of RGB.
        raw = pictures[0].nbytes // 2
        if file is not None and file.bytes + (file.held + len(pictures)) * raw + MIB // 4 > self._max_bytes:
            file.close()
            file = None
        if file is None:
            name = f"{size[0]}x{size[1]}-{self._count[size]:02d}.mp4"
            self._count[size] += 1
            file = self._open[size] = _File(self._folder / name, size, self._crf)
        return file.path.name, file.append(pictures)

    def close(self) -> None:
        for file in self._open.values():
            file.close()


class _File:
    def __init__(self, path: Path, size: tuple[int, int], crf: int):
        import av

        self.path, self.bytes, self.held, self._frames = path, 0, 0, 0
        self._container = av.open(str(path), "w")
        self._stream = self._container.add_stream("libx264", rate=25)
        self._stream.width, self._stream.height = size
        self._stream.pix_fmt = "yuv420p"
        # Key frames where windows begin and nowhere else.
        quality = {"crf": str(crf), "preset": "fast", "bf": "0", "rc-lookahead": "10"}
        self._stream.options = quality | {"g": "1000", "sc_threshold": "0"}
        self._stream.thread_count = 1

    def append(self, pictures: list[np.ndarray]) -> int:
        import av
        from av.video.frame import PictureType

        first = self._frames
        for picture in pictures:
            frame = av.VideoFrame.from_ndarray(picture, format="rgb24")
            frame.pts = self._frames
            frame.pict_type = PictureType.I if self._frames == first else PictureType.NONE
            self._frames += 1
            self.held += 1
            self._mux(self._stream.encode(frame))
        return first

    def _mux(self, packets: list) -> None:
        for packet in packets:
            self.bytes += packet.size
            self.held -= packet.size > 0
            self._container.mux(packet)

    def close(self) -> None:
        if self._container is not None:
            self._mux(self._stream.encode(None))
            self._container.close()
            self._container = None


def _write_index(folder: Path, windows: list[PackedWindow]) -> None:
    text = json.dumps({"format": FORMAT, "windows": [asdict(window) for window in windows]}, indent=1)
    (folder / INDEX).write_text(text)
