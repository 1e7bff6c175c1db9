"""The nodes: each is a schema and one call of the library."""

from __future__ import annotations

from comfy_api.latest import ComfyExtension, io

from . import (
    comfy_host,
    flow,
    fuse,
    interpolate,
    interpolate_video,
    loaders,
    preview,
    replacements,
    restore,
    retime,
    spectral,
    wavelet,
)


class FusionFFTExtension(ComfyExtension):
    """What ComfyUI loads."""

    async def on_load(self) -> None:
        preview.register(comfy_host.add_get, comfy_host.lets_other_origins_in())
        await replacements.register()

    async def get_node_list(self) -> list[type[io.ComfyNode]]:
        return [
            interpolate.Interpolate,
            interpolate_video.InterpolateVideo,
            retime.Retime,
            loaders.LoadRIFE,
            loaders.LoadFusion,
            flow.ExtractFlow,
            fuse.Fuse,
            spectral.SpectralSwap,
            flow.FlowPreview,
            flow.FlowWarp,
            loaders.LoadWaveletVFI,
            wavelet.Interpolate,
            loaders.LoadRestore,
            restore.RestoreClip,
            restore.RestoreVideo,
        ]
