"""A small FTVSR network, and a clip for it."""

import torch
import torch.nn.functional as F
from small_nets import FTVSR as TINY

from comfy_fusionfft.families.ftvsr import FTVSRConfig
from comfy_fusionfft.families.ftvsr.net import FTVSR


def tiny_net(**changed) -> FTVSR:
    """Carries things along strongly enough for them to be seen, and finds some motion."""
    torch.manual_seed(7)
    return FTVSR(FTVSRConfig(**{name: getattr(TINY, name) for name in TINY.__dataclass_fields__} | changed)).eval()


def clip(count=4, size=(16, 32), batch=1) -> list[torch.Tensor]:
    torch.manual_seed(2)
    wide = F.interpolate(torch.rand(batch, 3, 8, 16), (size[0], size[1] + 3 * count), mode="bicubic").clamp(0, 1)
    return [wide[..., 3 * i : 3 * i + size[1]].contiguous() for i in range(count)]
