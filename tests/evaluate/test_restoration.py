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
from comfy_fusionfft.evaluate.restoration_pairs import Pair, PairSource, bicubic, clip_pairs, compressed, sampled
from comfy_fusionfft.evaluate.restoration_report import FrameScore, Published, RestorationReport
from comfy_fusionfft.evaluate.restoration_scoring import Scoring, luma
from comfy_fusionfft.evaluate.restoration_sets import find_sets
from comfy_fusionfft.host import PlainHost
from comfy_fusionfft.quality import motion, motion_error

CPU = PlainHost("cpu", "float32")
REDS4 = ("000", "011", "015", "020")


def scene(count, size=(64, 80), step=3):
    """RGB bytes of a pan by ``step`` pixels a picture, with the picture's number nowhere but in the motion."""
    height, width = size
    texture = np.random.default_rng(5).integers(60, 190, (11, 23, 3), dtype=np.uint8)
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
    with pytest.raises(InputError, match=r"holds no set: give one with train_sharp and train_blur_bicubic/X4"):
        find_sets(folder)


@pytest.mark.parametrize(
    ("sharp", "low"),
    [
        ("train_sharp", "train_sharp_bicubic/X4"),
        ("REDS/train/train_sharp", "REDS/train/train_sharp_bicubic"),
        ("REDS4/GT", "REDS4/sharp_bicubic"),
        ("val_sharp", "val_sharp_bicubic/X4"),
    ],
)
def test_reds4_without_blur_is_a_set_of_its_own(reds, sharp, low):
    sources, published, titles = find_sets(reds(sharp, low))
    assert [(s.group, s.name) for s in sources] == [("reds4-sharp", name) for name in REDS4]
    assert list(titles) == ["reds4-sharp"] and all("not verified" in p.method for p in published)
    assert (published[0].psnr, published[0].ssim, published[0].tof) == (31.82, 0.8960, None)
    assert [(p.group, p.psnr) for p in published][-1] == ("reds4-sharp crf25", 28.28)
    pairs = list(sources[1].pairs())
    assert all((p.low.pixels.numpy() == small(t)).all() for p, t in zip(pairs, scene(4, step=1), strict=True))


def test_small_sharp_pictures_are_made_where_no_others_are(reds):
    folder = reds("train_sharp", "elsewhere", ("000", "011"))
    (source, _), _, titles = find_sets(folder)
    assert list(titles) == ["reds4-sharp"]
    taps = np.array([cubic((k - 7.5) / 4) for k in range(16)])
    expected = np.einsum("i,j,ijc->c", taps / taps.sum(), taps / taps.sum(), scene(1, step=0)[0][18:34, 30:46])
    assert np.abs(next(source.pairs()).low.pixels[6, 9].numpy() - expected).max() <= 0.51
    (folder / "elsewhere").rename(folder / "train_blur_bicubic")
    assert list(find_sets(folder)[2]) == ["reds4"]  # whoever has blurred ones means those


def test_both_sets_of_reds4_stand_beside_each_other_and_one_can_be_chosen(reds):
    folder = reds("train_sharp", "train_blur_bicubic/X4", ("000",))
    save(folder / "train_sharp_bicubic" / "X4" / "000", [small(p) for p in scene(4)])
    assert [s.group for s in find_sets(folder)[0]] == ["reds4", "reds4-sharp"]
    sources, published, titles = find_sets(folder, only=("reds4-sharp",))
    assert [s.group for s in sources] == list(titles) == ["reds4-sharp"] and published[0].group == "reds4-sharp"
    with pytest.raises(InputError, match=r"holds no set called gopro or vid4: give one"):
        find_sets(folder, only=("gopro", "vid4"))
    with pytest.raises(InputError, match=r"set 'reds' is not known: use reds4, reds4-sharp, gopro, vid4"):
        find_sets(folder, only=("reds",))


@pytest.mark.parametrize(("base", "sharp", "low"), [("Vid4", "GT", "BDx4"), ("VID4", "HR", "BD"), (".", "GT", "BDx4")])
def test_vid4_is_found_however_it_was_unpacked(tmp_path, base, sharp, low):
    for name in ("walk", "calendar", "city", "foliage", "other"):
        save(tmp_path / base / sharp / name, scene(4))
        save(tmp_path / base / low / name, [small(p) for p in scene(4)])
    sources, published, titles = find_sets(tmp_path)
    assert [(s.group, s.name) for s in sources] == [("vid4", n) for n in ("calendar", "city", "foliage", "walk")]
    assert list(titles) == ["vid4"] and [(p.psnr, p.ssim) for p in published] == [(28.31, 0.860), (28.80, 0.868)]
    assert (next(sources[0].pairs()).low.pixels.numpy() == small(scene(4)[0])).all()


