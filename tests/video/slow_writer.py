"""A run that can be killed: ``python slow_writer.py TARGET SOUND MOMENT``.

Writes 40 small frames as the resume tests do, saying how many are done. MOMENT ``7`` waits for ever after frame 7,
``mux`` while the finished file is put together.
"""

import sys
import time
from fractions import Fraction
from pathlib import Path

from video.clips import info, noise

from comfy_fusionfft.contract import Frame
from comfy_fusionfft.video import Sound, mux, open_work, segments, write_clip, write_images

FRAMES = 40
TAGS = {"title": "A walk", "prompt": '{"3": "graph"}'}


def frames(start: int = 0) -> list[Frame]:
    """Uneven times, so that a clock that began again would show; positions as of a clip slowed to a third."""
    moving = noise(FRAMES, 64, 64)
    return [
        Frame(frame.pixels, Fraction(k, 25) + Fraction(k % 3, 200), True, Fraction(k, 3))
        for k, frame in enumerate(moving)
    ][start:]


def write(target: Path, sound: Path | None, stream=frames, key: str = "same", **options):
    work = open_work(target, key)
    codec = "ffv1" if target.suffix == ".mkv" else None
    how = None if sound is None else Sound(sound, "stretch", Fraction(4, 5))
    like = info(target.parent, metadata={"creation_time": "2020-05-17T10:00:00.000000Z"})
    return write_clip(target, stream(work.done), like=like, sound=how, metadata=TAGS, work=work, codec=codec, **options)


def halting(moment: str):
    def stream(start: int):
        for number, frame in enumerate(frames(start), start):
            if str(number) == moment:
                halt()
            yield frame

    return stream


def halt() -> None:
    print("halted", flush=True)
    time.sleep(600)


if __name__ == "__main__":
    segments.SEGMENT_FRAMES = write_images.IMAGES_PER_PIECE = 8
    target, sound, moment = sys.argv[1:]
    if moment == "mux":
        whole = mux.joined

        def joined(*arguments):
            for number, packet in enumerate(whole(*arguments)):
                if number == 20:
                    halt()
                yield packet

        mux.joined = joined
    write(Path(target), Path(sound) if sound else None, halting(moment))
