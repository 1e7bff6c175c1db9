"""Runs that the system gives too little memory: prints what came of each, and at last of one that has enough again."""

import json
import resource
from fractions import Fraction
from pathlib import Path

import torch

from comfy_fusionfft import api
from comfy_fusionfft.contract import Frame
from comfy_fusionfft.errors import FusionFFTError
from comfy_fusionfft.host import PlainHost
from comfy_fusionfft.timeline import Multiply

MEBIBYTES = (4, 16, 40)
"""Of address space beyond what is in use: from too little for the pictures to nearly enough."""
HOST = PlainHost("cpu", "float32")
torch.manual_seed(0)
FRAMES = [Frame(torch.randint(0, 255, (144, 160, 3), dtype=torch.uint8), Fraction(k)) for k in range(2)]


def model(flow):
    return api.load_method("rife", api.load_flow(flow, host=HOST), host=HOST)


def run(flow):
    return torch.stack([frame.pixels for frame in api.run(FRAMES, model(flow), Multiply(2), HOST)]).int()


def limited(flow, more, want):
    used = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    made = model(flow)
    resource.setrlimit(resource.RLIMIT_AS, (used + more * 2**20, resource.RLIM_INFINITY))
    try:
        found = torch.stack([frame.pixels for frame in api.run(FRAMES, made, Multiply(2), HOST)]).int()
        return {"frames": len(found), "difference": int((found - want).abs().max())}
    except FusionFFTError as error:
        return {"error": str(error).partition("\n")[0]}
    finally:
        resource.setrlimit(resource.RLIMIT_AS, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))


want = {flow: run(flow) for flow in ("dis", "rife")}
for flow in want:
    for more in MEBIBYTES:
        print(json.dumps({"flow": flow, **limited(flow, more, want[flow])}), flush=True)
print(json.dumps({"frames": 3, "difference": max(int((run(f) - w).abs().max()) for f, w in want.items())}))
