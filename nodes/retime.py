"""FusionFFT Retime: any frame rate, count and speed for a batch of images, with cuts and repeats looked after."""

from __future__ import annotations

from fractions import Fraction
from typing import Any

from comfy_api.latest import io
from comfy_execution.graph_utils import ExecutionBlocker
from torch import Tensor

from ..comfy_fusionfft.contract import Frame
from ..comfy_fusionfft.errors import InputError, quoted
from ..comfy_fusionfft.interpolation import Interpolation, prepare
from ..comfy_fusionfft.look import look_through
from ..comfy_fusionfft.pace import Pace, exact_rate
from . import batches, comfy_host, findings, method, retiming, shots
from .pace import SOURCE_FPS

VideoInfo = io.Custom("VHS_VIDEOINFO")
MAPS_OFF = "turn maps on in FusionFFT Retime: one of its maps is connected"


class Retime(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        maps = "Only while maps is on."
        return io.Schema(
            node_id="FusionFFTRetime",
            display_name="FusionFFT Retime",
            category="FusionFFT",
            description="Gives a clip another frame rate, length or speed: fractions, exact frame counts, speed ramps, "
            "loops, motion blur. Finds cuts and repeated frames.",
            search_aliases=[
                *("frame interpolation", "frame rate", "speed ramp", "slow motion", "time remapping", "vfi"),
                *("motion blur", "seamless loop", "deduplicate frames", "scene cuts", "fps converter"),
            ],
            inputs=[
                io.Image.Input("images", tooltip="The clip, as a batch in order of time."),
                io.MultiType.Input(
                    io.Float.Input(
                        "source_fps",
                        default=SOURCE_FPS,
                        min=0.01,
                        max=1000.0,
                        step=0.001,
                        tooltip=f"Frames a second of the images. Default {SOURCE_FPS:g}, 0.01 to 1000; connect the fps "
                        "of Get Video Components, or the video info of VideoHelperSuite.",
                    ),
                    types=[VideoInfo],
                ),
                *retiming.inputs(),
                *shots.inputs(),
                io.Boolean.Input(
                    "maps",
                    default=False,
                    tooltip="Also put out occlusion, confidence and the predicted quality of every frame. Default off, "
                    "for they take memory.",
                ),
                *method.inputs(),
            ],
            outputs=[
                io.Image.Output(display_name="images"),
                io.Float.Output(display_name="fps"),
                io.String.Output(display_name="report", tooltip="What was found in the clip and what was made of it."),
                io.Image.Output(display_name="timeline", tooltip="Cuts and repeats over the clip's time."),
                io.Mask.Output(
                    display_name="occlusion", tooltip=f"1 where only one of the frames around shows a place. {maps}"
                ),
                io.Mask.Output(display_name="confidence", tooltip=f"1 where a frame can be trusted. {maps}"),
                io.Image.Output(display_name="quality", tooltip=f"Predicted quality of every frame, drawn. {maps}"),
            ],
        )

    @classmethod
    def execute(
        cls,
        images: Tensor,
        source_fps: Any,
        pace: dict[str, Any],
        speed: dict[str, Any],
        loop: bool,
        shutter: float,
        cuts: str,
        at_cut: str,
        dedupe: bool,
        hold_below: float,
        maps: bool,
        **how: Any,
    ) -> io.NodeOutput:
        clip = batches.clip(images, _rate(source_fps))
        return retimed(
            clip,
            retiming.wanted(pace, speed, loop, shutter),
            method.settings(batches.size(images), **how),
            maps,
            hold_below or None,
            at_cut,
            cuts=shots.numbers(cuts, len(clip)),
            dedupe=dedupe,
        )


def _rate(value: Any) -> Fraction:
    """Of a number, or of the mapping in which VideoHelperSuite says what it has loaded."""
    if isinstance(value, dict):
        value = value.get("loaded_fps") or value.get("source_fps")
    rate = exact_rate(value) if isinstance(value, (int, float)) else Fraction(0)
    if rate <= 0:
        raise InputError(f"a source_fps of {quoted(value)}: give the frames a second of the images, above 0")
    return rate


def retimed(
    clip: batches.Batch,
    wanted: Pace,
    settings: dict[str, Any],
    maps: bool,
    hold_below: float | None,
    at_cut: str,
    **edit: Any,
) -> io.NodeOutput:
    host = comfy_host.ComfyHost()
    model = method.model(settings, host, explain=maps or hold_below is not None)
    look = look_through(clip, rate=clip.fps, host=host, **edit)
    ready = prepare(
        clip, wanted, model, host, rate=clip.fps, look=look, at_cut=at_cut, hold_below=hold_below, maps=maps, **edit
    )
    made = _Made(clip, ready, maps)
    for frame in ready.frames():
        made.add(frame)
    fps = ready.timing.rate(clip.fps) or wanted.fps or clip.fps  # a single frame has no rate of its own
    report = [*look.lines(), *findings.result(len(made.confidence), fps, made.confidence, hold_below)]
    timeline = findings.timeline(clip, look, made.sure())
    maps_made = made.maps(hold_below) if maps else [ExecutionBlocker(MAPS_OFF)] * 3
    return io.NodeOutput(made.images(), float(fps), "\n".join(report), timeline, *maps_made)


class _Made:
    """The result while it grows; ``at_cut`` skip leaves places at its end unused.

    confidence: dB that are predicted for each frame, None where it is a real one or nothing was predicted.
    """

    def __init__(self, clip: batches.Batch, ready: Interpolation, maps: bool) -> None:
        self._images = comfy_host.empty_images(ready.total, clip.images)
        self._planes = [batches.empty_mask(ready.total, clip.images) for _ in range(2)] if maps else []
        self._seconds: list[float] = []
        self._positions: list[float] = []
        self.confidence: list[float | None] = []

    def add(self, frame: Frame) -> None:
        number = len(self.confidence)
        self._images[number] = frame.pixels
        for plane, (mask, real) in enumerate(zip(self._planes, (0.0, 1.0), strict=False)):
            mask[number] = real if frame.maps is None else frame.maps[..., plane]
        self._seconds.append(float(frame.seconds))
        self._positions.append(float(frame.position))
        self.confidence.append(frame.confidence)

    def images(self) -> Tensor:
        return self._images[: len(self.confidence)]

    def sure(self) -> list[tuple[float, float]]:
        """Instants of the made frames, in source frames, and their dB."""
        made = zip(self._positions, self.confidence, strict=True)
        return [(position, value) for position, value in made if value is not None]

    def maps(self, hold_below: float | None) -> list[Tensor]:
        """Occlusion, confidence, and the quality of every frame as a drawing."""
        drawing = findings.quality(self._seconds, self.confidence, hold_below)
        return [*(mask[: len(self.confidence)] for mask in self._planes), drawing]
