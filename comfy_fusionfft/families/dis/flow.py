"""DIS optical flow as a source of motion: no weights, no GPU, every size of picture.

Flow is searched between the two source pictures both ways and scaled by time. Written for a point x of the
picture at t: flow to the left is t·F₁₀(x), to the right (1 - t)·F₀₁(x), as though the motion found at x in
the right and in the left picture were the motion at x in between. Carrying each motion along itself to t
first (projection) was tried and moved the result by less than its cost.

The mask prefers the side whose view lies inside the picture: at the edges of a moving camera only one does.
Forward-backward consistency enters softly: a hard check loses more grain and detail than it removes ghosts.

"Fast Optical Flow using Dense Inverse Search", Kroeger et al., ECCV 2016.
"""

from __future__ import annotations

from typing import Literal

import cv2
import numpy as np
import torch
from torch import Tensor

from ...contract import Flow
from ...errors import InputError

SMALLEST_SIDE = 48
"""Below this OpenCV's choice of pyramid levels fails, or crashes: such pictures are extended first."""
OUTSIDE_PX = 0.5
"""A view this far beyond the picture's edge weighs 1/e of one inside."""
LEAST_WEIGHT = 1e-4
"""Where neither view is any good, this keeps the mask at the plain time weighting."""


class DISFlow:
    """Dense inverse search between two pictures, on the CPU (``contract.FlowSource``).

    scale: search on a picture this much smaller (0.25, 0.5) or larger (2, 4); smaller finds larger motion
        and costs less on pictures beyond full HD.
    preset: ``ultrafast``, ``fast`` or ``medium``.

    Deterministic, whatever the number of threads.
    """

    modulus = 1
    padding: Literal["replicate"] = "replicate"

    def __init__(self, *, scale: float = 1.0, preset: str = "medium") -> None:
        if scale <= 0:
            raise InputError(f"a DIS scale of {scale} was given: use 1, or 0.5 for large pictures")
        presets = ("ultrafast", "fast", "medium")
        if preset not in presets:
            raise InputError(f"DIS preset {preset!r} is not known: use {', '.join(presets)}")
        self.scale = scale
        self._finder = cv2.DISOpticalFlow.create(getattr(cv2, f"DISOPTICAL_FLOW_PRESET_{preset.upper()}"))

    def features(self, image: Tensor) -> np.ndarray:
        """``(1, 3, H, W)`` in 0..1 -> grey ``(H·scale, W·scale)`` uint8, what the search works on."""
        weights = image.new_tensor((0.299, 0.587, 0.114)).view(3, 1, 1)
        grey = (image[0].float() * weights).sum(0).clamp(0, 1).mul(255).round().to(torch.uint8).cpu().numpy()
        if self.scale == 1:
            return grey
        size = tuple(max(1, round(side * self.scale)) for side in grey.shape[::-1])
        return cv2.resize(grey, size, interpolation=cv2.INTER_AREA if self.scale < 1 else cv2.INTER_LINEAR)

    @torch.no_grad()
    def flow(
        self,
        left: Tensor,
        right: Tensor,
        left_features: np.ndarray | None,
        right_features: np.ndarray | None,
        times: Tensor,
    ) -> Flow:
        """``(1, 3, H, W)`` twice and times ``(T,)`` in (0, 1) -> Flow of T instants, on the images' device."""
        grey_left = self.features(left) if left_features is None else left_features
        grey_right = self.features(right) if right_features is None else right_features
        size = left.shape[-2:]
        forward, backward = (
            torch.from_numpy(self._resized(self.search(*pair), size)).permute(2, 0, 1)[None].to(left.device)
            for pair in ((grey_left, grey_right), (grey_right, grey_left))
        )
        t = times.to(device=left.device, dtype=torch.float32).view(-1, 1, 1, 1)
        to_left, to_right = t * backward, (1 - t) * forward
        seen_left = (1 - t) * inside(to_left)
        seen_right = t * inside(to_right)
        mask = torch.log(seen_left + LEAST_WEIGHT * (1 - t)) - torch.log(seen_right + LEAST_WEIGHT * t)
        return Flow(torch.cat((to_left, to_right), dim=1), mask)

    def search(self, source: np.ndarray, target: np.ndarray) -> np.ndarray:
        """Motion from each pixel of ``source (H, W)`` uint8 to ``target``, ``(H, W, 2)`` float32 pixels."""
        height, width = source.shape
        missing = (0, max(0, SMALLEST_SIDE - height), 0, max(0, SMALLEST_SIDE - width))
        if any(missing):
            source, target = (cv2.copyMakeBorder(x, *missing, cv2.BORDER_REPLICATE) for x in (source, target))
        return np.ascontiguousarray(self._finder.calc(source, target, None)[:height, :width])

    @staticmethod
    def _resized(flow: np.ndarray, size: tuple[int, int]) -> np.ndarray:
        height, width = size
        if flow.shape[:2] == (height, width):
            return flow
        stretch = np.float32((width / flow.shape[1], height / flow.shape[0]))
        return cv2.resize(flow, (width, height), interpolation=cv2.INTER_LINEAR) * stretch


def inside(flow: Tensor) -> Tensor:
    """``(B, 2, H, W)`` flow -> ``(B, 1, H, W)``: 1 where it points into the picture, falling to 0 outside."""
    height, width = flow.shape[-2:]
    x = flow[:, 0] + torch.arange(width, device=flow.device)
    y = flow[:, 1] + torch.arange(height, device=flow.device)[:, None]
    beyond = torch.stack((-x, x - (width - 1), -y, y - (height - 1)), dim=1).amax(1, keepdim=True).clamp_min(0)
    return torch.exp(-beyond / OUTSIDE_PX)
