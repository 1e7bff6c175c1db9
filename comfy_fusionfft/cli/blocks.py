"""``fusionfft flow``, ``fuse`` and ``spectral``: the blocks of an interpolation, one at a time."""

from __future__ import annotations

import argparse
from fractions import Fraction
from pathlib import Path
from typing import TYPE_CHECKING

from .. import api
from ..engine import PairFlow
from ..files import interpolate_file
from ..flow_files import write_flow
from ..swap import PRIOR_KINDS
from ..video import Sound, open_clip, write_clip
from .shared import (
    defaults,
    device_options,
    flow_options,
    fusion_options,
    fusion_settings,
    output_options,
    pace_options,
    plain_host,
    say,
)

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from ..contract import Frame


def add_flow(parser: argparse.ArgumentParser) -> None:
    parser.set_defaults(run=_flow)
    default = defaults(api.extract_flow)
    parser.add_argument("input", metavar="IN", help="video file or image folder")
    parser.add_argument("output", metavar="OUT", help="a folder of safetensors, or a video of the motion as colours")
    pace_options(parser)
    parser.add_argument("--flow", default=default["flow"], help="auto, dis, rife or a safetensors file (default: auto)")
    flow_options(parser, default)
    parser.add_argument("--full", action="store_true", help="store float32 instead of float16")
    parser.add_argument("--rate", metavar="R", help="frame rate of an image folder (default: 24)")
    parser.add_argument(
        "--overwrite", action="store_true", help="replace OUT if it exists, once the new one is complete"
    )
    device_options(parser)


def _flow(options: argparse.Namespace) -> int:
    clip = open_clip(options.input, rate=api.exact_rate(options.rate) if options.rate else None)
    names = ("multi", "fps", "flow", "scale", "uhd", "ensemble")
    with plain_host(options) as host:
        flows = api.extract_flow(clip, host=host, **{name: getattr(options, name) for name in names})
        if Path(options.output).suffix:
            written = write_clip(
                options.output, _coloured(flows), like=clip.info, rate=clip.info.rate, overwrite=options.overwrite
            )
            say(f"wrote {written.path}: the motion of {written.frames} instants as colours")
        else:
            count = write_flow(options.output, flows, half=not options.full, overwrite=options.overwrite)
            say(f"wrote {options.output}: flow of {count} intervals")
    return 0


def _coloured(flows: Iterable[PairFlow]) -> Iterator[Frame]:
    """The motion between an interval's two frames as it is seen from each instant."""
    import torch

    from ..contract import Frame
    from ..ops.flow_colour import flow_to_colour

    fastest = None
    for index, _, times, (flow, _) in flows:
        across = flow[:, 2:] - flow[:, :2]
        if fastest is None:
            fastest = max(1.0, float(across.square().sum(1).sqrt().flatten()[::17].quantile(0.99)))
        for time, picture in zip(times, flow_to_colour(across, fastest), strict=True):
            pixels = picture.permute(1, 2, 0).mul(255).round().to(torch.uint8).cpu()
            yield Frame(pixels, index + Fraction(time), original=False)


def add_fuse(parser: argparse.ArgumentParser) -> None:
    parser.set_defaults(run=_fuse)
    parser.add_argument("input", metavar="IN", help="video file or image folder")
    parser.add_argument("flow", metavar="FLOW", help="folder that `fusionfft flow` made from IN")
    parser.add_argument("output", metavar="OUT", help="video file or folder")
    pace_options(parser)
    fusion_options(parser)
    output_options(parser)
    device_options(parser)


def _fuse(options: argparse.Namespace) -> int:
    names = ("multi", "fps", "rate", "codec", "quality", "overwrite")
    with plain_host(options) as host:
        written = interpolate_file(
            options.input,
            options.output,
            method="fusion",
            flow=options.flow,
            cuts=(),  # the flow crosses them, too
            host=host,
            **{name: getattr(options, name) for name in names},
            **fusion_settings(options),
        )
    for note in written.notes:
        say(f"note: {note}")
    say(f"wrote {written.path}: {written.frames} frames")
    return 0


def add_spectral(parser: argparse.ArgumentParser) -> None:
    parser.set_defaults(run=_spectral)
    default = defaults(api.spectral_swap)
    parser.add_argument("input", metavar="IN", help="clip to sharpen, such as an interpolated one")
    parser.add_argument("prior", metavar="PRIOR", help="clip whose fine detail is lent, such as its source")
    parser.add_argument("output", metavar="OUT", help="video file or folder")
    parser.add_argument("--alpha", type=float, default=default["alpha"], help="0 to 1: share that is lent")
    parser.add_argument("--lo", type=float, default=default["lo"], help="cycles per pixel where the band begins")
    parser.add_argument("--hi", type=float, default=default["hi"], help="cycles per pixel where it is full")
    parser.add_argument("--hard", dest="soft", action="store_false", help="all of it from --lo on")
    parser.add_argument("--allow-weaker", dest="clamp_gain", action="store_false", help="also weaken what PRIOR lacks")
    kinds = "neighbours (by time, default), nearest (by time), paired (frame by frame)"
    parser.add_argument("--prior-kind", choices=PRIOR_KINDS, default=default["prior_kind"], help=kinds)
    parser.add_argument("--prior-rate", metavar="R", help="frame rate of PRIOR if it is an image folder (default: 24)")
    output_options(parser)
    device_options(parser)


def _spectral(options: argparse.Namespace) -> int:
    rates = [api.exact_rate(r) if r else None for r in (options.rate, options.prior_rate)]
    clip, prior = open_clip(options.input, rate=rates[0]), open_clip(options.prior, rate=rates[1])
    names = ("alpha", "lo", "hi", "soft", "clamp_gain", "prior_kind")
    with plain_host(options) as host:
        frames = api.spectral_swap(clip, prior, host=host, **{name: getattr(options, name) for name in names})
        written = write_clip(
            options.output,
            frames,
            like=clip.info,
            rate=clip.info.rate if clip.info.kind == "images" else None,
            codec=options.codec,
            quality=options.quality,
            overwrite=options.overwrite,
            sound=Sound(clip.info.path) if clip.info.has_audio else None,
        )
    for note in written.notes:
        say(f"note: {note}")
    say(f"wrote {written.path}: {written.frames} frames")
    return 0
