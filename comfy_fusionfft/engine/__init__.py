"""Runs models over streams of frames: ``run(frames, model, timing, host)``, ``find_flow(frames, source, …)``."""

from .flow import PairFlow, find_flow
from .run import AtCut, Manner, run

__all__ = ["AtCut", "Manner", "PairFlow", "find_flow", "run"]
