"""The inputs that say how frames are made, shared by the nodes that do all of it."""

from __future__ import annotations

from typing import Any

from comfy_api.latest import io

from ..comfy_fusionfft import api
from ..comfy_fusionfft.contract import Host, Model
from . import flow, fuse, loaders, spectral


def inputs() -> list[io.Input]:
    return [
        io.Combo.Input(
            "method",
            options=list(api.FLOW_METHODS),
            default=api.DEFAULT_METHOD,
            tooltip="fusion: several frame pairs, chosen per pixel (default, best). rife: the nearest two "
            "frames, warped and mixed (fastest). recursive: outside-in, for large multipliers of difficult "
            "motion.",
        ),
        flow.anchors_input("Used by fusion."),
        *spectral.swap_inputs("spectral_"),
        *flow.quality_inputs(),
        *models(),
    ]


def models() -> list[io.Input]:
    return [
        flow.model_input(),
        loaders.FusionModel.Input(
            "fusion_model",
            optional=True,
            tooltip="From Load FusionFFT Model. Nothing connected: the built-in one.",
        ),
    ]


def settings(
    size: tuple[int, int],
    *,
    method: str,
    num_anchors: int,
    spectral_alpha: float,
    spectral_lo: float,
    spectral_hi: float,
    scale: str,
    uhd: bool,
    ensemble: bool,
    rife_model: Any = None,
    fusion_model: Any = None,
) -> dict[str, Any]:
    """What these inputs mean to the library's ``interpolate_file``.

    size: height and width of the pictures, for which the networks are brought to the device.
    """
    chosen: dict[str, Any] = {"method": method, "flow": flow.network(rife_model, size)}
    chosen |= {"scale": float(scale), "uhd": uhd, "ensemble": ensemble}
    if method == "fusion":
        chosen |= {
            "fusion": fuse.network(fusion_model, size),
            "num_anchors": num_anchors,
            "spectral_alpha": spectral_alpha,
            "spectral_lo": spectral_lo,
            "spectral_hi": spectral_hi,
        }
    return chosen


def model(chosen: dict[str, Any], host: Host, explain: bool = False) -> Model:
    """The model that ``settings`` chose. explain: it also puts out maps."""
    chosen = dict(chosen)
    name, network = chosen.pop("method"), chosen.pop("flow")
    motion = {setting: chosen.pop(setting) for setting in ("scale", "uhd", "ensemble")}
    source = api.load_flow(network, host=host, **motion)
    return api.load_method(name, source, host=host, explain=explain, **chosen)
