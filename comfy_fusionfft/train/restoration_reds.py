"""Clips that come blurred and reduced already: folders of pictures as those of the REDS set, read as they are needed.

In: a folder with ``train_sharp/000/00000000.png`` … and the same names in ``train_blur_bicubic/X4``, or in
``train_blur``, which is then reduced here. ``train_sharp_bicubic/X4`` is read where it is there. The trees may lie in
the folder, or in its ``train`` and ``val``. Out: ``Restorations`` of three consecutive frames.

The clips ``REDS4`` are what methods are compared on, and never read here. Held out for watching are the ``val_…``
trees, where they are there, and else clips chosen by their names, as in packs.

Source: S. Nah et al., "NTIRE 2019 Challenge on Video Deblurring and Super-Resolution: Dataset and Study", CVPRW 2019.
"""

from __future__ import annotations

import struct
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
import torch
from torch import Tensor

from ..errors import InputError
from .data import is_held_out
from .restoration_blur import INSTANTS, SCALE, Restorations, reduced
from .restoration_clips import RunSampler, Size

REDS4 = frozenset({"000", "011", "015", "020"})
"""Of the training clips: the test set of the literature."""
READERS = 8
"""Samples whose pictures are read at a time."""


@dataclass(frozen=True, slots=True)
class RedsClip:
    """The files of a clip's frames, sharp and spoilt. size: of the sharp ones.

    halfway: ``spoilt`` is blurred alone. small: sharp and reduced, where that is stored.
    """

    name: str
    size: Size
    sharp: tuple[Path, ...]
    spoilt: tuple[Path, ...]
    halfway: bool
    small: tuple[Path, ...] | None


def is_reds(folder: Path) -> bool:
    """Whether there are training clips laid out in this way."""
    return _tree(folder, "train", "sharp") is not None


def find_reds(folder: Path, *, held_out: bool = False, spoilt: bool = True) -> list[RedsClip]:
    """The clips to train on, or those to watch. Raises InputError where trees do not fit together.

    spoilt: False: sharp frames will do, and are all that is looked for.
    """
    if held_out and _tree(folder, "val", "sharp"):
        return _clips(folder, "val", spoilt)
    known = [clip for clip in _clips(folder, "train", spoilt) if clip.name not in REDS4]
    if _tree(folder, "val", "sharp"):
        return known
    return [clip for clip in known if is_held_out(clip.name) == held_out]


