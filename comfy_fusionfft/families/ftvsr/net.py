"""FTVSR: a clip four times as large, every frame made from all others.

In: frames ``(B, 3, H, W)`` RGB 0..1, in order. Out: as many ``(B, 3, 4H, 4W)``, not limited to 0..1. Two networks in a
row, each going through the clip backward and then forward: the first enlarges, following patches to key frames
(``trajectory``); the second improves what the first made, in blocks' frequencies (``frequency``).

Nothing is done to a clip as a batch: frames and pairs come one by one, and what waits for the way back can be put
aside (``Shelf``). Motion, look-ups, comparisons and transforms are float32; convolutions have the dtype of their
weights. Names and shapes are the published ones.

Source: Z. Qiu et al., "Learning Spatiotemporal Frequency-Transformer for Compressed Video Super-Resolution", ECCV 2022.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ...ops.dct import SIDE
from ...ops.pad import crop
from ...ops.precision import exactly
from ...ops.warp import backward_warp
from .config import FTVSRConfig
from .frequency import FrequencyTransformer
from .layers import SLOPE, Convolution, ResidualBlocks, in_strips
from .shelf import Row, Shelf
from .spynet import Pyramid, SPyNet, resized_flow
from .trajectory import KeyFrames, TrajectoryAttention

_HALO = 2
STRIP_PIXELS = 6 * 1024
"""Of a small picture that are enlarged at a time, beside the halo: a sixteenth as many numbers per channel are made."""


class Upsample(nn.Module):
    """Twice as large."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.upsample_conv = Convolution(channels, 4 * channels)

    def forward(self, x: Tensor) -> Tensor:
        return F.pixel_shuffle(self.upsample_conv(x), 2)


