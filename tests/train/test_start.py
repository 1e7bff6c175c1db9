import numpy as np
import pytest
from train.scenes import pan

from comfy_fusionfft.errors import InputError
from comfy_fusionfft.train import flows, pack
from comfy_fusionfft.train.loop import Budget
from comfy_fusionfft.train.start import estimator, make_packs, recipe_of, start


@pytest.fixture
def clips(tmp_path):
    """A folder with one clip, itself a folder of numbered pictures."""
    import cv2

    folder = tmp_path / "clips" / "pan"
    folder.mkdir(parents=True)
    for number, picture in enumerate(pan(12, 64, 96, 4)):
        cv2.imwrite(str(folder / f"{number:03d}.png"), np.ascontiguousarray(picture[..., ::-1]))
    return folder.parent


def test_packs_with_motion(clips, tmp_path):
    out = tmp_path / "packs"
    (window,) = make_packs(clips, out, teacher="dis", height=64, frames=9)
    assert window.clip == "pan" and window.motion == pytest.approx(4, abs=0.5)
    ((_, spans, flow, _),) = flows.load_flows(out)
    far = flows.pairs(9, spans).index((0, 4))
    assert float(flow[far, 0, 0].median()) == pytest.approx(-16, abs=1)
    # Again, over the same packs: the pictures stay, the motion is made anew.
    made = (out / pack.INDEX).stat().st_mtime_ns
    make_packs(clips, out, teacher="dis", reduce=2)
    assert (out / pack.INDEX).stat().st_mtime_ns == made


def test_what_is_missing_is_said(tmp_path):
    with pytest.raises(InputError, match="give a folder of clips or a folder of packs, one of them"):
        start("rife", tmp_path, Budget(steps=1))
    with pytest.raises(InputError, match="No training recipe for 'film'; choose one of rife"):
        recipe_of("film")
    with pytest.raises(InputError, match="no teacher weights at"):
        estimator(str(tmp_path / "none.safetensors"))
