from dataclasses import replace

import pytest
import torch
from torch import nn

from gradvote import algorithms
from gradvote.core import State
from gradvote.engines.common.ballot import agreed_rates
from gradvote.engines.common.replica import Replica
from gradvote.engines.common.slot import Slot
from gradvote.engines.elastic.timeouts import Timeouts
from gradvote.wire import WireError


def replica(number: int, name: str = "dist-ef-sgdm", lr: float = 0.1) -> Replica:
    torch.manual_seed(0)
    model = nn.Linear(13, 5)
    optimizer = torch.optim.AdamW(model.parameters(), lr)
    own = Replica(model, optimizer, algorithms.create(name), number, 3, None)
    new_gradients(own, number)
    return own


def new_gradients(own: Replica, seed: int) -> None:
    generator = torch.Generator().manual_seed(seed)
    for p in own.params:
        p.grad = torch.randn(p.shape, generator=generator)


def test_members_with_the_same_ballots_are_alike() -> None:
    a, b = replica(0), replica(4)
    for step in range(3):
        ballots = {r.number: r.vote(Slot(step)) for r in (a, b)}
        for r in (a, b):
            r.keep(ballots[r.number], counted=True)
            r.apply(Slot(step), {number: ballot.body for number, ballot in ballots.items()})
            new_gradients(r, 10 * step + r.number)
        assert a.digest() == b.digest()


@pytest.mark.parametrize("name", ["signsgd", "signum", "lion"])
@pytest.mark.parametrize("columns", [16, 48, 64, 100])
def test_rows_that_nobody_touched_stay(name: str, columns: int) -> None:
    """In elastic runs and under torchft, which vote by the same replica."""
    torch.manual_seed(0)
    tables = [nn.Embedding(9, columns) for _ in range(3)]
    for table in tables:
        table.load_state_dict(tables[0].state_dict())
    members = [
        Replica(table, torch.optim.SGD(table.parameters(), 0.1), algorithms.create(name), i, 3, None)
        for i, table in enumerate(tables)
    ]
    before = tables[0].weight.detach().clone()
    for step in range(3):
        for i, table in enumerate(tables):
            table.weight.grad = None
            table(torch.tensor([1, 4 + i])).square().sum().backward()
        ballots = {own.number: own.vote(Slot(step)) for own in members}
        for own in members:
            own.keep(ballots[own.number], counted=True)
            own.apply(Slot(step), {number: ballot.body for number, ballot in ballots.items()})
    moved = (tables[0].weight != before).any(1)
    assert moved.tolist() == [False, True, False, False, True, True, True, False, False]
    assert all(torch.equal(table.weight, tables[0].weight) for table in tables)


@pytest.mark.parametrize("name", ["dist-ef-sgdm", "dropsignsgd", "ef-signsgd"])
def test_what_did_not_count_stays_unsent(name: str) -> None:
    own = replica(0, name)
    before = own.state_dict()
    gradient = torch.cat([p.grad.flatten() for p in own.params if p.grad is not None])
    ballot = own.vote(Slot(0))
    assert all(torch.equal(a, b) for a, b in zip(leaves(before), leaves(own.state_dict()), strict=True))
    own.keep(ballot, counted=False)
    memory = torch.cat([unsent(own, s).flatten() for s in own.worker])
    scale = 1.9 if name in ("dist-ef-sgdm", "dropsignsgd") else 1.0
    torch.testing.assert_close(memory.sort().values, (scale * gradient).sort().values)


def unsent(own: Replica, state: State) -> torch.Tensor:
    found = own.protocol.algorithm.unsent(state)
    assert found is not None
    return found


def named_leaves(value: object, name: str = "") -> list[tuple[str, torch.Tensor]]:
    if isinstance(value, dict):
        return [pair for key, own in value.items() for pair in named_leaves(own, key)]
    if isinstance(value, list):
        return [pair for own in value for pair in named_leaves(own, name)]
    assert isinstance(value, torch.Tensor)
    return [(name, value)]


def leaves(value: object) -> list[torch.Tensor]:
    return [t for _, t in named_leaves(value)]


