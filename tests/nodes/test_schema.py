"""What saved graphs and people rely on: ids, the order of inputs, defaults said once, and words for all of it."""

import inspect

import pytest

from comfy_fusionfft import api
from comfy_fusionfft.cli import build_parser
from comfy_fusionfft.families.fmanet.model import Restore
from comfy_fusionfft.families.ftvsr.model import Restore as RestoreStretch
from comfy_fusionfft.families.fusionfft import Fuse
from comfy_fusionfft.files import interpolate_file, restore_file
from comfy_fusionfft.pace import Pace
from tests.nodes.graphs import DYNAMIC

TIME = ("pace", "speed", "loop", "shutter")
SHOTS = ("cuts", "at_cut", "dedupe", "hold_below")
METHOD = (
    *("method", "num_anchors", "spectral_alpha", "spectral_lo", "spectral_hi", "scale", "uhd", "ensemble"),
    *("rife_model", "fusion_model"),
)
RESTORE = ("restore_model", "tile", "ends", "cuts")
# Saved graphs keep widgets by position: append, never insert, reorder or rename.
INPUTS = {
    "FusionFFTInterpolate": [
        *("images", "multiplier", "source_fps", "target_fps", "method", "num_anchors"),
        *("spectral_alpha", "spectral_lo", "spectral_hi", "scale", "uhd", "ensemble", "rife_model", "fusion_model"),
        *("cuts", "dedupe"),
    ],
    "FusionFFTRetime": ["images", "source_fps", *TIME, *SHOTS, "maps", *METHOD],
    "FusionFFTInterpolateVideo": ["video", *TIME, *SHOTS, "audio", "filename_prefix", "codec", *METHOD],
    "FusionFFTLoadRIFE": ["model", "dtype"],
    "FusionFFTLoadFusion": ["model", "dtype"],
    "FusionFFTFlow": [
        *("images", "multiplier", "source_fps", "target_fps", "scale", "uhd", "ensemble", "anchor_flow"),
        *("num_anchors", "half", "rife_model"),
    ],
    "FusionFFTFuse": ["images", "flow", "num_anchors", "warped_prior", "fusion_model", "cuts"],
    "FusionFFTLoadWaveletVFI": ["model", "dtype"],
    "FusionFFTWaveletVFI": ["images", "multiplier", "source_fps", "threshold", "cuts", "waveletvfi_model"],
    "FusionFFTLoadRestore": ["model", "dtype"],
    "FusionFFTRestore": ["images", *RESTORE, "chunk", "padding"],
    "FusionFFTRestoreVideo": ["video", *RESTORE, "audio", "filename_prefix", "codec", "chunk", "padding"],
    "FusionFFTSpectralSwap": ["images", "prior", "alpha", "lo", "hi", "soft", "prior_kind", "clamp_gain", "flow"],
    "FusionFFTFlowPreview": ["flow", "show", "num_anchors", "images"],
    "FusionFFTFlowWarp": ["images", "flow", "side"],
}
OUTPUTS = {
    "FusionFFTInterpolate": ["IMAGE", "FLOAT"],
    "FusionFFTRetime": ["IMAGE", "FLOAT", "STRING", "IMAGE", "MASK", "MASK", "IMAGE"],
    "FusionFFTInterpolateVideo": ["VIDEO", "STRING", "IMAGE"],
    "FusionFFTLoadRIFE": ["RIFE_MODEL"],
    "FusionFFTLoadFusion": ["FUSIONFFT_MODEL"],
    "FusionFFTFlow": ["FLOW", "FLOAT"],
    "FusionFFTFuse": ["IMAGE", "IMAGE"],
    "FusionFFTLoadWaveletVFI": ["WAVELETVFI_MODEL"],
    "FusionFFTWaveletVFI": ["IMAGE", "FLOAT", "MASK", "FLOAT"],
    "FusionFFTLoadRestore": ["RESTORE_MODEL"],
    "FusionFFTRestore": ["IMAGE"],
    "FusionFFTRestoreVideo": ["VIDEO", "STRING"],
    "FusionFFTSpectralSwap": ["IMAGE"],
    "FusionFFTFlowPreview": ["IMAGE"],
    "FusionFFTFlowWarp": ["IMAGE", "MASK"],
}
CHOICES = {
    "pace": {"multiplier": ["multiplier"], "frame rate": ["fps"], "frame count": ["count", "at_fps"]},
    "speed": {"normal": [], "constant": ["factor"], "curve": ["curve", "top_speed"], "keys": ["keys"]},
    "codec": {
        **{f"{name} (mp4)": ["quality"] for name in ("h264", "hevc", "av1")},
        "vp9 (webm)": ["quality"],
        "prores (mov)": [],
        "ffv1 (mkv)": [],
    },
}
"""Inputs that bring others with them, by what is chosen."""
SOCKETS = {
    *("IMAGE", "FLOW", "RIFE_MODEL,INTERP_MODEL", "FUSIONFFT_MODEL", "VIDEO,VHS_FILENAMES,STRING", "WAVELETVFI_MODEL"),
    "RESTORE_MODEL",
}
NODES_OWN = {
    *("source_fps", "target_fps", "half", "warped_prior", "show", "model", "side", "filename_prefix", *CHOICES),
    *("factor", "curve", "top_speed", "keys", "count", "at_fps", "quality", "fps"),
}
"""Inputs that have no counterpart of that name, or of that kind, in the library."""
SWITCHED_OFF = {"hold_below": (0.0, None), "shutter": (0.0, 0)}
"""Input -> what stands for nothing in the node and in the library."""


