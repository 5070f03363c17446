"""Who contradicts its fellows is found, whoever it is, and its ballots do not count."""

import math
from dataclasses import replace
from itertools import combinations
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from gradvote import algorithms
from gradvote.aggregators import MajorityVote
from gradvote.core import Algorithm, Context, Payload
from gradvote.engines.common.fellows import Fellows, fellows_of
from gradvote.engines.common.protocol import protocol_for
from gradvote.engines.simulation import Simulation
from gradvote.faults import Drop, Faulty

M, D = 10, 3000
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
    return Simulation(protocol_for([torch.zeros(200, 10), torch.zeros(1000)], algorithm, 1), M, fellows=fellows)


def unsent(sim: Simulation) -> Tensor:
    """What the workers' memories hold (M, D)."""
    found = [sim.protocol.algorithm.up.unsent(state) for state in sim.workers]
    return torch.cat([own.flatten(1) for own in found if own is not None], 1)


def test_any_three_of_ten_that_invert_are_found_even_all_that_hold_a_class() -> None:
    fellows, agree = Fellows(HOLDERS), updates().sign().long()
    for liars in combinations(range(M), 3):
        side = torch.ones(M, dtype=torch.int64)
        side[list(liars)] = -1
        sums = [int(side[i] * side[j] * (agree[i] * agree[j]).sum()) for i, j in fellows.pairs]
        tally = torch.tensor([sums, [D] * len(sums)])
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
    expected = torch.zeros(2, 4, dtype=torch.int64)
    for place, (i, j) in {1: (0, 2), 3: (2, 3)}.items():
        expected[:, place] = 2 * torch.tensor([int((x[i].sign() * x[j].sign()).sum()), D])
    assert torch.equal(sim.state_dict()["fellows"]["tally"], expected)


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
    for others in ((), HOLDERS[:-1], ((0, 1),)):
        with pytest.raises(ValueError, match="was saved with fellows="):
            simulation(others).load_state_dict(one.state_dict())
        with pytest.raises(ValueError, match="was saved with fellows="):
            one.load_state_dict(simulation(others).state_dict())
    turned = simulation(tuple(group[::-1] for group in reversed(HOLDERS)))
    turned.load_state_dict(one.state_dict())
    assert turned.doubted == one.doubted


ALGORITHMS = [algorithms.ef_signsgd(), algorithms.dist_ef_sgdm(0.0)]


@pytest.mark.parametrize("algorithm", ALGORITHMS, ids=["ef_signsgd", "dist_ef_sgdm"])
def test_what_a_doubted_ballot_held_stays_in_the_memory(algorithm: Algorithm) -> None:
    protocol = protocol_for([torch.zeros(200, 10), torch.zeros(1000)], algorithm, 1)
    fellows = Simulation(protocol, M, fellows=HOLDERS)
    dropped = Simulation(protocol, M, [Faulty(Drop(), "uplink", (1, 4, 7))], fellows=HOLDERS)
    x, total = updates((1, 4, 7)), torch.zeros(M, D)
    for step in range(3):
        for sim in (fellows, dropped):
            sim.step(x, step, 0.1)
        total += x
        assert fellows.doubted == {1, 4, 7} and not dropped.doubted
        assert torch.equal(unsent(fellows), unsent(dropped))
        kept = unsent(fellows).sort().values[[1, 4, 7]]  # groups of blocks have another order
        assert torch.allclose(kept, total.sort().values[[1, 4, 7]], atol=1e-4)


def test_of_small_ballots_more_are_needed_and_meanwhile_nobody_honest_is_doubted() -> None:
    protocol = protocol_for([torch.zeros(300)], algorithms.signsgd(), 1)
    for liars in ((1, 4, 7), (0, 1, 2), (3, 6, 9)):
        sim = Simulation(protocol, M, fellows=HOLDERS)
        for step in range(20):
            sim.step(updates(liars)[:, 300 * (step % 10) :][:, :300], step, 0.1)
            assert sim.doubted <= set(liars)
        assert sim.doubted == set(liars)


