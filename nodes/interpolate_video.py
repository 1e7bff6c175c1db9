"""FusionFFT Interpolate Video: VIDEO in, VIDEO out, from file to file in bounded memory."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import numpy as np
import torch
from comfy_api.latest import io, ui
from torch import Tensor

from ..comfy_fusionfft.files import AUDIO, interpolate_file
from ..comfy_fusionfft.fingerprint import fingerprint
from ..comfy_fusionfft.pace import Pace
from ..comfy_fusionfft.video import Clip
from ..comfy_fusionfft.video.codecs import CODECS
from . import comfy_host, method, retiming, shots, videos

FileNames = io.Custom("VHS_FILENAMES")
FORMATS = {
    "h264 (mp4)": ("h264", ".mp4"),
    "hevc (mp4)": ("hevc", ".mp4"),
    "av1 (mp4)": ("av1", ".mp4"),
    "vp9 (webm)": ("vp9", ".webm"),
    "prores (mov)": ("prores", ".mov"),
    "ffv1 (mkv)": ("ffv1", ".mkv"),
}


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
                io.MultiType.Input(
                    "video",
                    types=[io.Video, FileNames, io.String],
                    tooltip="A VIDEO, such as that of Load Video; the file names of VideoHelperSuite; or a text with a "
                    "file's path. A file is read where it lies, with the trims of Trim Video.",
                ),
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
                io.String.Input(
                    "filename_prefix",
                    default="video/FusionFFT",
                    tooltip="Folder and beginning of the file's name in the output folder, with %date:yyyy-MM-dd% and "
                    "the like. Default video/FusionFFT.",
                ),
                io.DynamicCombo.Input(
                    "codec",
                    options=[io.DynamicCombo.Option(name, _quality(name)) for name in FORMATS],
                    tooltip="How the file is stored. h264 plays everywhere (default). hevc, av1: smaller, slower. vp9, "
                    "prores, ffv1 keep alpha; prores is for editing, ffv1 without loss.",
                ),
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
        name, suffix = FORMATS[codec["codec"]]
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


def _quality(name: str) -> list[io.Input]:
    codec, _ = FORMATS[name]
    if CODECS[codec].quality is None:
        return []
    default, worst = CODECS[codec].quality
    return [
        io.Int.Input(
            "quality",
            default=default,
            min=0,
            max=worst,
            tooltip="Lower is better and larger, 6 less is about twice the size. Default 16 for h264, 18 for hevc and "
            "vp9, 20 for av1; 0 to 51, for vp9 and av1 to 63.",
        )
    ]


def _changes_speed(wanted: Pace) -> bool:
    return wanted.speed is not None or (wanted.count is not None and wanted.fps is not None)


def interpolated(
    clip: Clip, wanted: Pace, place: comfy_host.Place, suffix: str, tags: dict[str, str], **settings: Any
) -> io.NodeOutput:
    pace = {name: getattr(wanted, name) for name in Pace.__dataclass_fields__}
    samples = wanted.samples if wanted.shutter else 1
    drawing = comfy_host.scratch_folder() / "timeline.png"
    with _target(place, suffix, fingerprint(clip.info, wanted, settings)) as target:
        written = interpolate_file(
            clip,
            target,
            metadata=tags,
            timeline=drawing,
            host=comfy_host.ComfyHost(words=True, samples=samples),
            **pace,
            **settings,
        )
    count = f"{written.frames} frame{'' if written.frames == 1 else 's'}"
    lines = [f"{written.path.name}: {count}, {float(written.seconds):.2f} s", *written.notes]
    comfy_host.tell(lines[0])
    comfy_host.take_preview_off()
    shown = ui.SavedResult(target.name, place.subfolder, io.FolderType.output)
    return io.NodeOutput(
        comfy_host.as_video(written.path), "\n".join(lines), _picture(drawing), ui=ui.PreviewVideo([shown])
    )


@contextmanager
def _target(place: comfy_host.Place, suffix: str, key: str) -> Iterator[Path]:
    """The next free name, or the one under which an interrupted run with this key has begun.

    A hidden file beside the target says which key began it, until it is there.
    """
    place.folder.mkdir(parents=True, exist_ok=True)
    begun = place.folder.glob(f".{place.name}_*_{suffix}.begun")
    targets = [note.with_name(note.name[1:].removesuffix(".begun")) for note in begun if _text(note) == key]
    target = next((path for path in sorted(targets) if not path.exists()), None)
    target = target or place.folder / f"{place.name}_{place.number:05}_{suffix}"
    note = target.with_name(f".{target.name}.begun")
    note.write_text(key)
    yield target
    note.unlink(missing_ok=True)


def _text(path: Path) -> str:
    with suppress(OSError):
        return path.read_text()
    return ""


def _picture(path: Path) -> Tensor:
    import cv2

    pixels = cv2.imread(str(path), cv2.IMREAD_COLOR)
    return torch.from_numpy(np.ascontiguousarray(pixels[..., ::-1])).float().div(255)[None]
