"""The one file that touches ComfyUI: devices, model management, memory, folders, progress, routes.

Everything else in this folder is schema; everything under ``comfy_fusionfft`` runs without a host.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterable
from fractions import Fraction
from pathlib import Path
from typing import Any, NamedTuple

import comfy.model_management as memory
import comfy.model_patcher
import comfy.utils
import folder_paths
import psutil
import torch
from comfy.cli_args import args
from comfy_api.latest import InputImpl
from comfy_execution.utils import get_executing_context
from PIL import Image
from server import PromptServer
from torch import Tensor, nn

from ..comfy_fusionfft.errors import DeviceError
from ..comfy_fusionfft.free_memory import free_memory
from ..comfy_fusionfft.host import DTYPES, PlainHost
from . import paths

FOLDER = "frame_interpolation"
UPSCALERS = "upscale_models"
PREVIEW_PIXELS = 512
PREVIEW_SECONDS = 0.25
CLOCK_SECONDS = 1.0
REMOVAL_SECONDS = 0.6
"""Front ends take 0.4."""
RESERVE_BYTES = 2 * 1024**3
"""Device memory that stored flow leaves free for the networks."""

_Patcher = getattr(comfy.model_patcher, "CoreModelPatcher", comfy.model_patcher.ModelPatcher)


class ComfyHost:
    """contract.Host inside ComfyUI: networks come placed by ``load``; progress shows on the running node.

    pictures: show frames as they are made. The front end leaves the last one on the node, which has to have room.
    words: say on the node how many frames there are and how long the rest will take. samples: pictures that are made
    for one frame.
    """

    def __init__(self, *, pictures: bool = True, words: bool = False, samples: int = 1) -> None:
        self._pictures = pictures
        self._clock = Clock(samples) if words else None
        self._how = ""
        self._promised = 0
        self.device = memory.get_torch_device()
        self.dtype = torch.float32
        self._bar: comfy.utils.ProgressBar | None = None
        self._shown = 0.0

    def place(self, module: nn.Module) -> nn.Module:
        return module.to(self.device)

    def progress(self, done: int, total: int | None, preview: Tensor | None = None) -> None:
        if self._bar is None:
            self._bar = comfy.utils.ProgressBar(total or 1)
        now = time.monotonic()
        picture = None
        if self._pictures and preview is not None and now - self._shown >= PREVIEW_SECONDS:
            picture, self._shown = ("JPEG", _thumbnail(preview), PREVIEW_PIXELS), now
        self._bar.update_absolute(done, total or done + 1, picture)
        if self._clock is not None and (text := self._clock.text(done, total, now)):
            tell(text + self._how)

    def begin(self, how: str) -> None:
        """The clip has been looked through: say how the frames will be made, now and behind how far that is."""
        if self._clock is not None:
            self._clock.looking = False
        self._how = f"; {how}"
        tell(how)

    def raise_if_cancelled(self) -> None:
        memory.throw_exception_if_processing_interrupted()

    def is_oom(self, error: BaseException) -> bool:
        return memory.is_oom(error) or PlainHost.is_oom(self, error)

    def free(self) -> None:
        memory.soft_empty_cache()

    def promise(self, empty: Tensor) -> None:
        """What ``empty`` takes once it is filled is not free for the work."""
        # systems give a CPU's tensor its memory when it is written
        if empty.device.type == "cpu" and self.device.type in ("cpu", "mps"):
            self._promised += empty.nbytes

    def free_bytes(self) -> int | None:
        known = [memory.get_free_memory(self.device)]
        if self.device.type == "cpu" and (limited := free_memory()) is not None:
            known.append(limited)
        return max(0, min(known) - self._promised)


class Clock:
    """How far a long run is, in words, at most once a second.

    looking: while nobody knows how many frames there will be, the clip is only looked through.
    """

    def __init__(self, samples: int = 1) -> None:
        self.looking = True
        self._samples = samples
        self._total: int | None = None
        self._began: tuple[int, float] | None = None
        self._said = -CLOCK_SECONDS

    def text(self, done: int, total: int | None, now: float) -> str | None:
        """total: None where it is not known. now: seconds of any clock.

        None where it is too early to say something new.
        """
        if self._began is None or total != self._total:
            self._total, self._began = total, (done, now)
        if now - self._said < CLOCK_SECONDS and done != total:
            return None
        self._said = now
        if total is None:
            return f"looking for cuts: frame {done}" if self.looking else f"frame {done // self._samples}"
        frames = f"frame {done // self._samples} of {total // self._samples}"
        first, began = self._began
        if done == first or done >= total:
            return frames
        left = round((now - began) / (done - first) * (total - done))
        return f"{frames}, {left // 3600}:{left // 60 % 60:02}:{left % 60:02} left"


def _thumbnail(pixels: Tensor) -> Image.Image:
    """Of a picture in 0..1, or in the whole numbers of the file that it came from."""
    step = max(1, max(pixels.shape[:2]) // PREVIEW_PIXELS)
    few = pixels[::step, ::step, :3].float().cpu()
    if not pixels.dtype.is_floating_point:
        few = few / torch.iinfo(pixels.dtype).max
    small = few.clamp(0, 1).mul(255).byte().numpy()
    return Image.fromarray(small if small.shape[2] == 3 else small.repeat(3, axis=2))


def managed(module: nn.Module, dtype: str) -> Any:
    """``module`` in the host's care: it decides when the weights are on the device.

    dtype: ``auto`` (float16 where the host finds it useful, bfloat16 on CPUs with hardware for it), or a name.
    """
    device = memory.get_torch_device()
    if dtype != "auto":
        chosen = DTYPES[dtype]
    elif device.type == "cpu":
        chosen = PlainHost("cpu").dtype
    else:
        chosen = torch.float16 if memory.should_use_fp16(device) else torch.float32
    module = module.to(chosen, memory_format=torch.channels_last).eval().requires_grad_(False)
    return _Patcher(module, load_device=device, offload_device=memory.unet_offload_device())


def load(patchers: Iterable[Any], size: tuple[int, int], bytes_per_pixel: int) -> None:
    """Bring networks to the device, with room for working on pictures of this height and width."""
    height, width = size
    load_for(patchers, height * width * bytes_per_pixel)


def load_for(patchers: Iterable[Any], working_bytes: int) -> None:
    """Bring networks to the device, with room for work that takes so much."""
    memory.load_models_gpu(list(patchers), memory_required=working_bytes)


STREAM = "take a shorter part of the clip, a smaller multiplier, or the command line, which streams"


def empty_images(count: int, like: Tensor, scale: int = 1, remedy: str = STREAM) -> Tensor:
    """Room for ``count`` pictures ``scale`` times as large as those of ``like (B, H, W, C)``, in the host's precision
    and place.

    Raises DeviceError, which ends in ``remedy``, when that is more than this machine can hold, before anything was
    computed.
    """
    device, dtype = memory.intermediate_device(), memory.intermediate_dtype()
    height, width, channels = like.shape[1:]
    shape = (count, scale * height, scale * width, channels)
    frames = f"{count} frames of {shape[2]}×{shape[1]}"
    _ensure_room(torch.Size(shape).numel() * dtype.itemsize, _room(device), frames, remedy)
    return torch.empty(shape, dtype=dtype, device=device)


def announce_flow(count: int, like: Tensor, half: bool) -> None:
    """Show how much memory flow for ``count`` instants will take; DeviceError when there is not so much."""
    height, width = like.shape[1:3]
    needed = count * height * width * 5 * (2 if half else 4)
    device, elsewhere = memory.get_torch_device(), memory.intermediate_device()
    there = _room(elsewhere) + (0 if device == elsewhere else max(0, _room(device) - RESERVE_BYTES))
    remedy = "turn half on, take a shorter part of the clip, or use FusionFFT Interpolate, which keeps no flow"
    _ensure_room(needed, there, f"flow for {count} instants of {width}×{height}", remedy)
    tell(f"finding {needed / 1e9:.2f} GB of flow …")


def _room(device: torch.device) -> int:
    return memory.get_free_memory(device) + (psutil.swap_memory().free if device.type == "cpu" else 0)


def _ensure_room(needed: int, there: int, what: str, remedy: str) -> None:
    if needed > there:
        raise DeviceError(f"{what} need {needed / 1e9:.1f} GB, {there / 1e9:.1f} GB are free: {remedy}")


def keeper(half: bool) -> Callable[[Tensor], Tensor]:
    """Where flow stays between nodes: on the device while that leaves room to work, else with the images."""
    device, elsewhere = memory.get_torch_device(), memory.intermediate_device()

    def keep(tensor: Tensor) -> Tensor:
        tensor = tensor.half() if half else tensor
        spare = memory.get_free_memory(device) - RESERVE_BYTES
        fits = device == elsewhere or spare > tensor.numel() * tensor.element_size()
        return tensor.to(device if fits else elsewhere).contiguous()

    return keep


def tell(text: str) -> None:
    """Show a line on the running node."""
    if PromptServer.instance is not None:
        PromptServer.instance.send_progress_text(text, node_id())


def take_preview_off() -> None:
    """Remove the running node's live picture, so that the video which it puts out shows in its place.

    Front ends keep a live picture until they hear that its node starts to run, and a moment longer; while they have it
    they try to play it as the video.
    """
    context, server = get_executing_context(), PromptServer.instance
    if context is None or server is None:
        return
    names = ("node_id", "display_node_id", "parent_node_id", "real_node_id")
    state = {"value": 1, "max": 1, "state": "running", "prompt_id": context.prompt_id}
    for nodes in ({}, {context.node_id: state | dict.fromkeys(names, context.node_id)}):
        server.send_sync("progress_state", {"prompt_id": context.prompt_id, "nodes": nodes}, server.client_id)
    time.sleep(REMOVAL_SECONDS)


def node_id() -> str:
    """The running node, as the front end knows it (inside subgraphs with its parents)."""
    context = get_executing_context()
    return context.node_id if context else ""


def model_files(*more: str) -> list[str]:
    """Names of the host's own files for frame interpolation, and of those in its model folders ``more``."""
    _folders()
    names = (name for folder in (FOLDER, *more) for name in folder_paths.get_filename_list(folder))
    return list(dict.fromkeys(name for name in names if name.endswith(".safetensors")))


