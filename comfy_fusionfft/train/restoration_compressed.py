"""Samples of restoring compressed video: frames reduced four times and put through H.264, and the frames as they were.

In: runs of sharp frames (``train.restoration_clips``): packs, the ``train_sharp`` of folders as those of REDS
(``train.restoration_reds``), or the septuplets of Vimeo-90K (``train.restoration_septuplets``). Out: ``Compressed``.

**Which clips are compressed.** Half of them, by one draw for each clip, at one of three qualities, each as likely. The
published code leaves half alone and then draws among *none* and the three, so that 37.5 % are compressed where its
article says 50 %; and on Vimeo-90K it draws for each frame anew, so that a clip's frames come from differently
compressed versions of it.

**What the encoder sees** is the patch with ``MARGIN`` pixels around it, as far as the picture goes: motion across the
patch's border would else cost bits that it does not cost in a whole picture.

**Short clips** are played forth and back until they are long enough, as the published recipe does with seven frames
to have 28; and as there, it is the frames as compressed that are played so.
"""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Literal, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from ..errors import InputError
from .compression import CRFS, compressed
from .restoration_blur import SCALE, reduced
from .restoration_clips import Clips, RunSampler, Size

Reduction = Literal["bicubic", "gaussian"]
"""``bicubic``: with antialiasing, as in REDS. ``gaussian``: blurred, then every fourth pixel, as Vimeo-90K is used."""

SIGMA, FIRST, TAPS = 1.6, 1, 12
"""Of ``gaussian``: in pixels; the first pixel kept, counted from 0; taps of the blur. Being even it sits half a pixel
further, in the middle of the 4×4 pixels that one stands for."""
MARGIN = 16
"""Around a patch, in pixels of the small picture: one block of the encoder."""
READERS = 8
"""Samples that are made at a time."""


class Compressed(NamedTuple):
    """Training samples on one device, float32, RGB 0..1, T consecutive frames each.

    x: ``(B, 3, T, h, w)`` reduced, and compressed or not: the input. y: ``(B, 3, T, 4h, 4w)`` the truth.
    """

    x: Tensor
    y: Tensor


@dataclass(frozen=True, slots=True)
class CompressionDraw:
    """How batches look.

    batch: samples. patch: side of the input in pixels. frames: of a sample; shorter clips are played forth and back.
    share: of samples that are compressed. crfs: at one of these.
    """

    batch: int = 1
    patch: int = 64
    frames: int = 40
    reduction: Reduction = "bicubic"
    share: float = 0.5
    crfs: tuple[int, ...] = CRFS


class Place(NamedTuple):
    """A square of a run: y, x, side in pixels of the sharp frames, multiples of 4. crf: None: not compressed."""

    clip: int
    frames: Sequence[int]
    y: int
    x: int
    side: int
    crf: int | None


class CompressedSampler(RunSampler):
    """Draws ``Compressed``; the same seed over the same clips draws the same ones."""

    def __init__(self, clips: Clips, *, seed: int = 0):
        super().__init__(clips, seed=seed)
        self._counts = torch.tensor([size.count for size in clips.sizes])
        self._sides = torch.tensor([min(size.height, size.width) for size in clips.sizes])
        self._readers = ThreadPoolExecutor(READERS)

    def draw(self, how: CompressionDraw) -> Compressed:
        """A batch on the device of the clips. Raises InputError where the pictures are too small."""
        side = SCALE * how.patch
        # A clip counts as often as it has frames for a run to begin at; one that is too short, once.
        weights = (self._counts - how.frames + 1).clamp(min=1).double() * (self._sides >= side)
        if not bool(weights.any()):
            raise InputError(
                f"Patches of {how.patch} need sharp pictures of {side} pixels, and these have {int(self._sides.max())}"
                " at most; choose smaller patches or larger pictures"
            )
        places = [self._place(clip, side, how) for clip in self.pick(weights, how.batch)]
        made = self._readers.map(lambda place: sample(self.clips, place, how.reduction), places)
        order = [mirrored(len(place.frames), how.frames) for place in places]
        runs = [[run[at] for run in pair] for pair, at in zip(made, order, strict=True)]
        x, y = self.turn([torch.stack(each).transpose(1, 2) for each in zip(*runs, strict=True)])
        return Compressed(x.contiguous(), y.contiguous())

    def _place(self, clip: int, side: int, how: CompressionDraw) -> Place:
        count = self.clips.sizes[clip].count
        seen = min(count, how.frames)
        first = self.below(count - seen + 1)
        y, x = self.place(clip, side, SCALE)
        spoilt = float(torch.rand((), generator=self._choice)) < how.share
        crf = how.crfs[self.below(len(how.crfs))] if spoilt else None
        return Place(clip, range(first, first + seen), y, x, side, crf)


def sample(clips: Clips, place: Place, reduction: Reduction) -> tuple[Tensor, Tensor]:
    """-> x ``(N, 3, side/4, side/4)``, y ``(N, 3, side, side)``, float32."""
    y, x, side = around(clips.sizes[place.clip], place)
    run = clips.cut(place.clip, place.frames, y, x, side)
    small = torch.stack([SMALLER[reduction](picture.float().div_(255)) for picture in run])
    small = small.mul_(255).round_().to(torch.uint8)
    if place.crf is not None:
        small = compressed(small, place.crf)
    down, across = place.y - y, place.x - x
    truth = run[..., down : down + place.side, across : across + place.side]
    down, across, patch = down // SCALE, across // SCALE, place.side // SCALE
    return small[..., down : down + patch, across : across + patch].float() / 255, truth.float() / 255


def around(size: Size, place: Place) -> tuple[int, int, int]:
    """First row and column, and side, of the largest square there is up to ``MARGIN`` around a place."""
    lengths = (length // SCALE * SCALE for length in (size.height, size.width))
    side = min(place.side + 2 * SCALE * MARGIN, *lengths)
    margin = (side - place.side) // 2 // SCALE * SCALE
    spare = ((length - side) // SCALE * SCALE for length in (size.height, size.width))
    y, x = (min(max(at - margin, 0), most) for at, most in zip((place.y, place.x), spare, strict=True))
    return y, x, side


def mirrored(count: int, frames: int) -> list[int]:
    """``frames`` numbers of ``count`` frames: forth, back, forth …, those at the ends twice."""
    way = [*range(count), *range(count - 1, -1, -1)]
    return [way[n % len(way)] for n in range(frames)]


def thinned(picture: Tensor) -> Tensor:
    """``(3, H, W)`` 0..1 -> ``(3, H/4, W/4)``: blurred, and every fourth pixel, as a file with 8 bits would hold it."""
    at = torch.arange(TAPS, device=picture.device) - (TAPS - 1) / 2
    weights = torch.softmax(-(at**2) / (2 * SIGMA**2), 0)
    kept = F.pad(picture[:, None], (TAPS // 2 - 1, TAPS // 2) * 2, mode="replicate")
    # Only what is kept is computed: the first filter thins out rows, the second one columns.
    kept = F.conv2d(kept[:, :, FIRST:], weights.view(1, 1, -1, 1), stride=(SCALE, 1))
    kept = F.conv2d(kept[..., FIRST:], weights.view(1, 1, 1, -1), stride=(1, SCALE))
    height, width = (length // SCALE for length in picture.shape[-2:])
    return kept[:, 0, :height, :width].clamp(0, 1).mul_(255).round_().div_(255)


SMALLER = {"bicubic": reduced, "gaussian": thinned}
