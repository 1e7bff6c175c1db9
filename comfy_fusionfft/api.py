"""The library's front door: wires flow sources, methods and the engine. Whole files: ``files``.

    from comfy_fusionfft.api import interpolate

    for frame in interpolate(frames, multi=4, flow="dis"):  # any iterable of contract.Frame, streaming
        ...

Each command of the ``fusionfft`` command line calls one function of this module or of its neighbours
with the same names and the same defaults.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import fields
from fractions import Fraction
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, get_args

from .checkpoints import find, load
from .contract import FlowSource, Frame, Host, Model, Restorer
from .engine import AtCut, PairFlow, Tile, find_flow, in_words, run
from .engine import restore as restore_frames
from .errors import InputError
from .families.fusionfft import MAX_ANCHORS  # noqa: F401 - the nodes read it here
from .families.fusionfft.fuse import NUM_ANCHORS, SPECTRAL_ALPHA, Fuse
from .flow_clip import ClipFlow, HeldFlow
from .flow_files import StoredFlow
from .host import PlainHost
from .interpolation import prepare
from .look import Cuts, look_through
from .methods import DECAY, HISTORY, Blend, RecursiveBlend, Warp, WarpSide
from .ops import spectral
from .pace import Pace, exact_rate
from .swap import PriorKind, swap_clip

if TYPE_CHECKING:
    from torch import nn

    from .families.fusionfft import FusionNet

EMBEDDED_FLOW = "multiflow-v1"
"""The file in ``weights/`` that ``flow="auto"`` means: what measured best on the development clips (README, table)."""
EMBEDDED_RIFE = "rife-v0"
"""The file in ``weights/`` that ``flow="rife"`` means."""
EMBEDDED_FUSION = "fusionfft-v2"
"""The file in ``weights/`` that fusion uses."""
DEFAULT_METHOD = "fusion"
"""What ``method="auto"`` means."""
FLOW_METHODS = ("fusion", "rife", "recursive")
"""What can be done with a flow source."""
METHODS = ("auto", *FLOW_METHODS, "waveletvfi")
SCALES = (0.25, 0.5, 1.0, 2.0, 4.0)
WARP_SIDES: tuple[str, ...] = get_args(WarpSide)
SPECTRAL_LO, SPECTRAL_HI = spectral.LO, spectral.HI


def load_flow(
    flow: str | Path | nn.Module = "auto", *, host: Host, scale: float = 1.0, uhd: bool = False, ensemble: bool = False
) -> FlowSource:
    """The flow source called ``flow``, placed on the host's device.

    flow: ``auto`` (the embedded network that chooses among classical searches), ``dis`` (one of them, no weights),
        ``rife`` (the embedded RIFE), a safetensors file or the name of one in the searched folders, or a folder
        of flow that ``extract_flow`` made; or a network of ``checkpoints.load`` that is in its place already.
    scale: 0.25, 0.5, 1, 2 or 4; below 1 flow is searched on a smaller picture (large motion, 4K).
    uhd: scale 1 becomes 0.5.
    ensemble: run RIFE in both directions and average, for networks that have it.
    """
    if scale not in SCALES:
        raise InputError(f"scale {scale} is not one of {', '.join(f'{s:g}' for s in SCALES)}: choose the nearest")
    scale = 0.5 if uhd and scale == 1.0 else scale
    if isinstance(flow, (str, Path)):
        if Path(flow).is_dir():
            return StoredFlow(flow)
        if flow == "dis":
            from .families.dis import DISFlow

            return DISFlow(scale=scale)
        name = {"auto": EMBEDDED_FLOW, "rife": EMBEDDED_RIFE}.get(str(flow), flow)
        flow = _placed(name, "flow", host)
    return flow.family.source(flow, scale=scale, ensemble=ensemble)


def load_method(
    method: str,
    source: FlowSource | None,
    *,
    host: Host,
    history: int = HISTORY,
    decay: float = DECAY,
    fusion: str | Path | FusionNet = "auto",
    num_anchors: int = NUM_ANCHORS,
    anchor_flow: str = "chained",
    spectral_alpha: float = SPECTRAL_ALPHA,
    spectral_lo: float = spectral.LO,
    spectral_hi: float = spectral.HI,
    spectral_prior: str = "neighbours",
    tile: int | None = None,
    weights: str | Path | nn.Module | None = None,
    threshold: float | Literal["auto"] = "auto",
    explain: bool = False,
) -> Model:
    """The model called ``method``, on a flow source where it needs one (``needs_flow``).

    method: ``fusion`` (several frame pairs fused per pixel), ``rife`` (plain blend of the nearest pair),
        ``recursive`` (peeling; history, decay: methods.RecursiveBlend) or ``waveletvfi`` (middles by a network that
        finds its own motion; weights: its file, or the network in its place; threshold: families.waveletvfi.model).
    fusion: weights, ``auto`` for the embedded ones, ``none`` for bent motion without a network; or a
        network that is in its place already.
    num_anchors, anchor_flow, spectral_alpha, spectral_lo, spectral_hi, spectral_prior, tile: of
        families.fusionfft.Fuse.
    explain: also put out maps of occlusion and confidence.
    """
    if method not in METHODS:
        raise InputError(f"method {method!r} is not known: use {', '.join(METHODS)}")
    method = DEFAULT_METHOD if method == "auto" else method
    if method == "waveletvfi":
        if weights is None:
            raise InputError(
                "waveletvfi has no weights of ours: `fusionfft weights list` says where they are; give weights"
            )
        net = _placed(weights, "interpolation", host) if isinstance(weights, (str, Path)) else weights
        return net.family.model(net, threshold=threshold, explain=explain)
    assert source is not None
    if method == "rife":
        return Blend(source, explain=explain)
    if method == "recursive":
        if history < 1:
            raise InputError(f"history {history} is below 1: 1 peels without memory, {HISTORY} is the default")
        return RecursiveBlend(source, history=history, decay=decay, explain=explain)
    net = None if isinstance(fusion, (str, Path)) else fusion
    if net is None and fusion != "none":
        net = _placed(EMBEDDED_FUSION if fusion == "auto" else fusion, "fusion", host)
    return Fuse(
        net,
        source,
        num_anchors=num_anchors,
        anchor_flow=anchor_flow,
        spectral_alpha=spectral_alpha,
        spectral_lo=spectral_lo,
        spectral_hi=spectral_hi,
        spectral_prior=spectral_prior,
        tile=tile,
        explain=explain,
    )


def _placed(name: str | Path, kind: str, host: Host) -> nn.Module:
    """The network of a file, where it shall run."""
    with in_words(host):
        return host.place(load(find(name, kind=kind)).module)


def needs_flow(method: str) -> bool:
    """Whether a method of ``load_method`` works on a flow source."""
    return method != "waveletvfi"


def interpolate(
    frames: Iterable[Frame],
    *,
    method: str = "auto",
    flow: str | Path | FlowSource = "auto",
    scale: float = 1.0,
    uhd: bool = False,
    ensemble: bool = False,
    cuts: Cuts = (),
    at_cut: AtCut = "hold",
    dedupe: bool = False,
    hold_below: float | None = None,
    maps: bool = False,
    rate: Fraction | float | str | None = None,
    host: Host | None = None,
    total: int | None = None,
    **settings: Any,
) -> Iterator[Frame]:
    """Frames in, smoother frames out; originals that fall on an output instant pass untouched.

    settings: the fields of ``pace.Pace`` say what the output's time shall be (``multi=4``, ``fps=60``, ``slow=2``,
        ``speed="0:1, 2:0.25"``, ``count=121``, ``loop=True``, ``shutter=0.5``, ``times=[…]``; default twice as many
        frames); the others go to ``load_method``.
    method: ``fusion``, ``rife``, ``recursive`` or ``waveletvfi`` (``auto``: the best one).
    flow, scale, uhd, ensemble: see load_flow; a ready FlowSource is accepted as well.
    cuts: numbers of source frames that begin a new shot: nothing is looked up across a cut. ``auto`` finds them.
    at_cut: between the two frames of a cut ``hold`` shows the nearer one again, ``skip`` shows nothing.
    dedupe: leave out frames that repeat the one before, and move the others so that motion is even.
    hold_below: show the nearer source frame instead of a made one whose predicted PSNR is below so many dB.
    maps: made frames carry occlusion, confidence and predicted PSNR (contract.Frame).
    rate: the clip's frames per second, for what the frames' own times do not say (default: their average).
    host: device, precision, progress and cancel; a PlainHost when not given.
    total: expected number of output frames, for progress only.

    Frames with NaN or infinite values are refused (InputError) once a picture is to be made of them, and so are flow,
    priors and masks with such values, by every function here; nothing is cleaned. Frames that only pass are not looked
    at. Made pictures are finite and keep within 0..1, or within what the frames they are made of have beyond; alpha is
    taken as 0..1.

    Weights are loaded at the call; no frame is read before the first output is asked for. Where cuts or repeats are
    to be found, or the clip's length matters (count, loop, percentages of a speed), frames are read twice, so they
    must not be an iterator.
    """
    host = host or PlainHost()
    pace, settings = split_pace(settings)
    source = flow
    if isinstance(flow, (str, Path)):
        motion = {"scale": scale, "uhd": uhd, "ensemble": ensemble}
        source = load_flow(flow, host=host, **motion) if needs_flow(method) else None
    model = load_method(method, source, host=host, explain=maps or hold_below is not None, **settings)
    rate = None if rate is None else exact_rate(rate)
    how = {"cuts": cuts, "at_cut": at_cut, "dedupe": dedupe, "hold_below": hold_below, "maps": maps, "total": total}

    def stream() -> Iterator[Frame]:
        yield from prepare(frames, pace, model, host, rate=rate, **how).frames()

    return stream()


def load_restorer(weights: str | Path | nn.Module, *, host: Host, **settings: Any) -> Restorer:
    """What restores frames with these weights: a file, or the network in its place.

    settings: of the network's family (families.fmanet.model, families.ftvsr.model).
    """
    if isinstance(weights, (str, Path)):
        weights = _placed(weights, "restore", host)
    family = weights.family
    if unknown := [name for name in settings if name not in family.settings]:
        raise InputError(f"{family.title} has no setting {unknown[0]!r}: it has {', '.join(family.settings)}")
    return family.restorer(weights, check=host.raise_if_cancelled, **settings)


def restore(
    frames: Iterable[Frame],
    restorer: str | Path | nn.Module | Restorer,
    *,
    cuts: Cuts = (),
    tile: Tile = "auto",
    host: Host | None = None,
    total: int | None = None,
    **settings: Any,
) -> Iterator[Frame]:
    """Frames in, as many frames out at the same times, larger and better.

    restorer: weights, a network in its place, or what load_restorer made. settings: see load_restorer.
    cuts: numbers of source frames that begin a new shot: nothing is looked up across a cut; ``auto`` finds them, and
        reads the frames twice, so they must not be an iterator.
    tile: side in pixels of overlapping squares to work on; ``none``: whole pictures; ``auto``: as memory demands. A
        network that looks at a picture as a whole makes slightly different ones in tiles.
    host, total: see interpolate.
    """
    host = host or PlainHost()
    if isinstance(restorer, (str, Path)) or hasattr(restorer, "family"):
        restorer = load_restorer(restorer, host=host, **settings)

    def stream() -> Iterator[Frame]:
        starts = cuts
        if isinstance(cuts, str):
            starts = look_through(frames, cuts=cuts, dedupe=False, rate=None, host=host).edit.cuts
        yield from restore_frames(frames, restorer, host, cuts=starts, tile=tile, total=total)

    return stream()


def split_pace(settings: Mapping[str, Any]) -> tuple[Pace, dict[str, Any]]:
    """Pace's fields among these settings as a Pace, and the other ones."""
    names = {field.name for field in fields(Pace)}
    pace = Pace(**{name: value for name, value in settings.items() if name in names})
    return pace, {name: value for name, value in settings.items() if name not in names}


