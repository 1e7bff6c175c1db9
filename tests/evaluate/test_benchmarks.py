import cv2
import numpy as np
import pytest

from comfy_fusionfft.errors import InputError
from comfy_fusionfft.evaluate import PROTOCOLS, evaluate
from comfy_fusionfft.evaluate.benchmarks import find_benchmarks
from comfy_fusionfft.host import PlainHost


def paint(folder, names, size=(64, 48), step=1):
    """A pan by ``step`` pixels a picture; the red channel holds the picture's number."""
    folder.mkdir(parents=True)
    texture = np.random.default_rng(7).integers(0, 255, (12, 30, 3), dtype=np.uint8)
    wide = cv2.resize(texture, (size[0] + 40, size[1]), interpolation=cv2.INTER_CUBIC)
    for k, name in enumerate(names):
        picture = wide[:, 4 + step * k : 4 + step * k + size[0]].copy()
        picture[..., 2] = k  # OpenCV writes BGR
        cv2.imwrite(str(folder / f"{name}.png"), picture)


@pytest.fixture
def sets(tmp_path):
    paint(tmp_path / "middlebury_other" / "Alley", ("frame10", "frame10i11", "frame11"))
    paint(tmp_path / "middlebury_other" / "Brook", ("frame10", "frame10i11", "frame11"), (80, 52))
    paint(tmp_path / "middlebury_other" / "no pictures", ())
    paint(tmp_path / "xtest_small" / "TEST01", [f"{k:02d}" for k in range(0, 33, 4)], (512, 270))
    paint(tmp_path / "middlebury_basketball8", [f"frame{k:02d}" for k in range(7, 15)])
    return tmp_path


def names_of(source):
    found = []
    for interval in source.intervals():
        assert set(interval.frames) == {*interval.kept, *interval.wanted}
        kept, wanted = ([interval.name(n) for n in numbers] for numbers in (interval.kept, interval.wanted))
        found.append((interval.drop, kept, wanted))
    return found


def test_every_protocol_keeps_and_makes_the_frames_it_says(sets):
    sources, _, titles = find_benchmarks(sets)
    assert list(titles) == [p.name for p in PROTOCOLS if p.name not in ("sepconv", "vimeo")]
    first = {source.group: source for source in reversed(sources)}
    every_8th = ["00", "08", "16", "24", "32"]
    assert names_of(first["middlebury"]) == [(2, ["frame10", "frame11"], ["frame10i11"])]
    assert names_of(first["xtest-32"]) == [(2, ["00", "32"], ["16"])]
    assert names_of(first["xtest-32-x8"]) == [(8, ["00", "32"], ["04", "08", "12", "16", "20", "24", "28"])]
    assert names_of(first["xtest-8"]) == [(2, ["00", "08"], ["04"])]
    assert names_of(first["xtest-16-multi"]) == [(2, ["00", "16", "32"], [t]) for t in ("08", "24")]
    assert names_of(first["xtest-8-multi"]) == [(2, every_8th, [t]) for t in ("04", "12", "20", "28")]
    kept = ["frame07", "frame09", "frame11", "frame13"]
    assert names_of(first["basketball"]) == [(2, kept, [f"frame{k:02d}"]) for k in (8, 10, 12)]
    assert [s.name for s in sources if s.group == "middlebury"] == ["Alley", "Brook"]


def test_vimeo_is_what_its_list_says(tmp_path):
    folder = tmp_path / "vimeo_triplet"
    for scene in ("00001/0001", "00001/0002", "00002/0001"):
        paint(folder / "sequences" / scene, ("im1", "im2", "im3"), (448, 256))
    with pytest.raises(InputError, match=r"vimeo_triplet has no tri_testlist\.txt"):
        find_benchmarks(tmp_path)
    (folder / "tri_testlist.txt").write_text("00001/0002\n00002/0001\n\n")
    sources, references, titles = find_benchmarks(tmp_path)
    assert list(titles) == ["vimeo"] and [s.name for s in sources] == ["00001-0002", "00002-0001"]
    assert names_of(sources[0]) == [(2, ["im1", "im3"], ["im2"])]
    assert [(r.method, r.psnr) for r in references] == [("WaveletVFI", 35.58)]


def test_pictures_are_those_of_their_names(sets):
    sources, _, _ = find_benchmarks(sets)
    multi = next(s for s in sources if s.group == "xtest-16-multi")
    for interval in multi.intervals():
        for number, picture in interval.frames.items():
            assert picture.shape == (270, 512, 3) and (picture[..., 0] == int(interval.name(number)) // 4).all()


def test_references_need_the_same_pictures(sets, tmp_path):
    _, references, _ = find_benchmarks(sets)
    figures = {(r.group, r.method): (r.psnr, r.scenes, r.here) for r in references}
    assert {group for group, _ in figures} == {"middlebury", "xtest-32", "xtest-8"}
    assert figures["xtest-32", "frame averaging"] == (22.23, 15, 1)
    assert figures["middlebury", "EBME flow (3 levels), average splatting"] == (35.14, 12, 2)
    paint(tmp_path / "small" / "xtest_small" / "TEST01", [f"{k:02d}" for k in range(0, 33, 4)])
    assert find_benchmarks(tmp_path / "small")[1] == []  # the figures are of 512×270


def test_a_run_over_all_sets(sets, tmp_path):
    for picture in (sets / "xtest_small").rglob("*.png"):
        picture.unlink()
    report = evaluate(
        benchmarks=sets,
        flows=("dis",),
        methods=("rife",),
        host=PlainHost("cpu", "float32"),
        sheets=tmp_path / "sheets",
    )
    assert [(r.group, r.clip, r.frames) for r in report.rows if r.method == "rife:dis"] == [
        ("middlebury", "Alley", 1),
        ("middlebury", "Brook", 1),
        ("basketball", "middlebury_basketball8", 3),
    ]
    assert {s.frame for s in report.scores} == {"frame10i11", "frame08", "frame10", "frame12"}
    assert sorted(p.name for p in (tmp_path / "sheets").iterdir()) == ["basketball.png", "middlebury.png", "worst.png"]
    assert "reference: EBME flow (3 levels), average splatting, 12 scenes, of which 2 are here" in str(report)


def test_bad_input_is_explained(tmp_path):
    with pytest.raises(InputError, match="holds no benchmark pictures: give a folder with at least one of"):
        evaluate(benchmarks=tmp_path)
    with pytest.raises(InputError, match="give one of them"):
        evaluate()
    with pytest.raises(InputError, match="give one of them"):
        evaluate(tmp_path, benchmarks=tmp_path)