@pytest.mark.parametrize("voters", [3, M])
def test_noise_alone_makes_nobody_doubted(voters: int) -> None:
    groups = HOLDERS if voters == M else ((0, 1, 2),)
    protocol = protocol_for([torch.zeros(1000)], algorithms.signsgd(), 1)
    for seed in range(20):
        sim, made = Simulation(protocol, voters, fellows=groups), torch.Generator().manual_seed(seed)
        for step in range(20):
            sim.step(torch.randn(voters, 1000, generator=made), step, 0.1)
            assert not sim.doubted


def test_a_sum_joins_from_six_standard_deviations_on_in_whole_numbers_of_any_size() -> None:
    fellows = Fellows(((0, 1, 2),))
    for n in (100, 10**4, 10**10, 10**18):
        clear = math.isqrt(36 * n)
        assert not fellows.doubted(torch.tensor([[n, -clear, 0], [n, n, 0]]))
        assert fellows.doubted(torch.tensor([[n, -clear - 1, 0], [n, n, 0]])) == {2}


def test_odd_groups_are_refused() -> None:
    assert fellows_of(()) is None
    with pytest.raises(TypeError, match="takes groups of workers' numbers"):
        fellows_of("0 1")
    for group in ((1,), (1, 1), 3):
        with pytest.raises(ValueError, match="two or more different workers"):
            fellows_of([group])
    with pytest.raises(ValueError, match="at least 0; got -1"):
        fellows_of([(-1, 2)])
    for worker in (True, [0], 1.0, "0", None):
        with pytest.raises(TypeError, match="a whole number from 0 on"):
            fellows_of([(worker, 2)])
    with pytest.raises(TypeError, match=r"got \[0\]"):
        fellows_of([[[0], [1]]])
    with pytest.raises(ValueError, match="below num_workers = 10; got 10"):
        simulation(((0, 10),))


def test_groups_have_no_order_and_numpys_numbers_are_numbers() -> None:
    expected = Fellows(((0, 1), (1, 2, 3)))
    assert fellows_of([(3, 1, 2), (1, 0), (0, 1)]) == expected
    assert fellows_of([np.array([3, 2, 1]), (np.int32(0), np.int64(1))]) == expected
    assert fellows_of(np.array([[1, 0], [0, 1]])) == fellows_of(torch.tensor([[0, 1]])) == Fellows(((0, 1),))


def test_a_tally_is_of_those_that_occur_however_large_their_numbers() -> None:
    fellows = Fellows(((7, 10**9, 10**12),))
    assert fellows.init().numel() == 6
    assert fellows.doubted(torch.tensor([[-300, 300, -300], [300] * 3])) == {10**9}


@pytest.mark.parametrize("algorithm", [algorithms.signsgd(), algorithms.dropsignsgd()], ids=["sign", "masked"])
def test_only_ballots_of_those_that_have_a_fellow_are_decoded(
    algorithm: Algorithm, monkeypatch: pytest.MonkeyPatch
) -> None:
    protocol = protocol_for([torch.zeros(200, 10), torch.zeros(1000)], algorithm, 1)
    ctxs = protocol.contexts(0, torch.arange(M)[:, None], 0.1)
    ballots, _ = protocol.encode(updates(), protocol.init_worker(torch.zeros(M, D)), ctxs)
    fellows, among, seen = Fellows(((2, 5), (5, 9), (3, 77))), [], []
    for ballot, ctx, group in zip(ballots, ctxs, protocol.layout.groups, strict=True):
        among.append(protocol.algorithm.up.decode(ballot, ctx, group.n).sign().long().flatten(1))
    x, codec = torch.cat(among, 1), type(protocol.algorithm.up)
    decode = codec.decode

    def counting(self: Any, ballot: Payload, ctx: Context, n: int) -> Tensor:
        seen.append(len(ballot.valid))
        return decode(self, ballot, ctx, n)

    monkeypatch.setattr(codec, "decode", counting)
    tally = fellows.heard(fellows.init(), protocol, ballots, ctxs, range(M))
    assert set(seen) == {3}
    pairs = [x[2] * x[5], torch.zeros(1), x[5] * x[9]]
    assert tally.tolist() == [[int(p.sum()) for p in pairs], [int(p.count_nonzero()) for p in pairs]]
