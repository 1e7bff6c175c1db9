"""Unfinished work beside a target, so that a run that was cut short goes on where it stopped.

``.<name>.<key8>.work/`` holds what is being written, ``journal`` (one JSON object a line: who made this, what was
settled at the first frame, each finished piece, the caller's notes) and ``lock``, held while a process works.
A *piece* is one segment of video or a run of images. It is entered in the journal when it is complete, with size
and CRC-32, and counts again later only if its files still have both: what a crash tore is found by that, and
writing needs few fsyncs. Journal lines after a torn one, and pieces after a damaged one, do not count.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import secrets
import shutil
import zlib
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from fractions import Fraction
from pathlib import Path
from typing import Any

from ..contract import Frame, Position
from ..errors import MediaError
from .explain import explained
from .lock import Lock

_FORMAT = 1


@dataclass(frozen=True, slots=True)
class Last:
    """The last frame that is safe. step: seconds since the frame before it, None when it is the first."""

    position: Position | None
    seconds: Fraction
    step: Fraction | None


@dataclass(frozen=True, slots=True)
class Piece:
    """frames: how many it holds. begins: seconds of the first. files: ``pattern.format(number)`` for ``count``
    numbers from ``first`` on. size, checksum: of all its files, in order. facts: what its writer wants to know."""

    frames: int
    begins: Fraction
    last: Last
    pattern: str
    first: int
    count: int
    size: int
    checksum: int
    facts: dict[str, Any] = field(default_factory=dict)

    def files(self, folder: Path) -> Iterator[Path]:
        return (folder / self.pattern.format(number) for number in range(self.first, self.first + self.count))

    def is_whole(self, folder: Path) -> bool:
        try:
            if sum(path.stat().st_size for path in self.files(folder)) != self.size:
                return False
            checksum = 0
            for path in self.files(folder):
                with path.open("rb") as file:
                    while data := file.read(1 << 20):
                        checksum = zlib.crc32(data, checksum)
        except OSError:
            return False
        return checksum == self.checksum

    def to_json(self) -> dict[str, Any]:
        entry = {name: getattr(self, name) for name in self.__slots__}
        times = (self.begins, self.last.seconds, self.last.position, self.last.step)
        begins, *last = (None if time is None else str(time) for time in times)
        return {**entry, "begins": begins, "last": last}

    @classmethod
    def from_json(cls, entry: dict[str, Any]) -> Piece:
        seconds, position, step = (None if time is None else Fraction(time) for time in entry["last"])
        return cls(**{**entry, "begins": Fraction(entry["begins"]), "last": Last(position, seconds, step)})


class Span:
    """Counts the frames of a piece in the making and remembers the times of its ends."""

    def __init__(self, before: Last | None) -> None:
        self.frames = 0
        self.last = before

    def add(self, frame: Frame) -> None:
        if self.frames == 0:
            self.begins = frame.seconds
        step = None if self.last is None else frame.seconds - self.last.seconds
        self.last = Last(frame.position, frame.seconds, step)
        self.frames += 1


class Work:
    """Made by ``open_work``, or by ``private_work`` for a run that nobody will resume. ``write_clip`` closes it.

    done: output frames that are safe; the next run begins with the frame of this number. last: the last of them.
    keep: finished pieces stay when a run fails or is stopped.
    plan: what the writer settled at the first frame, None before.
    """

    def __init__(self, target: Path, folder: Path, key: str | None, keep: bool) -> None:
        self.folder = folder
        self.keep = keep
        self.plan: dict[str, Any] | None = None
        self.pieces: list[Piece] = []
        self.done = 0
        self.notes: dict[str, str] = {}
        self._files = 0
        self._target = target
        self._key = key
        with explained(target):
            self._take(folder)

    def _take(self, folder: Path) -> None:
        target, key = self._target, self._key
        self._lock = Lock(folder, target)
        try:
            if key is not None:
                _refuse_company(target, folder)
                self._read()
                self._clean()
                self._rewrite()
        except BaseException:
            _let_go(self._lock, folder, remove=not any(entry.name != "lock" for entry in folder.iterdir()))
            raise

    @property
    def last(self) -> Last | None:
        return self.pieces[-1].last if self.pieces else None

    def remember(self, name: str, text: str) -> None:
        """Keep ``text`` for the run that resumes this one."""
        self.notes[name] = text
        self._append({"note": [name, text]})

    def recall(self, name: str) -> str | None:
        return self.notes.get(name)

    def begin(self, plan: dict[str, Any]) -> None:
        self.plan = plan
        self._append({"plan": plan})

    def add(self, piece: Piece) -> None:
        """``piece``'s files are complete: it is safe from here on."""
        self._accept(piece)
        self._append({"piece": piece.to_json()})

    def commit(self, part: Path, whole: Path) -> None:
        """Give the complete file ``part`` its name, on the disk and not just in its cache."""
        if self._key is not None:
            with part.open("r+b") as file:
                os.fsync(file.fileno())
        part.replace(whole)

    def __enter__(self) -> Work:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> bool:
        """Let go of the folder -> whether finished pieces stay in it; without any it is removed."""
        stays = self.keep and self.done > 0
        if self._lock.held:
            _let_go(self._lock, self.folder, remove=not stays)
        return stays

    def discard(self) -> None:
        """The target is finished: remove the folder, and those that dead runs for this target left."""
        self.keep = False
        self.close()
        for folder in _siblings(self._target):
            with suppress(MediaError, OSError):
                _let_go(Lock(folder, self._target), folder, remove=True)

    @property
    def _journal(self) -> Path:
        return self.folder / "journal"

    def _header(self) -> dict[str, Any]:
        import av

        # Packets of one encoder build do not go with the headers of another.
        return {"work": _FORMAT, "key": self._key, "made_with": [av.__version__, str(av.library_versions)]}

    def _read(self) -> None:
        try:
            lines = self._journal.read_bytes().splitlines(keepends=True)
        except OSError:
            return
        with suppress(ValueError, KeyError, TypeError, AttributeError, OverflowError):
            if not lines or json.loads(lines[0]) != json.loads(json.dumps(self._header())):
                return
            for line in lines[1:]:
                if not line.endswith(b"\n"):
                    return
                ((kind, entry),) = json.loads(line).items()
                if kind == "note":
                    self.notes[entry[0]] = entry[1]
                elif kind == "plan":
                    self.plan = entry
                elif kind == "piece":
                    piece = Piece.from_json(entry)
                    if piece.first != self._files or not piece.is_whole(self.folder):
                        return
                    self._accept(piece)

    def _accept(self, piece: Piece) -> None:
        self.pieces.append(piece)
        self.done += piece.frames
        self._files += piece.count

    def _clean(self) -> None:
        """Remove what no piece accounts for."""
        if not self.pieces:
            self.plan = None
        known = {path for piece in self.pieces for path in piece.files(self.folder)}
        for path in list(self.folder.rglob("*")):
            if path.is_file() and path not in known and path.name != "lock":
                path.unlink()

    def _rewrite(self) -> None:
        entries = [self._header(), *({"note": [name, text]} for name, text in self.notes.items())]
        entries += [{"plan": self.plan}] if self.plan else []
        entries += [{"piece": piece.to_json()} for piece in self.pieces]
        fresh = self.folder / "journal.new"
        fresh.write_text("".join(json.dumps(entry) + "\n" for entry in entries), encoding="utf-8")
        self.commit(fresh, self._journal)

    def _append(self, entry: dict[str, Any]) -> None:
        if self._key is None:
            return
        with explained(self._target), self._journal.open("a", encoding="utf-8") as file:
            file.write(json.dumps(entry) + "\n")
            file.flush()
            os.fsync(file.fileno())


