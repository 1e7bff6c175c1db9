"""The inputs that say how many frames a clip becomes, shared by the nodes that ask for them."""

from __future__ import annotations

from fractions import Fraction
from typing import NamedTuple

from comfy_api.latest import io

from ..comfy_fusionfft import timeline
from ..comfy_fusionfft.contract import Position
from ..comfy_fusionfft.errors import InputError
from ..comfy_fusionfft.pace import Pace, exact_rate

MULTIPLIER = 2
SOURCE_FPS = 16.0


class Plan(NamedTuple):
    """What the inputs mean for a clip.

    settings: ``multi`` or ``fps`` of the library's calls. source: frames a second of the clip.
    fps: of the result. positions: the result's instants, in source frames.
    """

    settings: dict[str, int | Fraction]
    source: Fraction
    fps: Fraction
    positions: list[Position]


def inputs() -> list[io.Input]:
    return [
        io.Int.Input(
            "multiplier",
            default=MULTIPLIER,
            min=1,
            max=64,
            tooltip="Frames in the result for each source frame: 2 doubles, 8 is slow motion when saved at the old "
            "rate. Default 2, 1 to 64. Not looked at while target_fps is above 0.",
        ),
        io.Float.Input(
            "source_fps",
            default=SOURCE_FPS,
            min=0.01,
            max=1000.0,
            step=0.001,
            tooltip="Frames a second of the images. Default 16, 0.01 to 1000; connect the fps of Get Video Components "
            "if there is one. Used for the fps output and for target_fps.",
        ),
        io.Float.Input(
            "target_fps",
            default=0.0,
            min=0.0,
            max=1000.0,
            step=0.001,
            tooltip="Frames a second of the result, any number: 24, 59.94, 60 … Default 0: use the multiplier.",
        ),
    ]


def plan(count: int, multiplier: int, source_fps: float, target_fps: float) -> Plan:
    """For a clip of ``count`` frames; InputError when there is none."""
    if not count:
        raise InputError("there are no images: connect a batch of at least one image")
    source = exact_rate(source_fps)
    settings = chosen(multiplier, target_fps)
    timing = Pace(**settings).timing(source)
    return Plan(settings, source, timing.rate(source), timeline.instants(timing, [i / source for i in range(count)]))


def chosen(multiplier: int, target_fps: float) -> dict[str, int | Fraction]:
    """``multi`` or ``fps``."""
    return {"fps": exact_rate(target_fps)} if target_fps > 0 else {"multi": multiplier}
