"""Small clips the video tests share: made with PyAV and OpenCV directly, not with the code under test."""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import torch

from comfy_fusionfft.contract import Frame
from comfy_fusionfft.video import ClipInfo

COLOURS = ((0, 0, 0), (255, 255, 255), (255, 0, 0), (0, 255, 0), (0, 0, 255), (200, 30, 90), (12, 240, 77))


def info(folder: Path, **changes) -> ClipInfo:
    """A ClipInfo of a source that is not there."""
    values = {
        "path": folder / "no-such-source.mp4",
        "kind": "video",
        "width": 64,
        "height": 64,
        "rate": Fraction(25),
        "frames": None,
        "bit_depth": 8,
        "channels": 3,
        "codec": "h264",
        "pixel_format": "yuv420p",
    }
    return ClipInfo(**{**values, **changes})


def noise(count: int, height: int = 16, width: int = 16, channels: int = 3, dtype: type = np.uint8) -> list[Frame]:
    """Random integer frames at 25 per second."""
    rng = np.random.default_rng(count * 1000 + height * 10 + channels)
    top = int(np.iinfo(dtype).max) + 1
    return [
        Frame(torch.from_numpy(rng.integers(0, top, (height, width, channels)).astype(dtype)), Fraction(k, 25))
        for k in range(count)
    ]


def solid(colours=COLOURS, size: int = 64, deep: bool = False) -> list[Frame]:
    """One frame per colour, at 25 per second; ``deep``: uint16."""
    dtype, factor = (np.uint16, 257) if deep else (np.uint8, 1)
    return [
        Frame(torch.from_numpy(np.full((size, size, len(c)), c, dtype) * dtype(factor)), Fraction(k, 25))
        for k, c in enumerate(colours)
    ]


def encode(path: Path, planes: list[list[np.ndarray]], pixel_format: str, encoder: str, pts=None, **context) -> Path:
    """Write pictures given plane by plane; ``pts`` in milliseconds, default 40 ms apart."""
    with av.open(str(path), "w") as output:
        stream = output.add_stream(encoder, rate=25)
        stream.height, stream.width = planes[0][0].shape[:2]
        stream.pix_fmt = pixel_format
        stream.codec_context.time_base = Fraction(1, 1000)
        for name, value in context.items():
            setattr(stream.codec_context, name, value)
        for k, picture_planes in enumerate(planes):
            picture = av.VideoFrame(stream.width, stream.height, pixel_format)
            for plane, values in zip(picture.planes, picture_planes, strict=True):
                lines = np.frombuffer(plane, np.uint8).reshape(plane.height, plane.line_size)
                packed = np.ascontiguousarray(values).view(np.uint8).reshape(plane.height, -1)
                lines[:, : packed.shape[1]] = packed
            picture.pts = 40 * k if pts is None else pts[k]
            picture.time_base = Fraction(1, 1000)
            output.mux(stream.encode(picture))
        output.mux(stream.encode(None))
    return path


def yuv(levels: tuple[int, int, int], size: int = 64, dtype: type = np.uint8) -> list[np.ndarray]:
    """Planes of one 4:2:0 picture of one colour."""
    half = size // 2
    return [np.full((s, s), level, dtype) for s, level in zip((size, half, half), levels, strict=True)]


def with_tone(path: Path, video: Path, codec: str = "aac", seconds: float = 1.0) -> Path:
    """``video``'s packets and a 440 Hz tone."""
    with av.open(str(video)) as source, av.open(str(path), "w") as output:
        picture_in = source.streams.video[0]
        add = getattr(output, "add_stream_from_template", None) or (lambda stream: output.add_stream(template=stream))
        picture_out = add(picture_in)
        sound = output.add_stream(codec, rate=48000)
        sound.layout = "mono"
        packets = list(source.demux(picture_in))
        for packet in packets:
            if packet.dts is not None:
                packet.stream = picture_out
                output.mux(packet)
        samples = np.sin(np.arange(int(48000 * seconds)) * 2 * np.pi * 440 / 48000)
        for start in range(0, len(samples) - 1023, 1024):
            block = (samples[start : start + 1024] * 10000).astype(np.int16)[None]
            frame = av.AudioFrame.from_ndarray(block, format="s16", layout="mono")
            frame.sample_rate, frame.pts, frame.time_base = 48000, start, Fraction(1, 48000)
            output.mux(sound.encode(frame))
        output.mux(sound.encode(None))
    return path


def levels(frames) -> np.ndarray:
    """All frames as float on the 0..255 scale."""
    arrays = [frame.pixels.numpy() for frame in frames]
    return np.stack([a / (257 if a.dtype == np.uint16 else 1) for a in arrays]).astype(np.float64)
