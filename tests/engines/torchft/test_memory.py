import pytest
import torch

from gradvote.engines.common.replica import Replica
from gradvote.engines.common.slot import Slot
from gradvote.engines.torchft.memory import ATTEMPTS, Account, Pending, account_from
from tests.engines.common.test_replica import leaves, replica


def memory(own: Replica) -> torch.Tensor:
    return torch.cat([t.flatten() for t in leaves(own.state_dict()["worker"])])


def expected(counted: bool) -> torch.Tensor:
    other = replica(0)
    other.keep(other.vote(Slot(3)), counted)
    return memory(other)


def test_a_refused_ballot_that_others_counted_has_left_the_memory() -> None:
    own, pending = replica(0), Pending()
    pending.refused(own.vote(Slot(3)), b"first")
    pending.settle(own, (3, 0, b"first"))
    assert torch.equal(memory(own), expected(counted=True))


@pytest.mark.parametrize("counted", [None, (2, 0, b"first"), (3, 1, b"first"), (3, 0, b"other")])
def test_a_refused_ballot_that_nobody_counted_leaves_no_trace(counted: tuple[int, int, bytes] | None) -> None:
    own, pending = replica(0), Pending()
    before = memory(own)
    pending.refused(own.vote(Slot(3)), b"first")
    pending.settle(own, counted)
    assert torch.equal(memory(own), before)


def test_a_counted_ballot_that_others_threw_away_stays_unsent() -> None:
    for name, counted in (((3, 0, b"own"), True), ((2, 0, b"older"), False), (None, False)):
        own, pending = replica(0), Pending()
        ballot = own.vote(Slot(3))
        own.keep(ballot, counted=True)
        pending.committed(ballot, b"own")
        pending.settle(own, name)
        assert torch.equal(memory(own), expected(counted))


def test_a_later_step_settles_earlier_attempts() -> None:
    own, pending = replica(0), Pending()
    pending.refused(own.vote(Slot(3)), b"first")
    pending.committed(None, b"")
    before = memory(own)
    pending.settle(own, (3, 0, b"first"))
    assert torch.equal(memory(own), before)


def test_only_the_last_attempts_are_kept() -> None:
    own, pending = replica(0), Pending()
    for attempt in range(ATTEMPTS + 1):
        pending.refused(own.vote(Slot(3, attempt)), b"x")
    before = memory(own)
    pending.settle(own, (3, 0, b"x"))
    assert torch.equal(memory(own), before)


def test_accounts_are_alike_for_the_same_ballots_only() -> None:
    def account(*steps: dict[int, bytes]) -> Account:
        own = Account(bytes(16))
        for step, digests in enumerate(steps):
            own.add(Slot(step), digests)
        return own

    one = account({0: b"a", 1: b"b"}, {1: b"c"})
    assert one == account({1: b"b", 0: b"a"}, {1: b"c"})
    assert one.counted == {0: (0, 0, b"a"), 1: (1, 0, b"c")}
    others = [
        account({0: b"a", 1: b"b"}, {0: b"c"}),
        account({1: b"c"}, {0: b"a", 1: b"b"}),
        account({0: b"a"}, {1: b"c"}),
    ]
    assert len({one.history, *(other.history for other in others)}) == 4
    assert account_from(one.saved()) == one
    with pytest.raises(ValueError, match="which ballots were counted"):
        account_from({"history": b"short", "counted": {}})
