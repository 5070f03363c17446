"""Law 9: units of zeros at the input of a plain sign move nothing: 64 coordinates, or a row where rows do not fit.

"Plain" are the algorithms without noise and without memory; their momenta begin with zeros, too. Single zeros follow
the rule for zeros.
"""

import math
from collections.abc import Sequence

import pytest
import torch
from torch import Tensor

from gradvote import algorithms
from gradvote.aggregators import MajorityVote, Mean
from gradvote.algorithms import signsgd
from gradvote.codecs import Masked, Sign
from gradvote.core import Algorithm, Units
from gradvote.engines.common.protocol import protocol_for
from gradvote.engines.simulation import Simulation
from gradvote.transforms import Relative
from tests.contract.parts import ALGORITHMS, context, remembers, senders

PLAIN = [n for n, a in ALGORITHMS.items() if not ("Noise(" in repr(a.up) or a.mirrors or remembers(a.up))]
ROWS = 400
HERE = torch.zeros(()).device


def moved(algorithm: Algorithm, shape: tuple[int, ...], touched: Sequence[Sequence[int]], steps: int = 3) -> Tensor:
    """Σ |direction| of a tensor, of which worker i has gradients in the rows `touched[i]`, one coordinate in each."""
    sim = Simulation(protocol_for([torch.zeros(shape)], algorithm, 5), len(touched), device=HERE)
    total, last = torch.zeros(math.prod(shape)), torch.zeros(math.prod(shape))
    for step in range(steps):
        gradients = torch.zeros(len(touched), *shape)
        for i, rows in enumerate(touched):
            gradients[i].view(shape[0], -1)[list(rows), (step + i) % math.prod(shape[1:])] = 1.0 - 2 * (i % 2)
        flat = torch.stack([sim.protocol.layout.flatten([g], out=last.clone()) for g in gradients])
        sim.protocol.layout.unflatten(sim.step(flat, step, 0.1), [last])
        total += last.abs()
    return total.view(shape[0], -1)


@pytest.mark.parametrize("columns", [1, 3, 16, 48, 64, 100, 128])
@pytest.mark.parametrize("name", PLAIN)
def test_rows_that_nobody_touched_stay(name: str, columns: int) -> None:
    """Also where blocks cut rows, and whatever the number of workers; in a vote, rows of one worker move."""
    for num_workers in (1, 2, 3):
        touched = [[7 * i, 7 * i + 1, ROWS - 1] for i in range(num_workers)]
        total = moved(ALGORITHMS[name], (ROWS, columns), touched)
        seen = torch.zeros(ROWS, dtype=torch.bool)
        seen[[row for rows in touched for row in rows]] = True
        assert bool((total[~seen] == 0).all())
        if "MajorityVote" in repr(ALGORITHMS[name]):
            assert bool((total[: ROWS - 1][seen[: ROWS - 1]] != 0).any(1).all())


@pytest.mark.parametrize("shape", [(40, 3, 3, 3), (6, 4, 5, 5), (130,), (3, 1000)])
def test_whole_tensors_of_zeros_stay(shape: tuple[int, ...]) -> None:
    sim = Simulation(protocol_for([torch.zeros(shape)], signsgd(), 5), 2, device=HERE)
    assert not bool(sim.step(torch.zeros(2, math.prod(shape)), 0, 0.1).any())


def test_without_the_rule_they_walk() -> None:
    assert bool((moved(signsgd(still=False), (ROWS, 16), [[0], [1]])[2:] != 0).all())


@pytest.mark.parametrize("zero", ["random", "positive"])
def test_a_single_zero_follows_its_rule(zero: str) -> None:
    g = torch.zeros(1, 128)
    g[0, 64] = 1.0
    direction = Simulation(protocol_for([torch.zeros(2, 64)], signsgd(zero=zero), 5), 1, device=HERE).step(g, 0, 0.1)  # type: ignore[arg-type]
    assert not bool(direction[:64].any()) and bool((direction[64:].abs() == 1).all())
    assert bool((direction[64:] == 1).all()) == (zero == "positive")


def test_momenta_send_on_after_a_row_was_touched() -> None:
    """One gradient in the first step, then none: the row still moves, its neighbours never did."""
    for name in ("signum", "lion"):
        sim = Simulation(protocol_for([torch.zeros(3, 64)], algorithms.create(name), 5), 1, device=HERE)
        first = torch.zeros(1, 192)
        first[0, 64:128] = 1.0
        sim.step(first, 0, 0.1)
        later = sim.step(torch.zeros(1, 192), 1, 0.1)
        assert bool((later[64:128] == 1).all()) and not bool(later[:64].any()) and not bool(later[128:].any())


def test_relative_noise_leaves_a_block_of_zeros_alone() -> None:
    algorithm = algorithms.noisy(signsgd(), Relative())
    x = torch.zeros(3, 2, 128)
    x[:, 1] = 1.0
    ctx = context(senders(3), 2)
    ballots, _ = algorithm.encode(x, algorithm.up.init(x), ctx)
    decision, _ = algorithm.combine(ballots, {}, ctx, 128)
    direction, _ = algorithm.decode(decision, algorithm.up.init(x), ctx, 128)
    assert not bool(direction[0].any()) and bool((direction[1].abs() == 1).all())


def test_who_has_zeros_is_outvoted_by_one_who_has_not() -> None:
    """Zeros of two count for nobody: one worker decides; a tie of two who speak is a tie; in a mean they are zeros."""
    units = Units(3, torch.tensor([1]))
    ctx = context(senders(4), 1, units=units)
    x = torch.tensor([[0.0, 0, 0, 0, 0, 0, 1], [0, 0, 0, 0, 0, 0, 2], [-1, 2, 0, 0, 0, 3, 1], [0, 0, 0, 0, 0, -3, -1]])
    ballots, _ = Sign(zero="positive", still=True).encode(x[:, None], {}, ctx)
    assert ballots["still"].flatten().tolist() == [0b011, 0b011, 0b010, 0b011]
    vote = Sign(still=True).reduce(ballots, MajorityVote("positive", still=True), ctx, 7)
    assert vote.tolist() == [[-1, 1, 0, 0, 0, 1, 1]]
    mean = Sign(still=True).reduce(ballots, Mean(), ctx, 7)
    assert mean.tolist() == [[-0.25, 0.25, 0, 0, 0, 0.5, 0.5]]


def test_silence_is_no_tie() -> None:
    ctx = context(senders(4), 1, units=Units(1))
    ballots, _ = Sign(still=True).encode(torch.tensor([[0.0, 0], [0, 0], [1, 0], [-1, 0]])[:, None], {}, ctx)
    assert MajorityVote(still=True).ties(Sign(still=True), ballots, ctx, 2) == 1
    vote = Sign(still=True).reduce(ballots, MajorityVote("positive", still=True), ctx, 2)
    assert vote.tolist() == [[1, 0]]


def test_masks_leave_units_alone_on_which_nobody_speaks() -> None:
    codec, n = Masked(0.5, Sign(still=True)), 640
    algorithm, ctx = Algorithm(codec, MajorityVote(still=True), Sign(still=True)), context(senders(3), 1)
    x = torch.ones(3, 1, n)
    x[..., 64:256] = 0
    ballots, _ = algorithm.encode(x, {}, ctx)
    direction, _ = algorithm.decode(algorithm.combine(ballots, {}, ctx, n)[0], {}, ctx, n)
    assert (direction[0] == 0).nonzero()[:, 0].tolist() == list(range(64, 256))
