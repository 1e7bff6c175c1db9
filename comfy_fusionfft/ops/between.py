"""Motion between two pictures of a window: pads for the source, asks, crops; features once per picture."""

from __future__ import annotations

from typing import Any

from ..contract import Flow, FlowSource, Position, Window
from .memory import numbers
from .pad import crop, pad_to


def link_time(start: Position, instants: tuple[Position, ...]) -> Position:
    """The instant at which an interval is linked to its neighbours: its own one nearest the middle, if it has any."""
    middle = start + Position(1, 2)
    return min(instants, key=lambda t: abs(t - middle), default=middle)


def flow_between(source: FlowSource, window: Window, start: int, end: int, times: tuple[Position, ...]) -> Flow:
    """Flow of T instants between ``window.images[start]`` and ``window.images[end]``, of the pictures' size.

    times: positions between those of the two pictures. Alpha does not take part.
    """
    ends = [window.positions[i] for i in (start, end)]
    pictures = [window.images[i][:, :3].clamp(0, 1) for i in (start, end)]
    size = pictures[0].shape[-2:]
    padded = [pad_to(picture, source.modulus, source.padding)[0] for picture in pictures]
    features: list[Any] = [
        window.once("features", (at,), lambda picture=picture, at=at: source.features(picture, at))
        for at, picture in zip(ends, padded, strict=True)
    ]
    shares = [float((t - ends[0]) / (ends[1] - ends[0])) for t in times]
    flow, mask = source.flow(*padded, *features, numbers(shares, padded[0].device))
    return Flow(crop(flow, size), crop(mask, size))
