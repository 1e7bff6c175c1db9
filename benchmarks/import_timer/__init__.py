"""A node pack that only measures: what importing the pack in FUSIONFFT_TIMED costs this host, to the millisecond."""

import importlib.util
import logging
import os
import sys
import time
from pathlib import Path

from comfy_api.latest import ComfyExtension, io


async def comfy_entrypoint() -> ComfyExtension:
    folder = Path(os.environ["FUSIONFFT_TIMED"])
    before = set(sys.modules)
    start = time.perf_counter()
    spec = importlib.util.spec_from_file_location("timed_pack", folder / "__init__.py")
    module = importlib.util.module_from_spec(spec)
    sys.modules["timed_pack"] = module
    spec.loader.exec_module(module)
    extension = await module.comfy_entrypoint()
    await extension.on_load()
    nodes = [node.GET_SCHEMA() for node in await extension.get_node_list()]
    seconds = time.perf_counter() - start
    foreign = sorted({name.partition(".")[0] for name in set(sys.modules) - before} - {"timed_pack"})
    logging.info("TIMED %.3f s for %d nodes; newly loaded: %s", seconds, len(nodes), ", ".join(foreign) or "nothing")
    return _Empty()


class _Empty(ComfyExtension):
    async def get_node_list(self) -> list[type[io.ComfyNode]]:
        return []
