"""The agreement against every order of events that hypothesis thinks of."""

from collections.abc import Callable
from dataclasses import replace
from itertools import pairwise

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from gradvote.engines.common.slot import Slot
from gradvote.engines.elastic.consensus.absences import Reason, Why
from gradvote.engines.elastic.consensus.agreement import Agreement, Forward, Propose, Tell
from gradvote.engines.elastic.consensus.members import Member
from gradvote.engines.elastic.consensus.records import Outcome, Record, held_from, held_to_json, record_from
from tests.engines.elastic.world import World

PICK = st.integers(0, 10**6)


class Life(RuleBasedStateMachine):
    """Members vote, messages arrive or not, processes die, stall, come back and grow in number."""

    @initialize(num=st.integers(1, 5), quorum=st.integers(1, 4))
    def begin(self, num: int, quorum: int) -> None:
        self.world = World(num, min(num, quorum))

    def any_of(self, pick: int) -> int:
        tickets = sorted(self.world.processes)
        return tickets[pick % len(tickets)]

    @rule(pick=PICK)
    def vote(self, pick: int) -> None:
        self.world.vote(self.any_of(pick))

    @rule()
    def all_vote(self) -> None:
        for ticket in sorted(self.world.processes):
            self.world.vote(ticket)

    @rule(pick=PICK, num=st.integers(1, 20))
    def deliver(self, pick: int, num: int) -> None:
        for i in range(num):
            links = sorted(self.world.links)
            if links:
                self.world.deliver(links[(pick + i * 7) % len(links)])

    @precondition(lambda self: self.world.links)
    @rule(pick=PICK)
    def alter(self, pick: int) -> None:
        links = sorted(self.world.links)
        self.world.lose(links[pick % len(links)])

    @rule(pick=PICK, what=st.sampled_from(["expired", "settled", "impatient", "desperate"]))
    def time_passes(self, pick: int, what: str) -> None:
        self.world.event(self.any_of(pick), EVENTS[what])

    @precondition(lambda self: len(self.world.processes) > 1)
    @rule(pick=PICK, other=PICK)
    def cut(self, pick: int, other: int) -> None:
        a, b = self.any_of(pick), self.any_of(other)
        if a != b:
            self.world.cut(a, b)

    @rule(pick=PICK)
    def register_out_of_reach(self, pick: int) -> None:
        self.world.unheard ^= {self.any_of(pick)}

    @precondition(lambda self: len(self.world.processes) > 1)
    @rule(pick=PICK)
    def kill(self, pick: int) -> None:
        self.world.kill(self.any_of(pick))

    @precondition(lambda self: len(self.world.processes) > 1)
    @rule(pick=PICK)
    def leave(self, pick: int) -> None:
        self.world.leave(self.any_of(pick))

    @rule(pick=PICK)
    def save(self, pick: int) -> None:
        self.world.save(self.any_of(pick))

    @rule()
    def restart(self) -> None:
        self.world.restart()

    @rule(number=st.integers(0, 6))
    def join(self, number: int) -> None:
        if len(self.world.processes) < 7:
            self.world.join(number)

    @rule(pick=PICK, donor=PICK)
    def learn(self, pick: int, donor: int) -> None:
        self.world.learn(self.any_of(pick), self.any_of(donor))

    @invariant()
    def histories_agree(self) -> None:
        """Who is behind is behind on the same way."""
        histories = sorted((p.history for p in self.world.processes.values()), key=len)
        for short, long in pairwise(histories):
            assert long[: len(short)] == short

    @invariant()
    def counted_once(self) -> None:
        for p in self.world.processes.values():
            steps = [step for step, _ in p.history]
            assert steps == list(range(len(steps)))


EVENTS: dict[str, Callable[[Agreement], None]] = {
    "expired": lambda a: a.expired(),
    "settled": lambda a: setattr(a, "settled", True),
    "impatient": lambda a: setattr(a, "impatient", True),
    "desperate": lambda a: setattr(a, "desperate", True),
}
Life.TestCase.settings = settings(max_examples=150, stateful_step_count=60, deadline=None)
TestLife = Life.TestCase


def calm(world: World) -> None:
    """All that can happen happens: everyone votes, everything arrives, time passes."""
    for ticket in sorted(world.processes):
        world.vote(ticket)
    for what in (None, *EVENTS):
        for ticket in sorted(world.processes):
            if what is not None:
                world.event(ticket, EVENTS[what])
        while world.links:
            world.deliver(min(world.links))


@pytest.mark.parametrize("num", [1, 2, 3, 7])
def test_a_healthy_group_needs_no_register(num: int) -> None:
    world = World(num, max(1, num - 1))
    for _ in range(3):
        calm(world)
    assert not world.register
    assert all(len(p.history) == 3 for p in world.processes.values())


@pytest.mark.parametrize("voted", [False, True])
@pytest.mark.parametrize("dead", [1, 2, 3])
def test_a_death_costs_a_vote_at_most(dead: int, voted: bool) -> None:
    world = World(3, 2)
    for ticket in sorted(world.processes):
        if voted or ticket != dead:
            world.vote(ticket)
    if voted:
        for link in [link for link in world.links if link[0] == dead]:
            world.deliver(link)
    world.kill(dead)
    calm(world)
    alive = list(world.processes.values())
    assert [len(p.history) for p in alive] == [1 + voted, 1 + voted] or [len(p.history) for p in alive] == [1, 1]
    assert len(alive[0].history[0][1]) == (3 if voted else 2)


def test_a_ballot_altered_on_one_link_is_forwarded() -> None:
    world = World(3, 2)
    for ticket in (1, 2, 3):
        world.vote(ticket)
    world.lose((3, 1))
    calm(world)
    assert {p.history for p in world.processes.values()} == {((0, frozenset({1, 2, 3})),)}


