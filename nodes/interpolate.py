"""FusionFFT Interpolate: everything in one node."""

from __future__ import annotations

from typing import Any

from comfy_api.latest import io
from torch import Tensor

from ..comfy_fusionfft.interpolation import prepare
from ..comfy_fusionfft.pace import Pace, exact_rate
from . import batches, comfy_host, method, pace, shots


class Interpolate(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="FusionFFTInterpolate",
            display_name="FusionFFT Interpolate",
            category="FusionFFT",
            description="Smooth, sharp frames between the frames of a clip: motion, fusion and spectral swap in one "
            "node.",
            search_aliases=[
                *("frame interpolation", "interpolate frames", "vfi", "rife", "slow motion", "smooth video"),
                *("fps", "frame rate", "in-between"),
            ],
            inputs=[
                io.Image.Input("images", tooltip="The clip, as a batch in order of time."),
                *pace.inputs(),
                *method.inputs(),
                # Later than the others: saved graphs know widgets by position, and API graphs lack them.
                shots.cuts_input(optional=True),
                shots.dedupe_input(optional=True),
            ],
            outputs=[io.Image.Output(display_name="images"), io.Float.Output(display_name="fps")],
        )

    @classmethod
    def execute(
        cls,
        images: Tensor,
        multiplier: int,
        source_fps: float,
        target_fps: float,
        cuts: str = shots.AUTO,
        dedupe: bool = False,
        **how: Any,
    ) -> io.NodeOutput:
        clip = batches.clip(images, exact_rate(source_fps))
        wanted = Pace(**pace.chosen(multiplier, target_fps))
        settings = method.settings(batches.size(images), **how)
        return interpolated(clip, wanted, settings, cuts=shots.numbers(cuts, len(clip)), dedupe=dedupe)


def interpolated(clip: batches.Batch, wanted: Pace, settings: dict[str, Any], **edit: Any) -> io.NodeOutput:
    host = comfy_host.ComfyHost()
    ready = prepare(clip, wanted, method.model(settings, host), host, rate=clip.fps, **edit)
    count = ready.total
    if count is None:  # nothing had to be looked through
        count = ready.timing.count(len(clip), clip[0].seconds, clip[-1].seconds)
    frames = batches.batch(ready.frames(), count, clip.images)
    return io.NodeOutput(frames, float(ready.timing.rate(clip.fps)))