def extract_flow(
    frames: Iterable[Frame],
    *,
    multi: int | None = None,
    fps: Fraction | float | str | None = None,
    flow: str | Path | FlowSource = "auto",
    scale: float = 1.0,
    uhd: bool = False,
    ensemble: bool = False,
    anchor_flow: str = "chained",
    num_anchors: int = NUM_ANCHORS,
    host: Host | None = None,
    total: int | None = None,
) -> Iterator[PairFlow]:
    """The first block alone: motion for the instants of a multiplier or rate, one interval at a time.

    anchor_flow, num_anchors: ``chained`` anchors need the neighbouring frames' flow alone, however many they
        are; for ``nested`` ones the wider pairs are asked about as well.
    total: number of frames, for progress only.

    ``flow_files.write_flow`` stores it, ``flow_clip.collect`` holds it; ``fuse`` then uses it.
    """
    host = host or PlainHost()
    source = (
        load_flow(flow, host=host, scale=scale, uhd=uhd, ensemble=ensemble) if isinstance(flow, (str, Path)) else flow
    )
    nested = num_anchors if anchor_flow == "nested" else 1
    return find_flow(frames, source, Pace(multi, fps).timing(None), host, nested=nested, total=total)


def fuse(
    frames: Iterable[Frame],
    flow: str | Path | ClipFlow,
    *,
    multi: int | None = None,
    fps: Fraction | float | str | None = None,
    host: Host | None = None,
    total: int | None = None,
    **method_settings: Any,
) -> Iterator[Frame]:
    """The second block alone: fusion along flow found by ``extract_flow`` for the same clip and instants.

    flow: a folder, or a ClipFlow, which says its instants and its kind of anchors itself (of a clip too short for pairs
        wider than neighbours: chained, unless ``anchor_flow`` is given).
    """
    settings = {"method": "fusion", "host": host, "total": total, **method_settings}
    if isinstance(flow, ClipFlow):
        anchor_flow = "nested" if flow.nested else "chained"
        return interpolate(
            frames, times=flow.positions(), flow=HeldFlow(flow), **{"anchor_flow": anchor_flow, **settings}
        )
    return interpolate(frames, multi=multi, fps=fps, flow=StoredFlow(flow), **settings)


