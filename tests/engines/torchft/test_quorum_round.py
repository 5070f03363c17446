"""Rounds of several replicas in one process, over a table instead of a process group."""

import threading
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
import torch

from gradvote.engines.common.ballot import Ballot
from gradvote.engines.common.errors import ParametersDiffer
from gradvote.engines.common.replica import Replica
from gradvote.engines.common.slot import Slot
from gradvote.engines.torchft.greetings import Diverged, Refused
from gradvote.engines.torchft.quorum_round import Decision, QuorumRound
from tests.engines.common.test_replica import replica

HISTORY = b"h" * 16


class Table:
    """Where messages lie until all have come; one replica computes at a time."""

    def __init__(self, num: int) -> None:
        self.num, self.lock = num, threading.Lock()
        self._here, self._messages = threading.Barrier(num, timeout=20), dict[int, bytes]()

    def place(self, rank: int) -> "Place":
        return Place(self, rank)

    def swap(self, rank: int, message: bytes, expected: Sequence[int]) -> list[bytes]:
        self._messages[rank] = message
        self.lock.release()
        try:
            self._here.wait()
            found = [self._messages[r] for r in range(self.num)]
            self._here.wait()
        finally:
            self.lock.acquire()
        assert [*map(len, found)] == list(expected), "gloo would end the process"
        return found


class Place:
    """A replica's side of the table, in place of `AllToAll`."""

    def __init__(self, table: Table, rank: int) -> None:
        self.table, self.rank, self.num = table, rank, table.num

    def swap(self, message: bytes, expected: Sequence[int]) -> list[bytes]:
        return self.table.swap(self.rank, message, expected)


def play(turns: Callable[[int, Any], QuorumRound], num: int = 3) -> list[Decision | Exception]:
    """What becomes of each round."""
    table = Table(num)

    def run(rank: int) -> Decision | Exception:
        with table.lock:
            try:
                return turns(rank, table.place(rank)).run()
            except Exception as error:
                return error

    with ThreadPoolExecutor(num) as pool:
        return [*pool.map(run, range(num))]


@pytest.mark.parametrize("name", ["dropsignsgd", "signum"])
def test_all_take_the_latest_attempt(name: str) -> None:
    """A mask depends on the attempt, and with it the length of a ballot."""
    found = play(lambda r, place: QuorumRound(replica(r, name), place, Slot(4, r), True, HISTORY))
    first = found[0]
    assert isinstance(first, Decision)
    for rank, own in enumerate(found):
        assert isinstance(own, Decision)
        assert own.slot == Slot(4, 2) and own.bodies == first.bodies and own.digests == first.digests
        assert own.ballot is not None and own.ballot.body == replica(rank, name).vote(Slot(4, 2)).body
        assert own.bodies[rank] == own.ballot.body and own.members == own.voters == (0, 1, 2)


def test_who_heals_learns_the_decision_of_the_others() -> None:
    found = play(
        lambda r, place: QuorumRound(replica(r), place, Slot(4), r != 1, bytes([r]) * 16 if r == 1 else HISTORY)
    )
    for own in found:
        assert isinstance(own, Decision)
        assert sorted(own.bodies) == [0, 2] and own.voters == (0, 2) and own.members == (0, 1, 2)
    assert isinstance(found[1], Decision) and found[1].ballot is None


def test_what_fails_while_one_heals_is_only_its_own_matter() -> None:
    lost = OSError("no checkpoint")
    found = play(lambda r, place: QuorumRound(replica(r), place, Slot(4), r != 1, HISTORY, lost if r == 1 else None))
    assert found[1] is lost and all(isinstance(found[r], Decision) for r in (0, 2))


def fails_at(own: Replica, slot: Slot) -> Replica:
    vote = own.vote

    def fail(at: Slot) -> Ballot:
        if at == slot:
            raise MemoryError("no room")
        return vote(at)

    own.vote = fail  # type: ignore[method-assign]
    return own


@pytest.mark.parametrize(("attempt", "when"), [(0, "before it voted"), (1, "before it had received")])
def test_a_failure_at_any_attempt_is_told_to_all(attempt: int, when: str) -> None:
    def vote_round(rank: int, place: Any) -> QuorumRound:
        own = fails_at(replica(rank), Slot(4, attempt)) if rank == 1 else replica(rank)
        return QuorumRound(own, place, Slot(4, attempt if rank == 0 else 0), True, HISTORY)

    found = play(vote_round)
    assert isinstance(found[1], MemoryError)
    for rank in (0, 2):
        assert isinstance(found[rank], Refused) and f"Worker 1 failed {when}" in str(found[rank])


def test_what_was_sent_is_known_also_where_the_step_fails() -> None:
    kept: dict[int, QuorumRound] = {}

    def vote_round(rank: int, place: Any) -> QuorumRound:
        kept[rank] = QuorumRound(
            fails_at(replica(rank), Slot(4, 1)) if rank == 1 else replica(rank), place, Slot(4), True, HISTORY
        )
        if rank == 0:
            kept[rank].slot = Slot(4, 1)
        return kept[rank]

    play(vote_round)
    assert kept[1].sent is None
    for rank in (0, 2):
        sent = kept[rank].sent
        assert sent is not None and sent[0].slot == kept[rank].slot == Slot(4, 1)


def turned(number: int, *odd: int) -> Replica:
    """A replica, with a bit turned in a weight of it where it is one of the `odd` ones."""
    own = replica(number)
    if number in odd:
        own.params[0].detach().view(torch.int32)[2, 3] ^= 1
    return own


def test_other_parameters_than_most_end_one_replica_and_the_step() -> None:
    """Found before ballots travel, also by one that heals."""
    found = play(lambda r, place: QuorumRound(turned(r, 1), place, Slot(4), r != 3, HISTORY), 4)
    for rank, own in enumerate(found):
        assert isinstance(own, Diverged if rank == 1 else Refused)
        assert str(own).startswith("Worker 1 holds other parameters than most, in 'weight' to 'bias': a bit has turned")


def test_without_a_majority_of_parameters_all_stop() -> None:
    found = play(lambda r, place: QuorumRound(turned(r, 1), place, Slot(4), True, HISTORY), 2)
    for own in found:
        assert isinstance(own, ParametersDiffer) and "(workers 0, 1) hold different parameters" in str(own)
