"""Full-reference measures of made pictures.

Pictures are ``(H, W, 3)`` RGB in 0..1, NumPy arrays or CPU tensors; inside, everything is NumPy float64,
because high bands carry a millionth of a spectrum's energy. All results are plain floats. Measures of detail
and of motion sit beside PSNR because PSNR rewards blur.

SSIM: "Image Quality Assessment: From Error Visibility to Structural Similarity", Wang et al., 2004.
tOF: "Learning Temporal Coherence via Self-Supervision for GAN-based Video Generation", Chu et al., 2020.
"""

from __future__ import annotations

from collections.abc import Iterable
from itertools import zip_longest

import cv2
import numpy as np
from numpy.typing import ArrayLike

from .errors import InputError

SSIM_WINDOW = 11
SSIM_SIGMA = 1.5
HIGH_BAND = 0.32
"""Where the high band begins, in cycles per pixel: structures finer than about 3 pixels."""
PSNR_CEILING = 100.0
"""PSNR of equal pictures in dB: infinite in theory, which would drown every mean it enters."""


def psnr(image: ArrayLike, truth: ArrayLike) -> float:
    """Peak signal-to-noise ratio in dB of pictures with peak 1, any one shape; at most ``PSNR_CEILING``."""
    image, truth = _pair(image, truth)
    error = float(np.mean((image - truth) ** 2))
    return min(PSNR_CEILING, -10 * np.log10(max(error, 1e-30)))


def ssim(image: ArrayLike, truth: ArrayLike, *, borders: bool = True) -> float:
    """Structural similarity of ``(H, W, C)`` pictures in 0..1, mean over pixels and channels; 1 when equal.

    Gaussian window of 11 pixels, σ 1.5, K1 0.01, K2 0.03, data range 1.
    borders: they are mirrored and count, which is what torchmetrics computes; False: only pixels whose whole window
        lies in the picture count, as in the first publication and in the figures of super-resolution.
    """
    image, truth = _pair(image, truth)
    if not borders and min(image.shape[:2]) < SSIM_WINDOW:
        raise InputError(f"a picture of shape {image.shape}: SSIM without borders needs {SSIM_WINDOW} pixels a side")

    def blur(x: np.ndarray) -> np.ndarray:
        return cv2.GaussianBlur(x, (SSIM_WINDOW, SSIM_WINDOW), SSIM_SIGMA, borderType=cv2.BORDER_REFLECT_101)

    mean_a, mean_b = blur(image), blur(truth)
    var_a = blur(image * image) - mean_a**2
    var_b = blur(truth * truth) - mean_b**2
    covariance = blur(image * truth) - mean_a * mean_b
    c1, c2 = 0.01**2, 0.03**2
    score = (2 * mean_a * mean_b + c1) * (2 * covariance + c2)
    score /= (mean_a**2 + mean_b**2 + c1) * (var_a + var_b + c2)
    if not borders:
        margin = SSIM_WINDOW // 2
        score = score[margin:-margin, margin:-margin]
    return float(score.mean())


def high_band_energy(image: ArrayLike, lo: float = HIGH_BAND) -> float:
    """Σ|rFFT2(grey)|² over radial frequencies above ``lo`` cycles per pixel of an ``(H, W, 3)`` picture.

    Grey is the plain mean of the channels. No window: the jump across opposite edges counts, in a made
    picture as in its truth. Each bin of the half spectrum counts once.
    """
    grey = np.asarray(image, dtype=np.float64).mean(axis=2)
    height, width = grey.shape
    radius = np.hypot(np.fft.fftfreq(height)[:, None], np.fft.rfftfreq(width)[None])
    return float((np.abs(np.fft.rfft2(grey)) ** 2)[radius > lo].sum())


def high_band_energy_ratio(image: ArrayLike, truth: ArrayLike, lo: float = HIGH_BAND) -> float:
    """High-band energy of a made picture over its truth's: 1 is right, below 1 blurred, above 1 too crisp.

    Both ``(H, W, 3)`` in 0..1. NaN when the truth has no energy in the band (a flat picture).
    """
    image, truth = _pair(image, truth)
    energy = high_band_energy(truth, lo)
    # Rounding alone leaves about 1e-26 of the total energy in a band that should be empty.
    if energy <= 1e-20 * max(1.0, float((truth**2).sum())) * truth.size:
        return float("nan")
    return high_band_energy(image, lo) / energy


