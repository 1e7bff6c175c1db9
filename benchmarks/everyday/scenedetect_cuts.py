"""What PySceneDetect finds: run by an interpreter that has it, for ``cuts.py``.

    PYTHON scenedetect_cuts.py FILE.npz ...

Each file holds ``frames`` ``(n, H, W, 3)`` uint8 RGB. Prints one line of JSON per file: detector -> frames that begin a
new shot.
"""

import json
import sys

import numpy as np
from scenedetect import AdaptiveDetector, ContentDetector, FrameTimecode

DETECTORS = {
    "PySceneDetect ContentDetector": lambda: ContentDetector(),
    "PySceneDetect ContentDetector, scenes of any length": lambda: ContentDetector(min_scene_len=1),
    "PySceneDetect AdaptiveDetector": lambda: AdaptiveDetector(),
    "PySceneDetect AdaptiveDetector, scenes of any length": lambda: AdaptiveDetector(min_scene_len=1),
}


def cuts(detector, frames: np.ndarray, rate: float = 24.0) -> list[int]:
    found = []
    for number, frame in enumerate(frames):
        found += detector.process_frame(FrameTimecode(number, rate), np.ascontiguousarray(frame[..., ::-1]))
    found += detector.post_process(FrameTimecode(len(frames) - 1, rate))
    return sorted({cut.frame_num for cut in found})


for path in sys.argv[1:]:
    frames = np.load(path)["frames"]
    print(json.dumps({name: cuts(make(), frames) for name, make in DETECTORS.items()}), flush=True)
