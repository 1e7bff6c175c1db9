import json
import math
from fractions import Fraction

import cv2
import numpy as np
import pytest
import torch

from comfy_fusionfft.cli import main
from comfy_fusionfft.contract import Frame, Span
from comfy_fusionfft.errors import InputError
from comfy_fusionfft.evaluate import restoration
from comfy_fusionfft.evaluate.restoration import evaluate_restoration
from comfy_fusionfft.evaluate.restoration_baselines import BASELINES, Enlarge, _blurred
from comfy_fusionfft.evaluate.restoration_report import FrameScore, Published, RestorationReport
from comfy_fusionfft.evaluate.restoration_sets import Pair, PairSource, clip_pairs, find_sets
from comfy_fusionfft.host import PlainHost
from comfy_fusionfft.quality import motion, motion_error

CPU = PlainHost("cpu", "float32")
REDS4 = ("000", "011", "015", "020")


def scene(count, size=(64, 80), step=3):
    """RGB bytes of a pan by ``step`` pixels a picture, with the picture's number nowhere but in the motion."""
    height, width = size
    texture = np.random.default_rng(5).integers(20, 230, (11, 23, 3), dtype=np.uint8)
    wide = cv2.resize(texture, (width + step * count, height), interpolation=cv2.INTER_CUBIC)
    return [wide[:, step * k : step * k + width] for k in range(count)]


def save(folder, pictures, digits=8):
    folder.mkdir(parents=True)
    for k, picture in enumerate(pictures):
        cv2.imwrite(str(folder / f"{k:0{digits}}.png"), picture[..., ::-1])


def small(picture):
    return cv2.resize(picture, None, fx=0.25, fy=0.25, interpolation=cv2.INTER_AREA)


@pytest.fixture
def reds(tmp_path):
    def make(sharp, low, names=REDS4, count=4):
        for name in names:
            pictures = scene(count, step=int(name) % 5)
            save(tmp_path / sharp / name, pictures)
            save(tmp_path / low / name, [small(p) for p in pictures])
        return tmp_path

    return make


@pytest.fixture
def gopro(tmp_path):
    for name in ("GOPR0384_11_00", "GOPR0410_11_00"):
        pictures = scene(4)
        save(tmp_path / "GOPRO_Large" / "test" / name / "sharp", pictures, digits=6)
        save(tmp_path / "GOPRO_Large" / "test" / name / "blur", [cv2.blur(p, (5, 1)) for p in pictures], digits=6)
    return tmp_path


class Recalls:
    """A restorer that knows the truth by the number of the picture, and spoils it by known amounts."""

    span, scale = Span(), 4

    def __init__(self, pictures):
        self.pictures = pictures

    def __call__(self, window):
        return torch.stack(
            [torch.from_numpy(self.pictures[int(t)]).permute(2, 0, 1).float() / 255 for t in window.times]
        )

    def working_bytes(self, height, width):
        return 0


@pytest.mark.parametrize(
    ("sharp", "low"),
    [
        ("train_sharp", "train_blur_bicubic/X4"),
        ("train_sharp", "train_blur_bicubic"),
        ("REDS/train/train_sharp", "REDS/train/train_blur_bicubic/X4"),
        ("val/val_sharp", "val/val_blur_bicubic/X4"),
        ("REDS4/GT", "REDS4/blur_bicubic"),
        ("sharp", "blur_bicubic/X4"),
    ],
)
def test_reds4_is_found_however_it_was_unpacked(reds, sharp, low):
    sources, published, titles = find_sets(reds(sharp, low, (*REDS4, "001") if "train" in sharp else REDS4))
    assert [(s.group, s.name) for s in sources] == [("reds4", name) for name in REDS4] and list(titles) == ["reds4"]
    assert [(p.psnr, p.ssim, p.tof) for p in published] == [(28.83, 0.8315, 1.92)]
    assert "not verified" in published[0].method
    pairs = list(sources[1].pairs())
    for pair, picture in zip(pairs, scene(4, step=1), strict=True):
        assert (pair.truth == picture).all() and (pair.low.pixels.numpy() == small(picture)).all()


def test_the_official_validation_part_is_not_reds4(reds):
    folder = reds("val/val_sharp", "val/val_blur_bicubic/X4", (*REDS4, "001"))
    with pytest.raises(InputError, match=r"holds no set of blurred and sharp pictures: give one with train_sharp and"):
        find_sets(folder)


