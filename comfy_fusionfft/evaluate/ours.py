"""Our methods under evaluation: the very model and engine that ``api.interpolate`` runs, on a few frames."""

from __future__ import annotations

from dataclasses import dataclass, field
from fractions import Fraction
from typing import Any

import numpy as np
import torch
from torch import Tensor

from .. import api
from ..contract import Flow, FlowSource, Frame, Host, Model, Position
from ..engine import run
from ..errors import InputError
from ..timeline import At
from .intervals import Interval


def parse_method(text: str) -> tuple[str, dict[str, Any]]:
    """``fusion:num_anchors=1:spectral_alpha=0`` -> its name and settings (of ``api.load_method``)."""
    name, *parts = text.split(":")
    settings: dict[str, Any] = {}
    for part in parts:
        key, equals, value = part.partition("=")
        if not equals:
            raise InputError(f"method {text!r}: write settings as name=value, such as fusion:num_anchors=1")
        number = value.lstrip("-").replace(".", "", 1)
        settings[key] = (float(value) if "." in value else int(value)) if number.isdecimal() else value
    return name, settings


class Remembering:
    """A flow source that remembers the flow of one interval's frames, which several methods ask for."""

    def __init__(self, source: FlowSource) -> None:
        self.source, self.modulus, self.padding = source, source.modulus, source.padding
        self._interval: Interval | None = None
        self._found: dict[tuple[Any, ...], Any] = {}

    def of(self, interval: Interval) -> Remembering:
        if interval is not self._interval:
            self._interval, self._found = interval, {}
        return self

    def features(self, image: Tensor, position: Position | None = None) -> Position | None:
        if position is not None and position.denominator == 1 and position not in self._found:
            self._found[position] = self.source.features(image, position)
        return position

    def flow(self, left: Tensor, right: Tensor, start: Position, end: Position, times: Tensor) -> Flow:
        if start not in self._found or end not in self._found:  # peeled frames belong to one method alone
            features = [self.source.features(image, p) for image, p in ((left, start), (right, end))]
            return self.source.flow(left, right, *features, times)
        flows = []
        for time in times:
            key = (start, end, float(time))
            if key not in self._found:
                self._found[key] = self.source.flow(left, right, self._found[start], self._found[end], time[None])
            flows.append(self._found[key])
        return Flow(*(torch.cat(part) for part in zip(*flows, strict=True)))


@dataclass(slots=True)
class Ours:
    """Makes one dropped frame of an interval."""

    source: Remembering
    method: str
    host: Host
    settings: dict[str, Any]
    model: Model = field(init=False)

    def __post_init__(self) -> None:
        self.method, own = parse_method(self.method)
        self.model = api.load_method(self.method, self.source, host=self.host, **self.settings | own)

    def __call__(self, interval: Interval, wanted: int) -> np.ndarray:
        self.source.of(interval)
        left = interval.kept.index(interval.left)
        frames = [
            Frame(torch.from_numpy(interval.frames[number]), Fraction(index))
            for index, number in enumerate(interval.kept)
        ]
        # Peeling makes an interval's instants from one another, so it must be asked for all of them.
        steps = range(1, interval.drop) if self.model.reach.peel else [wanted - interval.left]
        times = tuple(left + Fraction(step, interval.drop) for step in steps)
        position = left + Fraction(wanted - interval.left, interval.drop)
        made = run(frames, self.model, At(times), self.host)
        return next(frame.pixels.numpy() for frame in made if frame.seconds == position)
