from math import cos, pi, sqrt

import pytest
import torch

from comfy_fusionfft.errors import InputError
from comfy_fusionfft.ops.dct import analyse, patterns, synthesise


def test_there_and_back_keeps_any_picture_and_its_energy():
    picture = torch.randn(2, 3, 24, 40)
    coefficients = analyse(picture)
    assert coefficients.shape == (2, 192, 3, 5)
    torch.testing.assert_close(synthesise(coefficients), picture, atol=2e-6, rtol=0)
    torch.testing.assert_close(coefficients.square().sum(), picture.square().sum())


def test_coefficients_are_by_definition_what_they_are_called():
    block = torch.randn(8, 8, dtype=torch.float64)
    made = analyse(block[None, None])[0, :, 0, 0]
    for u, v in ((0, 0), (0, 3), (5, 0), (7, 6)):
        scale = (1 if u == 0 else sqrt(2)) * (1 if v == 0 else sqrt(2)) / 8
        waves = ((cos(pi * u * (i + 0.5) / 8) * cos(pi * v * (j + 0.5) / 8), i, j) for i in range(8) for j in range(8))
        wanted = scale * sum(wave * block[i, j] for wave, i, j in waves)
        torch.testing.assert_close(made[u * 8 + v], wanted, atol=1e-6, rtol=0)


def test_a_constant_is_in_the_first_pattern_of_each_channel():
    made = analyse(torch.tensor([1.0, 2, -3]).view(1, 3, 1, 1).expand(-1, -1, 16, 8)).view(3, 64, 2)
    torch.testing.assert_close(made[:, 0], torch.tensor([[8.0, 8], [16, 16], [-24, -24]]))
    assert made[:, 1:].abs().max() < 1e-5


def test_patterns_are_orthonormal():
    flat = patterns().flatten(1).double()
    torch.testing.assert_close(flat @ flat.T, torch.eye(64, dtype=torch.float64), atol=1e-6, rtol=0)
    assert torch.equal(patterns(3), patterns().repeat(3, 1, 1, 1))


def test_another_basis_is_used():
    picture = torch.randn(1, 3, 8, 8)
    torch.testing.assert_close(analyse(picture, 2 * patterns(3)), 2 * analyse(picture))
    torch.testing.assert_close(synthesise(analyse(picture), 2 * patterns(3)), 2 * picture, atol=1e-5, rtol=0)


def test_gradients_pass_both_ways():
    picture = torch.randn(1, 1, 8, 16, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(lambda p: synthesise(analyse(p) ** 2), picture)


def test_other_sides_are_refused():
    with pytest.raises(InputError, match="a 12×8 picture; the transform of 8×8 blocks needs multiples: pad it"):
        analyse(torch.zeros(1, 3, 8, 12))
