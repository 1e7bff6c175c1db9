"""FusionFFT Interpolate Video: VIDEO in, VIDEO out, from file to file in bounded memory."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import torch
from comfy_api.latest import io
from torch import Tensor

from ..comfy_fusionfft.files import AUDIO, interpolate_file
from ..comfy_fusionfft.fingerprint import fingerprint
from ..comfy_fusionfft.pace import Pace
from ..comfy_fusionfft.video import Clip
from . import comfy_host, method, retiming, saving, shots, videos


class InterpolateVideo(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="FusionFFTInterpolateVideo",
            display_name="FusionFFT Interpolate Video",
            category="FusionFFT",
            description="A video file in, a smoother one in the output folder out, with its sound. Frames stream from "
            "file to file, so that hours of 4K fit, and a run that was stopped goes on where it was.",
            search_aliases=[
                *("video frame interpolation", "interpolate video", "video fps", "vfi", "rife", "slow motion"),
                *("smooth video", "convert frame rate", "60 fps", "retime video"),
            ],
            inputs=[
                videos.input(),
                *retiming.inputs(),
                *shots.inputs(),
                io.Combo.Input(
                    "audio",
                    options=list(AUDIO),
                    default="auto",
                    tooltip="The sound. auto: as it is where the speed stays, else stretched with its pitch kept "
                    "(default). keep: always as it is. stretch: always fitted, pitch kept. tape: fitted, pitch follows "
                    "the speed. drop: none.",
                ),
                *saving.inputs(),
                *method.inputs(),
            ],
            outputs=[
                io.Video.Output(display_name="video"),
                io.String.Output(display_name="report", tooltip="Cuts, repeats and notes on what was written."),
                io.Image.Output(display_name="timeline", tooltip="Cuts and repeats over the clip's time."),
            ],
            hidden=[io.Hidden.prompt, io.Hidden.extra_pnginfo],
            is_output_node=True,
        )

    @classmethod
    def execute(
        cls,
        video: Any,
        pace: dict[str, Any],
        speed: dict[str, Any],
        loop: bool,
        shutter: float,
        cuts: str,
        at_cut: str,
        dedupe: bool,
        hold_below: float,
        audio: str,
        filename_prefix: str,
        codec: dict[str, Any],
        **how: Any,
    ) -> io.NodeOutput:
        wanted = retiming.wanted(pace, speed, loop, shutter)
        name, suffix = saving.FORMATS[codec["codec"]]
        clip = videos.opened(video, suffix, audio == "keep" or (audio == "auto" and not _changes_speed(wanted)))
        return interpolated(
            clip,
            wanted,
            comfy_host.output_place(filename_prefix, (clip.info.height, clip.info.width)),
            suffix,
            comfy_host.graph_tags(cls.hidden),
            codec=name,
            quality=codec.get("quality"),
            audio=audio,
            cuts=shots.numbers(cuts),
            at_cut=at_cut,
            dedupe=dedupe,
            hold_below=hold_below or None,
            **method.settings((clip.info.height, clip.info.width), **how),
        )


def _changes_speed(wanted: Pace) -> bool:
    return wanted.speed is not None or (wanted.count is not None and wanted.fps is not None)


def interpolated(
    clip: Clip, wanted: Pace, place: comfy_host.Place, suffix: str, tags: dict[str, str], **settings: Any
) -> io.NodeOutput:
    pace = {name: getattr(wanted, name) for name in Pace.__dataclass_fields__}
    samples = wanted.samples if wanted.shutter else 1
    drawing = comfy_host.scratch_folder() / "timeline.png"
    with saving.target(place, suffix, fingerprint(clip.info, wanted, settings)) as target:
        written = interpolate_file(
            clip,
            target,
            metadata=tags,
            timeline=drawing,
            host=comfy_host.ComfyHost(words=True, samples=samples),
            **pace,
            **settings,
        )
    return saving.output(written, place, [], _picture(drawing))


def _picture(path: Path) -> Tensor:
    import cv2

    pixels = cv2.imread(str(path), cv2.IMREAD_COLOR)
    return torch.from_numpy(np.ascontiguousarray(pixels[..., ::-1])).float().div(255)[None]