def test_vid4_is_blurred_and_sampled_here_where_it_is_not_yet(tmp_path):
    save(tmp_path / "Vid4" / "GT" / "city", scene(4, (67, 81)))
    ((source,), _, _) = find_sets(tmp_path)
    pair = next(source.pairs())
    assert pair.truth.shape == (64, 80, 3) and pair.low.pixels.shape == (16, 20, 3)
    # by hand: 12 taps of the bell around the middle of 4x4 pixels, which begin 4 pixels before these
    bell = np.array([math.exp(-((k - 5.5) ** 2) / (2 * 1.6**2)) for k in range(12)])
    expected = np.einsum("i,j,ijc->c", bell / bell.sum(), bell / bell.sum(), pair.truth[20:32, 32:44])
    assert np.abs(pair.low.pixels[6, 9].numpy() - expected).max() <= 0.51
    ramp = np.repeat(np.arange(0, 240, 3, dtype=np.uint8)[None, :, None], 3, axis=2).repeat(16, axis=0)
    assert (np.abs(sampled(ramp)[:, 2:-2].astype(int) - bicubic(ramp)[:, 2:-2]) <= 1).all()  # neither is shifted
    assert sampled(np.full((16, 16, 3), 201, np.uint8)).min() == 201  # borders do not darken


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


def test_luma_is_that_of_television():
    primaries = np.array([[[1.0, 0, 0], [0, 1, 0], [0, 0, 1], [1, 1, 1], [0, 0, 0]]])
    assert luma(primaries)[0] * 255 == pytest.approx([81.481, 144.553, 40.966, 235.0, 16.0])
    flat = np.full((16, 20, 3), 100 / 255)
    redder = flat + np.array([10 / 255, 0, 0])
    psnr, ssim = Scoring(colour="y").scores(redder, flat)
    assert psnr == pytest.approx(20 * math.log10(255 / (10 * 65.481 / 255)))
    at, true = (16 + 219 * 100 / 255 + 10 * 65.481 / 255) / 255, (16 + 219 * 100 / 255) / 255
    assert ssim == pytest.approx((2 * at * true + 1e-4) / (at**2 + true**2 + 1e-4))
    assert Scoring(colour="rgb").scores(redder, flat)[0] == pytest.approx(20 * math.log10(25.5) + 10 * math.log10(3))


def test_where_sharp_pictures_are_enlarged_all_frames_and_borders_count(reds):
    folder = reds("train_sharp", "train_sharp_bicubic", ("011",))
    made = [p.astype(np.float64) for p in scene(4, step=1)]
    made[0][:2] += 9.3  # rounds to 9
    made[3] -= 2.0
    report = evaluate_restoration(folder, weights=[Recalls(made)], baselines=(), host=CPU)
    assert [s.frame for s in report.scores] == [0, 1, 2, 3] and report.scores[0].tof is None
    psnr = [20 * math.log10(255 / 9) + 10 * math.log10(32), 100.0, 100.0, 20 * math.log10(255 / 2)]
    assert [s.psnr for s in report.scores] == pytest.approx(psnr)
    assert report.protocol["scoring"] == {"reds4-sharp": {"colour": "rgb", "border": 0, "ends": True}}
    one = evaluate_restoration(folder, weights=[Recalls(made)], baselines=(), frames=2, host=CPU)
    assert len(one.scores) == 2
    lines = [" ".join(line.split()) for line in str(report).splitlines()]
    assert "reds4-sharp published 31.82 0.8960 – FTVSR (published, not verified here)" in lines
    assert "28.28" not in str(report)  # of CRF 25, which was not asked for


def test_vid4_is_scored_on_luma(tmp_path):
    save(tmp_path / "GT" / "walk", scene(4))
    made = [p + np.array([0.0, 0, 5]) for p in scene(4)]
    report = evaluate_restoration(tmp_path, weights=[Recalls(made)], baselines=(), host=CPU)
    assert [s.psnr for s in report.scores] == pytest.approx([20 * math.log10(255 / (5 * 24.966 / 255))] * 4)


def greys(count, size):
    return [p[..., 1:2].repeat(3, axis=2) for p in scene(count, size, step=1)]


def numbered(count, size=(36, 50)):
    """Pairs whose truth says which they are, of grey textures that move."""
    for k, picture in enumerate(greys(count, size)):
        yield Pair(Frame(torch.from_numpy(picture), Fraction(k, 30)), np.full((4, 4, 3), k, np.uint8))


