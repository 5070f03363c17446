"""What a script does with its manager beside the vote, seen by a manager that has no torchft behind it."""

import os
import signal
from collections.abc import Callable
from typing import Any

import pytest
import torch

from gradvote.engines.common.ballot import Ballot
from gradvote.engines.common.slot import Slot
from gradvote.engines.torchft.commits import Commits
from gradvote.engines.torchft.vote import TorchftVote
from tests.engines.common.test_replica import new_gradients, replica
from tests.engines.torchft.test_quorum_round import Table

NO_ROOM = 'status: Cancelled, message: "Timeout expired", details: [], metadata: MetadataMap { headers: {} }'


class Manager:
    """One that is alone, and agrees; `_quorum_future` is torchft's name for the quorum that was asked for."""

    def __init__(self) -> None:
        self._quorum_future: object = None
        self.steps, self.fails = 0, None  # type: int, Exception | None
        self.states: dict[str, tuple[Callable[[Any], None], Callable[[], Any]]] = {}

    def start_quorum(self) -> None:
        self._quorum_future = object()

    def wait_quorum(self) -> None:
        assert self._quorum_future is not None, "must call start_quorum before wait_quorum"
        if self.fails is not None:
            raise self.fails

    def should_commit(self) -> bool:
        if self.fails is not None:
            raise self.fails
        self.steps += 1
        return True

    def current_step(self) -> int:
        return self.steps

    def is_participating(self) -> bool:
        return True

    def errored(self) -> None:
        return None

    def report_error(self, error: Exception) -> None:
        raise error

    def register_state_dict_fn(self, key: str, load: Callable[[Any], None], save: Callable[[], Any]) -> None:
        self.states[key] = load, save


def voting(manager: Any) -> TorchftVote:
    table = Table(1)
    table.lock.acquire()
    place: Any = table.place(0)
    place.sent = place.received = 0
    return TorchftVote(manager, replica(0), place)


def test_a_vote_without_any_quorum_says_what_to_call() -> None:
    with pytest.raises(RuntimeError, match=r"manager.start_quorum\(\) never was.*before the backward pass"):
        voting(Manager()).step()


def test_a_quorum_that_does_not_come_is_told_without_metadata() -> None:
    manager: Any = Manager()
    manager.start_quorum()
    manager.fails = TimeoutError(NO_ROOM)
    with pytest.raises(TimeoutError, match=r"no quorum for step 0 .*Timeout expired\"\).*min_replica_size=") as told:
        Commits(manager).wait()
    assert "MetadataMap" not in str(told.value)


def test_what_a_peer_did_not_save_is_named() -> None:
    manager: Any = Manager()
    commits = Commits(manager)
    manager.fails = KeyError("scheduler")
    with pytest.raises(RuntimeError, match=r"has no 'scheduler'\. Call manager.register_state_dict_fn"):
        commits.commit()


def test_only_the_vote_commits() -> None:
    manager: Any = Manager()
    vote = voting(manager)
    manager.start_quorum()
    with pytest.raises(RuntimeError, match=r"should_commit\(\) was called beside the vote.*torchft's Optimizer"):
        manager.should_commit()
    assert manager.steps == 0 and vote.step() and manager.steps == 1


def test_a_step_that_no_vote_has_taken_is_told() -> None:
    manager: Any = Manager()
    vote = voting(manager)
    manager.start_quorum()
    assert vote.step()
    manager.start_quorum()
    manager.steps = 7  # as `manager.load_state_dict` does
    with pytest.raises(RuntimeError, match=r"came from step 1 to 7.*vote.load_state_dict"):
        vote.step()


def test_ctrl_c_is_heard_when_all_of_a_step_was_taken(monkeypatch: pytest.MonkeyPatch) -> None:
    """What a script saves then is of one step: after should_commit the manager had been ahead of its model."""
    manager: Any = Manager()
    vote = voting(manager)
    keep = vote._replica.keep

    def interrupted(ballot: Ballot, counted: bool) -> None:
        os.kill(os.getpid(), signal.SIGINT)
        keep(ballot, counted)

    monkeypatch.setattr(vote._replica, "keep", interrupted)
    before = [p.detach().clone() for p in vote._replica.params]
    manager.start_quorum()
    with pytest.raises(KeyboardInterrupt):
        vote.step()
    moved = [not torch.equal(a, b) for a, b in zip(before, vote._replica.params, strict=True)]
    assert all(moved) and vote.state_dict()["step"] == 1 and vote.stats().committed == 1
    monkeypatch.undo()
    again = replica(0)
    again.keep(again.vote(Slot(0)), counted=True)
    again.apply(Slot(0), {0: replica(0).vote(Slot(0)).body})
    assert again.digest() == vote._replica.digest()


def test_a_step_that_failed_half_way_is_neither_saved_nor_given_to_others(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object) -> None:
        raise MemoryError("no room")

    manager: Any = Manager()
    vote = voting(manager)
    saved = vote.state_dict()
    monkeypatch.setattr(vote._replica.optimizers.all[0], "step", fail)
    manager.start_quorum()
    with pytest.raises(MemoryError):
        vote.step()
    for save in (vote.state_dict, manager.states["gradvote"][1]):
        with pytest.raises(RuntimeError, match="Step 0 failed on this worker"):
            save()
    monkeypatch.undo()
    manager.steps = 0
    vote.load_state_dict(saved)
    new_gradients(vote._replica, 0)
    manager.start_quorum()
    assert vote.step() and vote.state_dict()["step"] == 1
