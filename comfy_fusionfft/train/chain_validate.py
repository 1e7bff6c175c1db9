"""How far a fusion network has come, on held-out clips: whole frames, against the same flows without a network."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
import torch
from torch import Tensor, nn

from ..families.dis.flow import DISFlow
from ..families.fusionfft.anchors import link
from ..families.fusionfft.fuse import plain_answer
from ..families.fusionfft.inputs import FusionInput, from_links
from ..quality import psnr
from .data import is_held_out
from .pack import decode, read_index

HIGH = 0.32
"""Cycles per pixel: where the high band begins."""


@dataclass(frozen=True, slots=True)
class ChainValidation:
    """Samples: what the network is given (B = 1), the truth ``(1, 3, H, W)``, and how far frames lie apart."""

    samples: tuple[tuple[FusionInput, Tensor, int], ...]

    @classmethod
    def load(
        cls, packs_dir: Path, device: torch.device | str, limit: int = 24, anchors: int = 3
    ) -> ChainValidation | None:
        """None when no clip is held out."""
        held = [window for window in read_index(packs_dir) if is_held_out(window.clip)]
        samples = []
        for number, (window, stack) in enumerate(decode(packs_dir, held[:: max(1, len(held) * 2 // limit)])):
            middle = window.count // 2
            samples.append((*instant(stack, middle, 2, anchors, device), 2))
            samples.append((*instant(stack, middle - number % 3 + 1, 4, anchors, device), 4))
        return cls(tuple(samples)) if samples else None

    @torch.no_grad()
    def check(self, net: nn.Module) -> tuple[dict[str, float], list[tuple[Tensor, Tensor, Tensor]]]:
        """-> means of PSNR in dB for each spacing, with the gains over plain blends; rows for a sample sheet."""
        table, rows = [], []
        for number, (x, truth, d) in enumerate(self.samples):
            x = x._replace(frames=x.frames.float() / 255)
            made = net(x).float().clamp(0, 1)
            answers = [plain_answer(x, quadratic=bent)[0] for bent in (False, True)]
            scores = [psnr(each.cpu(), truth.cpu()) for each in (*answers, made)]
            table.append((d, *scores, high_energy(made) / max(high_energy(truth), 1e-9)))
            if number % 4 == 1 and len(rows) < 6:
                rows.append((truth[0], made[0], x.motion[0, 0].flatten(0, 1)))
        result = {}
        for d in sorted({row[0] for row in table}):
            of = np.array([row[1:] for row in table if row[0] == d])
            gain = of[:, 2] - of[:, 0]
            result |= {
                f"psnr{d}": of[:, 2].mean(),
                f"gain{d}": gain.mean(),
                f"quadratic{d}": (of[:, 1] - of[:, 0]).mean(),
                f"better{d}": (gain > 0).mean(),
                f"worst{d}": gain.min(),
            }
        result = {"psnr": float(np.mean([row[3] for row in table]))} | {k: float(v) for k, v in result.items()}
        return result | {"energy": float(np.median([row[4] for row in table]))}, rows


def instant(
    stack: np.ndarray, middle: int, d: int, anchors: int, device: torch.device | str
) -> tuple[FusionInput, Tensor]:
    """The frame ``middle`` of a window, as it is asked for when every d-th frame is left -> input, truth.

    Frames of the input are bytes. Its instant is 1/2 for d = 2, 1/4, 1/2 or 3/4 for d = 4 by ``middle % 3``.
    """
    dis = DISFlow()
    count, (height, width) = len(stack), stack.shape[1:3]
    step = 1 + middle % (d - 1) if d > 2 else 1
    left = middle - step
    places = [left + (m + 1 - anchors) * d for m in range(2 * anchors)]
    exists = [0 <= place < count for place in places]
    pictures = torch.from_numpy(stack).permute(0, 3, 1, 2)
    empty = torch.zeros(1, 2, height, width)

    def motion(p: int, time: float):
        images = [pictures[q][None].float() / 255 for q in (p, p + d)]
        return dis.flow(*images, None, None, torch.tensor([time]))

    ways = {p: link(motion(p, 0.5).flow) for p in places[:-1] if p != left and p >= 0 and p + d < count}
    back = [ways[p].back if p in ways else empty for p in places[anchors - 2 :: -1]] if anchors > 1 else []
    ahead = [ways[p].ahead if p in ways else empty for p in places[anchors:-1]]
    none = torch.zeros(1, 0, 2, height, width)
    back, ahead = (torch.stack(side, 1) if side else none for side in (back, ahead))
    frames = torch.stack([pictures[p if there else left] for p, there in zip(places, exists, strict=True)])[None]
    x = from_links(frames, torch.tensor([exists]), motion(left, step / d), back, ahead, torch.tensor([step / d]))
    truth = pictures[middle][None].float() / 255
    return FusionInput(*(part.to(device) for part in x)), truth.to(device)


def high_energy(picture: Tensor) -> float:
    """Energy of the brightness above ``HIGH`` cycles per pixel."""
    grey = cv2.cvtColor(picture[0].permute(1, 2, 0).cpu().numpy(), cv2.COLOR_RGB2GRAY)
    rows, columns = np.fft.fftfreq(grey.shape[0])[:, None], np.fft.rfftfreq(grey.shape[1])
    return float((np.abs(np.fft.rfft2(grey)) ** 2)[np.hypot(rows, columns) > HIGH].sum())
