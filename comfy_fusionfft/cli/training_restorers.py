"""``fusionfft train`` for networks that restore."""

from __future__ import annotations

import argparse
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path

from ..api import load_flow
from ..checkpoints import find, load
from ..errors import InputError
from ..families.fmanet.config import FMANetConfig
from ..families.fmanet.recipe import FINE_TUNING, FMANetRecipe
from ..families.fmanet.recipe import STAGES as FMANET_STAGES
from ..families.ftvsr.config import FTVSRConfig
from ..families.ftvsr.recipe import FINE_TUNING as FTVSR_FINE_TUNING
from ..families.ftvsr.recipe import RECIPES as FTVSR_RECIPES
from ..families.ftvsr.recipe import recipe_for as ftvsr_recipe
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
    sizes = _sizes(options, ("channels", "blocks", "dense_blocks", "growth"))
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


def _sizes(options: argparse.Namespace, names: Iterable[str]) -> dict[str, int]:
    """Those that were given, which is for new networks alone."""
    sizes = {name: size for name in names if (size := getattr(options, name)) is not None}
    if sizes and options.start:
        raise InputError(f"--{next(iter(sizes)).replace('_', '-')} is for a new network; the one of --from has its own")
    return sizes


_FTVSR_SIZES = {
    "channels": "of a frame's features",
    "extractor_blocks": "residual blocks that make them",
    "blocks": "residual blocks that join them with what is carried along",
    "coefficients": "channels of what is made of frequencies",
    "coefficient_extractor_blocks": "residual blocks that make them",
    "coefficient_blocks": "residual blocks that join them with what is carried along",
    "token": "numbers that attention compares, a multiple of 64",
    "flow_levels": "sizes at which motion is found",
}


def add_train_ftvsr(parser: argparse.ArgumentParser) -> None:
    stages = {name: each.stage for name, each in FTVSR_RECIPES.items()}
    stage = stages["reds"]
    frames = ", ".join(f"{each.frames} in {name}" for name, each in stages.items())
    steps = ", ".join(f"{each.keyframe_step} in {name}" for name, each in FTVSR_RECIPES.items())
    parser.set_defaults(run=_train_ftvsr)
    material_options(
        parser, f"folder made by `fusionfft pack --frames {stage.frames}`; fewer are played forth and back"
    )
    parser.add_argument("--reds", type=Path, metavar="DIR", help="or a folder laid out as REDS; train_sharp will do")
    parser.add_argument("--vimeo", type=Path, metavar="DIR", help="or the septuplets of Vimeo-90K")
    parser.add_argument(
        "--recipe", choices=tuple(stages), help="which published one (default: vimeo with --vimeo, else reds)"
    )
    parser.add_argument("--frames", type=int, help=f"of a sample (default: {frames})")
    parser.add_argument("--batch", type=int, default=stage.batch, help=f"samples of a step (default: {stage.batch})")
    parser.add_argument(
        "--patch",
        type=int,
        default=stage.patch,
        help=f"side of the small pictures, a multiple of 16 (default: {stage.patch})",
    )
    parser.add_argument(
        "--lr",
        type=float,
        help=f"peak learning rate (default: {stage.rate:g}, with --from {FTVSR_FINE_TUNING:g} of it)",
    )
    parser.add_argument("--clip", type=float, default=1.0, help="bound of the gradient's norm (default: 1)")
    size = parser.add_argument_group("a new network")
    size.add_argument("--keyframe-step", type=int, help=f"one of so many frames is remembered (default: {steps})")
    for name, what in _FTVSR_SIZES.items():
        default = getattr(FTVSRConfig, name)
        size.add_argument(f"--{name.replace('_', '-')}", type=int, help=f"{what} (default: {default})")
    run_options(parser)


def _train_ftvsr(options: argparse.Namespace) -> int:
    sizes = _sizes(options, ("keyframe_step", *_FTVSR_SIZES))
    folders = (options.packs, options.clips, options.reds, options.vimeo)
    if sum(each is not None for each in folders) != 1:
        raise InputError("training needs --packs DIR, --clips DIR, --reds DIR or --vimeo DIR: give one of them")
    name = options.recipe or ("vimeo" if options.vimeo else "reds")
    setting = FTVSR_RECIPES[name]
    if options.start:
        net = load(find(options.start, kind="restore")).module
        if not isinstance(net.config, FTVSRConfig):
            raise InputError(f"{options.start} is no FTVSR: choose such a file, or leave --from out for a new network")
        config = net.config
    else:
        config = _new_ftvsr({"keyframe_step": setting.keyframe_step} | sizes)
    rate = options.lr or setting.stage.rate * (FTVSR_FINE_TUNING if options.start else 1)
    frames = setting.stage.frames if options.frames is None else options.frames
    recipe = ftvsr_recipe(name, config, frames=frames, batch=options.batch, patch=options.patch, rate=rate)
    if options.start:
        recipe.net.load_state_dict(net.state_dict())
    material = options.reds or options.vimeo or packs_of(options, frames=frames, windows_per_clip=3)
    how = {"precision": options.precision, "clip": options.clip}
    return run_training(recipe, material, options, options.steps, decay=setting.decay, **how)


def _new_ftvsr(sizes: dict[str, int]) -> FTVSRConfig:
    for name, size in sizes.items():
        if size < 1:
            raise InputError(f"--{name.replace('_', '-')} {size}: use 1 or more")
    config = FTVSRConfig(**sizes)
    group, rest = divmod(config.token, 64)
    if rest or config.coefficients % group:
        raise InputError(
            f"tokens of {config.token} numbers out of {config.coefficients} channels: use a multiple of 64, and 1/64 of"
            " it a divisor of the channels (default 512 and 512)"
        )
    return config
