"""The clip that the example workflows read: the scene of ``demo/`` as a video in the host's input folder."""

from __future__ import annotations

import sys
from fractions import Fraction
from pathlib import Path

from .install import ROOT

DEMO_CLIP = "fusionfft_demo.mp4"


def draw(
    path: Path, frames: int | None = None, part: tuple[slice, slice] = (slice(None), slice(None)), enlarge: int = 1
) -> None:
    """Writes the scene, or its first ``frames`` frames, as H.264 at 480x272 and 12 frames per second.

    part: rows and columns to write, even numbers of them, instead of all. enlarge: 2 for pictures of twice that size.
    """
    sys.path.append(str(ROOT / "demo"))
    # Here, because a host can be started from a Python that lacks torch.
    import scene as scenery
    import torch

    from comfy_fusionfft.contract import Frame
    from comfy_fusionfft.video import ClipInfo, write_clip

    scene, rate, count = scenery.Scene(enlarge=enlarge), Fraction(scenery.FPS), frames or scenery.FRAMES
    clip = (torch.from_numpy(scene.at(index))[part].contiguous() for index in range(count))
    pictures = (Frame(picture, index / rate) for index, picture in enumerate(clip))
    height, width = (
        len(range(side * enlarge)[cut]) for side, cut in zip((scenery.HEIGHT, scenery.WIDTH), part, strict=True)
    )
    like = ClipInfo(Path("built-in scene"), "video", width, height, rate, count, 8, 3, "h264", "yuv420p")
    write_clip(path, pictures, like=like, rate=rate, codec="h264", overwrite=True)
