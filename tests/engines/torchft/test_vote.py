"""What a script may do wrong, and checkpoints: managers that never ask for a quorum."""

from collections.abc import Iterator
from datetime import timedelta
from typing import Any

import pytest
import torch
from torch import nn

pytest.importorskip("torchft", reason="needs the extra gradvote[torchft]")

from torch.distributed import TCPStore  # type: ignore[attr-defined]
from torchft.coordination import LighthouseServer
from torchft.local_sgd import LocalSGD
from torchft.manager import Manager
from torchft.optim import OptimizerWrapper
from torchft.process_group import ProcessGroupDummy, ProcessGroupGloo

import gradvote
from gradvote import algorithms
from gradvote.core import Algorithm
from tests.engines.torchft.processes import local


class Bench:
    """Managers of one lighthouse, in this process."""

    def __init__(self) -> None:
        self.house = LighthouseServer("127.0.0.1:0", 1, join_timeout_ms=100)
        self.managers, self.stores = list[Manager](), list[TCPStore]()

    def manager(self, group: Any = None, world_size: int = 1) -> Manager:
        store = TCPStore("127.0.0.1", 0, is_master=True, wait_for_workers=False)
        made = Manager(
            pg=group or ProcessGroupGloo(), load_state_dict=None, state_dict=None, min_replica_size=1, rank=0,
            world_size=world_size, store_addr="127.0.0.1", store_port=store.port, replica_id="worker0_",
            lighthouse_addr=local(self.house.address()), hostname="127.0.0.1", timeout=timedelta(seconds=5),
        )  # fmt: skip
        self.managers.append(made)
        self.stores.append(store)
        return made

    def close(self) -> None:
        for manager in self.managers:
            manager.shutdown(wait=False)
        self.house.shutdown()


@pytest.fixture
def bench() -> Iterator[Bench]:
    own = Bench()
    yield own
    own.close()


second = bench


def attach(manager: Any, algorithm: Algorithm | None = None, **options: Any) -> Any:
    torch.manual_seed(0)
    model = nn.Linear(13, 5)
    optimizer = torch.optim.SGD(model.parameters(), 0.1)
    vote = gradvote.torchft.attach(manager, model, optimizer, algorithm or algorithms.dist_ef_sgdm(), **options)
    return vote, model


def step(vote: Any, manager: Manager, model: nn.Module) -> bool:
    manager.start_quorum()
    for i, p in enumerate(model.parameters()):
        p.grad = torch.randn(p.shape, generator=torch.Generator().manual_seed(i + manager.current_step()))
    return bool(vote.step())


def test_a_replica_alone_takes_steps_and_goes_on_from_its_checkpoint(bench: Bench, second: Bench) -> None:
    manager = bench.manager()
    vote, model = attach(manager, worker=3)
    assert step(vote, manager, model) and step(vote, manager, model)
    saved = vote.state_dict(), manager.state_dict(), {k: v.clone() for k, v in model.state_dict().items()}
    assert step(vote, manager, model)
    assert vote.worker == 3 and vote.stats().committed == 3 and vote.stats().bytes_sent == 0

    other = second.manager()
    again, copy = attach(other, worker=3)
    again.load_state_dict(saved[0])
    other.load_state_dict(saved[1])
    copy.load_state_dict(saved[2])
    assert step(again, other, copy)
    assert all(torch.equal(a, b) for a, b in zip(model.parameters(), copy.parameters(), strict=True))


def test_a_checkpoint_of_another_worker_changes_nothing(bench: Bench) -> None:
    vote, _ = attach(bench.manager(), worker=0)
    before = vote.state_dict()
    other, _ = attach(bench.manager(), worker=1)
    foreign, _ = attach(bench.manager(), algorithms.signum(), worker=0)
    for wrong in (other.state_dict(), foreign.state_dict(), {**before, "history": b""}):
        with pytest.raises(ValueError, match="The state to load"):
            vote.load_state_dict(wrong)
    assert str(vote.state_dict()) == str(before)


