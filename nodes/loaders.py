"""Load RIFE Model, Load FusionFFT Model, Load WaveletVFI Model, Load Restore Model."""

from __future__ import annotations

from pathlib import Path
from typing import Any
from weakref import WeakKeyDictionary

from comfy_api.latest import io

from ..comfy_fusionfft import api, checkpoints, downloads
from ..comfy_fusionfft.errors import InputError
from ..comfy_fusionfft.host import DTYPES
from . import comfy_host

RIFEModel = io.Custom("RIFE_MODEL")
"""A flow network in the host's care, or the name of a source without weights (``dis``)."""
FusionModel = io.Custom("FUSIONFFT_MODEL")
WaveletModel = io.Custom("WAVELETVFI_MODEL")
RestoreModel = io.Custom("RESTORE_MODEL")
HostModel = io.Custom("INTERP_MODEL")
"""The host's own frame interpolation model."""

BUILT_IN = " (built-in)"
DOWNLOAD = " (download)"
BY_HAND = " (to be fetched by hand)"
NO_WEIGHTS = "dis (built-in, no weights)"
_WAVELET = "waveletvfi"
"""Of the files to be fetched by hand the one that does not restore."""
_MODEL_TIP = (
    "Default: the built-in one. Files lie in models/frame_interpolation; those marked “download” are fetched there "
    "once, and checked by hash."
)
_FLOW_TIP = (
    "Default: multiflow-v1, the best of the built-in ones; dis is several times as fast. Files lie in "
    "models/frame_interpolation; those marked “download” are fetched there once, and checked by hash."
)
_DTYPE_TIP = (
    "Precision of the network's convolutions; motion and spectra are always float32. Default auto: float16 on GPUs "
    "that are good at it, bfloat16 on CPUs with matrix units, else float32. Change it to compare, or when a GPU gives "
    "black frames."
)


class LoadRIFE(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="FusionFFTLoadRIFE",
            display_name="Load RIFE Model",
            category="FusionFFT",
            description="Loads what finds motion: the built-in network that chooses among classical searches, one such "
            "search alone (DIS), the built-in RIFE, or a RIFE 4.0-4.26 file.",
            search_aliases=["rife", "optical flow model", "frame interpolation model", "multiflow", "dis"],
            inputs=[
                io.Combo.Input("model", options=_flow_names(), tooltip=_FLOW_TIP),
                _dtype_input(),
            ],
            outputs=[RIFEModel.Output(display_name="rife_model")],
        )

    @classmethod
    def validate_inputs(cls, model: str) -> bool | str:
        return _known(model, "flow")

    @classmethod
    def fingerprint_inputs(cls, model: str, dtype: str) -> str:
        return _fingerprint(model, "flow")

    @classmethod
    def execute(cls, model: str, dtype: str) -> io.NodeOutput:
        return io.NodeOutput(load_flow_model(model, dtype))


class LoadFusion(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="FusionFFTLoadFusion",
            display_name="Load FusionFFT Model",
            category="FusionFFT",
            description="Loads the network that fuses several frame pairs into one picture.",
            search_aliases=["fusion model", "frame interpolation model"],
            inputs=[
                io.Combo.Input("model", options=_fusion_names(), tooltip=_MODEL_TIP),
                _dtype_input(),
            ],
            outputs=[FusionModel.Output(display_name="fusion_model")],
        )

    @classmethod
    def validate_inputs(cls, model: str) -> bool | str:
        return _known(model, "fusion")

    @classmethod
    def fingerprint_inputs(cls, model: str, dtype: str) -> str:
        return _fingerprint(model, "fusion")

    @classmethod
    def execute(cls, model: str, dtype: str) -> io.NodeOutput:
        return io.NodeOutput(load_fusion_model(model, dtype))