def test_a_snapshot_makes_alike_and_leaves_the_own_memory() -> None:
    a, b = replica(0), replica(1)
    ballot = a.vote(Slot(0))
    a.keep(ballot, counted=True)
    a.apply(Slot(0), {0: ballot.body})
    b.keep(b.vote(Slot(0)), counted=False)
    memory = unsent(b, b.worker[0]).clone()
    b.restore(a.snapshot())
    assert a.digest() == b.digest() and torch.equal(unsent(b, b.worker[0]), memory)


def test_a_foreign_snapshot_changes_nothing() -> None:
    own, other = replica(0), replica(0, "signum")
    before = own.digest()
    for raw in (b"", b"no state", replica(0, "lion").snapshot(), other.snapshot()[:-1]):
        with pytest.raises(ValueError):  # torch's reader and our checks word it differently
            own.restore(raw)
        assert own.digest() == before


def test_a_ballot_of_another_length_is_refused() -> None:
    own = replica(0)
    ballot = own.vote(Slot(0))
    assert len(ballot.body) == own.ballot_bytes(Slot(0), 0)
    with pytest.raises(WireError, match="worker 0 has"):
        own.apply(Slot(0), {0: ballot.body + b"\0"})


def test_the_rate_of_most_is_applied() -> None:
    assert agreed_rates([[0.1], [0.2], [0.2]]) == [0.2]
    assert agreed_rates([[0.1], [0.2]]) == [0.1]
    assert agreed_rates([[float("nan")], [0.3], [-1.0]]) == [0.3]
    assert agreed_rates([[float("inf"), 0.5]]) == [0.0, 0.5]
    a, b = replica(0, lr=0.1), replica(1, lr=0.5)
    bodies = {r.number: r.vote(Slot(0)).body for r in (a, b)}
    for r in (a, b):
        r.apply(Slot(0), bodies)
        assert torch.equal(next(iter(r.model.parameters())), next(iter(a.model.parameters())))
    assert b.optimizers.groups[0]["lr"] == 0.5


def test_state_of_the_memories_is_exact() -> None:
    a, b = replica(0), replica(0)
    a.keep(a.vote(Slot(0)), counted=True)
    b.load_state_dict(a.state_dict())
    assert b.vote(Slot(1)).body == a.vote(Slot(1)).body
    with pytest.raises(ValueError, match="worker's memory"):
        b.load_state_dict(replica(0, "signum").state_dict())


def test_timeouts_must_rise() -> None:
    with pytest.raises(ValueError, match="must rise from grace to deadline"):
        Timeouts(deadline=0.1)
    assert "0.5 s (deadline)" in str(replace(Timeouts(), deadline=0.5))


def test_a_step_that_failed_half_way_is_not_taken_again(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object) -> None:
        raise MemoryError("no room")

    own = replica(0)
    ballots = {0: own.vote(Slot(0)).body}
    with monkeypatch.context() as patch:
        patch.setattr(own.optimizers.all[0], "step", fail)
        with pytest.raises(MemoryError):
            own.apply(Slot(0), ballots)
    with pytest.raises(RuntimeError, match=r"Step 0 failed on this worker"):
        own.apply(Slot(0), ballots)
    with pytest.raises(RuntimeError, match=r"Step 0 failed on this worker"):
        own.state_dict()


@pytest.mark.parametrize("unscaled_before", [False, True])
def test_after_a_step_that_was_not_taken_gradients_are_divided_by_the_scale_again(unscaled_before: bool) -> None:
    """Under torchft, and where a member was left out: the next vote had been on gradients 1024 times as large."""
    model = nn.Linear(13, 5)
    scaler = torch.amp.GradScaler("cpu", init_scale=1024.0, growth_interval=1)
    optimizer = torch.optim.SGD(model.parameters(), 0.1)
    own = Replica(model, optimizer, algorithms.sgd(), 0, 3, None, scaler=scaler)

    def backward() -> None:
        optimizer.zero_grad()
        scaler.scale(model(torch.ones(2, 13)).sum()).backward()
        if unscaled_before:
            scaler.unscale_(optimizer)

    backward()
    first = own.vote(Slot(0)).body
    assert own.vote(Slot(0)).body == first, "tried again with the same gradients"
    backward()
    assert own.vote(Slot(0)).body == first, "and with new ones"
    own.apply(Slot(0), {0: first})
    assert scaler.get_scale() == 2048.0
