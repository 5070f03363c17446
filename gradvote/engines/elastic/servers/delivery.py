"""After the ballots: those who hold a shard work out its decision, and all hear it, before anything is applied.

The first holder sends the decision, the other one its digest: where they differ, nothing is applied. Where the first
one is gone the other sends it; where both are, whoever has heard it. A decision is a function of what was agreed on,
so all of this can be asked for, and answered, again and again. Who has all of them waits until it is known that all
have, or that the slot stands (`confirming`).
"""

import time
from collections.abc import Iterable, Sequence

from gradvote.core import State
from gradvote.engines.common.digests import DIGEST_BYTES, digest_of
from gradvote.engines.common.errors import Equivocation
from gradvote.engines.elastic.consensus.records import Record, held_from, held_to_json
from gradvote.engines.elastic.consensus.shard_assignment import SHARD, held_by
from gradvote.engines.elastic.net.connections import Arrived, Closed, Event, Opened
from gradvote.engines.elastic.net.frames import ROUND_FRAMES, Frame, FrameKind
from gradvote.engines.elastic.servers.confirming import Confirming
from gradvote.engines.elastic.servers.cut_ballots import CutBallots
from gradvote.engines.elastic.servers.server import OpenRound
from gradvote.engines.elastic.servers.shards import Shards, agreed
from gradvote.engines.elastic.snapshots import ShardedStep, shards_from_bytes

IDLE = 0.25


