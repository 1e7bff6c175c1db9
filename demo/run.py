"""The demo: a clip in, a smoother clip and a contact sheet out, with nothing but this repository.

    python demo/run.py              the built-in scene, whose true in-between frames are known
    python demo/run.py my.mp4       your own video or image folder

Writes ``out/demo.mp4`` and ``out/demo.png`` and says what it did.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path

import cv2
import numpy as np
import torch

ROOT = Path(__file__).resolve().parents[1]
sys.path.append(str(ROOT))  # works from a clone in which nothing was installed

import scene as scenery  # noqa: E402 - the neighbour of this file

from comfy_fusionfft import api  # noqa: E402
from comfy_fusionfft.contract import Frame  # noqa: E402
from comfy_fusionfft.drawing import save_png  # noqa: E402
from comfy_fusionfft.errors import Cancelled, FusionFFTError  # noqa: E402
from comfy_fusionfft.evaluate.baselines import average, dis_baseline, dis_motion  # noqa: E402
from comfy_fusionfft.evaluate.sheets import titled  # noqa: E402
from comfy_fusionfft.files import interpolate_file  # noqa: E402
from comfy_fusionfft.host import PlainHost  # noqa: E402
from comfy_fusionfft.quality import psnr  # noqa: E402
from comfy_fusionfft.video import ClipInfo, Written, open_clip, write_clip  # noqa: E402

ROWS = 3
TILE = 480
"""Width of a picture on the sheet, in pixels."""
GAIN = 4
"""How much errors are brightened on the sheet."""


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description="Interpolate the built-in scene, or a clip of your own.")
    parser.add_argument("video", nargs="?", help="video file or image folder (default: the built-in scene)")
    parser.add_argument("--multi", type=int, default=2, help="N - 1 new frames between each pair (default: 2)")
    parser.add_argument("--flow", default="auto", help="auto, dis, rife or a safetensors file (default: auto)")
    parser.add_argument("--device", default="auto", help="auto, cuda, mps, xpu or cpu (default: auto)")
    parser.add_argument("--out", type=Path, default=Path("out"), help="folder for the results (default: out)")
    options = parser.parse_args(arguments)
    try:
        options.out.mkdir(parents=True, exist_ok=True)
        (_own_clip if options.video else _built_in)(options, PlainHost(options.device))
    except (FusionFFTError, OSError) as error:
        print(f"demo: {' '.join(str(error).split())}", file=sys.stderr)
        return 130 if isinstance(error, Cancelled) else 1
    return 0


def _built_in(options: argparse.Namespace, host: PlainHost) -> None:
    scene, count, multi = scenery.Scene(), scenery.FRAMES, options.multi
    print(f"Built-in scene: {count} frames of {scenery.WIDTH}x{scenery.HEIGHT} at {scenery.FPS} fps")
    kept = [scene.at(index) for index in range(count)]
    # Lossless, so that what is interpolated is exactly what was drawn.
    source = options.out / "demo_source.mkv"
    rate = Fraction(scenery.FPS)
    frames = [Frame(torch.from_numpy(picture), index / rate) for index, picture in enumerate(kept)]
    info = ClipInfo(Path("built-in scene"), "video", scenery.WIDTH, scenery.HEIGHT, rate, count, 8, 3, "ffv1", "gbrp")
    write_clip(source, frames, like=info, rate=rate, codec="ffv1", overwrite=True)
    _interpolate(source, options, host)

    print(f"Comparing the {(count - 1) * (multi - 1)} made frames with the true ones ...")
    made = api.interpolate(frames, multi=multi, flow=options.flow, host=host)
    scores: dict[str, list[float]] = {"frame averaging": [], "plain DIS flow": [], "FusionFFT": []}
    rows = []
    shown = {_middle(instant, count - 1, multi) for instant in range(ROWS)}
    for position, frame in enumerate(made):
        left, step = divmod(position, multi)
        if step == 0:
            continue
        t = step / multi
        if step == 1:
            motion = dis_motion(kept[left], kept[left + 1])
        truth = scene.at(left + t)
        answers = [
            average(kept[left], kept[left + 1], t),
            dis_baseline(kept[left], kept[left + 1], t, motion),
            frame.pixels.numpy(),
        ]
        for name, answer in zip(scores, answers, strict=True):
            scores[name].append(psnr(answer / 255.0, truth / 255.0))
        if position in shown:
            averaged, _, ours = answers
            now = {name: values[-1] for name, values in scores.items()}
            rows.append(
                [
                    (f"source frame {left}", kept[left]),
                    (f"made: {left + t:g}", ours),
                    (f"source frame {left + 1}", kept[left + 1]),
                ]
            )
            rows.append(
                [
                    (f"the truth: {left + t:g}", truth),
                    (f"error of the made frame, x{GAIN}: {now['FusionFFT']:.1f} dB", _error(ours, truth)),
                    (f"error of averaging, x{GAIN}: {now['frame averaging']:.1f} dB", _error(averaged, truth)),
                ]
            )
    for name, values in scores.items():
        print(f"  PSNR of {name + ':':18}{np.mean(values):6.2f} dB")
    _sheet(rows, options)


def _own_clip(options: argparse.Namespace, host: PlainHost) -> None:
    info = open_clip(options.video).info
    count = f"{info.frames} frames" if info.frames else "unknown length"
    rate = f"{float(info.rate):g} fps" if info.rate else "unknown rate"
    print(f"{options.video}: {count} of {info.width}x{info.height}, {rate}")
    written = _interpolate(Path(options.video), options, host)
    multi = options.multi
    pairs = (written.frames - 1) // multi
    if pairs < 1:
        print("  the clip has a single frame: nothing lies between, so there is no contact sheet")
        return
    wanted = sorted({_middle(row, pairs, multi) for row in range(ROWS)})
    rows = []
    for middle, (left, made, right) in zip(wanted, _threes(written.path, wanted, multi), strict=True):
        index, step = divmod(middle, multi)
        rows.append(
            [
                (f"source frame {index}", left),
                (f"made: {index + step / multi:g}", made),
                (f"source frame {index + 1}", right),
            ]
        )
    print("  no PSNR: what lies between the frames of your clip is not known")
    _sheet(rows, options)


def _interpolate(source: Path, options: argparse.Namespace, host: PlainHost) -> Written:
    target = options.out / "demo.mp4"
    flow = api.EMBEDDED_FLOW if options.flow == "auto" else options.flow
    print(f"Interpolating x{options.multi}: flow {flow}, method {api.DEFAULT_METHOD}, device {host.device} ...")
    start = time.perf_counter()
    written = interpolate_file(source, target, multi=options.multi, flow=options.flow, host=host, overwrite=True)
    took = time.perf_counter() - start
    print(f"  {written.frames} frames in {took:.1f} s ({written.frames / took:.1f} fps, reading and writing included)")
    for note in written.notes:
        print(f"  note: {note}")
    print(f"  video: {written.path}")
    return written


def _middle(row: int, pairs: int, multi: int) -> int:
    """Output frame for a row of the sheet: near the middle of a pair, pairs spread evenly over the clip."""
    return (2 * row + 1) * pairs // (2 * ROWS) * multi + multi // 2


def _threes(path: Path, wanted: list[int], multi: int) -> Iterator[tuple[np.ndarray, ...]]:
    """(source, made, next source) pictures around each ``wanted`` output frame, in one pass over the file."""
    numbers = [(middle // multi * multi, middle, middle // multi * multi + multi) for middle in wanted]
    held: dict[int, np.ndarray] = {}
    needed = {number for three in numbers for number in three}
    for number, frame in enumerate(open_clip(path)):
        if number in needed:
            held[number] = frame.pixels.numpy()
        if numbers and number == numbers[0][2]:
            yield tuple(held[n] for n in numbers.pop(0))
            held = {n: picture for n, picture in held.items() if n == number}
        if not numbers:
            return


def _error(made: np.ndarray, truth: np.ndarray) -> np.ndarray:
    return cv2.convertScaleAbs(cv2.absdiff(made, truth), alpha=GAIN)


def _sheet(rows: list[list[tuple[str, np.ndarray]]], options: argparse.Namespace) -> None:
    path = options.out / "demo.png"
    save_png(path, np.vstack([np.hstack([titled(_tile(picture), title) for title, picture in row]) for row in rows]))
    print(f"  contact sheet: {path}")


def _tile(picture: np.ndarray) -> np.ndarray:
    if picture.dtype == np.uint16:
        picture = np.round(picture / np.float32(257)).astype(np.uint8)
    picture = np.repeat(picture, 3, axis=2) if picture.shape[2] == 1 else picture[..., :3]
    height = max(1, round(picture.shape[0] * TILE / picture.shape[1]))
    shrink = picture.shape[1] > TILE
    return cv2.resize(picture, (TILE, height), interpolation=cv2.INTER_AREA if shrink else cv2.INTER_NEAREST)


if __name__ == "__main__":
    sys.exit(main())
