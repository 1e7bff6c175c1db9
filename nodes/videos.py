"""What people connect as a video, as a clip that can be read again and from anywhere.

VIDEO from a file is read where it lies, with the trims of its graph; VIDEO from images is used as it is, never by way
of an encoded file; VHS_FILENAMES of VideoHelperSuite and paths name files.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterator
from dataclasses import dataclass, fields, replace
from fractions import Fraction
from itertools import islice
from pathlib import Path
from typing import Any, NamedTuple

import torch
from comfy_api.latest import io
from torch import Tensor

from ..comfy_fusionfft.contract import Frame
from ..comfy_fusionfft.errors import InputError
from ..comfy_fusionfft.video import Clip, ClipInfo, open_clip
from . import batches, comfy_host

_SMALL = 16
"""Pixels of the longer side of pictures that are only counted."""
_CHANNELS = {1: "mono", 2: "stereo", 6: "5.1", 8: "7.1"}
_LOSSY_SOUND = {".mp4": ("aac", ".m4a"), ".webm": ("libopus", ".webm")}
"""What containers hold that take no plain samples."""


FileNames = io.Custom("VHS_FILENAMES")


def input() -> io.Input:
    return io.MultiType.Input(
        "video",
        types=[io.Video, FileNames, io.String],
        tooltip="A VIDEO, such as that of Load Video; the file names of VideoHelperSuite; or a text with a "
        "file's path. A file is read where it lies, with the trims of Trim Video.",
    )


class Trim(NamedTuple):
    """Seconds on the file's clock. end: None for the file's own."""

    begin: Fraction
    end: Fraction | None


@dataclass(frozen=True, slots=True)
class TrimmedInfo(ClipInfo):
    """Of a part of a file, which is another clip than the file."""

    trim: Trim = Trim(Fraction(0), None)


def opened(video: Any, suffix: str, sound_goes_through: bool) -> Clip:
    """The clip that was connected.

    suffix: of the container that its sound, where it comes as samples, will be put into. sound_goes_through: it is to
    be copied as it is, not to be changed.
    Raises InputError and MediaError for what is no video.
    """
    if isinstance(video, str):
        return open_clip(comfy_host.input_path(video))
    if isinstance(video, (list, tuple)):
        return open_clip(comfy_host.input_path(str(_newest(video))))
    if comfy_host.is_from_file(video):
        file, trim = comfy_host.file_of(video)
        clip = open_clip(file if isinstance(file, str) else _kept(file.getvalue()))
        return clip if trim is None else _trimmed(clip, Trim(*trim))
    if hasattr(video, "get_components"):
        return _of_components(video, suffix, sound_goes_through)
    raise InputError(f"a {type(video).__name__} is connected as video: connect a VIDEO, such as that of Load Video")


def _newest(names: Any) -> Path:
    """VHS_FILENAMES: whether they are kept, and paths, of which the last is the one with everything in it."""
    files = [name for name in (names[-1] if names and isinstance(names[-1], (list, tuple)) else names) if name]
    files = [name for name in files if isinstance(name, str)]
    if not files:
        raise InputError("the connected file names are empty: let Video Combine save a file, or connect a VIDEO")
    return Path(files[-1])


def _kept(data: bytes) -> Path:
    """A file that is only in memory, byte for byte."""
    path = comfy_host.scratch_folder() / f"{hashlib.sha256(data).hexdigest()[:32]}.video"
    if not path.exists():
        part = path.with_name(f"{path.name}.{os.getpid()}.part")
        try:
            part.write_bytes(data)
            part.replace(path)
        finally:
            part.unlink(missing_ok=True)
    return path


def _trimmed(clip: Clip, trim: Trim) -> Clip:
    first = count = 0
    for frame in clip.frames(longest_side=_SMALL):
        if trim.end is not None and frame.seconds >= trim.end:
            break
        first += frame.seconds < trim.begin
        count += frame.seconds >= trim.begin
    if not count:
        end = "its end" if trim.end is None else f"{float(trim.end):g} s"
        raise InputError(
            f"no frame of {clip.info.path.name} lies between {float(trim.begin):g} s and {end}: trim it less"
        )
    known = {field.name: getattr(clip.info, field.name) for field in fields(clip.info)}

    def read(start: int, longest_side: int | None) -> Iterator[Frame]:
        return islice(clip.frames(first + start, longest_side), max(0, count - start))

    return Clip(TrimmedInfo(**{**known, "frames": count}, trim=trim), read, clip.damage)


def _of_components(video: Any, suffix: str, sound_goes_through: bool) -> Clip:
    parts = video.get_components()
    images, rate = _pictures(parts), Fraction(parts.frame_rate)
    batch = batches.clip(images, rate)
    sound = None if parts.audio is None or not parts.audio["waveform"].numel() else parts.audio
    name = _fingerprint(images, rate)
    info = ClipInfo(
        path=comfy_host.scratch_folder() / f"{name}.frames",
        kind="images",
        width=images.shape[2],
        height=images.shape[1],
        rate=rate,
        frames=len(images),
        bit_depth=video.get_bit_depth() if hasattr(video, "get_bit_depth") else 8,
        channels=images.shape[3],
        codec="images",
        pixel_format="float",
    )
    if sound is not None:
        info = replace(info, path=_sound_file(sound, name, suffix, sound_goes_through), has_audio=True)
    return Clip(info, batch.frames)


def _pictures(parts: Any) -> Tensor:
    """With their alpha, where the host keeps that apart."""
    alpha = getattr(parts, "alpha", None)
    if alpha is None or parts.images.shape[-1] == 4:
        return parts.images
    return torch.cat([parts.images, alpha if alpha.ndim == 4 else alpha[..., None]], dim=-1)


def _fingerprint(images: Tensor, rate: Fraction) -> str:
    """Other pictures, another name: work on one clip is not gone on with for another."""
    digest = hashlib.sha256(f"{tuple(images.shape)} {rate}".encode())
    for picture in images:
        digest.update(picture.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy())
    return digest.hexdigest()[:32]


def _sound_file(sound: dict[str, Any], name: str, suffix: str, goes_through: bool) -> Path:
    """AUDIO as a file: plain samples, or, where it goes unchanged into a container without such, what that holds."""
    codec, ending = _LOSSY_SOUND.get(suffix, ("pcm_f32le", ".mkv")) if goes_through else ("pcm_f32le", ".mkv")
    waveform, rate = sound["waveform"][0].detach().float().cpu().contiguous(), int(sound["sample_rate"])
    name = hashlib.sha256(f"{name} {rate}".encode() + waveform.numpy().tobytes()).hexdigest()[:32]
    path = comfy_host.scratch_folder() / f"{name}{ending}"
    if not path.exists():
        part = path.with_name(f"part-{path.name}")
        _write_sound(part, waveform, rate, codec)
        part.replace(path)
        os.utime(path, (0, 0))  # the name says it all: a resumed run may find another copy of it
    return path


def _write_sound(path: Path, waveform: Tensor, rate: int, codec: str) -> None:
    import av

    channels = len(waveform)
    if channels not in _CHANNELS:
        raise InputError(f"the sound has {channels} channels: give it 1, 2, 6 or 8")
    layout = _CHANNELS[channels]
    out_rate = 48_000 if codec == "libopus" else rate
    with av.open(str(path), "w") as container:
        stream = container.add_stream(codec, rate=out_rate, layout=layout)
        if codec != "pcm_f32le":
            stream.bit_rate = 96_000 * channels
        resampler = av.AudioResampler(format=stream.format or "fltp", layout=layout, rate=out_rate)
        block = 1 << 16
        for start in range(0, waveform.shape[1], block):
            frame = av.AudioFrame.from_ndarray(waveform[:, start : start + block].numpy(), format="fltp", layout=layout)
            frame.sample_rate, frame.pts, frame.time_base = rate, start, Fraction(1, rate)
            for resampled in resampler.resample(frame):
                container.mux(stream.encode(resampled))
        for resampled in resampler.resample(None):
            container.mux(stream.encode(resampled))
        container.mux(stream.encode(None))
