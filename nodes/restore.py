"""Restore Clip, Restore Video: every frame of a clip made anew, larger and sharper."""

from __future__ import annotations

from typing import Any, get_args

from comfy_api.latest import io
from torch import Tensor

from ..comfy_fusionfft import api
from ..comfy_fusionfft.contract import Restorer
from ..comfy_fusionfft.engine import Room, Tile, room_for
from ..comfy_fusionfft.errors import DeviceError, InputError
from ..comfy_fusionfft.families.ftvsr.model import CHUNK, Padding
from ..comfy_fusionfft.files import restore_file
from ..comfy_fusionfft.fingerprint import fingerprint
from ..comfy_fusionfft.look import Cuts, look_through
from ..comfy_fusionfft.video import Clip
from . import batches, comfy_host, loaders, saving, shots, videos

WHOLE = ("auto", "none")
TILES = (*WHOLE, "256", "384", "512", "768", "1024")
STREAM = "take a shorter part of the clip, or Restore Video, which goes from file to file"


class RestoreClip(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="FusionFFTRestore",
            display_name="Restore Clip",
            category="FusionFFT",
            description="Makes every frame of a clip anew, four times as large and sharper, with the help of the "
            "frames around it. As many frames come out as went in.",
            search_aliases=[
                *("upscale", "upscale video", "super resolution", "video super-resolution", "vsr", "deblur"),
                *("sharpen video", "x4", "fma-net", "fmanet", "ftvsr", "compressed video", "restore"),
            ],
            inputs=[
                io.Image.Input("images", tooltip="The clip, as a batch in order of time."),
                *_inputs(),
                *_stretch_inputs(),
            ],
            outputs=[io.Image.Output(display_name="images")],
        )

    @classmethod
    def execute(
        cls, images: Tensor, restore_model: Any, tile: str, ends: str, cuts: str, chunk: int, padding: str
    ) -> io.NodeOutput:
        clip = batches.clip(images)
        restorer, _ = placed(restore_model, batches.size(images), ends=ends, chunk=chunk, padding=padding)
        return restored(clip, restorer, _tile(tile), shots.numbers(cuts, len(clip)))


class RestoreVideo(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="FusionFFTRestoreVideo",
            display_name="Restore Video",
            category="FusionFFT",
            description="A video file in, one four times as large and sharper in the output folder out, with its "
            "sound. Frames stream from file to file, and a run that was stopped goes on where it was.",
            search_aliases=[
                *("upscale video", "video upscale", "video super-resolution", "vsr", "deblur video", "sharpen video"),
                *("x4", "fma-net", "fmanet", "ftvsr", "compressed video", "restore video"),
            ],
            inputs=[
                videos.input(),
                *_inputs(),
                io.Combo.Input(
                    "audio",
                    options=["keep", "drop"],
                    default="keep",
                    tooltip="The sound. keep: as it is (default). drop: none.",
                ),
                *saving.inputs(),
                *_stretch_inputs(),
            ],
            outputs=[
                io.Video.Output(display_name="video"),
                io.String.Output(display_name="report", tooltip="How it was made, cuts, notes on what was written."),
            ],
            hidden=[io.Hidden.prompt, io.Hidden.extra_pnginfo],
            is_output_node=True,
        )

    @classmethod
    def execute(
        cls,
        video: Any,
        restore_model: Any,
        tile: str,
        ends: str,
        cuts: str,
        audio: str,
        filename_prefix: str,
        codec: dict[str, Any],
        chunk: int,
        padding: str,
    ) -> io.NodeOutput:
        name, suffix = saving.FORMATS[codec["codec"]]
        clip = videos.opened(video, suffix, sound_goes_through=audio == "keep")
        size = clip.info.height, clip.info.width
        restorer, settings = placed(restore_model, size, ends=ends, chunk=chunk, padding=padding)
        height, width = (restorer.scale * side for side in size)
        return restored_file(
            clip,
            comfy_host.output_place(filename_prefix, (height, width)),
            suffix,
            comfy_host.graph_tags(cls.hidden),
            weights=restore_model.model,
            tile=_tile(tile),
            cuts=shots.numbers(cuts),
            audio=audio,
            codec=name,
            quality=codec.get("quality"),
            **settings,
        )