class ShardDelivery:
    """`run` gives what was decided, or that the slot is given up; None where the others have gone on without this
    process, or it is to stop. After an error it is run again: what this process has promised still binds it.
    """

    def __init__(self, vote: OpenRound, box: CutBallots, shards: Shards, record: Record) -> None:
        self.node, self.slot, self.record, self.shards = vote.node, vote.slot, record, shards
        self.vote, self.box, self.me, self.behind = vote, box, vote.node.me.ticket, False
        self._unable = vote.agreement.lacks
        self._all = vote.agreement.members.keys() - {self.me}
        self._to = {m.ticket for m in record.members} & self._all
        self.found: dict[int, bytes] = {}
        self.memories: dict[int, Sequence[State]] = {}
        self._said: dict[int, dict[int, bytes]] = {s: {} for s in range(shards.num)}
        self._sent: set[int] = set()
        self._whole_since: float | None = None
        self.confirming = Confirming(vote, record)

    def run(self) -> ShardedStep | None:
        """Until all shards' decisions are here.

        Raises:
            Equivocation: the holders of a shard decided differently; nothing was applied.
            ShardLost: nobody that is left knows what became of a shard, and no others came in time.
            RegisterLost: it had to say what becomes of the slot, and did not answer for `timeout`.
        """
        self.confirming.begin()
        if not self._decide():
            self._say_what_is_here(self._to)
        for early in self.vote.ahead:
            self._handle(early)
        self._look()
        while not (self._ready or self.behind or self.confirming.behind):
            if self.node.leaving and time.monotonic() > self.confirming.started + self.node.timeouts.settled:
                return None
            for event in self.vote.events(min(IDLE, self.node.timeouts.grace)):
                self._handle(event)
            self._look()
        outcome = self.confirming.state.outcome
        if outcome is None or not self._ready:
            return None
        if not outcome.applied:
            return ShardedStep(outcome)
        decisions = tuple(self.found[s] for s in range(self.shards.num))
        return ShardedStep(self.record, decisions, self.memories, self.shards.holders)

    def leave(self) -> None:
        """Tell those who go on without this process what it can still work out."""
        self._decide()
        for shard, body in self.found.items():
            self._send(self._to, FrameKind.DECISION, shard, body)

    def _decide(self) -> bool:
        """Work out the shards that are held here, as soon as all ballots that count have come; False before."""
        if not self.box.has(self.record.counted):
            return False
        members, able = self.vote.agreement.members, self.shards.has(self.slot)
        authors = sorted(self.record.counted, key=lambda ticket: members[ticket].number)
        numbers, rates = [members[ticket].number for ticket in authors], agreed(self.box.rates(authors))
        for shard in held_by(self.shards.holders, self.me):
            if shard in able and shard not in self.memories:
                slices = self.box.slices(shard, authors)
                body, self.memories[shard] = self.shards.decide(self.slot, shard, numbers, slices, rates)
                self._hold(shard, self.me, body)
        self._publish(self._to)
        return True

    def _say_what_is_here(self, to: Iterable[int]) -> None:
        """Ballots are missing that count: whoever has them sends them."""
        agreement = self.vote.agreement
        body = held_to_json(agreement.held, True, (), agreement.lacks.get(self.me, ())).encode()
        self.node.peers.send(to, Frame(FrameKind.HELD, self.me, self.slot, body))

    def _publish(self, to: Iterable[int], again: bool = False) -> None:
        """Tell the decisions that were worked out here; in full where this process is the first that can."""
        receivers = list(to)
        for shard in self.memories:
            if self._first_able(shard) != self.me:
                self._send(receivers, FrameKind.DIGEST, shard, digest_of(self.found[shard]))
            elif again or shard not in self._sent:
                self._sent.add(shard)
                self._send(receivers, FrameKind.DECISION, shard, self.found[shard])

    def _send(self, to: Iterable[int], kind: FrameKind, shard: int, body: bytes) -> None:
        self.node.peers.send(to, Frame(kind, self.me, self.slot, SHARD.pack(shard) + body))

    def _first_able(self, shard: int) -> int | None:
        return next(iter(self._able(shard)), None)

    def _able(self, shard: int) -> list[int]:
        """The holders that can know the decision, and are here."""
        here = self._to & self.node.peers.connections.keys()
        return [
            t
            for t in self.shards.holders[shard]
            if shard not in self._unable.get(t, ()) and (t == self.me or t in here)
        ]

    @property
    def _ready(self) -> bool:
        return self.confirming.state.ready

    def _look(self) -> None:
        """See how far this process is, what the others have said of that, and what time it is."""
        if self._complete():
            decisions = [self.found[s] for s in range(self.shards.num)]
            self._compare_rates(decisions)
            self.confirming.complete(digest_of(b"".join((self.shards.history, *decisions))))
        state = self.confirming.state
        if state.differing is not None:
            self._accuse("what was decided", self.me, state.differing)
        if not state.ready:
            self.confirming.look(s for s in range(self.shards.num) if s not in self.found)

    def _complete(self) -> bool:
        if len(self.found) < self.shards.num:
            return False
        self._whole_since = self._whole_since or time.monotonic()
        late = time.monotonic() - self._whole_since > self.node.timeouts.grace
        return late or all(self._said[s].keys() >= {*self._able(s)} for s in range(self.shards.num))

    def _handle(self, event: Event) -> None:
        ticket = event.connection.peer.ticket
        self.confirming.see(event)
        if isinstance(event, Arrived) and event.frame.sound:
            self._hear(event)
        elif isinstance(event, Closed) and ticket not in self.node.peers.connections:
            self._publish(self._to)
        elif isinstance(event, Opened) and ticket in self._to:
            self.node.peers.send([ticket], self.box.frame(self.me, ticket))
            self._publish([ticket], again=True)
            if not self.box.has(self.record.counted):
                self._say_what_is_here([ticket])

    def _hear(self, event: Arrived) -> None:
        kind, slot = event.frame.kind, event.frame.slot
        if kind == FrameKind.OUTSIDE:
            self.behind |= self.node.is_behind(self.slot, slot)
        elif slot > self.slot and kind in ROUND_FRAMES:
            self.node.keep_early(event)
            near = kind == FrameKind.RECORD and self.node.is_near(slot)
            self.behind |= near and self.vote.registered(slot) is not None
        elif slot < self.slot:
            self.vote.hear_old(event)
        elif slot == self.slot:
            self._hear_now(event)

    def _hear_now(self, event: Arrived) -> None:
        frame, connection = event.frame, event.connection
        if connection.peer.ticket not in self._all:
            return
        if frame.kind == FrameKind.BALLOT:
            self.vote.hear_ballot(event)
            self._decide()
        elif frame.kind == FrameKind.HELD:
            self._help(event)
        elif frame.kind == FrameKind.WANT:
            for shard in shards_from_bytes(frame.body, self.shards.num):
                if shard in self.found:
                    self._send([connection.peer.ticket], FrameKind.DECISION, shard, self.found[shard])
        elif frame.kind in (FrameKind.DECISION, FrameKind.DIGEST):
            self._hear_shard(event)

    def _help(self, event: Arrived) -> None:
        """Tell a member the decision, and send it the ballots that it misses."""
        connection = event.connection
        connection.send(Frame(FrameKind.RECORD, self.me, self.slot, self.record.to_json().encode()))
        try:
            held = held_from(bytes(event.frame.body))[0]
        except ValueError as error:
            self.node.fault(event, "malformed", f"cannot be read: {error}")
            return
        for author in self.record.counted.keys() - held.keys():
            if self.box.knows(author):
                connection.send(self.box.frame(author, connection.peer.ticket))

    def _hear_shard(self, event: Arrived) -> None:
        frame, peer = event.frame, event.connection.peer.ticket
        (shard,) = SHARD.unpack_from(frame.body) if len(frame.body) >= SHARD.size else (self.shards.num,)
        body = bytes(frame.body[SHARD.size :])
        size = DIGEST_BYTES if frame.kind == FrameKind.DIGEST else self.shards.decision_bytes(self.slot, shard)
        if shard >= self.shards.num or len(body) != size:
            self.node.fault(event, "malformed", f"has {len(body)} bytes for shard {shard} instead of {size}")
        elif frame.kind == FrameKind.DIGEST and peer in self.shards.holders[shard]:
            self._say(shard, peer, body)
        elif frame.kind == FrameKind.DECISION and (peer in self.shards.holders[shard] or not self._able(shard)):
            self._hold(shard, peer, body)

    def _hold(self, shard: int, by: int, body: bytes) -> None:
        self.found.setdefault(shard, body)
        self._say(shard, by, digest_of(body))

    def _say(self, shard: int, by: int, digest: bytes) -> None:
        said = self._said[shard]
        others = sorted(t for t, other in said.items() if other != digest)
        said.setdefault(by, digest)
        if others:
            self._accuse(f"the decision on shard {shard}", by, others[0])

    def _compare_rates(self, decisions: Sequence[bytes]) -> None:
        size = self.shards.replica.rate_bytes
        other = next((s for s, body in enumerate(decisions) if body[:size] != decisions[0][:size]), None)
        if other is not None:
            self._accuse("the learning rates", *(next(iter(self._said[s])) for s in (0, other)))

    def _accuse(self, what: str, first: int, second: int) -> None:
        numbers = sorted({self.vote.agreement.members[t].number for t in (first, second)})
        who = " and ".join(f"worker {number}" for number in numbers)
        raise Equivocation(
            f"At step {self.slot.step} {who} said different things of {what}: one of them lies, or its machine is at "
            "fault. Nothing was applied here. Look at their machines before starting again."
        )
