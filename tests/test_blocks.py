"""The separate blocks: stored flow gives the same pictures as fresh flow; the swap leaves originals alone."""

from fractions import Fraction as F

import numpy as np
import pytest
import torch

from comfy_fusionfft import api
from comfy_fusionfft.cli import main
from comfy_fusionfft.contract import Frame
from comfy_fusionfft.errors import InputError, OutputExistsError
from comfy_fusionfft.flow_files import StoredFlow, write_flow
from comfy_fusionfft.host import PlainHost
from comfy_fusionfft.ops.flow_colour import flow_to_colour
from comfy_fusionfft.quality import high_band_energy
from comfy_fusionfft.video import open_clip, write_clip

CPU = PlainHost("cpu", "float32")


def clip(count=5, height=48, width=64, rate=12):
    y, x = np.mgrid[:height, :width].astype(np.float32)
    for i in range(count):
        planes = [127 + 60 * np.sin((x - 3 * i) / 5 + c) + 60 * np.cos(y / 4) for c in range(3)]
        yield Frame(torch.from_numpy(np.stack(planes, -1).clip(0, 255).astype(np.uint8)), F(i, rate))


@pytest.fixture
def folder(tmp_path):
    frames = list(clip())
    info = open_clip(_png(tmp_path, frames[0])).info
    return write_clip(tmp_path / "in", frames, like=info).path


def _png(tmp_path, frame):
    import cv2

    cv2.imwrite(str(tmp_path / "one.png"), frame.pixels.numpy()[..., ::-1])
    return tmp_path / "one.png"


@pytest.mark.parametrize("multi", [2, 3])
@pytest.mark.parametrize("method", ["rife", "fusion"])
def test_stored_flow_gives_the_same_pictures(tmp_path, multi, method):
    write_flow(tmp_path / "flow", api.extract_flow(clip(), multi=multi, flow="dis", host=CPU), half=False)
    settings = {"fusion": "none"} if method == "fusion" else {}
    direct = list(api.interpolate(clip(), multi=multi, flow="dis", method=method, host=CPU, **settings))
    stored = list(api.interpolate(clip(), multi=multi, flow=tmp_path / "flow", method=method, host=CPU, **settings))
    assert len(direct) == len(stored) == 4 * multi + 1
    for a, b in zip(direct, stored, strict=True):
        assert torch.equal(a.pixels, b.pixels)


def test_half_precision_flow_is_nearly_the_same(tmp_path):
    write_flow(tmp_path / "flow", api.extract_flow(clip(), flow="dis", host=CPU))
    direct = list(api.interpolate(clip(), flow="dis", method="rife", host=CPU))
    for a, b in zip(direct, api.interpolate(clip(), flow=tmp_path / "flow", method="rife", host=CPU), strict=True):
        assert (a.pixels.int() - b.pixels.int()).abs().max() <= 2


def test_foreign_flow_is_refused(tmp_path):
    write_flow(tmp_path / "flow", api.extract_flow(clip(), flow="dis", host=CPU))
    with pytest.raises(InputError, match=r"made from another clip"):
        list(api.interpolate(clip(height=50), flow=tmp_path / "flow", method="rife", host=CPU))
    with pytest.raises(InputError, match=r"only for \['1/2'\]: make it with the same --multi"):
        list(api.interpolate(clip(), multi=4, flow=tmp_path / "flow", method="rife", host=CPU))
    with pytest.raises(InputError, match="missing or damaged"):
        list(api.interpolate(clip(7), flow=tmp_path / "flow", method="rife", host=CPU))
    with pytest.raises(InputError, match="not a folder of flow: make one with"):
        StoredFlow(tmp_path)


def test_writing_flow_is_all_or_nothing(tmp_path):
    def broken():
        yield from list(api.extract_flow(clip(3), flow="dis", host=CPU))
        raise RuntimeError("stop")

    with pytest.raises(RuntimeError):
        write_flow(tmp_path / "flow", broken())
    assert not list(tmp_path.iterdir())
    write_flow(tmp_path / "flow", api.extract_flow(clip(3), flow="dis", host=CPU))
    with pytest.raises(OutputExistsError):
        write_flow(tmp_path / "flow", api.extract_flow(clip(3), flow="dis", host=CPU))
    with pytest.raises(InputError, match="at least two frames"):
        write_flow(tmp_path / "one", api.extract_flow(clip(1), flow="dis", host=CPU))


