"""Pictures of motion for people to look at: as colour, as arrows, and which frame each pixel is taken from.

Flow is ``(T, 4, H, W)`` pixels, channels t→left x, y, t→right x, y; any float type and device. *Motion* is what
a point moves from the left frame to the right one, t→right minus t→left. Pictures are RGB ``(T, H, W, 3)`` float32
in 0..1 on the CPU, with a small key in the lower right corner.
"""

from __future__ import annotations

import math
from collections.abc import Iterable

import cv2
import numpy as np
import torch
from torch import Tensor

from .drawing import Canvas, overlay, text_width
from .errors import InputError
from .ops.flow_colour import flow_to_colour

STILL = 0.25
"""Motion below this many pixels gets no arrow; it is within what flow is wrong by where nothing moves."""
LEFT, BOTH, RIGHT = (0.98, 0.62, 0.16), (0.55, 0.55, 0.56), (0.20, 0.52, 0.92)
_PLATE, _TEXT, _DIM = (0.07, 0.07, 0.08), (0.94, 0.94, 0.95), (0.66, 0.66, 0.69)
_STEPS = (1, 1.2, 1.5, 2, 2.5, 3, 4, 5, 6, 8)  # what a key's round numbers begin with


def common_speed(flows: Iterable[Tensor]) -> float:
    """The speed in pixels at which colour is full, for flows that are to be compared: a round number.

    It is the first one above the 99th percentile, and at least 1, so that a still clip stays white.
    """
    speeds = [torch.zeros(1)]
    for flow in flows:
        moved = _motion(flow)
        speed = torch.linalg.vector_norm(moved, dim=1).flatten()
        speeds.append(speed[:: max(1, speed.numel() // 65536)].cpu())
    speed = torch.cat(speeds)
    return _round_up(float(speed[:: max(1, speed.numel() // 4_000_000)].quantile(0.99)))


def colour(flow: Tensor, fastest: float | None = None, *, key: bool = True) -> Tensor:
    """Motion as colour: hue is direction, saturation is speed, white does not move.

    fastest: pixels at which colour is full (faster is darkened); None: ``common_speed`` of this flow.
    key: draw the wheel of directions, labelled with ``fastest``.
    """
    _check(flow, 4, "flow")
    fastest = fastest or common_speed([flow])
    made = _blank(flow)
    plate = _wheel_key(flow.shape[-2:], fastest) if key else None
    for index in range(len(flow)):
        made[index] = flow_to_colour(_motion(flow[index, None]), fastest)[0].permute(1, 2, 0).cpu().numpy()
        if plate is not None:
            _place(made[index], plate)
    return torch.from_numpy(made)


def arrows(flow: Tensor, background: Tensor | None = None, *, fastest: float | None = None, key: bool = True) -> Tensor:
    """Arrows on a grid, from where a point was in the left frame to where it is in the right one.

    background: ``(T or 1, H, W, 3)`` to draw over, muted; None: dark ground.
    fastest: see ``colour``; an arrow of that speed is between one and two grid steps long, and all others
        in proportion. key: draw an arrow of a round length, and how much arrows are enlarged.
    """
    _check(flow, 4, "flow")
    height, width = flow.shape[-2:]
    _check_background(background, flow)
    step = grid_step(height, width)
    fastest = fastest or common_speed([flow])
    enlarged = _round_down(2 * step / fastest)
    rows = torch.arange((height % step + step) // 2, height, step, device=flow.device)
    columns = torch.arange((width % step + step) // 2, width, step, device=flow.device)
    origin = torch.stack(torch.meshgrid(columns, rows, indexing="xy"), -1).flatten(0, 1).cpu().numpy()
    made = _blank(flow)
    plate = _arrow_key((height, width), fastest, enlarged, step) if key else None
    for index in range(len(flow)):
        under = None if background is None else background[min(index, len(background) - 1)]
        picture = _muted(under, made[index])
        here = torch.nan_to_num(flow[index][:, rows][:, :, columns].float()).flatten(1).T.cpu().numpy()  # (n, 4)
        _draw_arrows(picture, origin, here[:, :2] * enlarged, here[:, 2:] * enlarged, step, STILL * enlarged)
        made[index] = picture.astype(np.float32) / 255
        if plate is not None:
            _place(made[index], plate)
    return torch.from_numpy(made)


def occlusion(mask: Tensor, flow: Tensor, background: Tensor | None = None, *, key: bool = True) -> Tensor:
    """Which frame each pixel is taken from: orange the left one, blue the right one, grey both.

    mask: ``(T, 1, H, W)`` logit of "take the left frame". Stripes cover what a view cannot show, because its flow
        points out of that frame: falling to the left (/) for the left frame, to the right (\\) for the right one.
    background: ``(T or 1, H, W, 3)`` whose brightness shows through.
    """
    _check(flow, 4, "flow")
    _check(mask, 1, "mask")
    if mask.shape[0] != flow.shape[0] or mask.shape[-2:] != flow.shape[-2:]:
        raise InputError(
            f"mask {tuple(mask.shape)} and flow {tuple(flow.shape)} differ: give both of the same instants"
        )
    _check_background(background, flow)
    height, width = flow.shape[-2:]
    x = torch.arange(width, device=flow.device)
    y = torch.arange(height, device=flow.device)[:, None]
    stripe = max(4, round(min(height, width) / 60))
    hatch = [((x + sign * y) % stripe < max(1, stripe // 4)) for sign in (1, -1)]
    ends = [torch.tensor(c, device=flow.device).view(3, 1, 1) for c in (LEFT, BOTH, RIGHT)]
    made = _blank(flow)
    plate = _share_key((height, width)) if key else None
    for index in range(len(flow)):
        share = torch.nan_to_num(mask[index].float()).sigmoid() * 2 - 1  # (1, H, W): 1 left .. -1 right
        picture = torch.where(share > 0, torch.lerp(ends[1], ends[0], share), torch.lerp(ends[1], ends[2], -share))
        if background is not None:
            light = background[min(index, len(background) - 1)].to(flow.device).float().mean(-1).clamp(0, 1)
            picture = picture * (0.35 + 0.8 * light)
        for side, lines in enumerate(hatch):
            away = flow[index, 2 * side : 2 * side + 2].float()
            outside = ((x + away[0]).sub((width - 1) / 2).abs() > width / 2) | (
                (y + away[1]).sub((height - 1) / 2).abs() > height / 2
            )
            picture = torch.where(outside & lines, 0.05, picture)
        made[index] = picture.clamp(0, 1).permute(1, 2, 0).cpu().numpy()
        if plate is not None:
            _place(made[index], plate)
    return torch.from_numpy(made)


def grid_step(height: int, width: int) -> int:
    """Pixels between two arrows in a picture of this size."""
    return max(8, round(min(height, width) / 18))


# --------------------------------------------------------------------------------------------- arrows


def _draw_arrows(
    picture: np.ndarray, origin: np.ndarray, tail: np.ndarray, tip: np.ndarray, step: int, still: float
) -> None:
    """Arrows from ``origin + tail`` to ``origin + tip`` (each ``(n, 2)``) into a uint8 picture, the longest on top."""
    length = np.hypot(*(tip - tail).T)
    thick = max(1.0, step * 0.085)
    shown = length >= max(still, 2.5 * thick)
    origin, tail, tip, length = origin[shown], tail[shown], tip[shown], length[shown]
    if not len(length):
        return
    heading = (tip - tail) / length[:, None]
    hues = flow_to_colour(torch.from_numpy(heading.T[None, :, :, None]).float(), 1.0)[0, :, :, 0].T.numpy()
    shapes = np.rint((origin[:, None] + _shapes(tail, heading, length, thick)) * 16).astype(np.int32)
    outline = max(2, round(thick * 0.75))
    for at in np.argsort(length):
        cv2.polylines(picture, [shapes[at]], True, (12, 12, 14), outline, cv2.LINE_AA, 4)
        cv2.fillPoly(picture, [shapes[at]], tuple(int(c) for c in hues[at] * 255), cv2.LINE_AA, 4)


def _shapes(tail: np.ndarray, heading: np.ndarray, length: np.ndarray, thick: float) -> np.ndarray:
    """Arrow outlines ``(n, 7, 2)``; short arrows are small all over, so that they stay arrows."""
    head = np.minimum(4.2 * thick, 0.65 * length)[:, None]
    half = head / 4.2 / 2
    aside = np.stack((-heading[:, 1], heading[:, 0]), 1)
    tip, neck = tail + heading * length[:, None], tail + heading * (length[:, None] - head)
    wing = aside * head * 0.46
    shaft = aside * half
    return np.stack((tail - shaft, neck - shaft, neck - wing, tip, neck + wing, neck + shaft, tail + shaft), 1)


def _muted(image: Tensor | None, like: np.ndarray) -> np.ndarray:
    """Ground for arrows: uint8, pale enough that hues read as directions."""
    if image is None:
        return np.full(like.shape, 34, np.uint8)
    pixels = image.detach().float().clamp(0, 1).cpu().numpy()
    grey = pixels.mean(-1, keepdims=True)
    return np.rint((0.7 * grey + 0.3 * pixels) * 200).astype(np.uint8)


# ----------------------------------------------------------------------------------------------- keys


def _text_height(size: tuple[int, int]) -> float:
    return max(6.5, 3.5 + min(size) * 0.017)


def _wheel_key(size: tuple[int, int], fastest: float) -> np.ndarray:
    unit = _text_height(size)
    label = f"{fastest:g} px"
    across = min(5 * unit, 0.27 * min(size))
    pad = 0.6 * unit
    width = math.ceil(max(across, text_width(label, unit)) + 2 * pad)
    canvas = Canvas(width, math.ceil(across + unit + 3 * pad), _PLATE)
    samples = torch.linspace(-1, 1, 4 * math.ceil(across))
    y, x = torch.meshgrid(samples, samples, indexing="ij")
    # The rim is a hair inside of full, or its rounding would fall into the darkened beyond.
    wheel = flow_to_colour(torch.stack((x, y))[None].div(1.001), 1.0)[0].permute(1, 2, 0).numpy()
    canvas.disc(wheel, width / 2, pad + across / 2, across / 2)
    canvas.text(label, width / 2, canvas.height - pad - unit / 2, unit, _TEXT, 0.5)
    return canvas.pixels()


def _arrow_key(size: tuple[int, int], fastest: float, enlarged: float, step: int) -> np.ndarray:
    unit = _text_height(size)
    pad = 0.6 * unit
    thick = max(1.0, step * 0.085)
    length = fastest * enlarged
    lines = [f"{fastest:g} px"]
    if enlarged != 1 and text_width(note := f"drawn x{enlarged:g}", unit) < 0.35 * size[1]:
        lines.append(note)
    width = math.ceil(max([length] + [text_width(line, unit) for line in lines]) + 2 * pad)
    canvas = Canvas(width, math.ceil(4.2 * thick + len(lines) * (unit + pad) + 2 * pad), _PLATE)
    tail = np.array([[(width - length) / 2, pad + 2.1 * thick]])
    canvas.area(_shapes(tail, np.array([[1.0, 0.0]]), np.array([length]), thick)[0], _TEXT)
    for number, line in enumerate(lines):
        y = 4.2 * thick + (number + 1) * (unit + pad) + pad - unit / 2
        canvas.text(line, width / 2, y, unit, _DIM if number else _TEXT, 0.5)
    return canvas.pixels()


def _share_key(size: tuple[int, int]) -> np.ndarray:
    unit = _text_height(size)
    pad = 0.6 * unit
    words, note = ("left", "both", "right"), "out of the frame"
    across = max(1.2 * sum(text_width(word, unit) for word in words) + 2 * pad, text_width(note, unit) + 2.2 * unit)
    rows = 3
    if across + 2 * pad > 0.6 * size[1]:  # no room for words: the colours alone
        across, rows = 0.35 * size[1], 1
    canvas = Canvas(math.ceil(across + 2 * pad), math.ceil(rows * (unit + pad) + pad), _PLATE)
    ramp = np.concatenate((np.linspace(LEFT, BOTH, 32), np.linspace(BOTH, RIGHT, 32))).astype(np.float32)
    canvas.picture(ramp[None], pad, pad, across, unit)
    if rows == 1:
        return canvas.pixels()
    for word, align in zip(words, (0, 0.5, 1), strict=True):
        canvas.text(word, pad + align * across, 1.5 * unit + 2 * pad, unit, _TEXT, align)
    top = 2 * unit + 3 * pad
    canvas.box(pad, top, pad + 1.6 * unit, top + unit, BOTH)
    for start in (0.1, 0.5, 0.9):
        corner = pad + start * unit
        slant = [(corner, top + unit), (corner + 0.35 * unit, top + unit)]
        canvas.area([*slant, (corner + 0.7 * unit, top), (corner + 0.35 * unit, top)], _PLATE)
    canvas.text(note, pad + 2.2 * unit, top + unit / 2, unit, _DIM)
    return canvas.pixels()


def _place(picture: np.ndarray, plate: np.ndarray) -> None:
    """Into the lower right corner; a plate larger than half the picture would hide what it explains."""
    height, width = picture.shape[:2]
    margin = max(2, min(height, width) // 60)
    if plate.shape[0] + margin <= 0.6 * height and plate.shape[1] + margin <= width:
        left, top = width - plate.shape[1] - margin, height - plate.shape[0] - margin
        overlay(picture, plate, left, top, 0.12 * min(plate.shape[:2]))


# ---------------------------------------------------------------------------------------------- shared


def _motion(flow: Tensor) -> Tensor:
    """``(T, 4, H, W)`` -> ``(T, 2, H, W)`` float32, without what is not a number."""
    return torch.nan_to_num(flow[:, 2:].float() - flow[:, :2].float(), posinf=0, neginf=0)


def _round_up(value: float) -> float:
    """The first round number from ``value`` on, at least 1."""
    power = 10.0 ** math.floor(math.log10(max(value, 1)))
    return next((s * power for s in _STEPS if s * power >= value), 10 * power)


def _round_down(value: float) -> float:
    """The last round number up to ``value``."""
    power = 10.0 ** math.floor(math.log10(value))
    return max(s for s in _STEPS if s * power <= value * (1 + 1e-9)) * power


def _blank(flow: Tensor) -> np.ndarray:
    return np.zeros((len(flow), *flow.shape[-2:], 3), np.float32)


def _check(tensor: Tensor, channels: int, name: str) -> None:
    if tensor.ndim != 4 or tensor.shape[1] != channels:
        raise InputError(
            f"{name} of shape {tuple(tensor.shape)}: give (T, {channels}, H, W), one entry for each instant"
        )


def _check_background(background: Tensor | None, flow: Tensor) -> None:
    if background is None:
        return
    count, (height, width) = len(flow), flow.shape[-2:]
    if background.ndim != 4 or background.shape[1:] != (height, width, 3) or background.shape[0] not in (1, count):
        raise InputError(
            f"background of shape {tuple(background.shape)}: give ({count} or 1, {height}, {width}, 3), like the flow"
        )
