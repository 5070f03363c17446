"""How a run begins, and how it begins again after everybody died.

The founders are those with the most steps behind them and equal states; all others learn from them. A new group is
founded only where no process of an older one can still be at work: all others refuse connections, or say themselves
that they are no members. So a run cannot split in two.
"""

import time
from collections import Counter

from gradvote.engines.common.slot import Slot
from gradvote.engines.common.terms import differences
from gradvote.engines.elastic.catch_up.learning import PAUSE, Learner
from gradvote.engines.elastic.consensus.members import Member
from gradvote.engines.elastic.consensus.presence import Presence
from gradvote.engines.elastic.consensus.records import Outcome, Record
from gradvote.engines.elastic.consensus.shard_assignment import arranged
from gradvote.engines.elastic.consensus.storage import RegisterLost
from gradvote.engines.elastic.net.addresses import joined
from gradvote.engines.elastic.net.connections import Arrived
from gradvote.engines.elastic.net.frames import ROUND_FRAMES
from gradvote.engines.elastic.net.local_processes import own_name
from gradvote.engines.elastic.node import Node
from gradvote.engines.elastic.participant import Participant
from gradvote.engines.elastic.signing.names import SIGNED
from gradvote.engines.elastic.timeouts import TooFewWorkers

PERSISTENT = 20
"""So often in a row a process must have failed to prove itself, before it is taken for one of another run."""


def join(participant: Participant, num_expected: int) -> None:
    """Become a member: as a founder, or by learning from the members. Who is asked to stop meanwhile stays outside.

    Raises:
        TooFewWorkers: not enough workers came together in time.
        RegisterLost: the register has not answered for as long.
        ValueError: the others train something else, or only some sign their ballots.
        Excluded: this worker was left out for good before.
    """
    node, server = participant.node, participant.server
    register, mesh, me = node.register, node.mesh, node.me
    state, shards = server.replica.digest(), server.names(node.slot)
    place = Presence(me.ticket, me.number, mesh.host, mesh.port, node.slot.step, state, shards, own_name(), node.terms)
    register.publish(place)
    mesh.start(me)
    started, mesh.probing = time.monotonic(), True
    try:
        while not node.leaving and not _joined(participant, num_expected, started):
            pass
    finally:
        mesh.probing = False
    _meet(participant)
    server.give(node)


def _joined(participant: Participant, num_expected: int, started: float) -> bool:
    """One look at how things stand; whether this process is a member now."""
    node = participant.node
    try:
        node.membership.convict(node.register.accusations())
        if _began(participant) or _learned(participant):
            return True
        _check(node, started)
        if _may_found(node, num_expected, time.monotonic() - started):
            node.register.found(node.register.generation() + 1, _founders(node, participant.server.num_shards))
            return False
    except RegisterLost:
        if time.monotonic() - started > node.timeouts.timeout:
            raise
    _hear(participant)
    return False


def _hear(participant: Participant) -> None:
    if isinstance(event := participant.take(PAUSE), Arrived) and event.frame.kind in ROUND_FRAMES:
        participant.node.peers.keep_latest(event)  # founders who know of it already have begun


def _meet(participant: Participant) -> None:
    """Founders were all connected to the first of them; give them time to reach each other as well."""
    node = participant.node
    end = time.monotonic() + node.timeouts.deadline
    while node.members.keys() - node.mesh.connections.keys() - node.mesh.ended - {node.me.ticket}:
        if time.monotonic() > end or node.leaving:
            return
        _hear(participant)


def _began(participant: Participant) -> bool:
    node, server = participant.node, participant.server
    generation = node.register.generation()
    record = node.register.founders(generation)
    if record is None or not record.has(node.me.ticket):
        return False
    server.begin(generation)
    participant.enter(generation, record.slot, record.members, {}, record.holders, record.moves)
    return True


def _is_founder(node: Node) -> bool:
    try:
        record = node.register.founders(node.register.generation())
    except RegisterLost:  # it is asked again
        return False
    return record is not None and record.has(node.me.ticket)


def _learned(participant: Participant) -> bool:
    node = participant.node
    if not node.register.generation():
        return False
    return Learner(participant, fresh=True).run(founded=lambda: _is_founder(node))


