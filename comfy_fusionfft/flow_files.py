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
from typing import Literal

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor

from .contract import Flow, Position
from .engine import IntervalFlow
from .errors import InputError, OutputExistsError


def write_flow(folder: str | Path, flows: Iterable[IntervalFlow], *, half: bool = True, overwrite: bool = False) -> int:
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
        for index, times, (flow, mask) in flows:
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


class StoredFlow:
    """contract.FlowSource over a folder of flow. What was not stored cannot be had: it finds nothing itself."""

    modulus = 1
    padding: Literal["replicate"] = "replicate"

    def __init__(self, folder: str | Path) -> None:
        self._folder = Path(folder)
        if not (self._folder / _name(0)).is_file():
            raise InputError(f"{self._folder} is not a folder of flow: make one with `fusionfft flow CLIP FOLDER`")

    def times(self, index: int) -> tuple[Fraction, ...]:
        """The stored instants of an interval, as fractions of it."""
        with self._open(index) as file:
            return tuple(Fraction(t) for t in file.metadata()["times"].split())

    def features(self, image: Tensor, position: Position | None = None) -> Position:
        if position is None:
            raise InputError("stored flow is looked up by a frame's place in its clip, which was not given")
        return position

    def flow(
        self, left: Tensor, right: Tensor, left_features: Position, right_features: Position, times: Tensor
    ) -> Flow:
        if right_features - left_features != 1 or left_features.denominator != 1:
            raise InputError("stored flow is between neighbouring frames alone: use chained anchors, not nested ones")
        index = int(left_features)
        stored = torch.tensor([float(t) for t in self.times(index)])
        distance = (stored[None] - times.cpu()[:, None]).abs()
        if float(distance.amin(1).max()) > 1e-6:
            raise InputError(
                f"{self._folder} has no flow for {[round(float(t), 4) for t in times]} of interval {index}, only for "
                f"{[str(t) for t in self.times(index)]}: make it with the same --multi or --fps"
            )
        with self._open(index) as file:
            chosen = distance.argmin(1)
            flow, mask = (file.get_tensor(name)[chosen].to(left.device, torch.float32) for name in ("flow", "mask"))
        if flow.shape[-2:] != left.shape[-2:]:
            raise InputError(
                f"{self._folder} has flow of {flow.shape[-1]}×{flow.shape[-2]}, the clip is "
                f"{left.shape[-1]}×{left.shape[-2]}: it was made from another clip"
            )
        return Flow(flow, mask)

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
