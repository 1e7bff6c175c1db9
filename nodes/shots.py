"""The inputs about cuts, repeated frames and hopeless ones, shared by the nodes that interpolate whole clips."""

from __future__ import annotations

from typing import get_args

from comfy_api.latest import io

from ..comfy_fusionfft.engine import AtCut
from ..comfy_fusionfft.errors import InputError, quoted
from ..comfy_fusionfft.look import Cuts

AUTO, NONE = "auto", "none"
_DIGITS = 9
"""Of a frame's number; no clip has more frames."""


def inputs() -> list[io.Input]:
    return [
        cuts_input(),
        io.Combo.Input(
            "at_cut",
            options=list(get_args(AtCut)),
            default="hold",
            advanced=True,
            tooltip="Between the two frames of a cut. hold: show the nearer one again (default). skip: show nothing, "
            "so that there are fewer frames.",
        ),
        dedupe_input(),
        io.Float.Input(
            "hold_below",
            default=0.0,
            min=0.0,
            max=60.0,
            step=0.5,
            advanced=True,
            tooltip="Show the nearer real frame instead of a made one whose predicted quality is below so many dB. "
            "Default 0: never. 0 to 60; raise it where motion tears, and see the frames' values in the report.",
        ),
    ]


def cuts_input(optional: bool = False) -> io.String.Input:
    return io.String.Input(
        "cuts",
        default=AUTO,
        optional=optional,
        tooltip="Nothing is blended across a cut. auto: cuts are found (default). none: there are none. Or the frames "
        "that begin a new shot, counted from 0: 24, 130.",
    )


def dedupe_input(optional: bool = False) -> io.Boolean.Input:
    return io.Boolean.Input(
        "dedupe",
        default=False,
        optional=optional,
        tooltip="Leave out frames that repeat the one before, and move the others so that motion is even. Default off; "
        "turn it on for animation drawn on twos and threes and for stuttering captures. AI clips have no repeats.",
    )


def numbers(text: str, count: int | None = None) -> Cuts:
    """What the text of ``cuts`` says. count: of the clip's frames, where it is known.

    Raises InputError for anything else, and for frames that are not there.
    """
    text = text.strip().lower()
    if text in (AUTO, ""):
        return AUTO
    if text == NONE:
        return ()
    words = text.replace(",", " ").replace(";", " ").split()
    if not words or not all(word.isascii() and word.isdigit() and len(word) <= _DIGITS for word in words):
        raise InputError(f"cuts {quoted(text)} are neither auto, none nor frame numbers such as 24, 130")
    found = tuple(sorted({int(word) for word in words}))
    if count is not None and not 0 < found[-1] < count:
        raise InputError(f"a cut at frame {found[-1]}, the clip's last frame is {count - 1}: count frames from 0")
    return found
