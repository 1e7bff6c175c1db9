"""Steps: what each kind of model is asked for, in which order."""

from fractions import Fraction as F

import pytest

from comfy_fusionfft.contract import Reach
from comfy_fusionfft.engine.steps import Step, plan, shot_around
from comfy_fusionfft.errors import TimelineError


def test_direct_plan_is_one_step_with_the_window_clipped_to_the_clip():
    thirds = [F(1, 3), F(2, 3)]
    assert plan(0, thirds, Reach(), (0, 9)) == [Step((F(0), F(1)), tuple(thirds))]
    assert plan(0, [F(1, 2)], Reach(before=3, after=3), (0, 1)) == [Step((F(0), F(1)), (F(1, 2),))]
    assert plan(4, [F(9, 2)], Reach(before=3, after=2), (0, 9))[0].needs == (2, 3, 4, 5, 6)
    assert plan(4, [], Reach(), (0, 9)) == []


def feasible(steps, index):
    """Every need exists when its step runs; returns what was made."""
    have = {F(index), F(index + 1)}
    for step in steps:
        assert set(step.needs) <= have
        have |= set(step.makes)
    return have - {F(index), F(index + 1)}


@pytest.mark.parametrize("power", [1, 2, 3, 4])
def test_middle_only_models_reach_powers_of_two_by_halving(power):
    n = 2**power
    steps = plan(5, [5 + F(k, n) for k in range(1, n)], Reach(times="middle"), (0, 9))
    assert len(steps) == n - 1
    assert all(step.makes[0] == sum(step.needs) / 2 for step in steps)
    assert feasible(steps, 5) == {5 + F(k, n) for k in range(1, n)}


def test_halving_makes_only_what_the_wanted_instants_need():
    assert [s.makes[0] for s in plan(0, [F(3, 4)], Reach(times="middle"), (0, 1))] == [F(1, 2), F(3, 4)]


def test_thirds_are_refused_by_a_middle_only_model():
    with pytest.raises(TimelineError, match=r"instant 1/3 .* makes only middles: use a multiplier of 2, 4, 8"):
        plan(0, [F(1, 3), F(2, 3)], Reach(times="middle"), (0, 1))


@pytest.mark.parametrize("n", range(2, 19))
def test_peeling_goes_outside_in_with_exact_local_times(n):
    steps = plan(2, [2 + F(k, n) for k in range(1, n)], Reach(peel=1), (0, 9))
    assert feasible(steps, 2) == {2 + F(k, n) for k in range(1, n)}
    remaining = n
    for step in steps:
        left, right = step.needs
        local = [(t - left) / (right - left) for t in step.makes]
        assert local == ([F(1, 2)] if remaining == 2 else [F(1, remaining), F(remaining - 1, remaining)])
        remaining -= 2


def test_peeling_carries_the_last_enclosing_pairs():
    steps = plan(0, [F(k, 8) for k in range(1, 8)], Reach(peel=3), (0, 1))
    assert [len(step.needs) for step in steps] == [2, 4, 6, 6]
    assert steps[3].needs == (F(1, 8), F(2, 8), F(3, 8), F(5, 8), F(6, 8), F(7, 8))
    unlimited = plan(0, [F(k, 16) for k in range(1, 16)], Reach(peel=99), (0, 1))
    # with unlimited history each made frame is looked at from every enclosing pair: floor((n+1)^2/4) calls
    assert sum(len(step.needs) // 2 * len(step.makes) for step in unlimited) == 64


def test_windows_stop_at_cuts():
    cuts = {3, 8}
    assert shot_around(0, cuts, 20) == (0, 2)
    assert shot_around(5, cuts, 20) == (3, 7)
    assert shot_around(9, cuts, 20) == (8, 20)
    assert shot_around(5, (), 7) == (0, 7)
    assert plan(4, [F(9, 2)], Reach(3, 3), shot_around(4, cuts, 7))[0].needs == (3, 4, 5, 6, 7)
    assert plan(3, [F(7, 2)], Reach(3, 3), shot_around(3, cuts, 6))[0].needs == (3, 4, 5, 6)
