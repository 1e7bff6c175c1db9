"""Runs models over streams of frames: ``run(frames, model, timing, host)``, ``find_flow(frames, source, …)``."""

from .flow import IntervalFlow, find_flow
from .run import run

__all__ = ["IntervalFlow", "find_flow", "run"]