def test_colour_wheel_directions():
    flow = torch.zeros(5, 2, 2, 2)
    for i, (dx, dy) in enumerate([(0, 0), (4, 0), (-4, 0), (0, 4), (0, -4)]):
        flow[i, 0], flow[i, 1] = dx, dy
    still, right, left, down, up = flow_to_colour(flow, 4.0)[:, :, 0, 0]
    assert torch.equal(still, torch.ones(3))
    assert right[0] == 1 and right[1:].max() < 0.05  # red
    assert left[0] < 0.05 and left[2] > 0.9  # cyan to blue
    assert down.argmin() == 2 and up.argmin() == 1
    assert torch.isfinite(flow_to_colour(torch.zeros(1, 2, 3, 3))).all()


def test_swap_lends_detail_and_leaves_originals_alone():
    generator = torch.Generator().manual_seed(0)
    grain = [torch.randint(0, 256, (64, 64, 3), generator=generator, dtype=torch.uint8) for _ in range(2)]
    prior = [Frame(p, F(i)) for i, p in enumerate(grain)]
    dull = Frame((grain[0].float() * 0.3 + 90).to(torch.uint8), F(1, 2))
    out = list(api.spectral_swap([prior[0], dull, prior[1]], prior, alpha=1.0, host=CPU))
    assert out[0].pixels is prior[0].pixels and out[2].pixels is prior[1].pixels
    before, after, real = (high_band_energy(p.numpy() / 255) for p in (dull.pixels, out[1].pixels, grain[0]))
    assert before < 0.2 * real and 0.6 * real < after < 1.2 * real
    same = list(api.spectral_swap([dull], prior, alpha=0.0, host=CPU))
    assert same[0].pixels is dull.pixels


def test_swap_is_linear_in_alpha():
    prior = [Frame(torch.rand(32, 40, 3) * 0.3 + 0.35, F(i)) for i in range(2)]
    base = Frame(torch.rand(32, 40, 3) * 0.1 + 0.45, F(1, 2))
    at = {a: next(iter(api.spectral_swap([base], prior, alpha=a, host=CPU))).pixels for a in (0.25, 0.5, 1.0)}
    assert torch.allclose(at[0.5] - base.pixels, 2 * (at[0.25] - base.pixels), atol=1e-5)
    assert torch.allclose(at[1.0] - base.pixels, 4 * (at[0.25] - base.pixels), atol=1e-5)


def test_the_commands(folder, tmp_path, capsys):
    flow, fused, swapped = tmp_path / "flow", tmp_path / "fused", tmp_path / "swapped"
    assert main(["flow", str(folder), str(flow), "--flow", "dis", "--quiet"]) == 0
    assert len(list(flow.iterdir())) == 4
    assert main(["flow", str(folder), str(tmp_path / "flow.mp4"), "--flow", "dis", "--quiet"]) == 0
    assert sum(1 for _ in open_clip(tmp_path / "flow.mp4")) == 4
    quick = ["--quiet", "--device", "cpu", "--dtype", "float32"]
    assert main(["fuse", str(folder), str(flow), str(fused), "--fusion", "none", *quick]) == 0
    assert len(list(fused.iterdir())) == 9
    arguments = [
        "spectral",
        str(fused),
        str(folder),
        str(swapped),
        "--rate",
        "48",
        "--prior-rate",
        "24",
        "--alpha",
        "1",
    ]
    assert main([*arguments, *quick]) == 0
    for i in range(0, 9, 2):
        name = f"{i:07d}.png"
        assert (swapped / name).read_bytes() == (fused / name).read_bytes()
    seed_style = [
        "interpolate",
        "--img",
        str(folder),
        "--output",
        str(tmp_path / "seed"),
        "--recursive",
        "--UHD",
        "--multi",
        "4",
    ]
    assert main([*seed_style, "--flow", "dis", *quick]) == 0
    assert len(list((tmp_path / "seed").iterdir())) == 17
    capsys.readouterr()