def model_path(name: str, *more: str) -> Path | None:
    """The file of that name in the same folders, the first one; None when there is none."""
    _folders()
    paths = (folder_paths.get_full_path(folder, name) for folder in (FOLDER, *more))
    return next((Path(path) for path in paths if path), None)


def download_folder() -> Path:
    """Where a downloaded file goes."""
    return Path(_folders()[0])


def _folders() -> list[str]:
    known = folder_paths.folder_names_and_paths
    if FOLDER not in known:  # hosts before 0.20
        known[FOLDER] = ([str(Path(folder_paths.models_dir) / FOLDER)], {".safetensors"})
    return folder_paths.get_folder_paths(FOLDER)


class Place(NamedTuple):
    """Where a saved file goes: a folder of the output, the name's beginning, the next free number, and the folder as
    the front end wants it."""

    folder: Path
    name: str
    number: int
    subfolder: str


def output_place(prefix: str, size: tuple[int, int]) -> Place:
    """For a file name's beginning as people write it, with ``%date%`` and the like. size: height and width.

    Raises InputError for what is no name, or one outside the output folder.
    """
    height, width = size
    paths.check_prefix(prefix)
    try:
        folder, name, number, subfolder, _ = folder_paths.get_save_image_path(
            prefix, folder_paths.get_output_directory(), width, height
        )
    except Exception as error:  # the host has no class of its own for a place outside
        raise paths.unusable(prefix, error.strerror if isinstance(error, OSError) else None) from error
    return Place(Path(folder), name, number, subfolder)


