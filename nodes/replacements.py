"""Saved graphs with nodes of packs that are not installed: ours in their place, where they mean the same.

The host puts a replacement in only where it does not know the old node. Registered is what turns n frames into
(n - 1) · m + 1 with the source frames untouched, by one node with one input for the frames and one for m. Not
registered: nodes of the host itself; nodes that need a loader beside them, which would stay behind, unknown (GIMM-VFI);
and those that drop frames at the clip's ends (STMFNet, FLAVR). What is set here are all inputs that the host's own
replacing does not fill in.
"""

from __future__ import annotations

from comfy_api.latest import io

from ..comfy_fusionfft import api
from ..comfy_fusionfft.ops import spectral
from .pace import SOURCE_FPS

_WIDGETS = ["ckpt_name", "clear_cache_after_n_frames", "multiplier"]
"""Of every one of these nodes, the first ones; others follow that have no counterpart."""
OLD = {
    "RIFE VFI": "rife",
    **dict.fromkeys(
        (
            *("FILM VFI", "GMFSS Fortuna VFI", "IFRNet VFI", "IFUnet VFI", "M2M VFI", "Sepconv VFI", "AMT VFI"),
            *("CAIN VFI", "ATM VFI", "MOMO VFI"),
        ),
        api.DEFAULT_METHOD,
    ),
}
"""Their ids, and the method that comes nearest."""


def replacement(old: str) -> io.NodeReplace:
    fixed = {
        "source_fps": SOURCE_FPS,
        "target_fps": 0.0,
        "method": OLD[old],
        "num_anchors": api.NUM_ANCHORS,
        "spectral_alpha": api.SPECTRAL_ALPHA,
        "spectral_lo": spectral.LO,
        "spectral_hi": spectral.HI,
        "scale": "1",
        "uhd": False,
        "ensemble": False,
    }
    return io.NodeReplace(
        new_node_id="FusionFFTInterpolate",
        old_node_id=old,
        old_widget_ids=_WIDGETS,
        input_mapping=[
            {"new_id": "images", "old_id": "frames"},
            {"new_id": "multiplier", "old_id": "multiplier"},
            *({"new_id": name, "set_value": value} for name, value in fixed.items()),
        ],
        output_mapping=[{"new_idx": 0, "old_idx": 0}],
    )


async def register() -> None:
    """Tell the host, where it knows replacements."""
    try:
        from comfy_api.latest import ComfyAPI

        node_replacement = ComfyAPI().node_replacement
    except (ImportError, AttributeError):
        return
    for old in OLD:
        await node_replacement.register(replacement(old))
