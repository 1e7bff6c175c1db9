"""RIFE Flow, Flow Preview, Flow Warp."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from comfy_api.latest import io, ui
from torch import Tensor

from ..comfy_fusionfft import api, flow_clip, flow_pictures, flow_timeline
from ..comfy_fusionfft.errors import InputError
from . import batches, comfy_host, loaders, pace

FlowType = io.Custom("FLOW")
BYTES_PER_PIXEL = 1200
"""Working memory of a RIFE network at scale 1, without the stored flow."""


class ExtractFlow(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="FusionFFTFlow",
            display_name="RIFE Flow",
            category="FusionFFT",
            description="Finds the motion from every instant of the result to the source frames around it: the first "
            "of the separate blocks.",
            search_aliases=["optical flow", "rife", "motion", "frame interpolation"],
            inputs=[
                io.Image.Input("images", tooltip="The clip, as a batch in order of time."),
                *pace.inputs(),
                *quality_inputs(),
                io.Combo.Input(
                    "anchor_flow",
                    options=["chained", "nested"],
                    default="chained",
                    advanced=True,
                    tooltip="How wider frame pairs get their motion. Default chained: put together from neighbouring "
                    "frames' flow, at no cost. nested: each wider pair is searched itself; slower, and worse for "
                    "large motion.",
                ),
                anchors_input("Only nested flow is searched for so many; chained flow serves any number."),
                io.Boolean.Input(
                    "half",
                    default=False,
                    advanced=True,
                    tooltip="Store flow as float16: half the memory, exact to 1/16 pixel up to 128 pixels of motion. "
                    "Default off; turn it on for long or large clips.",
                ),
                model_input(),
            ],
            outputs=[FlowType.Output(display_name="flow"), io.Float.Output(display_name="fps")],
        )

    @classmethod
    def execute(
        cls,
        images: Tensor,
        multiplier: int,
        source_fps: float,
        target_fps: float,
        scale: str,
        uhd: bool,
        ensemble: bool,
        anchor_flow: str,
        num_anchors: int,
        half: bool,
        rife_model: Any = None,
    ) -> io.NodeOutput:
        return extract(
            images,
            pace.plan(batches.count(images), multiplier, source_fps, target_fps),
            source_of(rife_model, batches.size(images), scale, uhd, ensemble),
            half,
            anchor_flow=anchor_flow,
            num_anchors=num_anchors,
        )


def extract(pictures: Tensor, timing: pace.Plan, source: Any, half: bool, **anchors: Any) -> io.NodeOutput:
    """The FLOW of a batch, each tensor moved to where it stays as soon as it is found."""
    between = sum(position.denominator > 1 for position in timing.positions)
    comfy_host.announce_flow(between, pictures, half)
    found = api.extract_flow(
        batches.clip(pictures, timing.source),
        flow=source,
        host=comfy_host.ComfyHost(pictures=False),  # they would be the source frames
        total=len(pictures),
        **timing.settings,
        **anchors,
    )
    flow = flow_clip.collect(found, timing.positions, comfy_host.keeper(half))
    where = ", ".join(sorted({tensor.device.type for tensor in flow.flow}))
    comfy_host.tell(f"{len(flow.flow)} pairs, {flow.bytes / 1e9:.2f} GB {f'on {where}' if where else ''}".strip())
    return io.NodeOutput(flow, float(timing.fps))


class FlowPreview(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="FusionFFTFlowPreview",
            display_name="Flow Preview",
            category="FusionFFT",
            description="Pictures of a FLOW: one for every instant that was searched.",
            search_aliases=["optical flow preview", "flow to image", "motion vectors"],
            inputs=[
                FlowType.Input("flow", tooltip="From RIFE Flow."),
                io.Combo.Input(
                    "show",
                    options=["colour", "arrows", "occlusion", "anchors"],
                    default="colour",
                    tooltip="colour: hue is direction, saturation is speed (default). arrows: where points go. "
                    "occlusion: which of the two frames each pixel is taken from. anchors: which frames each output "
                    "frame is made of.",
                ),
                anchors_input("Shown by the anchors picture."),
                io.Image.Input(
                    "images", optional=True, tooltip="The clip the flow was made from, to draw arrows and masks over."
                ),
            ],
            outputs=[io.Image.Output()],
            is_output_node=True,
        )

    @classmethod
    def execute(cls, flow: Any, show: str, num_anchors: int, images: Tensor | None = None) -> io.NodeOutput:
        clip = flow_clip.checked(flow, *_expected(images))
        if not clip.flow:
            raise InputError("this FLOW is of a single image, which has no motion: connect a clip of two or more")
        pictures = _drawn(clip, show, num_anchors, images)
        return io.NodeOutput(pictures, ui=ui.PreviewImage(pictures, cls=cls))


class FlowWarp(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="FusionFFTFlowWarp",
            display_name="Flow Warp",
            category="FusionFFT",
            description="Moves the frames around each instant to it, along the flow, without any network: for masks, "
            "depth and other pictures that move as the clip does, or to look at the flow.",
            search_aliases=["warp", "optical flow warp", "motion compensation"],
            inputs=[
                io.Image.Input("images", tooltip="As many as the clip the flow was made from, and of its size."),
                FlowType.Input("flow", tooltip="From RIFE Flow; it also says to which instants."),
                io.Combo.Input(
                    "side",
                    options=list(api.WARP_SIDES),
                    default="blend",
                    tooltip="blend: both frames, mixed as the flow's mask says (default). left, right: that frame "
                    "alone. near: the one nearer in time.",
                ),
            ],
            outputs=[
                io.Image.Output(
                    display_name="images", tooltip="One for every output instant; source frames untouched."
                ),
                io.Mask.Output(display_name="left_share", tooltip="1 where the left frame is taken, 0 for the right."),
            ],
        )

    @classmethod
    def execute(cls, images: Tensor, flow: Any, side: str) -> io.NodeOutput:
        return warp(images, flow_clip.checked(flow, *_expected(images)), side)


def warp(pictures: Tensor, flow: flow_clip.ClipFlow, side: str) -> io.NodeOutput:
    host, positions = comfy_host.ComfyHost(), flow.positions()
    frames = api.warp(batches.clip(pictures), flow, side=side, host=host, total=len(positions))
    warped = batches.batch(frames, len(positions), pictures)
    shares = batches.empty_mask(len(positions), pictures)
    for number, share in enumerate(flow_clip.left_shares(flow)):
        shares[number] = share
    return io.NodeOutput(warped, shares)


def quality_inputs() -> list[io.Input]:
    """How motion is searched; shared with the all-in-one node."""
    return [
        io.Combo.Input(
            "scale",
            options=[f"{scale:g}" for scale in api.SCALES],
            default="1",
            advanced=True,
            tooltip="Size of the picture that motion is searched on. Default 1. 0.5 or 0.25 for 4K or very large "
            "motion (faster, too), 2 or 4 for small pictures with small motion.",
        ),
        io.Boolean.Input(
            "uhd", default=False, advanced=True, tooltip="For 4K and larger: scale 1 becomes 0.5. Default off."
        ),
        io.Boolean.Input(
            "ensemble",
            default=False,
            advanced=True,
            tooltip="Search in both directions and average: twice the work, a little steadier. Only RIFE 4.0-4.20 and "
            "4.24 can. Default off.",
        ),
    ]


def anchors_input(note: str) -> io.Int.Input:
    return io.Int.Input(
        "num_anchors",
        default=api.NUM_ANCHORS,
        min=1,
        max=api.MAX_ANCHORS,
        advanced=True,
        tooltip=f"Frame pairs around an instant: 1 is the nearest two frames, 2 the nearest four … {note} Default "
        f"{api.NUM_ANCHORS}, 1 to {api.MAX_ANCHORS}.",
    )


def model_input() -> io.MultiType.Input:
    return io.MultiType.Input(
        "rife_model",
        types=[loaders.RIFEModel, loaders.HostModel],
        optional=True,
        tooltip="From Load RIFE Model, or ComfyUI's own Load Frame Interpolation Model (RIFE files). Nothing "
        "connected: the built-in default.",
    )


def source_of(model: Any, size: tuple[int, int], scale: str, uhd: bool, ensemble: bool) -> Any:
    """A FlowSource for pictures of this height and width, its network on the device."""
    found = network(model, size)
    return api.load_flow(found, host=comfy_host.ComfyHost(), scale=float(scale), uhd=uhd, ensemble=ensemble)


def network(model: Any, size: tuple[int, int]) -> Any:
    """What finds motion, on the device, or the name of a source without a network."""
    model = loaders.flow_network(loaders.load_flow_model() if model is None else model)
    if isinstance(model, str):
        return model
    comfy_host.load([model], size, BYTES_PER_PIXEL)
    return model.model


def _expected(pictures: Tensor | None) -> tuple[Any, ...]:
    return () if pictures is None else (batches.count(pictures), batches.size(pictures))


def _drawn(clip: flow_clip.ClipFlow, show: str, num_anchors: int, pictures: Tensor | None) -> Tensor:
    """Every picture goes into its place as soon as it is drawn; no more than the result is held."""
    host = comfy_host.ComfyHost()
    drawing = _timelines(clip, num_anchors, pictures) if show == "anchors" else _motions(clip, show, pictures)
    count = len(clip.instants) if show == "anchors" else sum(len(clip.flow[row]) for row in _near(clip))
    drawn = None
    for number, picture in enumerate(drawing):
        drawn = comfy_host.empty_images(count, picture[None]) if drawn is None else drawn
        drawn[number] = picture
        host.raise_if_cancelled()
        host.progress(number + 1, count)
    return drawn


def _near(clip: flow_clip.ClipFlow) -> list[int]:
    return [row for row, (left, right) in enumerate(clip.pairs.tolist()) if right - left == 1]


def _timelines(clip: flow_clip.ClipFlow, num_anchors: int, pictures: Tensor | None) -> Iterator[Tensor]:
    settings = {"num_anchors": num_anchors, "width": min(1280, max(640, clip.flow[0].shape[-1])), "images": pictures}
    for chosen in range(len(clip.instants)):
        yield flow_timeline.timeline(clip.pairs, clip.timesteps, clip.instants, chosen, **settings)


def _motions(clip: flow_clip.ClipFlow, show: str, pictures: Tensor | None) -> Iterator[Tensor]:
    fastest = flow_pictures.common_speed(clip.flow[row] for row in _near(clip))
    for row in _near(clip):
        flow, mask = clip.flow[row], clip.mask[row]
        ground = None if pictures is None else pictures[int(clip.pairs[row, 0])][None, ..., :3]
        if show == "colour":
            yield from flow_pictures.colour(flow, fastest)
        elif show == "arrows":
            yield from flow_pictures.arrows(flow, ground, fastest=fastest)
        else:
            yield from flow_pictures.occlusion(mask, flow, ground)