@pytest.mark.parametrize("size", [(36, 50), (45, 33)])
def test_compression_keeps_frames_in_order_and_gets_worse(size):
    errors = []
    for crf in (1, 15, 25, 35):
        pairs = list(compressed(numbered(9, size), crf))
        assert [int(p.truth[0, 0, 0]) for p in pairs] == list(range(9))
        assert [p.low.seconds for p in pairs] == [Fraction(k, 30) for k in range(9)]
        assert {(*p.low.pixels.shape, p.low.pixels.dtype) for p in pairs} == {(*size, 3, torch.uint8)}
        made = [p.low.pixels.numpy().astype(float) for p in pairs]
        errors.append([np.abs(m - g).mean() for m, g in zip(made, greys(9, size), strict=True)])
    errors = np.array(errors)
    assert errors[0].max() < 1.5 and (np.diff(errors.mean(axis=1)) > 0.3).all()
    assert (errors[3] - errors[0] > 1).all()  # every frame went through it


def test_compression_comes_out_the_same_and_holds_few_frames():
    asked = 0

    def counted():
        nonlocal asked
        for pair in numbered(150, (32, 32)):
            asked += 1
            yield pair

    held = []
    for given, _ in enumerate(compressed(counted(), 25)):
        held.append(asked - given)
    assert len(held) == 150 and max(held) < 70
    first, again = (list(compressed(numbered(5), 25)) for _ in range(2))
    assert all((a.low.pixels == b.low.pixels).all() for a, b in zip(first, again, strict=True))


def test_each_rate_is_a_group_of_its_own_and_larger_ones_are_worse(tmp_path, capsys):
    save(tmp_path / "clips" / "pan", scene(8, (128, 192), step=4))
    command = ["evaluate-restore", "--clips", str(tmp_path / "clips"), "--device", "cpu", "--blur", "1", "--quiet"]
    assert main([*command, "--crf", "none,15,25,35", "--json", str(tmp_path / "out.json"), "--frames", "3"]) == 0
    data = json.loads((tmp_path / "out.json").read_text(encoding="utf-8"))
    assert data["protocol"]["crf"] == [None, 15, 25, 35] and data["protocol"]["blur"] == 1
    rows = [(row["group"], row["method"]) for row in data["means"]]
    assert rows == [(g, m) for g in ("", "crf15", "crf25", "crf35") for m in ("bicubic", "sharpened")]
    psnr = [row["psnr"] for row in data["means"] if row["method"] == "bicubic"]
    assert (np.diff(psnr) < -0.1).all()
    out = capsys.readouterr().out
    assert "crf25 pan " in out and "crf35 sharpened over bicubic: " in out
    assert main([*command, "--crf", "25"]) == 0
    assert "crf25 pan " in (out := capsys.readouterr().out) and "crf15" not in out
    assert main([*command, "--crf", "60"]) == 1
    assert "CRF 60 does not exist in H.264: give 0 (best) to 51 (worst)" in capsys.readouterr().err
    with pytest.raises(SystemExit):
        main([*command, "--crf", "low"])
    assert "'low' is no list of rates: write none, 15 or none,15,25,35" in capsys.readouterr().err


def test_sets_are_compressed_as_well_and_meet_their_published_figures(reds, capsys):
    folder = reds("train_sharp", "train_sharp_bicubic", ("000", "020"))
    report = evaluate_restoration(folder, baselines=("bicubic",), crf=(None, 25), host=CPU)
    assert [(m.group, m.frames) for m in report.means] == [("reds4-sharp", 8), ("reds4-sharp crf25", 8)]
    assert report.means[0].psnr != report.means[1].psnr
    assert [p.psnr for p in report.published if p.group.endswith("crf25")] == [28.28] and "28.28" in str(report)


def test_time_of_steps_that_make_many_frames_is_shared_among_them(monkeypatch):
    now, low, truth = [0.0], torch.zeros(16, 16, 3, dtype=torch.uint8), np.zeros((64, 64, 3), np.uint8)

    class Many(Enlarge):
        def __call__(self, window):
            now[0] += 1.0
            return super().__call__(window)

    monkeypatch.setattr(restoration.time, "perf_counter", lambda: now[0])
    source = PairSource("", "zeros", lambda: (Pair(Frame(low, Fraction(k)), truth) for k in range(8)))
    scores = restoration._measure(source, {"many": Many(span=Span(4, 1, 0))}, CPU, "none")
    assert [s.seconds for s in scores] == [0.25] * 6


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
        def __call__(self, window):
            now[0] += 0.25
            return super().__call__(window)

    monkeypatch.setattr(restoration.time, "perf_counter", lambda: now[0])
    source = PairSource("", "zeros", pairs)
    scores = restoration._measure(source, {"a": Enlarge(), "b": Sees(span=Span(1, 2, 0, "replicate"))}, CPU, "none")
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
    assert main([*command, "--weights", "three", "--chunk", "100", "--blend", "0", "--padding", "reference"]) == 0
    assert asked.pop() == ("three", {"chunk": 100, "blend": 0, "padding": "reference"})
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
