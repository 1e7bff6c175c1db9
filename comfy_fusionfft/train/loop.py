"""The training loop: a recipe, packs, a time budget -> half-precision weights and a state to go on from.

In: a *recipe*, a module that knows its network, its stages and its losses (``families/<name>/recipe.py``):
``net``, ``family``, ``metadata()``, ``stages`` (each with a ``name``, a ``share`` of the whole and a peak
learning ``rate``), ``learns(stage)``, ``forward(batch, stage) -> (loss, terms)`` and
``predict(img0, img1, t, stage) -> (picture, flow)``; and a folder of packs. A network that looks at something
else than two frames brings ``sampler``, ``draw``, ``validation`` and ``validate`` instead of ``predict``; what
they do is said at ``validate.Triples``, which a recipe without them gets. ``gentle`` may name layers that learn slower.
``material(folder)`` may say what the weights learnt from, where that is no packs.
``part`` is set before each step: how far the stage has come, 0..1, for what changes on the way.

Out, in ``out``: ``state/`` (all that is needed to go on exactly where it stopped), ``log/`` (TensorBoard),
``sheets/`` (PNG), and, after each validation and at the end, ``<family>.safetensors``: the running average
of the weights, in half precision, with its history as metadata.

Accelerate brings devices, several processes and mixed precision; parameters and optimiser stay float32.
"""

from __future__ import annotations

import json
import logging
import math
import signal
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file
from torch import Tensor, nn

from ..errors import InputError
from .optimizer import optimizer_for
from .pack import read_index
from .sheets import sheet
from .state import load_state, save_state
from .validate import Triples

logger = logging.getLogger(__name__)

LOG_SECONDS = 20


@dataclass(frozen=True, slots=True)
class Budget:
    """How long: ``minutes`` of training (validation and saving not counted), or ``steps``; one of them.

    validate_every, save_every: minutes, or steps when the budget is in steps.
    """

    minutes: float | None = None
    steps: int | None = None
    validate_every: float = 5
    save_every: float = 5

    def __post_init__(self):
        if (self.minutes is None) == (self.steps is None):
            raise InputError("Training needs a budget: give minutes or steps, not both")


@dataclass
class Progress:
    """Where a run stands; saved with the state. ``seconds`` counts training steps only."""

    step: int = 0
    samples: int = 0
    seconds: float = 0.0
    best: float = -math.inf
    history: list[dict[str, Any]] = field(default_factory=list)

    def spent(self, budget: Budget) -> float:
        return self.step if budget.steps else self.seconds / 60

    def fraction(self, budget: Budget) -> float:
        return min(1.0, self.spent(budget) / (budget.steps or budget.minutes))