class RedsClips:
    """Sharp frames as ``restoration_clips.Clips``; ``pair`` also gives the spoilt ones."""

    def __init__(self, clips: Sequence[RedsClip], device: torch.device | str = "cpu"):
        self.clips, self.device = list(clips), torch.device(device)
        self.sizes = [clip.size for clip in clips]

    def cut(self, clip: int, frames: Sequence[int], y: int, x: int, side: int) -> Tensor:
        return self._cut([self.clips[clip].sharp[at] for at in frames], y, x, side)

    def pair(self, clip: int, frames: Sequence[int], y: int, x: int, side: int) -> tuple[Tensor, Tensor, Tensor]:
        """-> x, small ``(N, 3, side/4, side/4)``, y ``(N, 3, side, side)``, float32. y, x, side: multiples of 4."""
        source = self.clips[clip]
        truth = self.cut(clip, frames, y, x, side).float().div_(255)
        quarter = (y // SCALE, x // SCALE, side // SCALE)

        def small(paths: Sequence[Path]) -> Tensor:
            return self._cut([paths[at] for at in frames], *quarter).float().div_(255)

        if source.halfway:
            blurred = self._cut([source.spoilt[at] for at in frames], y, x, side).float().div_(255)
            seen = torch.stack([reduced(picture) for picture in blurred])
        else:
            seen = small(source.spoilt)
        plain = small(source.small) if source.small else torch.stack([reduced(picture) for picture in truth])
        return seen, plain, truth

    def _cut(self, paths: Sequence[Path], y: int, x: int, side: int) -> Tensor:
        squares = np.stack([read_square(path, y, x, side) for path in paths])
        return torch.from_numpy(squares).permute(0, 3, 1, 2).to(self.device)


class RedsSampler(RunSampler):
    """Draws ``Restorations`` from folders; the same seed over the same clips draws the same ones."""

    clips: RedsClips

    def __init__(self, clips: Sequence[RedsClip], device: torch.device | str = "cpu", *, seed: int = 0):
        if not clips:
            raise InputError("The folder has no clips to train on beside REDS4; add more of the set")
        super().__init__(RedsClips(clips, device), seed=seed)
        self._starts = torch.tensor([size.count - INSTANTS + 1 for size in self.clips.sizes]).double()
        self._readers = ThreadPoolExecutor(READERS)

    def draw(self, batch: int, patch: int) -> Restorations:
        """patch: side of the input in pixels; that of the truth is four times as long."""
        side = SCALE * patch
        sides = torch.tensor([min(size.height, size.width) for size in self.clips.sizes])
        weights = self._starts * (sides >= side)
        if not bool(weights.any()):
            raise InputError(
                f"Patches of {patch} need sharp pictures of {side} pixels, and those of the folder have"
                f" {int(sides.max())} at most; choose smaller patches"
            )
        chosen = []
        for clip in self.pick(weights, batch):
            first = self.below(self.clips.sizes[clip].count - INSTANTS + 1)
            chosen.append((clip, range(first, first + INSTANTS), *self.place(clip, side, SCALE), side))
        samples = list(self._readers.map(lambda where: self.clips.pair(*where), chosen))
        runs = [torch.stack(each).transpose(1, 2) for each in zip(*samples, strict=True)]
        return Restorations(*(run.contiguous() for run in self.turn(runs)))


def _tree(folder: Path, split: str, kind: str) -> Path | None:
    for base in (folder, folder / split):
        if (base / f"{split}_{kind}").is_dir():
            return base / f"{split}_{kind}"
    return None


def _clips(folder: Path, split: str, wanted: bool) -> list[RedsClip]:
    sharp = _tree(folder, split, "sharp")
    if sharp is None:
        raise InputError(f"No {split}_sharp in {folder}; it shall hold folders of pictures, such as 000/00000000.png")
    halfway = _tree(folder, split, "blur_bicubic/X4") is None
    spoilt = _tree(folder, split, "blur" if halfway else "blur_bicubic/X4") if wanted else None
    if wanted and spoilt is None:
        raise InputError(f"{folder} has neither {split}_blur_bicubic/X4 nor {split}_blur; add one beside {split}_sharp")
    small = _tree(folder, split, "sharp_bicubic/X4") if wanted else None
    found = []
    for place in sorted(each for each in sharp.iterdir() if each.is_dir()):
        truth, seen, plain = (_pictures(tree / place.name) if tree else () for tree in (sharp, spoilt, small))
        if len(truth) < INSTANTS:
            continue
        names = [path.name for path in truth]
        for paths, tree in ((seen, spoilt), (plain, small)):
            if tree and [path.name for path in paths] != names:
                raise InputError(f"{tree / place.name} has not the {len(truth)} pictures of {place}: copy it again")
        height, width = png_size(truth[0])
        factor = 1 if halfway else SCALE
        if seen and png_size(seen[0]) != (height // factor, width // factor):
            due = "of the size" if halfway else "a quarter of the size"
            raise InputError(f"{seen[0]} is not {due} of {truth[0]}: copy both again")
        found.append(RedsClip(place.name, Size(len(truth), height, width), truth, seen, halfway, plain or None))
    return found


def _pictures(folder: Path) -> tuple[Path, ...]:
    return tuple(sorted(folder.glob("*.png")))


def png_size(path: Path) -> tuple[int, int]:
    """(height, width) as a PNG file says at its beginning."""
    with path.open("rb") as file:
        head = file.read(24)
    if len(head) < 24 or head[:4] != b"\x89PNG":
        raise InputError(f"{path} is no PNG picture: copy it again")
    width, height = struct.unpack(">II", head[16:])
    return height, width


def read_square(path: Path, y: int, x: int, side: int) -> np.ndarray:
    """-> ``(side, side, 3)`` RGB bytes of a picture."""
    picture = cv2.imdecode(np.fromfile(path, np.uint8), cv2.IMREAD_COLOR)
    square = None if picture is None else picture[y : y + side, x : x + side]
    if square is None or square.shape[:2] != (side, side):
        raise InputError(f"{path} is damaged, or of another size than its clip's first picture: copy it again")
    return cv2.cvtColor(np.ascontiguousarray(square), cv2.COLOR_BGR2RGB)
