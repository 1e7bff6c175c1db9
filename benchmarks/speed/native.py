"""ComfyUI's own interpolation inside a worker: its loader node and its interpolation node, out of an installed host."""

from __future__ import annotations

import importlib.abc
import importlib.machinery
import importlib.util
import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any

from .contender import Contender

if TYPE_CHECKING:
    from torch import Tensor

    from .job import Job

FOLDER, NAME = "frame_interpolation", "bench.safetensors"


def open_comfyui(options: dict[str, Any]) -> None:
    """Makes ComfyUI importable, with an empty folder as its own and the weights where its loader looks."""
    base = Path(options["scratch"]) / "comfyui"
    models = base / "models" / FOLDER
    models.mkdir(parents=True, exist_ok=True)
    if not (models / NAME).exists():
        (models / NAME).symlink_to(Path(options["rife"]).resolve())
    sys.argv[1:] = ["--base-directory", str(base), *(["--cpu"] if options["device"] == "cpu" else [])]
    sys.path.insert(0, options["host_source"])
    if importlib.util.find_spec("av") is None:
        sys.meta_path.append(_NoVideo())
    import comfy.options

    comfy.options.enable_args_parsing()


class Native(Contender):
    """Its precision is its own choice: float32 on CPUs, float16 on GPUs that are good at it."""

    def __init__(self, options: dict[str, Any]) -> None:
        super().__init__(options)
        open_comfyui(options)
        import torch
        from comfy_extras.nodes_frame_interpolation import FrameInterpolate, FrameInterpolationModelLoader

        self._node = FrameInterpolate
        with torch.inference_mode():
            self._model = FrameInterpolationModelLoader.execute(NAME).result[0]
        self.facts = {"comfyui": _version(options["host_source"]), "native_dtype": str(self._model.model_dtype())}

    def prepare(self, job: Job) -> Callable[[], Tensor]:
        from .clip import clip_of

        if job.path != "rife":
            raise ValueError(f"ComfyUI itself has no {job.path}")
        images = clip_of(job)
        return lambda: self._node.execute(self._model, images, job.multiplier).result[0].cpu()


class _NoVideo(importlib.abc.MetaPathFinder, importlib.abc.Loader):
    """Stands in for PyAV where it is missing: ComfyUI imports it for its video nodes, which nobody runs here."""

    def find_spec(self, name: str, path: object = None, target: object = None) -> importlib.machinery.ModuleSpec | None:
        if name.split(".")[0] != "av":
            return None
        return importlib.machinery.ModuleSpec(name, self, is_package=True)

    def create_module(self, spec: importlib.machinery.ModuleSpec) -> ModuleType:
        return _Hollow(spec.name)

    def exec_module(self, module: ModuleType) -> None:
        return


class _Hollow(ModuleType):
    def __getattr__(self, name: str) -> type:
        if name.startswith("__"):
            raise AttributeError(name)
        return type(name, (), {})


def _version(source: str) -> str | None:
    try:
        text = (Path(source) / "comfyui_version.py").read_text(encoding="utf-8")
    except OSError:
        return None
    return text.split('"')[1] if '"' in text else None
