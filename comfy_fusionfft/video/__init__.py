"""Files on disk ↔ streams of ``contract.Frame``: video through PyAV, image folders through OpenCV.

    clip = open_clip("in.mp4")
    write_clip("out.mp4", clip, like=clip.info)

Neither PyAV nor OpenCV is imported before a file that needs it is touched.
"""

from .clip import Clip, ClipInfo, open_clip
from .colour import Colour
from .write import Written, write_clip

__all__ = ["Clip", "ClipInfo", "Colour", "Written", "open_clip", "write_clip"]
