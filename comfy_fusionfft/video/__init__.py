"""Files on disk ↔ streams of ``contract.Frame``: video through PyAV, image folders through OpenCV.

    clip = open_clip("in.mp4")
    write_clip("out.mp4", clip, like=clip.info, sound=Sound(Path("in.mp4")))

    work = open_work("out.mp4", key)     # what a run that was cut short left, if any
    write_clip("out.mp4", (... from frame number work.done on ...), like=clip.info, work=work)

Neither PyAV nor OpenCV is imported before a file that needs it is touched.
"""

from .clip import Clip, ClipInfo, open_clip
from .colour import Colour
from .sound import Sound
from .work import Work, open_work
from .write import Written, check_target, write_clip

__all__ = [
    "Clip",
    "ClipInfo",
    "Colour",
    "Sound",
    "Work",
    "Written",
    "check_target",
    "open_clip",
    "open_work",
    "write_clip",
]
