"""Pictures as frames, and what a survey says of them."""

from fractions import Fraction

import numpy as np
import torch

from comfy_fusionfft.contract import Frame
from comfy_fusionfft.survey import survey


def as_frames(pictures, rate=24):
    tensors = (torch.from_numpy(p) if isinstance(p, np.ndarray) else p for p in pictures)
    return (Frame(pixels, Fraction(n, rate)) for n, pixels in enumerate(tensors))


def of(pictures, rate=24):
    return survey(as_frames(pictures, rate))
