"""Clips -> packs: short windows of consecutive frames, in H.264 files small enough to carry anywhere.

In: a folder of clips, see ``train.survey``. Every frame is looked at once for cuts, repeats and motion; then windows
are chosen (``train.choose``), and cut out in a second pass.

Out: ``<width>x<height>-<nn>.mp4`` files of at most ``max_mib`` each, one picture size per file, a key
frame at the start of each window, and ``packs.json``, the list of windows. Reading a pack back needs
OpenCV alone: see ``train.data``. ``train.flows`` adds motion targets.
"""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator
from dataclasses import asdict, dataclass
from itertools import pairwise
from pathlib import Path

import cv2
import numpy as np
from torch import Tensor

from ..errors import InputError
from ..video import open_clip
from .choose import Slot, choose, find_slots
from .survey import Clip, Look, find_clips, look, pictures_of, shrink

INDEX = "packs.json"
FORMAT = 2
"""1 had no ``motion_90`` and ``motion_99``, and is read as well."""
FLOW_SHRINK = 4
"""Flows are stored at 1/4 of the picture's width and height, in pixels of the full picture."""

MIB = 2**20

Bidirectional = Callable[[Tensor, Tensor], tuple[Tensor, Tensor]]
"""Two pictures ``(B, 3, H, W)`` in 0..1 -> flows (0→1, 1→0), each ``(B, 2, H, W)`` in pixels."""


@dataclass(frozen=True, slots=True)
class PackedWindow:
    """One run of frames inside a pack file.

    file, first, count: which frames of which file. width, height: picture size.
    clip, start, stride: where they came from: frames ``start``, ``start + stride``, … of ``clip``, not counting
        repeats that only fill up its frame rate.
    motion, motion_90, motion_99: percentiles 50, 90, 99 of the length of the motion between neighbouring packed
        frames, pixels at the packed size; the latter two None in packs of format 1.
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
    motion_90: float | None = None
    motion_99: float | None = None


def pack(
    clips_dir: Path,
    out_dir: Path,
    *,
    height: int = 360,
    frames: int = 9,
    windows_per_clip: int = 4,
    max_mib: int = 40,
    crf: int = 14,
    exclude: Path | None = None,
    report: Callable[[str], None] = lambda line: None,
) -> list[PackedWindow]:
    """Cut windows from every clip of ``clips_dir`` and write packs into ``out_dir``.

    height: the short side pictures are reduced to (never enlarged), in pixels.
    windows_per_clip: the average; a clip with motion that is rare in the others gives up to twice as many.
    max_mib: largest size of a file; 60 or less, as files above that are a burden to keep and carry.
    exclude: a folder of clips none of which may be shown, under whatever name: those a network is measured on.
    Raises InputError when a folder holds no usable clip, or ``out_dir`` already packs.
    """
    if (out_dir / INDEX).exists():
        raise InputError(f"{out_dir} already holds packs; name another folder or remove {out_dir / INDEX}")
    looks = _survey(find_clips(clips_dir), clips_dir, report)
    kept_out = {}
    if exclude:
        others = _survey(find_clips(exclude, every_split=True), exclude, report)
        kept_out = {clip.path.name: view.prints for clip, view in others.items()}
    slots = find_slots(looks, kept_out, frames, height, report)
    if not slots:
        and_new = f" that {exclude} does not show" if exclude else ""
        raise InputError(f"No clip in {clips_dir} has {frames} frames in a row without a cut{and_new}; lower --frames")
    chosen: dict[str, list[Slot]] = defaultdict(list)
    for slot in choose(slots, windows_per_clip):
        chosen[slot.clip].append(slot)
    out_dir.mkdir(parents=True, exist_ok=True)
    files = _Files(out_dir, max_bytes=max_mib * MIB, crf=crf)
    windows: list[PackedWindow] = []
    try:
        for clip in (clip for clip in looks if clip.path.name in chosen):
            rate = float(open_clip(clip.path).info.rate or 0) * looks[clip].pace
            for pictures, slot in cut(clip.path, chosen[clip.path.name], height):
                file, first = files.write(pictures)
                rows, columns = pictures[0].shape[:2]
                motion, most, nearly_all = motion_percentiles(pictures)
                windows.append(
                    PackedWindow(
                        *(file, first, len(pictures), columns, rows, slot.clip, slot.frames[0], slot.stride),
                        *(rate / slot.stride, motion, clip.source, clip.licence, most, nearly_all),
                    )
                )
            report(f"{clip.path.name}: {len(chosen[clip.path.name])} windows")
    finally:
        files.close()
    _write_index(out_dir, windows)
    return windows


def read_index(packs_dir: Path) -> list[PackedWindow]:
    """The windows of a folder of packs. Raises InputError when there is no index, or a newer format."""
    path = packs_dir / INDEX
    if not path.is_file():
        raise InputError(f"No {INDEX} in {packs_dir}; make packs with: fusionfft pack CLIPS {packs_dir}")
    index = json.loads(path.read_text())
    if index.get("format") not in range(1, FORMAT + 1):
        raise InputError(
            f"{path} has format {index.get('format')}, this version reads 1 to {FORMAT}; pack the clips again"
        )
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


def cut(path: Path, slots: Iterable[Slot], height: int) -> Iterator[tuple[list[np.ndarray], Slot]]:
    """-> (pictures ``(H, W, 3)`` uint8, slot) for each of the clip's ``slots``, which must not overlap."""
    wanted = {number: slot for slot in slots for number in slot.frames}
    held: dict[Slot, list[np.ndarray]] = defaultdict(list)
    for number, picture in enumerate(pictures_of(path)):
        slot = wanted.pop(number, None)
        if slot is not None:
            held[slot].append(shrink(picture, height))
            if number == slot.frames[-1]:
                yield held.pop(slot), slot
        if not wanted:
            return


def motion_percentiles(pictures: list[np.ndarray]) -> tuple[float, float, float]:
    """Percentiles 50, 90, 99 of the length of the motion between neighbours, pixels: DIS at half the size."""
    dis = cv2.DISOpticalFlow_create(cv2.DISOPTICAL_FLOW_PRESET_MEDIUM)
    factor = max(1, min(pictures[0].shape[:2]) // 180)
    small = [cv2.cvtColor(shrink(p, min(p.shape[:2]) // factor), cv2.COLOR_RGB2GRAY) for p in pictures]
    lengths = [np.linalg.norm(dis.calc(a, b, None), axis=-1) for a, b in pairwise(small)]
    return tuple(round(float(value) * factor, 3) for value in np.percentile(np.stack(lengths), (50, 90, 99)))


def _survey(clips: Iterable[Clip], folder: Path, report: Callable[[str], None]) -> dict[Clip, Look]:
    """A look at all ``clips`` of ``folder``."""
    looks = {}
    for clip in clips:
        looks[clip] = look(pictures_of(clip.path))
        report(f"looked at {clip.path.name}: {len(looks[clip].numbers)} frames")
    if not looks:
        raise InputError(f"No clips in {folder}; need video files or folders of numbered pictures")
    return looks


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
        # What the encoder still holds back counts as raw.
        raw = pictures[0].nbytes
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
        self._stream.pix_fmt = "yuv444p"  # a shrunk picture has colour as fine as its brightness
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
