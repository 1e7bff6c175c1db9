"""Runs models over streams of frames: ``run(frames, model, timing, host)``, ``find_flow(frames, source, …)``,
``restore(frames, restorer, host)``."""

from .flow import PairFlow, find_flow
from .restore import restore
from .room import Room, Tile, room_for
from .run import AtCut, Manner, run
from .shortage import in_words

__all__ = ["AtCut", "Manner", "PairFlow", "Room", "Tile", "find_flow", "in_words", "restore", "room_for", "run"]
