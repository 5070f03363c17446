"""The agreement of a sharded run against every order of events that hypothesis thinks of."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import initialize

from gradvote.engines.common.slot import Slot
from gradvote.engines.elastic.consensus.agreement import Agreement, Propose, Tell
from gradvote.engines.elastic.consensus.members import Member
from gradvote.engines.elastic.consensus.records import Outcome
from gradvote.engines.elastic.consensus.shard_assignment import COPIES, arranged, held_by, sources
from tests.engines.elastic.consensus.test_agreement import EVENTS, Life, calm
from tests.engines.elastic.sharded_world import ShardedWorld
from tests.engines.elastic.world import World


class ShardedLife(Life):
    """Members that answer alike and memories that are never stale, whoever dies, stalls and comes back."""

    @initialize(num=st.integers(1, 5), quorum=st.integers(1, 4))
    def begin(self, num: int, quorum: int) -> None:
        self.world = ShardedWorld(num, min(num, quorum), num)


ShardedLife.TestCase.settings = settings(max_examples=100, stateful_step_count=60, deadline=None)
TestShardedLife = ShardedLife.TestCase


@pytest.mark.parametrize("num", [1, 2, 3, 7])
def test_a_healthy_group_needs_no_register(num: int) -> None:
    world = ShardedWorld(num, max(1, num - 1), num)
    for _ in range(3):
        calm(world)
    assert not world.register and not world.lost
    assert all(len(p.history) == 3 for p in world.processes.values())


@pytest.mark.parametrize("num", [3, 4, 5])
@pytest.mark.parametrize("dead", [1, 2, 3])
def test_a_death_loses_no_memory(num: int, dead: int) -> None:
    world = ShardedWorld(num, 2, num)
    calm(world)
    world.kill(dead)
    for _ in range(3):
        calm(world)
    assert not world.lost and all(len(p.history) == 4 for p in world.processes.values())
    new = world.join(dead)
    for _ in range(2):
        world.learn(new, min(world.processes))
        for ticket in world.processes:
            world.vote(ticket)
        world.learn(new, min(world.processes))
        calm(world)
    calm(world)
    assert not world.lost and len({p.history for p in world.processes.values()}) == 1
    assert all(len(e.holders) == num for t, e in world.estates.items() if t in world.processes)
    assert not any(world.estates[t].lacks(p) for t, p in world.processes.items())


def admitted(world: ShardedWorld, new: int) -> bool:
    return any(record.has(new) for record, _ in world.entries.values())


@pytest.mark.parametrize("num", [3, 4, 5])
@pytest.mark.parametrize("dead", [1, 2, 3])
def test_a_death_right_after_a_join_loses_no_memory(num: int, dead: int) -> None:
    """The memories for the new member are still on their way."""
    world = ShardedWorld(num, 2, num)
    calm(world)
    new = world.join(num + 1)
    world.learn(new, 1)
    for ticket in sorted(world.processes):
        world.vote(ticket)
    world.learn(new, 1)
    for what in (None, *EVENTS):
        for ticket in sorted(world.processes):
            if what is not None and not admitted(world, new):
                world.event(ticket, EVENTS[what])
        while world.links and not admitted(world, new):
            world.deliver(min(world.links))
    assert admitted(world, new)
    world.kill(dead)
    for ticket in sorted(world.processes):
        world.event(ticket, EVENTS["impatient"])  # who is a slot behind asks the register
    while world.links:
        world.deliver(min(world.links))
    for _ in range(3):
        calm(world)
    assert not world.lost


def test_deaths_one_after_the_other_lose_no_memory() -> None:
    world = ShardedWorld(5, 1, 5)
    for dead in (1, 3, 5, 2):
        calm(world)
        calm(world)
        world.kill(dead)
    calm(world)
    calm(world)
    assert not world.lost and len(world.processes[4].history) >= 8


def test_the_memory_of_both_who_die_begins_anew() -> None:
    world = ShardedWorld(4, 2, 4)
    calm(world)
    first, second = world.estates[1].holders[0]
    world.kill(first)
    world.kill(second)
    calm(world)
    assert all(p.slot == Slot(1, 1) for p in world.processes.values())  # their ballots have no holder: the slot is void
    calm(world)
    assert world.lost and {len(p.history) for p in world.processes.values()} == {2}


def begun(num: int) -> ShardedWorld:
    """Four workers in their second step, so many messages after all have agreed on the ballots."""
    world = ShardedWorld(4, 2, 4)
    calm(world)
    for ticket in sorted(world.processes):
        world.vote(ticket)
    while not all(own.record for own in world.estates.values()):
        for link in sorted(world.links):
            world.deliver(link)
    for k in range(num):
        if world.links:
            world.deliver(sorted(world.links)[k * 7 % len(world.links)])
    return world


@pytest.mark.parametrize("dies", [False, True])
def test_the_half_that_reaches_the_register_goes_on_wherever_the_cut_falls(dies: bool) -> None:
    """Both holders of a shard are in the other half, or die: whether the step is taken is decided, not guessed."""
    outcomes = set()
    for num in range(32):
        world = begun(num)
        assert not {1, 2}.intersection(*world.estates[1].holders[1:2]), "a shard is held by the other half alone"
        for ticket in (3, 4):
            world.unheard.add(ticket)
            if dies:
                world.kill(ticket)
            else:
                world.cut(1, ticket)
                world.cut(2, ticket)
        calm(world)
        calm(world)
        calm(world)
        assert all(len(world.processes[ticket].history) >= 3 for ticket in (1, 2))
        outcomes |= {world.confirmed[at].applied for at in world.confirmed.keys() & {Slot(1)}}
        ahead = world.processes[1].history
        assert all(ahead[: len(p.history)] == p.history for p in world.processes.values())
        assert dies or all(len(world.processes[ticket].history) <= 2 for ticket in (3, 4))
    assert outcomes == {False, True}


def test_with_the_register_out_of_reach_nobody_goes_on_alone() -> None:
    world = begun(0)
    world.unheard |= {1, 2, 3, 4}
    for ticket in (3, 4):
        world.cut(1, ticket)
        world.cut(2, ticket)
    calm(world)
    assert all(len(p.history) == 1 for p in world.processes.values())
    world.unheard.clear()
    calm(world)
    calm(world)
    histories = sorted((p.history for p in world.processes.values()), key=len)
    assert len(histories[-1]) >= 2 and all(histories[-1][: len(own)] == own for own in histories)


def dumb(world: World, *before: str) -> None:
    """A step in which worker 4 hears all ballots, and is heard by nobody; what it does not acknowledge is not sent on
    for ever, so that it hears no more then. For it, this has passed before the others looked.
    """
    calm(world)
    world.dumb.add(4)
    for ticket in sorted(world.processes):
        world.vote(ticket)
    while world.links:
        world.deliver(min(world.links))
    world.deaf.add(4)
    for what in before:
        world.event(4, EVENTS[what])
    for what in EVENTS:
        for ticket in sorted(world.processes, reverse=True):
            world.event(ticket, EVENTS[what])
        while world.links:
            world.deliver(min(world.links))


@pytest.mark.parametrize("world", [World(4, 2), ShardedWorld(4, 2, 4)], ids=["replicated", "sharded"])
def test_who_hears_nobody_lets_those_go_first_who_hear_each_other(world: World) -> None:
    """Else its own ballot counted, which they would wait for: as long as the link carries one way only."""
    dumb(world, "expired", "settled", "impatient")
    assert {len(world.processes[t].history) for t in (1, 2, 3)} == {2}
    assert not world.register[Slot(1)].has(4) and 4 not in world.register[Slot(1)].counted


def test_a_ballot_that_counts_and_nobody_hears_holds_up_no_step_of_shards() -> None:
    """The holders of its parts are there, and miss the decisions themselves: the slot is taken again without it."""
    world = ShardedWorld(4, 2, 4)
    dumb(world, *EVENTS)
    assert world.register[Slot(1)].has(4) and set(world.register[Slot(1)].counted) == {1, 2, 3, 4}
    given_up = world.confirmed[Slot(1)]
    assert given_up.outcome == Outcome.VOID and {m.ticket for m in given_up.members} == {1, 2, 3}
    assert "it did not answer" in str(given_up.given_up)
    calm(world)
    assert {len(world.processes[t].history) for t in (1, 2, 3)} == {2} and not world.lost
    assert len(world.processes[4].history) == 1


def holding(me: int, lacks: frozenset[int] = frozenset()) -> Agreement:
    holders, _ = arranged([{1, 2, 3}] * 3, [1, 2, 3])
    own = Agreement(me, Slot(), [Member(t, t) for t in (1, 2, 3)], 2, holders=holders)
    own.lacking(lacks)
    for author in (1, 2, 3):
        own.ballot(author, b"x")
    return own


def test_who_lacks_a_memory_says_so_when_all_close() -> None:
    own = holding(1, frozenset({0}))
    assert list(own.actions()) == []
    own.expired()
    assert next(iter(own.actions())) == Tell(dict.fromkeys((1, 2, 3), b"x"), True, (), frozenset({0}))
    later = holding(1, frozenset({0}))
    later.lacking(frozenset())
    assert list(later.actions()) == [Tell(dict.fromkeys((1, 2, 3), b"x"), False)]


def test_silent_holders_of_a_shard_are_waited_for() -> None:
    own = holding(3)
    silent = next(shard for shard in own.holders if 3 not in shard)
    assert set(silent) == {1, 2}
    own.ballot(3, b"x")
    own.closed, own.quorum = True, 1
    own.settled = own.impatient = True
    assert not [a for a in own.actions() if isinstance(a, Propose)]
    own.desperate = True
    [proposal] = [a for a in own.actions() if isinstance(a, Propose)]
    assert proposal.record.outcome == Outcome.VOID and proposal.record.members == (Member(3, 3),)
    assert None in sources(proposal.record.holders, proposal.record.moves)


def test_those_who_died_are_not_waited_for() -> None:
    own = holding(3)
    own.closed, own.quorum = True, 1
    own.lost(1)
    own.lost(2)
    assert [a.record.outcome for a in own.actions() if isinstance(a, Propose)] == [Outcome.VOID]


TICKETS = st.sets(st.integers(1, 9), max_size=9)


@given(valid=st.lists(TICKETS, max_size=9), members=st.sets(st.integers(1, 9), min_size=1))
def test_every_shard_has_holders_and_no_memory_is_given_up(valid: list[set[int]], members: set[int]) -> None:
    holders, moves = arranged([own & members for own in valid], members)
    for shard, own in enumerate(holders):
        able = valid[shard] & members
        assert min(COPIES, len(members)) <= len(set(own)) == len(own) <= COPIES + 1 and set(own) <= members
        assert len(able & {*own}) >= min(COPIES, len(able))
        assert {t for s, t in moves if s == shard} == set(own) - able
        assert (sources(holders, moves)[shard] is None) == (not able)
        assert not able or own[0] in able
    loads = [len(held_by(holders, t)) for t in members]
    if all(members <= own for own in valid):
        assert max(loads) - min(loads) <= 1


@given(members=st.sets(st.integers(1, 9), min_size=1), shards=st.integers(1, 9), gone=st.integers(1, 9))
def test_what_is_held_is_not_moved_without_need(members: set[int], shards: int, gone: int) -> None:
    holders, _ = arranged([members] * shards, members)
    again, moves = arranged([set(own) for own in holders], members)
    assert again == holders and not moves
    rest = members - {gone}
    if rest:
        after, moves = arranged([set(own) & rest for own in holders], rest)
        assert all(
            source is not None for source, own in zip(sources(after, moves), holders, strict=True) if {*own} & rest
        )
