"""The septuplets of Vimeo-90K as clips: seven frames each, read as they are needed.

In: the folder that the set unpacks to: ``sep_trainlist.txt``, a line such as ``00001/0001`` for each, and
``sequences/00001/0001/im1.png`` … ``im7.png``. Those of ``sep_testlist.txt`` are what methods are compared on, and
never read. Held out for watching are videos chosen by their names, as in packs: septuplets of a video are alike.

Source: T. Xue et al., "Video Enhancement with Task-Oriented Flow", IJCV 2019.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from ..errors import InputError
from .data import is_held_out
from .restoration_clips import Size
from .restoration_reds import png_size, read_square

FRAMES = 7
_LIST = "sep_trainlist.txt"


def is_septuplets(folder: Path) -> bool:
    """Whether the list of what to train on is there."""
    return (folder / _LIST).is_file()


class Septuplets:
    """As ``restoration_clips.Clips``. names: of the septuplets, ``video/number``.

    held_out: those to watch. limit: no more, spread over the whole. Raises InputError where there is none.
    """

    def __init__(
        self, folder: Path, device: torch.device | str = "cpu", *, held_out: bool = False, limit: int | None = None
    ):
        if not is_septuplets(folder):
            raise InputError(f"No {_LIST} in {folder}; name the folder that vimeo_septuplet.zip unpacks to")
        lines = [line.strip() for line in (folder / _LIST).read_text().splitlines()]
        names = [name for name in lines if name and is_held_out(name.partition("/")[0]) == held_out]
        self.folder, self.device = folder / "sequences", torch.device(device)
        names = [name for name in names if (self.folder / name).is_dir()]
        self.names = names[:: max(1, -(-len(names) // limit))] if limit else names
        if not self.names:
            watched = "held out" if held_out else "to train on"
            raise InputError(f"None of the septuplets of {folder / _LIST} {watched} is in {self.folder}: unpack them")
        # All have one size; read_square refuses those smaller than the first.
        self.sizes = [Size(FRAMES, *png_size(self._paths(0, [0])[0]))] * len(self.names)

    def cut(self, clip: int, frames: Sequence[int], y: int, x: int, side: int) -> Tensor:
        squares = np.stack([read_square(path, y, x, side) for path in self._paths(clip, frames)])
        return torch.from_numpy(squares).permute(0, 3, 1, 2).to(self.device)

    def _paths(self, clip: int, frames: Sequence[int]) -> list[Path]:
        paths = [self.folder / self.names[clip] / f"im{at + 1}.png" for at in frames]
        for path in paths:
            if not path.is_file():
                raise InputError(f"{path} is missing: unpack the set again")
        return paths
