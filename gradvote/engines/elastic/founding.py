"""How a run begins, and how it begins again after everybody died.

The founders are those with the most steps behind them and equal states; all others learn from them. A new group is
founded only where no process of an older one can still be at work: all others refuse connections, or say themselves
that they are no members. So a run cannot split in two.
"""

import time

from gradvote.engines.elastic import moving
from gradvote.engines.elastic.frames import digest_of
from gradvote.engines.elastic.group import Group
from gradvote.engines.elastic.holders import arranged
from gradvote.engines.elastic.learning import PAUSE, VOTES, Learner
from gradvote.engines.elastic.links import Arrived
from gradvote.engines.elastic.records import Member, Outcome, Record, Slot
from gradvote.engines.elastic.register import Place
from gradvote.engines.elastic.seals import SIGNED
from gradvote.engines.elastic.timeouts import TooFewWorkers


def join(group: Group, num_expected: int) -> None:
    """Become a member: as a founder, or by learning from the members. Who is asked to stop meanwhile stays outside.

    Raises:
        TooFewWorkers: not enough workers came together in time.
        ValueError: the others train something else, or only some sign their ballots.
        Excluded: this worker was left out for good before.
    """
    register, mesh, me = group.register, group.mesh, group.me
    group.convict(register.accusations())
    state = group.replica.digest()
    shards = group.sharding.digests(group.slot) if group.sharding is not None else {}
    register.publish(Place(me.ticket, me.number, mesh.host, mesh.port, group.slot.step, state, shards))
    mesh.start(me)
    started, mesh.probing = time.monotonic(), True
    try:
        while not group.leaving and not _began(group) and not _learned(group):
            _check(group, started)
            waited = time.monotonic() - started
            if _may_found(group, num_expected, waited):
                register.found(register.generation() + 1, _founders(group))
            else:
                _hear(group)
    finally:
        mesh.probing = False
    _meet(group)
    moving.give(group)


def _hear(group: Group) -> None:
    if isinstance(event := group.take(PAUSE), Arrived) and event.frame.kind in VOTES:
        group.keep(event)  # founders who know of it already have begun


def _meet(group: Group) -> None:
    """Founders were all connected to the first of them; give them time to reach each other as well."""
    end = time.monotonic() + group.timeouts.deadline
    while group.members.keys() - group.mesh.links.keys() - group.mesh.ended - {group.me.ticket}:
        if time.monotonic() > end or group.leaving:
            return
        _hear(group)


def _began(group: Group) -> bool:
    generation = group.register.generation()
    record = group.register.founders(generation)
    if record is None or not record.has(group.me.ticket):
        return False
    if group.sharding is not None:
        group.sharding.history = digest_of(f"group {generation}".encode())
    group.enter(generation, record.slot, record.members, {}, record.holders, record.moves)
    return True


def _is_founder(group: Group) -> bool:
    record = group.register.founders(group.register.generation())
    return record is not None and record.has(group.me.ticket)


def _learned(group: Group) -> bool:
    if not group.register.generation():
        return False
    return Learner(group, fresh=True).run(founded=lambda: _is_founder(group))


def _may_found(group: Group, num_expected: int, waited: float) -> bool:
    mesh, me = group.mesh, group.me.ticket
    present = {me, *mesh.links}
    enough = len(present) >= num_expected - len(group.proofs) or (
        len(present) >= group.quorum and waited > group.timeouts.gather
    )
    if group.register.generation():
        unknown = set(range(1, group.register.num_tickets() + 1)) - present - mesh.ended
        enough &= all(group.register.place(ticket) is None for ticket in unknown)  # it has never spoken to anyone
    return enough and me == min(present)


def _founders(group: Group) -> Record:
    group.convict(group.register.accusations())
    places = (group.register.place(t) for t in {group.me.ticket, *group.mesh.links})
    present = [p for p in places if p is not None and group.admits(p.number)]
    best = min(present, key=lambda p: (-p.step, p.ticket))
    alike = sorted(Member(p.ticket, p.number) for p in present if (p.step, p.state) == (best.step, best.state))
    newest = {m.number: m for m in alike}
    tickets, num_shards = {m.ticket for m in newest.values()}, group.sharding.num if group.sharding is not None else 0
    founding = [p for p in sorted(present, key=lambda p: p.ticket) if p.ticket in tickets]
    valid = [
        _of_one_mind({p.ticket: p.shards[str(s)] for p in founding if str(s) in p.shards}) for s in range(num_shards)
    ]
    holders, moves = arranged(valid, tickets)
    members = tuple(sorted(newest.values()))
    return Record(Slot(best.step), Outcome.VOID, members=members, holders=holders, moves=moves)


def _of_one_mind(memories: dict[int, str]) -> set[int]:
    """Those who have the same memory of a shard as the first."""
    first = next(iter(memories.values()), None)
    return {ticket for ticket, name in memories.items() if name == first}


def _check(group: Group, started: float) -> None:
    mesh = group.mesh
    earlier = [stranger for ticket, stranger in mesh.strangers.items() if ticket < group.me.ticket]
    if earlier and not mesh.links:
        number, recipe = earlier[0]
        if recipe == mesh.recipe ^ SIGNED:
            who = "This one signs" if group.seals.signed else "This one does not sign"
            raise ValueError(
                f"{who} its ballots, unlike worker {number}. All workers must attach with keys, or all "
                "without (keys=, --keys); use a store of its own for each run."
            )
        raise ValueError(
            f"Worker {number} trains with another algorithm, seed or model, or another placement. All workers "
            "must attach with the same ones; use a store of its own for each run."
        )
    group.check_not_ended(time.monotonic() - started)
    if time.monotonic() - started > group.timeouts.timeout:
        raise TooFewWorkers(
            f"Only {len(mesh.links) + 1} workers came together within {group.timeouts.timeout:g} s; min_workers is "
            f"{group.quorum}. Start more workers, or look whether they reach each other."
        )
