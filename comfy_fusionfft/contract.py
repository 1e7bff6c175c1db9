"""The words every part of the library shares.

Conventions, everywhere: images are RGB in 0..1 (values beyond are kept, never required); tensors are
``(B, C, H, W)`` for pictures and ``(B, T, C, H, W)`` for clips; flow is in pixels, x before y, and
corner-aligned (pixel centres at 0 .. size-1). Time is a ``Fraction`` until it enters a network: either
*seconds* on the clip's clock, or a *position* in source frames, where 3 is the fourth source frame
and 3 + 1/2 the instant half-way to the fifth.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Mapping
from dataclasses import dataclass, field
from fractions import Fraction
from typing import TYPE_CHECKING, Any, Literal, NamedTuple, Protocol

if TYPE_CHECKING:
    import torch
    from torch import Tensor, nn

Position = Fraction
"""An instant counted in source frames."""
Ends = Literal["replicate", "reflect", "none"]


@dataclass(frozen=True, slots=True)
class Frame:
    """One picture and its instant.

    pixels: ``(H, W, C)`` on the CPU, C = 1 (grey), 3 (RGB) or 4 (RGBA, straight alpha); ``uint8``,
        ``uint16`` or a float type with 0..1 as the normal range. Frames read from a file keep the
        file's own integers, so that an original which passes through is written back bit for bit.
    seconds: presentation time on the clip's clock.
    original: True when the picture is a source frame, untouched.
    position: of an output frame, the instant in source frames that it shows; None as read from a file.
    confidence: of a made frame, its predicted PSNR in dB against the true one, where it was asked for.
    maps: ``(H, W, 2)`` float32 on the CPU, where asked for: occlusion (1: seen from one side only) and confidence
        (1: sure), both 0..1.
    """

    pixels: Tensor
    seconds: Fraction
    original: bool = True
    position: Position | None = None
    confidence: float | None = None
    maps: Tensor | None = None


@dataclass(frozen=True, slots=True)
class Reach:
    """What a model needs around an instant, and which instants it can make.

    before, after: source frames needed on each side of an interval, its own two ends included
        (1, 1 = the pair; 3, 3 = three nested pairs). Fewer are given at the ends of the clip.
    times: ``any`` instant strictly between two frames, or only their ``middle`` (other instants are
        then reached by halving again).
    peel: 0 = all instants of an interval in one step, from source frames; k ≥ 1 = outside-in, the two
        outermost instants first, each further pair from the two made before it, with the last k
        enclosing pairs in the window.
    """

    before: int = 1
    after: int = 1
    times: Literal["any", "middle"] = "any"
    peel: int = 0


class Flow(NamedTuple):
    """Motion from instants between two frames to those frames. A tuple on purpose: ComfyUI's memory
    accounting sees tensors in tuples, not in objects.

    flow: ``(T, 4, H, W)`` float32 pixels, channels (t→left x, t→left y, t→right x, t→right y).
    mask: ``(T, 1, H, W)`` float32 logit of "take the left frame".
    """

    flow: Tensor
    mask: Tensor


class FlowSource(Protocol):
    """Anything that finds motion: a RIFE network, DIS, a teacher.

    modulus: images handed to ``flow`` have height and width divisible by this.
    padding: how they were padded to it, ``zeros`` or ``replicate``.
    """

    modulus: int
    padding: Literal["zeros", "replicate"]

    def features(self, image: Tensor, position: Position | None = None) -> Any:
        """``(1, 3, H, W)`` in 0..1 -> whatever is worth computing once per frame (None if nothing).

        position: the frame's place in the clip, for sources that look motion up instead of finding it.
        """

    def flow(self, left: Tensor, right: Tensor, left_features: Any, right_features: Any, times: Tensor) -> Flow:
        """``(1, 3, H, W)`` twice and times ``(T,)`` in (0, 1) -> Flow for these T instants."""


class Window(Protocol):
    """The part of a clip a model sees for one step."""

    positions: tuple[Position, ...]
    """Positions of ``images``, ascending."""
    images: tuple[Tensor, ...]
    """``(1, C, H, W)`` float32 on the compute device, C = 3, or 4 with premultiplied colour first."""
    times: tuple[Position, ...]
    """Positions to make, ascending, all within one pair of neighbouring ``positions``."""

    def instants(self, left: Position) -> tuple[Position, ...]:
        """All positions that the run wants strictly inside the interval that starts at source frame ``left``.

        Unlike ``times`` it does not depend on how a run is cut into steps and batches.
        """

    def once(self, name: Hashable, positions: tuple[Position, ...], make: Callable[[], Any]) -> Any:
        """``make()``, computed once and kept until one of ``positions`` leaves the engine's store."""