class LoadWaveletVFI(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="FusionFFTLoadWaveletVFI",
            display_name="Load WaveletVFI Model",
            category="FusionFFT",
            description="Loads a WaveletVFI network, converted by `fusionfft convert`; its authors' file has to be "
            "fetched by hand.",
            search_aliases=["wavelet", "wavelet vfi", "frame interpolation model"],
            inputs=[
                io.Combo.Input(
                    "model",
                    options=_wavelet_names(),
                    tooltip="Files in models/frame_interpolation. Default: the first of them; where there is none, "
                    "running the node says where the authors' file is and how it is converted.",
                ),
                _dtype_input(),
            ],
            outputs=[WaveletModel.Output(display_name="waveletvfi_model")],
        )

    @classmethod
    def validate_inputs(cls, model: str) -> bool | str:
        return model in _wavelet_names() or _known(model, "interpolation")

    @classmethod
    def fingerprint_inputs(cls, model: str, dtype: str) -> str:
        return _fingerprint(model, "interpolation")

    @classmethod
    def execute(cls, model: str, dtype: str) -> io.NodeOutput:
        return io.NodeOutput(_load(model, "interpolation", dtype))


class LoadRestore(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="FusionFFTLoadRestore",
            display_name="Load Restore Model",
            category="FusionFFT",
            description="Loads a network that makes clips larger and sharper, FMA-Net or FTVSR, converted by "
            "`fusionfft convert`; their authors' files have to be fetched by hand.",
            search_aliases=[
                *("fma-net", "fmanet", "ftvsr", "upscale model", "video super-resolution model", "deblur model"),
            ],
            inputs=[
                io.Combo.Input(
                    "model",
                    options=_restore_names(),
                    tooltip="Files in models/frame_interpolation and models/upscale_models. Default: the first of "
                    "them. With one that is “to be fetched by hand”, running the node says where the authors' files "
                    "are and how they are converted.",
                ),
                _dtype_input(),
            ],
            outputs=[RestoreModel.Output(display_name="restore_model")],
        )

    @classmethod
    def validate_inputs(cls, model: str) -> bool | str:
        return model in _restore_names() or _known(model, "restore")

    @classmethod
    def fingerprint_inputs(cls, model: str, dtype: str) -> str:
        return _fingerprint(model, "restore")

    @classmethod
    def execute(cls, model: str, dtype: str) -> io.NodeOutput:
        return io.NodeOutput(_load(model, "restore", dtype))


def load_flow_model(name: str = "", dtype: str = "auto") -> Any:
    """What the RIFE_MODEL socket carries, by a name of the list; the default one without."""
    return "dis" if name == NO_WEIGHTS else _load(name or api.EMBEDDED_FLOW + BUILT_IN, "flow", dtype)


def load_fusion_model(name: str = "", dtype: str = "auto") -> Any:
    return _load(name or api.EMBEDDED_FUSION + BUILT_IN, "fusion", dtype)


def flow_network(model: Any) -> Any:
    """A RIFE_MODEL or INTERP_MODEL as what the host loads: a patcher with our network, or a source's name."""
    if isinstance(model, str) or hasattr(getattr(model, "model", None), "family"):
        return model
    if not hasattr(getattr(model, "model", None), "state_dict"):
        raise InputError(f"a {type(model).__name__} is connected as RIFE model: use Load RIFE Model")
    if model not in _adopted:
        loaded = checkpoints.recognise(model.model.state_dict(), "the connected INTERP_MODEL", kind="flow")
        _adopted[model] = comfy_host.managed(loaded.module, "auto")
    return _adopted[model]


_adopted: WeakKeyDictionary[Any, Any] = WeakKeyDictionary()


def _dtype_input() -> io.Combo.Input:
    return io.Combo.Input("dtype", options=["auto", *DTYPES], default="auto", tooltip=_DTYPE_TIP, advanced=True)


