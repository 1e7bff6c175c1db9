"""``fusionfft pack`` and ``fusionfft train``."""

from __future__ import annotations

import argparse
from dataclasses import replace
from pathlib import Path

from ..api import load_flow
from ..checkpoints import find, load
from ..errors import InputError
from ..families.fusionfft.config import MAX_ANCHORS, FusionConfig
from ..families.fusionfft.recipe import STAGES as FUSION_STAGES
from ..families.fusionfft.recipe import FusionRecipe
from ..families.multiflow.recipe import STAGES as MULTIFLOW_STAGES
from ..families.multiflow.recipe import MultiFlowRecipe
from ..families.rife.recipe import RIFERecipe
from ..families.waveletvfi.recipe import STAGES as WAVELETVFI_STAGES
from ..families.waveletvfi.recipe import WaveletVFIRecipe
from ..host import PlainHost
from ..ops.dis import DenseInverseSearch
from ..train.chains import SPACINGS, Search, add_chains, add_found, halved, instants
from ..train.data import is_held_out
from ..train.flows import add_flows, dis_bidirectional
from ..train.guesses import add_candidates
from ..train.pack import PackedWindow, pack, read_index
from ..train.perceptual import Perceptual
from .shared import defaults, integers, say, words
from .training_restorers import add_train_fmanet, add_train_ftvsr
from .training_shared import material_options, packs_of, run_options, run_training


def add_pack(parser: argparse.ArgumentParser) -> None:
    parser.set_defaults(run=_pack)
    default, flows = defaults(pack), defaults(add_flows)
    parser.add_argument(
        "clips", metavar="CLIPS", type=Path, help="videos and frame folders, with an INDEX.tsv if there is one"
    )
    parser.add_argument(
        "out", metavar="OUT", type=Path, nargs="?", help="folder for the packs; without it CLIPS are packs, to get flow"
    )
    parser.add_argument(
        "--height", type=int, default=default["height"], help="short side of the pictures (default: 360)"
    )
    parser.add_argument("--frames", type=int, default=default["frames"], help="per window (default: 9)")
    parser.add_argument(
        "--windows-per-clip", type=int, default=default["windows_per_clip"], help="on average (default: 4)"
    )
    parser.add_argument("--max-mib", type=int, default=default["max_mib"], help="size of a file (default: 40)")
    parser.add_argument("--crf", type=int, default=default["crf"], help="H.264 quality (default: 14)")
    parser.add_argument(
        "--exclude", type=Path, metavar="DIR", help="clips, such as those measured on, none of which may be shown"
    )
    parser.add_argument(
        "--teacher", metavar="FILE", help="teacher weights: store flow for distillation beside the packs"
    )
    parser.add_argument("--flow", choices=("none", "dis"), default="none", help="or store DIS flow (default: none)")
    parser.add_argument(
        "--spans", type=integers, default=flows["spans"], help="frame distances of stored flow (default: 1,2,4)"
    )
    parser.add_argument(
        "--reduce",
        type=int,
        default=flows["reduce"],
        choices=(1, 2, 4),
        help="look for flow on pictures this much smaller",
    )
    parser.add_argument("--device", default=flows["device"], help="for the teacher (default: cpu)")


def _pack(options: argparse.Namespace) -> int:
    if options.out is None:
        options.out = options.clips
        if not options.teacher and options.flow == "none":
            raise InputError("there is nothing to do: name a folder for the packs, or add --teacher FILE or --flow dis")
    else:
        names = ("height", "frames", "windows_per_clip", "max_mib", "crf", "exclude")
        windows = pack(options.clips, options.out, report=say, **{name: getattr(options, name) for name in names})
        say(f"wrote {len(windows)} windows to {options.out}")
    if options.teacher:
        from ..train.teacher import Teacher

        flow = Teacher(options.teacher).to(options.device).bidirectional
    elif options.flow == "dis":
        flow = dis_bidirectional
    else:
        return 0
    names = ("spans", "max_mib", "reduce", "device")
    written = add_flows(options.out, flow, report=say, **{name: getattr(options, name) for name in names})
    say(f"wrote {written / 2**20:.0f} MiB of flow")
    return 0


