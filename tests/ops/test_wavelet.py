import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from comfy_fusionfft.errors import InputError
from comfy_fusionfft.ops.wavelet import analyse, synthesise


@settings(max_examples=25, deadline=None)
@given(st.integers(1, 2), st.integers(1, 4), st.integers(1, 9), st.integers(1, 9), st.integers(0, 2**30))
def test_there_and_back_is_exact_for_whole_numbers(batch, channels, rows, columns, seed):
    random = torch.Generator().manual_seed(seed)
    picture = torch.randint(0, 65536, (batch, channels, 2 * rows, 2 * columns), generator=random).float()
    low, details = analyse(picture)
    assert low.shape == (batch, channels, rows, columns)
    assert details.shape == (batch, channels, 3, rows, columns)
    assert torch.equal(synthesise(low, details), picture)


def test_there_and_back_keeps_any_picture_and_its_energy():
    picture = torch.randn(2, 3, 48, 80)
    low, details = analyse(picture)
    torch.testing.assert_close(synthesise(low, details), picture, atol=5e-7, rtol=0)
    energy = low.square().sum() + details.square().sum()
    torch.testing.assert_close(energy, picture.square().sum())


def test_bands_are_what_they_are_called():
    a, b, c, d = 1.0, 2.0, 4.0, 8.0
    low, details = analyse(torch.tensor([[[[a, b], [c, d]]]]))
    assert low.flatten().tolist() == [7.5]
    assert details.flatten().tolist() == [(a + b - c - d) / 2, (a - b + c - d) / 2, (a - b - c + d) / 2]


def test_a_constant_doubles_with_each_level():
    low = torch.full((1, 3, 32, 16), 0.25)
    for _ in range(4):
        low, details = analyse(low)
        assert not details.any()
    assert torch.equal(low, torch.full((1, 3, 2, 1), 4.0))


def test_gradients_pass_both_ways():
    picture = torch.randn(1, 1, 4, 4, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(lambda p: analyse(p), picture)
    bands = [t.detach().requires_grad_() for t in analyse(picture)]
    assert torch.autograd.gradcheck(synthesise, bands)


def test_odd_sides_are_refused():
    with pytest.raises(InputError, match="a 7×4 picture; the Haar wavelet needs even sides, so pad it"):
        analyse(torch.zeros(1, 3, 4, 7))
