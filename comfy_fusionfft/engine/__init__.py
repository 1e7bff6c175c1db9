"""Runs a model over a stream of frames: ``run(frames, model, timing, host)``."""

from .run import run

__all__ = ["run"]
