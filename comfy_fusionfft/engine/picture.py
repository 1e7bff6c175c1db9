"""Frame pixels <-> pictures for networks.

Pixels are ``(H, W, C)`` in the file's own integers or floats, grey, RGB or RGBA with straight alpha.
Pictures are ``(1, C, H, W)`` float32 with C = 3, or 4 with *premultiplied* colour before alpha: only
premultiplied colour can be warped and mixed without dark or bright fringes at soft edges.
"""

from __future__ import annotations

import torch
from torch import Tensor

from ..errors import InputError

_PEAK = {torch.uint8: 255, torch.uint16: 65535}


def to_picture(pixels: Tensor, device: torch.device) -> Tensor:
    """``(H, W, C)`` pixels -> ``(1, C, H, W)`` float32 on ``device``; grey becomes three equal channels.

    Raises InputError for pixels that are not finite or not of 1, 3 or 4 channels.
    """
    if pixels.ndim != 3 or pixels.shape[2] not in (1, 3, 4):
        raise InputError(
            f"frame of shape {tuple(pixels.shape)}: need (height, width, channels) with 1, 3 or 4 channels"
        )
    if pixels.is_floating_point() and not bool(torch.isfinite(pixels).all()):
        raise InputError(
            "a frame holds NaN or infinite values: repair the clip or the node that made it, then run again"
        )
    if pixels.dtype == torch.uint16:  # few device kernels exist for it
        pixels = pixels.to(torch.float32)
        peak = 65535
    else:
        peak = _PEAK.get(pixels.dtype, 1)
    picture = pixels.to(device).to(torch.float32).permute(2, 0, 1).unsqueeze(0).contiguous()  # 1 C H W
    if peak != 1:
        picture = picture / peak
    if picture.shape[1] == 1:
        return picture.expand(-1, 3, -1, -1)
    if picture.shape[1] == 4:
        alpha = picture[:, 3:]
        return torch.cat((picture[:, :3] * alpha, alpha), dim=1)
    return picture


def to_pixels(picture: Tensor, like: Tensor) -> Tensor:
    """``(C, H, W)`` picture -> CPU pixels ``(H, W, C')`` of the dtype and channels of ``like``.

    Integers are rounded to the nearest level and clipped; floats keep values beyond 0..1.
    """
    if picture.shape[0] == 4:
        alpha = picture[3:].clamp(0, 1)
        colour = torch.where(alpha > 0, picture[:3] / alpha.clamp_min(1e-6), torch.zeros_like(picture[:3]))
        picture = torch.cat((colour, alpha))
    elif like.shape[2] == 1:
        picture = picture.mean(0, keepdim=True)
    pixels = picture.permute(1, 2, 0)  # H W C
    peak = _PEAK.get(like.dtype)
    if peak is None:
        return pixels.to(like.dtype).cpu().contiguous()
    levels = pixels.mul(peak).round_().clamp_(0, peak)
    if like.dtype == torch.uint16:
        return levels.to(torch.int32).cpu().to(torch.uint16).contiguous()
    return levels.to(like.dtype).cpu().contiguous()