def temporal_of(made: Iterable[ArrayLike], truth: Iterable[ArrayLike]) -> float:
    """tOF: mean difference in pixels between the motion of a made sequence and the true sequence's.

    Two equally long sequences of at least 2 ``(H, W, 3)`` pictures in 0..1, of which two of each are held at a time.
    The mean over pairs of ``motion_error``. Lower is better; flicker and jumping edges raise it even where each
    picture alone scores well.
    """
    errors: list[float] = []
    before: tuple[ArrayLike, ArrayLike] | None = None
    count = 0
    for count, now in enumerate(zip_longest(made, truth), 1):
        if any(picture is None for picture in now):
            raise InputError(f"tOF of sequences of which one ends after {count - 1} pictures: need equally long ones")
        _same_shape(np.shape(now[0]), np.shape(now[1]))
        if before is not None:
            errors.append(motion_error(motion(before[0], now[0]), motion(before[1], now[1])))
        before = now
    if not errors:
        raise InputError(f"tOF of {count} made and {count} true pictures: need two sequences of at least 2")
    return float(np.mean(errors))


def motion(before: ArrayLike, after: ArrayLike) -> np.ndarray:
    """The flow that tOF compares: from one ``(H, W, 3)`` picture in 0..1 to the next -> ``(h, w, 2)`` float32 pixels.

    Farnebäck's flow of the whole pictures in 8-bit grey (BT.601), pyramid 0.5, 3 levels, window 15, 3 iterations,
    polynomials over 5 pixels with σ 1.2. Of the flow the middle counts, as in the publication: along each axis the
    largest multiple of 32 that leaves out at least 16 pixels, both sides together. An axis shorter than 48 counts
    whole.
    """
    _same_shape(np.shape(before), np.shape(after))
    greys = (cv2.cvtColor(_levels(picture), cv2.COLOR_RGB2GRAY) for picture in (before, after))
    flow = cv2.calcOpticalFlowFarneback(
        *greys, None, pyr_scale=0.5, levels=3, winsize=15, iterations=3, poly_n=5, poly_sigma=1.2, flags=0
    )
    return flow[_middle(flow.shape[0]), _middle(flow.shape[1])]


def motion_error(flow: np.ndarray, true_flow: np.ndarray) -> float:
    """Mean Euclidean length in pixels of the difference of two flows ``(h, w, 2)``."""
    return float(np.linalg.norm(flow - true_flow, axis=2).mean())


def _middle(size: int) -> slice:
    kept = max(0, size - 16) // 32 * 32 or size
    start = (size - kept) // 2
    return slice(start, start + kept)


class MotionFromEnds:
    """tOF of one made frame that sits between two kept ones: does motion from the real frames go where it should?

    For each of the two real frames around (``ends``), DIS flow (fast preset) from it to the made frame is
    compared with DIS flow from it to the true frame: Euclidean length of the difference in pixels, mean over all
    pixels and both ends. 0 for the truth, lower is better. A frame that stays behind or doubles an edge raises
    it; the same blur on both sides of an edge hardly does.

    ends, truth: ``(H, W, 3)`` in 0..1. The true motion is found once, for any number of made frames.
    """

    def __init__(self, ends: tuple[ArrayLike, ArrayLike], truth: ArrayLike) -> None:
        self._finder = cv2.DISOpticalFlow.create(cv2.DISOPTICAL_FLOW_PRESET_FAST)
        self._shape = np.shape(truth)
        for end in ends:
            _same_shape(np.shape(end), self._shape)
        self._ends = [_grey_bytes(end) for end in ends]
        self._true = self._motion(truth)

    def error(self, made: ArrayLike) -> float:
        """tOF in pixels of ``(H, W, 3)`` in 0..1."""
        _same_shape(np.shape(made), self._shape)
        return float(np.mean([motion_error(*pair) for pair in zip(self._motion(made), self._true, strict=True)]))

    def _motion(self, picture: ArrayLike) -> list[np.ndarray]:
        grey, (height, width) = _grey_bytes(picture), self._shape[:2]
        return [self._finder.calc(end, grey, None)[:height, :width] for end in self._ends]


def _grey_bytes(picture: ArrayLike) -> np.ndarray:
    grey = _levels(np.asarray(picture, dtype=np.float64).mean(axis=2))
    missing = (0, max(0, 48 - grey.shape[0]), 0, max(0, 48 - grey.shape[1]))  # DIS refuses smaller pictures
    return cv2.copyMakeBorder(grey, *missing, cv2.BORDER_REPLICATE)


def _levels(picture: ArrayLike) -> np.ndarray:
    return np.round(np.asarray(picture, dtype=np.float64).clip(0, 1) * 255).astype(np.uint8)


def _pair(image: ArrayLike, truth: ArrayLike) -> tuple[np.ndarray, np.ndarray]:
    image, truth = np.asarray(image, dtype=np.float64), np.asarray(truth, dtype=np.float64)
    _same_shape(image.shape, truth.shape)
    return image, truth


def _same_shape(shape: tuple[int, ...], other: tuple[int, ...]) -> None:
    if shape != other:
        raise InputError(f"pictures of shapes {shape} and {other}: a measure needs two of the same shape")
