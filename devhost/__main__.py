"""``make host``: a ComfyUI with this pack, a clip to try it on and the example workflows, until Ctrl-C.

The host works in ``<hosts>/base-<version>``, which stays: saved workflows and results are there the next time.
"""

from __future__ import annotations

import argparse
import shutil
import signal
import sys
from pathlib import Path

from .clip import DEMO_CLIP, draw
from .install import NEWEST, ROOT, SOURCES, InstallError, hosts_folder
from .server import PACK_FOLDER, HostServer, ServerError


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m devhost", description="Run ComfyUI with this pack.")
    parser.add_argument("--version", default=NEWEST, choices=SOURCES, help=f"of ComfyUI (default: {NEWEST})")
    parser.add_argument("--port", type=int, default=8188, help="(default: 8188)")
    parser.add_argument("--listen", default="127.0.0.1", help="address to serve on (default: only this machine)")
    parser.add_argument("--workflow", metavar="NAME", help="print the address that opens this example workflow")
    parser.add_argument("extra", nargs="*", help="after --, for ComfyUI itself, e.g. -- --fp16-intermediates")
    options = parser.parse_args(arguments)
    examples = sorted((ROOT / "example_workflows").glob("*.json"))
    if options.workflow and options.workflow not in [example.stem for example in examples]:
        names = ", ".join(example.stem for example in examples) or "none yet"
        parser.error(f"no example workflow {options.workflow!r}: there are {names}")
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # so that being ended ends the host too
    server = HostServer(
        options.version,
        base=hosts_folder() / f"base-{options.version}",
        port=options.port,
        listen=options.listen,
        arguments=options.extra,
    )
    try:
        with server:
            _furnish(server, examples)
            return _run(server, options.workflow)
    except (InstallError, ServerError) as error:
        print(f"devhost: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print()
        return 0


def _furnish(server: HostServer, examples: list[Path]) -> None:
    folder = server.workflows / "examples"  # a folder of their own: what a person saves is never written over
    folder.mkdir(exist_ok=True)
    for example in examples:
        shutil.copy(example, folder / example.name)
    clip = server.input / DEMO_CLIP
    if not clip.exists():
        print(f"Drawing {clip} ...")
        draw(clip)


def _run(server: HostServer, workflow: str | None) -> int:
    if failed := server.failed_imports():
        print(f"Did not import: {', '.join(failed)} (the reason is in the log below)")
    page = f"/?template={workflow}&source={PACK_FOLDER}" if workflow else ""
    print(f"ComfyUI {server.version} is ready after {server.start_seconds:.0f} s: {server.url}{page}")
    print(f"Its folder: {server.base}. Ctrl-C stops it.", flush=True)
    shown = 0
    while True:
        status = server.wait(0.5)
        text = server.log()
        print(text[shown:], end="", flush=True)
        shown = len(text)
        if status is not None:
            print(f"devhost: ComfyUI ended with status {status}", file=sys.stderr)
            return 1


if __name__ == "__main__":
    sys.exit(main())
