"""WaveletVFI: middles by a network of its own, with the picture of where it computed."""

from __future__ import annotations

from fractions import Fraction
from typing import Any

from comfy_api.latest import io
from torch import Tensor

from ..comfy_fusionfft.contract import Frame
from ..comfy_fusionfft.errors import InputError
from ..comfy_fusionfft.families.waveletvfi.config import RATIOS
from ..comfy_fusionfft.families.waveletvfi.model import Report
from ..comfy_fusionfft.interpolation import prepare
from ..comfy_fusionfft.pace import Pace, exact_rate
from . import batches, comfy_host, loaders, pace, shots

BYTES_PER_PIXEL = 1500
"""Working memory in float32."""
AUTO = "auto"


class Interpolate(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="FusionFFTWaveletVFI",
            display_name="WaveletVFI Interpolate",
            category="FusionFFT",
            description="Frames between by a network that finds its own motion and computes details only where there "
            "are any. For animation and graphics; FusionFFT Interpolate is better elsewhere.",
            search_aliases=["wavelet", "wavelet vfi", "frame interpolation", "vfi", "dynamic interpolation"],
            inputs=[
                io.Image.Input("images", tooltip="The clip, as a batch in order of time."),
                io.Combo.Input(
                    "multiplier",
                    options=["2", "4", "8"],
                    default="2",
                    tooltip="Frames in the result for each source frame. The network makes middles alone, and middles "
                    "of middles. Default 2.",
                ),
                io.Float.Input(
                    "source_fps",
                    default=pace.SOURCE_FPS,
                    min=0.01,
                    max=1000.0,
                    step=0.001,
                    tooltip=f"Frames a second of the images, for the fps output. Default {pace.SOURCE_FPS:g}, 0.01 to "
                    "1000.",
                ),
                io.Combo.Input(
                    "threshold",
                    options=[AUTO, *(f"{ratio:g}" for ratio in RATIOS)],
                    default=AUTO,
                    tooltip="Details weaker than this share of the range of brightness are left out; 0 leaves out "
                    "none. auto: the network chooses for every pair (default). Raise it for speed, lower it where "
                    "fine texture is lost.",
                ),
                shots.cuts_input(),
                loaders.WaveletModel.Input("waveletvfi_model", tooltip="From Load WaveletVFI Model."),
            ],
            outputs=[
                io.Image.Output(display_name="images"),
                io.Float.Output(display_name="fps"),
                io.Mask.Output(
                    display_name="computed",
                    tooltip="1 where the finest details were computed, a mask for each frame; 0 in source frames.",
                ),
                io.Float.Output(
                    display_name="cost",
                    tooltip="Work of the levels that can leave places out, against leaving out none: 1 is all of it.",
                ),
            ],
        )

    @classmethod
    def execute(
        cls, images: Tensor, multiplier: str, source_fps: float, threshold: str, cuts: str, waveletvfi_model: Any
    ) -> io.NodeOutput:
        clip = batches.clip(images, exact_rate(source_fps))
        ratio = threshold if threshold == AUTO else float(threshold)
        return interpolated(clip, int(multiplier), ratio, shots.numbers(cuts, len(clip)), waveletvfi_model)


def interpolated(clip: batches.Batch, multi: int, threshold: float | str, cuts: Any, model: Any) -> io.NodeOutput:
    if not hasattr(model, "model"):
        raise InputError(f"a {type(model).__name__} is connected as WaveletVFI model: use Load WaveletVFI Model")
    height, width = batches.size(clip.images)
    comfy_host.load([model], (height, width), BYTES_PER_PIXEL)
    seen: dict[Fraction, Report] = {}
    network = model.model
    middle = network.family.model(network, threshold=threshold, watch=lambda told: seen.update({told.position: told}))
    ready = prepare(clip, Pace(multi), middle, comfy_host.ComfyHost(), rate=clip.fps, cuts=cuts)
    count = (len(clip) - 1) * multi + 1
    computed = batches.empty_mask(count, clip.images).zero_()
    costs: list[float] = []

    def told(number: int, frame: Frame) -> Frame:
        report = seen.pop(frame.position, None)
        if report is not None:
            computed[number] = report.picture(1, height, width)
            costs.append(float(report.cost))
        return frame

    made = batches.batch((told(*each) for each in enumerate(ready.frames())), count, clip.images)
    cost = sum(costs) / len(costs) if costs else 0.0
    share = float(computed.sum()) / (max(1, len(costs)) * height * width)
    comfy_host.tell(f"details at {100 * share:.0f} % of the places, for {100 * cost:.0f} % of the work")
    return io.NodeOutput(made, float(clip.fps * multi), computed, cost)
