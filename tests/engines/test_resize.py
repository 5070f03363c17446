"""Checkpoints for other numbers of ranks ask the algorithm what is unsent, whatever its memories are called."""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor

from gradvote import algorithms, recipes
from gradvote.core import Algorithm, Context
from gradvote.distributed import resize
from gradvote.engines.common.placement import block_sizes
from gradvote.engines.common.protocol import protocol_for
from gradvote.engines.distributed.session import _owners
from gradvote.engines.distributed.states import owners_of, rows_of, saved_of, states_by_size
from gradvote.engines.simulation import Simulation
from gradvote.lab.train import metrics
from tests.contract.parts import ALGORITHMS, row, same
from tests.engines.leftovers import Leftovers, with_leftovers

SHAPES, M = ((130,), (3, 5), (1,)), 3
D = sum(torch.Size(shape).numel() for shape in SHAPES)


def trained(algorithm: Algorithm) -> Simulation:
    """Three rounds at falling rates; in the last, worker 2's first block abstains and keeps an older rate."""
    sim = Simulation(protocol_for([torch.zeros(shape) for shape in SHAPES], algorithm, 1), M)
    for step, lr in enumerate((0.1, 0.1, 0.04)):
        g = torch.randn(M, D, generator=torch.Generator().manual_seed(step))
        if step == 2:
            g[2, 0] = torch.nan
        sim.step(g, step, lr)
    return sim


def checkpoints(sim: Simulation) -> list[dict[str, Any]]:
    """What M ranks would save: the form of `Exchange.state_dict`."""
    layout, names = sim.protocol.layout, [f"p{i}" for i in range(len(SHAPES))]
    facts = {
        "version": 1,
        "recipe": repr((sim.protocol.algorithm, layout.numels, sim.protocol.seed)),
        "num_ranks": M,
        "placement": "sharded",
        "step": 3,
        "block_sizes": torch.tensor(block_sizes(layout)),
        "server": {},
    }
    states = []
    for i in range(M):
        rows: dict[str, dict[int, Tensor]] = {}
        rows_of(layout, [row(state, i) for state in sim.workers], rows)  # type: ignore[misc]
        states.append({**facts, "rank": i, "worker": saved_of(rows, _owners(layout), names)})
    return states


def unsent(algorithm: Algorithm, checkpoint: dict[str, Any]) -> Tensor:
    """What a rank has not sent, (d,) block by block."""
    saved = checkpoint["worker"]
    states = states_by_size(algorithm.up, saved, checkpoint["block_sizes"].tolist(), owners_of(saved))
    found = [algorithm.unsent(state) for _, state in states]
    return torch.cat([own.flatten() for own in found if own is not None])


def owed(algorithm: Algorithm, states: list[dict[str, Any]], lr: float = 0.05) -> Tensor:
    """All that a crew still has to send, at a rate (d,): what a round without gradient and momentum has to send."""
    total = torch.zeros(D)
    for state in states:
        saved, sizes, due = state["worker"], state["block_sizes"].tolist(), []
        for blocks, own in states_by_size(algorithm.up, saved, sizes, owners_of(saved)):
            n, ctx = sizes[blocks[0]], Context(1, 4, torch.tensor(blocks), 0, lr)
            nothing = torch.zeros(len(blocks), n)
            ballot, after = algorithm.encode(nothing, {**own, "0": {"momentum": nothing}}, ctx)
            left = algorithm.unsent(algorithm.undelivered(after, ballot, ctx, n))
            assert left is not None
            due.append(left.flatten())
        total = total + torch.cat(due)
    return total


CREWS: dict[str, Callable[[], Algorithm]] = {
    "leftovers": with_leftovers,
    "dist-ef-sgdm": lambda: replace(algorithms.dist_ef_sgdm(), block_size=64),
    "dropsignsgd": lambda: replace(algorithms.dropsignsgd(), block_size=64),
}