def test_gopro_is_found_and_made_small(gopro):
    sources, published, titles = find_sets(gopro)
    assert [(s.group, s.name) for s in sources] == [("gopro", "GOPR0384_11_00"), ("gopro", "GOPR0410_11_00")]
    assert list(titles) == ["gopro"] and len(published) == 2
    pairs = list(sources[0].pairs())
    assert len(pairs) == 4 and (pairs[2].truth == scene(4)[2]).all()
    blurred = cv2.blur(scene(4)[2], (5, 1)).astype(np.float64)
    assert pairs[2].low.pixels.shape == (16, 20, 3) and pairs[2].low.pixels.dtype == torch.uint8
    # by hand: 16 taps of the cubic with a = -1/2, stretched 4 times, around the middle of 4x4 pixels
    taps = np.array([cubic((k - 7.5) / 4) for k in range(16)])
    rows, columns = slice(4 * 6 - 6, 4 * 6 + 10), slice(4 * 9 - 6, 4 * 9 + 10)
    expected = np.einsum("i,j,ijc->c", taps / taps.sum(), taps / taps.sum(), blurred[rows, columns])
    assert np.abs(pairs[2].low.pixels[6, 9].numpy() - expected).max() <= 0.51


def cubic(x, a=-0.5):
    x = abs(x)
    if x < 1:
        return (a + 2) * x**3 - (a + 3) * x**2 + 1
    return a * (x**3 - 5 * x**2 + 8 * x - 4) if x < 2 else 0.0


def test_pictures_that_do_not_belong_together_are_refused(reds):
    folder = reds("train_sharp", "train_blur_bicubic", ("000",))
    (folder / "train_sharp" / "000" / "00000003.png").unlink()
    with pytest.raises(InputError, match=r"has 4 pictures and .* has 3: unpack both of them completely"):
        next(find_sets(folder)[0][0].pairs())
    (folder / "train_blur_bicubic" / "000" / "00000003.png").unlink()
    for k, picture in enumerate(scene(3, (64, 88))):
        cv2.imwrite(str(folder / "train_sharp" / "000" / f"{k:08}.png"), picture)
    with pytest.raises(InputError, match=r"have pictures of 20x16 and 88x64: sharp ones must be 4 times as large"):
        next(find_sets(folder)[0][0].pairs())


def test_clips_are_exposed_over_neighbouring_frames_of_their_longest_segment(tmp_path):
    pictures = scene(20, (66, 83), step=1)
    save(tmp_path / "clips" / "pan", pictures)
    (tmp_path / "INDEX.tsv").write_text("name\tusable_segments\npan/\t0-3;5-18\n")
    how = {"blur": 3, "linear": False, "frames": 0, "longest_side": 720}

    def middles(**more):
        (source,) = clip_pairs(tmp_path / "clips", **how | more)
        pairs = list(source.pairs())
        cut = [p[:64, :80] for p in pictures]
        return pairs, [next(k for k, p in enumerate(cut) if (p == pair.truth).all()) for pair in pairs]

    pairs, found = middles(every=3)
    assert found == [6, 9, 12, 15]  # 5-7, 8-10, … of 5 to 18
    mean = np.mean([p[:64, :80].astype(np.float64) for p in pictures[8:11]], axis=0)
    taps = np.array([cubic((k - 7.5) / 4) for k in range(16)])
    expected = np.einsum("i,j,ijc->c", taps / taps.sum(), taps / taps.sum(), mean[18:34, 30:46])
    assert np.abs(pairs[1].low.pixels[6, 9].numpy() - expected).max() <= 0.51
    assert pairs[1].low.pixels.shape == (16, 20, 3) and pairs[1].low.seconds > pairs[0].low.seconds
    assert middles(every=1)[1] == list(range(6, 18))
    assert middles(every=1, frames=2)[1] == [10, 11, 12, 13]  # two scored, one more at each end
    assert middles(every=5)[1] == [6, 11, 16]
    assert middles(every=1, blur=15)[1] == []
    light = middles(every=3, linear=True)[0][1].low.pixels.int()
    assert (light - pairs[1].low.pixels.int()).float().mean() > 0.1  # light is brighter than the mean of values


