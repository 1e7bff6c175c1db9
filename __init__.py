"""FusionFFT as a ComfyUI node pack: the host imports this file at its start, so it imports nothing heavy."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from .nodes import FusionFFTExtension

WEB_DIRECTORY = "./web"
__all__ = ["WEB_DIRECTORY", "comfy_entrypoint"]


async def comfy_entrypoint() -> FusionFFTExtension:
    """What the host calls for the list of nodes."""
    try:
        import comfy_api.latest  # noqa: F401
    except ImportError as error:
        raise ImportError("FusionFFT needs ComfyUI 0.18 or newer: update ComfyUI, then start it again") from error
    from .nodes import FusionFFTExtension

    return FusionFFTExtension()