class Model(Protocol):
    """What the engine runs: a callable with a Reach.

    It takes pictures of any size: what a network must have padded, it pads itself. A model that can get by with
    less memory for the same picture has a method ``shrink() -> bool``, which makes it do so from the next call
    on; False: it cannot, or no further.
    """

    reach: Reach

    def __call__(self, window: Window) -> Tensor:
        """-> ``(T, C, H, W)`` float32, one picture for each of ``window.times``."""


@dataclass(frozen=True, slots=True)
class Span:
    """How a restorer walks through a clip.

    makes: frames that a step makes. context: frames on each side that it sees beyond those.
    blend: frames that a step and the next one both make; they are mixed, from the one to the other.
    ends: what is seen beyond the first and the last frame of a shot: that frame again (``replicate``), the frames
        mirrored there (``reflect``), or nothing (``none``: fewer frames are seen).
    """

    makes: int = 1
    context: int = 0
    blend: int = 0
    ends: Ends = "none"


class Restorer(Protocol):
    """What the engine restores with: a callable that makes frames anew at their own instants.

    It takes pictures of any size, and may have a method ``shrink() -> bool`` as a Model has.
    """

    span: Span
    scale: int
    """The pictures it makes are so many times as high and wide."""

    def __call__(self, window: Window) -> Tensor:
        """-> ``(T, C, scale * H, scale * W)`` float32, one picture for each of ``window.times``.

        ``window.positions`` are the frames it sees, in order; beyond the ends of a shot positions repeat as
        ``span.ends`` says. ``times`` are some of them.
        """

    def working_bytes(self, height: int, width: int) -> int:
        """About how much memory a call takes at its peak, for pictures of this size, beside those it is given."""


class Host(Protocol):
    """Where the work runs and who watches. ComfyUI, the command line and the tests each bring one."""

    device: torch.device
    dtype: torch.dtype
    """Precision of weights and convolutions; flows, grids and spectra stay float32."""

    def place(self, module: nn.Module) -> nn.Module:
        """Move a network to ``device`` and ``dtype``, ready to run."""

    def progress(self, done: int, total: int | None, preview: Tensor | None = None) -> None:
        """``done`` of ``total`` output frames (None: unknown); ``preview`` is its ``(H, W, C)`` pixels."""

    def raise_if_cancelled(self) -> None:
        """Raise errors.Cancelled, or the host's own exception, when the user asked to stop."""

    def is_oom(self, error: BaseException) -> bool:
        """Whether ``error`` means that the device ran out of memory."""

    def free(self) -> None:
        """Return cached device memory, so that a smaller attempt can succeed."""

    def free_bytes(self) -> int | None:
        """Memory that work on the device may still take; None: unknown."""


@dataclass(frozen=True, slots=True)
class Miss:
    """Why a state dict does not belong to a family: ``why`` names the first thing that is missing."""

    why: str


@dataclass(frozen=True, slots=True)
class Family:
    """One architecture: how its files are recognised and how its network is built.

    name: folder and command-line name. title: as people write it.
    canonical: renames foreign key spellings and drops training left-overs; must be idempotent.
    detect: canonical state and the file's metadata -> the family's Config, or a Miss. Reads names and
        shapes, never file names.
    build: Config -> network with random weights whose state dict is the canonical one.
    describe: Config -> metadata worth writing into a converted file (what shapes cannot tell).
    source: of a ``flow`` family: the FlowSource that runs a placed network,
        ``source(network, scale=…, ensemble=…)``.
    model: of an ``interpolation`` family, whose network makes pictures without anybody's flow: the Model that runs a
        placed network, ``model(network, …)`` with settings of its own.
    restorer: of a ``restore`` family: the Restorer that runs a placed network, ``restorer(network, check=…, …)``.
        ``check`` is called now and then, for calls take long; what it raises ends the call. settings: names of what
        else it can be told.
    """

    name: str
    title: str
    kind: Literal["flow", "fusion", "interpolation", "restore"]
    detect: Callable[[Mapping[str, Tensor], Mapping[str, str]], Any | Miss]
    build: Callable[[Any], nn.Module]
    canonical: Callable[[Mapping[str, Tensor]], dict[str, Tensor]] = field(default=dict)
    describe: Callable[[Any], dict[str, str]] = field(default=lambda config: {})
    source: Callable[..., FlowSource] | None = None
    model: Callable[..., Model] | None = None
    restorer: Callable[..., Restorer] | None = None
    settings: tuple[str, ...] = ()
