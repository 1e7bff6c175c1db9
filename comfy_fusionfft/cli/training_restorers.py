"""``fusionfft train`` for networks that restore."""

from __future__ import annotations

import argparse
from dataclasses import replace
from pathlib import Path

from ..api import load_flow
from ..checkpoints import find, load
from ..errors import InputError
from ..families.fmanet.config import FMANetConfig
from ..families.fmanet.recipe import FINE_TUNING, FMANetRecipe
from ..families.fmanet.recipe import STAGES as FMANET_STAGES
from ..host import PlainHost
from ..train.restoration_blur import FRAMES
from ..train.restoration_labels import MotionOf
from .shared import words
from .training_shared import material_options, packs_of, run_options, run_training


def add_train_fmanet(parser: argparse.ArgumentParser) -> None:
    stage, config = FMANET_STAGES[0], FMANetConfig()
    names = ", ".join(each.name for each in FMANET_STAGES)
    parser.set_defaults(run=_train_fmanet)
    material_options(parser, f"folder made by `fusionfft pack --frames {FRAMES}`")
    parser.add_argument("--reds", type=Path, metavar="DIR", help="or a folder laid out as REDS, blurred already")
    parser.add_argument("--stages", type=words, help=f"only these of {names}")
    parser.add_argument("--batch", type=int, default=stage.batch, help=f"samples of a step (default: {stage.batch})")
    parser.add_argument(
        "--patch", type=int, default=stage.patch, help=f"side of the small pictures, in pixels (default: {stage.patch})"
    )
    parser.add_argument(
        "--lr", type=float, help=f"peak learning rate (default: {stage.rate:g}, with --from {FINE_TUNING:g} of it)"
    )
    parser.add_argument("--clip", type=float, default=1.0, help="bound of the gradient's norm (default: 1)")
    parser.add_argument(
        "--flow", default="auto", help="whose motion is shown as right: auto, dis, rife, a file or none (default: auto)"
    )
    size = parser.add_argument_group("size of a new network")
    size.add_argument("--channels", type=int, help=f"a multiple of 18 (default: {config.channels})")
    size.add_argument("--blocks", type=int, help=f"of each half (default: {config.blocks})")
    size.add_argument("--dense-blocks", type=int, help=f"of feature extractors (default: {config.dense_blocks})")
    size.add_argument("--growth", type=int, help=f"of a dense layer (default: {config.growth})")
    run_options(parser)


def _train_fmanet(options: argparse.Namespace) -> int:
    sizes = {name: getattr(options, name) for name in ("channels", "blocks", "dense_blocks", "growth")}
    sizes = {name: size for name, size in sizes.items() if size is not None}
    if sizes and options.start:
        raise InputError(f"--{next(iter(sizes)).replace('_', '-')} is for a new network; the one of --from has its own")
    config = FMANetConfig()
    if options.start:
        net = load(find(options.start, kind="restore")).module
        config = net.config
    elif sizes:
        channels = sizes.get("channels", config.channels)
        if channels % 18 or channels < 18:
            raise InputError(f"{channels} channels: use a multiple of 18, such as 36, 54 or 90 (default 90)")
        config = replace(config, **sizes, hidden=config.hidden * channels // config.channels)
    if options.patch < 16:
        raise InputError(f"patches of {options.patch} pixels: use 16 or more (default 64)")
    if sum(each is not None for each in (options.packs, options.clips, options.reds)) != 1:
        raise InputError("training needs --packs DIR, --clips DIR or --reds DIR: give one of them")
    motion = None
    if options.flow != "none":
        host = PlainHost(options.device or "auto")
        motion = MotionOf(load_flow(options.flow, host=host), host.device)
    recipe = FMANetRecipe(config, motion=motion)
    rate = options.lr or FMANET_STAGES[0].rate
    if options.start:
        recipe.net.load_state_dict(net.state_dict())
        rate = options.lr or rate * FINE_TUNING
    settings = {"batch": options.batch, "patch": options.patch, "rate": rate}
    recipe.stages = tuple(replace(stage, **settings) for stage in recipe.stages)
    material = options.reds or packs_of(options, frames=FRAMES, windows_per_clip=3)
    how = {"precision": options.precision, "stages": options.stages, "clip": options.clip}
    return run_training(recipe, material, options, options.steps, decay=0.0, **how)
