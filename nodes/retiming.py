"""The inputs that say how many frames a clip becomes and how fast it plays, for the nodes that can do all of it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from comfy_api.latest import io

from ..comfy_fusionfft.pace import SAMPLES, Pace, exact, exact_rate
from ..comfy_fusionfft.retime import FASTEST
from . import curves

SLOWEST = 0.01
"""Speed at the lower edge of the curve: 0 would never end."""


def inputs() -> list[io.Input]:
    return [
        io.DynamicCombo.Input(
            "pace",
            options=[
                io.DynamicCombo.Option("multiplier", [_multiplier()]),
                io.DynamicCombo.Option("frame rate", [_rate()]),
                io.DynamicCombo.Option("frame count", [_count(), _count_rate()]),
            ],
            tooltip="How many frames there will be. multiplier: so many for each one (default). frame rate: so many a "
            "second, any number. frame count: exactly so many, from the first frame to the last.",
        ),
        io.DynamicCombo.Input(
            "speed",
            options=[
                io.DynamicCombo.Option("normal", []),
                io.DynamicCombo.Option("constant", [_factor()]),
                io.DynamicCombo.Option("curve", [_curve(), _top_speed()]),
                io.DynamicCombo.Option("keys", [_keys()]),
            ],
            tooltip="How fast the clip plays. normal: as it is (default). constant: slow motion or time lapse. curve: "
            "drawn, from the clip's beginning to its end. keys: the same as text.",
        ),
        io.Boolean.Input(
            "loop",
            default=False,
            tooltip="The clip goes round: also make the frames that lead from its last one back to its first. Default "
            "off.",
        ),
        io.Float.Input(
            "shutter",
            default=0.0,
            min=0.0,
            max=1.0,
            step=0.05,
            round=0.001,
            tooltip="Motion blur: how much of a frame's time the shutter stays open. 0.5 is a film camera's 180 "
            f"degrees. Default 0: none, 0 to 1. Each frame is then the mean of {SAMPLES} instants, at {SAMPLES} "
            "times the work.",
        ),
    ]


def _multiplier() -> io.Float.Input:
    return io.Float.Input(
        "multiplier",
        default=2.0,
        min=1.0,
        max=64.0,
        step=0.5,
        round=0.001,
        tooltip="Frames in the result for each source frame, fractions too: 2.5 turns 24 frames a second into 60. "
        "Default 2, 1 to 64. 1 keeps the frame rate, for a changed speed.",
    )


def _rate() -> io.Float.Input:
    return io.Float.Input(
        "fps",
        default=60.0,
        min=0.01,
        max=1000.0,
        step=0.001,
        tooltip="Frames a second of the result. Default 60, 0.01 to 1000. 23.976, 29.97, 59.94 … mean the exact rates "
        "of video, 24000/1001 and so on.",
    )


def _count() -> io.Int.Input:
    return io.Int.Input(
        "count",
        default=121,
        min=1,
        max=1_000_000,
        tooltip="Frames of the result, evenly from the first one to the last. Default 121, 1 to 1000000.",
    )


def _count_rate() -> io.Float.Input:
    return io.Float.Input(
        "at_fps",
        default=0.0,
        min=0.0,
        max=1000.0,
        step=0.001,
        tooltip="Frames a second at which they play. Default 0: what makes the result as long as the clip. 0 to 1000; "
        "give one where the rate is prescribed, and the speed follows.",
    )


def _factor() -> io.Float.Input:
    return io.Float.Input(
        "factor",
        default=0.5,
        min=SLOWEST,
        max=100.0,
        step=0.05,
        round=0.0001,
        tooltip="1 is real time, 0.25 is four times slower, 2 twice as fast. Default 0.5, 0.01 to 100.",
    )


def _curve() -> io.Curve.Input:
    return curves.input(
        "curve",
        [(0.0, 0.5), (0.5, 0.125), (1.0, 0.5)],
        tooltip="Left to right: the clip from its beginning to its end. Upwards: its speed, from a standstill to "
        "top_speed; half of a top speed of 2 is real time. Default: slow in the middle. Drag points, click to add one, "
        "right-click to remove one (Nodes 2.0; elsewhere use keys).",
    )


def _top_speed() -> io.Float.Input:
    return io.Float.Input(
        "top_speed",
        default=2.0,
        min=0.1,
        max=100.0,
        step=0.1,
        tooltip="Speed at the upper edge of the curve. Default 2, 0.1 to 100. Raise it for time lapses, lower it to 1 "
        "to draw slow motion alone, more finely.",
    )


def _keys() -> io.String.Input:
    return io.String.Input(
        "keys",
        default="0%:1, 50%:0.25, 100%:1",
        tooltip="WHEN:SPEED, by comma. WHEN is seconds of the clip (2.5), a share of it (50%) or a frame (48f); "
        "between keys the speed changes evenly. Default: 0%:1, 50%:0.25, 100%:1.",
    )


def wanted(pace: Mapping[str, Any], speed: Mapping[str, Any], loop: bool, shutter: float) -> Pace:
    """What these inputs mean. Raises InputError for choices that exclude one another."""
    chosen: dict[str, Any] = {"loop": loop, "shutter": exact(shutter, "shutter")}
    match pace["pace"]:
        case "multiplier":
            chosen["multi"] = exact(pace["multiplier"], "multiplier")
        case "frame rate":
            chosen["fps"] = exact_rate(pace["fps"])
        case _:
            chosen["count"] = pace["count"]
            if pace["at_fps"]:
                chosen["fps"] = exact_rate(pace["at_fps"])
    match speed["speed"]:
        case "constant":
            chosen["speed"] = exact(speed["factor"], "factor")
        case "curve":
            chosen["speed"] = curves.keys(speed["curve"], speed["top_speed"], SLOWEST, float(FASTEST))
        case "keys":
            chosen["speed"] = speed["keys"]
    return Pace(**chosen)