def add_train(parser: argparse.ArgumentParser) -> None:
    families = parser.add_subparsers(metavar="FAMILY", required=True)
    parser = families.add_parser("rife", help="a RIFE flow network (layout 4.25)")
    parser.set_defaults(run=_train_rife)
    material_options(parser, "folder made by `fusionfft pack`")
    parser.add_argument("--stages", type=words, help="only these of coarse, fine, whole")
    parser.add_argument("--grow", type=int, default=1, help="multiply the batches: 8 or more on a data-centre GPU")
    run_options(parser)

    add_train_multiflow(families.add_parser("multiflow", help="the flow network that chooses among classical searches"))
    add_train_fusion(families.add_parser("fusionfft", help="a fusion network, on stored flow"))
    add_train_waveletvfi(families.add_parser("waveletvfi", help="a WaveletVFI network, which makes middles alone"))
    add_train_fmanet(families.add_parser("fmanet", help="an FMA-Net, which makes a blurred video sharp and larger"))
    add_train_ftvsr(families.add_parser("ftvsr", help="an FTVSR, which makes a compressed video four times as large"))


def add_train_multiflow(parser: argparse.ArgumentParser) -> None:
    stage = MULTIFLOW_STAGES[0]
    parser.set_defaults(run=_train_multiflow)
    material_options(parser, "folder made by `fusionfft pack --frames 13`")
    parser.add_argument("--batch", type=int, default=stage.batch, help=f"samples of a step (default: {stage.batch})")
    parser.add_argument("--crop", type=int, default=stage.crop, help=f"their side, in pixels (default: {stage.crop})")
    parser.add_argument("--lr", type=float, default=stage.rate, help=f"peak learning rate (default: {stage.rate:g})")
    parser.add_argument("--cache-mib", type=int, default=16384, help="size of the stored guesses (default: 16384)")
    run_options(parser)


def add_train_waveletvfi(parser: argparse.ArgumentParser) -> None:
    stage = WAVELETVFI_STAGES[0]
    names = ", ".join(each.name for each in WAVELETVFI_STAGES)
    parser.set_defaults(run=_train_waveletvfi)
    material_options(parser, "folder made by `fusionfft pack`")
    parser.add_argument("--stages", type=words, help=f"only these of {names}")
    parser.add_argument("--batch", type=int, default=stage.batch, help=f"samples of a step (default: {stage.batch})")
    parser.add_argument(
        "--crop", type=int, default=stage.crop, help=f"their side, a multiple of 32 (default: {stage.crop})"
    )
    parser.add_argument("--lr", type=float, default=stage.rate, help=f"peak learning rate (default: {stage.rate:g})")
    run_options(parser)


def add_train_fusion(parser: argparse.ArgumentParser) -> None:
    """Spelled with dashes as everywhere, and with underscores as in other tools of this kind."""

    def option(name: str, *names: str, **settings) -> None:
        spellings = [name.replace("-", "_").replace("__", "--", 1)] if "-" in name[2:] else []
        parser.add_argument(name, *spellings, *names, **settings)

    stage, config = FUSION_STAGES[0], FusionConfig()
    parser.set_defaults(run=_train_fusion)
    option("--packs", type=Path, metavar="DIR", help="folder made by `fusionfft pack --frames 13`")
    option("--clips", "--gt-path", "--gt_path", type=Path, metavar="DIR", help="or clips, packed into OUT/packs first")
    option("--out", type=Path, required=True, metavar="DIR", help="weights, state, log and sheets go here")
    budget = parser.add_mutually_exclusive_group(required=True)
    budget.add_argument("--minutes", type=float, help="train for so long, validation not counted")
    budget.add_argument("--epochs", type=float, help="or until so many times all instants' number of samples is drawn")
    option(
        "--steps", type=int, nargs="+", default=SPACINGS, metavar="D", help="frames apart to bridge (default: 2 3 4)"
    )
    option("--num-anchors", type=int, default=3, help="train on up to so many, 1 to 5 (default: 3)")
    option("--base-channels", type=int, default=config.base_channels, help="width, a multiple of 32 (default: 64)")
    option("--use-temporal-guidance", action=argparse.BooleanOptionalAction, default=config.use_temporal_guidance)
    option("--batch-size", type=int, default=stage.batch, help=f"(default: {stage.batch})")
    option("--crop", type=int, default=stage.crop, help=f"side of the samples, in pixels (default: {stage.crop})")
    option("--lr", type=float, default=stage.rate, help=f"peak learning rate (default: {stage.rate:g})")
    option("--uhd", "--UHD", action="store_true", help="search flow on half-size pictures, as for 4K")
    option("--cache-mib", type=int, default=4096, help="size of the stored flow (default: 4096)")
    option("--mixed-precision", choices=("no", "bf16"), help="(default: bf16 where the hardware computes it)")
    option("--from", dest="start", metavar="FILE", help="start from these weights instead of random ones")
    option("--fresh", action="store_true", help="do not resume from OUT/state")
    option("--flow", default="auto", help="the source it shall work with: auto, dis, rife or a file (default: auto)")
    option("--found-mib", type=int, default=8192, help="size of what that source finds (default: 8192)")
    option("--perceptual", type=Path, metavar="FILE", help="SqueezeNet 1.1 weights for the perceptual loss")
    option("--prior", type=float, default=stage.prior, help="weight of nearness to the plain blend (default: 0)")
    option("--wandb-project", metavar="NAME", help="also log to Weights & Biases, if installed")
    option("--seed", type=int, default=0)
    option("--device", help="cpu keeps off the GPU (default: what Accelerate finds)")


