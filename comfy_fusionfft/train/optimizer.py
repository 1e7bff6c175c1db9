"""The optimiser: orthogonalised momentum for inner convolutions, AdamW for everything else.

A convolution's weight is a matrix (out, in · k · k) whose gradient is nearly of low rank; plain Adam then
learns a few directions and leaves the rest. Replacing the momentum by the nearest semi-orthogonal matrix
moves all directions alike, at the cost of a few small matrix products. Inputs, outputs, biases and gains
keep AdamW.

Source: K. Jordan et al., "Muon", 2024 (the iteration's coefficients); J. Liu et al., "Muon is scalable for
LLM training", 2025 (the scale that lets both kinds share one learning rate).
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping
from types import MappingProxyType

import torch
from torch import Tensor, nn

MATRIX_SIDE = 16
"""Convolutions with fewer input or output channels are left to AdamW."""


class Mixed(torch.optim.Optimizer):
    """Both rules in one optimiser, so that one state and one schedule serve them.

    Parameter groups with ``matrix=True`` hold convolution weights ``(out, in, k, k)``.
    """

    def __init__(self, groups: list[dict], rate: float = 1e-3):
        defaults = {
            "weight_decay": 0.0,
            "matrix": False,
            "momentum": 0.95,
            "betas": (0.9, 0.99),
            "eps": 1e-8,
            "share": 1.0,
        }
        super().__init__(groups, {"lr": rate} | defaults)

    @torch.no_grad()
    def step(self, closure=None) -> None:
        for group in self.param_groups:
            params = [p for p in group["params"] if p.grad is not None]
            if not params:
                continue
            if group["weight_decay"]:
                torch._foreach_mul_(params, 1 - group["lr"] * group["weight_decay"])
            (self._turn if group["matrix"] else self._adam)(params, group)

    def _adam(self, params: list[Tensor], group: dict) -> None:
        low, high = group["betas"]
        for p in params:
            state = self.state[p]
            if not state:
                state["step"] = torch.zeros(())
                state["first"], state["second"] = torch.zeros_like(p), torch.zeros_like(p)
            state["step"] += 1
            state["first"].lerp_(p.grad, 1 - low)
            state["second"].mul_(high).addcmul_(p.grad, p.grad, value=1 - high)
            count = int(state["step"])  # lives on the CPU: no wait for a device
            root = (state["second"] / (1 - high**count)).sqrt_().add_(group["eps"])
            p.addcdiv_(state["first"], root, value=-group["lr"] / (1 - low**count))

    def _turn(self, params: list[Tensor], group: dict) -> None:
        alike = defaultdict(list)
        for p in params:
            alike[tuple(p.shape)].append(p)
        for shape, members in alike.items():
            moved = []
            for p in members:
                state = self.state[p]
                if not state:
                    state["momentum"] = torch.zeros_like(p)
                state["momentum"].lerp_(p.grad, 1 - group["momentum"])
                moved.append(torch.lerp(p.grad, state["momentum"], group["momentum"]).flatten(1))
            update = orthogonal(torch.stack(moved))  # (n, out, in·k·k)
            size = 0.2 * max(update.shape[-2:]) ** 0.5  # an element is then as large as one of Adam's
            for p, change in zip(members, update, strict=True):
                p.add_(change.view(shape).to(p.dtype), alpha=-group["lr"] * size)


def orthogonal(matrices: Tensor, rounds: int = 5) -> Tensor:
    """Nearly the closest semi-orthogonal matrices of ``(n, rows, columns)``, by Newton and Schulz's iteration.

    Singular values end up between about 0.7 and 1.2, which is as good as 1 here. Computed in bfloat16.
    """
    a, b, c = 3.4445, -4.7750, 2.0315
    x = matrices / matrices.norm(dim=(-2, -1), keepdim=True).clamp(min=1e-12)
    tall = x.shape[-2] > x.shape[-1]
    x = (x.mT if tall else x).bfloat16()
    for _ in range(rounds):
        square = x @ x.mT
        x = a * x + (b * square + c * (square @ square)) @ x
    return (x.mT if tall else x).float()


def optimizer_for(net: nn.Module, decay: float, gentle: Mapping[nn.Module, float] = MappingProxyType({})) -> Mixed:
    """Groups of a network's parameters: inner convolutions, other weights, and what must not decay.

    gentle: layers whose output is the picture itself, or motion in pixels, and the share of the learning rate
    that they can bear. They get AdamW.
    """
    matrices, weights, others = [], [], []
    for module in net.modules():
        if module in gentle:
            continue
        for name, p in module.named_parameters(recurse=False):
            inner = type(module) is nn.Conv2d and min(p.shape[:2]) >= MATRIX_SIDE if name == "weight" else False
            (matrices if inner else weights if name == "weight" and p.ndim > 1 else others).append(p)
    groups = [
        {"params": matrices, "weight_decay": decay, "matrix": True},
        {"params": weights, "weight_decay": decay},
        {"params": others},
        *({"params": list(layer.parameters()), "share": share} for layer, share in gentle.items()),
    ]
    return Mixed([group for group in groups if group["params"]])
