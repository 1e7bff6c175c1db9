"""Graphs for the hosts of these tests, and the clips that go through them.

    graph = Graph(host)
    images = graph.clip("moving", moving(5))
    made = graph.add("FusionFFTInterpolate", images=images, multiplier=2)
    graph.save("made", made)
    graph.run()["made"]     # the saved tensor

An input that is not named has the node's own default, as in the front end.
"""

from __future__ import annotations

from collections.abc import Iterator
from fractions import Fraction
from typing import Any

import torch
from torch import Tensor

from comfy_fusionfft import api
from comfy_fusionfft.contract import Frame
from comfy_fusionfft.flow_clip import ClipFlow
from comfy_fusionfft.host import PlainHost
from devhost.client import Result

PLAIN = PlainHost("cpu", "float32")
LIKE_THE_NODES = PlainHost("cpu")
"""In the precision that nodes choose by themselves, which depends on the CPU."""
FPS = 16
"""The nodes' default for the rate of the source."""
SPEED = 3.0
"""Pixels to the right that ``moving`` moves per frame."""
WAVES = 48


class Link(list):
    """``[node id, slot]``, as the API wants it; ``link[k]`` of a new node is its slot k."""

    @property
    def id(self) -> str:
        return self[0]

    def slot(self, number: int) -> Link:
        return Link([self.id, number])


def of(name: str, choice: str, **inputs: Any) -> dict[str, Any]:
    """A choice with the inputs that it brings: ``of("pace", "frame rate", fps=60)``."""
    return {name: choice} | {f"{name}.{each}": value for each, value in inputs.items()}


class Graph:
    """A graph in the API format, grown node by node. ``host``: hosts.RunningHost."""

    def __init__(self, host: Any) -> None:
        self.host = host
        self.nodes: dict[str, dict[str, Any]] = {}
        self._saves: dict[str, str] = {}

    def add(self, kind: str, **inputs: Any) -> Link:
        """A node of this class; returns its first output."""
        name = str(len(self.nodes) + 1)
        self.nodes[name] = {"class_type": kind, "inputs": {**self._defaults(kind, inputs), **inputs}}
        return Link([name, 0])

    def change(self, node: Link, **inputs: Any) -> None:
        self.nodes[node.id]["inputs"].update(inputs)

    def clip(self, name: str, images: Tensor) -> Link:
        return self.add("FusionFFTTestLoad", file=self.host.put(name, images))

    def save(self, name: str, image: Link, mask: Link | None = None) -> Link:
        return self.add("FusionFFTTestSave", name=name, image=image, **({} if mask is None else {"mask": mask}))

    def save_flow(self, name: str, flow: Link) -> Link:
        return self.add("FusionFFTTestSaveFlow", name=name, flow=flow)

    def save_number(self, name: str, value: Link) -> Link:
        return self.add("FusionFFTTestSaveFloat", name=name, value=value)

    def run(self) -> Result:
        """It must succeed."""
        return self.host.run(self.nodes)

    def fails(self) -> str:
        """What the node says that stops it, its first line; the host must be usable afterwards."""
        error = self.host.client.run(self.nodes).error
        assert error is not None, "the graph ran, it should not have"
        check = Graph(self.host)
        check.save("alive", check.clip("alive", torch.rand(1, 4, 4, 3)))
        check.run()
        return error.message.partition("\n")[0]

    def _defaults(self, kind: str, given: dict[str, Any]) -> dict[str, Any]:
        required = self.host.client.object_info(kind)[kind]["input"].get("required", {})
        found = {}
        for name, spec in required.items():
            if spec[0] == DYNAMIC:
                found |= chosen(name, spec, given)
            elif default(spec) is not None:
                found[name] = default(spec)
        return found


DYNAMIC = "COMFY_DYNAMICCOMBO_V3"
"""A choice that brings inputs of its own, ``choice.input``."""


def chosen(name: str, spec: list[Any], given: dict[str, Any]) -> dict[str, Any]:
    """A choice, the first one unless another is given, and the defaults of the inputs that it brings."""
    options = {option["key"]: option["inputs"].get("required", {}) for option in spec[1]["options"]}
    key = given.get(name, next(iter(options)))
    return {name: key} | {f"{name}.{each}": default(inner) for each, inner in options[key].items()}


def default(spec: list[Any]) -> Any:
    """The default that an input of ``object_info`` has, None where it has none (a socket)."""
    settings = spec[1] if len(spec) > 1 else {}
    options = spec[0] if isinstance(spec[0], list) else settings.get("options")
    return settings.get("default", options[0] if options else None)


def auto(graph: Graph) -> Link:
    """The default, which the list offers first, exact."""
    return graph.add("FusionFFTLoadRIFE", dtype="float32")


def dis(graph: Graph) -> Link:
    """Motion without a network."""
    return graph.add("FusionFFTLoadRIFE", model="dis (built-in, no weights)")


def rife(graph: Graph) -> Link:
    """The built-in RIFE, exact."""
    return graph.add("FusionFFTLoadRIFE", model="rife-v0 (built-in)", dtype="float32")


def fusion(graph: Graph) -> Link:
    """The built-in fusion, exact."""
    return graph.add("FusionFFTLoadFusion", dtype="float32")


def held(saved: dict[str, Tensor]) -> ClipFlow:
    """The FLOW that ``save_flow`` wrote."""
    count = len(saved["pairs"])
    parts = [tuple(saved[f"{field}.{pair}"] for pair in range(count)) for field in ("flow", "mask", "timesteps")]
    return ClipFlow(*parts, saved["pairs"], saved["instants"])


def moving(count: int = 5, height: int = 37, width: int = 50, channels: int = 3, speed: float = SPEED) -> Tensor:
    """A cloudy pattern that moves to the right, ``(count, height, width, channels)`` in 0..1."""
    return torch.stack([moved(speed * index, height, width, channels) for index in range(count)])


def moved(shift: float, height: int = 37, width: int = 50, channels: int = 3) -> Tensor:
    """The pattern ``shift`` pixels to the right: waves of all directions, so that any shift can be drawn exactly."""
    random = torch.Generator().manual_seed(4)
    wave = torch.empty(WAVES).uniform_(0.06, 1.2, generator=random)  # radians per pixel
    angle = torch.empty(WAVES).uniform_(0, 2 * torch.pi, generator=random)
    phase = torch.empty(channels, 1, 1, WAVES).uniform_(0, 2, generator=random) + 7 * angle
    y, x = torch.meshgrid(torch.arange(height).float(), torch.arange(width).float() - shift, indexing="ij")
    along = wave * (x[..., None] * angle.cos() + y[..., None] * angle.sin())  # H W waves
    planes = ((along + phase).sin() / (1 + 6 * wave)).sum(-1)  # C H W
    return (0.5 + 0.16 * planes).clamp(0, 1).permute(1, 2, 0).contiguous()


def frames(images: Tensor, fps: int | Fraction = FPS) -> Iterator[Frame]:
    """What the library is given for the same clip."""
    return (Frame(picture, index / Fraction(fps)) for index, picture in enumerate(images))


def library(images: Tensor, source_fps: int = FPS, /, **settings: Any) -> Tensor:
    """The same clip through ``api.interpolate``, in this process."""
    return torch.stack(
        [frame.pixels for frame in api.interpolate(list(frames(images, source_fps)), host=PLAIN, **settings)]
    )