def train(
    recipe: nn.Module,
    packs_dir: Path,
    out: Path,
    budget: Budget,
    *,
    seed: int = 0,
    device: str | None = None,
    precision: str | None = None,
    average: float = 0.999,
    decay: float = 1e-4,
    clip: float = 1.0,
    grow: int = 1,
    resume: bool = True,
    stages: tuple[str, ...] | None = None,
    wandb: str | None = None,
    report: Callable[[str], None] = logger.info,
) -> Progress:
    """Train until the budget is spent, or SIGINT or SIGTERM arrives; save, and return where it stands.

    device: ``cpu`` keeps Accelerate off a GPU; None takes what there is. precision: ``no`` or ``bf16``;
    None takes bf16 wherever the device computes it. average: decay of the weights' running average.
    grow: multiplies the recipe's batches, which are meant for a CPU; a data-centre GPU is idle below 8 or so.
    resume: go on from ``out/state`` if it is there. stages: only these, shares rescaled.
    wandb: also log to this project of Weights & Biases, whose package must be installed.
    """
    from accelerate import Accelerator, DistributedDataParallelKwargs

    if precision is None:
        precision = "bf16" if _has_bf16(device) else "no"
    accelerator = Accelerator(
        mixed_precision=precision,
        cpu=device == "cpu",
        log_with=["tensorboard", "wandb"] if wandb else "tensorboard",
        project_dir=str(out / "log"),
        # A stage trains a part of the network.
        kwargs_handlers=[DistributedDataParallelKwargs(find_unused_parameters=True)],
    )
    torch.manual_seed(seed)
    plan = [stage for stage in recipe.stages if stages is None or stage.name in stages]
    if not plan:
        names = ", ".join(stage.name for stage in recipe.stages)
        raise InputError(f"No stage named {', '.join(stages)}; this recipe has {names}")
    _lay_out(recipe)
    weights = dict(recipe.net.named_parameters())
    optimizer = optimizer_for(recipe.net, decay, getattr(recipe, "gentle", {}))
    model, optimizer = accelerator.prepare(recipe, optimizer)
    main = accelerator.is_main_process
    report = report if main else (lambda line: None)
    data = recipe if hasattr(recipe, "sampler") else Triples(recipe)
    kept = data.validation(packs_dir, accelerator.device) if main else None
    sampler = data.sampler(packs_dir, accelerator.device, seed * 1000 + accelerator.process_index)
    averaged = {name: p.detach().clone() for name, p in weights.items()}
    progress = Progress()
    if resume:
        progress = _restore(out, accelerator.process_index, weights, averaged, optimizer, sampler) or progress
    if main:
        accelerator.init_trackers(wandb or "")

    def save() -> None:
        _save(out, accelerator, weights, averaged, optimizer, sampler, progress)

    def check() -> None:
        if main:
            _validate(recipe, data, stage, averaged, weights, kept, out, progress, accelerator, report)
            _write(recipe, averaged, out, progress, accelerator.device, packs_dir)
        accelerator.wait_for_everyone()

    due_check = due_save = progress.spent(budget)
    shown, clock, recent = progress.step, time.monotonic(), []
    with _stop_signal() as stopped:
        while progress.fraction(budget) < 1:
            stage, part = stage_at(plan, progress.fraction(budget))
            for group in optimizer.param_groups:
                group["lr"] = stage.rate * schedule(part) * group["share"]
            recipe.part = (
                part  # on the recipe itself, which several processes wrap: the wrapper would keep it to itself
            )
            start = time.monotonic()
            batch = data.draw(sampler, stage, grow)
            model.train()
            for p in weights.values():
                p.grad = None
            with accelerator.autocast():
                loss, terms = model(batch, stage)
            accelerator.backward(loss)
            norm = accelerator.clip_grad_norm_(model.parameters(), clip)
            optimizer.step()
            with torch.no_grad():
                # The average follows quickly at first, or it would remember the random start.
                momentum = min(average, (1 + progress.step) / (10 + progress.step))
                torch._foreach_lerp_(list(averaged.values()), list(weights.values()), 1 - momentum)
            progress.step += 1
            drawn = stage.batch * grow * accelerator.num_processes
            progress.samples += drawn
            progress.seconds += _agree(accelerator, time.monotonic() - start)
            recent.append(terms)
            if time.monotonic() - clock > LOG_SECONDS or progress.step == 1:
                rate = drawn * (progress.step - shown) / (time.monotonic() - clock)
                shown, clock = progress.step, time.monotonic()
                numbers = {
                    name: float(torch.stack([t[name] for t in recent if name in t]).mean()) for name in terms
                } | {
                    "gradient": float(norm),
                    "rate": optimizer.param_groups[0]["lr"],
                    "samples_per_second": rate,
                }
                recent.clear()
                accelerator.log({f"train/{name}": value for name, value in numbers.items()}, step=progress.step)
                text = " ".join(f"{name} {value:.4g}" for name, value in numbers.items())
                report(f"{stage.name} {part:.0%} step {progress.step} {progress.seconds / 60:.1f} min {text}")
            spent = progress.spent(budget)
            if spent - due_check >= budget.validate_every:
                check()
                due_check = spent
            if spent - due_save >= budget.save_every:
                save()
                due_save = spent
            if _any(accelerator, bool(stopped)):
                report(f"stopped at step {progress.step}; the state is in {out / 'state'}")
                break
        else:
            if progress.step:
                stage, _ = stage_at(plan, progress.fraction(budget))
                check()
        save()
    accelerator.end_training()
    return progress


def stage_at(stages: list, fraction: float) -> tuple[Any, float]:
    """-> the stage at this fraction of the whole, and how far it has come, 0..1."""
    total, begun = sum(stage.share for stage in stages), 0.0
    for stage in stages:
        part = (fraction - begun) * total / stage.share
        if part < 1 or stage is stages[-1]:
            return stage, min(max(part, 0.0), 1.0)
        begun += stage.share / total
    raise InputError("The recipe has no stages; give it at least one")


def schedule(part: float, warmup: float = 0.02, floor: float = 0.003) -> float:
    """Share of the peak rate: a linear rise, then half a cosine down to ``floor``."""
    if part < warmup:
        return max(part / warmup, 0.02)
    return floor + (1 - floor) * 0.5 * (1 + math.cos(math.pi * (part - warmup) / (1 - warmup)))


@contextmanager
def swapped(weights: dict[str, Tensor], other: dict[str, Tensor]) -> Iterator[None]:
    """Run with ``other`` values in the parameters."""
    own = {name: p.data for name, p in weights.items()}
    for name, p in weights.items():
        p.data = other[name]
    try:
        yield
    finally:
        for name, p in weights.items():
            p.data = own[name]


def _lay_out(recipe: nn.Module) -> None:
    """Pictures' convolutions with channels last; those over time, which ``Module.to`` would stop at, as they are."""
    for p in recipe.parameters():
        if p.ndim == 4:
            p.data = p.data.to(memory_format=torch.channels_last)


