"""The teacher network: structure and guards always, learned behaviour where its weights lie beside the checkout."""

import math

import cv2
import pytest
import torch
import torch.nn.functional as F
from places import shared_dir
from safetensors.torch import load_file, save_file

from comfy_fusionfft.errors import CheckpointError, InputError
from comfy_fusionfft.ops.correlate import correlate
from comfy_fusionfft.ops.splat import splat_blend
from comfy_fusionfft.ops.warp import backward_warp
from comfy_fusionfft.train.teacher import BiFlowNet, Teacher, TeacherFlow

SHARED = shared_dir()


@pytest.fixture(scope="module")
def random_weights(tmp_path_factory):
    torch.manual_seed(1)
    path = tmp_path_factory.mktemp("teacher") / "random.safetensors"
    save_file(BiFlowNet().state_dict(), path)
    return path


def test_correlation_matches_its_definition_on_sizes_that_are_no_multiple_of_the_tile():
    first, second = torch.randn(2, 5, 11, 18), torch.randn(2, 5, 11, 18)
    scores = correlate(first, second, radius=2)
    assert scores.shape == (2, 25, 11, 18)
    padded = F.pad(second, (2, 2, 2, 2))
    for shift in range(25):
        dy, dx = divmod(shift, 5)
        expected = (first * padded[:, :, dy : dy + 11, dx : dx + 18]).mean(dim=1)
        torch.testing.assert_close(scores[:, shift], expected, atol=1e-6, rtol=1e-5)


def test_the_network_has_the_published_size_and_names():
    state = BiFlowNet().state_dict()
    assert sum(tensor.numel() for tensor in state.values()) == 632_900
    assert state["feat_pyramid.conv_stage2.10.weight"].shape == (48, 48, 3, 3)
    assert state["flow_estimator.conv_layer1.0.weight"].shape == (160, 245, 1, 1)


@pytest.mark.parametrize("size", [(1, 1), (37, 50), (64, 64)])
def test_any_size_gives_two_flows_of_that_size(random_weights, size):
    flow01, flow10 = Teacher(random_weights).bidirectional(torch.rand(2, 3, *size), torch.rand(2, 3, *size))
    assert flow01.shape == flow10.shape == (2, 2, *size)
    assert flow01.dtype == torch.float32 and not flow01.requires_grad


def test_a_batch_answers_as_its_members_do_also_under_autocast(random_weights):
    teacher = Teacher(random_weights, levels=2)
    img0, img1 = torch.rand(2, 3, 40, 48), torch.rand(2, 3, 40, 48)
    together = teacher.bidirectional(img0, img1)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        alone = teacher.bidirectional(img0[1:], img1[1:])
    for a, b in zip(together, alone, strict=True):
        torch.testing.assert_close(a[1:], b, atol=1e-5, rtol=1e-4)


def test_levels_follow_the_longer_side(random_weights):
    teacher = Teacher(random_weights)
    sizes = ((64, 64), (448, 448), (480, 854), (854, 480), (720, 1280), (2160, 3840))
    assert [teacher.levels_for(*size) for size in sizes] == [3, 3, 4, 4, 5, 7]
    assert Teacher(random_weights, levels=5).levels_for(64, 64) == 5


def test_errors_say_what_to_do(random_weights, tmp_path):
    with pytest.raises(InputError, match=r"no teacher weights at .*optional third-party.*or train without a teacher"):
        Teacher(tmp_path / "absent.safetensors")
    with pytest.raises(InputError, match=r"9 pyramid levels: give 1 to 8"):
        Teacher(random_weights, levels=9)
    with pytest.raises(InputError, match=r"give the teacher two RGB pictures of one size"):
        Teacher(random_weights).bidirectional(torch.rand(1, 3, 8, 8), torch.rand(1, 3, 8, 9))
    save_file({"other.weight": torch.zeros(1)}, tmp_path / "other.safetensors")
    with pytest.raises(CheckpointError, match=r"other.safetensors is not the teacher"):
        Teacher(tmp_path / "other.safetensors")
    (tmp_path / "torn.safetensors").write_bytes(random_weights.read_bytes()[:1000])
    with pytest.raises(CheckpointError, match=r"torn.safetensors is not the teacher"):
        Teacher(tmp_path / "torn.safetensors")


def test_as_a_flow_source_it_answers_for_every_time(random_weights):
    source = TeacherFlow(Teacher(random_weights))
    left, right = torch.rand(1, 3, 33, 47), torch.rand(1, 3, 33, 47)
    flow, mask = source.flow(left, right, source.features(left), source.features(right), torch.tensor([0.25, 0.5]))
    assert flow.shape == (2, 4, 33, 47) and mask.shape == (2, 1, 33, 47)


if SHARED is not None:
    WEIGHTS = SHARED / "weights" / "ebme_biflownet.safetensors"

    def read(path) -> torch.Tensor:
        return torch.from_numpy(cv2.imread(str(path))[..., ::-1].copy()).permute(2, 0, 1)[None].float() / 255

    def psnr(got: torch.Tensor, true: torch.Tensor) -> float:
        return -10 * math.log10((got - true).square().mean())

    def scene(name: str) -> list[torch.Tensor]:
        folder = SHARED / "eval" / "middlebury_other" / name
        return [read(folder / f"{frame}.png") for frame in ("frame10", "frame10i11", "frame11")]

    def test_the_published_weights_load_strictly():
        BiFlowNet().load_state_dict(load_file(WEIGHTS), strict=True)

    def test_it_measures_a_known_shift():
        picture = scene("RubberWhale")[0]
        img0, img1 = picture[..., 16:240, 16:240], picture[..., 10:234, 19:243]  # content moves by (-3, 6)
        flow01, flow10 = Teacher(WEIGHTS).bidirectional(img0, img1)
        inner = (..., slice(16, -16), slice(16, -16))
        shift = torch.tensor([-3.0, 6.0]).view(1, 2, 1, 1)
        assert (flow01 - shift)[inner].abs().mean() < 0.2
        assert (flow10 + shift)[inner].abs().mean() < 0.2

    # Recorded with this code; over all 12 scenes the plain baseline has a mean of 35.14 dB, as published.
    @pytest.mark.parametrize(("name", "plain", "warped"), [("Beanbags", 31.33, 32.06), ("RubberWhale", 42.16, 42.18)])
    def test_middlebury_reaches_its_recorded_quality(name, plain, warped):
        img0, middle, img1 = scene(name)
        teacher = Teacher(WEIGHTS, levels=3)
        assert psnr(splat_blend(img0, img1, *teacher.bidirectional(img0, img1), 0.5), middle) == pytest.approx(
            plain, abs=0.02
        )
        flow, mask = TeacherFlow(teacher).flow(img0, img1, None, None, torch.tensor([0.5]))
        share = mask.sigmoid()
        picture = backward_warp(img0, flow[:, :2]) * share + backward_warp(img1, flow[:, 2:]) * (1 - share)
        assert psnr(picture, middle) == pytest.approx(warped, abs=0.02)