def test_scores_are_of_bytes_inside_the_border_and_leave_out_the_ends(reds):
    folder = reds("train_sharp", "train_blur_bicubic", ("011",), count=6)
    truth = [p.astype(np.float64) for p in scene(6, step=1)]
    made = [p.copy() for p in truth]
    made[0][:] = made[5][:] = 7.0  # ends are not scored
    made[2][:4] = made[2][-4:] = made[2][:, :4] = made[2][:, -4:] = 0.0  # nor are borders
    made[2][10:20, 10:30] += 3.3  # rounds to 3
    made[3][30, 40, 1] += 0.4  # rounds to nothing
    made = [p.clip(0, 255) for p in made]
    report = evaluate_restoration(folder, weights=[Recalls(made)], baselines=(), host=CPU)
    assert [s.frame for s in report.scores] == [1, 2, 3, 4] and {s.method for s in report.scores} == {"Recalls"}
    psnr = {s.frame: s.psnr for s in report.scores}
    assert psnr[1] == psnr[3] == psnr[4] == 100.0
    changed = 10 * 20 * 3 * (3 / 255) ** 2 / (56 * 72 * 3)
    assert psnr[2] == pytest.approx(-10 * math.log10(changed), abs=1e-6)
    tof = [s.tof for s in report.scores]
    rounded = [np.round(p) / 255 for p in made]
    true = [p / 255 for p in truth]
    expected = [motion_error(motion(rounded[k], rounded[k + 1]), motion(true[k], true[k + 1])) for k in (1, 2, 3)]
    assert tof[0] is None and tof[1:] == pytest.approx(expected, abs=1e-9)
    assert tof[1] > 0 and tof[2] > 0 and tof[3] == 0.0
    (mean,) = report.means
    assert mean.frames == 4 and mean.psnr == pytest.approx(np.mean(list(psnr.values())))
    assert mean.tof == pytest.approx(np.mean(expected))


def test_a_shifted_sequence_moves_like_the_truth_and_a_still_one_does_not(reds):
    folder = reds("train_sharp", "train_blur_bicubic", ("011",), count=6)
    truth = scene(6, step=1)

    class Still(Recalls):
        """Always the same picture."""

    report = evaluate_restoration(folder, weights=[Recalls(truth), Still(truth[:1] * 6)], baselines=(), host=CPU)
    right, still = report.means
    assert right.tof == 0.0 and right.psnr == 100.0 and right.ssim == 1.0
    assert still.tof == pytest.approx(1.0, abs=0.2) and still.psnr < 40


class Held(Pair):
    """A pair that is told when it goes: a plain tuple is not."""


def test_few_frames_are_held_and_reading_is_on_nobodys_clock(tmp_path, monkeypatch):
    low, truth = torch.zeros(16, 16, 3, dtype=torch.uint8), np.zeros((64, 64, 3), np.uint8)
    alive, most, now = 0, 0, [0.0]

    class Counted(Held):
        def __del__(self):
            nonlocal alive
            alive -= 1

    def pairs():
        nonlocal alive, most
        for k in range(12):
            now[0] += 100.0
            pair = Counted(Frame(low, Fraction(k)), truth)
            alive += 1
            most = max(most, alive)
            yield pair
            del pair

    class Sees(Enlarge):
        span = Span(1, 2, 0, "replicate")

        def __call__(self, window):
            now[0] += 0.25
            return super().__call__(window)

    monkeypatch.setattr(restoration.time, "perf_counter", lambda: now[0])
    source = PairSource("", "zeros", pairs)
    scores = restoration._measure(source, {"a": Enlarge(), "b": Sees()}, CPU, "none")
    assert [s.frame for s in scores] == [k for k in range(1, 11) for _ in "ab"]
    assert {s.seconds for s in scores if s.method == "b"} == {0.25} and most <= 6
    assert {s.seconds for s in scores if s.method == "a"} == {0.0}


def test_baselines_enlarge_and_sharpen():
    image = torch.rand(1, 3, 9, 12)
    window = Looks((image, image * 0.5))
    plain, sharp = (BASELINES[name](window) for name in ("bicubic", "sharpened"))
    assert plain.shape == sharp.shape == (1, 3, 36, 48)
    # by hand: place 4 * 5 + 1 lies at 5 - 1/8 of the small picture
    taps = torch.tensor([cubic(5 - 0.125 - k) for k in range(3, 7)])
    expected = torch.einsum("i,j,bcij->bc", taps, taps, image[:, :, 3:7, 3:7]) * 0.5
    assert torch.allclose(plain[:, :, 21, 21], expected, atol=1e-5)
    assert torch.allclose(sharp.mean(), plain.mean(), atol=1e-3) and sharp.std() > plain.std()
    edge = torch.zeros(1, 1, 41, 41)
    edge[..., 20, 20] = 1.0
    bell = cv2.getGaussianKernel(13, 2.0)
    assert np.allclose(_blurred(edge, 2.0)[0, 0, 14:27, 14:27], bell @ bell.T, atol=1e-6)
    assert torch.allclose(_blurred(torch.full((2, 3, 8, 8), 0.3), 2.0), torch.tensor(0.3))


class Looks:
    def __init__(self, images):
        self.images, self.positions, self.times = images, (Fraction(0), Fraction(1)), (Fraction(1),)


