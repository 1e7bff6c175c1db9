"""``RIFEDatasetMulti``: image folders as a map-style dataset of fusion inputs with their true in-between frames.

For training loops of one's own. ``fusionfft train fusionfft`` does not use it: drawing crops from packs that
lie decoded in memory is many times faster.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from fractions import Fraction
from pathlib import Path
from typing import NamedTuple

import torch
from safetensors.torch import load_file, save
from torch import Tensor
from torch.utils.data import Dataset

from . import api
from .contract import Flow, FlowSource, Host
from .engine.picture import to_picture
from .errors import InputError
from .families.fusionfft.anchors import link
from .families.fusionfft.inputs import FusionInput, from_links
from .host import PlainHost
from .ops.pad import crop, pad_to
from .video import open_clip
from .video.read_images import list_images

CACHE_BYTES = 4 * 2**30


class Place(NamedTuple):
    """A dropped frame: clip, its number, and the two kept frames around it."""

    clip: int
    wanted: int
    left: int
    right: int


class RIFEDatasetMulti(Dataset):
    """Every frame of a clip that a spacing drops, with the kept frames around it and their motion.

    gt_paths: folders of images, each a clip. steps: spacings of the kept frames; 2 drops every other one.
    num_anchors: nested pairs to hand over, those beyond the clip marked invalid.
    flow: see api.load_flow. cache_flows: keep flow on disk in ``cache``, half precision, at most ``cache_bytes``
    (then new flow is no longer stored). precompute_flows: find all of it now.

    An item is ``(FusionInput with B = 1, truth (1, 3, H, W))``, float32 on the CPU; whole frames, so batches
    need crops or frames of one size.
    """

    def __init__(
        self,
        gt_paths: Sequence[str | Path],
        steps: Sequence[int] = (2,),
        cache_flows: bool = True,
        precompute_flows: bool = True,
        *,
        num_anchors: int = 3,
        flow: str | Path | FlowSource = "auto",
        cache: str | Path = "flow-cache",
        cache_bytes: int = CACHE_BYTES,
        host: Host | None = None,
    ) -> None:
        self.host = host or PlainHost("cpu", "float32")
        self.source = api.load_flow(flow, host=self.host) if isinstance(flow, (str, Path)) else flow
        self.num_anchors = num_anchors
        self.cache, self._room = (Path(cache), cache_bytes) if cache_flows else (None, 0)
        self.clips = [list_images(Path(path)) for path in gt_paths]
        self.places = [
            Place(clip, left + inner, left, left + step)
            for clip, files in enumerate(self.clips)
            for step in steps
            for left in range(0, len(files) - step, step)
            for inner in range(1, step)
        ]
        if not self.places:
            raise InputError(
                f"none of {len(self.clips)} clips is longer than {min(steps, default=2)} frames: give longer ones"
            )
        if self.cache is not None:
            self.cache.mkdir(parents=True, exist_ok=True)
            self._room -= sum(file.stat().st_size for file in self.cache.glob("*.safetensors"))
            if precompute_flows:
                for place in self.places:
                    self._motion(place)

    def __len__(self) -> int:
        return len(self.places)

    def __getitem__(self, number: int) -> tuple[FusionInput, Tensor]:
        place = self.places[number]
        step, count = place.right - place.left, len(self.clips[place.clip])
        anchors = range(1 - self.num_anchors, self.num_anchors + 1)
        numbers = [place.left + step * k for k in anchors]
        truth = self._picture(place.clip, place.wanted)
        blank = torch.zeros_like(truth)
        valid = [0 <= n < count for n in numbers]
        frames = [self._picture(place.clip, n) if there else blank for n, there in zip(numbers, valid, strict=True)]
        near, back, ahead = self._motion(place)
        time = torch.tensor([(place.wanted - place.left) / step])
        x = from_links(torch.stack(frames, 1), torch.tensor([valid]), near, back, ahead, time)
        return x, truth

    def _motion(self, place: Place) -> tuple[Flow, Tensor, Tensor]:
        """Flow for the wanted instant, and the links outwards on both sides, nearest first."""
        step, share = place.right - place.left, Fraction(place.wanted - place.left, place.right - place.left)
        near = self._flow(place.clip, place.left, place.right, share)
        absent = torch.zeros_like(near.flow[:, :2])
        middle = Fraction(max(1, step // 2), step)

        def hop(left: int, side: int) -> Tensor:
            if left < 0 or left + step >= len(self.clips[place.clip]):
                return absent
            return link(self._flow(place.clip, left, left + step, middle).flow)[side]

        hops = range(1, self.num_anchors)
        back = [hop(place.left - step * k, 1) for k in hops]
        ahead = [hop(place.left + step * k, 0) for k in hops]
        empty = absent[:, None][:, :0]
        return near, torch.stack(back, 1) if back else empty, torch.stack(ahead, 1) if ahead else empty

    def _flow(self, clip: int, left: int, right: int, share: Fraction) -> Flow:
        file = self._cached(clip, left, right, share)
        if file is not None and file.exists():
            stored = load_file(file)
            return Flow(stored["flow"].float(), stored["mask"].float())
        pictures = [self._picture(clip, number) for number in (left, right)]
        padded = [pad_to(p.to(self.host.device), self.source.modulus, self.source.padding)[0] for p in pictures]
        places = (Fraction(left), Fraction(right))
        features = [self.source.features(p, place) for p, place in zip(padded, places, strict=True)]
        with torch.no_grad():
            times = torch.tensor([float(share)], device=self.host.device)
            found = self.source.flow(*padded, *features, times)
        flow = Flow(*(crop(part, pictures[0].shape[-2:]).cpu().float() for part in found))
        if file is not None and self._room > 0:
            unfinished = file.with_suffix(".part")
            unfinished.write_bytes(save({name: t.half().contiguous() for name, t in flow._asdict().items()}))
            unfinished.replace(file)
            self._room -= file.stat().st_size
        return flow

    def _cached(self, clip: int, left: int, right: int, share: Fraction) -> Path | None:
        if self.cache is None:
            return None
        files = self.clips[clip]
        key = f"{files[left].resolve()} {files[right].resolve()} {share} {type(self.source).__name__}"
        return self.cache / f"{hashlib.sha256(key.encode()).hexdigest()[:32]}.safetensors"

    def _picture(self, clip: int, number: int) -> Tensor:
        (frame,) = open_clip(self.clips[clip][number])
        return to_picture(frame.pixels, torch.device("cpu"))[:, :3]