def _validate(recipe, data, stage, averaged, weights, kept, out, progress, accelerator, report) -> None:
    recipe.eval()
    with swapped(weights, averaged), accelerator.autocast():
        scores, rows = data.validate(kept, stage)
    progress.best = max(progress.best, scores["psnr"])
    progress.history.append({"step": progress.step, "minutes": progress.seconds / 60, "stage": stage.name} | scores)
    accelerator.log({f"validation/{name}": value for name, value in scores.items()}, step=progress.step)
    if rows:  # none where no clip is held out
        picture = sheet(rows, out / "sheets" / f"{progress.step:07d}.png")
        for tracker in (each for each in accelerator.trackers if each.name == "tensorboard"):
            tracker.writer.add_image("samples", picture, progress.step, dataformats="HWC")
    report("validation " + " ".join(f"{name} {value:.3f}" for name, value in scores.items()))


def _write(recipe, averaged, out, progress, device, packs_dir) -> None:
    """The weights people use: averaged, half precision, with where they come from."""
    metadata = {
        "family": recipe.family,
        "data": _material(recipe, packs_dir),
        "steps": str(progress.step),
        "samples": str(progress.samples),
        "seconds": f"{progress.seconds:.0f}",
        "device": torch.cuda.get_device_name(device) if device.type == "cuda" else device.type,
        "recipe": json.dumps([stage.name for stage in recipe.stages]),
        "validation": json.dumps(progress.history[-1]),
    } | recipe.metadata()
    fixed = {name: b for name, b in recipe.net.state_dict().items() if name not in averaged}  # what no step changes
    state = fixed | {name: p.half().contiguous() for name, p in averaged.items()}
    path = out / f"{recipe.family}.safetensors"
    save_file(state, path.with_suffix(".part"), metadata=metadata)
    path.with_suffix(".part").replace(path)


def _material(recipe, folder: Path) -> str:
    """Where the weights come from: as the recipe says, where it learns from something else than packs."""
    said = recipe.material(folder) if hasattr(recipe, "material") else None
    return said or f"packs {folder.name}, {len(read_index(folder))} windows"


def _save(out, accelerator, weights, averaged, optimizer, sampler, progress) -> None:
    random = {f"sampler.{accelerator.process_index}.{k}": v for k, v in sampler.state().items()}
    if accelerator.num_processes > 1:
        from accelerate.utils import gather_object

        random = dict(pair for part in gather_object([list(random.items())]) for pair in part)
    if accelerator.is_main_process:
        tensors = {f"weight.{name}": p for name, p in weights.items()} | random
        tensors |= {f"average.{name}": p for name, p in averaged.items()}
        for name, p in weights.items():
            tensors |= {f"{key}.{name}": value for key, value in optimizer.state.get(p, {}).items()}
        numbers = {key: getattr(progress, key) for key in ("step", "samples", "seconds", "best", "history")}
        save_state(out / "state", tensors, numbers | {"best": max(progress.best, -1e9)})
    accelerator.wait_for_everyone()


def _restore(out, process, weights, averaged, optimizer, sampler) -> Progress | None:
    loaded = load_state(out / "state")
    if loaded is None:
        return None
    tensors, numbers = loaded
    with torch.no_grad():
        for name, p in weights.items():
            p.copy_(tensors[f"weight.{name}"])
            averaged[name].copy_(tensors[f"average.{name}"])
            for key in ("step", "first", "second", "momentum"):
                if f"{key}.{name}" in tensors:
                    value = tensors[f"{key}.{name}"]
                    # In the parameter's own memory format: a resumed run must round as the first one did.
                    optimizer.state[p][key] = torch.empty_like(p).copy_(value) if value.ndim else value
    random = {k: tensors.get(f"sampler.{process}.{k}") for k in ("choice", "noise")}
    if None not in random.values():
        sampler.restore(random)
    return Progress(**numbers)


@contextmanager
def _stop_signal() -> Iterator[list]:
    """A list that is no longer empty once SIGINT or SIGTERM has come."""
    caught: list[int] = []
    before = {}
    try:
        for number in (signal.SIGINT, signal.SIGTERM):
            before[number] = signal.signal(number, lambda signum, frame: caught.append(signum))
    except ValueError:  # not the main thread: whoever runs us there handles signals
        pass
    try:
        yield caught
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _agree(accelerator, seconds: float) -> float:
    """The same number in every process, or they would leave a stage at different steps."""
    if accelerator.num_processes == 1:
        return seconds
    return float(accelerator.reduce(torch.tensor(seconds, device=accelerator.device), "mean"))


def _any(accelerator, flag: bool) -> bool:
    if accelerator.num_processes == 1:
        return flag
    return bool(accelerator.reduce(torch.tensor(float(flag), device=accelerator.device), "sum") > 0)


def _has_bf16(device: str | None) -> bool:
    if device != "cpu" and torch.cuda.is_available():
        return torch.cuda.is_bf16_supported()
    return torch.ops.mkldnn._is_mkldnn_bf16_supported() and "avx512_bf16" in _cpu_flags()


def _cpu_flags() -> str:
    path = Path("/proc/cpuinfo")
    return path.read_text() if path.exists() else ""