def _flow_names() -> list[str]:
    """The first one is the default."""
    files = _files("flow")
    there = {Path(name).stem for name in files}
    offered = [f"{entry.name}{DOWNLOAD}" for entry in downloads.catalogue() if entry.name not in there]
    return [api.EMBEDDED_FLOW + BUILT_IN, NO_WEIGHTS, api.EMBEDDED_RIFE + BUILT_IN, *files, *offered]


def _fusion_names() -> list[str]:
    return [api.EMBEDDED_FUSION + BUILT_IN, *_files("fusion")]


def _wavelet_names() -> list[str]:
    return _files("interpolation") or [f"{_WAVELET}{BY_HAND}"]


def _restore_names() -> list[str]:
    files = _files("restore")
    there = {_WAVELET, *(Path(name).stem for name in files)}
    return [*files, *(f"{name}{BY_HAND}" for name in downloads.BY_HAND if name not in there)]


def _files(kind: str) -> list[str]:
    return [name for name in comfy_host.model_files(*_MORE_FOLDERS.get(kind, ())) if _is(name, kind)]


_MORE_FOLDERS = {"restore": (comfy_host.UPSCALERS,)}
"""Kind -> folders of the host beside that for frame interpolation where people put such files."""


def _there(name: str, kind: str) -> Path | None:
    return comfy_host.model_path(name, *_MORE_FOLDERS.get(kind, ()))


def _is(name: str, kind: str) -> bool:
    path = _there(name, kind)
    try:
        return path is not None and checkpoints.identify(path)[0].kind == kind
    except checkpoints.CheckpointError:
        return False


def _known(name: str, kind: str) -> bool | str:
    """Whether a saved graph's choice can still be had, a downloaded file's old label included."""
    if not isinstance(name, str):
        return f"a {type(name).__name__} is given as model: choose one from the list"
    if name == NO_WEIGHTS or name.endswith(BUILT_IN) or name in _flow_names():
        return True
    if _there(name, kind) is not None or _there(_plain(name) + ".safetensors", kind):
        return True
    folder = comfy_host.download_folder()
    return f"no {kind} model {name!r} in {folder}: put the file there and press R, or choose another from the list"


def _fingerprint(name: str, kind: str) -> str:
    """Changes with the file, so that one that was replaced or deleted meanwhile is not answered from the cache."""
    # A file that is downloaded is what its hash says, and shall not count as changed because it has arrived.
    path = None if name.endswith((BUILT_IN, DOWNLOAD)) else _there(name, kind)
    try:
        about = path.stat() if path else None
    except OSError:
        about = None
    return f"{path} {about.st_size} {about.st_mtime_ns}" if about else name


def _plain(name: str) -> str:
    return name.removesuffix(DOWNLOAD).removesuffix(BUILT_IN).removesuffix(BY_HAND)


def _current(name: str) -> str:
    """The embedded file of that kind: graphs keep the version they were saved with, and files get better."""
    embedded = {e.rpartition("-v")[0]: e for e in (api.EMBEDDED_FLOW, api.EMBEDDED_RIFE, api.EMBEDDED_FUSION)}
    current = embedded.get(name.rpartition("-v")[0], name)
    if current != name:
        comfy_host.tell(f"{name} was replaced by {current}")
    return current


def _load(name: str, kind: str, dtype: str) -> Any:
    path = checkpoints.find(_path(name, kind), kind)
    return comfy_host.managed(checkpoints.load(path).module, dtype)


def _path(name: str, kind: str) -> Path:
    if name.endswith(BUILT_IN):
        return checkpoints.embedded(_current(_plain(name)))
    path = _there(name, kind) or _there(_plain(name) + ".safetensors", kind)
    if path is not None:
        return path
    host = comfy_host.ComfyHost()

    def progress(done: int, total: int | None) -> None:
        host.raise_if_cancelled()
        host.progress(done, total)

    comfy_host.tell(f"downloading {_plain(name)} …")
    return downloads.get(_plain(name), comfy_host.download_folder(), progress=progress)
