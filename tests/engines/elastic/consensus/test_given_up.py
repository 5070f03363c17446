"""A slot that is given up says why, who found it, and on which evidence."""

import pytest

from gradvote.engines.common.slot import Slot
from gradvote.engines.elastic.consensus.absences import Reason, Why, WhyGivenUp
from gradvote.engines.elastic.consensus.agreement import Agreement, Propose
from gradvote.engines.elastic.consensus.members import Member
from gradvote.engines.elastic.consensus.records import Outcome, Record, record_from
from gradvote.engines.elastic.counts import RunCounts

MEMBERS = (Member(1, 0), Member(2, 1), Member(3, 2))
NAMES = {t: b"%d" % t for t in (1, 2, 3)}


def proposed(agreement: Agreement) -> Record:
    """What process 1 puts to the register when the others had time to answer."""
    agreement.expired()
    agreement.settled = True
    [record] = [action.record for action in agreement.actions() if isinstance(action, Propose)]
    assert record.outcome == Outcome.VOID and record.given_up is not None
    return record


def unserved() -> Record:
    """Shard 0 is held by worker 1, which dies, and worker 2, which waits for its memory."""
    own = Agreement(1, Slot(7), MEMBERS, 2, holders=((2, 3), (1, 2), (1, 3)))
    own.ballot(1, NAMES[1])
    own.ballot(3, NAMES[3])
    own.sees(3, {2: Why.CLOSED})
    own.tells(3, {1: NAMES[1], 3: NAMES[3]}, True, frozenset({0}))
    own.lost(2)
    return proposed(own)


def too_few() -> Record:
    """A step needs three ballots; worker 1 is gone, and a new process takes its place."""
    own = Agreement(1, Slot(7), MEMBERS, 3)
    own.ballot(1, NAMES[1])
    own.ballot(3, NAMES[3])
    own.tells(3, {1: NAMES[1], 3: NAMES[3]}, True)
    own.lost(2)
    own.joining = (Member(4, 1),)
    return proposed(own)


def test_a_shard_that_nobody_can_decide_on() -> None:
    given_up = unserved().given_up
    assert given_up is not None and given_up.why == WhyGivenUp.UNSERVED
    assert (given_up.said_by, given_up.shards) == (0, (0,))
    assert given_up.missing == (Reason(2, Why.LACKING, (2,)), Reason(1, Why.CLOSED, (0, 2)))
    assert str(given_up) == (
        "given up, as worker 0 has found: a shard has nobody with both its memory and all ballots that count (0); "
        "worker 2: it had not been given the memory of its shard, seen by 2; "
        "worker 1: its connection was closed, seen by 0 and 2"
    )


def test_too_few_ballots() -> None:
    given_up = too_few().given_up
    assert given_up is not None and given_up.why == WhyGivenUp.TOO_FEW and not given_up.shards
    assert given_up.missing == (Reason(1, Why.CLOSED, (0,)),)
    assert str(given_up) == (
        "given up, as worker 0 has found: too few workers had enough ballots for a step (2 here, min_workers is 3); "
        "worker 1: its connection was closed, seen by 0"
    )


@pytest.mark.parametrize("given_up", [unserved, too_few])
def test_it_travels_and_is_noted(given_up: object) -> None:
    record = given_up()  # type: ignore[operator]  # one of the two above
    assert record_from(record.to_json()) == record
    counts = RunCounts()
    counts.decided(record, {m.ticket: m for m in MEMBERS}, set())
    assert counts.retried == 1 and counts.notes[0] == (7, str(record.given_up))


def test_a_step_that_is_taken_gives_no_reason() -> None:
    own = Agreement(1, Slot(), MEMBERS[:1], 1)
    own.ballot(1, NAMES[1])
    assert not [*own.actions()] or own.decision is not None
    assert own.decision is not None and own.decision.given_up is None