def warp(
    frames: Iterable[Frame],
    flow: str | Path | ClipFlow,
    *,
    side: WarpSide = "blend",
    multi: int | None = None,
    fps: Fraction | float | str | None = None,
    host: Host | None = None,
    total: int | None = None,
) -> Iterator[Frame]:
    """Frames moved along flow found by ``extract_flow``, without any network: see methods.Warp.

    They need not be the frames that the flow was found between: masks or depth of the same clip move alike.
    """
    if side not in WARP_SIDES:
        raise InputError(f"side {side!r} is not known: use {', '.join(WARP_SIDES)}")
    held = isinstance(flow, ClipFlow)
    model = Warp(HeldFlow(flow) if held else StoredFlow(flow), side)
    timing = Pace(multi, fps, flow.positions() if held else None).timing(None)
    return run(frames, model, timing, host or PlainHost(), total=total)


def spectral_swap(
    frames: Iterable[Frame],
    prior: Iterable[Frame],
    *,
    alpha: float = SPECTRAL_ALPHA,
    lo: float = spectral.LO,
    hi: float = spectral.HI,
    soft: bool = True,
    clamp_gain: bool = True,
    prior_kind: PriorKind = "neighbours",
    host: Host | None = None,
    total: int | None = None,
) -> Iterator[Frame]:
    """The third block alone: lend ``frames`` the fine detail's strength of ``prior``.

    prior: any clip on the same clock, such as the source of an interpolated one. Its two frames around a
        picture's time are mixed by time; a picture shown at the very time of a prior frame passes untouched.
    alpha: 0..1. lo, hi, soft, clamp_gain: see ops.spectral.delta. Results are clamped to 0..1, or as far
        beyond as the pictures that take part go.
    prior_kind: ``neighbours``, as said; ``nearest``, the nearer of the two alone; ``paired``, frame k lends
        to picture k (a prior of one frame to all), and nothing passes untouched.
    """
    return swap_clip(
        frames,
        prior,
        host or PlainHost(),
        alpha,
        lo=lo,
        hi=hi,
        soft=soft,
        clamp_gain=clamp_gain,
        prior_kind=prior_kind,
        total=total,
    )
