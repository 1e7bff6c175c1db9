"""Runs in a process of its own, where every connection is refused and noted: everything but a download works."""

import importlib
import pkgutil
import sys
from pathlib import Path

DOORS = (
    "socket.connect",
    "socket.getaddrinfo",
    "socket.gethostbyname",
    "socket.sendto",
    "socket.bind",
    "urllib.Request",
)
OPTIONAL = {"accelerate", "tensorboard", "torchmetrics", "wandb", "tqdm"}
seen: list[str] = []


def watch(event: str, arguments: tuple) -> None:
    if event in DOORS:
        seen.append(f"{event} {arguments[1:]}")
        raise ConnectionRefusedError(f"{event}: this process has no network")


def everything(package: object) -> None:
    for module in pkgutil.walk_packages(package.__path__, f"{package.__name__}."):
        if module.name.endswith("__main__"):
            continue
        try:
            importlib.import_module(module.name)
        except ModuleNotFoundError as error:
            assert error.name in OPTIONAL, error


def work(folder: Path) -> None:
    import cv2
    import torch

    import comfy_fusionfft
    from comfy_fusionfft import api, checkpoints, downloads
    from comfy_fusionfft.cli import main
    from comfy_fusionfft.files import interpolate_file
    from comfy_fusionfft.host import PlainHost
    from comfy_fusionfft.video import open_clip

    everything(comfy_fusionfft)
    host = PlainHost("cpu", "float32")
    source, target = folder / "in", folder / "out.mkv"
    source.mkdir()
    for number in range(3):
        picture = torch.rand(32, 48, 3).mul(255).byte().numpy()
        assert cv2.imwrite(str(source / f"{number}.png"), picture)
    interpolate_file(str(source), target, codec="ffv1", host=host)
    assert target.stat().st_size and len(list(open_clip(target))) == 5
    api.load_flow(host=host)
    checkpoints.available()
    downloads.catalogue()
    for command in (["weights", "list"], ["inspect", str(target)], ["--help"]):
        try:
            code = main(command)
        except SystemExit as ended:
            code = ended.code
        assert not code, (command, code)


if __name__ == "__main__":
    sys.addaudithook(watch)
    work(Path(sys.argv[1]))
    assert not seen, seen
    from comfy_fusionfft import downloads
    from comfy_fusionfft.errors import DownloadError

    try:
        downloads.get(downloads.catalogue()[0].name, Path(sys.argv[1]) / "models")
    except DownloadError as error:
        print(f"asked: {error}")
    assert seen, "the watch saw no connection even where one was asked for"