def _inputs() -> list[io.Input]:
    return [
        loaders.RestoreModel.Input("restore_model", tooltip="From Load Restore Model."),
        io.Combo.Input(
            "tile",
            options=list(TILES),
            default="auto",
            advanced=True,
            tooltip="Work on overlapping squares of so many source pixels. auto: on whole pictures, on squares where "
            "memory demands it (default). none: on whole pictures in any case. A number: when the computer slows down "
            "for lack of memory. Networks that look at a picture as a whole make slightly different ones in squares.",
        ),
        io.Combo.Input(
            "ends",
            options=["replicate", "reflect"],
            default="replicate",
            advanced=True,
            tooltip="What is seen beyond the first and the last frame of a shot. replicate: that frame again "
            "(default). reflect: the frames mirrored there; try it where the first or the last frame comes out softer "
            "than the others. For networks that see a fixed number of frames, such as FMA-Net.",
        ),
        shots.cuts_input(),
    ]


def _stretch_inputs() -> list[io.Input]:
    """Of networks that work on a stretch of a clip at a time."""
    return [
        io.Int.Input(
            "chunk",
            default=CHUNK,
            min=4,
            max=240,
            step=4,
            advanced=True,
            tooltip="Frames that are worked on together, beside a few more at their ends. Default 24. More takes more "
            "memory, and a little less time in all; less is the first thing to try where memory runs out. For networks "
            "in which frames help each other over a stretch of the clip, such as FTVSR.",
        ),
        io.Combo.Input(
            "padding",
            options=list(get_args(Padding)),
            default="replicate",
            advanced=True,
            tooltip="How pictures grow to whole patches. replicate: the last row and column are repeated, so that "
            "every place is helped by other frames (default). reference: as published, where up to 15 rows and columns "
            "at the bottom and right are not; choose it to compare with the authors' pictures. For FTVSR.",
        ),
    ]


def _tile(text: str) -> Tile:
    return text if text in WHOLE else int(text)


def placed(model: Any, size: tuple[int, int], **own: Any) -> tuple[Restorer, dict[str, Any]]:
    """On the device, with room for pictures of this height and width as far as the host can make it; and those of the
    settings ``own`` that this network has."""
    network = getattr(model, "model", None)
    if getattr(getattr(network, "family", None), "restorer", None) is None:
        raise InputError(f"a {type(model).__name__} is connected as restore model: use Load Restore Model")
    settings = {name: value for name, value in own.items() if name in network.family.settings}
    restorer = api.load_restorer(network, host=comfy_host.ComfyHost(), **settings)
    comfy_host.load_for([model], restorer.working_bytes(*size))
    return restorer, settings


def restored(clip: batches.Batch, restorer: Restorer, tile: Tile, cuts: Cuts) -> io.NodeOutput:
    host = comfy_host.ComfyHost(words=True)
    images = comfy_host.empty_images(len(clip), clip.images, restorer.scale, STREAM)
    host.promise(images)
    room = _room(restorer, host, images, batches.size(clip.images), tile)
    if isinstance(cuts, str):
        cuts = look_through(clip, cuts=cuts, dedupe=False, rate=None, host=host).edit.cuts
    host.begin(str(room))
    frames = api.restore(clip, restorer, cuts=cuts, tile=room.tile or "none", host=host, total=len(clip))
    return io.NodeOutput(batches.filled(images, frames))


def _room(restorer: Restorer, host: comfy_host.ComfyHost, images: Tensor, size: tuple[int, int], tile: Tile) -> Room:
    try:
        return room_for(restorer, host, *size, tile)
    except DeviceError as error:
        if images.device != host.device:
            raise
        raise DeviceError(f"beside the {images.nbytes / 1e9:.1f} GB of the result {error}; or {STREAM}") from error


def restored_file(
    clip: Clip, place: comfy_host.Place, suffix: str, tags: dict[str, str], **settings: Any
) -> io.NodeOutput:
    """settings: of the library's restore_file."""
    host = comfy_host.ComfyHost(words=True)
    notes: list[str] = []

    def told(room: Room) -> None:
        host.begin(str(room))
        notes.append(f"made on {room}")

    with saving.target(place, suffix, fingerprint("restore", clip.info, settings)) as target:
        written = restore_file(clip, target, metadata=tags, host=host, on_room=told, **settings)
    return saving.output(written, place, notes)