def test_the_table_tells_clips_means_published_figures_and_leads():
    def score(clip, number, method, psnr, tof=0.5):
        return FrameScore("reds4", clip, number, method, psnr, 0.9, tof, 0.25)

    scores = [score(c, k, m, p + k) for c, m, p in (("000", "bicubic", 24), ("000", "net", 25)) for k in (1, 2)]
    scores += [score("011", 1, "bicubic", 28, None), score("011", 1, "net", 27.5, None)]
    report = RestorationReport(
        tuple(scores), {"sets": {"reds4": "four clips"}}, (Published("reds4", "somebody", 28.83, 0.8315, 1.92),)
    )
    assert [(r.clip, r.method, r.psnr, r.frames) for r in report.rows] == [
        ("000", "bicubic", 25.5, 2),
        ("000", "net", 26.5, 2),
        ("011", "bicubic", 28.0, 1),
        ("011", "net", 27.5, 1),
    ]
    assert [(r.method, r.psnr, r.tof, r.frames) for r in report.means] == [
        ("bicubic", 26.75, 0.5, 3),
        ("net", 27.0, 0.5, 3),
    ]
    lines = str(report).splitlines()
    assert any(line.split() == ["reds4", "011", "net", "27.50", "0.9000", "–", "1", "0.250"] for line in lines)
    assert any(line.split() == ["reds4", "published", "28.83", "0.8315", "1.920", "somebody"] for line in lines)
    assert lines[-2:] == [
        "reds4: four clips",
        "reds4 net over bicubic: +0.25 dB; worse by more than 0.1 dB on: 011 (-0.50)",
    ]
    data = json.loads(report.to_json())
    assert set(data) == {"protocol", "clips", "means", "published", "frames"} and data["frames"][-1]["tof"] is None


def test_the_command_prints_a_table_and_writes_json(gopro, tmp_path, capsys):
    command = ["evaluate-restore", "--sets", str(gopro), "--device", "cpu", "--json", str(tmp_path / "out.json")]
    assert main([*command, "--frames", "1"]) == 0
    out = capsys.readouterr()
    assert "sharpened over bicubic" in out.out and "published" in out.out and "clip 1 of 2" in out.err
    data = json.loads((tmp_path / "out.json").read_text(encoding="utf-8"))
    assert [row["method"] for row in data["means"]] == ["bicubic", "sharpened"] and data["protocol"]["frames"] == 1
    assert main([*command, "--baselines", "none"]) == 1
    assert "nothing to measure: give weights or baselines" in capsys.readouterr().err
    assert main(["evaluate-restore", "--clips", str(tmp_path / "none"), "--device", "cpu"]) == 1
    assert "is not a folder" in capsys.readouterr().err


def test_weights_are_loaded_with_their_settings_and_judged(gopro, monkeypatch, capsys):
    asked = []

    def load(weights, *, host, **settings):
        asked.append((weights, settings))
        return Enlarge(amount=len(asked), sigma=2.0)

    monkeypatch.setattr(restoration.api, "load_restorer", load)
    command = ["evaluate-restore", "--sets", str(gopro), "--device", "cpu", "--baselines", "bicubic", "--quiet"]
    assert main([*command, "--weights", "some/one.safetensors,two", "--ends", "reflect", "--tile", "none"]) == 0
    assert asked == [("some/one.safetensors", {"ends": "reflect"}), ("two", {"ends": "reflect"})]
    out = capsys.readouterr()
    assert "gopro two over bicubic: " in out.out and "gopro two over one: " in out.out and not out.err


def test_bad_input_is_explained(tmp_path, gopro):
    with pytest.raises(InputError, match="give one of them"):
        evaluate_restoration()
    with pytest.raises(InputError, match="blur 4, every 4: give an odd number of frames"):
        evaluate_restoration(clips=tmp_path, blur=4)
    with pytest.raises(InputError, match="baseline 'lanczos' is not known: use bicubic, sharpened"):
        evaluate_restoration(gopro, baselines=("lanczos",))
    with pytest.raises(InputError, match="Enlarge enlarges 2 times: what is measured here needs 4"):
        evaluate_restoration(gopro, weights=[Enlarge(scale=2)], host=CPU)
    with pytest.raises(InputError, match="two methods are called Enlarge: their scores would be mixed up"):
        evaluate_restoration(gopro, weights=[Enlarge(), Enlarge(amount=1, sigma=1)], host=CPU)
    save(tmp_path / "short" / "clip", scene(6))
    with pytest.raises(InputError, match="has 3 frames to restore in a row: give longer clips"):
        evaluate_restoration(clips=tmp_path / "short", host=CPU)
