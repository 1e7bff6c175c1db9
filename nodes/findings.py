"""What was found in a clip and made of it, as text and pictures for the outputs of nodes."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from fractions import Fraction

import torch
from torch import Tensor

from ..comfy_fusionfft.confidence_plot import draw_confidence
from ..comfy_fusionfft.contract import Frame
from ..comfy_fusionfft.look import Look


def timeline(frames: Iterable[Frame], look: Look, sure: Sequence[tuple[float, float]]) -> Tensor:
    """``(1, H, W, 3)``. sure: instants of made frames in source frames, and the dB that are predicted for them."""
    return look.picture(frames, confidence=sure or None)[None]


def quality(seconds: Sequence[float], confidence: Sequence[float | None], hold_below: float | None) -> Tensor:
    """``(1, H, W, 3)``: predicted dB of frames over the time at which they are shown, None for real ones."""
    return torch.from_numpy(draw_confidence(confidence, seconds, hold_below))[None]


def result(count: int, fps: Fraction, confidence: Sequence[float | None], hold_below: float | None) -> list[str]:
    """What came out; ``confidence``: dB that are predicted for each frame, None for real ones and unasked ones."""
    made = [f"{count} frame{'' if count == 1 else 's'} made, {float(fps):.6g} a second, {float(count / fps):.2f} s"]
    sure = [(value, number) for number, value in enumerate(confidence) if value is not None]
    if not sure:
        return made
    worst, where = min(sure)
    average = sum(value for value, _ in sure) / len(sure)
    made.append(f"predicted quality: {average:.1f} dB on average, {worst:.1f} dB at worst (frame {where})")
    if hold_below is not None:
        held = sum(value < hold_below for value, _ in sure)
        made.append(f"{held} frames below {hold_below:g} dB hold a real frame instead")
    made.append("dB by frame: " + ", ".join("real" if v is None else f"{v:.1f}" for v in confidence))
    return made