class FTVSR(nn.Module):
    """The network, configured by ``FTVSRConfig``; the state dict has the published names."""

    def __init__(self, config: FTVSRConfig) -> None:
        super().__init__()
        self.config, width = config, config.channels
        self.spynet = SPyNet(config.flow_levels)
        self.feat_extractor = ResidualBlocks(3, width, config.extractor_blocks)
        self.LTAM = TrajectoryAttention(width)
        self.resblocks = ResidualBlocks(2 * width, width, config.blocks)
        self.fusion = Convolution(3 * width, width, 1)
        self.upsample1, self.upsample2 = Upsample(width), Upsample(width)
        self.conv_hr, self.conv_last = Convolution(width, width), Convolution(width, 3)
        self.FTT = FrequencyTransformer(config)

    def forward(self, clip: Tensor) -> Tensor:
        """``(B, T, 3, H, W)`` -> ``(B, T, 3, 4H, 4W)`` float32; for training, where everything is held anyway."""
        return torch.stack(tuple(self.restored(clip.unbind(1))), 1)

    def restored(self, frames: Sequence[Tensor], shelf: Shelf | None = None) -> Iterator[Tensor]:
        """The clip's frames in order, each ``(B, 3, 4H, 4W)`` float32.

        Most work is done before the first one: what they have in common. Raises InputError for frames below 16×16.
        """
        shelf = shelf or Shelf()
        size = [self.config.scale * side for side in frames[0].shape[2:]]
        pictures, features, questions = (shelf.row(len(frames)) for _ in range(3))
        back, ahead = [], []  # motion from each frame to the next, and from the next to each
        pyramid = None
        for number, (small, picture) in enumerate(zip(frames, self.enlarged(frames, shelf), strict=True)):
            picture = in_blocks(picture)
            known = self.FTT.known(picture)
            if len(frames) > 1:
                questions[number] = self.FTT.asked(in_blocks(resized(small)), known)
                before, pyramid = pyramid, self.spynet.pyramid(picture)
                if before is not None:
                    dtype = self.conv_last.weight.dtype
                    both = self._motion(before, pyramid, picture.shape[2:], known.shape[2:], dtype)
                    back.append(both[0])
                    ahead.append(both[1])
            features[number], pictures[number] = known, picture
        del pyramid, picture, known
        yield from (crop(made, size) for made in self._improved(pictures, features, questions, back, ahead, shelf))

    def enlarged(self, frames: Sequence[Tensor], shelf: Shelf | None = None) -> Iterator[Tensor]:
        """What the first of both networks makes, in order; as ``restored``."""
        shelf = shelf or Shelf()
        back, ahead = self.motion(frames)
        count, step = len(frames), self.config.keyframe_step
        features, backward = shelf.row(count), shelf.row(count)
        for number, frame in enumerate(frames):
            features[number] = self.feat_extractor(frame)
        keys = range(count - 1, 0, -step)
        for number, state in self._carried(frames, features, range(count - 1, -1, -1), back, keys, shelf):
            backward[number] = state
        for number, state in self._carried(frames, features, range(count), ahead, range(0, count, step), shelf):
            known = (each[number].to(state.device) for each in (backward, features))
            yield self._picture(*known, state, frames[number].float())

    def motion(self, frames: Iterable[Tensor]) -> tuple[list[Tensor], list[Tensor]]:
        """From each frame to the next one, and from that one back to it: ``(B, 2, H, W)`` float32 pixels each.

        Computed in float32: where a patch goes is decided by rounding.
        """
        pairs, before = [], None
        with exactly(self.spynet.mean.device):
            for frame in frames:
                pyramid = self.spynet.pyramid(frame)
                if before is not None:
                    pairs.append(self._motion(before, pyramid, frame.shape[2:], frame.shape[2:], torch.float32))
                before = pyramid
        return [back for back, _ in pairs], [ahead for _, ahead in pairs]

    def _motion(
        self, left: Pyramid, right: Pyramid, size: Sequence[int], wanted: Sequence[int], dtype: torch.dtype
    ) -> tuple[Tensor, Tensor]:
        """Between two pictures of ``size``, both ways, as of pictures of the size ``wanted``."""
        return tuple(resized_flow(self.spynet(*pair, size, dtype), wanted) for pair in ((left, right), (right, left)))

    def _carried(
        self,
        frames: Sequence[Tensor],
        features: Row,
        order: Sequence[int],
        flows: Sequence[Tensor],
        keys: Sequence[int],
        shelf: Shelf,
    ) -> Iterator[tuple[int, Tensor]]:
        """What is known of each frame after those before it in ``order``."""
        keyframes, state = KeyFrames(len(keys), shelf), None
        for last, number in zip((None, *order), order, strict=False):
            shelf.check()
            seen = features[number].to(frames[number].device)
            if last is None:
                state = torch.zeros_like(seen)
            else:
                flow = flows[min(last, number)]
                keyframes.move(flow)
                state = self.LTAM(seen, keyframes, backward_warp(state, flow))
            state = self.resblocks(torch.cat((seen, state), 1))
            if number in keys:
                keyframes.add(seen, state)
            yield number, state

    def _picture(self, backward: Tensor, features: Tensor, forward: Tensor, small: Tensor) -> Tensor:
        rows = max(8, STRIP_PIXELS // (len(small) * small.shape[3]))
        known = (backward, features, forward)
        if rows >= small.shape[2] or torch.is_grad_enabled():
            return self._details(*known).float() + resized(small)
        picture = resized(small)
        details = in_strips(self._details, known, _HALO, rows, torch.empty_like(picture), self.config.scale)
        return picture.add_(details)

    def _details(self, *known: Tensor) -> Tensor:
        made = F.leaky_relu(self.fusion(torch.cat(known, 1)), SLOPE)
        for layer in (self.upsample1, self.upsample2, self.conv_hr):
            made = F.leaky_relu(layer(made), SLOPE)
        return self.conv_last(made)

    def _improved(
        self, pictures: Row, features: Row, questions: Row, back: list[Tensor], ahead: list[Tensor], shelf: Shelf
    ) -> Iterator[Tensor]:
        """What the second of both networks makes, in order."""
        count, device = len(back) + 1, self.spynet.mean.device
        backward, state = shelf.row(count), None
        for number in range(count - 1, -1, -1):
            shelf.check()
            carried = () if state is None else (state, questions[number].to(device), back[number])
            state = self.FTT.carried(features[number].to(device), *carried)
            backward[number] = state
        state = None
        for number in range(count):
            shelf.check()
            known = features[number].to(device)
            carried = () if state is None else (state, questions[number].to(device), ahead[number - 1])
            state = self.FTT.carried(known, *carried)
            yield self.FTT.made(backward[number].to(device), known, state, pictures[number].to(device))


def resized(small: Tensor) -> Tensor:
    """Four times as large, bilinearly, float32."""
    return F.interpolate(small.float(), scale_factor=FTVSRConfig.scale, mode="bilinear", align_corners=False)


def in_blocks(picture: Tensor) -> Tensor:
    """Grown at the bottom and right to whole blocks, as the published network does it.

    Where one side is short of p pixels its last p rows or columns follow once more. Where both are, only the corner
    between both strips has values, those of the picture's corner; the strips are zero.
    """
    down, across = (-side % SIDE for side in picture.shape[2:])
    if not (down or across):
        return picture
    height, width = picture.shape[2:]
    grown = F.pad(picture, (0, across, 0, down))
    grown[:, :, height:, width:] = picture[:, :, height - down :, width - across :]
    if not across:
        grown[:, :, height:] = picture[:, :, height - down :]
    if not down:
        grown[..., width:] = picture[..., width - across :]
    return grown