def open_work(target: str | Path, key: str, *, keep: bool = True) -> Work:
    """The work for ``target`` that an earlier run with the same ``key`` left, or an empty one.

    key: a fingerprint of everything that the output's bytes depend on (source, settings, versions); any text.
    keep: whether pieces that are finished stay when this run fails or is stopped.

    What was left is checked first, which reads all of it once. Work of other keys is left alone until the target
    is finished. Raises MediaError while another run writes to ``target``.
    """
    target = Path(target)
    return Work(target, _folder(target, hashlib.sha256(key.encode()).hexdigest()[:8]), key, keep)


def private_work(target: Path) -> Work:
    """For a run that cannot be resumed: no journal, no fsync, and nothing stays."""
    return Work(target, _folder(target, secrets.token_hex(4)), None, keep=False)


def _folder(target: Path, tag: str) -> Path:
    return target.with_name(f".{target.name}.{tag}.work")


def _siblings(target: Path) -> list[Path]:
    ours = re.compile(rf"\.{re.escape(target.name)}\.[0-9a-f]{{8}}\.work")
    return [entry for entry in target.parent.iterdir() if ours.fullmatch(entry.name) and entry.is_dir()]


def _refuse_company(target: Path, own: Path) -> None:
    """Raise when another process writes to the target. Both take their lock first, so two cannot miss each other."""
    for folder in _siblings(target):
        if folder != own:
            with suppress(FileNotFoundError):
                Lock(folder, target, make=False).release()


def _let_go(lock: Lock, folder: Path, remove: bool) -> None:
    if remove:
        for entry in folder.iterdir():
            if entry.is_dir():
                shutil.rmtree(entry, ignore_errors=True)
            elif entry.name != "lock":
                with suppress(OSError):
                    entry.unlink()
    lock.release(remove)
    with suppress(OSError):
        folder.rmdir()  # where nothing else is in it
