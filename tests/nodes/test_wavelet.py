"""WaveletVFI in the host: loaded from its folder, the same as in the library, and what it says of its work."""

import pytest
import torch
from safetensors.torch import save_file

from comfy_fusionfft import api
from comfy_fusionfft.families.waveletvfi import FAMILY, WaveletVFIConfig
from tests.nodes.graphs import PLAIN, Graph, frames, moving

pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.fixture
def file(either_host):
    path = either_host.server.models / "frame_interpolation" / "my_wavelet.safetensors"
    torch.manual_seed(3)
    state = FAMILY.build(WaveletVFIConfig()).state_dict()
    weak = ("conv2_h", "conv3_h", "conv4_h")  # details so weak that a part of them is left out
    save_file({name: 0.005 * value if name.startswith(weak) else value for name, value in state.items()}, path)
    yield path
    path.unlink()


def test_it_is_the_library_s_and_shows_where_it_computed(either_host, file):
    clip = moving(3, 40, 56)
    graph = Graph(either_host)
    model = graph.add("FusionFFTLoadWaveletVFI", model=file.name, dtype="float32")
    made = graph.add(
        "FusionFFTWaveletVFI",
        images=graph.clip("wavelet", clip),
        multiplier="4",
        source_fps=12.0,
        threshold="0.01",
        cuts="none",
        waveletvfi_model=model,
    )
    graph.save("made", made, made.slot(2))
    graph.run()
    saved = either_host.saved("made")
    settings = {"method": "waveletvfi", "weights": file, "threshold": 0.01, "multi": 4, "host": PLAIN}
    want = torch.stack([frame.pixels for frame in api.interpolate(frames(clip), **settings)])
    assert torch.equal(saved["image"], want)
    computed = saved["mask"]
    assert computed.shape == (9, 40, 56) and set(computed.unique().tolist()) <= {0.0, 1.0}
    assert not computed[::4].any() and 0 < computed[[1, 2, 3, 5, 6, 7]].mean() < 1


def test_without_a_file_it_says_where_to_get_it(either_host):
    graph = Graph(either_host)
    spec = either_host.client.object_info("FusionFFTLoadWaveletVFI")["FusionFFTLoadWaveletVFI"]
    spec = spec["input"]["required"]["model"]
    (name,) = spec[0] if isinstance(spec[0], list) else spec[1]["options"]
    assert name == "waveletvfi (to be fetched by hand)"
    model = graph.add("FusionFFTLoadWaveletVFI", model=name, dtype="auto")
    made = graph.add("FusionFFTWaveletVFI", images=graph.clip("wavelet", moving(2, 40, 56)), waveletvfi_model=model)
    graph.save("images", made)
    assert "Dropbox" in (said := graph.fails()) and "fusionfft convert" in said
