"""What an HDR clip says about the display it was made on and how bright it gets (SMPTE ST 2086, CTA-861.3).

FFmpeg hands both out beside the first picture; PyAV gives an encoder no way to take them, so that they go in as
the encoders' own options, in the spelling of each.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import av


@dataclass(frozen=True, slots=True)
class Light:
    """primaries: x and y of red, green, blue and white, eight numbers. luminance: least and greatest, cd/m².
    peak, average: greatest light of a sample and of a frame's mean, cd/m². None where the clip does not say."""

    primaries: tuple[float, ...] | None = None
    luminance: tuple[float, float] | None = None
    peak: int | None = None
    average: int | None = None

    @property
    def has_display(self) -> bool:
        return self.primaries is not None and self.luminance is not None


def read_light(picture: av.VideoFrame) -> Light | None:
    """What comes with a picture, None when nothing does."""
    primaries = luminance = peak = average = None
    display = picture.side_data.get("MASTERING_DISPLAY_METADATA")
    if display is not None and len(data := bytes(display)) >= 88:
        # AVMasteringDisplayMetadata: ten AVRationals, then two flags
        *pairs, has_primaries, has_luminance = struct.unpack_from("=22i", data)
        values = tuple(n / d if d else 0.0 for n, d in zip(pairs[::2], pairs[1::2], strict=True))
        primaries = values[:8] if has_primaries else None
        luminance = values[8:10] if has_luminance else None
    level = picture.side_data.get("CONTENT_LIGHT_LEVEL")
    if level is not None and len(data := bytes(level)) >= 8:
        peak, average = struct.unpack_from("=2I", data)
    light = Light(primaries, luminance, peak, average)
    return None if light == Light() else light


def light_options(encoder: str, options: dict[str, str], light: Light | None) -> tuple[dict[str, str], tuple[str, ...]]:
    """``options`` with what says the same to ``encoder``; notes when it cannot be told."""
    if light is None or not (light.has_display or light.peak is not None):
        return options, ()
    if encoder not in _SPELLINGS:
        return options, (f"HDR mastering data left out: {encoder} cannot be told (h264, hevc and av1 can)",)
    parameter, display_name, level_name, chroma, nits = _SPELLINGS[encoder]
    parts = [options[parameter]] if parameter in options else []
    if light.has_display:
        red, green, blue, white = (
            ",".join(_number(value, chroma) for value in light.primaries[k : k + 2]) for k in (0, 2, 4, 6)
        )
        least, greatest = (_number(value, nits) for value in light.luminance)
        parts.append(f"{display_name}=G({green})B({blue})R({red})WP({white})L({greatest},{least})")
    if light.peak is not None:
        parts.append(f"{level_name}={light.peak},{light.average}")
    return {**options, parameter: ":".join(parts)}, ()


# encoder -> its options' option, the names in there, and its units per chromaticity and per cd/m²
_SPELLINGS = {
    "libx264": ("x264-params", "mastering-display", "cll", 50_000, 10_000),
    "libx265": ("x265-params", "master-display", "max-cll", 50_000, 10_000),
    "libsvtav1": ("svtav1-params", "mastering-display", "content-light", 1, 1),
}


def _number(value: float, unit: int) -> str:
    """In units of their own the encoders want integers."""
    return str(round(value * unit)) if unit > 1 else f"{value:.6g}"
