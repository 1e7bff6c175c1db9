"""A finished run: as JSON, as a Markdown table, and as lines while it goes."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, field
from typing import Any

from .contest import Row, Unmeasured

PATHS = {"rife": "RIFE", "fusion": "FusionFFT", "spectral": "Spectral swap"}
PRECISIONS = {"float32": "fp32", "float16": "fp16", "bfloat16": "bf16"}
PEERS = {
    "native": "ComfyUI",
    "fannovel16": "Frame-Interpolation pack",
    "vs-rife": "vs-rife",
    "fusionfft": "public FusionFFT",
    "plain": "plain FFT",
}
HEADS = (
    "",
    "size",
    "×",
    "precision",
    "s per frame",
    "against",
    "s per frame",
    "faster",
    "PSNR",
    "peak MiB",
    "its peak",
)


@dataclass
class Report:
    """machine: what it ran on and how. growth: memory by frames and by pixels. See Row for the units."""

    machine: dict[str, Any]
    rows: list[Row] = field(default_factory=list)
    growth: list[dict[str, Any]] = field(default_factory=list)
    unmeasured: list[Unmeasured] = field(default_factory=list)

    def to_json(self) -> str:
        whole = {
            "machine": self.machine,
            "rows": [asdict(row) for row in self.rows],
            "growth": self.growth,
            "unmeasured": [asdict(entry) for entry in self.unmeasured],
        }
        return json.dumps(whole, indent=1, allow_nan=False) + "\n"

    def to_markdown(self) -> str:
        """Tables for a README: the rows, the growth of memory, and what is missing."""
        lines = [self.caption(), ""]
        if self.rows:
            lines += _table(HEADS, [cells(row) for row in self.rows])
        if self.growth:
            heads = ("", "size", "frames", "peak MiB", "s per frame")
            lines += ["", "Peak memory of ours, frames streamed:", "", *_table(heads, map(_growth_cells, self.growth))]
        if self.unmeasured:
            lines += ["", "Not measured:", "", *(f"- {missing_line(entry)}" for entry in self.unmeasured)]
        return "\n".join(lines) + "\n"

    def caption(self) -> str:
        machine = self.machine
        what = machine.get("accelerator") or f"{machine['cpu']}, {machine['threads']} thread(s)"
        host = f", ComfyUI {machine['comfyui']}" if machine.get("comfyui") else ""
        return (
            f"{what}; torch {machine.get('torch', '?')}{host}. Seconds per made frame, median of runs in turn; "
            "memory: the most that was in use at once beyond what was before."
        )


def cells(row: Row) -> tuple[str, ...]:
    return (
        PATHS[row.path],
        f"{row.height}×{row.width}",
        str(row.multiplier),
        PRECISIONS.get(row.dtype, row.dtype),
        _seconds(row.seconds_per_frame),
        PEERS[row.peer] + (" RIFE" if row.path == "fusion" and row.peer == "native" else ""),
        _seconds(row.peer_seconds_per_frame),
        f"{row.ratio:.2f}×",
        "" if row.psnr_db is None else f"{row.psnr_db:.1f} dB",
        _mib(row.peak_mb),
        _mib(row.peer_peak_mb),
    )


def line(row: Row) -> str:
    """For a terminal, in columns that ``heading`` names."""
    return "  ".join(cell.ljust(width) for cell, width in zip(cells(row), _WIDTHS, strict=True)).rstrip()


def heading() -> str:
    return "  ".join(head.ljust(width) for head, width in zip(HEADS, _WIDTHS, strict=True)).rstrip()


_WIDTHS = (13, 10, 2, 9, 11, 24, 11, 7, 9, 8, 8)


def growth_line(entry: dict[str, Any]) -> str:
    kind, size, frames, peak, seconds = _growth_cells(entry)
    return f"{kind:<13}  {size:<10}  {frames:>4} frames streamed: peak {peak} MiB, {seconds} s per frame"


def missing_line(entry: Unmeasured) -> str:
    parts = [
        entry.path or "everything",
        entry.height and f"{entry.height}×{entry.width}",
        entry.multiplier and f"×{entry.multiplier}",
        entry.dtype and PRECISIONS.get(entry.dtype, entry.dtype),
        entry.frames and f"{entry.frames} frames streamed",
        entry.peer and f"against {PEERS[entry.peer]}",
        entry.device and f"on {entry.device}",
    ]
    return f"{' '.join(part for part in parts if part)}: {entry.reason}"


def _growth_cells(entry: dict[str, Any]) -> tuple[str, ...]:
    size = f"{entry['height']}×{entry['width']}"
    precision = PRECISIONS.get(entry["dtype"], entry["dtype"])
    seconds = _seconds(entry["seconds_per_frame"])
    return f"{PATHS[entry['path']]} {precision}", size, str(entry["frames"]), _mib(entry["peak_mb"]), seconds


def _table(heads: tuple[str, ...], rows: Any) -> list[str]:
    lines = [f"| {' | '.join(heads)} |", f"|{'---|' * len(heads)}"]
    return lines + [f"| {' | '.join(row)} |" for row in rows]


def _seconds(seconds: float) -> str:
    return f"{seconds:.3f}" if seconds >= 0.1 else f"{seconds:.4f}"


def _mib(value: float | None) -> str:
    return "" if value is None else f"{value:.0f}"
