"""FusionFFT Interpolate: everything in one node."""

from __future__ import annotations

from typing import Any

from comfy_api.latest import io
from torch import Tensor

from ..comfy_fusionfft import api
from . import batches, comfy_host, flow, fuse, loaders, pace, spectral


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
                io.Combo.Input(
                    "method",
                    options=[method for method in api.METHODS if method != "auto"],
                    default=api.DEFAULT_METHOD,
                    tooltip="fusion: several frame pairs, chosen per pixel (default, best). rife: the nearest two "
                    "frames, warped and mixed (fastest). recursive: outside-in, for large multipliers of difficult "
                    "motion.",
                ),
                flow.anchors_input("Used by fusion."),
                *spectral.swap_inputs("spectral_"),
                *flow.quality_inputs(),
                flow.model_input(),
                loaders.FusionModel.Input(
                    "fusion_model",
                    optional=True,
                    tooltip="From Load FusionFFT Model. Nothing connected: the built-in one.",
                ),
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
        method: str,
        num_anchors: int,
        spectral_alpha: float,
        spectral_lo: float,
        spectral_hi: float,
        scale: str,
        uhd: bool,
        ensemble: bool,
        rife_model: Any = None,
        fusion_model: Any = None,
    ) -> io.NodeOutput:
        timing = pace.plan(len(images), multiplier, source_fps, target_fps)
        settings: dict[str, Any] = {}
        if method == "fusion":
            settings = {
                "fusion": fuse.network(fusion_model, images),
                "num_anchors": num_anchors,
                "spectral_alpha": spectral_alpha,
                "spectral_lo": spectral_lo,
                "spectral_hi": spectral_hi,
            }
        source = flow.source_of(rife_model, images, scale, uhd, ensemble)
        return interpolated(images, timing, source, method, settings)


def interpolated(pictures: Tensor, timing: pace.Pace, source: Any, method: str, settings: Any) -> io.NodeOutput:
    count = len(timing.positions)
    frames = api.interpolate(
        batches.clip(pictures, timing.source),
        method=method,
        flow=source,
        host=comfy_host.ComfyHost(),
        total=count,
        **timing.settings,
        **settings,
    )
    return io.NodeOutput(batches.batch(frames, count, pictures), float(timing.fps))