def _may_found(node: Node, num_expected: int, waited: float) -> bool:
    mesh, me = node.mesh, node.me.ticket
    present = {me, *mesh.connections}
    enough = len(present) >= num_expected - len(node.membership.state.proofs) or (
        len(present) >= node.quorum and waited > node.timeouts.gather
    )
    return enough and me == min(present) and not _doubtful(node)


def _doubtful(node: Node) -> list[Presence]:
    """Where processes were that may still be at work, in a group of before; who has said nowhere has met nobody."""
    if not node.register.generation():
        return []
    known = {node.me.ticket, *node.mesh.connections} | node.mesh.ended
    places = (
        node.register.place(ticket) for ticket in range(1, node.register.num_tickets() + 1) if ticket not in known
    )
    return [place for place in places if place is not None]


def _founders(node: Node, num_shards: int) -> Record:
    node.membership.convict(node.register.accusations())
    places = (node.register.place(t) for t in {node.me.ticket, *node.mesh.connections})
    present = [p for p in places if p is not None and node.membership.admits(p.number)]
    held = Counter((p.step, p.state) for p in present)
    best = min(present, key=lambda p: (-p.step, -held[p.step, p.state], p.ticket))  # a bit may have turned in one
    alike = sorted(Member(p.ticket, p.number) for p in present if (p.step, p.state) == (best.step, best.state))
    newest = {m.number: m for m in alike}
    tickets = {m.ticket for m in newest.values()}
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


def _check_proven(node: Node) -> None:
    """Raise ValueError where those who were here before do not know this process's certificate, or ask for none."""
    mesh = node.mesh
    earlier = [
        doubt for ticket, doubt in list(mesh.unproven.items()) if ticket < node.me.ticket and doubt[2] >= PERSISTENT
    ]
    if earlier and not mesh.connections:
        number, why, _ = earlier[0]
        own = "This one has keys" if mesh.credentials else "This one has no keys"
        raise ValueError(
            f"Worker {number} does not speak with this one ({why}). {own}: all workers need certificates of one "
            "authority, made by one `gradvote keys` (keys=, GRADVOTE_KEYS), or none of them any."
        )


def _check(node: Node, started: float) -> None:
    mesh = node.mesh
    earlier = [ticket for ticket in list(mesh.strangers) if ticket < node.me.ticket]
    if earlier and not mesh.connections:
        number, recipe = mesh.strangers[earlier[0]]
        if recipe == mesh.recipe ^ SIGNED:
            who = "This one signs" if node.naming.signed else "This one does not sign"
            raise ValueError(
                f"{who} its ballots, unlike worker {number}. All workers must attach with keys, or all "
                "without (keys=, --keys); use a store of its own for each run."
            )
        place = node.register.place(earlier[0])
        what = differences(node.terms, {} if place is None else place.terms, f"worker {number}")
        raise ValueError(
            f"Worker {number} trains with other settings than this one: {'; '.join(what) or 'its version'}. All "
            "workers must attach with the same ones; use a store of its own for each run."
        )
    _check_proven(node)
    node.check_not_ended(time.monotonic() - started)
    if time.monotonic() - started > node.timeouts.timeout:
        num = len(mesh.connections) + 1
        came = f"{num} worker{'s' if num > 1 else ''} came together within {node.timeouts.timeout:g} s"
        if len(mesh.connections) + 1 >= node.quorum and (doubtful := _doubtful(node)):
            last = doubtful[-1]
            raise TooFewWorkers(
                f"{came}, but worker {last.number} may still be at work from before, at "
                f"{joined(last.host, last.port)}: it did not answer, and connections there are not refused (another "
                "program may have its port by now). "
                "Make sure that it has ended, and start with a new store."
            )
        raise TooFewWorkers(
            f"Only {came}; min_workers is {node.quorum}.{_others(node)} Start more workers, or look whether they reach "
            "each other."
        )


def _others(node: Node) -> str:
    """Who has come to the same store with other settings, the latest first."""
    for ticket in range(node.register.num_tickets(), 0, -1):
        place = node.register.place(ticket)
        what = [] if place is None or not place.terms else differences(place.terms, node.terms, "here")
        if place is not None and what:
            return f" Worker {place.number} came with other settings: {'; '.join(what)}."
    return ""
