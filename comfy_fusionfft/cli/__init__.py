"""The ``fusionfft`` command line: parse, call one library function, report.

Errors are one line on stderr and an exit status: 1 for anything that went wrong, 2 for wrong usage,
130 after Ctrl-C. ``--debug`` shows the traceback instead.
"""

from __future__ import annotations

import argparse
import sys
from importlib import import_module

from .. import __version__
from ..errors import Cancelled, FusionFFTError
from .loading import explained
from .shared import say

# command -> (module here, what it does). A module's ``add_<command>`` fills in the arguments; only the
# command that was asked for is imported, so that --help and mistakes answer at once.
COMMANDS = {
    "interpolate": ("clips", "make a clip smoother or slower"),
    "restore": ("restoring", "make a clip larger and sharper, frame by frame"),
    "inspect": ("clips", "find the cuts and the repeated frames of a clip"),
    "flow": ("blocks", "find the motion of a clip: safetensors, or a video of it as colours"),
    "fuse": ("blocks", "fuse a clip along stored flow"),
    "spectral": ("blocks", "lend a clip the fine detail of another"),
    "evaluate": ("clips", "drop frames of real clips, make them again, compare with the truth"),
    "evaluate-restore": ("evaluate_restore", "restore blurred small clips, compare with the sharp large ones"),
    "bench": ("bench", "measure speed and memory beside other interpolators"),
    "convert": ("weights", "turn a .pkl/.pth/.pt checkpoint into safetensors, executing nothing in it"),
    "weights": ("weights", "list, download and verify weights"),
    "pack": ("training", "cut clips into short windows that a training machine can carry"),
    "train": ("training", "train a network"),
}


def main(arguments: list[str] | None = None) -> int:
    arguments = sys.argv[1:] if arguments is None else arguments
    debug = "--debug" in arguments
    try:
        options = build_parser(next((a for a in arguments if a in COMMANDS), None)).parse_args(arguments)
        return options.run(options) or 0
    except (Cancelled, KeyboardInterrupt) as stop:
        if debug:
            raise
        say(f"stopped: {stop}" if str(stop) else "stopped")
        return 130
    except (FusionFFTError, OSError) as error:
        if debug:
            raise
        say(f"error: {' '.join(str(error).split())}")
        return 1
    except Exception as error:
        if debug:
            raise
        say(f"error: {type(error).__name__}: {' '.join(str(error).split())} (unexpected: --debug shows where)")
        return 1


def build_parser(wanted: str | None) -> argparse.ArgumentParser:
    """The parser with all commands named, and the arguments of ``wanted`` alone."""
    parser = argparse.ArgumentParser(prog="fusionfft", description="Frame interpolation that keeps the grain.")
    parser.add_argument("--version", action="version", version=f"fusionfft {__version__}")
    commands = parser.add_subparsers(title="commands", required=True, metavar="COMMAND")
    for name, (module, text) in COMMANDS.items():
        command = commands.add_parser(name, help=text, description=f"{text[0].upper()}{text[1:]}.")
        if name == wanted:
            command.add_argument("--debug", action="store_true", help="show the traceback of an error")
            with explained():
                getattr(import_module(f".{module}", __name__), f"add_{name.replace('-', '_')}")(command)
    return parser