@pytest.mark.parametrize("make", CREWS.values(), ids=CREWS)
def test_nothing_unsent_is_lost(make: Callable[[], Algorithm]) -> None:
    algorithm = make()
    states = checkpoints(trained(algorithm))
    for num_ranks in (1, 2):
        smaller = resize(states, num_ranks)
        assert len(smaller) == num_ranks and bool(owed(algorithm, states).any())
        torch.testing.assert_close(owed(algorithm, smaller), owed(algorithm, states), rtol=1e-5, atol=1e-6)
    assert same(smaller[0]["worker"]["p1"]["0.momentum"], states[0]["worker"]["p1"]["0.momentum"])
    larger = resize(states, 5)
    assert [same(a["worker"], b["worker"]) for a, b in zip(larger, states, strict=False)] == [True] * M
    assert larger[4]["worker"] == {}
    assert [same(a["worker"], b["worker"]) for a, b in zip(resize(larger, 2), resize(states, 2), strict=True)] == [
        True
    ] * 2


def test_merged_as_the_parts_say() -> None:
    """Bit for bit what `merge` makes of the workers' states, block by block."""
    algorithm = with_leftovers()
    sim = trained(algorithm)
    (whole,) = resize(checkpoints(sim), 1)
    for group, state in zip(sim.protocol.layout.groups, sim.workers, strict=True):
        expected = row(state, 0)
        for i in (1, 2):
            expected = algorithm.merge(expected, row(state, i))  # type: ignore[arg-type]
        ((_, found),) = states_by_size(algorithm.up, whole["worker"], whole["block_sizes"].tolist(), group.blocks)
        assert same(found, expected)


def test_metrics_see_memories_by_any_name() -> None:
    sim = trained(with_leftovers())
    squares = sum(unsent(sim.protocol.algorithm, state).square().sum() for state in checkpoints(sim))
    found = metrics.memory_norm(sim.protocol.algorithm, sim.workers, M)
    assert found == pytest.approx(float((squares / M) ** 0.5)) and found > 0


def test_stateless_algorithms_have_nothing_to_merge() -> None:
    states = checkpoints(trained(algorithms.signsgd()))
    assert [s["worker"] for s in resize(states, 2)] == [{}, {}]


@pytest.mark.parametrize("name", ALGORITHMS)
def test_a_recipe_reads_back(name: str) -> None:
    algorithm = ALGORITHMS[name]
    assert recipes.first_of(repr((algorithm, (70, 3), 1))) == algorithm


def test_parts_of_other_packages_are_found_or_given() -> None:
    """They are read back once imported; what nobody can find is asked for, and a wrong answer is refused."""
    algorithm = with_leftovers()
    states = checkpoints(trained(algorithm))
    assert recipes.first_of(states[0]["recipe"]) == algorithm
    for state in states:
        state["recipe"] = state["recipe"].replace("Leftovers(", "Unheard(")
    with pytest.raises(ValueError, match=r"part Unheard; import .* Or give resize the run's algorithm"):
        resize(states, 2)
    assert len(resize(states, 3, "central")) == 3
    with pytest.raises(ValueError, match="of another algorithm"):
        resize(states, 2, algorithm=algorithm)

    class Unheard(Leftovers):
        def __repr__(self) -> str:
            return f"Unheard(codec={self.codec!r})"

    given = replace(algorithm, up=replace(algorithm.up, codec=Unheard(algorithm.up.codec.codec)))  # type: ignore[call-arg, attr-defined]
    assert len(resize(states, 2, algorithm=given)) == 2
    for state in states:
        state["worker"]["p0"]["spare"] = torch.zeros(3)
    with pytest.raises(ValueError, match=r"holds the states .*spare.* Use the algorithm it was saved with"):
        resize(states, 2, algorithm=given)


@pytest.mark.parametrize("recipe", ["", "(3, 4)", "(a.b(), 1)", "(Algorithm(up=Sign()), 1)", "(print('x'), 1)"])
def test_only_known_parts_are_built(recipe: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(ValueError, match="No algorithm can be read back"):
        recipes.first_of(recipe)
    assert capsys.readouterr().out == ""


def test_what_is_no_state_of_a_vote_is_named() -> None:
    """A file that holds the model's as well, or the wrong key of it."""
    good = checkpoints(trained(algorithms.signum()))
    with pytest.raises(ValueError, match=r"Item 1 of the states is no state_dict\(\) of an Exchange"):
        resize([good[0], {"model": {}, "vote": good[1]}], 2)
    with pytest.raises(ValueError, match="No states were given"):
        resize([], 2)
