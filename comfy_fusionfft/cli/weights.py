"""``fusionfft convert`` and ``fusionfft weights``."""

from __future__ import annotations

import argparse

import torch

from .. import checkpoints, downloads
from ..families.ftvsr import config as ftvsr
from .shared import progress, say


def add_convert(parser: argparse.ArgumentParser) -> None:
    parser.set_defaults(run=_convert)
    parser.add_argument(
        "input", metavar="IN", nargs="+", help=".pkl, .pth, .pt, .bin or .safetensors; all files of one network"
    )
    parser.add_argument("output", metavar="OUT", help=".safetensors")
    parser.add_argument(
        "--half", action="store_true", help="store float16: half the size, the same pictures to the eye"
    )
    parser.add_argument(
        "--version", dest="rife_version", metavar="V", help="RIFE version to note in the file, such as 4.25"
    )
    parser.add_argument(
        "--keyframe-step",
        type=int,
        metavar="N",
        help="of FTVSR, which its files do not tell: 3 for weights trained on REDS, 1 for those on Vimeo-90K",
    )
    parser.add_argument("--overwrite", action="store_true", help="replace OUT if it exists")


def _convert(options: argparse.Namespace) -> int:
    written = checkpoints.convert(
        options.input,
        options.output,
        overwrite=options.overwrite,
        dtype=torch.float16 if options.half else None,
        metadata=_told(options),
    )
    family, config = checkpoints.identify(written)
    say(f"wrote {written}: {family.title}, {config}")
    return 0


def _told(options: argparse.Namespace) -> dict[str, str]:
    """What only the user knows about the file."""
    told = {"rife.version": options.rife_version} if options.rife_version else {}
    return told if options.keyframe_step is None else told | ftvsr.metadata(options.keyframe_step)


def add_weights(parser: argparse.ArgumentParser) -> None:
    parser.set_defaults(run=_list_weights)
    actions = parser.add_subparsers(metavar="ACTION")
    actions.add_parser("list", help="show what is here and what can be downloaded (default)")
    get = actions.add_parser("get", help="download a file, verify it, convert it where needed")
    get.set_defaults(run=_get_weights)
    get.add_argument("name", metavar="NAME", help="a name that `fusionfft weights list` shows")
    get.add_argument("--folder", help="where to put it (default: the user's cache, which every command searches)")
    get.add_argument("--quiet", action="store_true", help="no progress")
    verify = actions.add_parser("verify", help="compare files with their published or recorded hashes")
    verify.set_defaults(run=_verify_weights)
    verify.add_argument("name", metavar="FILE", nargs="?", help="a file or a name (default: everything in reach)")


def _list_weights(options: argparse.Namespace) -> int:
    here = checkpoints.available()
    print("here:")
    for file in here:
        what = file.family.title if file.family else f"unusable: {file.problem}"
        print(f"  {file.name:<28} {what:<10} {file.path}")
    print("to download with `fusionfft weights get NAME`:")
    for entry in downloads.catalogue():
        if entry.name not in {file.name for file in here}:
            size = f"{entry.size / 1e6:.1f} MB" if entry.size else "size unknown"
            print(f"  {entry.name:<28} RIFE {entry.version:<11} {size:<13} {entry.url}")
    for name, how in downloads.BY_HAND.items():
        if name not in {file.name for file in here}:
            print(f"to get {name}: {how.format(folder=checkpoints.cache_folder())}")
    return 0


def _get_weights(options: argparse.Namespace) -> int:
    with progress(options.quiet, unit="B") as update:
        path = downloads.get(options.name, options.folder, progress=update)
    say(f"{path} is verified; use it with --flow {path.stem}")
    return 0


def _verify_weights(options: argparse.Namespace) -> int:
    one = options.name and [downloads.verify(checkpoints.find(options.name, kind=None))]
    verdicts = one or downloads.verify_all()
    for verdict in verdicts:
        print(f"{verdict.state:<8} {verdict.path}: {verdict.why}")
    return 1 if any(verdict.state == "damaged" for verdict in verdicts) else 0
