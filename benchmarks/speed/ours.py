"""The library as its users call it, inside a worker."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from fractions import Fraction
from functools import cache, partial
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from .clip import clip_of, pictures_between
from .contender import Contender

if TYPE_CHECKING:
    from torch import Tensor

    from .job import Job

RATE = 24


class Ours(Contender):
    """``api.interpolate`` and ``api.spectral_swap``, weights loaded beforehand, results written into one tensor."""

    def __init__(self, options: dict[str, Any]) -> None:
        super().__init__(options)
        sys.path.insert(0, str(Path(__file__).resolve().parents[2]))
        self._method = cache(self._load)

    def prepare(self, job: Job) -> Callable[[], Tensor]:
        from comfy_fusionfft.contract import Frame

        clip = clip_of(job)
        source = [Frame(picture, Fraction(number, RATE)) for number, picture in enumerate(clip)]
        if job.path == "spectral":
            between = pictures_between(job)
            pictures = [Frame(each, Fraction(2 * i + 1, 2 * RATE), original=False) for i, each in enumerate(between)]
            work = partial(self._swapped, pictures, source, job)
        else:
            work = partial(self._method(job.path, job.device, job.dtype), source, multi=job.multiplier)

        def run() -> Tensor:
            output = torch.empty((job.frames_out, job.height, job.width, 3))  # as the node makes it for every clip
            for number, frame in enumerate(work()):
                output[number] = frame.pixels
            return output

        return run

    def stream(self, job: Job) -> tuple[Callable[[], Any], Callable[[], Any]]:
        """A warm-up of a few frames, and ``job.frames`` frames, to and fro over the same few pictures."""
        from comfy_fusionfft.contract import Frame

        clip = clip_of(job, frames=min(job.frames, 8))
        there_and_back = [*range(len(clip)), *range(len(clip) - 2, 0, -1)]

        def frames() -> Iterator[Any]:
            for number in range(job.frames):
                yield Frame(clip[there_and_back[number % len(there_and_back)]], Fraction(number, RATE))

        def work(count: int) -> None:
            for _ in self._method(job.path, job.device, job.dtype)(islice(frames(), count), multi=job.multiplier):
                pass

        return partial(work, min(job.frames, 7)), partial(work, job.frames)

    def _load(self, path: str, device: str, dtype: str) -> Callable[..., Any]:
        """``api.interpolate`` with its networks in place."""
        from comfy_fusionfft import api
        from comfy_fusionfft.checkpoints import find, load
        from comfy_fusionfft.host import PlainHost

        host = PlainHost(device, dtype)
        if path == "rife":
            flow = api.load_flow(self.options["rife"], host=host)
            return partial(api.interpolate, method="rife", flow=flow, host=host)
        network = host.place(load(find(api.EMBEDDED_FUSION, kind="fusion")).module)
        flow = api.load_flow("auto", host=host)
        return partial(api.interpolate, method="fusion", flow=flow, fusion=network, host=host)

    @staticmethod
    def _swapped(pictures: list[Any], source: list[Any], job: Job) -> Any:
        from comfy_fusionfft import api
        from comfy_fusionfft.host import PlainHost

        return api.spectral_swap(pictures, source, host=PlainHost(job.device, job.dtype))
