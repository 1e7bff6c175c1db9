"""Flow on disk: one safetensors file for each interval of a clip, and a FlowSource that reads it back.

A folder of flow belongs to one clip and one set of instants. ``0000012.safetensors`` holds, for the interval
between frames 12 and 13, ``flow (T, 4, H, W)`` in pixels (t→left x, y, t→right x, y) and ``mask (T, 1, H, W)``,
the logit of "take the left frame"; its metadata has the instants as exact fractions of the interval.
"""

from __future__ import annotations

import shutil
from collections.abc import Iterable
from fractions import Fraction
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor

from .contract import Flow
from .engine import PairFlow
from .errors import InputError, OutputExistsError
from .flow_clip import LookedUp


def write_flow(folder: str | Path, flows: Iterable[PairFlow], *, half: bool = True, overwrite: bool = False) -> int:
    """Write a folder of flow, whole or not at all; returns the number of intervals.

    half: float16, exact to 1/16 px up to 128 px of motion; otherwise float32.
    """
    folder = Path(folder)
    if folder.exists() and (not overwrite or not (folder / _name(0)).is_file()):
        raise OutputExistsError(f"{folder} exists already: choose another name, or --overwrite for a folder of flow")
    unfinished = folder.with_name(f".{folder.name}.part")
    shutil.rmtree(unfinished, ignore_errors=True)
    unfinished.mkdir(parents=True)
    dtype = torch.float16 if half else torch.float32
    count = 0
    try:
        for index, _, times, (flow, mask) in flows:
            tensors = {"flow": flow.to("cpu", dtype).contiguous(), "mask": mask.to("cpu", dtype).contiguous()}
            (unfinished / _name(index)).write_bytes(save(tensors, {"times": " ".join(map(str, times))}))
            count += 1
        if not count:
            raise InputError("there is no flow to write: give a clip with at least two frames")
        if folder.exists():
            shutil.rmtree(folder)
        unfinished.rename(folder)
    finally:
        shutil.rmtree(unfinished, ignore_errors=True)
    return count


class StoredFlow(LookedUp):
    """contract.FlowSource over a folder of flow."""

    def __init__(self, folder: str | Path) -> None:
        self._folder = Path(folder)
        self.name = str(folder)
        if not (self._folder / _name(0)).is_file():
            raise InputError(f"{self._folder} is not a folder of flow: make one with `fusionfft flow CLIP FOLDER`")

    def times(self, left: int, right: int) -> tuple[Fraction, ...]:
        if right - left != 1:
            raise InputError("stored flow is between neighbouring frames alone: use chained anchors, not nested ones")
        with self._open(left) as file:
            return tuple(Fraction(t) for t in file.metadata()["times"].split())

    def stored(self, left: int, right: int, chosen: Tensor) -> Flow:
        with self._open(left) as file:
            return Flow(*(file.get_tensor(name)[chosen] for name in ("flow", "mask")))

    def _open(self, index: int) -> safe_open:
        try:
            return safe_open(self._folder / _name(index), "pt")
        except (FileNotFoundError, SafetensorError) as error:
            raise InputError(
                f"{self._folder / _name(index)} is missing or damaged ({error}): the flow was made from another clip, "
                "or not to its end; make it again with `fusionfft flow`"
            ) from error


def _name(index: int) -> str:
    return f"{index:07d}.safetensors"
