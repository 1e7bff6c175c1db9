"""Benchmark pictures: sets of scenes with the frames to keep and the frames to make, and figures of others.

A folder holds the sets that are there, each under its folder name below:

- ``middlebury_other/<scene>/{frame10,frame10i11,frame11}.png``;
- ``xtest_small/<scene>/{00,04,…,32}.png``: X-TEST (1000 fps) at 512×270, every 4th frame;
- ``middlebury_basketball8/{frame07,…,frame14}.png``;
- ``sepconv_db_triplets/<scene>/{frame0,frame1,frame2}.png``;
- ``vimeo_triplet/``: Vimeo-90K as it is handed out, of which the scenes in ``tri_testlist.txt`` count.

A protocol lists the pictures of a scene in order; every ``drop``-th is kept, the others are made. Where more than
two are kept, methods that look beyond the pair get all of them. Pictures are never resized.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from ..contract import Frame
from ..errors import InputError
from ..video import open_clip
from .intervals import Interval, Source, plan, reduced
from .report import Reference


@dataclass(frozen=True, slots=True)
class Protocol:
    """pictures: of a scene, in order, without suffix. drop: keep the first and every ``drop``-th after it.

    size: width and height for which ``figures`` hold, None: any. figures: mean PSNR in dB by others on the same
    frames and instants, over ``scenes`` scenes. teacher_levels: pyramid levels the teacher has in ``figures``.
    listed: file in the folder that names the scenes, below ``sequences``; None: every folder in it is one.
    """

    name: str
    folder: str
    title: str
    pictures: tuple[str, ...]
    drop: int
    figures: tuple[tuple[str, float], ...] = ()
    scenes: int = 0
    size: tuple[int, int] | None = None
    teacher_levels: int | None = None
    listed: str | None = None


def _frames(first: int, last: int, step: int) -> tuple[str, ...]:
    return tuple(f"{k:02d}" for k in range(first, last + 1, step))


_AVERAGING, _EBME, _FLDR = "frame averaging", "EBME flow ({} levels), average splatting", "fLDRnet"

PROTOCOLS = (
    Protocol(
        "middlebury",
        "middlebury_other",
        "Middlebury other, frame10, frame11 -> frame10i11, two frames known",
        ("frame10", "frame10i11", "frame11"),
        2,
        # The averaging quoted with these is 27.19, but averaging these very pictures gives 28.02: left out.
        ((_EBME.format(3), 35.14), (_FLDR, 33.87)),
        scenes=12,
        teacher_levels=3,
    ),
    Protocol(
        "xtest-32",
        "xtest_small",
        "X-TEST 512x270, 00, 32 -> 16, two frames known",
        _frames(0, 32, 16),
        2,
        ((_AVERAGING, 22.23), (_EBME.format(5), 31.92), (_FLDR, 31.12)),
        scenes=15,
        size=(512, 270),
        teacher_levels=5,
    ),
    Protocol(
        "xtest-32-x8",
        "xtest_small",
        "X-TEST 512x270, 00, 32 -> 04, 08, ... 28, two frames known",
        _frames(0, 32, 4),
        8,
        teacher_levels=5,
    ),
    Protocol(
        "xtest-8",
        "xtest_small",
        "X-TEST 512x270, 00, 08 -> 04, two frames known",
        _frames(0, 8, 4),
        2,
        ((_AVERAGING, 28.54), (_EBME.format(5), 38.49), (_FLDR, 37.56)),
        scenes=15,
        size=(512, 270),
        teacher_levels=5,
    ),
    Protocol(
        "xtest-16-multi",
        "xtest_small",
        "X-TEST 512x270, 00, 16, 32 -> 08, 24, three frames known",
        _frames(0, 32, 8),
        2,
        teacher_levels=5,
    ),
    Protocol(
        "xtest-8-multi",
        "xtest_small",
        "X-TEST 512x270, 00, 08, 16, 24, 32 -> 04, 12, 20, 28, five frames known",
        _frames(0, 32, 4),
        2,
        teacher_levels=5,
    ),
    Protocol(
        "basketball",
        "middlebury_basketball8",
        "Middlebury basketball, 07, 09, 11, 13 -> 08, 10, 12, four frames known",
        tuple(f"frame{k:02d}" for k in range(7, 14)),
        2,
    ),
    Protocol(
        "sepconv",
        "sepconv_db_triplets",
        "sepconv triplets 150x150, frame0, frame2 -> frame1, two frames known",
        ("frame0", "frame1", "frame2"),
        2,
    ),
    Protocol(
        "vimeo",
        "vimeo_triplet",
        "Vimeo-90K test triplets 448x256, im1, im3 -> im2, two frames known",
        ("im1", "im2", "im3"),
        2,
        (("WaveletVFI", 35.58),),
        scenes=3782,
        size=(448, 256),
        listed="tri_testlist.txt",
    ),
)


def find_benchmarks(folder: Path) -> tuple[list[Source], list[Reference], dict[str, str]]:
    """The scenes of all protocols whose sets lie in ``folder``, references for them, and protocol name -> title.

    Raises InputError when there are none.
    """
    sources: list[Source] = []
    references: list[Reference] = []
    titles: dict[str, str] = {}
    for protocol in PROTOCOLS:
        scenes = _scenes(folder / protocol.folder, protocol)
        if not scenes:
            continue
        sources += [_source(scene, protocol) for scene in scenes]
        titles[protocol.name] = protocol.title
        if protocol.size in (None, _size(scenes[0] / f"{protocol.pictures[0]}.png")):
            references += [
                Reference(protocol.name, method, figure, protocol.scenes, len(scenes))
                for method, figure in protocol.figures
            ]
    if not sources:
        wanted = ", ".join(sorted({protocol.folder for protocol in PROTOCOLS}))
        raise InputError(f"{folder} holds no benchmark pictures: give a folder with at least one of {wanted}")
    return sources, references, titles


def _scenes(folder: Path, protocol: Protocol) -> list[Path]:
    """Folders that hold all pictures of the protocol: ``folder`` itself, those in it, or those that it lists."""
    if not folder.is_dir():
        return []
    if protocol.listed is None:
        places = [folder, *sorted(p for p in folder.iterdir() if p.is_dir())]
    elif (folder / protocol.listed).is_file():
        lines = (folder / protocol.listed).read_text(encoding="utf-8").split()
        places = [folder / "sequences" / line for line in lines]
    else:
        raise InputError(f"{folder} has no {protocol.listed}, which says what is tested: unpack all of the set")
    return [p for p in places if all((p / f"{name}.png").is_file() for name in protocol.pictures)]


def _source(scene: Path, protocol: Protocol) -> Source:
    def stream() -> Iterator[Interval]:
        names = dict(enumerate(protocol.pictures))
        for interval in plan([(0, len(names) - 1)], protocol.drop, 0):
            needed = sorted({*interval.kept, *interval.wanted})
            interval.frames.update({n: _picture(scene / f"{names[n]}.png") for n in needed})
            interval.names, interval.teacher_levels = names, protocol.teacher_levels
            yield interval
            interval.frames.clear()

    name = f"{scene.parent.name}-{scene.name}" if protocol.listed else scene.name
    return Source(protocol.name, name, protocol.name, stream)


def _picture(path: Path) -> np.ndarray:
    frame: Frame = next(iter(open_clip(path)))
    return reduced(frame, max(frame.pixels.shape))


def _size(path: Path) -> tuple[int, int]:
    info = open_clip(path).info
    return info.width, info.height
