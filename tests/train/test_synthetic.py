import pytest
import torch
from torch._subclasses.fake_tensor import FakeTensorMode
from train.scenes import texture

from comfy_fusionfft.ops.warp import backward_warp
from comfy_fusionfft.train import synthetic
from comfy_fusionfft.train.synthetic import layers

BARE = {"foregrounds": 0, "thin": 0.0, "particles": 0.0}


@pytest.fixture
def generator():
    return torch.Generator().manual_seed(3)


@pytest.fixture
def pictures():
    return torch.stack([torch.from_numpy(texture(96, 96, seed)).permute(2, 0, 1) / 255 for seed in range(8)])


def errors(made):
    """Of both views moved onto the truth: ``(B, 2, H, W)``, infinite where they lead out of the picture."""
    img0, gt, img1, _, flow, _ = made
    found = []
    for image, way in ((img0, flow[:, :2]), (img1, flow[:, 2:])):
        size = way.shape[-1]
        place = torch.stack(torch.meshgrid(torch.arange(size), torch.arange(size), indexing="xy")) + way
        inside = ((place >= 0) & (place <= size - 1)).all(1)
        found.append(torch.where(inside, (backward_warp(image, way) - gt).abs().mean(1), torch.inf))
    return torch.stack(found, 1)


def test_a_bare_background_is_exact_everywhere(pictures, generator):
    made = layers(pictures, 8, 12.0, generator, **BARE)
    error = errors(made)
    inside = error.isfinite()
    assert inside.float().mean() > 0.8
    assert error[inside].quantile(0.999) < 0.02
    still = (made[0] - made[1]).abs().mean(1)
    assert error[:, 0][inside[:, 0]].mean() < 0.2 * still.mean()


def test_it_turns_and_zooms(pictures, generator):
    flow = layers(pictures, 8, 12.0, generator, **BARE)[4]
    speed = flow[:, 2:] - flow[:, :2]
    dy, dx = speed[..., 1:, :-1] - speed[..., :-1, :-1], speed[..., :-1, 1:] - speed[..., :-1, :-1]
    curl, spread = (dx[:, 1] - dy[:, 0]).mean((1, 2)), (dx[:, 0] + dy[:, 1]).mean((1, 2))
    assert curl.abs().max() > 0.02 and spread.abs().max() > 0.02


@pytest.mark.parametrize("parts", [{}, {"foregrounds": 1, "thin": 1.0}, {"thin": 1.0, "particles": 1.0}])
def test_flow_leads_to_the_truth_where_it_is_visible(pictures, generator, parts):
    error = errors(layers(pictures, 8, 12.0, generator, **parts))
    # Most points are visible in one view at least; what is left are edges, mixed of two layers that part.
    either = error.amin(1)
    assert (either < 0.03).float().mean() > 0.9
    assert (either < 0.1).float().mean() > 0.97


def test_wires_are_thin_and_move(pictures, generator):
    size = 96
    move = synthetic.Move(torch.zeros(6, 2, 2), torch.tensor([[9.0, 5.0]]).expand(6, 2))
    wires = synthetic._wires(lambda *shape: torch.rand(shape, generator=generator), 6, size, move, 1.0)
    (_, there, speed), (_, later, _) = wires(torch.zeros(6)), wires(torch.ones(6))
    assert torch.equal(speed[:, :, 0, 0], move.shift)
    covered = there.mean((1, 2, 3))
    assert (covered > 0.002).all() and (covered < 0.6).all()
    assert torch.allclose(later[..., 5:, 9:], there[..., :-5, :-9], atol=1e-3)
    assert (later - there).abs().mean() > 0.5 * covered.mean()
    # No wire is wider than 3 pixels and two soft edges: nothing is left 3 pixels away from what is not wire.
    hollow = torch.nn.functional.max_pool2d(1 - there, 7, 1, 3)
    assert ((there > 0.5) & (hollow < 0.5)).float().mean() < 0.01


