"""What restorers are measured on: sets of small pictures and sharp large ones, as they lie on disk.

A folder holds the sets that are there; below, SET stands for the folder itself or for one of the named ones in it.

- REDS4, in SET = ``REDS``, ``REDS4``, ``train`` or ``val``, or ``train`` or ``val`` in ``REDS``: the clips 000, 011,
  015 and 020 of the training part, sharp in ``train_sharp``, ``val_sharp``, ``sharp`` or ``GT``. A validation part
  counts only where it holds nothing but these four: the official one has other clips of the same numbers. Two sets:

  - ``reds4``, deblurring too: blurred and small in ``train_blur_bicubic``, ``val_blur_bicubic`` or ``blur_bicubic``, in
    the folder ``X4`` of it if there is one: ``train_sharp/000/00000000.png`` and
    ``train_blur_bicubic/X4/000/00000000.png``;
  - ``reds4-sharp``, enlarging alone: the same with ``sharp_bicubic`` for ``blur_bicubic``. They are made here of the
    sharp ones where there are neither.

- ``gopro``, in SET = ``GOPRO_Large``, ``GOPRO`` or ``GoPro``: ``test/<sequence>/blur/000001.png`` and ``…/sharp/…``.
  The blurred pictures are as large as the sharp ones, and are made small here.
- ``vid4``, in SET = ``Vid4``, ``VID4`` or ``vid4``: ``GT`` or ``HR`` with the clips calendar, city, foliage and walk,
  small in ``BDx4`` or ``BD``, made here where there is neither.

How small pictures are made: ``restoration_pairs``, bicubic for all but Vid4.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from ..errors import InputError
from ..train.restoration_blur import SCALE
from .restoration_pairs import PairSource, bicubic, folder_pairs, sampled
from .restoration_report import Published
from .restoration_scoring import JOINT, LUMA, SHARP, Scoring

REDS4 = ("000", "011", "015", "020")
VID4 = ("calendar", "city", "foliage", "walk")


@dataclass(frozen=True, slots=True)
class RestorationSet:
    """find: folder of sets and frames wanted per clip (0: all) -> its clips, none if it is not there."""

    name: str
    title: str
    scoring: Scoring
    find: Callable[[Path, int], list[PairSource]]
    published: tuple[Published, ...] = ()


def find_sets(
    folder: Path, frames: int = 0, only: Sequence[str] = ()
) -> tuple[list[PairSource], list[Published], dict[str, str]]:
    """The clips of all sets in ``folder``, what others published on them, and set name -> title.

    frames: scored ones of each clip, from its middle; 0: all. only: names of sets, others are passed over.
    Raises InputError when there is no set.
    """
    names = [each.name for each in SETS]
    if unknown := [name for name in only if name not in names]:
        raise InputError(f"set {unknown[0]!r} is not known: use {', '.join(names)}")
    found = [(each, each.find(folder, frames)) for each in SETS if each.name in (only or names)]
    found = [(each, sources) for each, sources in found if sources]
    if not found:
        raise InputError(
            f"{folder} holds no set{' called ' + ' or '.join(only) if only else ''}: give one with train_sharp and "
            "train_blur_bicubic/X4 (reds4) or train_sharp_bicubic/X4 (reds4-sharp), test/<sequence>/blur and sharp "
            "(gopro), or GT/calendar … GT/walk and BDx4 (vid4)"
        )
    sources = [source for _, sources in found for source in sources]
    published = [figures for each, _ in found for figures in each.published]
    return sources, published, {each.name: each.title for each, _ in found}


def _reds4(root: Path, frames: int) -> list[PairSource]:
    for sharp, blurred, _ in _reds_folders(root):
        if chosen := [] if blurred is None else _reds4_clips(sharp, blurred):
            return [PairSource("reds4", n, folder_pairs(blurred / n, sharp / n, frames, JOINT), JOINT) for n in chosen]
    return []


def _reds4_sharp(root: Path, frames: int) -> list[PairSource]:
    for sharp, blurred, small in _reds_folders(root):
        if small is None and blurred is not None:
            continue
        low, make = (sharp, bicubic) if small is None else (small, None)
        if chosen := _reds4_clips(sharp, low):
            pairs = {n: folder_pairs(low / n, sharp / n, frames, SHARP, make) for n in chosen}
            return [PairSource("reds4-sharp", n, stream, SHARP) for n, stream in pairs.items()]
    return []


def _reds_folders(root: Path) -> list[tuple[Path, Path | None, Path | None]]:
    """Wherever there are sharp pictures: their folder, that of blurred and that of sharp small ones."""
    named = [root / name for name in ("REDS", "REDS4", "train", "val", "REDS/train", "REDS/val")]
    found = []
    for base in (root, *named):
        for part in ("train_", "val_", ""):
            sharp = _first(base / f"{part}sharp", *([base / "GT"] if not part else []))
            if sharp is not None:
                lows = (base / f"{part}{kind}_bicubic" for kind in ("blur", "sharp"))
                found.append((sharp, *(_first(low / f"X{SCALE}", low) for low in lows)))
    return found


def _reds4_clips(sharp: Path, low: Path) -> list[str]:
    here = _folders(sharp) & _folders(low)
    if (sharp.name == "val_sharp" or sharp.parent.name == "val") and here - set(REDS4):
        return []
    return [name for name in REDS4 if name in here]


def _gopro(root: Path, frames: int) -> list[PairSource]:
    for base in (root, *(root / name for name in ("GOPRO_Large", "GOPRO", "GoPro"))):
        if not (base / "test").is_dir():
            continue
        scenes = sorted(p for p in (base / "test").iterdir() if (p / "blur").is_dir() and (p / "sharp").is_dir())
        if scenes:
            pairs = {p.name: folder_pairs(p / "blur", p / "sharp", frames, JOINT, bicubic) for p in scenes}
            return [PairSource("gopro", name, stream, JOINT) for name, stream in pairs.items()]
    return []


def _vid4(root: Path, frames: int) -> list[PairSource]:
    for base in (root, *(root / name for name in ("Vid4", "VID4", "vid4"))):
        sharp, small = _first(base / "GT", base / "HR"), _first(base / f"BDx{SCALE}", base / "BD")
        if sharp is None:
            continue
        low, make = (sharp, sampled) if small is None else (small, None)
        if chosen := [name for name in VID4 if name in _folders(sharp) & _folders(low)]:
            pairs = {n: folder_pairs(low / n, sharp / n, frames, LUMA, make) for n in chosen}
            return [PairSource("vid4", n, stream, LUMA) for n, stream in pairs.items()]
    return []


def _first(*folders: Path) -> Path | None:
    return next((folder for folder in folders if folder.is_dir()), None)


def _folders(folder: Path) -> set[str]:
    return {path.name for path in folder.iterdir() if path.is_dir()}


def _published(group: str, whose: str, psnr: float, ssim: float) -> Published:
    return Published(group, f"{whose} (published, not verified here)", psnr, ssim)


SETS = (
    RestorationSet(
        "reds4",
        "REDS clips 000, 011, 015, 020: blurred, reduced by 4 -> sharp",
        JOINT,
        _reds4,
        (Published("reds4", "FMA-Net (recalled from its publication, not verified)", 28.83, 0.8315, 1.92),),
    ),
    RestorationSet(
        "reds4-sharp",
        "REDS clips 000, 011, 015, 020: sharp, reduced by 4 -> sharp",
        SHARP,
        _reds4_sharp,
        (
            _published("reds4-sharp", "FTVSR", 31.82, 0.8960),
            _published("reds4-sharp", "FTVSR++, of which there are no weights", 32.42, 0.907),
            _published("reds4-sharp", "TTVSR, never meant for compression", 32.12, 0.9021),
            _published("reds4-sharp", "BasicVSR++, never meant for compression", 32.39, 0.9069),
            _published("reds4-sharp crf25", "FTVSR++, of which there are no weights", 28.28, 0.783),
        ),
    ),
    RestorationSet(
        "gopro",
        "GoPro test sequences: blurred, reduced by 4 here -> sharp",
        JOINT,
        _gopro,
        (
            Published("gopro", "FMA-Net, trained again on five exposures (FMA-Net++, table 2)", 28.83, 0.8655, 2.727),
            Published("gopro", "FMA-Net++ (its table 2)", 30.49, 0.9018, 2.091),
        ),
    ),
    RestorationSet(
        "vid4",
        "calendar, city, foliage, walk: blurred by σ 1.6, every 4th pixel -> sharp; luma alone",
        LUMA,
        _vid4,
        (
            _published("vid4", "FTVSR", 28.31, 0.860),
            _published("vid4", "FTVSR++, of which there are no weights", 28.80, 0.868),
        ),
    ),
)
