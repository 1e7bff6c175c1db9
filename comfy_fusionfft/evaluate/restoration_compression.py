"""Small pictures that have been through H.264, as most small pictures have.

libx264 with its preset ``medium``, 4:2:0, at a constant rate factor (CRF: 0 to 51, larger is worse) and 25 frames per
second, the rate that FFmpeg takes for pictures without a clock and that the encoder's decisions depend on. Only what
is measured is encoded, so the first picture is a key frame.

Pictures stream through: what the encoder looks ahead, some 50 frames, waits in memory beside the truths.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Iterator
from dataclasses import replace
from fractions import Fraction
from itertools import chain

import numpy as np
import torch

from ..errors import InputError
from .restoration_pairs import Pair

_RATE = Fraction(25)


def check_crf(crf: int | None) -> None:
    """Raises InputError unless H.264 has this rate factor; None: no compression."""
    if crf is not None and not 0 <= crf <= 51:
        raise InputError(f"CRF {crf} does not exist in H.264: give 0 (best) to 51 (worst), such as 15, 25 or 35")


def compressed(pairs: Iterable[Pair], crf: int) -> Iterator[Pair]:
    """The same pairs with the given pictures, ``(h, w, 3)`` uint8, encoded and decoded again."""
    import av

    from ..video.colour import Colour
    from ..video.picture import Converter, Drawer

    pairs = iter(pairs)
    first = next(pairs, None)
    if first is None:
        return
    height, width = first.low.pixels.shape[:2]
    even = (height + height % 2, width + width % 2)
    colour = Colour().as_yuv(height)
    encoder = _encoder(even, colour, crf)
    decoder = av.CodecContext.create("h264", "r")
    decoder.extradata = encoder.extradata
    draw, read = Drawer("yuv420p", colour), Converter(even[1], even[0], colour)
    waiting: deque[Pair] = deque()

    def packets() -> Iterator[av.Packet | None]:
        for number, pair in enumerate(chain([first], pairs)):
            waiting.append(pair)
            picture = draw(_grown(pair.low.pixels.numpy(), even))
            picture.pts, picture.time_base = number, 1 / _RATE
            yield from encoder.encode(picture)
        yield from encoder.encode(None)
        yield None

    for packet in packets():
        for picture in decoder.decode(packet):
            pair = waiting.popleft()
            pixels = np.ascontiguousarray(read(picture)[:height, :width])
            yield pair._replace(low=replace(pair.low, pixels=torch.from_numpy(pixels)))


def _encoder(size: tuple[int, int], colour, crf: int):
    from ..video.codecs import CODECS, choose_encoder, encoder_options
    from ..video.encoding import Encoding, Settled

    codec, pixel_format = CODECS["h264"], "yuv420p"
    encoder = choose_encoder(codec)
    # With other numbers of threads other pictures come out: scores must not depend on the machine.
    options = encoder_options(codec, encoder, pixel_format, crf) | {"threads": "1"}
    settled = Settled((*size, 3), False, Fraction(0), _RATE, 1 / _RATE)
    return Encoding(encoder, settled, pixel_format, colour, options).open()


def _grown(pixels: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """With the last row and column again where chroma of half the size needs even sides."""
    missing = ((0, size[0] - pixels.shape[0]), (0, size[1] - pixels.shape[1]), (0, 0))
    return np.pad(pixels, missing, mode="edge")
