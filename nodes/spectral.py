"""Spectral Swap: real frames lend made ones the strength of their fine detail, tuned live on the node."""

from __future__ import annotations

from fractions import Fraction
from typing import Any

from comfy_api.latest import io
from torch import Tensor

from ..comfy_fusionfft import api, flow_clip, swap
from ..comfy_fusionfft.errors import InputError
from . import batches, comfy_host, flow, preview

AUTO = "auto"


class SpectralSwap(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="FusionFFTSpectralSwap",
            display_name="Spectral Swap",
            category="FusionFFT",
            description="Gives made frames the strength of fine detail that the real frames have; their own phase, "
            "and so every edge's place, stays. Run once, then drag: the preview follows at once.",
            search_aliases=["grain", "sharpen", "frequency swap", "fft", "detail transfer", "film grain"],
            inputs=[
                io.Image.Input("images", tooltip="The frames to refine, such as those of FusionFFT Fuse."),
                io.Image.Input(
                    "prior",
                    tooltip="The frames that lend: the source clip (then connect flow, too), or as many as images, or "
                    "one.",
                ),
                *swap_inputs(""),
                io.Boolean.Input(
                    "soft",
                    default=True,
                    tooltip="Fade the swap in between lo and hi. Off: all of it from lo on. Default on.",
                ),
                io.Combo.Input(
                    "prior_kind",
                    options=[AUTO, *swap.PRIOR_KINDS],
                    default=AUTO,
                    advanced=True,
                    tooltip="Which prior frames lend to an image. neighbours: the two around its time, mixed. "
                    "nearest: the nearer one. paired: the one with the same number. Default auto: neighbours with a "
                    "flow and its source clip, else paired.",
                ),
                io.Boolean.Input(
                    "clamp_gain",
                    default=True,
                    advanced=True,
                    tooltip="Only ever strengthen detail. Off: also weaken what the prior lacks. Default on.",
                ),
                flow.FlowType.Input(
                    "flow",
                    optional=True,
                    tooltip="Says where images lie between the prior's frames; source frames then pass untouched.",
                ),
            ],
            outputs=[io.Image.Output()],
            **_shown_after_reload(),
        )

    @classmethod
    def execute(
        cls,
        images: Tensor,
        prior: Tensor,
        alpha: float,
        lo: float,
        hi: float,
        soft: bool,
        prior_kind: str,
        clamp_gain: bool,
        flow: Any = None,
    ) -> io.NodeOutput:
        return swapped(images, prior, flow, prior_kind, alpha=alpha, lo=lo, hi=hi, soft=soft, clamp_gain=clamp_gain)


def swapped(pictures: Tensor, prior: Tensor, motion: Any, chosen: str, **settings: Any) -> io.NodeOutput:
    (height, width), (other_height, other_width) = batches.size(pictures), batches.size(prior)
    kind, positions = _placed(pictures, prior, motion, chosen)
    if (height, width) != (other_height, other_width):
        raise InputError(
            f"images are {width}×{height}, the prior is {other_width}×{other_height}: scale one of them to the other"
        )
    frames = api.spectral_swap(
        batches.clip(pictures, positions=positions),
        batches.clip(prior),
        prior_kind=kind,
        host=comfy_host.ComfyHost(pictures=False),  # the live preview has their place
        total=len(pictures),
        **settings,
    )
    result = batches.batch(frames, len(pictures), pictures)
    lending = enumerate(swap.lenders(positions, len(prior), kind))
    made = [(number, float(positions[number]), *lent) for number, lent in lending if lent is not None]
    entry = preview.publish(comfy_host.node_id(), pictures, prior, made, **settings)
    return io.NodeOutput(result, ui={preview.UI_KEY: [entry | {"prior_kind": chosen}]})


def _placed(pictures: Tensor, prior: Tensor, motion: Any, kind: str) -> tuple[swap.PriorKind, tuple[Fraction, ...]]:
    """The kind that ``auto`` means, and where each picture lies, in frames of the prior."""
    count, numbers = len(prior), tuple(Fraction(i) for i in range(len(pictures)))
    if motion is None:
        if kind in ("neighbours", "nearest"):
            raise InputError(
                f"prior_kind {kind} needs to know where the images lie in time: connect flow, or choose auto"
            )
        return _paired(count, len(pictures)), numbers
    clip = flow_clip.checked(motion)
    frames, positions = clip.frames, clip.positions()
    if len(positions) != len(pictures):
        raise InputError(
            f"the FLOW is for {len(positions)} output frames, there are {len(pictures)} images: connect the flow that "
            "the images were made with"
        )
    if kind == "paired" or (kind == AUTO and count != frames):
        return _paired(count, len(pictures)), positions
    if count != frames:
        raise InputError(
            f"the FLOW is of a clip of {frames} frames, the prior has {count}: connect the source clip as prior, or "
            "choose prior_kind paired"
        )
    return ("neighbours" if kind == AUTO else kind), positions


def _paired(prior: int, pictures: int) -> swap.PriorKind:
    if prior not in (1, pictures):
        raise InputError(
            f"the prior has {prior} frames, there are {pictures} images: connect as many, one for all, or the source "
            "clip together with its flow"
        )
    return "paired"


def swap_inputs(prefix: str) -> list[io.Input]:
    """alpha, lo and hi, as sliders; shared with the all-in-one node."""
    frequency = {"min": 0.0, "max": 0.71, "step": 0.01, "round": 0.001, "display_mode": io.NumberDisplay.slider}
    advanced = {"advanced": True} if prefix else {}
    return [
        io.Float.Input(
            f"{prefix}alpha",
            default=api.SPECTRAL_ALPHA,
            min=0.0,
            max=1.0,
            step=0.01,
            round=0.001,
            display_mode=io.NumberDisplay.slider,
            tooltip="How much of the real frames' fine detail is lent. 0: none, 1: all of their strength. Default "
            f"{api.SPECTRAL_ALPHA:g}. Raise it for grainy film, lower it when made frames flicker or look noisy.",
        ),
        io.Float.Input(
            f"{prefix}lo",
            default=api.SPECTRAL_LO,
            **frequency,
            **advanced,
            tooltip="Cycles per pixel where the band begins: 0.5 is stripes 2 pixels wide, 0.25 is 4. Default "
            f"{api.SPECTRAL_LO:g}, 0 to 0.71. Raise it to touch only the finest grain.",
        ),
        io.Float.Input(
            f"{prefix}hi",
            default=api.SPECTRAL_HI,
            **frequency,
            **advanced,
            tooltip="Cycles per pixel from which on the swap is full, up to the finest detail. Default "
            f"{api.SPECTRAL_HI:g}, 0 to 0.71, not below lo.",
        ),
    ]


def _shown_after_reload() -> dict[str, bool]:
    """Newer hosts keep an intermediate node's preview for a page that is loaded again."""
    return {"has_intermediate_output": True} if "has_intermediate_output" in io.Schema.__dataclass_fields__ else {}