def test_below_the_quorum_nothing_is_decided_until_someone_comes() -> None:
    world = World(2, 2)
    world.kill(2)
    calm(world)
    assert world.processes[1].history == () and not world.register
    new = world.join(2)
    world.learn(new, 1)
    world.learn(new, 1)
    assert world.register[Slot(0, 0)].outcome == Outcome.VOID
    assert world.processes[1].slot == world.processes[new].slot == Slot(0, 1)
    calm(world)
    assert world.processes[1].history == world.processes[new].history == ((0, frozenset({1, new})),)


def test_different_ballots_stop_everyone() -> None:
    members = [Member(t, t - 1) for t in (1, 2, 3)]
    a = Agreement(1, Slot(4), members, 2)
    for author in (1, 2, 3):
        a.ballot(author, b"x")
    assert list(a.actions()) == [Tell({1: b"x", 2: b"x", 3: b"x"}, False)]
    a.tells(2, {1: b"x", 2: b"x", 3: b"y"}, False)
    [proposal] = a.actions()
    assert isinstance(proposal, Propose) and proposal.record.outcome == Outcome.STOP
    assert proposal.record.text == "worker 0 and worker 1 hold different ballots of worker 2"


def test_who_said_full_proposes_the_full_set() -> None:
    a = Agreement(2, Slot(), [Member(t, t) for t in (1, 2, 3)], 2)
    for author in (1, 2, 3):
        a.ballot(author, b"x")
    list(a.actions())
    a.lost(1)
    a.settled = True
    [proposal] = a.actions()
    assert isinstance(proposal, Propose)
    assert set(proposal.record.counted) == {1, 2, 3} and proposal.record.has(1)


def test_the_first_holder_forwards() -> None:
    a = Agreement(2, Slot(), [Member(t, t) for t in (1, 2, 3)], 2)
    for author in (1, 2):
        a.ballot(author, b"x")
    a.tells(1, {1: b"x"}, True)
    assert Forward(2, 1) in list(a.actions())


def test_records_and_lists_travel_as_text() -> None:
    record = Record(Slot(3, 1), Outcome.APPLY, {7: b"\x00\xff"}, (Member(7, 2),), "why")
    record = replace(record, reasons=(Reason(1, Why.LATE, (0, 2)), Reason(3, Why.SILENT, ())))
    assert record_from(record.to_json()) == record
    assert record.next == Slot(4) and Record(Slot(3, 1), Outcome.VOID).next == Slot(3, 2)
    assert held_from(held_to_json({1: b"ab"}, True).encode()) == ({1: b"ab"}, True, (), frozenset(), {})
    seen = {7: Why.CLOSED, 3: Why.SPOILED}
    assert held_from(held_to_json({}, True, seen=seen).encode())[-1] == seen
    for text in (b"", b"{}", b"[]", b'{"held": 1, "closed": 0}', b"\xff", b'{"slot": [-1, 0]}'):
        with pytest.raises(ValueError, match="This is not a"):
            record_from(text)
        with pytest.raises(ValueError, match="This is not a"):
            held_from(text)


ALL = (1, 2, 3, 4)


def member(ticket: int, quorum: int = 2) -> Agreement:
    """One of four members, workers 11 to 14, that holds the ballots of the first two, and its own."""
    own = Agreement(ticket, Slot(5), [Member(t, 10 + t) for t in ALL], quorum)
    for author in {1, 2, ticket}:
        own.ballot(author, b"x")
    return own


def left_out(own: Agreement) -> dict[int, tuple[Why, tuple[int, ...]]]:
    own.settled = own.impatient = True
    (record,) = [action.record for action in own.actions() if isinstance(action, Propose)]
    return {reason.number: (reason.why, reason.seen_by) for reason in record.reasons}


def test_a_record_says_why_members_are_left_out_and_who_saw_it() -> None:
    own = member(1)
    own.lost(3)
    own.spoiled(4)
    list(own.actions())
    own.sees(2, {3: Why.CLOSED, 4: Why.LATE, 99: Why.LATE})
    own.tells(2, {1: b"x", 2: b"x"}, True)
    assert left_out(own) == {13: (Why.CLOSED, (11, 12)), 14: (Why.SPOILED, (11,))}


def test_who_is_late_silent_or_behind_is_told_apart() -> None:
    own = member(1)
    own.expired()
    own.ballot(4, b"x")
    list(own.actions())
    own.tells(2, {1: b"x", 2: b"x", 4: b"x"}, True)
    assert left_out(own) == {13: (Why.LATE, (11,)), 14: (Why.SILENT, ())}
    behind = member(1)
    behind.ballot(3, b"x")
    behind.lost(4)
    behind.tells(2, {1: b"x", 2: b"x", 3: b"x"}, True)
    behind.tells(3, {3: b"x"}, True)
    assert left_out(behind) == {13: (Why.BEHIND, ()), 14: (Why.CLOSED, (11,))}


def test_what_is_seen_decides_nothing() -> None:
    """Members that say nonsense about each other decide as those who say nothing."""
    plain, told = member(1), member(1)
    told.sees(2, {1: Why.LIED, 2: Why.CLOSED, 3: Why.DOUBTED, 4: Why.LATE})
    for own in (plain, told):
        own.lost(3)
        own.tells(2, {1: b"x", 2: b"x", 4: b"x"}, False)
        own.ballot(4, b"x")
        own.tells(4, {1: b"x", 2: b"x", 4: b"x"}, False)
        own.settled = True
    found = [next(a for a in own.actions() if isinstance(a, Propose)).record for own in (plain, told)]
    assert replace(found[0], reasons=()) == replace(found[1], reasons=())
    assert str(found[0].reasons[0]) == "worker 13 was left out: its connection was closed, seen by 11"