def test_numbers_come_from_the_script_or_the_environment(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("GRADVOTE_WORKER", raising=False)
    monkeypatch.delenv("REPLICA_GROUP_ID", raising=False)
    with pytest.raises(ValueError, match=r"worker=, or set GRADVOTE_WORKER or REPLICA_GROUP_ID"):
        attach(bench.manager())
    monkeypatch.setenv("REPLICA_GROUP_ID", "ft_4")
    with pytest.raises(ValueError, match="is this replica group's number, from 0 on; got 'ft_4'"):
        attach(bench.manager())
    monkeypatch.setenv("REPLICA_GROUP_ID", "4")
    assert attach(bench.manager())[0].worker == 4
    monkeypatch.setenv("GRADVOTE_WORKER", "2")
    assert attach(bench.manager())[0].worker == 2
    with pytest.raises(ValueError, match="at least 0; got -1"):
        attach(bench.manager(), worker=-1)


def test_what_cannot_be_attached(bench: Bench) -> None:
    manager = bench.manager()
    with pytest.raises(ValueError, match="2 weights, but this is worker 2"):
        attach(manager, algorithms.signsgd(weights=(1.0, 2.0)), worker=2)
    with pytest.raises(ValueError, match="Give it torchft's ProcessGroupGloo"):
        attach(bench.manager(ProcessGroupDummy(0, 1)), worker=0)
    with pytest.raises(ValueError, match="replica group has 2 processes"):
        attach(bench.manager(world_size=2), worker=0)
    with pytest.raises(TypeError, match=r"takes a torchft.Manager first; got"):
        attach(None, worker=0)
    attach(manager, worker=0)
    with pytest.raises(ValueError, match="only once"):
        attach(manager, worker=0)


def test_each_vote_needs_a_quorum_of_its_own(bench: Bench) -> None:
    manager = bench.manager()
    vote, model = attach(manager, worker=0)
    assert step(vote, manager, model)
    before = [p.detach().clone() for p in model.parameters()]
    with pytest.raises(RuntimeError, match=r"twice for one manager.start_quorum\(\)"):
        vote.step()
    assert all(torch.equal(a, b) for a, b in zip(before, model.parameters(), strict=True))
    assert step(vote, manager, model) and manager.current_step() == 2


def test_a_commit_beside_the_vote_is_told(bench: Bench) -> None:
    manager = bench.manager()
    vote, model = attach(manager, worker=0)
    assert step(vote, manager, model)
    wrapped = OptimizerWrapper(manager, torch.optim.SGD(model.parameters(), 0.1))
    for commit in (manager.should_commit, wrapped.step):  # as a script for torchft has it
        with pytest.raises(RuntimeError, match=r"should_commit\(\) was called beside the vote"):
            commit()
    assert manager.current_step() == 1 and step(vote, manager, model)


def test_torchfts_local_sgd_beside_the_vote_is_told(bench: Bench) -> None:
    manager = bench.manager()
    model = nn.Linear(13, 5)
    optimizer = torch.optim.SGD(model.parameters(), 0.1)
    vote = gradvote.torchft.attach(manager, model, optimizer, algorithms.signsgd(), worker=0)
    with LocalSGD(manager, model, optimizer, sync_every=2):  # its commits are within the optimizer's step
        assert step(vote, manager, model)
        with pytest.raises(RuntimeError, match=r"torchft's Optimizer, LocalSGD and DiLoCo, which call it, too"):
            step(vote, manager, model)


def test_a_vote_without_any_quorum(bench: Bench) -> None:
    vote, _ = attach(bench.manager(), worker=0)
    with pytest.raises(RuntimeError, match=r"start_quorum\(\) never was"):
        vote.step()


def test_a_quorum_that_does_not_come(bench: Bench) -> None:
    bench.house.shutdown()
    bench.house = LighthouseServer("127.0.0.1:0", 2, join_timeout_ms=100)
    manager = bench.manager()
    vote, _ = attach(manager, worker=0)
    manager.start_quorum(timeout=timedelta(seconds=0.5))
    with pytest.raises(TimeoutError, match=r"found no quorum for step 0 .*min_replica_size="):
        vote.step()


def test_a_checkpoint_that_is_loaded_in_the_middle_of_a_run(bench: Bench) -> None:
    manager = bench.manager()
    vote, model = attach(manager, worker=0)
    assert step(vote, manager, model)
    saved = vote.state_dict(), manager.state_dict()
    assert step(vote, manager, model) and step(vote, manager, model)
    vote.load_state_dict(saved[0])
    manager.load_state_dict(saved[1])
    assert step(vote, manager, model) and manager.current_step() == 2
