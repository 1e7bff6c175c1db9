"""``fusionfft bench speed``: seconds per made frame and peak memory, ours beside others, measured in one go.

How a number comes about: every contender is a process of its own (``worker.py``), all with the same Python and torch,
namely those of an installed ComfyUI, whose own node is the first peer. They draw the same clip (``scene.py``), run it
once unmeasured but for its memory, then in strict turn, one after the other; the median counts. A row compares two
contenders of one such contest (``contest.py``), so whatever else the machine does meets both.

``run.measure`` is the whole of it; ``cases.py`` says what is measured; ``report.py`` and ``plot.py`` show it. What runs
inside a worker: ``ours.py``, ``native.py`` (ComfyUI), ``packs.py`` (other people's checkouts) and ``plain.py``. A
worker's process loads this package by its path, because the repository's root must not lie on ComfyUI's import path;
hence relative imports only, and nothing here imports anything.
"""
