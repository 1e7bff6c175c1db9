"""``fusionfft pack`` and ``fusionfft train``."""

from __future__ import annotations

import argparse
from pathlib import Path

from ..checkpoints import find, load
from ..errors import InputError
from ..families.rife.recipe import RIFERecipe
from ..train.flows import add_flows, dis_bidirectional
from ..train.pack import pack
from .shared import defaults, integers, say, words


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
        names = ("height", "frames", "windows_per_clip", "max_mib", "crf")
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
    parser.add_argument("--packs", type=Path, metavar="DIR", help="folder made by `fusionfft pack`")
    parser.add_argument("--clips", type=Path, metavar="DIR", help="or clips, packed into OUT/packs first")
    parser.add_argument("--out", type=Path, required=True, metavar="DIR", help="weights, state, log and sheets go here")
    budget = parser.add_mutually_exclusive_group(required=True)
    budget.add_argument("--minutes", type=float, help="train for so long, validation not counted")
    budget.add_argument("--steps", type=int, help="or for so many steps")
    parser.add_argument("--stages", type=words, help="only these of coarse, fine, whole")
    parser.add_argument("--from", dest="start", metavar="FILE", help="start from these weights instead of random ones")
    parser.add_argument("--fresh", action="store_true", help="do not resume from OUT/state")
    parser.add_argument("--grow", type=int, default=1, help="multiply the batches: 8 or more on a data-centre GPU")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--device", help="cpu keeps off the GPU (default: what Accelerate finds)")
    parser.add_argument("--precision", choices=("no", "bf16"), help="(default: bf16 where the hardware computes it)")


def _train_rife(options: argparse.Namespace) -> int:
    # Accelerate and TensorBoard are extras: packing and the other commands do without them
    from ..train.loop import Budget, train

    if (options.packs is None) == (options.clips is None):
        raise InputError("training needs --packs DIR or --clips DIR: give one of them")
    packs = options.packs or options.out / "packs"
    if options.clips and not packs.exists():
        pack(options.clips, packs, report=say)
        add_flows(packs, dis_bidirectional, reduce=2, report=say)
    recipe = RIFERecipe()
    if options.start:
        recipe.net.load_state_dict(load(find(options.start)).module.state_dict())
    every = max(1, options.steps // 20) if options.steps else 5
    progress = train(
        recipe,
        packs,
        options.out,
        Budget(minutes=options.minutes, steps=options.steps, validate_every=every, save_every=every),
        seed=options.seed,
        device=options.device,
        precision=options.precision,
        grow=options.grow,
        resume=not options.fresh,
        stages=options.stages,
        report=say,
    )
    say(f"{progress.step} steps, {progress.samples} samples, {progress.seconds / 60:.1f} minutes: {options.out}")
    return 0
