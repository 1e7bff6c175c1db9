"""Which containers take which video codecs, which encoder makes them, and in which pixel format.

Odd sizes: chroma at half resolution needs even sizes (in all but VP9, where it is rounded up), so odd
ones are stored with full chroma (4:4:4) where the encoder can, and refused where it cannot: nothing
is cropped or padded behind one's back.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from ..errors import MediaError

# suffix -> codecs, the default first
CONTAINERS = {
    ".mp4": ("h264", "hevc", "av1", "vp9"),
    ".m4v": ("h264", "hevc", "av1", "vp9"),
    ".mov": ("h264", "hevc", "prores"),
    ".mkv": ("h264", "hevc", "av1", "vp9", "prores", "ffv1"),
    ".webm": ("vp9", "av1"),
    ".avi": ("ffv1",),
}
_ALSO_KNOWN_AS = {"avc": "h264", "x264": "h264", "h265": "hevc", "x265": "hevc"}


@dataclass(frozen=True, slots=True)
class Codec:
    """encoders: FFmpeg's, the preferred first. formats: pixel formats, the preferred first.
    quality: default and worst constant-quality value, 0 is the best; None when the codec has no such knob.
    full_range: may be tagged full range. odd_chroma: half-size chroma may come with odd sizes.
    smallest: least width and height.
    """

    name: str
    encoders: tuple[str, ...]
    formats: tuple[str, ...]
    quality: tuple[int, int] | None = None
    full_range: bool = True
    odd_chroma: bool = False
    smallest: int = 1


_CHROMA_FORMATS = ("yuv420p", "yuv420p10le", "yuv444p", "yuv444p10le")
CODECS = {
    codec.name: codec
    for codec in (
        Codec("h264", ("libx264",), _CHROMA_FORMATS, (16, 51)),
        # libx265 writes beyond its buffers on pictures smaller than one of its 64-pixel blocks.
        Codec("hevc", ("libx265",), _CHROMA_FORMATS, (18, 51), smallest=64),
        Codec("av1", ("libsvtav1",), _CHROMA_FORMATS, (20, 63), smallest=64),
        Codec("vp9", ("libvpx-vp9",), ("yuv420p", "yuv420p10le", "yuva420p"), (18, 63), odd_chroma=True),
        Codec("prores", ("prores_ks",), ("yuv422p10le", "yuv444p10le", "yuva444p10le"), full_range=False),
        Codec("ffv1", ("ffv1",), ("bgr0", "bgra", "gbrp16le", "gbrap16le", "gray", "gray16le")),
    )
}


def choose_codec(suffix: str, name: str | None, quality: int | None) -> Codec:
    """The codec for a container; raises MediaError when they do not go together or quality is out of range."""
    allowed = CONTAINERS[suffix]
    name = _ALSO_KNOWN_AS.get((name or allowed[0]).lower(), (name or allowed[0]).lower())
    if name not in CODECS:
        raise MediaError(f"video codec {name!r} is not known: choose one of {', '.join(CODECS)}")
    if name not in allowed:
        homes = ", ".join(other for other, codecs in CONTAINERS.items() if name in codecs)
        raise MediaError(
            f"{suffix} files do not take {name}: choose {' or '.join(allowed)}, or one of {homes} for {name}"
        )
    codec = CODECS[name]
    if quality is not None and codec.quality is None:
        raise MediaError(f"{name} has no quality setting, {quality} was given: leave it out")
    if quality is not None and not 0 <= quality <= codec.quality[1]:
        raise MediaError(f"quality {quality} does not exist in {name}: give 0 (best) to {codec.quality[1]} (worst)")
    return codec


def choose_encoder(codec: Codec) -> str:
    """The first encoder of ``codec`` that this PyAV has; raises MediaError naming the codecs that would work."""
    if (found := _first_encoder(codec)) is not None:
        return found
    able = [name for name, other in CODECS.items() if _first_encoder(other) is not None]
    raise MediaError(
        f"this PyAV has no {codec.name} encoder ({' or '.join(codec.encoders)}): choose one of {', '.join(able)}"
    )


def choose_format(
    codec: Codec, encoder: str, width: int, height: int, *, deep: bool, alpha: bool, grey: bool
) -> tuple[str, tuple[str, ...]]:
    """-> pixel format and notes on what it cannot hold. Raises MediaError when no format fits the size.

    deep: more than 8 bits are wanted.
    """
    import av

    from .picture import Layout

    if min(width, height) < codec.smallest:
        raise MediaError(
            f"{codec.name} needs at least {codec.smallest}x{codec.smallest}, the frames are {width}x{height}: "
            "choose h264 or ffv1, or write a folder of images"
        )
    offered = {offer.name for offer in av.Codec(encoder, "w").video_formats or ()}
    fits = [
        name
        for name in codec.formats
        if name in offered
        and (codec.odd_chroma or not ("420" in name and (width % 2 or height % 2)))
        and not ("422" in name and width % 2)
    ]

    def cost(name: str) -> Iterator[int]:
        layout = Layout.of(name)
        yield layout.kind == "grey" and not grey
        yield (layout.channels == 4) != alpha
        yield (layout.bits > 8) != deep
        yield layout.kind != "grey" and grey
        yield codec.formats.index(name)

    if not fits:
        raise MediaError(
            f"{codec.name} ({encoder}) stores chroma at half size and cannot hold the odd size {width}x{height}: "
            "choose h264, hevc, vp9, prores or ffv1, or write a folder of images"
        )
    chosen = min(fits, key=lambda name: tuple(cost(name)))
    layout = Layout.of(chosen)
    notes = []
    if alpha and layout.channels != 4:
        notes.append(f"alpha dropped: {codec.name} cannot hold it (vp9, prores and ffv1 can)")
    if deep and layout.bits <= 8:
        notes.append(f"reduced to 8 bits: {encoder} in this build does no more")
    return chosen, tuple(notes)


def encoder_options(codec: Codec, encoder: str, pixel_format: str, quality: int | None) -> dict[str, str]:
    """Options for a good picture at a reasonable pace."""
    level = str(codec.quality[0] if quality is None and codec.quality else quality)
    if encoder == "libx264":
        return {"preset": "medium", "crf": level, **_same_every_time()}
    if encoder == "libx265":
        return {"preset": "medium", "crf": level, "x265-params": "log-level=none"}
    if encoder == "libsvtav1":
        return {"preset": "8", "crf": level}
    if encoder == "libvpx-vp9":
        options = {"crf": level, "deadline": "good", "cpu-used": "3", "row-mt": "1"}
        # The encoder refuses transparency together with hidden reference frames.
        return {**options, "auto-alt-ref": "0"} if pixel_format.startswith("yuva") else options
    if encoder == "prores_ks":
        return {"profile": "4" if "444" in pixel_format else "3", "vendor": "apl0", "alpha_bits": "16"}
    return {"level": "3", "slicecrc": "1"}


def _same_every_time() -> dict[str, str]:
    """Keeps libx264 off its AVX-512 code, in which the rate control reads memory that nobody wrote: the same frames
    come out differently from run to run. AVX2 is as fast.
    """
    import torch

    if torch.backends.cpu.get_cpu_capability() != "AVX512":
        return {}
    known = "MMX2,SSE,SSE2,SSE2Fast,LZCNT,SSE3,SSSE3,SSE4.1,SSE4.2,AVX,FMA3,BMI1,BMI2,AVX2"
    return {"x264-params": f"asm={known}"}


def _first_encoder(codec: Codec) -> str | None:
    import av

    for name in codec.encoders:
        try:
            av.Codec(name, "w")
        except ValueError:
            continue
        return name
    return None
