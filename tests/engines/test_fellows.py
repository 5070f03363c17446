"""Who contradicts its fellows is found, whoever it is, and its ballots do not count."""

from dataclasses import replace
from itertools import combinations

import pytest
import torch
from torch import Tensor

from gradvote import algorithms
from gradvote.aggregators import MajorityVote
from gradvote.engines.common.fellows import Fellows, fellows_of
from gradvote.engines.common.protocol import protocol_for
from gradvote.engines.simulation import Simulation

M, D = 10, 300
HOLDERS = tuple(tuple(sorted(i for i in range(M) if (c - 3 * i) % M < 3)) for c in range(M))
"""Three of ten workers hold each class, three classes each: `ByClass(redundancy=3)`."""


def updates(liars: tuple[int, ...] = ()) -> Tensor:
    """Of each class a direction; a worker's update is the sum of its classes', and noise."""
    made = torch.Generator().manual_seed(5)
    classes = torch.randn(M, D, generator=made)
    held = torch.tensor([[float(i in own) for own in HOLDERS] for i in range(M)])
    x = held @ classes + torch.randn(M, D, generator=made)
    x[list(liars)] *= -1
    return x


def simulation(fellows: tuple[tuple[int, ...], ...] = HOLDERS, weights: tuple[float, ...] | None = None) -> Simulation:
    algorithm = replace(algorithms.signsgd(), aggregate=MajorityVote(weights=weights))
    return Simulation(protocol_for([torch.zeros(20, 10), torch.zeros(100)], algorithm, 1), M, fellows=fellows)


def test_any_three_of_ten_that_invert_are_found_even_all_that_hold_a_class() -> None:
    fellows, agree = Fellows(HOLDERS), updates().sign().long()
    for liars in combinations(range(M), 3):
        side = torch.ones(M, dtype=torch.int64)
        side[list(liars)] = -1
        tally = fellows.init()
        for i, j in fellows.pairs:
            tally[i, j] = tally[j, i] = side[i] * side[j] * (agree[i] * agree[j]).sum()
        assert fellows.doubted(tally) == set(liars)
    assert not fellows.doubted(fellows.init())


def test_a_doubted_ballot_counts_as_little_as_one_of_weight_zero() -> None:
    sim, told = simulation(), simulation((), tuple(float(i not in (1, 4, 7)) for i in range(M)))
    for step in range(3):
        x = updates((1, 4, 7))
        assert torch.equal(sim.step(x, step, 0.1), told.step(x, step, 0.1))
        assert sim.doubted == {1, 4, 7}


def test_the_tally_is_that_of_the_signs_and_abstentions_add_nothing() -> None:
    sim, x = simulation(((0, 1, 2), (2, 3))), updates()
    x[1] = torch.nan
    sim.step(x, 0, 0.1)
    sim.step(x, 1, 0.1)
    expected = torch.zeros(4, 4, dtype=torch.int64)
    for i, j in ((0, 2), (2, 3)):
        expected[i, j] = expected[j, i] = 2 * (x[i].sign() * x[j].sign()).sum().long()
    assert torch.equal(sim.state_dict()["fellows"], expected)


def test_where_sides_are_equal_nobody_is_doubted_and_others_are_not_touched() -> None:
    x = updates()
    x[1] = -x[0]
    sim = simulation(((0, 1),))
    assert torch.equal(sim.step(x, 0, 0.1), simulation(()).step(x, 0, 0.1))
    assert not sim.doubted


def test_a_state_goes_on_to_the_same_bits_and_fits_no_other_simulation() -> None:
    one, other = simulation(), simulation()
    one.step(updates((2, 5)), 0, 0.1)
    other.load_state_dict(one.state_dict())
    assert other.doubted == {2, 5}
    assert torch.equal(one.step(updates(), 1, 0.1), other.step(updates(), 1, 0.1))
    with pytest.raises(ValueError, match="fellows"):
        simulation(()).load_state_dict(one.state_dict())


def test_odd_groups_are_refused() -> None:
    assert fellows_of(()) is None
    with pytest.raises(TypeError, match="takes groups of workers' numbers"):
        fellows_of("0 1")
    for group in ((1,), (1, 1), 3):
        with pytest.raises(ValueError, match="two or more different workers"):
            fellows_of([group])
    with pytest.raises(ValueError, match="at least 0; got -1"):
        fellows_of([(-1, 2)])
