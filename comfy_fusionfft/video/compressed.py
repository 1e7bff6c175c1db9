"""Pictures that have been through H.264, as most have that need restoring; in memory, no file is written.

libx264 with its preset ``medium``, 4:2:0, at a constant rate factor: what FFmpeg does with ``-vcodec libx264 -crf N``.
25 frames per second, the rate that it takes for pictures without a clock: at 1 the same factor would spend nearly three
times the bits. Colours are converted as videos are read and written here. The first picture is a key frame.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from fractions import Fraction
from itertools import chain

import numpy as np

from ..errors import InputError
from .codecs import CODECS, choose_encoder, encoder_options
from .colour import Colour

_RATE = Fraction(25)
_FORMAT = "yuv420p"


def check_crf(crf: int) -> None:
    """Raises InputError unless H.264 has this rate factor."""
    if not 0 <= crf <= 51:
        raise InputError(f"CRF {crf} does not exist in H.264: give 0 (best) to 51 (worst), such as 15, 25 or 35")


def compressed(pictures: Iterable[np.ndarray], crf: int) -> Iterator[np.ndarray]:
    """``(H, W, 3)`` uint8 each, all of one size -> as many, encoded and decoded again.

    crf: 0 to 51, the worst. Some 50 pictures, which the encoder looks ahead, are held.
    Raises InputError for another CRF or where PyAV is missing, MediaError where its libx264 is.
    """
    check_crf(crf)
    try:
        import av
    except ImportError as error:
        raise InputError(
            "PyAV is not installed, and clips are compressed through it: install it with `pip install av`"
        ) from error
    from .encoding import Encoding, Settled
    from .picture import Converter, Drawer

    pictures = iter(pictures)
    first = next(pictures, None)
    if first is None:
        return
    height, width = first.shape[:2]
    even = (height + height % 2, width + width % 2)
    colour = Colour().as_yuv(height)
    codec = CODECS["h264"]
    name = choose_encoder(codec)
    # With other numbers of threads other pictures come out: nothing made of them must depend on the machine.
    options = encoder_options(codec, name, _FORMAT, crf) | {"threads": "1"}
    settled = Settled((*even, 3), False, Fraction(0), _RATE, 1 / _RATE)
    encoder = Encoding(name, settled, _FORMAT, colour, options).open()
    decoder = av.CodecContext.create("h264", "r")
    decoder.extradata, decoder.thread_count = encoder.extradata, 1
    draw, read = Drawer(_FORMAT, colour), Converter(even[1], even[0], colour)

    def packets() -> Iterator[av.Packet | None]:
        for number, picture in enumerate(chain([first], pictures)):
            frame = draw(_grown(picture, even))
            frame.pts, frame.time_base = number, 1 / _RATE
            yield from encoder.encode(frame)
        yield from encoder.encode(None)
        yield None

    for packet in packets():
        for frame in decoder.decode(packet):
            yield np.ascontiguousarray(read(frame)[:height, :width])


def _grown(pixels: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """``(h, w, 3)`` with the last row and column again: colour at half the size needs even sides."""
    missing = ((0, size[0] - pixels.shape[0]), (0, size[1] - pixels.shape[1]), (0, 0))
    return np.pad(pixels, missing, mode="edge")
