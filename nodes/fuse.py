"""FusionFFT Fuse: images and their flow in, the smoother clip out."""

from __future__ import annotations

from typing import Any

from comfy_api.latest import io
from comfy_execution.graph_utils import ExecutionBlocker
from torch import Tensor

from ..comfy_fusionfft import api, flow_clip
from ..comfy_fusionfft.errors import InputError
from ..comfy_fusionfft.look import Cuts
from . import batches, comfy_host, flow, loaders, shots

BYTES_PER_PIXEL = 2400
"""Working memory of fusion with three anchors in float32."""


class Fuse(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="FusionFFTFuse",
            display_name="FusionFFT Fuse",
            category="FusionFFT",
            description="Makes the frames between, from several frame pairs around each instant; source frames pass "
            "untouched. The second of the separate blocks.",
            search_aliases=["frame interpolation", "vfi", "fusion", "interpolate frames", "slow motion"],
            inputs=[
                io.Image.Input("images", tooltip="The clip that the flow was made from."),
                flow.FlowType.Input("flow", tooltip="From RIFE Flow; it also says which frames are made."),
                flow.anchors_input("More frames see what is hidden in the nearest two, and motion that bends."),
                io.Boolean.Input(
                    "warped_prior",
                    default=False,
                    advanced=True,
                    tooltip="Also put out the nearer real frame, moved to each instant: a sharp prior for Spectral "
                    "Swap. Default off, for it takes as much memory as the result.",
                ),
                loaders.FusionModel.Input(
                    "fusion_model",
                    optional=True,
                    tooltip="From Load FusionFFT Model. Nothing connected: the built-in one.",
                ),
                shots.cuts_input(optional=True),  # last: saved graphs know widgets by position
            ],
            outputs=[
                io.Image.Output(display_name="images"),
                io.Image.Output(display_name="warped_prior", tooltip="Only while warped_prior is on."),
            ],
        )

    @classmethod
    def execute(
        cls,
        images: Tensor,
        flow: Any,
        num_anchors: int,
        warped_prior: bool,
        fusion_model: Any = None,
        cuts: str = shots.AUTO,
    ) -> io.NodeOutput:
        return fused(images, flow, num_anchors, warped_prior, fusion_model, shots.numbers(cuts, batches.count(images)))


def fused(pictures: Tensor, motion: Any, num_anchors: int, warped_prior: bool, model: Any, cuts: Cuts) -> io.NodeOutput:
    clip = flow_clip.checked(motion, len(pictures), batches.size(pictures))
    count = len(clip.instants)
    made = api.fuse(
        batches.clip(pictures),
        clip,
        num_anchors=num_anchors,
        spectral_alpha=0.0,
        fusion=network(model, batches.size(pictures)),
        cuts=cuts,
        host=comfy_host.ComfyHost(),
        total=count,
    )
    result = batches.batch(made, count, pictures)
    if not warped_prior:
        return io.NodeOutput(result, ExecutionBlocker("turn warped_prior on in FusionFFT Fuse: its prior is connected"))
    return io.NodeOutput(result, flow.warp(pictures, clip, "near")[0])


def network(model: Any, size: tuple[int, int]) -> Any:
    """The fusion network on the device, for pictures of this height and width."""
    model = loaders.load_fusion_model() if model is None else model
    if not hasattr(model, "model"):
        raise InputError(f"a {type(model).__name__} is connected as fusion model: use Load FusionFFT Model")
    comfy_host.load([model], size, BYTES_PER_PIXEL)
    return model.model
