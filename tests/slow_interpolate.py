"""A run that can be killed, rather slow: ``python slow_interpolate.py SOURCE TARGET SETTINGS [FRAME]``.

At that frame it waits for a minute, for a signal that comes late.
"""

import json
import signal
import sys
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from comfy_fusionfft.files import interpolate_file
from comfy_fusionfft.host import PlainHost
from comfy_fusionfft.video import segments, write_images

signal.signal(signal.SIGINT, signal.default_int_handler)  # what runs in the background may inherit another
segments.SEGMENT_FRAMES = write_images.IMAGES_PER_PIECE = 8


def breathe(done: int, total: int | None) -> None:
    print(done, flush=True)
    time.sleep(60 if [str(done)] == waits else 0.01)


source, target, settings, *waits = sys.argv[1:]
interpolate_file(source, target, host=PlainHost("cpu", "float32", on_progress=breathe), **json.loads(settings))