def _train_fusion(options: argparse.Namespace) -> int:
    if options.num_anchors not in range(1, MAX_ANCHORS + 1):
        raise InputError(f"{options.num_anchors} anchors asked for: use 1 to {MAX_ANCHORS} (default 3)")
    spacings = tuple(options.steps)
    packs = packs_of(options, frames=3 * max(spacings) + 1, windows_per_clip=3)
    search = DenseInverseSearch()
    _chains(packs, halved(search) if options.uhd else search, spacings=spacings, max_mib=options.cache_mib)
    if options.flow != "dis":
        host = PlainHost(options.device or "auto")
        source = load_flow(options.flow, host=host, scale=0.5 if options.uhd else 1.0)
        how = {"spacings": spacings, "max_mib": options.found_mib}
        add_found(packs, source, device=host.device, wanted=_trained_on, report=say, **how)
    perceptual = Perceptual(options.perceptual) if options.perceptual else None
    if perceptual is None:
        say("the perceptual loss is off: --perceptual FILE was not given")
    if options.start:
        net = load(find(options.start, kind="fusion")).module
        recipe = FusionRecipe(net.config, perceptual=perceptual)
        recipe.net.load_state_dict(net.state_dict())
    else:
        guided = options.use_temporal_guidance
        config = FusionConfig(base_channels=options.base_channels, use_temporal_guidance=guided)
        recipe = FusionRecipe(config, perceptual=perceptual)
    settings = {"batch": options.batch_size, "crop": options.crop, "rate": options.lr, "prior": options.prior}
    recipe.stages = tuple(replace(stage, num_anchors=options.num_anchors, **settings) for stage in recipe.stages)
    steps = None
    if options.epochs:
        samples = sum(len(instants(window.count, spacings)) for window in read_index(packs))
        steps = max(1, round(options.epochs * samples / options.batch_size))
    return run_training(
        recipe, packs, options, steps, average=0.998, precision=options.mixed_precision, wandb=options.wandb_project
    )


def _train_multiflow(options: argparse.Namespace) -> int:
    packs = packs_of(options, frames=13, windows_per_clip=3)
    add_candidates(packs, max_mib=options.cache_mib, wanted=_trained_on, report=say)
    recipe = MultiFlowRecipe()
    if options.start:
        net = load(find(options.start)).module
        recipe = MultiFlowRecipe(net.config)
        recipe.net.load_state_dict(net.state_dict())
    settings = {"batch": options.batch, "crop": options.crop, "rate": options.lr}
    recipe.stages = tuple(replace(stage, **settings) for stage in recipe.stages)
    return run_training(recipe, packs, options, options.steps, average=0.998, precision=options.precision)


def _train_waveletvfi(options: argparse.Namespace) -> int:
    if options.crop % 32 or options.crop < 64:
        raise InputError(f"crops of {options.crop} pixels: use a multiple of 32 from 64 on (default 256)")
    packs = packs_of(options)
    recipe = WaveletVFIRecipe()
    if options.start:
        net = load(find(options.start, kind="interpolation")).module
        recipe = WaveletVFIRecipe(net.config)
        recipe.net.load_state_dict(net.state_dict())
    settings = {"batch": options.batch, "crop": options.crop, "rate": options.lr}
    recipe.stages = tuple(replace(stage, **settings) for stage in recipe.stages)
    how = {"precision": options.precision, "stages": options.stages}
    return run_training(recipe, packs, options, options.steps, decay=0.0, **how)


def _train_rife(options: argparse.Namespace) -> int:
    fresh = options.clips and not (options.out / "packs").exists()
    packs = packs_of(options)
    if fresh:
        add_flows(packs, dis_bidirectional, reduce=2, report=say)
    recipe = RIFERecipe()
    if options.start:
        recipe.net.load_state_dict(load(find(options.start)).module.state_dict())
    return run_training(
        recipe,
        packs,
        options,
        options.steps,
        precision=options.precision,
        grow=options.grow,
        stages=options.stages,
    )


def _chains(packs: Path, search: Search, **how: object) -> None:
    add_chains(packs, search, wanted=_trained_on, report=say, **how)


def _trained_on(window: PackedWindow) -> bool:
    return not is_held_out(window.clip)
