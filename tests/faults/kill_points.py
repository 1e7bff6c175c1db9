"""Kills a run at every point where it touches the disk: ``python kill_points.py FOLDER TARGET SETTINGS [EVERY]``.

A point is an open, a rename, a removal, a folder made or removed, an fsync inside FOLDER, and each frame. For point
after point a fork of this process runs until there and kills itself; another one resumes, and must leave what a run
without a stop leaves, to the byte, and nothing else. Prints one JSON line: points, phases, equal, different. Linux.
"""

import json
import os
import shutil
import signal
import sys
from collections import Counter
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

import torch

from comfy_fusionfft import files
from comfy_fusionfft.host import PlainHost
from comfy_fusionfft.video import segments, write_images

segments.SEGMENT_FRAMES = write_images.IMAGES_PER_PIECE = 8
_EVENTS = {"open", "os.rename", "os.remove", "os.mkdir", "os.rmdir", "os.link", "os.truncate", "shutil.rmtree"}


class Points:
    """Counts points, and dies at number ``last``."""

    def __init__(self, folder: Path, last: int | None) -> None:
        self._folder, self._last = str(folder), last
        self.count, self.phase = 0, "begin"
        self.phases: Counter[str] = Counter()
        sys.addaudithook(self._event)
        self._fsync = os.fsync
        os.fsync = self._synced

    def passed(self) -> None:
        self.count += 1
        self.phases[self.phase] += 1
        if self.count == self._last:
            os.kill(os.getpid(), signal.SIGKILL)

    def _event(self, name: str, arguments: tuple) -> None:
        if name in _EVENTS and str(arguments[0]).startswith(self._folder):
            self.passed()

    def _synced(self, number: int) -> None:
        self._fsync(number)
        self.passed()


def run(source: Path, target: Path, settings: dict, last: int | None) -> Counter:
    points = Points(target.parent, last)

    def phase(name: str, of: object, attribute: str) -> None:
        whole = getattr(of, attribute)

        def entered(*arguments, **options):
            points.phase = name
            return whole(*arguments, **options)

        setattr(of, attribute, entered)

    import comfy_fusionfft.video.mux as mux
    from comfy_fusionfft.video.write import _Target

    phase("survey", files, "look_through")
    phase("frames", files, "prepare")
    phase("join", mux, "joined")
    phase("publish", _Target, "publish")
    host = PlainHost("cpu", "float32", on_progress=lambda done, total: points.passed())
    files.interpolate_file(source, target, host=host, overwrite=True, **settings)
    return points.phases


def forked(*arguments) -> int:
    """-> how it ended; the phases that it came through go into a file."""
    child = os.fork()
    if child == 0:
        status = 1
        try:
            phases = run(*arguments)
            (arguments[1].parent.parent / "phases").write_text(json.dumps(phases))
            status = 0
        finally:
            os._exit(status)
    return os.waitpid(child, 0)[1]


def content(path: Path) -> dict[str, bytes]:
    return {str(file.relative_to(path)): file.read_bytes() for file in sorted(path.rglob("*")) if file.is_file()}


def main(folder: Path, name: str, settings: dict, every: int) -> dict:
    torch.set_num_threads(1)
    source, whole, place = folder / "in.mkv", folder / "whole", folder / "place"
    whole.mkdir()
    if forked(source, whole / name, settings, None):
        raise SystemExit("the run without a stop failed")
    expected, phases = content(whole), json.loads((folder / "phases").read_text())
    killed = equal = 0
    different = []
    for point in range(1, sum(phases.values()) + 1, every):
        place.mkdir()
        if forked(source, place / name, settings, point) != signal.SIGKILL:
            different.append((point, "was not killed"))
        killed += 1
        ended = forked(source, place / name, settings, None)
        same = ended == 0 and content(place) == expected
        equal += same
        if not same:
            different.append((point, ended, sorted(content(place))))
        shutil.rmtree(place)
    return {"points": killed, "phases": phases, "equal": equal, "different": different}


if __name__ == "__main__":
    folder, name, settings, *every = sys.argv[1:]
    print(json.dumps(main(Path(folder), name, json.loads(settings), int(*every or [1]))))
