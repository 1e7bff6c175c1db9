"""Frame pixels <-> pictures for networks.

Pixels are ``(H, W, C)`` in the file's own integers or floats, grey, RGB or RGBA with straight alpha.
Pictures are ``(1, C, H, W)`` float32 with C = 3, or 4 with *premultiplied* colour before alpha: only
premultiplied colour can be warped and mixed without dark or bright fringes at soft edges.

Between memory and device pixels travel *stored*: as they are, the fewest bytes there can be, with uint16
under the name of int16, because few device kernels know it. Both conversions run where the picture is.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

import torch
from torch import Tensor

from ..errors import DeviceError, InputError
from ..ops.strips import strip_rows, strips

_PEAK = {torch.uint8: 255, torch.uint16: 65535}


def check_pixels(pixels: Tensor) -> None:
    """InputError for pixels that are not finite or not of 1, 3 or 4 channels."""
    if pixels.ndim != 3 or pixels.shape[2] not in (1, 3, 4):
        raise InputError(
            f"frame of shape {tuple(pixels.shape)}: need (height, width, channels) with 1, 3 or 4 channels"
        )
    # the extremes are not finite when any value is not, and cost a twentieth of asking every one
    if pixels.is_floating_point() and not torch.isfinite(extremes(pixels)).all():
        raise InputError(
            "a frame holds NaN or infinite values: repair the clip or the node that made it, then run again"
        )


def extremes(picture: Tensor) -> Tensor:
    """Lowest and highest value ``(2,)``, where the picture is; not finite when any value is not."""
    return torch.stack(picture.aminmax())


def check_made(extremes: Tensor) -> None:
    """DeviceError for the extremes of a made picture that is not finite: in integers it would just be black."""
    if not torch.isfinite(extremes).all():
        raise DeviceError(
            "a made picture holds NaN or infinite values: run again in float32, for half precision may not hold what "
            "this network computes; if that does not help, its weights are damaged, or the frames hold numbers beyond "
            "1e15"
        )


def to_picture(pixels: Tensor, device: torch.device, empty: Callable[..., Tensor] = torch.empty) -> Tensor:
    """``(H, W, C)`` pixels -> ``(1, C, H, W)`` float32 on ``device``; grey becomes three equal channels.

    empty: ``torch.empty`` or its like, such as ``ops.memory.Memory().empty``. Raises InputError for pixels that are
    not finite or not of 1, 3 or 4 channels.
    """
    check_pixels(pixels)
    return unpack(stored(pixels).to(device), pixels.dtype, empty)


def to_pixels(picture: Tensor, like: Tensor, empty: Callable[..., Tensor] = torch.empty) -> Tensor:
    """``(C, H, W)`` picture -> CPU pixels ``(H, W, C')`` of the dtype and channels of ``like``.

    Integers are rounded to the nearest level and clipped; floats keep values beyond 0..1.
    """
    return restored(pack(picture, like, empty).cpu(), like.dtype)


def stored(pixels: Tensor) -> Tensor:
    """The same memory, of a type that every device copies."""
    return pixels.view(torch.int16) if pixels.dtype == torch.uint16 else pixels


def restored(pixels: Tensor, dtype: torch.dtype) -> Tensor:
    """Undo ``stored``."""
    return pixels.view(dtype) if dtype == torch.uint16 else pixels


def unpack(pixels: Tensor, dtype: torch.dtype, empty: Callable[..., Tensor] = torch.empty) -> Tensor:
    """Stored pixels ``(H, W, C)``, of ``dtype`` in truth -> picture ``(1, C, H, W)`` on the same device."""
    height, width, channels = pixels.shape
    picture = empty(channels, height, width, dtype=torch.float32, device=pixels.device)
    if dtype == torch.uint16:
        for here in _rows(picture):
            picture[:, here] = (pixels[here].to(torch.int32) & 0xFFFF).permute(2, 0, 1)
    else:
        for channel in range(channels):
            picture[channel] = pixels[..., channel]
    if dtype in _PEAK:
        picture /= _PEAK[dtype]
    if channels == 4:
        picture[:3] *= picture[3:].clamp_(0, 1)
    return picture.unsqueeze(0).expand(1, 3 if channels == 1 else channels, -1, -1)  # 1 C H W


def pack(picture: Tensor, like: Tensor, empty: Callable[..., Tensor] = torch.empty) -> Tensor:
    """Picture ``(C, H, W)`` -> contiguous stored pixels ``(H, W, C')`` like ``like``, on the picture's device."""
    channels, height, width = picture.shape
    grey = channels == 3 and like.shape[2] == 1
    dtype = torch.int16 if like.dtype == torch.uint16 else like.dtype
    pixels = empty(height, width, 1 if grey else channels, dtype=dtype, device=picture.device)
    for here in _rows(picture):
        part = picture[:, here]
        if channels == 4:
            part = _straight(part)
        elif grey:
            part = part.mean(0, keepdim=True)
        if like.dtype in _PEAK:
            peak = _PEAK[like.dtype]
            part = part.mul(peak).round_().clamp_(0, peak)
            part = part.to(torch.int32) if like.dtype == torch.uint16 else part
        pixels[here] = part.to(dtype).permute(1, 2, 0)  # in two steps: one copy that does both is slower
    return pixels


def _straight(picture: Tensor) -> Tensor:
    """Colour no longer premultiplied by the alpha behind it."""
    alpha = picture[3:].clamp(0, 1)
    colour = torch.where(alpha > 0, picture[:3] / alpha.clamp_min(1e-6), torch.zeros_like(picture[:3]))
    return torch.cat((colour, alpha))


def _rows(picture: Tensor) -> Iterator[slice]:
    """The rows of ``(C, H, W)`` that are converted at a time."""
    height, width = picture.shape[-2:]
    return strips(height, strip_rows(height, width, picture.device))
