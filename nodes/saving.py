"""Videos that nodes write: the inputs that say how, a name that a stopped run takes up again, and what is put out."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from glob import escape
from pathlib import Path
from typing import Any

from comfy_api.latest import io, ui

from ..comfy_fusionfft.video import Written
from ..comfy_fusionfft.video.codecs import CODECS
from . import comfy_host

FORMATS = {
    "h264 (mp4)": ("h264", ".mp4"),
    "hevc (mp4)": ("hevc", ".mp4"),
    "av1 (mp4)": ("av1", ".mp4"),
    "vp9 (webm)": ("vp9", ".webm"),
    "prores (mov)": ("prores", ".mov"),
    "ffv1 (mkv)": ("ffv1", ".mkv"),
}


def inputs() -> list[io.Input]:
    return [
        io.String.Input(
            "filename_prefix",
            default="video/FusionFFT",
            tooltip="Folder and beginning of the file's name in the output folder, with %date:yyyy-MM-dd% and "
            "the like. Default video/FusionFFT.",
        ),
        io.DynamicCombo.Input(
            "codec",
            options=[io.DynamicCombo.Option(name, _quality(name)) for name in FORMATS],
            tooltip="How the file is stored. h264 plays everywhere (default). hevc, av1: smaller, slower. vp9, "
            "prores, ffv1 keep alpha; prores is for editing, ffv1 without loss.",
        ),
    ]


def _quality(name: str) -> list[io.Input]:
    codec, _ = FORMATS[name]
    if CODECS[codec].quality is None:
        return []
    default, worst = CODECS[codec].quality
    return [
        io.Int.Input(
            "quality",
            default=default,
            min=0,
            max=worst,
            tooltip="Lower is better and larger, 6 less is about twice the size. Default 16 for h264, 18 for hevc and "
            "vp9, 20 for av1; 0 to 51, for vp9 and av1 to 63.",
        )
    ]


@contextmanager
def target(place: comfy_host.Place, suffix: str, key: str) -> Iterator[Path]:
    """The next free name, or the one under which an interrupted run with this key has begun.

    A hidden file beside the target says which key began it, until it is there.
    """
    place.folder.mkdir(parents=True, exist_ok=True)
    begun = place.folder.glob(f".{escape(place.name)}_*_{suffix}.begun")
    targets = [note.with_name(note.name[1:].removesuffix(".begun")) for note in begun if _text(note) == key]
    file = next((path for path in sorted(targets) if not path.exists()), None)
    file = file or place.folder / f"{place.name}_{place.number:05}_{suffix}"
    note = file.with_name(f".{file.name}.begun")
    note.write_text(key)
    yield file
    note.unlink(missing_ok=True)


def _text(path: Path) -> str:
    with suppress(OSError):
        return path.read_text()
    return ""


def output(written: Written, place: comfy_host.Place, notes: Sequence[str], *more: Any) -> io.NodeOutput:
    """The file as VIDEO, shown on the node; a report of it with these further notes; and ``more``."""
    count = f"{written.frames} frame{'' if written.frames == 1 else 's'}"
    lines = [f"{written.path.name}: {count}, {float(written.seconds):.2f} s", *notes, *written.notes]
    comfy_host.tell(lines[0])
    comfy_host.take_preview_off()
    shown = ui.SavedResult(written.path.name, place.subfolder, io.FolderType.output)
    video = comfy_host.as_video(written.path)
    return io.NodeOutput(video, "\n".join(lines), *more, ui=ui.PreviewVideo([shown]))
