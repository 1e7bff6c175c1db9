"""What all of ``fusionfft train`` shares: options, the material, the run."""

from __future__ import annotations

import argparse
from pathlib import Path

from torch import nn

from ..errors import InputError
from ..train.pack import pack
from .shared import say


def material_options(parser: argparse.ArgumentParser, packs: str) -> None:
    parser.add_argument("--packs", type=Path, metavar="DIR", help=packs)
    parser.add_argument("--clips", type=Path, metavar="DIR", help="or clips, packed into OUT/packs first")
    parser.add_argument("--out", type=Path, required=True, metavar="DIR", help="weights, state, log and sheets go here")
    budget = parser.add_mutually_exclusive_group(required=True)
    budget.add_argument("--minutes", type=float, help="train for so long, validation not counted")
    budget.add_argument("--steps", type=int, help="or for so many steps")


def run_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--from", dest="start", metavar="FILE", help="start from these weights instead of random ones")
    parser.add_argument("--fresh", action="store_true", help="do not resume from OUT/state")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--device", help="cpu keeps off the GPU (default: what Accelerate finds)")
    parser.add_argument("--precision", choices=("no", "bf16"), help="(default: bf16 where the hardware computes it)")


def packs_of(options: argparse.Namespace, **how: int) -> Path:
    """The packs to train on, made of the clips first where clips are given."""
    if (options.packs is None) == (options.clips is None):
        raise InputError("training needs --packs DIR or --clips DIR: give one of them")
    packs = options.packs or options.out / "packs"
    if options.clips and not packs.exists():
        pack(options.clips, packs, report=say, **how)
    return packs


def run_training(recipe: nn.Module, packs: Path, options: argparse.Namespace, steps: int | None, **how: object) -> int:
    # Accelerate and TensorBoard are extras: packing and the other commands do without them
    from ..train.loop import Budget, train

    every = max(1, steps // 20) if steps else 5
    progress = train(
        recipe,
        packs,
        options.out,
        Budget(minutes=options.minutes, steps=steps, validate_every=every, save_every=every),
        seed=options.seed,
        device=options.device,
        resume=not options.fresh,
        report=say,
        **how,
    )
    say(f"{progress.step} steps, {progress.samples} samples, {progress.seconds / 60:.1f} minutes: {options.out}")
    return 0