def input_path(text: str) -> Path:
    """A path as people write it: from the root, or in the host's input folder. InputError: see ``paths``."""
    text = paths.cleaned(text)
    if Path(text).is_absolute():
        folders = (folder_paths.get_input_directory(), folder_paths.get_output_directory(), scratch_folder().parent)
        return paths.absolute(text, folders, paths.is_only_here(str(args.listen)))
    name, folder = folder_paths.annotated_filepath(text)
    return paths.inside(name, folder or folder_paths.get_input_directory())


def scratch_folder() -> Path:
    """A folder of ours that the host empties at its start."""
    folder = Path(folder_paths.get_temp_directory()) / "fusionfft"
    folder.mkdir(parents=True, exist_ok=True)
    return folder


def graph_tags(hidden: Any) -> dict[str, str]:
    """The graph that makes a file, as the host's own nodes write it into one; nothing where the user forbids it."""
    if args.disable_metadata:
        return {}
    sent = hidden.extra_pnginfo if isinstance(hidden.extra_pnginfo, dict) else {}
    tags = {name: json.dumps(value) for name, value in sent.items()}
    return tags | ({"prompt": json.dumps(hidden.prompt)} if hidden.prompt is not None else {})


def is_from_file(video: Any) -> bool:
    """Whether a VIDEO is a file's."""
    return isinstance(video, InputImpl.VideoFromFile)


def file_of(video: Any) -> tuple[Any, tuple[Fraction, Fraction | None] | None]:
    """The path or bytes of a file's VIDEO, and from which to which second it is cut; None where it is not."""
    if hasattr(video, "get_active_trim_window"):
        begin, lasts = video.get_active_trim_window()
    else:  # hosts before 0.20
        begin, lasts = (getattr(video, f"_VideoFromFile__{name}") for name in ("start_time", "duration"))
        begin = begin if begin >= 0 else max(0.0, video._get_raw_duration() + begin)
    if not begin and not lasts:
        return video.get_stream_source(), None
    begin = Fraction(str(begin))
    return video.get_stream_source(), (begin, begin + Fraction(str(lasts)) if lasts else None)


def as_video(path: Path) -> Any:
    """A file as VIDEO."""
    return InputImpl.VideoFromFile(str(path))


def lets_other_origins_in() -> bool:
    """Whether the user started the host for pages of other origins, which then has its own rule for them."""
    return bool(args.enable_cors_header)


def add_get(path: str, handler: Callable[..., Any]) -> None:
    """Serve ``path`` (aiohttp's syntax) with an async handler."""
    if PromptServer.instance is not None:
        PromptServer.instance.routes.get(path)(handler)
