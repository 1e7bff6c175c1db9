"""How far a made picture is from the true one.

Distances enter by their logarithm, sample by sample: a clip that is easy counts as much as one that is hard,
which is what a mean PSNR asks for, and what being better on every clip needs. Pictures are ``(B, 3, H, W)`` in
0..1, weights ``(B or 1, 1, H, W)``.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor


def distance_loss(made: Tensor, truth: Tensor, weight: Tensor, octaves: int = 3) -> Tensor:
    """Mean over samples of log(squares) and log(Laplacian pyramid's absolute values), halved.

    The constants are errors that nobody sees: below them a sample no longer counts for more.
    """
    difference = made - truth
    squares = (difference.square() * weight).mean((1, 2, 3))
    pyramid, finer, share = torch.zeros_like(squares), difference, weight
    for octave in range(octaves):
        coarser = F.avg_pool2d(finer, 2)
        detail = finer - F.interpolate(coarser, scale_factor=2, mode="bilinear")
        pyramid = pyramid + (_absolute(detail) * share).mean((1, 2, 3)) * 2**octave
        finer, share = coarser, F.avg_pool2d(share, 2)
    pyramid = pyramid + (_absolute(finer) * share).mean((1, 2, 3)) * 2**octaves
    return 0.5 * (squares + 2e-5).log().mean() + 0.5 * (pyramid + 4e-3).log().mean()


def edge_loss(made: Tensor, truth: Tensor, weight: Tensor) -> Tensor:
    """Mean over samples of the log of the distance of Sobel gradients of brightness."""
    difference = (made - truth).mean(1, keepdim=True)
    smooth = difference.new_tensor([1.0, 2.0, 1.0]) / 4
    slope = difference.new_tensor([-1.0, 0.0, 1.0]) / 2
    kernels = torch.stack((smooth[:, None] * slope, slope[:, None] * smooth))[:, None]
    gradient = F.conv2d(difference, kernels)
    return ((_absolute(gradient) * weight[..., 1:-1, 1:-1]).mean((1, 2, 3)) + 2e-3).log().mean()


def spectrum_loss(made: Tensor, truth: Tensor, tile: int = 32) -> Tensor:
    """Distance of log-magnitudes of the spectra of tapered tiles, weighted by (r / r_max)^1.5.

    Magnitudes are averaged over all tiles of a sample first: texture shall be as strong, not in place.
    """
    window = torch.hann_window(tile, periodic=False, device=made.device)
    window = window[:, None] * window
    radius = torch.fft.fftfreq(tile, device=made.device)[:, None].hypot(torch.fft.rfftfreq(tile, device=made.device))
    rising = (radius / radius.max()) ** 1.5
    logs = []
    for picture in (made, truth):
        tiles = picture.mean(1).unfold(1, tile, tile // 2).unfold(2, tile, tile // 2)  # (B, n, n, tile, tile)
        power = torch.fft.rfft2((tiles - tiles.mean((-1, -2), keepdim=True)) * window).abs().square().mean((1, 2))
        logs.append((power + 1e-4).log() / 2)
    return ((logs[0] - logs[1]).abs() * rising).mean() / rising.mean()


def _absolute(x: Tensor) -> Tensor:
    return (x.square() + 1e-6).sqrt()