@pytest.fixture
def nodes(either_host) -> dict[str, dict]:
    everything = either_host.client.object_info()
    return {name: node for name, node in everything.items() if node["python_module"].endswith("fusionfft")}


def inputs(node: dict) -> dict[str, list]:
    """In the front end's order."""
    return {
        name: node["input"][group][name]
        for group in ("required", "optional")
        for name in node["input_order"].get(group, ())
    }


def options(spec: list) -> dict[str, dict[str, list]]:
    """Of an input that brings others with it: choice -> its inputs."""
    return {option["key"]: option["inputs"].get("required", {}) for option in spec[1]["options"]}


def all_inputs(node: dict) -> list[tuple[str, list]]:
    """Also those that a choice brings."""
    found = list(inputs(node).items())
    for _, spec in inputs(node).items():
        if spec[0] == DYNAMIC:
            found += [each for choice in options(spec).values() for each in choice.items()]
    return found


def test_ids_and_order_stay(nodes):
    assert {name: list(inputs(node)) for name, node in nodes.items()} == INPUTS
    assert {name: node["output"] for name, node in nodes.items()} == OUTPUTS
    for node in nodes.values():
        for name, spec in inputs(node).items():
            if spec[0] == DYNAMIC:
                assert {key: list(brought) for key, brought in options(spec).items()} == CHOICES[name]


def test_every_node_can_be_found(nodes):
    for node in nodes.values():
        assert node["category"] == "FusionFFT" and len(node["description"]) > 40
        assert len(set(node["search_aliases"])) == len(node["search_aliases"]) >= 2
        assert not node["deprecated"] and not node["experimental"]
    names = [node["display_name"] for node in nodes.values()]
    assert len(set(names)) == len(names)
    assert {"rife", "vfi", "frame interpolation"} <= set(nodes["FusionFFTInterpolate"]["search_aliases"])


def test_every_input_is_explained(nodes):
    for name, node in nodes.items():
        for field, (kind, settings) in all_inputs(node):
            tip = settings["tooltip"]
            assert tip[-1] in ".…)”" and "  " not in tip, (name, field)
            if kind in SOCKETS:
                continue
            assert "default" in tip.lower(), (name, field)
            if kind.split(",")[0] in ("INT", "FLOAT"):
                assert {"default", "min", "max"} <= settings.keys(), (name, field)
                shown = f"{settings['default']:g}"
                assert f"Default {shown}" in tip or field == "quality", (name, field)


def test_defaults_are_the_library_s_and_the_command_line_s(nodes):
    library = {}
    for function in (api.spectral_swap, Fuse, api.load_method, api.extract_flow, Pace, interpolate_file):
        library |= {name: p.default for name, p in inspect.signature(function).parameters.items()}
    library |= {"method": api.DEFAULT_METHOD, "multiplier": Pace().timing(None).factor}
    command = vars(build_parser("interpolate").parse_args(["interpolate", "in", "out"]))
    command |= vars(build_parser("spectral").parse_args(["spectral", "in", "prior", "out"]))
    for name, node in nodes.items():
        if name in RESTORING:
            continue
        for field, (kind, settings) in all_inputs(node):
            if kind in SOCKETS or field in NODES_OWN:
                continue
            value = settings.get("default", settings["options"][0] if "options" in settings else None)
            if field in ("scale", "multiplier"):
                value = float(value)
            if field in SWITCHED_OFF:
                assert (value, library[field]) == SWITCHED_OFF[field]
            elif field == "maps":
                assert not value
            elif field == "dtype":
                assert value == command["dtype"] == "auto"
            elif field == "prior_kind":  # the library has no flow to tell by
                assert value == "auto" and library["prior_kind"] == "neighbours"
            else:
                assert value == library[field], (name, field)
                # The command line says "auto" where the library chooses.
                assert field == "multiplier" or command[field] in (value, "auto"), (name, field)


RESTORING = ("FusionFFTRestore", "FusionFFTRestoreVideo")


@pytest.mark.parametrize("name", RESTORING)
def test_defaults_of_restoring_are_the_library_s_and_the_command_line_s(nodes, name):
    library = {}
    for function in (restore_file, Restore, RestoreStretch):
        library |= {name: p.default for name, p in inspect.signature(function).parameters.items()}
    command = vars(build_parser("restore").parse_args(["restore", "in", "out", "--weights", "file"]))
    compared = {
        field: settings["default"]
        for field, (kind, settings) in inputs(nodes[name]).items()
        if kind not in SOCKETS and field not in NODES_OWN
    }
    assert {"tile", "ends", "cuts", "chunk", "padding"} <= compared.keys()
    for field, value in compared.items():
        assert value == library[field], field
        assert command[field] in (value, None), field  # None: the library's


def test_models_that_need_no_file_come_first(nodes):
    flows, fusions = (nodes[f"FusionFFTLoad{kind}"]["input"]["required"]["model"][1] for kind in ("RIFE", "Fusion"))
    embedded = [f"{name} (built-in)" for name in (api.EMBEDDED_FLOW, api.EMBEDDED_RIFE)]
    assert flows["options"][:3] == [embedded[0], "dis (built-in, no weights)", embedded[1]]
    assert fusions["options"][0] == f"{api.EMBEDDED_FUSION} (built-in)"
    assert all(spec.get("default", spec["options"][0]) == spec["options"][0] for spec in (flows, fusions))


def test_the_pack_is_imported_and_serves_its_folder(either_host):
    assert not either_host.server.failed_imports()
    assert "comfyui-fusionfft" in either_host.server.import_seconds()  # how many: benchmarks/host_start.py