def test_particles_go_their_own_way(pictures, generator):
    uniform = lambda *shape: torch.rand(shape, generator=generator)  # noqa: E731
    particles = synthetic._particles(uniform, 2, 96, 12.0, 1.0)
    (_, there, speed), (_, later, _) = particles(torch.zeros(2)), particles(torch.ones(2))
    motions = {tuple(pair) for pair in speed[0].permute(1, 2, 0)[there[0, 0] > 0.5].round(decimals=3).tolist()}
    assert len(motions) > synthetic.PARTICLES / 2
    assert 0.005 < there.mean() < 0.1
    assert (later - there).abs().mean() > 0.5 * there.mean()
    # Each lies where its speed says.
    where = (there[0, 0] > 0.9).nonzero()
    ends = (where + speed[0].permute(1, 2, 0)[where[:, 0], where[:, 1]].flip(-1)).round().long()
    inside = ((ends >= 0) & (ends < 96)).all(1)
    assert later[0, 0][ends[inside, 0], ends[inside, 1]].min() > 0.2


def test_parts_are_absent_when_not_wanted(pictures, generator):
    flow = layers(pictures, 8, 12.0, generator, foregrounds=0, thin=0.0, particles=1e-9)[4]
    bent = flow[..., 2:] - 2 * flow[..., 1:-1] + flow[..., :-2]
    assert bent.abs().max() < 1e-3  # one affine motion


def test_the_truth_is_as_sharp_as_the_views(generator):
    noise = torch.rand(8, 3, 96, 96, generator=generator)
    img0, gt, img1 = layers(noise, 8, 12.0, generator, **BARE)[:3]
    sharpness = [image.diff(dim=-1).square().mean() for image in (img0, gt, img1)]
    assert 0.7 < sharpness[0] / sharpness[1] < 1.4 and 0.7 < sharpness[2] / sharpness[1] < 1.4


def test_ageing_spares_the_truth(pictures):
    def made(**how):
        return layers(pictures, 8, 12.0, torch.Generator().manual_seed(1), **BARE, **how)

    clean = made()
    for how in ({"grain": 0.03}, {"compression": 0.1}):
        aged = made(**how)
        assert torch.equal(aged[1], clean[1]) and torch.equal(aged[4], clean[4])
        assert 0.001 < (aged[0] - clean[0]).abs().mean() < 0.05
        assert aged[0].min() >= 0 and aged[0].max() <= 1


def test_quantising_blocks(pictures):
    image = pictures[:3, :, :90, :75]
    step = torch.tensor([0.0, 0.02, 0.2])
    stored = synthetic.quantise(image, step)
    error = (stored - image).abs().mean((1, 2, 3))
    assert torch.equal(stored[0], image[0]) and stored.shape == image.shape
    assert 0 < error[1] < 0.02 < 2 * error[1] < error[2]
    assert torch.allclose(synthetic.quantise(image, torch.full((3,), 1e-4)), image, atol=3e-3)
    # What is left of a block under a step so coarse is its mean.
    flat = synthetic.quantise(image, torch.full((3,), 0.9))[..., :8, :8]
    assert flat.std((-1, -2)).mean() < 0.5 * image[..., :8, :8].std((-1, -2)).mean() + 0.02


def test_the_same_seed_makes_the_same_scenes(pictures):
    first, second = (layers(pictures, 4, 12.0, torch.Generator().manual_seed(1)) for _ in range(2))
    assert all(torch.equal(a, b) for a, b in zip(first, second, strict=True))


def test_it_never_waits_for_the_device():
    # Tensors without values: whatever asked for one, and would make a GPU's queue run dry, raises here.
    with FakeTensorMode():
        pictures = torch.rand(4, 3, 64, 64)
        made = layers(pictures, 4, 12.0, torch.Generator(), thin=1.0, particles=1.0, grain=0.03, compression=0.1)
    assert [tuple(each.shape) for each in made[:3]] == [(4, 3, 64, 64)] * 3
